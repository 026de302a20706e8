"""Every status the broker sends becomes the error its reason stands for."""

from __future__ import annotations

import socket

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

from aries_broker import (
    AsyncClient,
    BrokerError,
    Client,
    ConflictError,
    DeadlineExceededError,
    ExhaustedError,
    InternalError,
    InvalidRequestError,
    NotFoundError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
    UnavailableError,
)
from tests.clients.conftest import ScriptedTokenService, refusal

FAMILIES = [
    (grpc.StatusCode.INVALID_ARGUMENT, "SCOPE_NOT_SUPPORTED", InvalidRequestError),
    (grpc.StatusCode.UNAUTHENTICATED, "CALLER_UNAUTHENTICATED", UnauthenticatedError),
    (grpc.StatusCode.PERMISSION_DENIED, "POLICY_DENIED", PermissionDeniedError),
    (grpc.StatusCode.NOT_FOUND, "NOT_FOUND", NotFoundError),
    (grpc.StatusCode.ALREADY_EXISTS, "ALREADY_EXISTS", ConflictError),
    (grpc.StatusCode.ABORTED, "GRANT_CONFLICT", ConflictError),
    (grpc.StatusCode.FAILED_PRECONDITION, "GRANT_QUARANTINED", PreconditionError),
    (grpc.StatusCode.RESOURCE_EXHAUSTED, "RATE_LIMITED", ExhaustedError),
    (grpc.StatusCode.UNAVAILABLE, "PROVIDER_UNAVAILABLE", UnavailableError),
    (grpc.StatusCode.DEADLINE_EXCEEDED, "", DeadlineExceededError),
    (grpc.StatusCode.INTERNAL, "", InternalError),
    (grpc.StatusCode.DATA_LOSS, "", InternalError),
]


def ask(address: str) -> BrokerError:
    """Call GetToken and return how it failed."""
    with Client(address, deadline=5) as broker, pytest.raises(BrokerError) as caught:
        broker.get_token(["read"])
    return caught.value


@pytest.mark.parametrize(("status", "reason", "family"), FAMILIES)
def test_status_and_reason(
    service: ScriptedTokenService,
    address: str,
    status: grpc.StatusCode,
    reason: str,
    family: type[BrokerError],
) -> None:
    """The class follows the status, the reason and its metadata come from the details."""
    info = ErrorInfo(domain="broker.aries", reason=reason, metadata={"key": "value"})
    service.refusal = refusal(status, "said to people", info)

    error = ask(address)

    assert family is type(error)
    assert (reason, status, {"key": "value"}, "said to people") == (
        error.reason,
        error.status,
        error.metadata,
        str(error),
    )


async def test_the_asyncio_client_raises_the_same(service: ScriptedTokenService, address: str) -> None:
    """The asyncio client reads the same details."""
    service.refusal = refusal(
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "slow down",
        ErrorInfo(domain="broker.aries", reason="RATE_LIMITED", metadata={"limit": "per-caller"}),
        RetryInfo(retry_delay=Duration(seconds=1, nanos=250_000_000)),
    )

    async with AsyncClient(address) as broker:
        with pytest.raises(ExhaustedError) as caught:
            await broker.get_token(["read"])

    assert ("RATE_LIMITED", 1.25, {"limit": "per-caller"}) == (
        caught.value.reason,
        caught.value.retry_after,
        caught.value.metadata,
    )


def test_wrong_fields_are_named(service: ScriptedTokenService, address: str) -> None:
    """BadRequest becomes `fields`."""
    violation = BadRequest.FieldViolation(field="scopes", description="empty")
    service.refusal = refusal(grpc.StatusCode.INVALID_ARGUMENT, "bad", BadRequest(field_violations=[violation]))

    assert {"scopes": "empty"} == ask(address).fields


@pytest.mark.parametrize(
    "details",
    [
        pytest.param((), id="none"),
        pytest.param((ErrorInfo(domain="other.example", reason="POLICY_DENIED"),), id="another domain's"),
        pytest.param((Duration(seconds=1),), id="of a type not known"),
    ],
)
def test_details_that_say_nothing_leave_the_reason_empty(
    service: ScriptedTokenService, address: str, details: tuple[ErrorInfo, ...]
) -> None:
    """A reason is the broker's own or none; the waiting time is absent unless given."""
    service.refusal = refusal(grpc.StatusCode.PERMISSION_DENIED, "no", *details)

    error = ask(address)

    assert ("", None, {}) == (error.reason, error.retry_after, error.metadata)


def test_details_that_cannot_be_parsed_are_left_aside(
    service: ScriptedTokenService, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bytes that are no google.rpc.Status do not hide the failure itself."""
    service.refusal = refusal(grpc.StatusCode.ABORTED, "no")
    monkeypatch.setattr(Status, "SerializeToString", lambda _: b"\xff\xff")

    assert ConflictError is type(ask(address))


def test_a_broker_that_is_not_there_is_unavailable() -> None:
    """A refused connection has no reason and is UNAVAILABLE."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused, and nobody else gets the port
        error = ask(f"127.0.0.1:{held.getsockname()[1]}")

    assert (UnavailableError, "") == (type(error), error.reason)
