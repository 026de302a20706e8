"""Everything configured, and the version that says whether it moved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, TypeVar, cast

from sqlalchemy import RowMapping, delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from broker.adapters.sql.admin import Change, change
from broker.adapters.sql.control import is_named
from broker.adapters.sql.grant_config import write_grants
from broker.adapters.sql.objects_json import StoredObject, decode_object, encode_object, mac_input
from broker.adapters.sql.part import Part
from broker.adapters.sql.tables import changes, client_secrets, control, objects
from broker.core.audit import AuditEvent
from broker.core.errors import RevisionStaleError
from broker.core.models import (
    Catalog,
    Client,
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
            if not is_named(since, version):
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
        """Apply all changes and raise the version, in one transaction; return the new version.

        An object of a name that is there keeps its id. A grant whose client changes gets a new epoch.

        Raises:
            CatalogMovedError: the version is not the expected one.
            LiveGrantError: a grant to be removed holds a refresh token that its provider may still honour.
            RevisionStaleError: the stored revision is not smaller.
            StoreUnavailableError: nothing was changed, or the outcome was read back as not changed.
        """

        async def work(under_way: Change) -> None:
            if expected_version is not None and under_way.version != expected_version + 1:
                raise CatalogMovedError
            if revision is not None:
                _raise_revision(under_way, revision)
            for item in changes:
                if item.kind is Kind.GRANT:
                    continue
                if item.value is None:
                    await _remove_object(under_way, item)
                else:
                    await self._put_object(under_way, item.kind, cast("StoredObject", item.value))
            of_grants = [item for item in changes if item.kind is Kind.GRANT]
            await write_grants(under_way, of_grants, self.mac_keys, self.verified_grant)

        _, version = await self.with_keys(lambda: change(self.lanes, work, event))
        return version

    def _verified_object(self, row: RowMapping) -> StoredObject:
        self.verify(f"{row['kind']} {row['name']}", row["mac_key_id"], _object_mac_input(row), row["mac"])
        value = decode_object(Kind(row["kind"]), row["id"], row["name"], Origin(row["origin"]), row["body"])
        return replace(value, version=row["version"]) if isinstance(value, Limit) else value

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
