"""An authenticated call as a servicer receives it."""

from __future__ import annotations

from dataclasses import dataclass

from broker.core.identity import CallerId, Role
from broker.flows.trail import Trail


@dataclass(frozen=True, slots=True)
class Call:
    """Who calls, the roles held, and the trail its audit event is made from."""

    caller: CallerId
    roles: frozenset[Role]
    trail: Trail
