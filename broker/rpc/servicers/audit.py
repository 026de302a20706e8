"""AuditService: the audit log as operators read it."""

from __future__ import annotations

from aries.broker.admin.v1 import audit_pb2
from broker.flows.list_events import ListEvents
from broker.rpc.call import Call
from broker.rpc.convert_admin import event_message


class AuditServicer:
    """The service for the audit log."""

    def __init__(self, list_events: ListEvents) -> None:
        self._list_events = list_events

    async def list_events(self, request: audit_pb2.ListEventsRequest, call: Call) -> audit_pb2.ListEventsResponse:
        """Answer ListEvents."""
        events = await self._list_events(request.limit, call.trail)
        return audit_pb2.ListEventsResponse(events=map(event_message, events))
