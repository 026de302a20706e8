"""Freezing, letting go and revoking a grant, and an operator's word that nothing is left of its sends.

find the grant ▸ the step, its event and a new version in one commit ▸ whoever tends grants does the rest ▸ what still
lives of its access tokens?

From the commit on no replica hands out a token of a held grant. What was handed out before cannot be called back: the
answer names it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from broker.core import lease
from broker.core.audit import Action
from broker.core.errors import GrantConflictError, InvalidRequestError, NotFoundError
from broker.core.models import Grant, GrantType, Kind
from broker.flows.trail import Trail
from broker.ports import AccessTokenStore, Clock, GrantStore, StoredAccessToken

Step = lease.Freeze | lease.Unfreeze | lease.Revoke | lease.Settle

ACTIONS: Final[dict[type[Step], Action]] = {
    lease.Freeze: Action.GRANT_FREEZE,
    lease.Unfreeze: Action.GRANT_UNFREEZE,
    lease.Revoke: Action.GRANT_REVOKE,
    lease.Settle: Action.GRANT_SETTLE,
}
NOT_NOW: Final[dict[type[Step], str]] = {
    lease.Freeze: "it is frozen or revoked already",
    lease.Unfreeze: "it is not frozen",
    lease.Revoke: "it is revoked already",
    lease.Settle: "no refresh token of it is in doubt",
}
"""Why a step did not happen."""


@dataclass(frozen=True, slots=True)
class Held:
    """A grant after a step, and access tokens of it that somebody may still use."""

    grant: Grant
    live: Sequence[StoredAccessToken]


class HoldGrant:
    """What operators do to one grant at once."""

    def __init__(
        self,
        *,
        grants: GrantStore,
        access_tokens: AccessTokenStore,
        clock: Clock,
        soon: Callable[[str], None],
    ) -> None:
        """Wire the flow; `soon` is told the id of a grant that somebody has to move on."""
        self._grants = grants
        self._access_tokens = access_tokens
        self._clock = clock
        self._soon = soon

    async def __call__(self, name: str, step: Step, trail: Trail) -> Held:
        """Do it.

        Raises:
            NotFoundError: no such grant.
            InvalidRequestError: there is nothing to be done; the text says why.
            GrantConflictError: the grant was removed at the same moment.
        """
        trail.grant = name
        grant = await self._grants.find_grant(name)
        if grant is None:
            raise NotFoundError("there is no such grant", metadata={"kind": Kind.GRANT.value, "name": name})
        trail.client = grant.client
        if isinstance(step, lease.Settle) and grant.type is GrantType.CLIENT_CREDENTIALS:
            raise _nothing_done(step)
        after = await self._grants.hold(grant.id, step, trail.event(ACTIONS[type(step)], self._clock.now()))
        if after is None:
            raise _nothing_done(step)
        self._soon(grant.id)
        held = await self._grants.get_grant(grant.id)
        if held is None:
            raise GrantConflictError("the grant was removed at the same moment", cause="removed")
        return Held(held, await self._access_tokens.live_access_tokens(grant.id))


def _nothing_done(step: Step) -> InvalidRequestError:
    problem = NOT_NOW[type(step)]
    return InvalidRequestError(f"nothing was done: {problem}", fields={"name": problem})
