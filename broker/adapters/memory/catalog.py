"""Everything configured, in memory."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final, TypeVar

from broker.adapters.memory.base import Base
from broker.core.audit import AuditEvent
from broker.core.errors import RevisionStaleError
from broker.core.grant_state import GrantState, holds_live_token
from broker.core.models import (
    Catalog,
    Client,
    Grant,
    Issuer,
    Kind,
    Limit,
    Policy,
    Provider,
    RoleBinding,
)
from broker.ports import CatalogMovedError, LiveGrantError, ObjectChange

_MANY_GRANTS: Final = 1000

O = TypeVar("O")  # noqa: E741 - the kind of object asked for


class MemoryCatalog(Base):
    """The CatalogStore port."""

    async def load_catalog(self) -> Catalog:
        """Return all objects but grants."""
        return Catalog(
            version=self._version,
            revision=self._revision,
            providers={item.name: item for item in self._only(Provider)},
            clients={item.name: item for item in self._only(Client)},
            policies=tuple(self._only(Policy)),
            limits=tuple(self._only(Limit)),
            issuers=tuple(self._only(Issuer)),
            roles=tuple(self._only(RoleBinding)),
        )

    async def read_version(self) -> int:
        """Return the version."""
        return self._version

    async def changed_grants(self, since: int) -> Sequence[str] | None:
        """Return ids of grants changed after version `since`, or None when too many, or too long ago, to tell."""
        if not self._is_named(since):
            return None
        ids = {id_ for version, kind, id_ in self._changes if version > since and kind == Kind.GRANT}
        return None if len(ids) > _MANY_GRANTS else sorted(ids)

    async def write_objects(
        self,
        changes: Sequence[ObjectChange],
        *,
        revision: int | None,
        event: AuditEvent,
        expected_version: int | None = None,
    ) -> int:
        """Apply all changes and raise the version; return it.

        Raises:
            CatalogMovedError: the version is not the expected one.
            LiveGrantError: a grant to be removed holds a refresh token that its provider may still honour.
            RevisionStaleError: the stored revision is not smaller.
        """
        if expected_version is not None and expected_version != self._version:
            raise CatalogMovedError
        removed = {item.name for item in changes if item.kind is Kind.GRANT and item.value is None}
        if any(grant.name in removed and holds_live_token(grant.state) for grant in self._grants.values()):
            raise LiveGrantError
        if revision is not None:
            if revision <= self._revision:
                msg = "the configuration's revision is not greater than the stored one"
                raise RevisionStaleError(msg, metadata={"stored_revision": str(self._revision)})
            self._revision = revision
        touched = [self._write_grant(item) if item.kind is Kind.GRANT else self._write_object(item) for item in changes]
        return self._changed(event, [id_ for id_ in touched if id_ is not None])

    def _only(self, kind: type[O]) -> Iterable[O]:
        return (item for _, item in sorted(self._objects.items()) if isinstance(item, kind))

    def _write_object(self, item: ObjectChange) -> tuple[str, str] | None:
        stored = self._objects.get((item.kind, item.name))
        if item.value is None:
            removed = self._objects.pop((item.kind, item.name), None)
            if isinstance(removed, Client):
                self._secrets.pop(removed.id, None)
            return None if removed is None else (item.kind, _id_of(removed))
        value = item.value if stored is None else _with_id(item.value, _id_of(stored))
        if isinstance(value, Limit):
            value = replace(value, version=self._version + 1)
        self._objects[item.kind, item.name] = value
        return (item.kind, _id_of(value))

    def _write_grant(self, item: ObjectChange) -> tuple[str, str] | None:
        stored = next((grant for grant in self._grants.values() if grant.name == item.name), None)
        if item.value is None:
            if stored is None:
                return None
            del self._grants[stored.id]
            self._sealed = {of: sealed for of, sealed in self._sealed.items() if of[0] != stored.id}
            self._access = {key: row for key, row in self._access.items() if key.grant_id != stored.id}
            self._attempts.pop(stored.id, None)
            return (Kind.GRANT, stored.id)
        value = item.value
        if not isinstance(value, Grant):
            msg = "a grant's change carries a grant"
            raise TypeError(msg)
        if stored is None:
            written = replace(value, state=GrantState())
        else:
            epoch = stored.state.epoch + (stored.client != value.client)
            state = replace(stored.state, epoch=epoch)
            written = replace(value, id=stored.id, subject=stored.subject, person=stored.person, state=state)
        self._grants[written.id] = written
        return (Kind.GRANT, written.id)


def _id_of(value: object) -> str:
    if not isinstance(value, Provider | Client | Policy | Limit | Issuer | RoleBinding):
        msg = "not a configured object"
        raise TypeError(msg)
    return value.id


def _with_id(value: object, object_id: str) -> object:
    if not isinstance(value, Provider | Client | Policy | Limit | Issuer | RoleBinding):
        msg = "not a configured object"
        raise TypeError(msg)
    return replace(value, id=object_id)
