"""Getting a token that is not in memory: looked up, or redeemed, once for all who wait in this process.

The work runs in tasks of its own. A caller that hangs up stops waiting, nothing else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from broker.core import lease
from broker.core.errors import (
    BrokerError,
    ConsentRequiredError,
    GrantConflictError,
    GrantHeldError,
    GrantQuarantinedError,
    GrantUncertainError,
    OverloadedError,
    ProviderRefusedClientError,
    ProviderUnavailableError,
    ScopeNotGrantedError,
)
from broker.core.models import AccessTokenKey, GrantType
from broker.flows.lookout import Lookout
from broker.flows.receive import Receive, Received
from broker.flows.token_cache import CachedToken, TokenCache, least_life
from broker.flows.wish import Wish
from broker.ports import Clock, GrantStore

MAX_WAITING: Final = 5_000
"""Callers waiting for tokens in this process; more are shed."""

PATIENCE: Final = 90.0
"""Seconds a wish waits for other replicas: a reply deadline and a lease, with a margin."""

REFUSAL_MEMORY: Final = 30.0
"""Seconds in which a refusal of a scope set by the provider is not tested again."""

LONGEST_MEMORY: Final = 300.0
"""Longest Retry-After of a provider that is heeded, in seconds."""

Redeem = Callable[[Wish, Callable[[BrokerError], None]], Awaitable[Received | None]]


@dataclass(slots=True)
class _Queue:
    """The wishes of one lease, served one after the other; several waiters share one wish."""

    wishes: dict[AccessTokenKey, tuple[Wish, float | None, asyncio.Future[str]]] = field(default_factory=dict)


class Obtain:
    """One task per lease: per grant for refresh tokens, per cache key for client credentials."""

    def __init__(  # noqa: PLR0913 - each is a port or a part of the flow
        self,
        *,
        grants: GrantStore,
        cache: TokenCache,
        receive: Receive,
        lookout: Lookout,
        redeem: dict[GrantType, Redeem],
        clock: Clock,
    ) -> None:
        self._grants = grants
        self._cache = cache
        self._receive = receive
        self._lookout = lookout
        self._redeem = redeem
        self._clock = clock
        self._queues: dict[tuple[str, AccessTokenKey | None], _Queue] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._waiting = 0

    async def __call__(self, wish: Wish, min_lifetime: float | None) -> str:
        """Return where the token came from (`store`, `provider`); whoever waited then looks up its own key.

        Args:
            wish: what to get.
            min_lifetime: seconds the caller wants a stored token to live still, if it said so.

        Raises:
            OverloadedError: too many wait already.
            BrokerError: why there is no token.
        """
        if self._waiting >= MAX_WAITING:
            raise OverloadedError("too many callers wait for tokens", retry_after=1.0)
        future = self._join(wish, min_lifetime)
        self._waiting += 1
        try:
            return await asyncio.shield(future)
        except BrokerError as error:
            raise error.again() from None
        finally:
            self._waiting -= 1

    async def aclose(self, grace: float) -> None:
        """Wait up to `grace` seconds for what runs: a redeem whose token was sent must reach its end."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=grace)

    def _join(self, wish: Wish, min_lifetime: float | None) -> asyncio.Future[str]:
        lease_key = (wish.grant.id, None if wish.grant.type is GrantType.REFRESH_TOKEN else wish.key)
        queue = self._queues.get(lease_key)
        if queue is None:
            queue = self._queues[lease_key] = _Queue()
            task = asyncio.create_task(self._serve(lease_key, queue))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        if wish.key not in queue.wishes:
            queue.wishes[wish.key] = (wish, min_lifetime, asyncio.get_running_loop().create_future())
        return queue.wishes[wish.key][2]

    async def _serve(self, lease_key: tuple[str, AccessTokenKey | None], queue: _Queue) -> None:
        """Serve every wish queued, those that come meanwhile too, then leave."""
        try:
            while queue.wishes:
                key, (wish, min_lifetime, future) = next(iter(queue.wishes.items()))
                try:
                    await self._get(wish, min_lifetime, future)
                finally:
                    del queue.wishes[key]
        finally:
            del self._queues[lease_key]
            for _, _, future in queue.wishes.values():
                future.cancel()

    async def _get(self, wish: Wish, min_lifetime: float | None, future: asyncio.Future[str]) -> None:
        def fail(error: BaseException) -> None:
            if not future.done():
                future.set_exception(error)
                future.exception()  # retrieved: a waiter that hung up leaves no warning behind

        try:
            source = await self._find_or_redeem(wish, min_lifetime, fail)
        except BaseException as error:  # whatever happened, the waiters are told
            fail(error)
            if not isinstance(error, Exception):
                raise
        else:
            if not future.done():
                future.set_result(source)

    async def _find_or_redeem(
        self, wish: Wish, min_lifetime: float | None, trouble: Callable[[BrokerError], None]
    ) -> str:
        started = self._clock.boottime()
        if self._good(await self._stored(wish), min_lifetime):
            return "store"
        idle = 0
        while True:
            received = await self._try(wish, trouble)
            if received is not None:
                return self._accept(wish, received)
            idle = idle + 1 if await self._phase(wish) is lease.Phase.IDLE else 0
            if self._good(await self._glance(wish), min_lifetime):
                return "store"
            if idle > 1:
                raise ProviderUnavailableError(
                    "the last redeem of this grant failed a moment ago; try again",
                    cause="backing_off",
                    metadata={"failure": "backing_off"},
                    retry_after=1.0,
                )
            if self._clock.boottime() - started > PATIENCE:
                raise GrantConflictError("another replica holds the grant for too long; try again", cause="lease_held")

    async def _try(self, wish: Wish, trouble: Callable[[BrokerError], None]) -> Received | None:
        """Redeem, remembering for a while what the provider refused so that it is not asked again by each caller."""
        try:
            return await self._redeem[wish.grant.type](wish, trouble)
        except (ProviderUnavailableError, ProviderRefusedClientError, ScopeNotGrantedError) as error:
            memory = REFUSAL_MEMORY if isinstance(error, ScopeNotGrantedError) else max(1.0, error.retry_after or 0.0)
            self._cache.refuse(wish.key, error, self._clock.boottime() + min(memory, LONGEST_MEMORY))
            raise

    def _accept(self, wish: Wish, received: Received) -> str:
        if received.token is not None:
            self._cache.put(received.token)
        if received.error is not None:
            self._cache.refuse(wish.key, received.error, self._clock.boottime() + REFUSAL_MEMORY)
            raise received.error
        return "provider"

    def _good(self, token: CachedToken | None, min_lifetime: float | None) -> bool:
        """Cache a token read from the store and tell whether it does."""
        if token is None:
            return False
        self._cache.put(token)
        now = self._clock.boottime()
        return token.usable(now) and token.remaining(now) >= least_life(min_lifetime, token.life)

    async def _stored(self, wish: Wish) -> CachedToken | None:
        read_at = self._clock.boottime()
        found = await self._grants.find_access_tokens([wish.key])
        stored = found.get(wish.key)
        return None if stored is None else await self._receive.open(wish, stored, read_at)

    async def _glance(self, wish: Wish) -> CachedToken | None:
        seen = await self._lookout.look(wish.key)
        return None if seen is None else await self._receive.open(wish, seen[0], seen[1])

    async def _phase(self, wish: Wish) -> lease.Phase | None:
        """Return the grant's phase after a take that failed, None for client credentials.

        Raises:
            BrokerError: waiting for the grant is hopeless.
        """
        if wish.grant.type is GrantType.CLIENT_CREDENTIALS:
            return None
        grant = await self._grants.get_grant(wish.grant.id)
        if grant is None:
            raise GrantConflictError("the grant was removed; try again", cause="removed")
        state = grant.state
        if state.hold is not lease.Hold.NONE:
            raise GrantHeldError("the grant is held by operators")
        if state.current is None:
            raise ConsentRequiredError("the grant has no refresh token: a person has to log in, or import one")
        if state.health is lease.Health.QUARANTINED:
            raise GrantQuarantinedError("the provider refused the grant; it has to be authorized again")
        if state.phase is lease.Phase.SENT:
            state = await self._grants.apply(wish.grant.id, lease.Unknown(None)) or state
        if state.phase is lease.Phase.UNKNOWN:
            raise GrantUncertainError(
                "a refresh token was sent and no usable answer came; it is not sent again until its fate is known"
            )
        return state.phase
