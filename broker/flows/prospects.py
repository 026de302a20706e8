"""Whether waiting for a grant that could not be leased is worth it, and if not, why not."""

from __future__ import annotations

from typing import Final

from broker.core.errors import (
    GrantConflictError,
    GrantHeldError,
    ProviderUnavailableError,
)
from broker.core.grant_state import Health, Hold, Phase, held_because
from broker.core.lease import MAX_SENDS
from broker.core.models import Grant, GrantType
from broker.flows.ask_for_login import consent_required, quarantined
from broker.flows.redeem_under_lease import uncertain
from broker.ports import GrantReading, GrantStore

SOON: Final = 5_000
"""Milliseconds that whoever wants a token may wait for the next send of one in doubt; who waits longer is told."""


class Prospects:
    """Looks at a grant's row for those who wait."""

    def __init__(self, grants: GrantStore) -> None:
        self._grants = grants

    async def __call__(self, grant: Grant) -> bool:
        """Return whether somebody is at work, or may be soon; False where the grant is free at this moment.

        Raises:
            BrokerError: waiting is hopeless, or takes longer than a caller should wait; `retry_after` says how long.
        """
        if grant.type is GrantType.CLIENT_CREDENTIALS:
            return True
        reading = await self._grants.get_state(grant.id)
        if reading is None:
            raise GrantConflictError("the grant was removed; try again", cause="removed")
        state = reading.state
        if state.hold is not Hold.NONE:
            raise GrantHeldError(held_because(state))
        if state.current is None:
            raise consent_required(grant)
        if state.health is Health.QUARANTINED:
            raise quarantined(grant)
        if state.phase is Phase.UNKNOWN and not _may_be_replayed(reading):
            raise uncertain()
        if state.phase is Phase.UNKNOWN and state.not_before > reading.now + SOON:
            raise uncertain("backing_off", retry_after=(state.not_before - reading.now) / 1000)
        if state.phase is Phase.IDLE and state.not_before > reading.now:
            raise ProviderUnavailableError(
                "the last redeem of this grant failed; it is not tried again before its time",
                cause="backing_off",
                metadata={"failure": "backing_off"},
                retry_after=(state.not_before - reading.now) / 1000,
            )
        return state.phase is not Phase.IDLE


def _may_be_replayed(reading: GrantReading) -> bool:
    """Tell whether the same token may be sent again once the back-off is over."""
    state = reading.state
    return (
        state.replay_until is not None
        and max(reading.now, state.not_before) < state.replay_until
        and state.sends < MAX_SENDS
    )
