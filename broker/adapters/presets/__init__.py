"""What is peculiar to one provider: the facts its configuration may leave out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from broker.adapters.presets import aries, generic
from broker.core.models import Origin, Provider
from broker.core.provider_config import Preset, ProviderConfig

_NOWHERE: Final = "https://nowhere.invalid/"


def needs_discovery(config: ProviderConfig) -> str | None:
    """Return the issuer whose metadata `resolve` needs, or None when the configuration says it all."""
    return config.issuer if config.preset == Preset.GENERIC and config.token_url is None else None


def vocabulary(config: ProviderConfig) -> Provider | None:
    """Return a provider right in nothing but its scopes, or None when not even its preset is known."""
    if config.preset not in set(Preset):
        return None
    scopes_alone = ProviderConfig(
        config.name, config.preset, token_url=_NOWHERE, scopes=config.scopes, wire_scopes=config.wire_scopes
    )
    return resolve(scopes_alone, None, provider_id="", origin=Origin.FILE)


def resolve(
    config: ProviderConfig, metadata: Mapping[str, object] | None, *, provider_id: str, origin: Origin
) -> Provider:
    """Return the provider of a checked configuration; `metadata` is that of `needs_discovery`'s issuer.

    Raises:
        ProviderUnavailableError: the metadata lacks or contradicts what is needed (cause `metadata_…`).
    """
    if config.preset == Preset.ARIES:
        return aries.resolve(config, metadata, provider_id=provider_id, origin=origin)
    return generic.resolve(config, metadata, provider_id=provider_id, origin=origin)
