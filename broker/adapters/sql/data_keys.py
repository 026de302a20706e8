"""Rows of data keys; nothing here opens without a key-encryption key."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence

from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from broker.adapters.sql.lanes import Lanes
from broker.adapters.sql.tables import control, data_keys
from broker.ports import DataKey, KeyPurpose, KeyState


class SqlDataKeys:
    """The DataKeyStore port."""

    def __init__(self, lanes: Lanes) -> None:
        self._lanes = lanes

    async def load_data_keys(self) -> Sequence[DataKey]:
        """Return all rows, by id."""

        async def work(connection: AsyncConnection) -> Sequence[DataKey]:
            rows = await connection.execute(select(data_keys).order_by(data_keys.c.id))
            return [
                DataKey(row.id, KeyPurpose(row.purpose), KeyState(row.state), _decode_wraps(row.wraps)) for row in rows
            ]

        return await self._lanes.read(work)

    async def add_first_data_keys(self, keys: Sequence[DataKey]) -> bool:
        """Insert the first rows; False, and nothing written, when the table holds any row already."""

        async def work(connection: AsyncConnection) -> bool:
            # Two replicas may start at once on an empty database: the second waits here and then sees the keys.
            await connection.execute(select(control.c.id).with_for_update())
            if (await connection.execute(select(data_keys.c.id).limit(1))).one_or_none() is not None:
                return False
            rows = [
                {"id": key.id, "purpose": key.purpose, "state": key.state, "wraps": _encode_wraps(key.wraps)}
                for key in keys
            ]
            await connection.execute(insert(data_keys), rows)
            return True

        async def confirm(connection: AsyncConnection) -> bool:
            await connection.execute(select(control.c.id).with_for_update())
            stored = (await connection.execute(select(data_keys.c.id))).scalars().all()
            return {key.id for key in keys} <= set(stored)

        return await self._lanes.write(work, confirm=confirm)


def _encode_wraps(wraps: Mapping[str, bytes]) -> str:
    return json.dumps({uri: base64.b64encode(wrapped).decode() for uri, wrapped in wraps.items()}, sort_keys=True)


def _decode_wraps(text: str) -> Mapping[str, bytes]:
    return {uri: base64.b64decode(wrapped) for uri, wrapped in json.loads(text).items()}
