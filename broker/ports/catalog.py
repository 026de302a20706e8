"""Everything configured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from broker.core.audit import AuditEvent
from broker.core.models import Catalog, Kind


@dataclass(frozen=True, slots=True)
class ObjectChange:
    """One write to a configured object, applied with others in one transaction.

    Attributes:
        value: the object to put (Provider, Client, Grant, Policy, Limit, Issuer or RoleBinding), or None to remove.
            For a grant only its configuration is written: a new grant gets a fresh state, an old one keeps its own.
        name: the object's name.
    """

    kind: Kind
    name: str
    value: object | None


class CatalogMovedError(Exception):
    """The version is no longer the one a change was decided on: decide again."""


class LiveGrantError(CatalogMovedError):
    """A grant to be removed has got a refresh token that its provider may still honour: decide again."""


class CatalogStore(Protocol):
    """Everything configured, and the version that says whether it moved."""

    async def load_catalog(self) -> Catalog:
        """Return all objects but grants, MACs verified, as of one version.

        Raises:
            StoreUnavailableError: when the database is away, or a MAC does not verify (cause `mac`): then nothing is
                trusted and nothing is handed out.
        """

    async def read_version(self) -> int:
        """Return `control.version`; cheap; StoreUnavailableError within one second."""

    async def changed_grants(self, since: int) -> Sequence[str] | None:
        """Return ids of grants changed after version `since`, or None when too many, or too long ago: then drop all."""

    async def write_objects(
        self,
        changes: Sequence[ObjectChange],
        *,
        revision: int | None,
        event: AuditEvent,
        expected_version: int | None = None,
    ) -> int:
        """Apply all changes and raise the version, in one transaction; return the new version.

        No grant is named twice. With one that is removed goes everything kept of it, so none is removed, nor anything
        else written, while one of them holds a token that its provider may still honour (`holds_live_token`). With
        `revision`, the stored revision must be smaller and is replaced. With `expected_version`, nothing is written
        unless the version is still that one. The event is stored in the same transaction (outbox), so that no change
        goes unrecorded.

        Raises:
            CatalogMovedError: the version is another one.
            LiveGrantError: a grant to be removed holds a refresh token that its provider may still honour.
            RevisionStaleError: the stored revision is not smaller.
            StoreUnavailableError: nothing was changed, or the outcome was read back as not changed.
        """
