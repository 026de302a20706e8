"""What is peculiar to one provider: the facts its configuration may leave out."""

from __future__ import annotations

from collections.abc import Mapping

from broker.adapters.presets import aries, generic
from broker.core.models import Origin, Provider
from broker.core.provider_config import Preset, ProviderConfig


def needs_discovery(config: ProviderConfig) -> str | None:
    """Return the issuer whose metadata `resolve` needs, or None when the configuration says it all."""
    return config.issuer if config.preset == Preset.GENERIC and config.token_url is None else None


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
