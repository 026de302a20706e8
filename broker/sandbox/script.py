"""What can be scripted to fail, and how."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from broker.sandbox.parsing import Parser, headers, parsed, seconds, text, whole

MAX_FAILURES = 10_000


class Target(StrEnum):
    """Which calls a scripted failure is for."""

    TOKEN = "token"  # noqa: S105, the name of an endpoint
    API = "api"
    REVOKE = "revoke"


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
class Failure:
    """One scripted failure; `drip_seconds` is the pause before each byte of a `drip`."""

    target: Target = Target.TOKEN
    status: int = 500
    body: FailureBody = FailureBody.FLAT
    when: When = When.BEFORE
    error: str = "server_error"
    headers: Mapping[str, str] = field(default_factory=dict)
    drip_seconds: float = 0.1


def parse_failure(fields: Mapping[str, object]) -> Failure:
    """Return the failure that these fields describe.

    Raises:
        ValueError: a field is unknown, or its value is not one it takes.
    """
    return Failure(**parsed(fields, _PARSERS))


_PARSERS: Mapping[str, Parser] = {
    "target": Target,
    "status": whole(200, 599),
    "body": FailureBody,
    "when": When,
    "error": text,
    "headers": headers,
    "drip_seconds": seconds,
}
