"""refresh_token: who redeems a grant, and for how long (RFC 6749 §6).

lease the grant ▸ redeem for one scope set ▸ others wait here? take it again in the same commit and go on, for no more
sets than may be alive ▸ then leave it to other processes for a while
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from broker.core import lease
from broker.core.errors import BrokerError, ScopeConflictError, StoreUnavailableError
from broker.core.grant_state import GrantState, Phase
from broker.core.scope_sets import MAX_OF_GRANT, check_one_more
from broker.flows.heart import Heart
from broker.flows.lease_grant import LeaseGrant
from broker.flows.receive import Received
from broker.flows.redeem_under_lease import RedeemUnderLease, Tenure
from broker.flows.until_stored import Trouble
from broker.flows.wish import Wish, kills_older
from broker.ports import AccessTokenStore, Clock, GrantStore

STAND_BACK: Final = 1.0
"""Seconds in which a process that served as many sets as it may in one tenure leaves the grant to others."""


@dataclass(frozen=True, slots=True)
class _Kept:
    """A lease taken again for others who wait here, and how many sets were served before."""

    state: GrantState
    served: int


class RedeemRefreshToken:
    """Redeem a grant's refresh token for one scope set, or find that another owner is at it."""

    def __init__(  # noqa: PLR0913 - each is a port or a part of the flow
        self,
        *,
        grants: GrantStore,
        access_tokens: AccessTokenStore,
        lease_grant: LeaseGrant,
        under_lease: RedeemUnderLease,
        heart: Heart,
        clock: Clock,
    ) -> None:
        self._grants = grants
        self._access_tokens = access_tokens
        self._lease_grant = lease_grant
        self._under_lease = under_lease
        self._heart = heart
        self._clock = clock
        self._kept: dict[str, _Kept] = {}
        self._stands_back: dict[str, float] = {}

    async def __call__(
        self,
        wish: Wish,
        trouble: Trouble,
        wanted: Callable[[], Awaitable[bool]],
        others_wait: Callable[[], bool] = lambda: False,
    ) -> Received | None:
        """Return the token, or None while another owner's lease lives, the grant backs off or none is wanted any more.

        Run it in a task of its own: once SENT is committed it must reach its end whoever hangs up.

        Args:
            wish: what to redeem for.
            trouble: told at once when an outcome cannot be stored yet, while storing it goes on.
            wanted: asked under the lease, before anything is spent: another owner may have brought it just before.
            others_wait: asked at the end: whether the lease is to be kept for another scope set, whose redeem follows.

        Raises:
            BrokerError: why there is no token.
        """
        grant_id = wish.grant.id
        await self._check_sets(wish)
        kept = self._kept.pop(grant_id, None)
        if kept is None and not self._stands_back_from(grant_id):
            state = await self._lease_grant(grant_id)
            kept = None if state is None else _Kept(state, 0)
        if kept is None:
            return None

        async def still_wanted() -> bool:
            if kills_older(wish):  # by whoever had the lease just before
                await self._check_sets(wish)
            return await wanted()

        return await self._redeem(wish, kept, trouble, still_wanted, others_wait)

    async def go_on(self, wish: Wish, leased: GrantState) -> Received | None:
        """Redeem under a lease in hand, whether anybody wants the token or not: a doubt is to end.

        Raises:
            BrokerError: why there is no token.
        """
        return await self._redeem(wish, _Kept(leased, 0), _nobody_waits, _always, _nobody_else)

    async def give_back(self, grant_id: str) -> None:
        """Free a lease that was kept for others who then did not need it; one that cannot be freed ends by itself."""
        kept = self._kept.pop(grant_id, None)
        if kept is not None:
            with suppress(StoreUnavailableError):
                await self._grants.apply(grant_id, lease.NotSent(kept.state.attempt, 0))

    async def _check_sets(self, wish: Wish) -> None:
        """Return when the grant may serve this set beside those that live.

        Raises:
            ScopeConflictError, ScopeSetsError: it may not.
        """
        others = await self._access_tokens.live_scope_sets(wish.grant.id, wish.key)
        if others and kills_older(wish):
            raise ScopeConflictError(
                "another scope set of this grant is in use, and getting this one would end its token", cause="set_alive"
            )
        check_one_more(others, wish.asked_by)

    async def _redeem(
        self,
        wish: Wish,
        kept: _Kept,
        trouble: Trouble,
        wanted: Callable[[], Awaitable[bool]],
        others_wait: Callable[[], bool],
    ) -> Received | None:
        grant_id, served = wish.grant.id, kept.served + 1
        tenure = Tenure(wish, kept.state, trouble, lambda: served < MAX_OF_GRANT and others_wait())
        with self._heart.keeping(grant_id, tenure.attempt):
            redeemed = await self._under_lease(tenure, wanted)
        finished = redeemed.finished
        if finished is not None and finished.phase is Phase.PREPARED:
            self._kept[grant_id] = _Kept(finished, served)
        elif served >= MAX_OF_GRANT and others_wait():
            self._stands_back[grant_id] = self._clock.boottime() + STAND_BACK
        if isinstance(redeemed.received, BrokerError):
            raise redeemed.received
        return redeemed.received

    def _stands_back_from(self, grant_id: str) -> bool:
        until = self._stands_back.get(grant_id)
        if until is None:
            return False
        if until > self._clock.boottime():
            return True
        del self._stands_back[grant_id]
        return False


def _nobody_waits(_: BrokerError) -> None:
    """A store that is away delays what nobody waits for."""


def _nobody_else() -> bool:
    return False


async def _always() -> bool:
    return True
