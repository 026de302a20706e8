"""The fields of `broker.yaml`, and a walk over its nodes that notes all that is wrong with them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, Final

import yaml

from broker.adapters.strict_yaml import ALIAS, line_of
from broker.core.config import (
    ClientConfig,
    GrantConfig,
    IssuerConfig,
    LimitConfig,
    PolicyConfig,
    RoleConfig,
    WindowConfig,
)
from broker.core.provider_config import ProviderConfig

INLINE_SECRETS: Final = frozenset(
    {"secret", "client_secret", "password", "refresh_token", "access_token", "private_key", "api_key", "token"}
)
"""Fields somebody might put a secret into."""


@dataclass(frozen=True, slots=True)
class FileProblem:
    """What is wrong, where: line from 1, or 0 when there are no lines; field path, empty when none is meant."""

    line: int
    field: str
    message: str

    def __str__(self) -> str:
        where = [f"line {self.line}"] if self.line else []
        return ": ".join([*where, *filter(None, [self.field]), self.message])


@dataclass(frozen=True, slots=True)
class SecretReference:
    """Where a client's first secret is read: a file or an environment variable, exactly one of them."""

    field: str
    file: str | None = None
    variable: str | None = None


Reader = Callable[["Walk", yaml.Node, str], Any]
"""Returns a node's value, or None after noting why there is none."""

_INTEGER: Final = re.compile(r"-?(0|[1-9][0-9]{0,18})")


@dataclass(slots=True)
class Walk:
    """What was found on the way.

    Attributes:
        found: problems.
        foreign: fields among them that were left out and took nothing else with them.
        lines: the line of every field path.
    """

    found: list[FileProblem] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    lines: dict[str, int] = field(default_factory=dict)

    def note(self, node: yaml.Node, path: str, message: str) -> None:
        """Note a problem; where an alias stood, that it did has been noted already."""
        if node.tag != ALIAS:
            self.found.append(FileProblem(line_of(node), path, message))

    def mapping(
        self, node: yaml.Node, path: str, readers: Mapping[str, Reader], required: set[str]
    ) -> dict[str, Any] | None:
        """Return the fields of a mapping that could be read; None when it is none or misses a required one."""
        if not isinstance(node, yaml.MappingNode):
            self.note(node, path, "must be a mapping of fields")
            return None
        values: dict[str, Any] = {}
        for name, key, value in self.entries(node, path):
            inner = f"{path}.{name}" if path else name
            self.lines[inner] = line_of(key)
            if name in readers:
                values[name] = readers[name](self, value, inner)
                continue
            self.foreign.append(inner)
            if name in INLINE_SECRETS:
                self.note(
                    key, inner, "secrets are not written here: say where to read it with secret_file or secret_env"
                )
            else:
                near = get_close_matches(name, readers, 1)
                self.note(key, inner, "unknown field" + (f", did you mean {near[0]}?" if near else ""))
        missing = sorted(required - values.keys())
        for name in missing:
            self.note(node, f"{path}.{name}" if path else name, "is required")
        given = {name: value for name, value in values.items() if value is not None}
        return None if missing or required - given.keys() else given

    def entries(self, node: yaml.MappingNode, path: str) -> list[tuple[str, yaml.Node, yaml.Node]]:
        """Return (name, key, value) of every entry whose key is plain text and the first of its name."""
        found: dict[str, tuple[str, yaml.Node, yaml.Node]] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self.note(key, path, "a field's name must be text")
            elif key.tag == "tag:yaml.org,2002:merge":
                self.note(key, path, "merge keys are not taken")
            elif key.value in found:
                self.note(key, f"{path}.{key.value}" if path else key.value, "stands there twice")
            else:
                found[key.value] = (key.value, key, value)
        return list(found.values())


def _text(walk: Walk, node: yaml.Node, path: str) -> str | None:
    if not isinstance(node, yaml.ScalarNode):
        walk.note(node, path, "must be text")
        return None
    if not node.tag.endswith(":str"):
        walk.note(node, path, "must be text: put it in quotes")
        return None
    return str(node.value)


def _number(walk: Walk, node: yaml.Node, path: str) -> int | None:
    if not isinstance(node, yaml.ScalarNode) or not node.tag.endswith(":int") or not _INTEGER.fullmatch(node.value):
        walk.note(node, path, "must be a whole number")
        return None
    return int(node.value)


def _flag(walk: Walk, node: yaml.Node, path: str) -> bool | None:
    if not isinstance(node, yaml.ScalarNode) or node.value not in {"true", "false"} or not node.tag.endswith(":bool"):
        walk.note(node, path, "must be true or false")
        return None
    return bool(node.value == "true")


