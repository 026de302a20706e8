"""Port `TokenEndpoint` over HTTP."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from broker.adapters.http_exchange import HttpExchange, Outgoing
from broker.core.models import Provider
from broker.core.oauth.rfc6749 import HttpReply, HttpRequest
from broker.core.urls import origin_of
from broker.ports import NotSentError


class ProviderHttp:
    """Posts token requests; the one origin a provider's requests may go to is that of its token endpoint."""

    def __init__(self, exchange: HttpExchange) -> None:
        self._exchange = exchange

    async def send(
        self,
        provider: Provider,
        request: HttpRequest,
        *,
        before_write: Callable[[], Awaitable[None]],
        reply_deadline: float,
    ) -> HttpReply:
        """Send one request, once; see the port for every guarantee."""
        if origin_of(request.url) != origin_of(provider.token_url):
            raise NotSentError("egress")
        outgoing = Outgoing("POST", request.url, request.headers, request.body, provider.insecure_loopback)
        return await self._exchange(outgoing, before_write=before_write, reply_deadline=reply_deadline)
