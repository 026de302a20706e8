"""Renewing access tokens ahead of their end, so that nobody waits for a provider.

Every second: note what was handed out ▸ take a few of the tokens whose time has come, those that end soonest first
▸ wait for a turn at the provider ▸ get a new one, as for a caller ▸ what other replicas renewed is looked up

A token's time was chosen once, when it came (`receive`), and is the same for all replicas; each token due is given to
one of them. Only what was handed out within a token's life is renewed.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from fractions import Fraction
from random import Random
from typing import Final

from broker.core.errors import BrokerError
from broker.core.gcra import Charge, charge
from broker.core.grant_state import Hold
from broker.core.models import AccessTokenKey, Limit, LimitTarget, Provider, Window
from broker.flows.catalog_view import CatalogView
from broker.flows.obtain import Obtain
from broker.flows.receive import Receive
from broker.flows.token_cache import CachedToken, Need, TokenCache
from broker.flows.wish import Wish, wish_for
from broker.ports import AccessTokenStore, Buckets, Clock, DueToken

EVERY: Final = 1.0
"""Seconds between two looks."""
NOTE_EVERY: Final = 10.0
"""Seconds in which a key that is handed out again and again is noted once."""
AGAIN: Final = 30.0
"""Seconds after which a token that was due and not renewed is due again."""
PATIENCE: Final = 20.0
"""Longest wait for a turn, in seconds; then it is due again soon."""
SOON: Final = 60.0
"""Seconds: a token that ends sooner does not stand back for callers that wait."""
AT_ONCE: Final = 8
"""Renewals at one provider at the same time: one that hangs holds up no other provider's."""
PAGE: Final = 64
RENEWALS: Final = Window(rate=Fraction(10), burst=10)
"""At one provider; half of what its own limits allow where that is less."""
MAX_KEYS: Final = 10_000


class Renew:
    """Renews, in the background."""

    def __init__(  # noqa: PLR0913 - each is a port or a part of the flow
        self,
        *,
        view: CatalogView,
        access_tokens: AccessTokenStore,
        obtain: Obtain,
        receive: Receive,
        cache: TokenCache,
        buckets: Buckets,
        callers_wait: Callable[[Provider], bool],
        clock: Clock,
        random: Random,
    ) -> None:
        """Wire the flow; `callers_wait` tells whether redeems for callers wait for a provider's permits."""
        self._view = view
        self._access_tokens = access_tokens
        self._obtain = obtain
        self._receive = receive
        self._cache = cache
        self._buckets = buckets
        self._callers_wait = callers_wait
        self._clock = clock
        self._random = random
        self._noted: dict[AccessTokenKey, float] = {}
        self._used: set[AccessTokenKey] = set()
        self._overdue: dict[AccessTokenKey, str] = {}
        self._running: set[asyncio.Task[None]] = set()
        self._at: Counter[str] = Counter()

    def handed_out(self, token: CachedToken) -> None:
        """Note that a caller was given this token; cheap."""
        now = self._clock.boottime()
        if token.renew_at is not None and token.renew_at < now and len(self._overdue) < MAX_KEYS:
            self._overdue[token.key] = token.token_origin
        if now - self._noted.get(token.key, 0.0) >= NOTE_EVERY and len(self._noted) < MAX_KEYS:
            self._noted[token.key] = now
            self._used.add(token.key)

    async def for_ever(self) -> None:
        """Go on until cancelled; a store that is away is asked again."""
        while True:
            await asyncio.sleep(EVERY * self._random.uniform(0.8, 1.2))
            await self.look()

    async def look(self) -> None:
        """Note what was used, look up what was renewed elsewhere, and begin to renew what is due."""
        try:
            await self._note()
            await self._look_up()
            due = await self._access_tokens.due_tokens(PAGE, round(AGAIN * 1000))
        except BrokerError:
            return
        for token in due:
            task = asyncio.create_task(self._renew(token))
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    async def aclose(self) -> None:
        """Stop waiting for turns and tokens; what `obtain` began it ends."""
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    async def _note(self) -> None:
        used, self._used = self._used, set()
        try:
            await self._access_tokens.note_used(sorted(used))
        except BrokerError:
            self._used |= used
            raise
        since = self._clock.boottime() - NOTE_EVERY
        self._noted = {key: at for key, at in self._noted.items() if at > since}

    async def _look_up(self) -> None:
        """Put into memory what another replica renewed, of what is handed out here."""
        overdue, self._overdue = self._overdue, {}
        read_at = self._clock.boottime()
        found = await self._access_tokens.find_access_tokens(list(overdue)) if overdue else {}
        for key, stored in found.items():
            token = await self._receive.open(overdue[key], stored, read_at)
            if token is not None:
                self._cache.put(token)

    async def _renew(self, due: DueToken) -> None:
        wish = await self._wish(due)
        if wish is None or not await self._take_turn(wish.provider, soon=due.remaining_ms < SOON * 1000):
            return
        try:
            await self._obtain(wish, Need(unlike=due.fingerprint))
        except BrokerError:  # told to operators by whoever raised it; the token there is serves on
            return
        finally:
            self._at[wish.provider.id] -= 1

    async def _wish(self, due: DueToken) -> Wish | None:
        """Return the wish for a due token, or None when its grant moved on or is held."""
        try:
            grant = await self._view.grant(due.grant)
            client = None if grant is None else self._view.catalog.clients.get(grant.client)
            provider = None if client is None else self._view.catalog.providers.get(client.provider)
            if grant is None or client is None or provider is None:
                return None
            if provider.frozen or grant.state.hold is not Hold.NONE:
                return None
            wish = wish_for(grant, client, provider, frozenset(due.key.wire_scopes), due.key.resource, due.asked_by)
        except BrokerError:
            return None
        return wish if wish.key == due.key else None

    async def _take_turn(self, provider: Provider, *, soon: bool) -> bool:
        """Wait for a turn and count it: after the callers that wait, and not more often than the window allows."""
        give_up = self._clock.boottime() + PATIENCE
        while self._clock.boottime() < give_up:
            if self._at[provider.id] < AT_ONCE and (soon or not self._callers_wait(provider)):
                self._at[provider.id] += 1  # before anything is awaited: others look at it meanwhile
                charges = _charges(self._view.catalog.limits, provider)  # anew: they may be under a newer rule by now
                if (await self._buckets.spend(charges)).allowed:
                    return True
                self._at[provider.id] -= 1
            await asyncio.sleep(EVERY * self._random.uniform(0.2, 0.4))
        return False


def _charges(limits: Sequence[Limit], provider: Provider) -> list[Charge]:
    """Return what one renewal costs: a place in the window, and in half of each the provider is limited to."""
    halves = [
        (Window(window.rate / 2, max(1, window.burst // 2)), limit, number)
        for limit in limits
        if limit.applies_to is LimitTarget.PROVIDER and limit.key in {(), ("provider",)}
        for number, window in enumerate(limit.windows)
    ]
    return [charge("renewals", ("renewals", provider.name), RENEWALS)] + [
        charge("renewals", ("renewals", provider.name, limit.id, str(number)), half, version=limit.version)
        for half, limit, number in halves
    ]
