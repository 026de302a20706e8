"""Applying a configuration file.

read what is stored ▸ revision: older → refused, same → nothing but missing first secrets
▸ check every object, alone and together ▸ ask generic providers for their endpoints
▸ now that no other change runs: read and check again ▸ read first secrets
▸ write the difference with its event, all or nothing ▸ store first secrets
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from broker.core import config_change, config_rules
from broker.core.audit import Action
from broker.core.config import ConfigFile, Problem, merged, paths_of, sections
from broker.core.config_change import Difference, difference, label
from broker.core.config_references import Staying
from broker.core.config_values import Configured, build_object, catalog_objects, catalog_of
from broker.core.config_warnings import policy_warnings, provider_warnings
from broker.core.errors import InvalidRequestError, RevisionStaleError
from broker.core.models import Catalog, Grant, Kind, Origin, Provider
from broker.core.secret import Secret
from broker.flows.check_config import CheckConfig
from broker.flows.check_removal import removal_problems
from broker.flows.first_secrets import FirstSecrets
from broker.flows.resolve_providers import Resolved, ResolveProviders, Told
from broker.flows.stored_config import StoredConfig, put, read_for_file, remove, settled
from broker.flows.trail import Trail
from broker.ports import CatalogStore, Clock, GrantStore, SecretSource


@dataclass(frozen=True, slots=True)
class Applied:
    """What an apply did, or would do; names as `kind/name`, in `first_secrets` of clients that had none."""

    version: int
    created: tuple[str, ...] = ()
    updated: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    first_secrets: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done: objects written, secrets stored, things said; `after` is the catalogue it leads to."""

    stored: StoredConfig
    change: Difference
    after: Catalog
    first_secrets: Mapping[str, Secret]
    warnings: tuple[str, ...]


class ApplyConfig:
    """Make the objects of origin file equal to a configuration; touches no object of another origin and no state."""

    def __init__(  # noqa: PLR0913 - each is a port or a part of the flow
        self,
        *,
        catalogs: CatalogStore,
        grants: GrantStore,
        clock: Clock,
        check: CheckConfig,
        resolve: ResolveProviders,
        first_secrets: FirstSecrets,
        changing: asyncio.Lock,
        new_id: Callable[[], str],
    ) -> None:
        """Wire the flow; all that change the configuration of this process share one `changing`."""
        self._catalogs = catalogs
        self._grants = grants
        self._clock = clock
        self._check = check
        self._resolve = resolve
        self._first_secrets = first_secrets
        self._changing = changing
        self._new_id = new_id

    async def __call__(
        self,
        config: ConfigFile,
        first_secrets: Mapping[str, Secret | SecretSource],
        trail: Trail,
        *,
        dry_run: bool = False,
        remote: bool = False,
    ) -> Applied:
        """Apply all of it or nothing; the same file once more changes nothing.

        Args:
            config: the configuration.
            first_secrets: by client name; used only for clients that have no secret.
            trail: who applies it.
            dry_run: check everything, change nothing.
            remote: it came over the network, not from a file the broker read itself.

        Raises:
            InvalidRequestError: naming everything that is wrong.
            RevisionStaleError: this revision, or a later one, was applied with other content.
            ProviderUnavailableError: discovery failed.
            StoreUnavailableError: the store is away; nothing was applied but, perhaps, some first secrets.
        """
        trail.object_kind, trail.object_name = "config", f"revision {config.revision}"
        not_here = config_rules.remote_problems(config) if remote else []

        async def once() -> Applied:
            stored = await self._read(config)
            if config.revision > stored.catalog.revision:
                plan = await self._plan(config, stored, first_secrets, told, not_here, trail)
            else:
                plan = await self._unchanged(config, stored, first_secrets, not_here)
            return _applied(
                plan, stored.catalog.version if dry_run else await self._write(config.revision, plan, trail)
            )

        told = await self._ask(config, first_secrets, not_here, trail)
        async with self._changing:
            return await settled(once)

    async def _read(self, config: ConfigFile) -> StoredConfig:
        named = {name for policy in config.policies for name in policy.grants}
        return await read_for_file(self._catalogs, self._grants, named | {grant.name for grant in config.grants})

    async def _ask(
        self,
        config: ConfigFile,
        given: Mapping[str, Secret | SecretSource],
        not_here: Sequence[Problem],
        trail: Trail,
    ) -> Told:
        """Return what providers tell; nothing is asked for a configuration that is refused or was applied already.

        It may take long, so other changes, such as the end of a key, do not wait for it.
        """
        if not self._resolve.must_ask(config.providers):
            return {}
        stored = await self._read(config)
        if config.revision <= stored.catalog.revision:
            return {}
        await self._check_objects(config, stored, given, not_here)
        return await self._resolve.ask(config.providers, trail)

    # --- checking ----------------------------------------------------------------------------------------------------

    async def _unchanged(
        self,
        config: ConfigFile,
        stored: StoredConfig,
        given: Mapping[str, Secret | SecretSource],
        not_here: Sequence[Problem],
    ) -> Plan:
        """Return a plan of nothing but first secrets that are still missing."""
        _refuse([*config_rules.problems(config), *not_here])
        if config.revision < stored.catalog.revision:
            raise _stale(stored.catalog, "a newer revision of the file was applied")
        resolved = self._resolve.without_asking(config.providers, stored.catalog.providers, Origin.FILE)
        if difference(stored.of_origin(Origin.FILE), _wanted(config, resolved)):
            raise _stale(stored.catalog, "this revision was applied with other content: raise it")
        first, warnings, unread = await self._read_secrets(config, stored, given)
        _refuse(unread)
        return Plan(stored, Difference(), stored.catalog, first, tuple(warnings))

    async def _plan(  # noqa: PLR0913 - what is wanted, what is there, what was told
        self,
        config: ConfigFile,
        stored: StoredConfig,
        given: Mapping[str, Secret | SecretSource],
        told: Told,
        not_here: Sequence[Problem],
        trail: Trail,
    ) -> Plan:
        mine, staying = await self._check_objects(config, stored, given, not_here)
        known = self._resolve.without_asking(config.providers, stored.catalog.providers, Origin.FILE)
        expected = _after(staying, mine, difference(mine, _wanted(config, known)))
        first, warnings, unread = await self._read_secrets(config, stored, given)
        foreign = self._resolve.problems(config.providers, told, stored.catalog.providers)
        _refuse([*await self._check.admins(stored.catalog, expected), *unread, *foreign])
        resolved = self._resolve(config.providers, told, stored.catalog.providers, Origin.FILE, trail)
        change = difference(mine, _wanted(config, resolved))
        change = replace(change, created=tuple(replace(value, id=self._new_id()) for value in change.created))
        after = _after(staying, mine, change)
        warnings += resolved.warnings
        warnings += config_change.warnings(mine, change)
        warnings += provider_warnings(
            after.providers[value.name] for value in (*change.created, *change.updated) if isinstance(value, Provider)
        )
        warnings += policy_warnings(
            after.policies, after.roles, {grant.name for grant in config.grants} | set(staying.grants)
        )
        return Plan(stored, change, after, first, tuple(warnings))

    async def _check_objects(
        self,
        config: ConfigFile,
        stored: StoredConfig,
        given: Mapping[str, Secret | SecretSource],
        not_here: Sequence[Problem],
    ) -> tuple[Collection[Configured], Staying]:
        """Return the objects the file had and those that are not its, if nothing is wrong."""
        mine = stored.of_origin(Origin.FILE)
        staying = stored.staying(lambda value: value.origin is Origin.FILE)
        wanted = {grant.name for grant in config.grants}
        removed = [value for value in mine if isinstance(value, Grant) and value.name not in wanted]
        problems = [
            *self._check.objects(config, mine, staying),
            *await removal_problems(self._grants, removed),
            *not_here,
        ]
        if problems:  # all at once: also the secrets that are missing
            _, _, unread = await self._read_secrets(config, stored, given)
            _refuse([*problems, *unread])
        return mine, staying

    async def _read_secrets(
        self, config: ConfigFile, stored: StoredConfig, given: Mapping[str, Secret | SecretSource]
    ) -> tuple[dict[str, Secret], list[str], list[Problem]]:
        """Read the first secrets of the file's clients, and of those that stay."""
        paths = {name: path for (kind, name), path in paths_of(config).items() if kind is Kind.CLIENT}
        known = {name: client.id for name, client in stored.catalog.clients.items()}
        staying = {name for name, client in stored.catalog.clients.items() if client.origin is not Origin.FILE}
        clients = {name: known.get(name, "") for name in paths.keys() | staying}
        return await self._first_secrets.read(given, clients, paths)

    # --- writing -----------------------------------------------------------------------------------------------------

    async def _write(self, revision: int, plan: Plan, trail: Trail) -> int:
        version = plan.stored.catalog.version
        if revision != plan.stored.catalog.revision:
            change = plan.change
            event = trail.event(Action.CONFIG_APPLY, self._clock.now(), detail=_told(change, plan.stored.catalog))
            changes = [
                *(remove(value) for value in change.removed),
                *(put(value) for value in (*change.updated, *change.created)),
            ]
            version = await self._catalogs.write_objects(
                changes, revision=revision, event=event, expected_version=plan.stored.catalog.version
            )
        for name, secret in plan.first_secrets.items():
            client = plan.after.clients[name]
            await self._first_secrets.store(client, plan.after.providers[client.provider], secret, trail)
        return version


