"""Why a provider is frozen, and what unfreezing it accepts."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Final

from broker.core.models import Provider
from broker.core.urls import origin_of

PLAIN_ORIGIN: Final = re.compile(r"https?://[a-z0-9.:\[\]-]{1,253}")


def shown_origin(origin: str) -> str:
    """Return where, for an operator to see; what could be anything but a plain host stays out of the text."""
    return f"at {origin}" if PLAIN_ORIGIN.fullmatch(origin) else "at an origin"


def frozen_reason(provider: Provider) -> str:
    """Return why a provider is frozen, in words; nothing when it is not."""
    if not provider.frozen:
        return ""
    accepted, moved = origin_of(provider.token_url), provider.moved
    if moved is None:
        return f"discovery named endpoints at another origin; the token endpoint is the one accepted, at {accepted}"
    found = []
    if origin_of(moved.token_url) != accepted:
        found.append(f"the token endpoint {shown_origin(origin_of(moved.token_url))} instead of {accepted}")
    if moved.unlisted:
        unlisted = ", ".join(shown_origin(origin) for origin in moved.unlisted)
        found.append(f"endpoints {unlisted}, which `endpoint_origins` does not list")
    return f"discovery names {' and '.join(found)}"


def unfrozen(provider: Provider) -> Provider:
    """Return a frozen provider with the endpoints discovery named the last time, to be used from now on."""
    if provider.moved is None:
        return replace(provider, frozen=False)
    return replace(
        provider,
        frozen=False,
        moved=None,
        token_url=provider.moved.token_url,
        authorize_url=provider.moved.authorize_url,
        revocation_url=provider.moved.revocation_url,
    )
