"""What every part of the store stands on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog
from sqlalchemy import RowMapping

from broker.adapters.sql.lanes import Lanes
from broker.adapters.sql.rows import grant, grant_mac_input
from broker.core.errors import StoreUnavailableError
from broker.core.grant_state import RedeemTimes
from broker.core.models import Grant
from broker.ports import MacKeys, UnknownMacKeyError

T = TypeVar("T")

log = structlog.get_logger("broker.store")


class Part:
    """Lanes, keys and times, shared by the classes that make up the store."""

    def __init__(self, lanes: Lanes, mac_keys: MacKeys, times: RedeemTimes) -> None:
        self.lanes = lanes
        self.mac_keys = mac_keys
        self.times = times

    async def with_keys(self, transaction: Callable[[], Awaitable[T]]) -> T:
        """Run a transaction that verifies rows; one that meets a MAC key not loaded yet is run again with it.

        Raises:
            StoreUnavailableError: the key cannot be had (cause `key`), or what the transaction raises.
        """
        try:
            return await transaction()
        except UnknownMacKeyError as unknown:
            await self.mac_keys.load(unknown.key_id)  # between the two: none holds a connection while it waits
        return await transaction()

    def verify(self, row: str, key_id: str, data: bytes, tag: bytes) -> None:
        """Make sure that a row, named for the log, is as the broker wrote it.

        Raises:
            StoreUnavailableError: it is not (cause `mac`): somebody else writes this database.
            UnknownMacKeyError: its key is not loaded; see `with_keys`.
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
            UnknownMacKeyError: its key is not loaded; see `with_keys`.
        """
        self.verify(f"grant {row['name']}", row["mac_key_id"], grant_mac_input(row), row["mac"])
        return grant(row)
