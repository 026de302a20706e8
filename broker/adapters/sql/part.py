"""What every part of the store stands on."""

from __future__ import annotations

import structlog
from sqlalchemy import RowMapping

from broker.adapters.sql.lanes import Lanes
from broker.adapters.sql.rows import grant, grant_mac_input
from broker.core.errors import StoreUnavailableError
from broker.core.lease import RedeemTimes
from broker.core.models import Grant
from broker.ports import MacKeys

log = structlog.get_logger("broker.store")


class Part:
    """Lanes, keys and times, shared by the classes that make up the store."""

    def __init__(self, lanes: Lanes, mac_keys: MacKeys, times: RedeemTimes) -> None:
        self.lanes = lanes
        self.mac_keys = mac_keys
        self.times = times

    def verify(self, row: str, key_id: str, data: bytes, tag: bytes) -> None:
        """Make sure that a row, named for the log, is as the broker wrote it.

        Raises:
            StoreUnavailableError: it is not (cause `mac`): somebody else writes this database.
        """
        if not self.mac_keys.verify(key_id, data, tag):
            log.error("row_changed_by_somebody_else", row=row)
            raise StoreUnavailableError(
                "a row of the store is not as the broker wrote it; the broker's log names it", cause="mac"
            )

    def verified_grant(self, row: RowMapping) -> Grant:
        """Return the grant of a row whose MAC is right.

        Raises:
            StoreUnavailableError: it is not (cause `mac`).
        """
        self.verify(f"grant {row['name']}", row["mac_key_id"], grant_mac_input(row), row["mac"])
        return grant(row)
