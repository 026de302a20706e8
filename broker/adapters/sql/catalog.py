"""Everything configured, and the version that says whether it moved."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeVar, cast

from sqlalchemy import RowMapping, delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from broker.adapters.sql.admin import Change, change
from broker.adapters.sql.counts import add_counts, display_state
from broker.adapters.sql.objects_json import StoredObject, decode_object, encode_names, encode_object, mac_input
from broker.adapters.sql.part import Part
from broker.adapters.sql.rows import grant_mac_input, grant_state, state_values
from broker.adapters.sql.tables import access_tokens, changes, client_secrets, control, grants, objects
from broker.core.audit import AuditEvent
from broker.core.errors import RevisionStaleError
from broker.core.grant_state import GrantState
from broker.core.models import (
    Catalog,
    Client,
    Grant,
    Issuer,
    Kind,
    Limit,
    Origin,
    Policy,
    Provider,
    RoleBinding,
)
from broker.ports import CatalogMovedError, ObjectChange

VERSION_SECONDS: Final = 1.0
MANY_GRANTS: Final = 1000
"""More changed grants than this are not named one by one."""

CHANGES_KEPT: Final = 10_000
"""Versions whose changes are named; whoever fell further behind is told nothing one by one."""

O = TypeVar("O")  # noqa: E741 - the kind of object asked for


class SqlCatalog(Part):
    """The CatalogStore port."""

    async def load_catalog(self) -> Catalog:
        """Return all objects but grants, MACs verified, as of one version.

        Raises:
            StoreUnavailableError: the database is away, or a MAC does not verify (cause `mac`).
        """

        async def work(connection: AsyncConnection) -> tuple[Any, Sequence[StoredObject]]:
            stored = (await connection.execute(select(control))).one()
            rows = await connection.execute(select(objects).order_by(objects.c.kind, objects.c.name))
            return stored, [self._verified_object(row) for row in rows.mappings()]

        stored, values = await self.with_keys(lambda: self.lanes.read(work))
        self.lanes.version = max(self.lanes.version, stored.version)
        return Catalog(
            version=stored.version,
            revision=stored.revision,
            providers={value.name: value for value in _only(values, Provider)},
            clients={value.name: value for value in _only(values, Client)},
            policies=tuple(_only(values, Policy)),
            limits=tuple(_only(values, Limit)),
            issuers=tuple(_only(values, Issuer)),
            roles=tuple(_only(values, RoleBinding)),
        )

    def version(self) -> int:
        """Return the newest version this process wrote or read, without asking the database; from any thread."""
        return self.lanes.version

    async def read_version(self) -> int:
        """Return `control.version`; StoreUnavailableError within one second."""

        async def work(connection: AsyncConnection) -> int:
            version: int = (await connection.execute(select(control.c.version))).scalar_one()
            return version

        return await self.lanes.read(work, VERSION_SECONDS)

    async def changed_grants(self, since: int) -> Sequence[str] | None:
        """Return ids of grants changed after version `since`, or None when too many, or too long ago, to tell."""

        async def work(connection: AsyncConnection) -> Sequence[str] | None:
            version = (await connection.execute(select(control.c.version))).scalar_one()
            if since < version - CHANGES_KEPT:
                return None
            statement = (
                select(changes.c.id)
                .where(changes.c.version > since, changes.c.kind == Kind.GRANT)
                .distinct()
                .limit(MANY_GRANTS + 1)
            )
            return (await connection.execute(statement)).scalars().all()

        ids = await self.lanes.read(work)
        return None if ids is None or len(ids) > MANY_GRANTS else ids

    async def write_objects(
        self,
        changes: Sequence[ObjectChange],
        *,
        revision: int | None,
        event: AuditEvent,
        expected_version: int | None = None,
    ) -> int:
        """Apply all changes in their order and raise the version, in one transaction; return the new version.

        An object of a name that is there keeps its id. A grant whose client changes gets a new epoch.

        Raises:
            CatalogMovedError: the version is not the expected one.
            RevisionStaleError: the stored revision is not smaller.
            StoreUnavailableError: nothing was changed, or the outcome was read back as not changed.
        """

        async def work(under_way: Change) -> None:
            if expected_version is not None and under_way.version != expected_version + 1:
                raise CatalogMovedError
            if revision is not None:
                _raise_revision(under_way, revision)
            counted: Counter[str] = Counter()
            for item in changes:
                if item.kind is Kind.GRANT:
                    await self._write_grant(under_way, item, counted)
                elif item.value is None:
                    await _remove_object(under_way, item)
                else:
                    await self._put_object(under_way, item.kind, cast("StoredObject", item.value))
            await add_counts(under_way.connection, counted)
            await forget_changes(under_way)

        _, version = await self.with_keys(lambda: change(self.lanes, work, event))
        return version

    def _verified_object(self, row: RowMapping) -> StoredObject:
        self.verify(f"{row['kind']} {row['name']}", row["mac_key_id"], _object_mac_input(row), row["mac"])
        return decode_object(Kind(row["kind"]), row["id"], row["name"], Origin(row["origin"]), row["body"])

    async def _put_object(self, under_way: Change, kind: Kind, value: StoredObject) -> None:
        here = (objects.c.kind == kind) & (objects.c.name == value.name)
        stored_id = (await under_way.connection.execute(select(objects.c.id).where(here))).scalar_one_or_none()
        row: dict[str, Any] = {
            "id": stored_id or value.id,
            "kind": kind,
            "name": value.name,
            "origin": value.origin,
            "body": encode_object(value),
            "version": under_way.version,
        }
        row["mac_key_id"], row["mac"] = self.mac_keys.mac(_object_mac_input(row))
        write = insert(objects) if stored_id is None else update(objects).where(here)
        await under_way.connection.execute(write.values(row))
        under_way.touched.add((kind, row["id"]))

    async def _write_grant(self, under_way: Change, item: ObjectChange, counted: Counter[str]) -> None:
        connection = under_way.connection
        here = grants.c.name == item.name
        row = (await connection.execute(select(grants).where(here).with_for_update())).mappings().one_or_none()
        if item.value is None:
            if row is not None:
                await connection.execute(delete(grants).where(here))
                await connection.execute(delete(access_tokens).where(access_tokens.c.grant_id == row["id"]))
                counted[display_state(grant_state(row))] -= 1
                under_way.touched.add((Kind.GRANT, row["id"]))
            return
        value = cast("Grant", item.value)
        if row is None:
            config = self._grant_columns(value, value.id, value.subject)
            await connection.execute(insert(grants).values(config | state_values(GrantState())))
            counted[display_state(GrantState())] += 1
        else:
            stored = self.verified_grant(row)
            config = self._grant_columns(value, stored.id, stored.subject)
            epoch = grants.c.epoch if stored.client == value.client else grants.c.epoch + 1
            await connection.execute(update(grants).where(here).values(config | {"epoch": epoch}))
        under_way.touched.add((Kind.GRANT, config["id"]))

    def _grant_columns(self, value: Grant, grant_id: str, subject: str | None) -> dict[str, Any]:
        row: dict[str, Any] = {
            "id": grant_id,
            "name": value.name,
            "origin": value.origin,
            "client": value.client,
            "type": value.type,
            "scopes": encode_names(value.scopes),
            "subject": subject,
        }
        row["mac_key_id"], row["mac"] = self.mac_keys.mac(grant_mac_input(row))
        return row


async def forget_changes(under_way: Change) -> None:
    """Remove what older versions changed, so that the table does not grow for ever."""
    await under_way.connection.execute(delete(changes).where(changes.c.version <= under_way.version - CHANGES_KEPT))


def _raise_revision(under_way: Change, revision: int) -> None:
    if revision <= under_way.revision:
        msg = "the configuration's revision is not greater than the stored one"
        raise RevisionStaleError(msg, metadata={"stored_revision": str(under_way.revision)})
    under_way.revision = revision


async def _remove_object(under_way: Change, item: ObjectChange) -> None:
    here = (objects.c.kind == item.kind) & (objects.c.name == item.name)
    removed = await under_way.connection.execute(delete(objects).where(here).returning(objects.c.id))
    removed_id = removed.scalar_one_or_none()
    if removed_id is None:
        return
    if item.kind is Kind.CLIENT:
        await under_way.connection.execute(delete(client_secrets).where(client_secrets.c.client_id == removed_id))
    under_way.touched.add((item.kind, removed_id))


def _object_mac_input(row: RowMapping | Mapping[str, Any]) -> bytes:
    return mac_input("objects", row["kind"], row["name"], row["id"], row["origin"], row["body"])


def _only(values: Sequence[StoredObject], kind: type[O]) -> list[O]:
    return [value for value in values if isinstance(value, kind)]
