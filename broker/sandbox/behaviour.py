"""How the sandbox is told to behave, and to fail."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

MAX_FAILURES = 10_000

Parser = Callable[[Any], object]


class Narrowing(StrEnum):
    """What a narrower `scope` on a refresh does to the refresh token."""

    ADDITIONAL = "additional"
    STICKY = "sticky"
    IGNORED = "ignored"


class RotationMode(StrEnum):
    """What a refresh does to the refresh token; each mode is a rule in `rotation.py`."""

    ROTATE = "rotate"
    GRACE = "grace"
    NONE = "none"


class ScopeReply(StrEnum):
    """What is granted, compared with what was asked."""

    HONEST = "honest"
    IGNORE = "ignore"
    WIDER = "wider"
    NARROWER = "narrower"


class ReplyScope(StrEnum):
    """What the token reply's `scope` field says."""

    GRANTED = "granted"
    ASKED = "asked"
    ABSENT = "absent"


class ScopeClaim(StrEnum):
    """The form of the access token's `scope` claim, which is true whenever it is there."""

    STRING = "string"
    LIST = "list"
    ABSENT = "absent"


class UnregisteredScope(StrEnum):
    """What becomes of a scope that the client is not registered for."""

    REFUSE = "refuse"
    DROP = "drop"


class Target(StrEnum):
    """Which calls a scripted failure is for."""

    TOKEN = "token"  # noqa: S105, the name of an endpoint
    API = "api"


class When(StrEnum):
    """Whether a call that fails takes effect: `before` it is looked at, or `after` it was carried out."""

    BEFORE = "before"
    AFTER = "after"


class FailureBody(StrEnum):
    """What a scripted failure sends."""

    FLAT = "flat"
    NESTED = "nested"
    RFC = "rfc"
    EMPTY = "empty"
    HTML = "html"
    HUGE = "huge"
    ECHO = "echo"
    TRUNCATED = "truncated"
    DRIP = "drip"
    HANG = "hang"
    CUT = "cut"
    DROP = "drop"


@dataclass(frozen=True)
class Behaviour:
    """The switches of the sandbox; the defaults are a well-behaved Aries. Spans are in seconds."""

    narrowing: Narrowing = Narrowing.ADDITIONAL
    rotation: RotationMode = RotationMode.ROTATE
    grace_seconds: float = 30.0
    scope_reply: ScopeReply = ScopeReply.HONEST
    wider_scopes: tuple[str, ...] = ("order:execution",)
    reply_scope: ReplyScope = ReplyScope.GRANTED
    scope_claim: ScopeClaim = ScopeClaim.STRING
    unregistered_scope: UnregisteredScope = UnregisteredScope.REFUSE
    access_token_seconds: int = 3600
    refresh_token_seconds: int = 2_592_000
    reply_overrides: Mapping[str, object] = field(default_factory=dict)
    api_requests: int | None = None
    api_window_seconds: float = 1.0

    def as_json(self) -> dict[str, Any]:
        """Return the switches as JSON values."""
        return {**dataclasses.asdict(self), "wider_scopes": list(self.wider_scopes)}


@dataclass(frozen=True)
class Failure:
    """One scripted failure; `drip_seconds` is the pause before each byte of a `drip`."""

    target: Target = Target.TOKEN
    status: int = 500
    body: FailureBody = FailureBody.FLAT
    when: When = When.BEFORE
    error: str = "server_error"
    headers: Mapping[str, str] = field(default_factory=dict)
    drip_seconds: float = 0.1


def changed(behaviour: Behaviour, changes: Mapping[str, object]) -> Behaviour:
    """Return the behaviour with some switches changed.

    Raises:
        ValueError: a switch is unknown, or its value is not one it takes.
    """
    return dataclasses.replace(behaviour, **_parsed(changes, _BEHAVIOUR_PARSERS))


def parse_failure(fields: Mapping[str, object]) -> Failure:
    """Return the failure that these fields describe.

    Raises:
        ValueError: a field is unknown, or its value is not one it takes.
    """
    return Failure(**_parsed(fields, _FAILURE_PARSERS))


def _parsed(fields: Mapping[str, object], parsers: Mapping[str, Parser]) -> dict[str, Any]:
    unknown = sorted(fields.keys() - parsers.keys())
    if unknown:
        raise ValueError(f"unknown: {', '.join(unknown)}; known: {', '.join(parsers)}")
    parsed = {}
    for name, value in fields.items():
        try:
            parsed[name] = parsers[name](value)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{name}: {error}") from error
    return parsed


def _whole(least: int, most: int) -> Parser:
    def parse(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise ValueError(f"a whole number from {least} to {most}")
        return value

    return parse


def _seconds(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        raise ValueError("a number of seconds")
    return float(value)


def _scopes(value: object) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not all(isinstance(scope, str) for scope in value):
        raise ValueError("a list of scopes")
    return tuple(value)


def _mapping(value: object) -> Mapping[str, object]:
    if not isinstance(value, Mapping):
        raise ValueError("an object")  # noqa: TRY004, one error for every wrong value
    return dict(value)


def _text(value: object) -> str:
    return str(value)


def _headers(value: object) -> Mapping[str, str]:
    return {name: str(text) for name, text in _mapping(value).items()}


def _or_none(parse: Parser) -> Parser:
    return lambda value: None if value is None else parse(value)


_BEHAVIOUR_PARSERS: Mapping[str, Parser] = {
    "narrowing": Narrowing,
    "rotation": RotationMode,
    "grace_seconds": _seconds,
    "scope_reply": ScopeReply,
    "wider_scopes": _scopes,
    "reply_scope": ReplyScope,
    "scope_claim": ScopeClaim,
    "unregistered_scope": UnregisteredScope,
    "access_token_seconds": _whole(1, 86_400),
    "refresh_token_seconds": _whole(1, 315_360_000),
    "reply_overrides": _mapping,
    "api_requests": _or_none(_whole(0, 1_000_000)),
    "api_window_seconds": _seconds,
}

_FAILURE_PARSERS: Mapping[str, Parser] = {
    "target": Target,
    "status": _whole(200, 599),
    "body": FailureBody,
    "when": When,
    "error": _text,
    "headers": _headers,
    "drip_seconds": _seconds,
}
