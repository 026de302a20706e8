"""Checking a change of the configuration before anything is asked of a provider or written."""

from __future__ import annotations

from collections.abc import Collection

from broker.core import admins, config_change, config_references, config_rules
from broker.core.config import ConfigFile, Problem
from broker.core.config_references import Staying
from broker.core.config_values import Configured
from broker.core.models import Catalog
from broker.flows.resolve_providers import ResolveProviders
from broker.ports import Clock, KeyStore


class CheckConfig:
    """What apply and edits by RPC check alike."""

    def __init__(self, *, resolve: ResolveProviders, keys: KeyStore, clock: Clock, trusts_spiffe: bool) -> None:
        """Wire the checks; `trusts_spiffe` says that client certificates are taken."""
        self._resolve = resolve
        self._keys = keys
        self._clock = clock
        self._trusts_spiffe = trusts_spiffe

    def objects(self, config: ConfigFile, replaced: Collection[Configured], staying: Staying) -> list[Problem]:
        """Return everything wrong with the objects, alone and together.

        Args:
            config: the objects wanted.
            replaced: stored objects the change replaces or removes.
            staying: stored objects it leaves alone.
        """
        return [
            *config_rules.problems(config),
            *config_references.problems(config, staying),
            *config_change.identity_problems(config, replaced),
            *config_references.scope_problems(config, staying, self._resolve.vocabularies(config.providers)),
        ]

    async def admins(self, before: Catalog, after: Catalog) -> list[Problem]:
        """Return the problem that nobody could act as admin any more, if that is what the change does."""
        keys = await self._keys.list_api_keys()
        now = self._clock.now()
        had = admins.live_admins(before, keys, now, trusts_spiffe=self._trusts_spiffe)
        has = admins.live_admins(after, keys, now, trusts_spiffe=self._trusts_spiffe)
        return [Problem("roles", admins.NEEDED)] if admins.is_last_lost(had, has, keys) else []
