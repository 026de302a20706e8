"""The audit event: a closed set of fields, none of which can hold a secret, every string bounded."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from enum import StrEnum
from operator import attrgetter
from typing import Any, Final

MAX_TEXT: Final = 512
"""Longest string in an event, in bytes of UTF-8."""


class Action(StrEnum):
    """What happened, as `subject:action`; a closed grammar."""

    TOKEN_ISSUE = "token:issue"  # noqa: S105
    TOKEN_DENY = "token:deny"  # noqa: S105
    GRANT_REDEEM = "grant:redeem"
    GRANT_IMPORT = "grant:import"
    GRANT_AUTHORIZE = "grant:authorize"
    GRANT_QUARANTINE = "grant:quarantine"
    GRANT_FREEZE = "grant:freeze"
    GRANT_UNFREEZE = "grant:unfreeze"
    GRANT_REVOKE = "grant:revoke"
    GRANT_SETTLE = "grant:settle"
    GRANT_SUSPECT = "grant:suspect"
    GRANT_RELEASE = "grant:release"
    LOGIN_START = "login:start"
    LOGIN_IDENTIFY = "login:identify"
    LOGIN_CONFIRM = "login:confirm"
    LOGIN_RECEIVE = "login:receive"
    LOGIN_FAIL = "login:fail"
    CONFIG_APPLY = "config:apply"
    CONFIG_PUT = "config:put"
    CONFIG_REMOVE = "config:remove"
    SECRET_ADD = "secret:add"  # noqa: S105
    KEY_CREATE = "key:create"
    KEY_DISABLE = "key:disable"
    PROVIDER_PROVE = "provider:prove"
    PROVIDER_FREEZE = "provider:freeze"
    PROVIDER_UNFREEZE = "provider:unfreeze"
    ADMIN_READ = "admin:read"
    RPC_DENY = "rpc:deny"
    BROKER_START = "broker:start"
    BROKER_STOP = "broker:stop"


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """One outcome. `actor` is the printed caller id, empty when nobody was authenticated.

    Attributes:
        request_id: ours; the caller's own id is kept apart.
        reason: reason name of a denial, empty when allowed.
        source: where a token came from (memory, store, provider), for token:issue.
        fingerprint: keyed fingerprint of the token handed out.
        excess: wire scopes beyond those asked, if policy accepted any.
        detail: our own words from closed lists; never a peer's.
        count: how many like events this one stands for.
    """

    time: datetime
    action: Action
    actor: str = ""
    peer: str = ""
    request_id: str = ""
    caller_request_id: str = ""
    method: str = ""
    reason: str = ""
    grant: str = ""
    client: str = ""
    provider: str = ""
    policy: str = ""
    scopes: str = ""
    granted: str = ""
    excess: str = ""
    narrowing: str = ""
    source: str = ""
    fingerprint: str = ""
    object_kind: str = ""
    object_name: str = ""
    detail: str = ""
    count: int = 1

    def bounded(self) -> AuditEvent:
        """Return the event with every string cut at MAX_TEXT bytes, on a character's boundary."""
        if max(map(len, _TEXTS(self))) * _LONGEST_CHARACTER <= MAX_TEXT:
            return self
        cut: dict[str, Any] = {name: _cut(getattr(self, name)) for name in _TEXT_NAMES}
        return replace(self, **cut)


def _cut(text: str) -> str:
    return text.encode()[:MAX_TEXT].decode(errors="ignore")


def to_json(event: AuditEvent) -> str:
    """Return the event as one line of ASCII JSON: fields in the order above, empty ones and a count of 1 left out.

    ASCII, because a NUL or a lone surrogate in a text column would be refused by PostgreSQL, again and again.
    """
    facts: dict[str, str | int] = {"time": event.time.astimezone(UTC).isoformat(timespec="microseconds")}
    facts.update((name, value) for name, value in zip(_AFTER_TIME, _VALUES(event), strict=True) if value and value != 1)
    return _ENCODER.encode(facts)


def from_json(text: str) -> AuditEvent:
    """Return the event that `to_json` wrote; fields this version does not know are left out.

    Raises:
        ValueError: it is no event, or its action is not one of ours.
    """
    try:
        facts = {name: value for name, value in json.loads(text).items() if name in _AFTER_TIME or name == "time"}
        facts["time"] = datetime.fromisoformat(facts["time"])
        facts["action"] = Action(facts["action"])
        return AuditEvent(**facts)
    except (KeyError, TypeError, AttributeError) as error:
        msg = "not an audit event"
        raise ValueError(msg) from error


_LONGEST_CHARACTER: Final = 4  # bytes of UTF-8
_TEXT_NAMES: Final = tuple(item.name for item in fields(AuditEvent) if item.type == "str")
_TEXTS: Final = attrgetter(*_TEXT_NAMES)
_ENCODER: Final = json.JSONEncoder(separators=(",", ":"))
_AFTER_TIME: Final = tuple(item.name for item in fields(AuditEvent) if item.name != "time")
_VALUES: Final = attrgetter(*_AFTER_TIME)
