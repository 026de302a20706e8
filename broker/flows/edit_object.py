"""Putting and removing one object by RPC.

whose is it? the file's only with `detach` ▸ check it, and how it fits ▸ ask a provider for its endpoints
▸ now that no other change runs: read and check again ▸ write with its event
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from broker.core import config_references, config_rules
from broker.core.audit import Action, AuditEvent
from broker.core.config import ConfigFile, ConfigObject, Problem, merged, paths_of, sections
from broker.core.config_change import merge
from broker.core.config_references import Staying
from broker.core.config_values import Configured, build_object, catalog_objects, catalog_of, kind_of
from broker.core.errors import InvalidRequestError, NotFoundError, OriginConflictError
from broker.core.models import Catalog, Kind, Origin
from broker.core.provider_config import ProviderConfig
from broker.flows.check_config import CheckConfig
from broker.flows.check_removal import removal_problems
from broker.flows.resolve_providers import ResolveProviders, Told
from broker.flows.stored_config import StoredConfig, put, read_for_object, remove, settled
from broker.flows.trail import Trail
from broker.ports import CatalogStore, Clock, GrantStore, ObjectChange


@dataclass(frozen=True, slots=True)
class Put:
    """What became of an object put; `version` is the whole's after it, `warnings` deserve a look."""

    version: int
    created: bool
    warnings: tuple[str, ...] = ()


class EditObject:
    """Edit objects of origin rpc, one at a time."""

    def __init__(  # noqa: PLR0913 - each is a port or a part of the flow
        self,
        *,
        catalogs: CatalogStore,
        grants: GrantStore,
        clock: Clock,
        check: CheckConfig,
        resolve: ResolveProviders,
        changing: asyncio.Lock,
        new_id: Callable[[], str],
    ) -> None:
        self._catalogs = catalogs
        self._grants = grants
        self._clock = clock
        self._check = check
        self._resolve = resolve
        self._changing = changing
        self._new_id = new_id

    async def put(self, config: ConfigFile, trail: Trail, *, detach: bool) -> Put:
        """Create or replace the one object of `config`.

        Args:
            config: a configuration that holds nothing else.
            trail: who puts it.
            detach: take the object over if it is the file's.

        Raises:
            InvalidRequestError: something is wrong with it; fields begin with `object.`.
            OriginConflictError: it is the file's.
            ProviderUnavailableError: discovery failed.
            StoreUnavailableError: nothing was changed.
        """
        item, kind, name = _only(config)
        trail.object_kind, trail.object_name = kind.value, name

        async def once() -> Put:
            stored, old, staying = await self._checked(config, detach=detach)
            value, warnings = self._build(item, told, stored.catalog, trail)
            new = replace(value, id=self._new_id()) if old is None else merge(old, value)
            after = catalog_of((*catalog_objects(staying.catalog), new))
            _refuse(await self._check.admins(stored.catalog, after))
            detail = _told(old, "replaced") + ("; froze it" if warnings else "")
            event = trail.event(Action.CONFIG_PUT, self._clock.now(), detail=detail)
            return Put(await self._write(put(new), stored, event), created=old is None, warnings=warnings)

        told: Told = {}
        if self._resolve.must_ask(config.providers):
            await self._checked(config, detach=detach)
            told = await self._resolve.ask(config.providers, trail)  # may take long: other changes do not wait for it
        async with self._changing:
            return await settled(once)

    async def remove(self, kind: Kind, name: str, trail: Trail, *, detach: bool) -> int:
        """Remove an object and return the version after it.

        Raises:
            NotFoundError: there is none.
            OriginConflictError: it is the file's; with `detach` it is removed, and the file's next revision, as long as
                it names the object, makes a new one.
            InvalidRequestError: something still needs it, it is a grant whose refresh token was not revoked, or nobody
                could act as admin any more.
            StoreUnavailableError: nothing was changed.
        """
        trail.object_kind, trail.object_name = kind.value, name

        async def once() -> int:
            stored = await read_for_object(self._catalogs, self._grants, kind, name)
            old = stored.find(kind, name)
            if old is None:
                raise NotFoundError(f"there is no such {kind}", metadata={"kind": kind.value, "name": name})
            _check_origin(kind, name, old, detach=detach)
            staying = _without(stored, kind, name)
            missed = config_references.problems(ConfigFile(revision=1), staying)
            missed += await removal_problems(self._grants, [old])
            _refuse([*missed, *await self._check.admins(stored.catalog, staying.catalog)], "name")
            event = trail.event(Action.CONFIG_REMOVE, self._clock.now(), detail=_told(old, "removed"))
            return await self._write(remove(old), stored, event)

        async with self._changing:
            return await settled(once)

    async def _write(self, change: ObjectChange, stored: StoredConfig, event: AuditEvent) -> int:
        return await self._catalogs.write_objects(
            [change], revision=None, event=event, expected_version=stored.catalog.version
        )

    async def _checked(self, config: ConfigFile, *, detach: bool) -> tuple[StoredConfig, Configured | None, Staying]:
        """Return what is stored, the object to be replaced and all others, if nothing is wrong with the one wanted."""
        item, kind, name = _only(config)
        stored = await read_for_object(self._catalogs, self._grants, kind, name)
        old = stored.find(kind, name)
        _check_origin(kind, name, old, detach=detach)
        staying = _without(stored, kind, name)
        problems = self._check.objects(config, [] if old is None else [old], staying)
        if isinstance(item, ProviderConfig) and item.insecure_loopback:
            problems.append(Problem("providers[0].insecure_loopback", "plain http is allowed by the file only"))
        _refuse([*problems, *config_rules.remote_problems(config)])
        return stored, old, staying

    def _build(
        self, item: ConfigObject, told: Told, catalog: Catalog, trail: Trail
    ) -> tuple[Configured, tuple[str, ...]]:
        if isinstance(item, ProviderConfig):
            _refuse(self._resolve.problems((item,), told, catalog.providers))
            resolved = self._resolve((item,), told, catalog.providers, Origin.RPC, trail)
            return resolved.providers[item.name], resolved.warnings
        return build_object(item, Origin.RPC), ()


def _only(config: ConfigFile) -> tuple[ConfigObject, Kind, str]:
    """Return the one object and what it is known by.

    Raises:
        InvalidRequestError: there are more or fewer.
    """
    items = [item for _, found in sections(config).values() for item in found]
    if len(items) != 1:
        raise InvalidRequestError("name exactly one object", fields={"object": "required"})
    kind, name = next(iter(paths_of(config)))
    return items[0], kind, name


def _check_origin(kind: Kind, name: str, old: Configured | None, *, detach: bool) -> None:
    if old is not None and old.origin is Origin.FILE and not detach:
        raise OriginConflictError(
            f"the {kind} belongs to the configuration file: edit it there, or take it over with --detach",
            metadata={"kind": kind.value, "name": name},
        )


def _without(stored: StoredConfig, kind: Kind, name: str) -> Staying:
    return stored.staying(lambda value: (kind_of(value), value.name) == (kind, name))


def _told(old: Configured | None, done: str) -> str:
    if old is None:
        return "created"
    return f"{done}, was the file's" if old.origin is Origin.FILE else done


def _refuse(problems: Sequence[Problem], prefix: str = "") -> None:
    """Raise for problems; paths of the one-object configuration become paths of the request."""
    if problems:
        fields = merged([Problem(prefix or _request_path(problem.field), problem.message) for problem in problems])
        raise InvalidRequestError("; ".join(dict.fromkeys(fields.values())), fields=fields)


def _request_path(path: str) -> str:
    inside = path.partition("]")[2] if "[" in path else ""
    return f"object{inside}"
