"""Showing operators what is configured and how the grants are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from broker.core.audit import Action
from broker.core.config_rules import NAME
from broker.core.config_values import Configured, catalog_objects, kind_of
from broker.core.errors import InvalidRequestError, NotFoundError
from broker.core.freeze import frozen_reason
from broker.core.models import Grant, Kind
from broker.flows.trail import Trail
from broker.ports import AttemptRecord, AuditSink, CatalogStore, Clock, GrantStore

DEFAULT_PAGE: Final = 100
MAX_PAGE: Final = 1000
MAX_ATTEMPTS: Final = 50
"""Attempts shown of a grant's history."""


@dataclass(frozen=True, slots=True)
class Listing:
    """Objects of one kind, in name order, as of a version and a revision of the file."""

    objects: tuple[Configured, ...]
    version: int
    revision: int


@dataclass(frozen=True, slots=True)
class ShownGrant:
    """A grant, and why its provider is frozen, if it is."""

    grant: Grant
    provider_frozen: str


@dataclass(frozen=True, slots=True)
class GrantPage:
    """Grants in name order; `next_after` is empty on the last page."""

    grants: Sequence[ShownGrant]
    next_after: str


class ReadConfig:
    """The reading stories."""

    def __init__(self, *, catalogs: CatalogStore, grants: GrantStore, audit: AuditSink, clock: Clock) -> None:
        self._catalogs = catalogs
        self._grants = grants
        self._audit = audit
        self._clock = clock

    async def list_objects(self, kind: Kind, trail: Trail) -> Listing:
        """Return the objects of a kind.

        Raises:
            InvalidRequestError: grants are listed a page at a time.
            StoreUnavailableError: the store is away.
        """
        if kind is Kind.GRANT:
            raise InvalidRequestError("grants have a list of their own", fields={"kind": "not grant"})
        await self._note(trail, f"{kind} list")
        catalog = await self._catalogs.load_catalog()
        found = (value for value in catalog_objects(catalog) if kind_of(value) is kind)
        return Listing(tuple(sorted(found, key=lambda value: value.name)), catalog.version, catalog.revision)

    async def list_grants(self, after: str, page_size: int, trail: Trail) -> GrantPage:
        """Return at most `page_size` grants (0 means 100) after a name.

        Raises:
            InvalidRequestError: the page size is not 0 to 1000, or `after` no grant's name.
            StoreUnavailableError: the store is away.
        """
        if not 0 <= page_size <= MAX_PAGE:
            problem = f"0 to {MAX_PAGE}"
            raise InvalidRequestError(f"the page size is {problem}", fields={"page_size": problem})
        check_after(after, "page_token")
        await self._note(trail, "grant list")
        size = page_size or DEFAULT_PAGE
        found = await self._grants.list_grants(after, size + 1)
        shown = await self._shown(found[:size])
        return GrantPage(shown, found[size - 1].name if len(found) > size else "")

    async def get_grant(self, name: str, trail: Trail) -> tuple[ShownGrant, Sequence[AttemptRecord]]:
        """Return a grant and its newest attempts.

        Raises:
            NotFoundError: no such grant.
            StoreUnavailableError: the store is away.
        """
        trail.grant = name
        await self._note(trail, "grant")
        grant = await self._grants.find_grant(name)
        if grant is None:
            raise NotFoundError("there is no such grant", metadata={"kind": Kind.GRANT.value, "name": name})
        (shown,) = await self._shown([grant])
        return shown, await self._grants.list_attempts(grant.id, MAX_ATTEMPTS)

    async def _shown(self, grants: Sequence[Grant]) -> Sequence[ShownGrant]:
        catalog = await self._catalogs.load_catalog()
        clients = {name: catalog.providers.get(client.provider) for name, client in catalog.clients.items()}
        why = {name: frozen_reason(provider) for name, provider in clients.items() if provider is not None}
        return [ShownGrant(grant, why.get(grant.client, "")) for grant in grants]

    async def _note(self, trail: Trail, what: str) -> None:
        """Record the reading before anything is read."""
        await self._audit.record(trail.event(Action.ADMIN_READ, self._clock.now(), detail=what))


def check_after(after: str, field: str) -> None:
    """Return when a page can begin after a name.

    Raises:
        InvalidRequestError: no grant can be called so.
    """
    if after and not NAME.fullmatch(after):
        problem = "must be a name of the page before"
        raise InvalidRequestError(f"{field}: {problem}", fields={field: problem})
