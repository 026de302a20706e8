"""Configured objects and audit events as canonical JSON text and back; pure.

The same value always gives the same text, so that a MAC over the text is a MAC over the value.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import fields
from datetime import datetime
from enum import Enum
from fractions import Fraction
from typing import Any

from broker.core.identity import Role
from broker.core.models import (
    AbsentScope,
    Client,
    Issuer,
    Kind,
    Limit,
    LimitTarget,
    Moved,
    NarrowingProfile,
    NarrowingProof,
    Origin,
    Policy,
    Provider,
    ReplayKind,
    RoleBinding,
    TokenEndpointAuth,
    Window,
)

StoredObject = Provider | Client | Policy | Limit | Issuer | RoleBinding
"""What lies in the objects table; grants have columns of their own."""

_HEAD = {"id", "name", "origin", "version"}
"""Attributes with columns of their own."""

Body = dict[str, Any]


def encode_object(value: StoredObject) -> str:
    """Return everything of the object but id, name and origin as canonical JSON."""
    return _dump({f.name: _plain(getattr(value, f.name)) for f in fields(value) if f.name not in _HEAD})


def decode_object(kind: Kind, object_id: str, name: str, origin: Origin, body: str) -> StoredObject:
    """Return the object a row holds; attributes the text lacks have their defaults."""
    head = {"id": object_id, "name": name, "origin": origin}
    return _DECODERS[kind](head | json.loads(body))


def mac_input(table: str, *parts: str) -> bytes:
    """Return the facts of a row as bytes in which no two different rows are alike: each part length-prefixed."""
    encoded = [part.encode() for part in (table, *parts)]
    return b"".join(len(part).to_bytes(4, "big") + part for part in encoded)


def encode_names(names: frozenset[str]) -> str:
    """Return a set of names as a canonical JSON list."""
    return _dump(sorted(names))


def decode_names(text: str) -> frozenset[str]:
    """Return the set that `encode_names` wrote."""
    return frozenset(json.loads(text))


def _dump(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _plain(value: object) -> object:  # noqa: PLR0911 - one return per kind of value
    """Return `value` in JSON's own types."""
    match value:
        case Enum():
            return value.value
        case datetime():
            return value.isoformat()
        case Fraction():
            return str(value)
        case NarrowingProof():
            return {"profile": value.profile.value, "token_url": value.token_url}
        case Moved():
            return {each.name: getattr(value, each.name) for each in fields(value)}
        case Window():
            return {"rate": str(value.rate), "burst": value.burst}
        case frozenset():
            return sorted(value)
        case tuple():
            return [_plain(item) for item in value]
        case Mapping():
            return {key: _plain(item) for key, item in value.items()}
        case _:
            return value


def _provider(body: Body) -> Provider:
    return Provider(
        **body
        | {
            "token_endpoint_auth": TokenEndpointAuth(body["token_endpoint_auth"]),
            "scopes": {name: tuple(wire) for name, wire in body["scopes"].items()},
            "wire_scopes": frozenset(body["wire_scopes"]),
            "api_origins": tuple(body["api_origins"]),
            "endpoint_origins": tuple(body.get("endpoint_origins", ())),
            "resources": tuple(body.get("resources", ())),
            "login_scopes": tuple(body.get("login_scopes", ())),
            "narrowing": NarrowingProfile(body["narrowing"]),
            "proof": _proof(body.get("proof")),
            "absent_scope": AbsentScope(body["absent_scope"]),
            "replay_kind": None if body.get("replay_kind") is None else ReplayKind(body["replay_kind"]),
            "unspent_statuses": frozenset(body.get("unspent_statuses", ())),
            "moved": _moved(body.get("moved")),
        }
    )


def _moved(body: Body | None) -> Moved | None:
    return None if body is None else Moved(**body | {"unlisted": tuple(body["unlisted"])})


def _proof(body: Body | None) -> NarrowingProof | None:
    return None if body is None else NarrowingProof(NarrowingProfile(body["profile"]), body["token_url"])


def _client(body: Body) -> Client:
    return Client(**body | {"redirect_uris": tuple(body.get("redirect_uris", ()))})


def _policy(body: Body) -> Policy:
    return Policy(
        **body
        | {
            "callers": tuple(body["callers"]),
            "grants": tuple(body["grants"]),
            "scopes": frozenset(body["scopes"]),
            "accept_excess": frozenset(body["accept_excess"]),
        }
    )


def _limit(body: Body) -> Limit:
    windows = tuple(Window(Fraction(window["rate"]), window["burst"]) for window in body["windows"])
    return Limit(
        **body | {"applies_to": LimitTarget(body["applies_to"]), "key": tuple(body["key"]), "windows": windows}
    )


def _issuer(body: Body) -> Issuer:
    return Issuer(**body | {"algorithms": tuple(body["algorithms"]), "extra_audiences": tuple(body["extra_audiences"])})


def _role(body: Body) -> RoleBinding:
    return RoleBinding(**body | {"role": Role(body["role"]), "callers": tuple(body["callers"])})


_DECODERS: Mapping[Kind, Callable[[Body], StoredObject]] = {
    Kind.PROVIDER: _provider,
    Kind.CLIENT: _client,
    Kind.POLICY: _policy,
    Kind.LIMIT: _limit,
    Kind.ISSUER: _issuer,
    Kind.ROLE: _role,
}
