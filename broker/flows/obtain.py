"""Getting a token that is not in memory: looked up, or redeemed, once for all who wait in this process.

The work runs in tasks of its own. A caller that hangs up stops waiting, nothing else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

from broker.core.errors import (
    BrokerError,
    ConsentRequiredError,
    GrantConflictError,
    GrantUncertainError,
    OverloadedError,
    ProviderRefusedClientError,
    ProviderUnavailableError,
    RateLimitedError,
    ScopeConflictError,
    ScopeNotGrantedError,
)
from broker.core.models import AccessTokenKey, GrantType
from broker.flows.lookout import Lookout
from broker.flows.prospects import Prospects
from broker.flows.receive import Receive, Received
from broker.flows.token_cache import CachedToken, Need, TokenCache
from broker.flows.until_stored import Trouble
from broker.flows.wish import Wish
from broker.ports import AccessTokenStore, Clock

MAX_WAITING: Final = 1_500
"""Callers waiting for tokens in this process; more are shed.

Three quarters of the calls that may run at once: when a provider is slow, the rest is left to calls that need not wait,
such as those for tokens in memory and those of operators.
"""

PATIENCE: Final = 90.0
"""Seconds a wish waits for other replicas: a reply deadline and a lease, with a margin."""

TAKE_EVERY: Final = 0.5
"""Seconds between tries to take a lease that another owner holds; meanwhile only the shared look-out asks the store."""

REFUSAL_MEMORY: Final = 30.0
"""Seconds in which a refusal of a scope set by the provider is not tested again; doubled each time in a row."""

LONGEST_MEMORY: Final = 300.0
"""Longest time in seconds for which a refusal is remembered or a provider's Retry-After heeded."""

LeaseKey = tuple[str, AccessTokenKey | None]


class Redeem(Protocol):
    """How one kind of grant is redeemed; see `redeem_refresh_token` and `redeem_client_credentials`."""

    async def __call__(
        self,
        wish: Wish,
        trouble: Trouble,
        wanted: Callable[[], Awaitable[bool]],
        others_wait: Callable[[], bool],
        /,
    ) -> Received | None:
        """Return the token, or None when none was got now."""

    async def give_back(self, grant_id: str, /) -> None:
        """Free a lease kept for others that wait no more."""


@dataclass(slots=True, eq=False)
class _Queued:
    """A wish, and those who wait for it."""

    wish: Wish
    need: Need
    future: asyncio.Future[str]
    waiters: int = 0

    def fail(self, error: BaseException) -> None:
        if not self.future.done():
            self.future.set_exception(error)
            self.future.exception()  # retrieved: a waiter that hung up leaves no warning behind


@dataclass(slots=True, eq=False)
class _Queue:
    """The wishes of one lease, served one after the other; several waiters share one wish.

    Attributes:
        served: the wish at work.
        trouble: why its outcome cannot be stored now; nobody can be served before it is.
    """

    wishes: dict[AccessTokenKey, _Queued] = field(default_factory=dict)
    served: _Queued | None = None
    trouble: BrokerError | None = None

    def others_wait(self) -> bool:
        """Tell whether somebody waits for another wish than the one at work."""
        return any(queued is not self.served for queued in self.wishes.values())

    def report(self, error: BrokerError) -> None:
        self.trouble = error
        for queued in self.wishes.values():
            queued.fail(error)

    def leave(self, queued: _Queued) -> None:
        """Note that a waiter is gone; a wish nobody waits for and nobody works on is dropped."""
        queued.waiters -= 1
        if not queued.waiters and queued is not self.served and self.wishes.get(queued.wish.key) is queued:
            del self.wishes[queued.wish.key]


