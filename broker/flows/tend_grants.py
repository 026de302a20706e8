"""Moving on the grants that nobody works on.

left in doubt? recover (`lease_grant`), and redeem where that needs a send ▸ quarantined beside a token never sent?
adopt that ▸ being revoked, or with a token that came too late? tell the provider

Every replica does this; the steps' conditions let one do each.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from random import Random
from typing import Final

from broker.core import lease, scopes
from broker.core.back_off import back_off
from broker.core.errors import BrokerError
from broker.core.grant_state import Health, Hold, Phase, to_revoke
from broker.core.models import Grant
from broker.flows.catalog_view import CatalogView
from broker.flows.lease_grant import LeaseGrant
from broker.flows.redeem_refresh_token import RedeemRefreshToken
from broker.flows.revoke_tokens import RevokeTokens
from broker.flows.wish import Wish, wish_for
from broker.ports import Clock, GrantStore

EVERY: Final = 5.0
"""Seconds between two looks at all of them."""
PAGE: Final = 100
AT_ONCE: Final = 8
"""Grants worked on at the same time: a provider that hangs holds up few others."""
MAX_LEFT_ALONE: Final = 10_000
"""Grants whose back-off is remembered."""


class TendGrants:
    """Looks after grants, in the background."""

    def __init__(  # noqa: PLR0913 - each is a port or a part of the flow
        self,
        *,
        view: CatalogView,
        grants: GrantStore,
        lease_grant: LeaseGrant,
        redeem: RedeemRefreshToken,
        revoke_tokens: RevokeTokens,
        clock: Clock,
        random: Random,
    ) -> None:
        self._view = view
        self._grants = grants
        self._lease_grant = lease_grant
        self._redeem = redeem
        self._revoke_tokens = revoke_tokens
        self._clock = clock
        self._random = random
        self._soon: dict[str, None] = {}
        self._woken = asyncio.Event()
        self._tending: dict[str, asyncio.Task[None]] = {}
        self._failures: dict[str, tuple[int, float]] = {}

    def soon(self, grant_id: str) -> None:
        """Look after this grant at once."""
        self._soon[grant_id] = None
        self._failures.pop(grant_id, None)
        self._woken.set()

    async def for_ever(self) -> None:
        """Go on until cancelled; what is worked on then goes on, see `aclose`."""
        look_at = 0.0
        while True:
            self._woken.clear()
            while self._soon:
                await self._begin(self._soon.popitem()[0])
            if self._clock.boottime() >= look_at:
                await self.look()
                look_at = self._clock.boottime() + EVERY * self._random.uniform(0.8, 1.2)
            with suppress(TimeoutError):
                async with asyncio.timeout(look_at - self._clock.boottime()):
                    await self._woken.wait()

    async def look(self) -> None:
        """Begin with every grant that somebody has to move on; a store that is away is looked at again later."""
        after = ""
        try:
            while page := await self._grants.unsettled(after, PAGE):
                for grant_id in page:
                    await self._begin(grant_id)
                after = page[-1]
        except BrokerError:
            return

    async def aclose(self, grace: float) -> None:
        """Wait up to `grace` seconds for what runs."""
        if self._tending:
            await asyncio.wait(self._tending.values(), timeout=grace)

    async def _begin(self, grant_id: str) -> None:
        _, until = self._failures.get(grant_id, (0, 0.0))
        if grant_id in self._tending or self._clock.boottime() < until:
            return
        while len(self._tending) >= AT_ONCE:
            await asyncio.wait(self._tending.values(), return_when=asyncio.FIRST_COMPLETED)
        task = self._tending[grant_id] = asyncio.create_task(self._tend(grant_id))
        task.add_done_callback(lambda _: self._tending.pop(grant_id, None))

    async def _tend(self, grant_id: str) -> None:
        try:
            done = await self._move_on(grant_id)
        except BrokerError:  # told to operators by whoever raised it
            done = False
        if done:
            self._failures.pop(grant_id, None)
        else:
            self._leave_alone(grant_id)

    async def _move_on(self, grant_id: str) -> bool:
        """Do what the grant's state asks for; return False when it is to be left alone for a while."""
        reading = await self._grants.get_state(grant_id)
        grant = await self._grants.get_grant(grant_id)
        if reading is None or grant is None:
            return True
        state = grant.state
        if state.hold is Hold.REVOKING or to_revoke(state):
            return await self._revoke_tokens(grant, reading.now)
        if state.phase is Phase.IDLE and state.health is Health.QUARANTINED:
            await self._grants.apply(grant_id, lease.Adopt())
            return True
        return await self._recover(grant)

    async def _recover(self, grant: Grant) -> bool:
        wish = self._whole(grant)
        if wish is None:
            return False
        leased = await self._lease_grant.recover(grant.id)
        if leased is None or leased.phase is not Phase.PREPARED:
            return leased is not None
        await self._redeem.go_on(wish, leased)
        return True

    def _whole(self, grant: Grant) -> Wish | None:
        """Return the wish for the grant's whole set, which every grant can serve."""
        client = self._view.catalog.clients.get(grant.client)
        provider = None if client is None else self._view.catalog.providers.get(client.provider)
        if client is None or provider is None or provider.frozen:
            return None
        return wish_for(grant, client, provider, scopes.expand(grant.scopes, provider))

    def _leave_alone(self, grant_id: str) -> None:
        failures, _ = self._failures.pop(grant_id, (0, 0.0))
        seconds = back_off(failures, None, self._random.random()) / 1000
        self._failures[grant_id] = (failures + 1, self._clock.boottime() + seconds)
        while len(self._failures) > MAX_LEFT_ALONE:
            del self._failures[next(iter(self._failures))]
