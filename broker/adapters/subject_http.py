"""Port `Subjects` over HTTP: whose an access token is, by the provider's own API."""

from __future__ import annotations

from typing import Final

from broker.adapters.http_exchange import HttpExchange, Outgoing
from broker.core.errors import ProviderUnavailableError
from broker.core.models import Provider
from broker.core.oauth.causes import Cause
from broker.core.oauth.id_token import is_subject
from broker.core.oauth.token_response import MalformedReplyError, parse_members
from broker.core.secret import Secret
from broker.core.urls import origin_of
from broker.ports import NotSentError, ReplyLostError

REPLY_DEADLINE: Final = 10.0
"""Seconds."""
MEMBER: Final = "id"
"""What the person is called in the reply of Aries' `/v1/users/me`."""


class HttpSubjects:
    """Asks the provider's `subject_url`, which lies at the origin of its token endpoint."""

    def __init__(self, exchange: HttpExchange) -> None:
        self._exchange = exchange

    async def find(self, provider: Provider, access_token: Secret) -> str | None:
        """Return the subject, or None where the provider does not tell; see the port."""
        url = provider.subject_url
        if url is None or origin_of(url) != origin_of(provider.token_url):
            return None
        headers = {"accept": "application/json", "authorization": f"Bearer {access_token.reveal()}"}
        outgoing = Outgoing("GET", url, headers, b"", provider.insecure_loopback)
        try:
            reply = await self._exchange(outgoing, before_write=_nothing, reply_deadline=REPLY_DEADLINE)
        except (NotSentError, ReplyLostError) as error:
            raise _unavailable(Cause.of_failure(error.cause)) from None
        if reply.status >= 500 or reply.status == 429:  # noqa: PLR2004 - RFC 9110 §15.6, RFC 6585 §4
            raise _unavailable(Cause.THROTTLED if reply.status == 429 else Cause.STATUS_5XX)  # noqa: PLR2004
        try:
            value = parse_members(reply).get(MEMBER) if reply.status == 200 else None  # noqa: PLR2004
        except MalformedReplyError:
            return None
        text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
        return text if isinstance(text, str) and is_subject(text) else None


async def _nothing() -> None:
    """Asking twice is harmless."""


def _unavailable(cause: Cause) -> ProviderUnavailableError:
    return ProviderUnavailableError(
        "the provider cannot be asked whose login it was", cause=cause, metadata={"failure": cause.failure}
    )
