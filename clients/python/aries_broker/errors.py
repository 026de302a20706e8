"""What can go wrong, by what a program can do about it.

    BrokerError                 reason                                                   what helps
    ├── InvalidRequestError     INVALID_REQUEST SCOPE_NOT_SUPPORTED GRANT_AMBIGUOUS      another request
    ├── UnauthenticatedError    CALLER_UNAUTHENTICATED                                   another credential
    ├── PermissionDeniedError   POLICY_DENIED ROLE_REQUIRED                              an operator's policy
    ├── NotFoundError           NOT_FOUND                                                another name
    ├── ConflictError           SCOPE_CONFLICT GRANT_CONFLICT ALREADY_EXISTS             asking again, or another name
    ├── PreconditionError       CONSENT_REQUIRED GRANT_QUARANTINED GRANT_HELD …          an operator, or another request
    ├── ExhaustedError          RATE_LIMITED SCOPE_SETS OVERLOADED                       waiting `retry_after`
    ├── UnavailableError        PROVIDER_UNAVAILABLE STORE_UNAVAILABLE …, or no reason   waiting
    ├── DeadlineExceededError   none                                                     a longer deadline
    └── InternalError           none                                                     a bug report
    ConfigurationError          the client was set up wrong; nothing was sent

`reason` is stable and for programs; the text is for people. It is empty where the broker did not answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, cast

import grpc
from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status

DOMAIN: Final = "broker.aries"
DETAILS_KEY: Final = "grpc-status-details-bin"


class ConfigurationError(Exception):
    """Address, credential or TLS files are missing, contradictory or unsafe; nothing was sent."""


class BrokerError(Exception):
    """A call that failed.

    Attributes:
        reason: the stable name, such as POLICY_DENIED; empty when the broker did not give one.
        status: the gRPC status code.
        retry_after: seconds after which asking again can help, when the broker said so.
        metadata: what the reason is about, by keys that the contract lists per reason.
        fields: wrong fields of the request and what is wrong with each.
    """

    def __init__(  # noqa: PLR0913 - the parts of a status
        self,
        message: str,
        *,
        reason: str = "",
        status: grpc.StatusCode = grpc.StatusCode.UNKNOWN,
        retry_after: float | None = None,
        metadata: Mapping[str, str] | None = None,
        fields: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.status = status
        self.retry_after = retry_after
        self.metadata = dict(metadata or {})
        self.fields = dict(fields or {})


class InvalidRequestError(BrokerError):
    """The request cannot be served as it stands."""


class UnauthenticatedError(BrokerError):
    """The broker does not know who is asking."""


class PermissionDeniedError(BrokerError):
    """No policy covers the whole request, there is no such grant, or a role is missing."""


class NotFoundError(BrokerError):
    """An operator named something that is not there."""


class ConflictError(BrokerError):
    """Something else happened at the same moment, or the name is taken."""


class PreconditionError(BrokerError):
    """The grant cannot serve this now; waiting does not change that."""


class ExhaustedError(BrokerError):
    """Too much was asked for too soon."""


class UnavailableError(BrokerError):
    """The broker, its database or the provider is away."""


class DeadlineExceededError(BrokerError):
    """No answer came within the deadline."""


class InternalError(BrokerError):
    """A bug of the broker, or an answer this client does not understand."""


_BY_STATUS: Final[Mapping[grpc.StatusCode, type[BrokerError]]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequestError,
    grpc.StatusCode.UNAUTHENTICATED: UnauthenticatedError,
    grpc.StatusCode.PERMISSION_DENIED: PermissionDeniedError,
    grpc.StatusCode.NOT_FOUND: NotFoundError,
    grpc.StatusCode.ALREADY_EXISTS: ConflictError,
    grpc.StatusCode.ABORTED: ConflictError,
    grpc.StatusCode.FAILED_PRECONDITION: PreconditionError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: ExhaustedError,
    grpc.StatusCode.UNAVAILABLE: UnavailableError,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceededError,
}


def parse_error(error: grpc.RpcError) -> BrokerError:
    """Return the error a failed call means, with the details the broker sent along."""
    call = cast("grpc.Call", error)
    status = call.code()
    try:
        details = _parse_details(call.trailing_metadata() or ())
    except DecodeError:
        details = _Details()
    return _BY_STATUS.get(status, InternalError)(
        call.details() or status.name.lower().replace("_", " "),
        reason=details.reason,
        status=status,
        retry_after=details.retry_after,
        metadata=details.metadata,
        fields=details.fields,
    )


@dataclass
class _Details:
    reason: str = ""
    retry_after: float | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    fields: dict[str, str] = field(default_factory=dict)


def _parse_details(trailers: Iterable[tuple[str, str | bytes]]) -> _Details:
    """Read google.rpc.Status of the trailers; details of another domain say nothing to us."""
    parsed = _Details()
    value = dict(trailers).get(DETAILS_KEY, b"")
    for detail in Status.FromString(value if isinstance(value, bytes) else b"").details:
        if detail.TypeName() == ErrorInfo.DESCRIPTOR.full_name:
            info = ErrorInfo.FromString(detail.value)
            if info.domain == DOMAIN:
                parsed.reason, parsed.metadata = info.reason, dict(info.metadata)
        elif detail.TypeName() == RetryInfo.DESCRIPTOR.full_name:
            retry = RetryInfo.FromString(detail.value)
            parsed.retry_after = retry.retry_delay.ToNanoseconds() / 1e9
        elif detail.TypeName() == BadRequest.DESCRIPTOR.full_name:
            wrong = BadRequest.FromString(detail.value)
            parsed.fields = {violation.field: violation.description for violation in wrong.field_violations}
    return parsed
