"""Providers as written → providers as used: the preset's facts, and those only the provider itself can tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from broker.core.config_values import NEW
from broker.core.models import Origin, Provider
from broker.core.provider_config import ProviderConfig
from broker.core.urls import origin_of
from broker.ports import Discovery, Presets

Told = Mapping[str, Mapping[str, object]]
"""The metadata of providers, by the providers' names."""


@dataclass(frozen=True, slots=True)
class Resolved:
    """The providers by name, without ids, and what discovery found to be different from before."""

    providers: Mapping[str, Provider]
    warnings: tuple[str, ...] = ()


class ResolveProviders:
    """Resolve the providers of one change."""

    def __init__(self, *, presets: Presets, discovery: Discovery) -> None:
        self._presets = presets
        self._discovery = discovery

    def must_ask(self, configs: Sequence[ProviderConfig]) -> bool:
        """Tell whether some provider's endpoints are not in its configuration."""
        return any(self._presets.needs_discovery(config) is not None for config in configs)

    async def ask(self, configs: Sequence[ProviderConfig]) -> Told:
        """Return what the providers tell that have to be asked; slow, so never while others wait to change things.

        Raises:
            ProviderUnavailableError: discovery failed.
        """
        told = {}
        for config in configs:
            issuer = self._presets.needs_discovery(config)
            if issuer is not None:
                told[config.name] = await self._discovery.discover(issuer, insecure_loopback=config.insecure_loopback)
        return told

    def __call__(
        self, configs: Sequence[ProviderConfig], told: Told, stored: Mapping[str, Provider], origin: Origin
    ) -> Resolved:
        """Return the providers; one whose discovered token endpoint moved to another origin comes back frozen.

        Raises:
            ProviderUnavailableError: what a provider told cannot be used.
        """
        providers: dict[str, Provider] = {}
        warnings = []
        for config in configs:
            metadata = told.get(config.name)
            provider = self._presets.resolve(config, metadata, provider_id=NEW, origin=origin)
            before = stored.get(config.name)
            if metadata is not None and before is not None and _moved(before, provider):
                provider = replace(provider, frozen=True)
                warnings.append(
                    f"provider/{config.name}: discovery names a token endpoint at another origin than before; the "
                    "provider is frozen: if this is right, state it under a new name"
                )
            providers[config.name] = provider
        return Resolved(providers, tuple(warnings))

    def without_asking(
        self, configs: Sequence[ProviderConfig], stored: Mapping[str, Provider], origin: Origin
    ) -> Resolved:
        """Return the providers as far as they are known: what discovery told the last time still holds.

        One that was never discovered has its scopes right and its endpoints not.
        """
        providers = {}
        for config in configs:
            issuer = self._presets.needs_discovery(config)
            before = stored.get(config.name)
            known = before if before is not None and before.issuer == issuer else None
            metadata = None if issuer is None else _metadata(issuer, known)
            providers[config.name] = self._presets.resolve(config, metadata, provider_id=NEW, origin=origin)
        return Resolved(providers)


def _moved(before: Provider, after: Provider) -> bool:
    return before.issuer == after.issuer and origin_of(before.token_url) != origin_of(after.token_url)


def _metadata(issuer: str, known: Provider | None) -> Mapping[str, object]:
    """Return the metadata (RFC 8414 §2) a provider was resolved from, as far as we use it."""
    if known is None:
        return {"issuer": issuer, "token_endpoint": issuer}
    found = {"issuer": issuer, "token_endpoint": known.token_url, "authorization_endpoint": known.authorize_url}
    return {name: value for name, value in found.items() if value is not None}
