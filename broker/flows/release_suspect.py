"""Suspects: grants held because the store was rolled back; what operators see of them, and letting one go."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from broker.core.audit import Action
from broker.core.errors import InvalidRequestError, NotFoundError
from broker.core.models import Grant, Kind
from broker.flows.read_config import check_after
from broker.flows.trail import Trail
from broker.ports import Clock, GrantStore, RollbackStore, Suspect

MOST: Final = 1_000
"""Suspects shown at once."""


class ReleaseSuspect:
    """List, and release one."""

    def __init__(self, *, grants: GrantStore, store: RollbackStore, clock: Clock) -> None:
        self._grants = grants
        self._store = store
        self._clock = clock

    async def list(self, after: str) -> Sequence[Suspect]:
        """Return suspects in the order of their names, from the first name greater than `after`.

        Raises:
            InvalidRequestError: no grant can be called so.
        """
        check_after(after, "after")
        return await self._store.list_suspects(after, MOST)

    async def __call__(self, name: str, trail: Trail, *, abandon: bool) -> Grant:
        """Let a suspect go.

        Args:
            name: the grant's.
            trail: who does it.
            abandon: its refresh token is not to be used again; the grant then needs a new login or an import.

        Raises:
            NotFoundError: no such grant.
            InvalidRequestError: it is no suspect.
        """
        trail.grant = name
        grant = await self._grants.find_grant(name)
        if grant is None:
            raise NotFoundError("there is no such grant", metadata={"kind": Kind.GRANT.value, "name": name})
        detail = "abandoned" if abandon else ""
        event = trail.event(Action.GRANT_RELEASE, self._clock.now(), detail=detail)
        if await self._store.release(grant.id, abandon=abandon, record=event) is None:
            problem = "the grant is not held because of a rollback"
            raise InvalidRequestError(f"nothing was done: {problem}", fields={"name": problem})
        after = await self._grants.get_grant(grant.id)
        return after or grant
