"""Who can act as admin now, so that the last one is not removed."""

from __future__ import annotations

from collections.abc import Iterable

from broker.core.identity import Role
from broker.core.models import ApiKey, Catalog

NEEDED = "nobody could act as admin any more: bind the role to a caller that can prove who it is, first"
"""Told to whoever tries to remove the last admin."""


def live_admins(catalog: Catalog, keys: Iterable[ApiKey], now: float, *, trusts_spiffe: bool) -> frozenset[str]:
    """Return the printed ids of callers that hold the role admin and can authenticate.

    Args:
        catalog: role bindings and issuers.
        keys: all API keys; one that is disabled, or a bootstrap key that is over, opens nothing.
        now: UTC, seconds.
        trusts_spiffe: client certificates are taken.
    """
    bound = {caller for binding in catalog.roles if binding.role is Role.ADMIN for caller in binding.callers}
    opening = {f"key:{key.name}" for key in keys if opens(key, now)}
    vouched = {issuer.name for issuer in catalog.issuers} | ({"spiffe"} if trusts_spiffe else set())
    return frozenset(caller for caller in bound if caller in opening or caller.partition(":")[0] in vouched)


def is_last_lost(had: frozenset[str], has: frozenset[str], keys: Iterable[ApiKey]) -> bool:
    """Tell whether a change leaves nobody, or nobody but the first admin's key where there was somebody else.

    That key is over once another admin is there, and does not come back to life by removing that one.

    Args:
        had: live admins before the change.
        has: live admins after it.
        keys: all API keys.
    """
    first = {f"key:{key.name}" for key in keys if key.bootstrap_until is not None}
    return bool(had and not has) or bool(had - first and not has - first)


def opens(key: ApiKey, now: float) -> bool:
    """Tell whether a key still proves its caller at `now` (UTC seconds)."""
    return not key.disabled and (key.bootstrap_until is None or now < key.bootstrap_until)
