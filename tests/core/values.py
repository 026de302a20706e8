"""Small builders of the model's values, so that a test names only what it is about."""

from __future__ import annotations

from typing import TYPE_CHECKING

from broker.core.models import Origin, Policy, Provider, RoleBinding, TokenEndpointAuth

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from broker.core.identity import Role

READ_WIRE = frozenset({"account:information", "order:information"})
TRADE_WIRE = frozenset({"order:execution"})


def provider(scopes: Mapping[str, Iterable[str]] | None = None, wire_scopes: Iterable[str] = ()) -> Provider:
    """Return a provider that maps read and trade, and withdraw and admin to nothing, unless told otherwise."""
    default: Mapping[str, Iterable[str]] = {"read": sorted(READ_WIRE), "trade": TRADE_WIRE, "withdraw": ()}
    return Provider(
        id="p1",
        name="aries",
        origin=Origin.FILE,
        preset="generic",
        issuer="https://id.example",
        token_url="https://id.example/token",
        token_endpoint_auth=TokenEndpointAuth.CLIENT_SECRET_BASIC,
        scopes={name: tuple(words) for name, words in (default if scopes is None else scopes).items()},
        wire_scopes=frozenset(wire_scopes),
    )


def policy(
    name: str,
    *,
    callers: Iterable[str] = ("key:reports",),
    grants: Iterable[str] = ("desk-service",),
    scopes: Iterable[str] = ("read",),
    accept_excess: Iterable[str] = (),
    authorize: bool = False,
) -> Policy:
    """Return a policy that lets `key:reports` read with `desk-service`, unless told otherwise."""
    return Policy(
        id=f"id-{name}",
        name=name,
        origin=Origin.FILE,
        callers=tuple(callers),
        grants=tuple(grants),
        scopes=frozenset(scopes),
        accept_excess=frozenset(accept_excess),
        authorize=authorize,
    )


def role(held: Role, *callers: str) -> RoleBinding:
    """Return a binding of a role to caller patterns."""
    return RoleBinding(id=f"id-{held}", name=held.value, origin=Origin.FILE, role=held, callers=callers)