def _applied(plan: Plan, version: int) -> Applied:
    return Applied(
        version,
        tuple(sorted(map(label, plan.change.created))),
        tuple(sorted(map(label, plan.change.updated))),
        tuple(sorted(map(label, plan.change.removed))),
        plan.warnings,
        tuple(sorted(label(plan.after.clients[name]) for name in plan.first_secrets)),
    )


def _wanted(config: ConfigFile, resolved: Resolved) -> tuple[Configured, ...]:
    others = (item for kind, (_, items) in sections(config).items() if kind is not Kind.PROVIDER for item in items)
    return (*resolved.providers.values(), *(build_object(item, Origin.FILE) for item in others))


def _after(staying: Staying, mine: Collection[Configured], change: Difference) -> Catalog:
    return catalog_of((*catalog_objects(staying.catalog), *config_change.after(mine, change)))


def _told(change: Difference, before: Catalog) -> str:
    """Return the change in a few words; names follow as far as an event has room."""
    frozen = [
        value
        for value in change.updated
        if isinstance(value, Provider) and value.frozen and not before.providers[value.name].frozen
    ]
    froze = f"froze {' '.join(map(label, frozen))}; " if frozen else ""
    parts = [("created", change.created), ("updated", change.updated), ("removed", change.removed)]
    counts = ", ".join(f"{len(values)} {word}" for word, values in parts)
    names = "; ".join(f"{word} {' '.join(sorted(map(label, values)))}" for word, values in parts if values)
    return froze + (f"{counts}: {names}" if names else counts)


def _refuse(problems: Sequence[Problem]) -> None:
    if problems:
        raise InvalidRequestError(
            f"the configuration has {len(problems)} problem{'s' if len(problems) > 1 else ''}; nothing was applied",
            fields=merged(problems),
        )


def _stale(catalog: Catalog, public: str) -> RevisionStaleError:
    return RevisionStaleError(public, metadata={"stored_revision": str(catalog.revision)})
