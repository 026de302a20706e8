"""What is learnt of a call while it runs, so that its audit event can say it whatever the outcome."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from broker.core.audit import Action, AuditEvent


@dataclass(slots=True)
class Trail:
    """The facts of one call; the edge opens it before authentication, the flow adds to it.

    Attributes:
        method: gRPC full method.
        peer: the peer's address as gRPC names it.
        request_id: ours, unique; caller_request_id: the caller's own, bounded to 64 of `[A-Za-z0-9._-]`, or empty.
        actor: printed caller id once authenticated.
    """

    method: str
    peer: str
    request_id: str
    caller_request_id: str = ""
    actor: str = ""
    grant: str = ""
    client: str = ""
    provider: str = ""
    policy: str = ""
    scopes: str = ""
    object_kind: str = ""
    object_name: str = ""

    def event(self, action: Action, now: float, **facts: str) -> AuditEvent:
        """Return the call's event at `now` (UTC seconds), with further facts of AuditEvent by name; bounded."""
        known: dict[str, Any] = {
            "actor": self.actor,
            "peer": self.peer,
            "request_id": self.request_id,
            "caller_request_id": self.caller_request_id,
            "method": self.method,
            "grant": self.grant,
            "client": self.client,
            "provider": self.provider,
            "policy": self.policy,
            "scopes": self.scopes,
            "object_kind": self.object_kind,
            "object_name": self.object_name,
        }
        return AuditEvent(datetime.fromtimestamp(now, UTC), action, **{**known, **facts}).bounded()
