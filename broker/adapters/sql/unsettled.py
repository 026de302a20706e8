"""Which grants somebody has to move on: few at a time, each kind found by an index of its own."""

from __future__ import annotations

from typing import Final

from sqlalchemy import and_, exists, not_, or_

from broker.adapters.sql.clock import now_ms
from broker.adapters.sql.grant_row import IN_WINDOW, LEASE_OVER, Condition
from broker.adapters.sql.refresh_tokens import HAS_NEW
from broker.adapters.sql.tables import BUSY, LATE, QUARANTINED, REVOKING, refresh_tokens
from broker.adapters.sql.tables import grants as g
from broker.core.grant_state import Hold, Phase
from broker.core.lease import MAX_SENDS

_LEFT_BEHIND: Final = and_(
    LEASE_OVER, or_(g.c.phase == Phase.SENT, and_(g.c.phase == Phase.PREPARED, g.c.first_sent_at.is_not(None)))
)
_WORTH_A_TRY: Final = and_(g.c.phase == Phase.UNKNOWN, or_(HAS_NEW, not_(IN_WINDOW), g.c.sends < MAX_SENDS))
_LATE_TOKEN: Final = exists().where(refresh_tokens.c.grant_id == g.c.id, LATE).correlate(g)

UNSETTLED: Final[tuple[Condition, ...]] = (
    and_(BUSY, g.c.hold == Hold.NONE, g.c.not_before <= now_ms(), or_(_LEFT_BEHIND, _WORTH_A_TRY)),
    and_(QUARANTINED, g.c.hold.in_([Hold.NONE, Hold.FROZEN]), HAS_NEW),
    and_(REVOKING, or_(g.c.phase.not_in([Phase.PREPARED, Phase.SENT]), LEASE_OVER)),
    and_(_LATE_TOKEN, g.c.hold != Hold.REVOKING),
)
"""In doubt and nobody at it; refused beside a token never sent; being revoked; with tokens to be told of."""
