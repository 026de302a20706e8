"""Logins as a scripted broker tells of them."""

from __future__ import annotations

from typing import Final

from google.protobuf.duration_pb2 import Duration

from aries.broker.v1 import authorization_pb2
from tests.cli.conftest import ScriptedBroker

URL: Final = "https://broker.example/connect/canary-flow"
CODE: Final = "BCDFGHJK"
STARTED: Final = authorization_pb2.StartAuthorizationResponse(
    flow_id="canary-flow", authorization_url=URL, short_code=CODE, lifetime=Duration(seconds=600)
)


def told(state: str, failure: str = "UNSPECIFIED", **fields: object) -> authorization_pb2.Authorization:
    """Return a login as the broker tells of it."""
    return authorization_pb2.Authorization(
        grant="desk",
        state=authorization_pb2.AuthorizationState.Value(f"AUTHORIZATION_STATE_{state}"),
        failure=authorization_pb2.AuthorizationFailure.Value(f"AUTHORIZATION_FAILURE_{failure}"),
        **fields,  # type: ignore[arg-type]  # its fields
    )


CONNECTED: Final = told("CONNECTED", subject="ada", provider_scopes=["account:information", "order:execution"])


def answers(
    broker: ScriptedBroker,
    *logins: authorization_pb2.Authorization,
    cancelled: authorization_pb2.Authorization | None = None,
) -> None:
    """Script how a login goes on, and what comes of cancelling it."""
    broker.answer("StartAuthorization", STARTED)
    for login in logins:
        broker.answer("GetAuthorization", authorization_pb2.GetAuthorizationResponse(authorization=login))
    ended = cancelled or told("FAILED", "CANCELLED")
    broker.answer("CancelAuthorization", authorization_pb2.CancelAuthorizationResponse(authorization=ended))
