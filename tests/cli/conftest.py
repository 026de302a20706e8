"""Commands run in this process against a real gRPC server that answers what a test wrote down."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent import futures
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message
from google.rpc.status_pb2 import Status

from aries.broker.admin.v1 import audit_pb2, config_pb2, grants_pb2, keys_pb2, secrets_pb2
from aries.broker.v1 import authorization_pb2, token_pb2
from broker.cli.app import run

SERVICES = [
    service
    for module in (token_pb2, authorization_pb2, config_pb2, grants_pb2, keys_pb2, secrets_pb2, audit_pb2)
    for service in module.DESCRIPTOR.services_by_name.values()
]
CODES = {code.value[0]: code for code in grpc.StatusCode}


@dataclass
class ScriptedBroker:
    """Answers every RPC of the contract: with `answers[name]`, else with the empty response.

    Attributes:
        calls: the RPCs called, with their requests.
        bearers: the authorization metadata of each.
        refusal: the status calls are refused with, when set.
        refused: the one RPC that is; empty: every one.
        before: by an RPC's name, what is done before it is answered.
    """

    address: str = ""
    calls: list[tuple[str, Message]] = field(default_factory=list)
    bearers: list[str] = field(default_factory=list)
    answers: dict[str, list[Message]] = field(default_factory=dict)
    refusal: Status | None = None
    refused: str = ""
    before: dict[str, Callable[[], object]] = field(default_factory=dict)

    def answer(self, name: str, response: Message) -> None:
        """Script the next answer of an RPC; the last one stays."""
        self.answers.setdefault(name, []).append(response)

    def refuse(self, status: grpc.StatusCode, message: str, *details: Message, name: str = "") -> None:
        """Refuse every call from now on, or every one of the RPC of this name."""
        self.refusal, self.refused = Status(code=status.value[0], message=message), name
        for detail in details:
            packed = AnyMessage()
            packed.Pack(detail)
            self.refusal.details.append(packed)

    def serve(self, method: Any, request: Message, context: grpc.ServicerContext) -> Message:  # noqa: ANN401
        """Answer one call."""
        copy = type(request)()
        copy.CopyFrom(request)
        self.calls.append((method.name, copy))
        self.bearers.append(str(dict(context.invocation_metadata()).get("authorization", "")))
        if method.name in self.before:
            self.before[method.name]()
        if self.refusal is not None and self.refused in {"", method.name}:
            context.set_trailing_metadata((("grpc-status-details-bin", self.refusal.SerializeToString()),))
            context.abort(CODES[self.refusal.code], self.refusal.message)
        scripted = self.answers.get(method.name, [])
        if not scripted:
            response: Message = method.output_type._concrete_class()
            return response
        return scripted.pop(0) if len(scripted) > 1 else scripted[0]


def _handlers(broker: ScriptedBroker, service: Any) -> grpc.GenericRpcHandler:  # noqa: ANN401
    def handler(method: Any) -> grpc.RpcMethodHandler[Any, Any]:  # noqa: ANN401
        return grpc.unary_unary_rpc_method_handler(
            lambda request, context: broker.serve(method, request, context),
            request_deserializer=method.input_type._concrete_class.FromString,
            response_serializer=method.output_type._concrete_class.SerializeToString,
        )

    return grpc.method_handlers_generic_handler(
        service.full_name, {method.name: handler(method) for method in service.methods}
    )


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[ScriptedBroker]:
    """A scripted broker on loopback; the environment names it and an operator's key, and nothing else."""
    for name in ("TOKEN_FILE", "CA", "CERT", "CERT_KEY", "DATA_DIR"):
        monkeypatch.delenv(f"BROKER_{name}", raising=False)
    monkeypatch.chdir(tmp_path)
    scripted = ScriptedBroker()
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=2))
    server.add_generic_rpc_handlers(tuple(_handlers(scripted, service) for service in SERVICES))
    scripted.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    monkeypatch.setenv("BROKER_ADDRESS", scripted.address)
    monkeypatch.setenv("BROKER_API_KEY", "abk_operator")
    yield scripted
    server.stop(grace=None).wait()


@dataclass(frozen=True)
class Outcome:
    """What a command left behind."""

    code: int
    out: str
    err: str


Command = Callable[..., Outcome]


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    """Run a command line and return its exit code and what it printed."""

    def run_command(*arguments: object) -> Outcome:
        code = run([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return Outcome(code, out, err)

    return run_command
