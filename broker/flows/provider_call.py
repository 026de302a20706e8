"""One call to a provider's token endpoint: its budget, our client's secret, the request, the reading of the reply."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from broker.core.errors import ProviderRefusedClientError, RateLimitedError
from broker.core.models import Client, GrantType, LimitTarget, Provider
from broker.core.oauth.reply import Outcome, Reading, read_reply, refuse_echo
from broker.core.oauth.rfc6749 import (
    AuthorizationCode,
    ClientProof,
    HttpReply,
    HttpRequest,
    RefreshToken,
    SendFailure,
    TokenGrant,
    build_token_request,
)
from broker.core.secret import Secret
from broker.flows.client_breaker import ClientBreaker
from broker.flows.limits import Limiter
from broker.flows.prove_client import ProveClient
from broker.ports import (
    Clock,
    NotSentError,
    RedeemTelemetry,
    ReplyLostError,
    TokenEndpoint,
)

BUDGET_WAIT: Final = 5.0
"""Longest wait for the provider's permits, in seconds, while nothing is sent and giving up costs nothing."""


@dataclass(frozen=True, slots=True)
class PreparedCall:
    """A request ready to be sent, how its reply is read, the secret version in it, and every secret in it.

    None of the secrets may come back.
    """

    request: HttpRequest
    type: GrantType
    secret_version: int
    secrets: tuple[Secret, ...]


class ProviderCall:
    """What all that call a token endpoint share; holds no database connection while the provider is called."""

    def __init__(  # noqa: PLR0913 - each is a port
        self,
        *,
        prove_client: ProveClient,
        breaker: ClientBreaker,
        endpoint: TokenEndpoint,
        limiter: Limiter,
        clock: Clock,
        telemetry: RedeemTelemetry,
        refuse_sandbox: bool,
    ) -> None:
        self._prove_client = prove_client
        self._breaker = breaker
        self._endpoint = endpoint
        self._limiter = limiter
        self._clock = clock
        self._telemetry = telemetry
        self._refuse_sandbox = refuse_sandbox
        self._waiting: Counter[str] = Counter()

    async def pay(self, client: Client, provider: Provider, grant_name: str | None = None) -> None:
        """Spend the provider's budget, waiting a little for it.

        Raises:
            RateLimitedError: the permits do not come within BUDGET_WAIT.
        """
        facts = {"provider": provider.name, "client": client.name}
        facts |= {} if grant_name is None else {"grant": grant_name}
        give_up = self._clock.boottime() + BUDGET_WAIT
        while True:
            try:
                return await self._limiter.spend(LimitTarget.PROVIDER, facts)
            except RateLimitedError as error:
                if error.retry_after is None or self._clock.boottime() + error.retry_after > give_up:
                    raise
                self._waiting[provider.id] += 1
                try:
                    await asyncio.sleep(error.retry_after)
                finally:
                    self._waiting[provider.id] -= 1

    def is_waited_for(self, provider: Provider) -> bool:
        """Tell whether redeems wait for the provider's permits."""
        return self._waiting[provider.id] > 0

    async def prepare(self, client: Client, provider: Provider, grant: TokenGrant) -> PreparedCall:
        """Let our client prove itself and build the request; a code's verifier may stand for the proof.

        Raises:
            ProviderRefusedClientError: the client has no secret that can be sent now.
            StoreUnavailableError: the secret cannot be had now.
        """
        if isinstance(grant, AuthorizationCode) and not provider.pkce_with_secret:
            named = ClientProof(provider.token_endpoint_auth, client.client_id, None, None, named_only=True)
            return PreparedCall(build_token_request(provider, grant, named), grant.type, 0, _secrets_in(grant))
        proved = await self._prove_client(provider, client)
        request = build_token_request(provider, grant, proved.proof)
        assertion = None if proved.proof.assertion is None else Secret(proved.proof.assertion)
        ours = (one for one in (proved.secret, assertion, request.basic_pair) if one is not None)
        return PreparedCall(request, grant.type, proved.version, (*ours, *_secrets_in(grant)))

    async def send(
        self,
        client: Client,
        provider: Provider,
        prepared: PreparedCall,
        before_write: Callable[[], Awaitable[None]],
        reply_deadline: float,
    ) -> Reading:
        """Send the request and read what came of it; whatever happens to the exchange is in the reading.

        Raises:
            BrokerError: only what `before_write` raised; then nothing was written.
        """
        result: HttpReply | SendFailure
        sent_at = self._clock.now()
        try:
            result = await self._endpoint.send(
                provider, prepared.request, before_write=before_write, reply_deadline=reply_deadline
            )
        except NotSentError as error:
            result = SendFailure(sent=False, cause=error.cause)
        except ReplyLostError as error:
            result = SendFailure(sent=True, cause=error.cause, partial=error.partial)
        reading = read_reply(
            result,
            provider=provider,
            grant_type=prepared.type,
            sent_at=sent_at,
            now=self._clock.now(),
            refuse_sandbox=self._refuse_sandbox,
        )
        reading = refuse_echo(reading, prepared.secrets, prepared.type)
        self._note_belief(client, provider, prepared, reading)
        self._telemetry.redeem_finished(provider.name, client.name, reading.outcome.value, reading.cause)
        return reading

    def _note_belief(self, client: Client, provider: Provider, prepared: PreparedCall, reading: Reading) -> None:
        """Note whether our client was believed; most ways to fail say nothing of that."""
        if isinstance(reading.error, ProviderRefusedClientError):
            self._breaker.refused(provider, client, prepared.secret_version)
        elif reading.outcome in {Outcome.LANDED, Outcome.REFUSED}:
            self._breaker.believed(provider, client)


def _secrets_in(grant: TokenGrant) -> tuple[Secret, ...]:
    if isinstance(grant, RefreshToken):
        return (grant.token,)
    return (grant.code, grant.verifier) if isinstance(grant, AuthorizationCode) else ()
