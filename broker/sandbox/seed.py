"""Seeds: clients, users, accounts and behaviour from a YAML file or from flags."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

import yaml

from broker.sandbox.behaviour import changed
from broker.sandbox.config import AccountSeed, AuthMethod, ClientSeed, PositionSeed, SandboxConfig, UserSeed

Seed = TypeVar("Seed")
_ABSOLUTE_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[!-\"$-~]+")
_MFA_CODE = re.compile(r"[0-9]{6}")


def load_seed(path: Path) -> SandboxConfig:
    """Read a seed file: YAML with `clients`, `users`, `accounts`, `behaviour`; what it leaves out is the default.

    Raises:
        ValueError: the file is no such YAML, or has an unknown or missing field.
        OSError: the file cannot be read.
    """
    document = _yaml(path.read_text(encoding="utf-8"))
    sections = _mapping(document if document is not None else {}, "the seed")
    unknown = sorted(sections.keys() - {"clients", "users", "accounts", "behaviour"})
    if unknown:
        raise ValueError(f"unknown section: {', '.join(unknown)}")
    return _seeded(SandboxConfig(), sections)


def with_flags(
    config: SandboxConfig,
    *,
    clients: Sequence[str] = (),
    users: Sequence[str] = (),
    accounts: Sequence[str] = (),
    behaviour: Sequence[str] = (),
) -> SandboxConfig:
    """Return the configuration changed by flags: each a seed file's entry in one line of YAML.

    `clients`, `users` and `accounts` replace those of the configuration, `{client_id: a, client_secret: b}`;
    `behaviour` changes single switches, `narrowing=sticky`.

    Raises:
        ValueError: a flag is no such YAML, or has an unknown or missing field.
    """
    switches = [flag.partition("=") for flag in behaviour]
    sections = {
        "clients": [_yaml(flag) for flag in clients],
        "users": [_yaml(flag) for flag in users],
        "accounts": [_yaml(flag) for flag in accounts],
        "behaviour": {name: _yaml(value) for name, _, value in switches},
    }
    return _seeded(config, sections)


def _seeded(config: SandboxConfig, sections: Mapping[str, Any]) -> SandboxConfig:
    return dataclasses.replace(
        config,
        clients=_seeds(sections, "clients", _client) or config.clients,
        users=_seeds(sections, "users", _user) or config.users,
        accounts=_seeds(sections, "accounts", _account) or config.accounts,
        behaviour=changed(config.behaviour, _mapping(sections.get("behaviour") or {}, "behaviour")),
    )


def _yaml(text: str) -> object:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        # Without the cause: it quotes the line, and a secret with it.
        raise ValueError("not YAML") from None


def _seeds(
    sections: Mapping[str, Any],
    name: str,
    build: Callable[[Mapping[str, Any]], Seed],
) -> tuple[Seed, ...]:
    entries = sections.get(name)
    if entries is None:
        return ()
    if not isinstance(entries, list):
        raise ValueError(f"{name}: a list")  # noqa: TRY004, one error for everything wrong in a seed
    return tuple(build(_mapping(entry, name)) for entry in entries)


def _client(fields: Mapping[str, Any]) -> ClientSeed:
    converted = dict(fields)
    if "scopes" in converted:
        converted["scopes"] = frozenset(converted["scopes"])
    if converted.get("auth_method") is not None:
        converted["auth_method"] = AuthMethod(converted["auth_method"])
    if "redirect_uris" in converted:
        converted["redirect_uris"] = _redirect_uris(converted["redirect_uris"])
    return _build(ClientSeed, converted)


def _redirect_uris(value: object) -> tuple[str, ...]:
    """Return a client's redirect URIs: absolute and without a fragment (RFC 6749 §3.1.2)."""
    if not isinstance(value, list) or not all(isinstance(uri, str) for uri in value):
        raise ValueError("redirect_uris: a list of URIs")
    if not all(_ABSOLUTE_URI.fullmatch(uri) for uri in value):
        raise ValueError("redirect_uris: each absolute, and without a fragment")
    return tuple(value)


def _user(fields: Mapping[str, Any]) -> UserSeed:
    # YAML reads digits as a number, and drops zeros before it.
    if not isinstance(fields.get("password", ""), str):
        raise ValueError("password: a text, in quotes where it is a number")  # noqa: TRY004, as below
    code = fields.get("mfa_code", "000000")
    if not isinstance(code, str) or not _MFA_CODE.fullmatch(code):
        raise ValueError("mfa_code: six digits in quotes")
    if not isinstance(fields.get("mfa", False), bool):
        raise ValueError("mfa: true or false")  # noqa: TRY004, as below
    return _build(UserSeed, fields)


def _account(fields: Mapping[str, Any]) -> AccountSeed:
    converted = dict(fields)
    if "cash" in converted:
        converted["cash"] = Decimal(str(converted["cash"]))
    converted["positions"] = tuple(_position(_mapping(entry, "positions")) for entry in fields.get("positions", ()))
    return _build(AccountSeed, converted)


def _position(fields: Mapping[str, Any]) -> PositionSeed:
    amounts = {name: Decimal(str(value)) for name, value in fields.items() if name != "symbol"}
    return _build(PositionSeed, {**fields, **amounts})


def _build(kind: type[Seed], fields: Mapping[str, Any]) -> Seed:
    unknown = sorted(fields.keys() - {known.name for known in dataclasses.fields(kind)})  # type: ignore[arg-type]
    if unknown:
        raise ValueError(f"unknown field: {', '.join(unknown)}")
    try:
        return kind(**fields)
    except TypeError as error:
        raise ValueError(f"a field is missing: {error}") from error


def _mapping(value: object, name: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{name}: a mapping")  # noqa: TRY004, one error for everything wrong in a seed
    return value
