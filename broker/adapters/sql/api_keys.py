"""API keys by their public id; each row carries a MAC, so that a writer of the database cannot rename a key."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, RowMapping, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from broker.adapters.sql.admin import Change, change
from broker.adapters.sql.objects_json import mac_input
from broker.adapters.sql.part import Part
from broker.adapters.sql.tables import api_keys
from broker.core.audit import AuditEvent
from broker.core.errors import AlreadyExistsError, NotFoundError
from broker.core.models import ApiKey
from broker.ports import CatalogMovedError

CHANGED_KIND = "api_key"
"""How the changes table names keys."""


class SqlApiKeys(Part):
    """The KeyStore port."""

    async def find_api_key(self, key_id: str) -> ApiKey | None:
        """Return the key's public part, or None.

        Raises:
            StoreUnavailableError: its MAC is wrong (cause `mac`), or the database is away.
        """

        async def work(connection: AsyncConnection) -> ApiKey | None:
            return await self._find(connection, api_keys.c.id == key_id)

        return await self.with_keys(lambda: self.lanes.read(work))

    async def find_key_named(self, name: str) -> ApiKey | None:
        """Return the public part of the key of this name, or None.

        Raises:
            StoreUnavailableError: its MAC is wrong (cause `mac`), or the database is away.
        """

        async def work(connection: AsyncConnection) -> ApiKey | None:
            return await self._find(connection, api_keys.c.name == name)

        return await self.with_keys(lambda: self.lanes.read(work))

    async def list_api_keys(self) -> Sequence[ApiKey]:
        """Return all keys in name order.

        Raises:
            StoreUnavailableError: a MAC is wrong (cause `mac`), or the database is away.
        """

        async def work(connection: AsyncConnection) -> Sequence[ApiKey]:
            rows = await connection.execute(select(api_keys).order_by(api_keys.c.name))
            return [self._verified(row) for row in rows.mappings()]

        return await self.with_keys(lambda: self.lanes.read(work))

    async def add_api_key(self, key: ApiKey, event: AuditEvent) -> int:
        """Store a new key and its event, raise the version; return it.

        Raises:
            AlreadyExistsError: the name or id is taken.
        """

        async def work(under_way: Change) -> None:
            taken = select(api_keys.c.id).where(or_(api_keys.c.id == key.id, api_keys.c.name == key.name)).limit(1)
            if (await under_way.connection.execute(taken)).one_or_none() is not None:
                msg = "there is an API key of this name already"
                raise AlreadyExistsError(msg, metadata={"kind": CHANGED_KIND, "name": key.name})
            await under_way.connection.execute(insert(api_keys).values(self._columns(key)))
            under_way.touched.add((CHANGED_KIND, key.id))

        _, version = await change(self.lanes, work, event)
        return version

    async def set_api_key(self, key: ApiKey, event: AuditEvent, *, expected_version: int | None = None) -> int:
        """Replace a key's MAC and whether it is disabled, raise the version; return it.

        Raises:
            CatalogMovedError: the version is not the expected one.
            NotFoundError: there is no key of this id.
        """

        async def work(under_way: Change) -> None:
            if expected_version is not None and under_way.version != expected_version + 1:
                raise CatalogMovedError
            stored = await self._find(under_way.connection, api_keys.c.id == key.id)
            if stored is None:
                msg = "there is no such API key"
                raise NotFoundError(msg, metadata={"kind": CHANGED_KIND, "name": key.name})
            merged = ApiKey(stored.id, stored.name, key.mac, key.mac_key_id, key.disabled, stored.bootstrap_until)
            await under_way.connection.execute(
                update(api_keys).where(api_keys.c.id == key.id).values(self._columns(merged))
            )
            under_way.touched.add((CHANGED_KIND, key.id))

        _, version = await self.with_keys(lambda: change(self.lanes, work, event))
        return version

    async def _find(self, connection: AsyncConnection, wanted: ColumnElement[bool]) -> ApiKey | None:
        row = (await connection.execute(select(api_keys).where(wanted))).mappings().one_or_none()
        return None if row is None else self._verified(row)

    def _verified(self, row: RowMapping) -> ApiKey:
        key = ApiKey(row["id"], row["name"], row["mac"], row["mac_key_id"], row["disabled"], row["bootstrap_until"])
        self.verify(f"API key {row['name']}", row["row_mac_key_id"], _mac_input(key), row["row_mac"])
        return key

    def _columns(self, key: ApiKey) -> dict[str, Any]:
        row_mac_key_id, row_mac = self.mac_keys.mac(_mac_input(key))
        return {
            "id": key.id,
            "name": key.name,
            "mac": key.mac,
            "mac_key_id": key.mac_key_id,
            "disabled": key.disabled,
            "bootstrap_until": key.bootstrap_until,
            "row_mac": row_mac,
            "row_mac_key_id": row_mac_key_id,
        }


def _mac_input(key: ApiKey) -> bytes:
    return mac_input(
        "api_keys", key.id, key.name, key.mac.hex(), key.mac_key_id, str(key.disabled), str(key.bootstrap_until)
    )