class Obtain:
    """One task per lease: per grant for refresh tokens, per cache key for client credentials."""

    def __init__(  # noqa: PLR0913 - each is a port or a part of the flow
        self,
        *,
        access_tokens: AccessTokenStore,
        prospects: Prospects,
        cache: TokenCache,
        receive: Receive,
        lookout: Lookout,
        redeem: dict[GrantType, Redeem],
        clock: Clock,
    ) -> None:
        self._access_tokens = access_tokens
        self._prospects = prospects
        self._cache = cache
        self._receive = receive
        self._lookout = lookout
        self._redeem = redeem
        self._clock = clock
        self._queues: dict[LeaseKey, _Queue] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._waiting = 0

    async def __call__(self, wish: Wish, need: Need) -> str:
        """Return where the token came from (`store`, `provider`); whoever waited then looks up its own key.

        Args:
            wish: what to get.
            need: what a stored token must be to do.

        Raises:
            OverloadedError: too many wait already.
            BrokerError: why there is no token.
        """
        if self._waiting >= MAX_WAITING:
            raise OverloadedError("too many callers wait for tokens", retry_after=1.0)
        queue = self._queue_of(wish)
        if queue.trouble is not None:
            raise queue.trouble.again()
        queued = queue.wishes.get(wish.key)
        if queued is None:
            future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
            queued = queue.wishes[wish.key] = _Queued(wish, need, future)
        queued.waiters += 1
        self._waiting += 1
        try:
            return await asyncio.shield(queued.future)
        except BrokerError as error:
            raise error.again() from None
        finally:
            self._waiting -= 1
            queue.leave(queued)

    def is_getting(self, wish: Wish) -> bool:
        """Tell whether the wish's token is being got already, so that one more waiter makes no further call."""
        queue = self._queues.get(_lease_key(wish))
        return queue is not None and wish.key in queue.wishes

    async def stored(self, wish: Wish) -> CachedToken | None:
        """Return the usable token the store has for the wish, and keep it in memory; None when it has none.

        Raises:
            StoreUnavailableError: the store is away.
        """
        token = await self._stored(wish)
        if token is None:
            return None
        self._cache.put(token)
        return self._cache.find(wish.key, wish.token_origin, self._clock.boottime(), wish.least_attempt)

    async def aclose(self, grace: float) -> None:
        """Wait up to `grace` seconds for what runs: a redeem whose token was sent must reach its end."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=grace)

    def _queue_of(self, wish: Wish) -> _Queue:
        lease_key = _lease_key(wish)
        queue = self._queues.get(lease_key)
        if queue is None:
            queue = self._queues[lease_key] = _Queue()
            task = asyncio.create_task(self._serve(lease_key, queue))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return queue

    async def _serve(self, lease_key: LeaseKey, queue: _Queue) -> None:
        """Serve every wish queued, those that come meanwhile too, then leave."""
        try:
            while queue.wishes:
                queue.served = next(iter(queue.wishes.values()))
                try:
                    await self._get(queue.served, queue)
                finally:
                    kind, grant_id = queue.served.wish.grant.type, queue.served.wish.grant.id
                    del queue.wishes[queue.served.wish.key]
                    queue.served = queue.trouble = None
                    if not queue.wishes:
                        await self._redeem[kind].give_back(grant_id)
        finally:
            del self._queues[lease_key]
            for queued in queue.wishes.values():
                queued.future.cancel()

    async def _get(self, queued: _Queued, queue: _Queue) -> None:
        try:
            source = await self._find_or_redeem(queued.wish, queued.need, queue)
        except BaseException as error:  # whatever happened, the waiters are told
            queued.fail(error)
            if not isinstance(error, Exception):
                raise
        else:
            if not queued.future.done():
                queued.future.set_result(source)

    async def _find_or_redeem(self, wish: Wish, need: Need, queue: _Queue) -> str:
        found = False

        async def wanted() -> bool:
            nonlocal found
            found = self._does(await self._stored(wish), need)
            return not found

        started = self._clock.boottime()
        while await wanted():
            received = await self._try(wish, queue, wanted)
            if received is not None:
                return self._accept(wish, received)
            if found:
                break
            busy = await self._prospects(wish.grant)
            if await self._appears(wish, need, TAKE_EVERY if busy else 0.0):
                break
            if self._clock.boottime() - started > PATIENCE:
                raise GrantConflictError("another replica holds the grant for too long; try again", cause="lease_held")
        return "store"

    async def _try(self, wish: Wish, queue: _Queue, wanted: Callable[[], Awaitable[bool]]) -> Received | None:
        """Redeem, remembering for a while what was refused so that it is not asked again by each caller."""
        try:
            return await self._redeem[wish.grant.type](wish, queue.report, wanted, queue.others_wait)
        except GrantUncertainError:
            await self._prospects(wish.grant)  # raises, unless the same token may soon be sent again
            return None
        except ScopeNotGrantedError as error:
            self._remember(wish, error, REFUSAL_MEMORY, LONGEST_MEMORY)
            raise
        except ProviderUnavailableError as error:
            wait = min(LONGEST_MEMORY, max(1.0, error.retry_after or 0.0))
            self._remember(wish, error, wait, wait)
            raise
        except (RateLimitedError, ConsentRequiredError, ProviderRefusedClientError, ScopeConflictError) as error:
            self._remember(wish, error, 1.0, 1.0)
            raise

    def _remember(self, wish: Wish, error: BrokerError, memory: float, longest: float) -> None:
        self._cache.refuse(wish.key, error, self._clock.boottime(), memory, longest)

    def _accept(self, wish: Wish, received: Received) -> str:
        token = received.token
        if token is not None:
            self._cache.put(token)
            if received.error is None and not token.usable(self._clock.boottime()):
                received = replace(received, error=_dead_on_arrival())
        if received.error is not None:
            self._remember(wish, received.error, REFUSAL_MEMORY, LONGEST_MEMORY)
            raise received.error
        return "provider"

    def _does(self, token: CachedToken | None, need: Need) -> bool:
        """Cache a token read from the store and tell whether it does."""
        if token is None:
            return False
        self._cache.put(token)
        return need.met_by(token, self._clock.boottime())

    async def _stored(self, wish: Wish) -> CachedToken | None:
        read_at = self._clock.boottime()
        found = await self._access_tokens.find_access_tokens([wish.key])
        stored = found.get(wish.key)
        return None if stored is None else await self._receive.open(wish.token_origin, stored, read_at)

    async def _appears(self, wish: Wish, need: Need, seconds: float) -> bool:
        """Look out, once at least, for a token that another owner brings."""
        until = self._clock.boottime() + seconds
        while True:
            seen = await self._lookout.look(wish.key)
            token = None if seen is None else await self._receive.open(wish.token_origin, seen[0], seen[1])
            if self._does(token, need):
                return True
            if self._clock.boottime() >= until:
                return False


def _dead_on_arrival() -> ProviderUnavailableError:
    return ProviderUnavailableError(
        "the provider gave a token that had ended before it could be handed out",
        cause="dead_on_arrival",
        metadata={"failure": "malformed"},
    )


def _lease_key(wish: Wish) -> LeaseKey:
    return (wish.grant.id, None if wish.grant.type is GrantType.REFRESH_TOKEN else wish.key)
