"""What can be scripted to fail or to be late, and how."""

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
    TRUE = "true"


@dataclass(frozen=True)
class Failure:
    """One scripted failure: its reply is sent `delay_seconds` later, and a `drip` pauses before each byte."""

    target: Target = Target.TOKEN
    status: int = 500
    body: FailureBody = FailureBody.FLAT
    when: When = When.BEFORE
    error: str = "server_error"
    headers: Mapping[str, str] = field(default_factory=dict)
    drip_seconds: float = 0.1
    delay_seconds: float = 0.0


def parse_failure(fields: Mapping[str, object]) -> Failure:
    """Return the failure that these fields describe.

    Raises:
        ValueError: a field is unknown, or its value is not one it takes.
    """
    failure = Failure(**parsed(fields, _PARSERS))
    if failure.body is FailureBody.TRUE and failure.when is When.BEFORE:
        raise ValueError("body: there is a true reply only with when=after")
    return failure


_PARSERS: Mapping[str, Parser] = {
    "target": Target,
    "status": whole(200, 599),
    "body": FailureBody,
    "when": When,
    "error": text,
    "headers": headers,
    "drip_seconds": seconds,
    "delay_seconds": seconds,
}