def _each(read: Reader) -> Reader:
    """Return a reader of a list of what `read` reads."""

    def values(walk: Walk, node: yaml.Node, path: str) -> tuple[Any, ...] | None:
        if not isinstance(node, yaml.SequenceNode):
            walk.note(node, path, "must be a list")
            return None
        found = []
        for index, item in enumerate(node.value):
            walk.lines[f"{path}[{index}]"] = line_of(item)
            found.append(read(walk, item, f"{path}[{index}]"))
        return None if any(item is None for item in found) else tuple(found)

    return values


def _named(read: Reader) -> Reader:
    """Return a reader of a mapping from any name to what `read` reads."""

    def values(walk: Walk, node: yaml.Node, path: str) -> dict[str, Any] | None:
        if not isinstance(node, yaml.MappingNode):
            walk.note(node, path, "must be a mapping")
            return None
        found = {}
        for name, key, value in walk.entries(node, path):
            walk.lines[f"{path}.{name}"] = line_of(key)
            found[name] = read(walk, value, f"{path}.{name}")
        return None if any(item is None for item in found.values()) else found

    return values


def _object(kind: type, readers: Mapping[str, Reader], required: set[str]) -> Reader:
    """Return a reader of a dataclass of ours."""

    def value(walk: Walk, node: yaml.Node, path: str) -> object | None:
        values = walk.mapping(node, path, readers, required)
        return None if values is None else kind(**values)

    return value


def _client(walk: Walk, node: yaml.Node, path: str) -> tuple[ClientConfig, SecretReference | None] | None:
    readers = {"name": _text, "provider": _text, "client_id": _text, "secret_file": _text, "secret_env": _text}
    values = walk.mapping(node, path, readers, {"name", "provider", "client_id"})
    if values is None:
        return None
    file, variable = values.pop("secret_file", None), values.pop("secret_env", None)
    if file is not None and variable is not None:
        walk.note(node, path, "only one of secret_file and secret_env can be meant")
        return None
    name = "secret_file" if file is not None else "secret_env"
    reference = SecretReference(f"{path}.{name}", file, variable) if file is not None or variable is not None else None
    return ClientConfig(**values), reference


def _limit(walk: Walk, node: yaml.Node, path: str) -> LimitConfig | None:
    window = {"rate": _text, "burst": _number}
    windows = _each(_object(WindowConfig, window, {"rate", "burst"}))
    readers = {"name": _text, "applies_to": _text, "key": _each(_text), "windows": windows, **window}
    values = walk.mapping(node, path, readers, {"name", "applies_to", "key"})
    if values is None:
        return None
    single = {name: values.pop(name) for name in window if name in values}
    if single and ("windows" in values or len(single) < len(window)):
        walk.note(node, path, "needs both rate and burst, or windows instead of them")
        return None
    if single:
        values["windows"] = (WindowConfig(**single),)
    return LimitConfig(windows=values.pop("windows", ()), **values)


_TEXTS: Final = _each(_text)

_PROVIDER: Final[Mapping[str, Reader]] = {
    **dict.fromkeys(("name", "preset", "base_url", "issuer", "token_url", "authorize_url"), _text),
    **dict.fromkeys(("token_endpoint_auth", "narrowing", "absent_scope"), _text),
    **dict.fromkeys(("wire_scopes", "api_origins", "endpoint_origins", "resources"), _TEXTS),
    **dict.fromkeys(("default_expires_in", "replay_window"), _number),
    "scopes": _named(_TEXTS),
    "insecure_loopback": _flag,
}
_GRANT: Final[Mapping[str, Reader]] = {"name": _text, "client": _text, "type": _text, "scopes": _TEXTS}
_POLICY: Final[Mapping[str, Reader]] = {
    "name": _text,
    **dict.fromkeys(("callers", "grants", "scopes", "accept_excess"), _TEXTS),
    **dict.fromkeys(("authorize", "any_subject"), _flag),
}
_ISSUER: Final[Mapping[str, Reader]] = {
    **dict.fromkeys(("name", "issuer", "audience", "jwks_uri", "jwks_file", "ca_file", "token_file"), _text),
    **dict.fromkeys(("algorithms", "extra_audiences"), _TEXTS),
    "require": _named(_text),
}
_ROLE: Final[Mapping[str, Reader]] = {"name": _text, "role": _text, "callers": _TEXTS}

FILE: Final[Mapping[str, Reader]] = {
    "revision": _number,
    "providers": _each(_object(ProviderConfig, _PROVIDER, {"name", "preset"})),
    "clients": _each(_client),
    "grants": _each(_object(GrantConfig, _GRANT, {"name", "client", "type", "scopes"})),
    "policies": _each(_object(PolicyConfig, _POLICY, {"name", "callers", "grants", "scopes"})),
    "limits": _each(_limit),
    "issuers": _each(_object(IssuerConfig, _ISSUER, {"name", "issuer", "audience"})),
    "roles": _each(_object(RoleConfig, _ROLE, {"role", "callers"})),
}
