"""How the sandbox is told to behave."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from broker.sandbox.parsing import Parser, mapping, on_or_off, or_none, parsed, scopes, seconds, text, truth, whole


class Narrowing(StrEnum):
    """What a narrower `scope` on a refresh does to the refresh token."""

    ADDITIONAL = "additional"
    STICKY = "sticky"
    IGNORED = "ignored"


class RotationMode(StrEnum):
    """What a refresh does to the refresh token, and its reuse within the grace; each is a rule in `rotation.py`."""

    ROTATE = "rotate"
    SAME = "same"
    SIBLINGS = "siblings"
    LAST_WINS = "last_wins"
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


class Revocation(StrEnum):
    """Whether tokens can be revoked: yes, there is no such endpoint, or it does not take this kind of token."""

    ON = "on"
    OFF = "off"
    UNSUPPORTED = "unsupported"


class Metadata(StrEnum):
    """Whether there is a metadata document."""

    ON = "on"
    OFF = "off"


class Iss(StrEnum):
    """Who a redirect says it comes from (RFC 9207): the metadata promises it, except where it is `off`."""

    OFF = "off"
    ON = "on"
    WRONG = "wrong"
    MISSING = "missing"


class StateReply(StrEnum):
    """What becomes of the request's `state` in the redirect."""

    KEPT = "kept"
    ALTERED = "altered"
    MISSING = "missing"


@dataclass(frozen=True)
class Behaviour:
    """The switches of the sandbox; the defaults are a well-behaved Aries. Spans are in seconds."""

    narrowing: Narrowing = Narrowing.ADDITIONAL
    rotation: RotationMode = RotationMode.ROTATE
    grace_seconds: float = 30.0
    reuse_detection: bool = True
    refresh_kills_access_tokens: bool = False
    revocation: Revocation = Revocation.ON
    metadata: Metadata = Metadata.ON
    scope_reply: ScopeReply = ScopeReply.HONEST
    wider_scopes: tuple[str, ...] = ("order:execution",)
    reply_scope: ReplyScope = ReplyScope.GRANTED
    scope_claim: ScopeClaim = ScopeClaim.STRING
    unregistered_scope: UnregisteredScope = UnregisteredScope.REFUSE
    access_token_seconds: int = 3600
    refresh_token_seconds: int = 2_592_000
    reply_overrides: Mapping[str, object] = field(default_factory=dict)
    code_seconds: int = 600
    code_refresh_token: bool = True
    code_subject: int | None = None
    iss: Iss = Iss.OFF
    state_reply: StateReply = StateReply.KEPT
    redirect_error: str | None = None
    plain_challenge: bool = False
    password_tries: int = 5
    mfa_tries: int = 5
    api_requests: int | None = None
    api_window_seconds: float = 1.0
    clock_skew_seconds: int = 0

    def as_json(self) -> dict[str, Any]:
        """Return the switches as JSON values."""
        return {**dataclasses.asdict(self), "wider_scopes": list(self.wider_scopes)}


def changed(behaviour: Behaviour, changes: Mapping[str, object]) -> Behaviour:
    """Return the behaviour with some switches changed.

    Raises:
        ValueError: a switch is unknown, or its value is not one it takes.
    """
    return dataclasses.replace(behaviour, **parsed(changes, _PARSERS))


_PARSERS: Mapping[str, Parser] = {
    "narrowing": Narrowing,
    "rotation": RotationMode,
    "grace_seconds": seconds,
    "reuse_detection": truth,
    "refresh_kills_access_tokens": truth,
    "revocation": on_or_off(Revocation),
    "metadata": on_or_off(Metadata),
    "scope_reply": ScopeReply,
    "wider_scopes": scopes,
    "reply_scope": ReplyScope,
    "scope_claim": ScopeClaim,
    "unregistered_scope": UnregisteredScope,
    "access_token_seconds": whole(1, 86_400),
    "refresh_token_seconds": whole(1, 315_360_000),
    "reply_overrides": mapping,
    "code_seconds": whole(0, 86_400),
    "code_refresh_token": truth,
    "code_subject": or_none(whole(0, 2**63 - 1)),
    "iss": on_or_off(Iss),
    "state_reply": StateReply,
    "redirect_error": or_none(text),
    "plain_challenge": truth,
    "password_tries": whole(1, 1_000),
    "mfa_tries": whole(1, 1_000),
    "api_requests": or_none(whole(0, 1_000_000)),
    "api_window_seconds": seconds,
    "clock_skew_seconds": whole(-86_400, 86_400),
}
