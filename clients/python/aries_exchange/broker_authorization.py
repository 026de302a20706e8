"""Logins through the broker, which keeps what they bring: start one, complete it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol, TypeVar

import grpc

from aries.broker.v1 import authorization_pb2 as pb
from aries.broker.v1 import authorization_pb2_grpc
from aries_broker import Connection
from aries_broker.errors import parse_error
from aries_broker.renewal import Channels
from aries_exchange.broker_tokens import translate
from aries_exchange.errors import AriesAPIError

Metadata = tuple[tuple[str, str], ...]
T = TypeVar("T")

DEADLINE: Final = 60.0
"""Seconds a call may take: at the end of a login the broker asks the provider."""
_FAILURES: Final = {
    pb.AUTHORIZATION_FAILURE_DENIED: (403, "the person, or Aries, said no"),
    pb.AUTHORIZATION_FAILURE_EXPIRED: (400, "the time of the login was over"),
    pb.AUTHORIZATION_FAILURE_CANCELLED: (400, "the login was cancelled"),
    pb.AUTHORIZATION_FAILURE_CODE_REFUSED: (400, "Aries did not take the code"),
    pb.AUTHORIZATION_FAILURE_SCOPE_NOT_GRANTED: (403, "the person, or Aries, allowed less than the grant's scopes"),
    pb.AUTHORIZATION_FAILURE_SUBJECT_MISMATCH: (403, "somebody else logged in than the person whose grant it is"),
    pb.AUTHORIZATION_FAILURE_PROVIDER_UNAVAILABLE: (503, "Aries did not answer when the code was exchanged"),
}


@dataclass(frozen=True, slots=True)
class DirectStart:
    """What the direct steps are told beside the person's credentials; the challenge is the broker's own."""

    flow_id: str = field(repr=False)
    url: str
    client_id: str
    redirect_uri: str
    scope: str
    code_challenge: str


@dataclass(frozen=True, slots=True)
class Connected:
    """A login that brought what it should: the grant has a refresh token, with these scopes of the wire."""

    grant: str
    provider_scopes: frozenset[str]


class BrokerAuthorization(Protocol):
    """The broker's AuthorizationService, as the SDK needs it."""

    def start_app(self, grant: str, scopes: Sequence[str], redirect_uri: str, state: str, code_challenge: str) -> str:
        """Open a login whose result goes to an app; return where the browser goes.

        Raises:
            AriesAPIError: the broker refused.
        """
        ...

    def start_direct(self, grant: str, scopes: Sequence[str], redirect_uri: str) -> DirectStart:
        """Open a login whose steps this process makes.

        Raises:
            AriesAPIError: the broker refused.
        """
        ...

    def complete_app(self, code: str, redirect_uri: str, code_verifier: str) -> Connected:
        """Show the code that the app was redirected with.

        Raises:
            AriesAPIError: the broker refused, or the login failed.
        """
        ...

    def complete_direct(self, flow_id: str, code: str, redirect_uri: str) -> Connected:
        """Show the code that the direct steps ended with.

        Raises:
            AriesAPIError: the broker refused, or the login failed.
        """
        ...


@dataclass(frozen=True, slots=True)
class _Opened:
    channel: grpc.Channel
    logins: authorization_pb2_grpc.AuthorizationServiceStub


class GrpcAuthorization:
    """The service over gRPC; safe to share between threads."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._channels = Channels(connection, self._open)

    def start_app(self, grant: str, scopes: Sequence[str], redirect_uri: str, state: str, code_challenge: str) -> str:
        """Open a login whose result goes to an app; return where the browser goes."""
        app = pb.AppRedirect(redirect_uri=redirect_uri, state=state, code_challenge=code_challenge)
        return self._start(pb.StartAuthorizationRequest(grant=grant, scopes=scopes, app=app)).authorization_url

    def start_direct(self, grant: str, scopes: Sequence[str], redirect_uri: str) -> DirectStart:
        """Open a login whose steps this process makes."""
        direct = pb.DirectLogin(redirect_uri=redirect_uri)
        started = self._start(pb.StartAuthorizationRequest(grant=grant, scopes=scopes, direct=direct))
        told = started.direct
        return DirectStart(
            started.flow_id, told.url, told.client_id, told.redirect_uri, told.scope, told.code_challenge
        )

    def complete_app(self, code: str, redirect_uri: str, code_verifier: str) -> Connected:
        """Show the code that the app was redirected with."""
        app = pb.AppCode(code=code, redirect_uri=redirect_uri, code_verifier=code_verifier)
        return self._complete(pb.CompleteAuthorizationRequest(app=app))

    def complete_direct(self, flow_id: str, code: str, redirect_uri: str) -> Connected:
        """Show the code that the direct steps ended with."""
        direct = pb.DirectCode(flow_id=flow_id, code=code, redirect_uri=redirect_uri)
        return self._complete(pb.CompleteAuthorizationRequest(direct=direct))

    def close(self) -> None:
        """Close the connection."""
        for ended in self._channels.close():
            ended.channel.close()

    def _start(self, request: pb.StartAuthorizationRequest) -> pb.StartAuthorizationResponse:
        return self._call(lambda stub, metadata: stub.StartAuthorization(request, timeout=DEADLINE, metadata=metadata))

    def _complete(self, request: pb.CompleteAuthorizationRequest) -> Connected:
        answered = self._call(
            lambda stub, metadata: stub.CompleteAuthorization(request, timeout=DEADLINE, metadata=metadata)
        )
        login = answered.authorization
        if login.state == pb.AUTHORIZATION_STATE_CONNECTED:
            return Connected(login.grant, frozenset(login.provider_scopes))
        if login.state == pb.AUTHORIZATION_STATE_FAILED:
            status_code, why = _FAILURES.get(login.failure, (500, "the login failed; the broker's operators know why"))
            raise AriesAPIError(status_code, why)
        raise AriesAPIError(503, "the broker has what the login brought and goes on with it: ask for a token later")

    def _call(self, send: Callable[[authorization_pb2_grpc.AuthorizationServiceStub, Metadata], T]) -> T:
        metadata = self._connection.build_metadata()
        held = self._channels.take()
        try:
            return send(held.channel.logins, metadata)
        except grpc.RpcError as error:
            raise translate(parse_error(error)) from None
        finally:
            for ended in self._channels.give_back(held):
                ended.channel.close()

    def _open(self, credentials: grpc.ChannelCredentials | None) -> _Opened:
        channel = self._connection.open_channel(credentials)
        return _Opened(channel, authorization_pb2_grpc.AuthorizationServiceStub(channel))
