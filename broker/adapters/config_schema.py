"""The fields of `broker.yaml`, and a walk over its nodes that notes all that is wrong with them."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, Final, Generic, TypeVar

import yaml

from broker.adapters.strict_yaml import ALIAS, line_of, name_problem, text_problem
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


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Reader(Generic[T]):
    """How a node is read.

    Attributes:
        read: returns the value of a node at a path, or None after noting why there is none.
        empty: what stands for a value that could not be read, so that the rest can be checked all the same.
    """

    read: Callable[[Walk, yaml.Node, str], T | None]
    empty: T


_INTEGER: Final = re.compile(r"-?(0|[1-9][0-9]{0,18})")


@dataclass(slots=True)
class Walk:
    """What was found on the way.

    Attributes:
        found: problems.
        broken: paths of values that could not be read; what stands in their place is nobody's wish.
        foreign: paths of fields nobody knows.
        lines: the line of every field path.
    """

    found: list[FileProblem] = field(default_factory=list)
    broken: set[str] = field(default_factory=set)
    foreign: list[str] = field(default_factory=list)
    lines: dict[str, int] = field(default_factory=dict)

    def note(self, node: yaml.Node, path: str, message: str) -> None:
        """Note a problem; where an alias stood, that it did has been noted already."""
        if node.tag != ALIAS:
            self.found.append(FileProblem(line_of(node), path, message))

    def value(self, reader: Reader[T], node: yaml.Node, path: str) -> T:
        """Return the value of a node, or what stands for it."""
        value = reader.read(self, node, path)
        if value is None:
            self.broken.add(path)
            return reader.empty
        return value

    def mapping(
        self, node: yaml.Node, path: str, readers: Mapping[str, Reader[Any]], required: Iterable[str]
    ) -> dict[str, Any] | None:
        """Return the fields of a mapping, all that are required among them; None when it is none."""
        if not isinstance(node, yaml.MappingNode):
            self.note(node, path, "must be a mapping of fields")
            return None
        values: dict[str, Any] = {}
        for name, key, value in self.entries(node, path):
            inner = _inside(path, name)
            self.lines[inner] = line_of(key)
            if name in readers:
                values[name] = self.value(readers[name], value, inner)
                continue
            self.foreign.append(inner)
            if name in INLINE_SECRETS:
                self.note(
                    key, inner, "secrets are not written here: say where to read it with secret_file or secret_env"
                )
            else:
                near = get_close_matches(name, readers, 1)
                self.note(key, inner, "unknown field" + (f", did you mean {near[0]}?" if near else ""))
        for name in sorted(set(required) - values.keys()):
            self.note(node, _inside(path, name), "is required")
            self.broken.add(_inside(path, name))
            values[name] = readers[name].empty
        return values

    def entries(self, node: yaml.MappingNode, path: str) -> list[tuple[str, yaml.Node, yaml.Node]]:
        """Return (name, key, value) of every entry whose key is plain text and the first of its name."""
        found: dict[str, tuple[str, yaml.Node, yaml.Node]] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self.note(key, path, "a field's name must be text")
            elif key.tag == "tag:yaml.org,2002:merge":
                self.note(key, path, "merge keys are not taken")
            elif wrong := name_problem(key.value):
                self.note(key, path, wrong)
            elif key.value in found:
                self.note(key, _inside(path, key.value), "stands there twice")
            else:
                found[key.value] = (key.value, key, value)
        return list(found.values())


def _inside(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _read_text(walk: Walk, node: yaml.Node, path: str) -> str | None:
    if not isinstance(node, yaml.ScalarNode):
        walk.note(node, path, "must be text")
        return None
    wrong = text_problem(node.value) if node.tag.endswith(":str") else "must be text: put it in quotes"
    if wrong:
        walk.note(node, path, wrong)
        return None
    return str(node.value)


def _read_number(walk: Walk, node: yaml.Node, path: str) -> int | None:
    if not isinstance(node, yaml.ScalarNode) or not node.tag.endswith(":int") or not _INTEGER.fullmatch(node.value):
        walk.note(node, path, "must be a whole number")
        return None
    return int(node.value)


def _read_flag(walk: Walk, node: yaml.Node, path: str) -> bool | None:
    if not isinstance(node, yaml.ScalarNode) or node.value not in {"true", "false"} or not node.tag.endswith(":bool"):
        walk.note(node, path, "must be true or false")
        return None
    return bool(node.value == "true")


_text: Final = Reader(_read_text, "")
_number: Final = Reader(_read_number, 0)
_flag: Final = Reader(_read_flag, empty=False)


def _each(reader: Reader[T]) -> Reader[tuple[T, ...]]:
    """Return a reader of a list of what `reader` reads."""

    def values(walk: Walk, node: yaml.Node, path: str) -> tuple[T, ...] | None:
        if not isinstance(node, yaml.SequenceNode):
            walk.note(node, path, "must be a list")
            return None
        found = []
        for index, item in enumerate(node.value):
            walk.lines[f"{path}[{index}]"] = line_of(item)
            found.append(walk.value(reader, item, f"{path}[{index}]"))
        return tuple(found)

    return Reader(values, ())


def _named(reader: Reader[T]) -> Reader[Mapping[str, T]]:
    """Return a reader of a mapping from any name to what `reader` reads."""

    def values(walk: Walk, node: yaml.Node, path: str) -> Mapping[str, T] | None:
        if not isinstance(node, yaml.MappingNode):
            walk.note(node, path, "must be a mapping")
            return None
        found = {}
        for name, key, value in walk.entries(node, path):
            walk.lines[f"{path}.{name}"] = line_of(key)
            found[name] = walk.value(reader, value, f"{path}.{name}")
        return found

    return Reader(values, {})


def _object(kind: Callable[..., T], readers: Mapping[str, Reader[Any]], required: Collection[str]) -> Reader[T]:
    """Return a reader of a dataclass of ours."""

    def value(walk: Walk, node: yaml.Node, path: str) -> T | None:
        values = walk.mapping(node, path, readers, required)
        return None if values is None else kind(**values)

    return Reader(value, kind(**{name: readers[name].empty for name in required}))


def _read_client(walk: Walk, node: yaml.Node, path: str) -> tuple[ClientConfig, SecretReference | None] | None:
    values = walk.mapping(node, path, _CLIENT, {"name", "provider", "client_id"})
    if values is None:
        return None
    file, variable = values.pop("secret_file", None), values.pop("secret_env", None)
    if file is not None and variable is not None:
        walk.note(node, path, "only one of secret_file and secret_env can be meant")
    name = "secret_file" if file is not None else "secret_env"
    where = f"{path}.{name}"
    said = (file is not None or variable is not None) and where not in walk.broken
    reference = SecretReference(where, file, variable) if said else None
    return ClientConfig(**values), reference


def _read_limit(walk: Walk, node: yaml.Node, path: str) -> LimitConfig | None:
    values = walk.mapping(node, path, _LIMIT, {"name", "applies_to", "key"})
    if values is None:
        return None
    single = {name: values.pop(name) for name in _WINDOW if name in values}
    if single and ("windows" in values or len(single) < len(_WINDOW)):
        walk.note(node, path, "needs both rate and burst, or windows instead of them")
        walk.broken.add(f"{path}.windows")
    elif single:
        values["windows"] = (WindowConfig(**single),)
        walk.broken |= {f"{path}.windows[0].{name}" for name in single if f"{path}.{name}" in walk.broken}
    return LimitConfig(windows=values.pop("windows", ()), **values)


def _read_role(walk: Walk, node: yaml.Node, path: str) -> RoleConfig | None:
    values = walk.mapping(node, path, _ROLE, {"role", "callers"})
    if values is None:
        return None
    if "name" not in values and f"{path}.role" in walk.broken:  # a binding without a name is called like its role
        walk.broken.add(f"{path}.name")
    return RoleConfig(**values)


_TEXTS: Final = _each(_text)

_PROVIDER: Final[Mapping[str, Reader[Any]]] = {
    **dict.fromkeys(("name", "preset", "base_url", "issuer", "token_url", "authorize_url", "revocation_url"), _text),
    **dict.fromkeys(("token_endpoint_auth", "narrowing", "absent_scope", "replay_kind", "connect_login"), _text),
    **dict.fromkeys(("wire_scopes", "api_origins", "endpoint_origins", "resources"), _TEXTS),
    **dict.fromkeys(("default_expires_in", "replay_window"), _number),
    **dict.fromkeys(("refresh_reply_deadline", "client_credentials_reply_deadline"), _number),
    "unspent_statuses": _each(_number),
    "refresh_kills_older_access_tokens": _flag,
    "scopes": _named(_TEXTS),
    **dict.fromkeys(("insecure_loopback", "pkce_with_secret"), _flag),
    "login_scopes": _TEXTS,
    "authorize_parameters": _named(_text),
}
_CLIENT: Final[Mapping[str, Reader[Any]]] = {
    **dict.fromkeys(("name", "provider", "client_id", "secret_file", "secret_env"), _text),
    "redirect_uris": _TEXTS,
    "direct_login": _flag,
}
_GRANT: Final[Mapping[str, Reader[Any]]] = {"name": _text, "client": _text, "type": _text, "scopes": _TEXTS}
_WINDOW: Final[Mapping[str, Reader[Any]]] = {"rate": _text, "burst": _number}
_LIMIT: Final[Mapping[str, Reader[Any]]] = {
    **dict.fromkeys(("name", "applies_to"), _text),
    "key": _TEXTS,
    "windows": _each(_object(WindowConfig, _WINDOW, _WINDOW)),
    **_WINDOW,
}
_POLICY: Final[Mapping[str, Reader[Any]]] = {
    "name": _text,
    **dict.fromkeys(("callers", "grants", "scopes", "accept_excess"), _TEXTS),
    **dict.fromkeys(("authorize", "any_subject"), _flag),
}
_ISSUER: Final[Mapping[str, Reader[Any]]] = {
    **dict.fromkeys(("name", "issuer", "audience", "jwks_uri", "jwks_file", "ca_file", "token_file"), _text),
    **dict.fromkeys(("algorithms", "extra_audiences"), _TEXTS),
    "require": _named(_text),
}
_ROLE: Final[Mapping[str, Reader[Any]]] = {"name": _text, "role": _text, "callers": _TEXTS}

FILE: Final[Mapping[str, Reader[Any]]] = {
    "revision": _number,
    "providers": _each(_object(ProviderConfig, _PROVIDER, {"name", "preset"})),
    "clients": _each(Reader(_read_client, (ClientConfig("", "", ""), None))),
    "grants": _each(_object(GrantConfig, _GRANT, {"name", "client", "type", "scopes"})),
    "policies": _each(_object(PolicyConfig, _POLICY, {"name", "callers", "grants", "scopes"})),
    "limits": _each(Reader(_read_limit, LimitConfig("", "", (), ()))),
    "issuers": _each(_object(IssuerConfig, _ISSUER, {"name", "issuer", "audience"})),
    "roles": _each(Reader(_read_role, RoleConfig("", ()))),
}
