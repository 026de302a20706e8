"""The audit event: a closed set of fields, none of which can hold a secret, every string bounded."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from datetime import datetime
from enum import StrEnum
from typing import Final

MAX_TEXT: Final = 512
"""Longest string in an event, in bytes of UTF-8."""


class Action(StrEnum):
    """What happened, as `subject:action`; a closed grammar."""

    TOKEN_ISSUE = "token:issue"  # noqa: S105
    TOKEN_DENY = "token:deny"  # noqa: S105
    GRANT_REDEEM = "grant:redeem"
    GRANT_IMPORT = "grant:import"
    GRANT_QUARANTINE = "grant:quarantine"
    CONFIG_APPLY = "config:apply"
    CONFIG_PUT = "config:put"
    CONFIG_REMOVE = "config:remove"
    SECRET_ADD = "secret:add"  # noqa: S105
    KEY_CREATE = "key:create"
    KEY_DISABLE = "key:disable"
    PROVIDER_PROVE = "provider:prove"
    PROVIDER_FREEZE = "provider:freeze"
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
        long = {
            item.name: _cut(value)
            for item in fields(self)
            if isinstance(value := getattr(self, item.name), str)
            and not isinstance(value, Action)
            and len(value.encode()) > MAX_TEXT
        }
        return replace(self, **long) if long else self


def _cut(text: str) -> str:
    return text.encode()[:MAX_TEXT].decode(errors="ignore")
