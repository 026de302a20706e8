"""Port `Discovery` over HTTP, under the same rules of egress, time and size as a token request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from broker.adapters.http_exchange import HttpExchange, Outgoing
from broker.core.errors import ProviderUnavailableError
from broker.core.oauth.causes import Cause
from broker.core.oauth.rfc6749 import HttpReply
from broker.core.oauth.token_response import MalformedReplyError, parse_members
from broker.core.urls import origin_of
from broker.ports import NotSentError, ReplyLostError

REPLY_DEADLINE: Final = 5.0
"""Seconds for each of the two places looked at."""


class HttpDiscovery:
    """Looks where RFC 8414 §3.1 says, then where OpenID Connect Discovery §4 does."""

    def __init__(self, exchange: HttpExchange, *, reply_deadline: float = REPLY_DEADLINE) -> None:
        self._exchange = exchange
        self._reply_deadline = reply_deadline

    async def discover(self, issuer: str, *, insecure_loopback: bool) -> Mapping[str, object]:
        """Return the metadata of exactly this issuer; see the port."""
        for url in _places(issuer):
            reply = await self._get(url, insecure_loopback=insecure_loopback)
            if reply.status == 200:  # noqa: PLR2004 - RFC 8414 §3.2
                return _metadata(reply, issuer)
        raise _failed("the provider publishes no metadata where its issuer says", "metadata_absent", "status")

    async def _get(self, url: str, *, insecure_loopback: bool) -> HttpReply:
        outgoing = Outgoing("GET", url, {"accept": "application/json"}, b"", insecure_loopback)
        try:
            return await self._exchange(outgoing, before_write=_nothing, reply_deadline=self._reply_deadline)
        except (NotSentError, ReplyLostError) as error:
            cause = Cause.of_failure(error.cause)
            raise _failed("the provider's metadata cannot be fetched", f"metadata_{cause}", cause.failure) from None


async def _nothing() -> None:
    """Let the request be written: it holds no secret."""


def _places(issuer: str) -> tuple[str, str]:
    """Return the two addresses: the RFC puts the well-known part before the issuer's path, OpenID after it."""
    path = urlsplit(issuer).path.rstrip("/")
    origin = origin_of(issuer)
    return (
        f"{origin}/.well-known/oauth-authorization-server{path}",
        f"{origin}{path}/.well-known/openid-configuration",
    )


def _metadata(reply: HttpReply, issuer: str) -> Mapping[str, object]:
    try:
        metadata = parse_members(reply)
    except MalformedReplyError as error:
        raise _failed("the provider's metadata cannot be read", f"metadata_{error.cause}", "malformed") from None
    if metadata.get("issuer") != issuer:  # RFC 8414 §3.3
        raise _failed("the provider's metadata is of another issuer", "metadata_issuer", "malformed")
    return metadata


def _failed(public: str, cause: str, failure: str) -> ProviderUnavailableError:
    return ProviderUnavailableError(public, cause=cause, metadata={"failure": failure})
