"""Telling a provider that one token is not to be used any more (RFC 7009)."""

from __future__ import annotations

from typing import Final

from broker.core.models import Client, Provider
from broker.core.oauth.rfc6749 import SendFailure
from broker.core.oauth.rfc7009 import TokenTypeHint, Told, build_revocation_request, read_revocation
from broker.core.secret import Secret
from broker.flows.client_breaker import ClientBreaker
from broker.flows.prove_client import ProveClient
from broker.ports import NotSentError, RedeemTelemetry, ReplyLostError, TokenEndpoint

REPLY_DEADLINE: Final = 20.0
"""Seconds."""


class EndToken:
    """Tells providers of tokens."""

    def __init__(
        self, *, prove_client: ProveClient, breaker: ClientBreaker, endpoint: TokenEndpoint, telemetry: RedeemTelemetry
    ) -> None:
        self._prove_client = prove_client
        self._breaker = breaker
        self._endpoint = endpoint
        self._telemetry = telemetry

    async def __call__(self, client: Client, provider: Provider, token: Secret, hint: TokenTypeHint) -> bool:
        """Tell the provider of one token; return whether there is no more to be said of it.

        A provider without a revocation endpoint hears nothing.

        Raises:
            BrokerError: our client has no secret the provider believes, or the store is away.
        """
        if provider.revocation_url is None:
            return True
        proved = await self._prove_client(provider, client)
        request = build_revocation_request(provider.revocation_url, token, hint, proved.proof)
        try:
            reply = await self._endpoint.send(
                provider, request, before_write=_no_licence_needed, reply_deadline=REPLY_DEADLINE
            )
            told = read_revocation(reply)
        except NotSentError as error:
            told = read_revocation(SendFailure(sent=False, cause=error.cause))
        except ReplyLostError as error:
            told = read_revocation(SendFailure(sent=True, cause=error.cause))
        if told is Told.REFUSED_CLIENT:
            self._breaker.refused(provider, client, proved.version)
        elif told is not Told.LATER:
            self._breaker.believed(provider, client)
        self._telemetry.revocation_finished(provider.name, client.name, told.value)
        return told in {Told.REVOKED, Told.UNSUPPORTED}


async def _no_licence_needed() -> None:
    """Telling twice is harmless (RFC 7009 §2.2)."""
