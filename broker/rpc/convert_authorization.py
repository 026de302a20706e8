"""Messages of AuthorizationService to values and back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from aries.broker.v1 import authorization_pb2
from broker.core.authorization import Failure, LoginPhase
from broker.core.errors import InvalidRequestError
from broker.flows.complete_authorization import ShownLogin
from broker.flows.start_authorization import AppRedirect, LoginRequest, StartedLogin
from broker.rpc.call import Call
from broker.rpc.convert import duration_of, seconds_of

_STATES: Final = {phase: f"AUTHORIZATION_STATE_{phase.name}" for phase in LoginPhase}
_FAILURES: Final = {failure: f"AUTHORIZATION_FAILURE_{failure.name}" for failure in Failure}


def login_request(request: authorization_pb2.StartAuthorizationRequest, call: Call) -> LoginRequest:
    """Return the caller's wish.

    Raises:
        InvalidRequestError: it names no grant.
    """
    if not request.grant:
        raise InvalidRequestError("grant: required", fields={"grant": "required"})
    way = request.WhichOneof("way")
    return LoginRequest(
        caller=call.caller,
        roles=call.roles,
        grant=request.grant,
        client=request.client,
        scopes=tuple(request.scopes),
        app=(
            AppRedirect(request.app.redirect_uri, request.app.state, request.app.code_challenge)
            if way == "app"
            else None
        ),
        direct_redirect_uri=request.direct.redirect_uri if way == "direct" else None,
        any_subject=request.any_subject,
    )


def started_reply(started: StartedLogin, now: float) -> authorization_pb2.StartAuthorizationResponse:
    """Return the reply that carries what only the starter may have; `now` is UTC in seconds."""
    expire_time = Timestamp()
    expire_time.FromDatetime(datetime.fromtimestamp(now, UTC) + timedelta(seconds=started.expires_in))
    direct = started.direct
    return authorization_pb2.StartAuthorizationResponse(
        flow_id=started.flow_id.reveal(),
        authorization_url="" if started.url is None else started.url.reveal(),
        short_code="" if started.short_code is None else started.short_code.reveal(),
        expire_time=expire_time,
        lifetime=duration_of(started.expires_in),
        direct=(
            None
            if direct is None
            else authorization_pb2.DirectLoginStart(
                url=direct.url,
                client_id=direct.client_id,
                redirect_uri=direct.redirect_uri,
                scope=direct.scope,
                code_challenge=direct.code_challenge,
            )
        ),
    )


def login_message(shown: ShownLogin) -> authorization_pb2.Authorization:
    """Return a login as its starter sees it."""
    login = shown.login
    return authorization_pb2.Authorization(
        grant=login.facts.grant,
        state=authorization_pb2.AuthorizationState.Value(_STATES[login.phase]),
        failure=(
            authorization_pb2.AUTHORIZATION_FAILURE_UNSPECIFIED
            if login.failure is None
            else authorization_pb2.AuthorizationFailure.Value(_FAILURES[login.failure])
        ),
        provider_scopes=login.granted,
        subject=shown.subject or "",
        lifetime=duration_of(shown.expires_in) if shown.expires_in > 0 else None,
    )


def wait_of(request: authorization_pb2.GetAuthorizationRequest) -> float:
    """Return the seconds to wait.

    Raises:
        InvalidRequestError: they are negative.
    """
    seconds = seconds_of(request.wait)
    if seconds is None:
        problem = "a wait is a duration that is not negative"
        raise InvalidRequestError(f"wait: {problem}", fields={"wait": problem})
    return seconds
