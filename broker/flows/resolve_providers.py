"""Providers as written → providers as used: the preset's facts, and those only the provider itself can tell."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Final

from broker.core.config import Problem
from broker.core.config_values import NEW
from broker.core.errors import ProviderUnavailableError
from broker.core.freeze import frozen_reason, shown_origin
from broker.core.models import Moved, Origin, Provider
from broker.core.provider_config import ProviderConfig, foreign_endpoints
from broker.core.urls import origin_of
from broker.flows.trail import Trail
from broker.ports import Discovery, Presets

FOREIGN: Final = (
    "discovery names the {endpoint} {at} that is neither the issuer's nor listed here: list it if it is right"
)

REVOKED_ELSEWHERE: Final = "must be at the origin of the token endpoint, for which the client's secret is meant"

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

    async def ask(self, configs: Sequence[ProviderConfig], trail: Trail) -> Told:
        """Return what the providers tell that have to be asked; slow, so never while others wait to change things.

        Raises:
            ProviderUnavailableError: discovery failed; the text and the trail name the provider.
        """
        told = {}
        for config in configs:
            issuer = self._presets.needs_discovery(config)
            if issuer is not None:
                with _naming(config, trail):
                    told[config.name] = await self._discovery.discover(
                        issuer, insecure_loopback=config.insecure_loopback
                    )
        return told

    def vocabularies(self, configs: Sequence[ProviderConfig]) -> Mapping[str, Provider]:
        """Return the providers by name, right in nothing but their scopes; without those of an unknown preset."""
        known = {config.name: self._presets.vocabulary(config) for config in configs}
        return {name: provider for name, provider in known.items() if provider is not None}

    def problems(self, configs: Sequence[ProviderConfig], told: Told, stored: Mapping[str, Provider]) -> list[Problem]:
        """Return what is wrong with endpoints: those told of for the first time at origins that were not allowed.

        A revocation endpoint is sent our client's secret, which is sealed for the token endpoint's origin alone.
        """
        elsewhere = [
            Problem(f"providers[{index}].revocation_url", REVOKED_ELSEWHERE)
            for index, config in enumerate(configs)
            if config.revocation_url is not None
            and (token_url := self._token_url(config, told)) is not None
            and origin_of(config.revocation_url) != origin_of(token_url)
        ]
        return elsewhere + [
            Problem(
                f"providers[{index}].endpoint_origins",
                FOREIGN.format(endpoint=name.replace("_", " "), at=shown_origin(at)),
            )
            for index, config in enumerate(configs)
            if config.name in told and _known(config, stored) is None
            for name, at in foreign_endpoints(config, told[config.name])
        ]

    def __call__(
        self,
        configs: Sequence[ProviderConfig],
        told: Told,
        stored: Mapping[str, Provider],
        origin: Origin,
        trail: Trail,
    ) -> Resolved:
        """Return the providers; one whose endpoints discovery finds elsewhere than before keeps them and is frozen.

        Raises:
            ProviderUnavailableError: what a provider told cannot be used; the text and the trail name the provider.
        """
        providers: dict[str, Provider] = {}
        warnings = []
        for config in configs:
            metadata = told.get(config.name)
            with _naming(config, trail):
                provider = self._presets.resolve(config, metadata, provider_id=NEW, origin=origin)
            before = _known(config, stored)
            if metadata is not None and before is not None and _moved(config, metadata, before, provider):
                provider = self._frozen(config, metadata, before, provider)
                warnings.append(
                    f"provider/{config.name}: {frozen_reason(provider)}; they stay as they were, and the provider is "
                    f"frozen: if this is right, run `aries-broker admin providers unfreeze {config.name}`"
                )
            providers[config.name] = provider
        return Resolved(providers, tuple(warnings))

    def _token_url(self, config: ProviderConfig, told: Told) -> str | None:
        """Return where the token endpoint is, or None where that cannot be said; whoever resolves it says why."""
        try:
            provider = self._presets.resolve(config, told.get(config.name), provider_id=NEW, origin=Origin.FILE)
        except ProviderUnavailableError:
            return None
        return provider.token_url

    def _frozen(
        self, config: ProviderConfig, metadata: Mapping[str, object], before: Provider, named: Provider
    ) -> Provider:
        """Return the provider with the endpoints it had, and beside them those it is said to have now."""
        unlisted = tuple(dict.fromkeys(at for _, at in foreign_endpoints(config, metadata)))
        last = _metadata(before.issuer, before)
        provider = self._presets.resolve(config, last, provider_id=NEW, origin=named.origin)
        moved = Moved(named.token_url, named.authorize_url, named.revocation_url, unlisted)
        return replace(provider, frozen=True, moved=moved)

    def without_asking(
        self, configs: Sequence[ProviderConfig], stored: Mapping[str, Provider], origin: Origin
    ) -> Resolved:
        """Return the providers as far as they are known: what discovery told the last time still holds.

        One that was never discovered has its scopes right and its endpoints not.
        """
        providers = {}
        for config in configs:
            issuer = self._presets.needs_discovery(config)
            before = None if issuer is None else _known(config, stored)
            metadata = None if issuer is None else _metadata(issuer, before)
            provider = self._presets.resolve(config, metadata, provider_id=NEW, origin=origin)
            providers[config.name] = provider if before is None else replace(provider, moved=before.moved)
        return Resolved(providers)


def _known(config: ProviderConfig, stored: Mapping[str, Provider]) -> Provider | None:
    """Return the provider as it was resolved before, if it is of the same issuer."""
    before = stored.get(config.name)
    return before if before is not None and before.issuer == config.issuer else None


def _moved(config: ProviderConfig, metadata: Mapping[str, object], before: Provider, after: Provider) -> bool:
    elsewhere = origin_of(before.token_url) != origin_of(after.token_url)
    return elsewhere or bool(foreign_endpoints(config, metadata))


@contextmanager
def _naming(config: ProviderConfig, trail: Trail) -> Iterator[None]:
    """Say whose metadata it was that could not be had or used: there may be many providers."""
    try:
        yield
    except ProviderUnavailableError as error:
        trail.provider = config.name
        raise ProviderUnavailableError(
            f"provider/{config.name}: {error.public}",
            cause=error.cause,
            metadata=error.metadata,
            retry_after=error.retry_after,
        ) from error


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
