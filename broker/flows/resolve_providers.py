"""Providers as written → providers as used: the preset's facts, and those only the provider itself can tell."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from broker.core.config import Problem
from broker.core.config_values import NEW
from broker.core.models import Origin, Provider
from broker.core.provider_config import ProviderConfig, foreign_endpoints
from broker.core.urls import origin_of
from broker.ports import Discovery, Presets

FOREIGN: Final = (
    "discovery names the {endpoint} {at} that is neither the issuer's nor listed here: list it if it is right"
)
PLAIN_ORIGIN: Final = re.compile(r"https?://[a-z0-9.:\[\]-]{1,253}")

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

    def vocabularies(self, configs: Sequence[ProviderConfig]) -> Mapping[str, Provider]:
        """Return the providers by name, right in nothing but their scopes; without those of an unknown preset."""
        known = {config.name: self._presets.vocabulary(config) for config in configs}
        return {name: provider for name, provider in known.items() if provider is not None}

    def problems(self, configs: Sequence[ProviderConfig], told: Told, stored: Mapping[str, Provider]) -> list[Problem]:
        """Return what is wrong with endpoints told of for the first time: those at origins that were not allowed."""
        return [
            Problem(f"providers[{index}].endpoint_origins", FOREIGN.format(endpoint=name.replace("_", " "), at=_at(at)))
            for index, config in enumerate(configs)
            if config.name in told and _known(config, stored) is None
            for name, at in foreign_endpoints(config, told[config.name])
        ]

    def __call__(
        self, configs: Sequence[ProviderConfig], told: Told, stored: Mapping[str, Provider], origin: Origin
    ) -> Resolved:
        """Return the providers; one whose endpoints discovery finds elsewhere than before keeps them and is frozen.

        Raises:
            ProviderUnavailableError: what a provider told cannot be used.
        """
        providers: dict[str, Provider] = {}
        warnings = []
        for config in configs:
            metadata = told.get(config.name)
            provider = self._presets.resolve(config, metadata, provider_id=NEW, origin=origin)
            before = _known(config, stored)
            if metadata is not None and before is not None and _moved(config, metadata, before, provider):
                last = _metadata(before.issuer, before)
                provider = self._presets.resolve(config, last, provider_id=NEW, origin=origin)
                provider = replace(provider, frozen=True)
                warnings.append(
                    f"provider/{config.name}: discovery names endpoints at another origin than before; they stay as "
                    "they were, and the provider is frozen: if this is right, state it under a new name"
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
            metadata = None if issuer is None else _metadata(issuer, _known(config, stored))
            providers[config.name] = self._presets.resolve(config, metadata, provider_id=NEW, origin=origin)
        return Resolved(providers)


def _known(config: ProviderConfig, stored: Mapping[str, Provider]) -> Provider | None:
    """Return the provider as it was resolved before, if it is of the same issuer."""
    before = stored.get(config.name)
    return before if before is not None and before.issuer == config.issuer else None


def _moved(config: ProviderConfig, metadata: Mapping[str, object], before: Provider, after: Provider) -> bool:
    elsewhere = origin_of(before.token_url) != origin_of(after.token_url)
    return elsewhere or bool(foreign_endpoints(config, metadata))


def _at(origin: str) -> str:
    """Return where, for an operator to see; what could be anything but a plain host stays out of the message."""
    return f"at {origin}" if PLAIN_ORIGIN.fullmatch(origin) else "at an origin"


def _metadata(issuer: str, known: Provider | None) -> Mapping[str, object]:
    """Return the metadata (RFC 8414 §2) a provider was resolved from, as far as we use it."""
    if known is None:
        return {"issuer": issuer, "token_endpoint": issuer}
    found = {
        "issuer": issuer,
        "token_endpoint": known.token_url,
        "authorization_endpoint": known.authorize_url,
        "revocation_endpoint": known.revocation_url,
    }
    return {name: value for name, value in found.items() if value is not None}
