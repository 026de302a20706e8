"""One call to a provider's token endpoint: its budget, our client's secret, the request, the reading of the reply."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from broker.core.errors import ProviderRefusedClientError, RateLimitedError
from broker.core.models import Limit, LimitTarget, TokenEndpointAuth
from broker.core.oauth.reply import Reading, read_reply, refuse_echo
from broker.core.oauth.rfc6749 import (
    ClientCredentials,
    HttpReply,
    HttpRequest,
    RefreshToken,
    SendFailure,
    build_token_request,
)
from broker.core.sealing import client_secret_binding
from broker.core.secret import Secret
from broker.flows.limits import charges_for, spend
from broker.flows.wish import Wish
from broker.ports import (
    AssertionSigner,
    Buckets,
    Cipher,
    Clock,
    NotSentError,
    RedeemTelemetry,
    ReplyLostError,
    SealBrokenError,
    SecretStore,
    TokenEndpoint,
)

BUDGET_WAIT: Final = 5.0
"""Longest wait for the provider's permits, in seconds, while nothing is sent and giving up costs nothing."""


@dataclass(frozen=True, slots=True)
class PreparedCall:
    """A request ready to be sent, the secret version in it, and every secret in it: none of them may come back."""

    request: HttpRequest
    secret_version: int
    secrets: tuple[Secret, ...]


class ProviderCall:
    """What both kinds of redeem share; holds no database connection while the provider is called."""

    def __init__(  # noqa: PLR0913 - each is a port
        self,
        *,
        secrets: SecretStore,
        cipher: Cipher,
        endpoint: TokenEndpoint,
        signer: AssertionSigner,
        buckets: Buckets,
        clock: Clock,
        telemetry: RedeemTelemetry,
        limits: Callable[[], Sequence[Limit]],
        refuse_sandbox: bool,
    ) -> None:
        self._secrets = secrets
        self._cipher = cipher
        self._endpoint = endpoint
        self._signer = signer
        self._buckets = buckets
        self._clock = clock
        self._telemetry = telemetry
        self._limits = limits
        self._refuse_sandbox = refuse_sandbox

    async def pay(self, wish: Wish) -> None:
        """Spend the provider's budget, waiting a little for it.

        Raises:
            RateLimitedError: the permits do not come within BUDGET_WAIT.
        """
        facts = {"provider": wish.provider.name, "client": wish.client.name, "grant": wish.grant.name}
        charges = charges_for(self._limits(), LimitTarget.PROVIDER, facts)
        give_up = self._clock.boottime() + BUDGET_WAIT
        while True:
            try:
                return await spend(self._buckets, charges)
            except RateLimitedError as error:
                if error.retry_after is None or self._clock.boottime() + error.retry_after > give_up:
                    raise
                await asyncio.sleep(error.retry_after)

    async def prepare(self, wish: Wish, grant: ClientCredentials | RefreshToken) -> PreparedCall:
        """Open the client's secret and build the request.

        Raises:
            ProviderRefusedClientError: the client has no secret that opens for this token endpoint.
            StoreUnavailableError: the secret cannot be had now.
        """
        stored = await self._secrets.current_secret(wish.client.id)
        if stored is None:
            raise ProviderRefusedClientError(
                "the grant's client has no secret yet; operators have to add one", cause="no_secret"
            )
        try:
            secret = await self._cipher.open(
                stored.sealed, client_secret_binding(wish.client.id, stored.version, wish.token_origin)
            )
        except SealBrokenError as error:
            raise ProviderRefusedClientError(
                "the client's secret was entered for another token endpoint; operators have to enter it again",
                cause="secret_sealed_elsewhere",
            ) from error
        secrets = (secret, grant.token) if isinstance(grant, RefreshToken) else (secret,)
        return PreparedCall(self._build(wish, secret, grant), stored.version, secrets)

    def _build(self, wish: Wish, secret: Secret, grant: ClientCredentials | RefreshToken) -> HttpRequest:
        assertion = None
        if wish.provider.token_endpoint_auth is TokenEndpointAuth.PRIVATE_KEY_JWT:
            assertion = self._signer.sign(wish.provider, wish.client, secret, now=self._clock.now())
        return build_token_request(wish.provider, wish.client, secret, grant, assertion=assertion)

    async def send(
        self, wish: Wish, prepared: PreparedCall, before_write: Callable[[], Awaitable[None]], reply_deadline: float
    ) -> Reading:
        """Send the request and read what came of it; whatever happens to the exchange is in the reading.

        Raises:
            BrokerError: only what `before_write` raised; then nothing was written.
        """
        result: HttpReply | SendFailure
        sent_at = self._clock.now()
        try:
            result = await self._endpoint.send(
                wish.provider, prepared.request, before_write=before_write, reply_deadline=reply_deadline
            )
        except NotSentError as error:
            result = SendFailure(sent=False, cause=error.cause)
        except ReplyLostError as error:
            result = SendFailure(sent=True, cause=error.cause, partial=error.partial)
        reading = read_reply(
            result,
            provider=wish.provider,
            grant_type=wish.grant.type,
            sent_at=sent_at,
            now=self._clock.now(),
            refuse_sandbox=self._refuse_sandbox,
        )
        reading = refuse_echo(reading, prepared.secrets, wish.grant.type)
        self._telemetry.redeem_finished(wish.provider.name, wish.client.name, reading.outcome.value, reading.cause)
        return reading
