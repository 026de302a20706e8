"""AuthorizationService: callers have people log in."""

from __future__ import annotations

from aries.broker.v1 import authorization_pb2
from broker.core.errors import InvalidRequestError
from broker.flows.complete_authorization import CompleteAuthorization
from broker.flows.start_authorization import StartAuthorization
from broker.ports import Clock
from broker.rpc.call import Call
from broker.rpc.convert import secret_of
from broker.rpc.convert_authorization import login_message, login_request, started_reply, wait_of


class AuthorizationServicer:
    """The service for callers that have people log in."""

    def __init__(self, start: StartAuthorization, complete: CompleteAuthorization, clock: Clock) -> None:
        self._start = start
        self._complete = complete
        self._clock = clock

    async def start_authorization(
        self, request: authorization_pb2.StartAuthorizationRequest, call: Call
    ) -> authorization_pb2.StartAuthorizationResponse:
        """Answer StartAuthorization."""
        call.trail.grant = request.grant
        started = await self._start(login_request(request, call), call.trail)
        return started_reply(started, self._clock.now())

    async def complete_authorization(
        self, request: authorization_pb2.CompleteAuthorizationRequest, call: Call
    ) -> authorization_pb2.CompleteAuthorizationResponse:
        """Answer CompleteAuthorization."""
        by, complete = request.WhichOneof("by"), self._complete
        if by == "app":
            app = request.app
            shown = await complete.app(
                call.caller, secret_of(app.code, "app.code"), app.redirect_uri, app.code_verifier, call.trail
            )
        elif by == "direct":
            direct = request.direct
            flow_id, code = secret_of(direct.flow_id, "direct.flow_id"), secret_of(direct.code, "direct.code")
            shown = await complete.direct(call.caller, flow_id, code, direct.redirect_uri, call.trail)
        else:
            raise InvalidRequestError("by: required, app or direct", fields={"by": "required, app or direct"})
        return authorization_pb2.CompleteAuthorizationResponse(authorization=login_message(shown))

    async def get_authorization(
        self, request: authorization_pb2.GetAuthorizationRequest, call: Call
    ) -> authorization_pb2.GetAuthorizationResponse:
        """Answer GetAuthorization."""
        flow_id = secret_of(request.flow_id, "flow_id")
        shown = await self._complete.get(call.caller, flow_id, wait_of(request), call.trail)
        return authorization_pb2.GetAuthorizationResponse(authorization=login_message(shown))

    async def cancel_authorization(
        self, request: authorization_pb2.CancelAuthorizationRequest, call: Call
    ) -> authorization_pb2.CancelAuthorizationResponse:
        """Answer CancelAuthorization."""
        shown = await self._complete.cancel(call.caller, secret_of(request.flow_id, "flow_id"), call.trail)
        return authorization_pb2.CancelAuthorizationResponse(authorization=login_message(shown))
