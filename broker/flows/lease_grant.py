"""Leasing a grant for one redeem: an idle one, or one left in doubt, in the protocol's order (`core/lease.py`).

take ▸ somebody sent and went away? say that its fate is unknown ▸ a token never sent is there? adopt it, nothing is in
doubt any more ▸ inside the replay window? send the same token again ▸ settled? probe
"""

from __future__ import annotations

from broker.core import lease
from broker.core.grant_state import GrantState, Phase, RedeemTimes
from broker.flows.heart import Heart
from broker.ports import GrantStore


class LeaseGrant:
    """Leases grants for this process."""

    def __init__(self, *, grants: GrantStore, heart: Heart, times: RedeemTimes, owner: str) -> None:
        self._grants = grants
        self._heart = heart
        self._times = times
        self._owner = owner

    async def __call__(self, grant_id: str) -> GrantState | None:
        """Return the leased row, or None while another owner's lease lives, the grant backs off or has to wait.

        Raises:
            StoreUnavailableError: the store is away.
        """
        taken = await self._take(grant_id)
        if taken is not None:
            return taken
        recovered = await self.recover(grant_id)
        return await self._take(grant_id) if recovered is not None and recovered.phase is Phase.IDLE else recovered

    async def recover(self, grant_id: str) -> GrantState | None:
        """Move a grant in doubt on; return it idle after an adoption, leased for a resend, or None.

        Raises:
            StoreUnavailableError: the store is away.
        """
        reading = await self._grants.get_state(grant_id)
        if reading is None:
            return None
        if _left_behind(reading.state) and reading.state.lease_until <= reading.now:
            await self._grants.apply(grant_id, lease.Unknown(None))  # or somebody else says it at the same moment
        elif reading.state.phase is not Phase.UNKNOWN:
            return None
        return (
            await self._grants.apply(grant_id, lease.Adopt())
            or await self._grants.apply(grant_id, lease.Replay(self._owner))
            or await self._probe(grant_id)
        )

    async def _take(self, grant_id: str) -> GrantState | None:
        return await self._grants.apply(grant_id, lease.Take(self._owner))

    async def _probe(self, grant_id: str) -> GrantState | None:
        """Probe where that is settled; after an outage whoever holds a received token goes first."""
        if self._heart.up_for() * 1000 < self._times.store_up:
            return None
        return await self._grants.probe(grant_id, self._owner)


def _left_behind(state: GrantState) -> bool:
    return state.phase is Phase.SENT or (state.phase is Phase.PREPARED and state.first_sent_at is not None)
