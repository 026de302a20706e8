"""A real gRPC server in a thread, which answers what a test wrote down."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent import futures
from typing import cast

import grpc
import pytest
from google.protobuf.any_pb2 import Any
from google.protobuf.message import Message
from google.rpc.status_pb2 import Status

from aries.broker.v1 import token_pb2, token_pb2_grpc


class ScriptedTokenService(token_pb2_grpc.TokenServiceServicer):
    """Remembers requests and metadata; answers `response`, or `refusal` when there is one.

    Attributes:
        peers: the names in the certificates of those who called.
        hold: what the next call waits for, when set, before it is answered; `held` tells that it waits.
    """

    def __init__(self) -> None:
        self.requests: list[token_pb2.GetTokenRequest] = []
        self.metadata: list[dict[str, str | bytes]] = []
        self.deadlines: list[float] = []
        self.peers: list[str] = []
        self.hold: threading.Event | None = None
        self.held = threading.Event()
        self.response = token_pb2.GetTokenResponse(access_token="at-canary", token_type="Bearer")
        self.refusal: Status | None = None

    def WatchRevocations(  # noqa: N802 - the RPC's name
        self, request: token_pb2.WatchRevocationsRequest, context: grpc.ServicerContext
    ) -> Iterator[token_pb2.WatchRevocationsResponse]:
        raise NotImplementedError

    def GetToken(  # noqa: N802 - the RPC's name
        self,
        request: token_pb2.GetTokenRequest,
        context: grpc.ServicerContext,
    ) -> token_pb2.GetTokenResponse:
        self.requests.append(request)
        self.metadata.append(dict(context.invocation_metadata()))
        self.deadlines.append(context.time_remaining() or 0.0)
        names = cast("Mapping[str, Sequence[bytes]]", context.auth_context()).get("x509_subject_alternative_name", ())
        self.peers += [name.decode() for name in names]
        if self.hold is not None:
            hold, self.hold = self.hold, None
            self.held.set()
            hold.wait()
        if self.refusal is not None:
            context.set_trailing_metadata((("grpc-status-details-bin", self.refusal.SerializeToString()),))
            context.abort(_STATUS_CODES[self.refusal.code], self.refusal.message)
        return self.response


_STATUS_CODES = {code.value[0]: code for code in grpc.StatusCode}


def refusal(status: grpc.StatusCode, message: str, *details: Message) -> Status:
    """Build the status of a refused call."""
    packed = [Any() for _ in details]
    for carrier, detail in zip(packed, details, strict=True):
        carrier.Pack(detail)
    return Status(code=status.value[0], message=message, details=packed)


@pytest.fixture
def service() -> ScriptedTokenService:
    """The servicer the server runs."""
    return ScriptedTokenService()


Start = Callable[[grpc.ServerCredentials | None], str]


@pytest.fixture
def start(service: ScriptedTokenService) -> Iterator[Start]:
    """Start the server on a free loopback port and return its address."""
    servers: list[grpc.Server] = []

    def start_server(credentials: grpc.ServerCredentials | None) -> str:
        server = grpc.server(futures.ThreadPoolExecutor(max_workers=2))
        token_pb2_grpc.add_TokenServiceServicer_to_server(service, server)
        if credentials is None:
            port = server.add_insecure_port("127.0.0.1:0")
        else:
            port = server.add_secure_port("127.0.0.1:0", credentials)
        server.start()
        servers.append(server)
        return f"127.0.0.1:{port}"

    yield start_server
    for server in servers:
        server.stop(grace=None).wait()


@pytest.fixture
def address(start: Start) -> str:
    """The address of a server without TLS."""
    return start(None)


@pytest.fixture(autouse=True)
def _no_broker_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine's own settings do not reach the tests."""
    for name in ("ADDRESS", "API_KEY", "TOKEN_FILE", "CA", "CERT", "CERT_KEY"):
        monkeypatch.delenv(f"BROKER_{name}", raising=False)
