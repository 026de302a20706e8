"""client_credentials: one call per scope set, leased so that a herd makes one (RFC 6749 §4.4).

Nothing can be lost here: a stolen lease costs one more call.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime

from broker.core.errors import BrokerError, StoreUnavailableError
from broker.core.grant_state import RedeemTimes
from broker.core.models import Provider
from broker.core.oauth.rfc6749 import ClientCredentials
from broker.flows.heart import Heart
from broker.flows.provider_call import ProviderCall
from broker.flows.receive import Receive, Received
from broker.flows.wish import Wish
from broker.ports import AccessTokenStore, AttemptRecord, Clock, GrantStore


class RedeemClientCredentials:
    """Get a token for one scope set, or find that another replica is at it."""

    def __init__(  # noqa: PLR0913 - each is a port or a fact of the process
        self,
        *,
        grants: GrantStore,
        access_tokens: AccessTokenStore,
        heart: Heart,
        call: ProviderCall,
        receive: Receive,
        clock: Clock,
        times: RedeemTimes,
        owner: str,
    ) -> None:
        self._grants = grants
        self._access_tokens = access_tokens
        self._heart = heart
        self._call = call
        self._receive = receive
        self._clock = clock
        self._times = times
        self._owner = owner

    async def __call__(
        self,
        wish: Wish,
        trouble: Callable[[BrokerError], None],  # noqa: ARG002 - nothing is stored that must not be lost
        wanted: Callable[[], Awaitable[bool]],
        others_wait: Callable[[], bool],  # noqa: ARG002 - each key has a lease of its own
    ) -> Received | None:
        """Return the token, or None while another owner's lease lives or when none is wanted any more.

        Args:
            wish: what to get.
            trouble: not used here.
            wanted: asked under the lease: another owner may have brought the token just before.
            others_wait: not used here.

        Raises:
            BrokerError: why there is none; ScopeSetsError among them.
        """
        attempt = await self._access_tokens.take_access(wish.key, self._owner, wish.asked_by)
        if attempt is None:
            return None
        try:
            with self._heart.keeping_key(wish.key, attempt):
                received = await self._redeem(wish, attempt) if await wanted() else None
        except BrokerError:
            with suppress(StoreUnavailableError):  # the lease ends by itself; what went wrong first is told
                await self._access_tokens.release_access(wish.key, attempt)
            raise
        if received is not None and received.error is None and received.token is not None:
            await self._access_tokens.put_access(await self._receive.seal(received.token))
        else:
            await self._access_tokens.release_access(wish.key, attempt)
        return received

    async def give_back(self, grant_id: str) -> None:
        """Return: no lease outlives its redeem."""

    async def _redeem(self, wish: Wish, attempt: int) -> Received:
        client, provider = wish.client, wish.provider
        await self._call.pay(client, provider, wish.grant.name)
        prepared = await self._call.prepare(client, provider, ClientCredentials(wish.asked, wish.key.resource))
        started = self._clock.boottime()
        reading = await self._call.send(
            client, provider, prepared, before_write=_no_licence_needed, reply_deadline=self._reply_deadline(provider)
        )
        noted_at = datetime.fromtimestamp(self._clock.now(), UTC)
        version = prepared.secret_version
        record = AttemptRecord(wish.grant.id, attempt, self._owner, version, noted_at, reading.outcome, reading.cause)
        with suppress(StoreUnavailableError):  # history is no reason to lose a token
            await self._grants.record_attempt(record)
        if reading.tokens is None:
            raise reading.problem()
        return self._receive.judge(wish, reading.tokens, attempt, started)

    def _reply_deadline(self, provider: Provider) -> float:
        said = provider.client_credentials_reply_deadline
        return self._times.client_credentials_reply / 1000 if said is None else said


async def _no_licence_needed() -> None:
    """A client_credentials request may be sent twice."""
