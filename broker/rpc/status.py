"""The one table from reason to status code, and the details that travel with a status.

Details are a `google.rpc.Status` in the trailing metadata `grpc-status-details-bin`: ErrorInfo (domain
`broker.aries`), RetryInfo where waiting helps, BadRequest for wrong fields.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import grpc
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2

from broker.core.errors import BrokerError, Reason

DOMAIN: Final = "broker.aries"
DETAILS_KEY: Final = "grpc-status-details-bin"
RETRY_JITTER: Final = 0.2
"""RetryInfo is lengthened by up to this share, so that callers refused together do not come back together."""

INTERNAL_TEXT: Final = "an error of the broker; its log has the details"

_C = grpc.StatusCode
STATUS_OF: Final[Mapping[Reason, grpc.StatusCode]] = MappingProxyType(
    {
        Reason.INVALID_REQUEST: _C.INVALID_ARGUMENT,
        Reason.SCOPE_NOT_SUPPORTED: _C.INVALID_ARGUMENT,
        Reason.GRANT_AMBIGUOUS: _C.INVALID_ARGUMENT,
        Reason.CALLER_UNAUTHENTICATED: _C.UNAUTHENTICATED,
        Reason.POLICY_DENIED: _C.PERMISSION_DENIED,
        Reason.ROLE_REQUIRED: _C.PERMISSION_DENIED,
        Reason.NOT_FOUND: _C.NOT_FOUND,
        Reason.ALREADY_EXISTS: _C.ALREADY_EXISTS,
        Reason.ORIGIN_CONFLICT: _C.FAILED_PRECONDITION,
        Reason.REVISION_STALE: _C.FAILED_PRECONDITION,
        Reason.CONSENT_REQUIRED: _C.FAILED_PRECONDITION,
        Reason.GRANT_QUARANTINED: _C.FAILED_PRECONDITION,
        Reason.GRANT_HELD: _C.FAILED_PRECONDITION,
        Reason.SCOPE_NOT_GRANTED: _C.FAILED_PRECONDITION,
        Reason.SCOPE_EXCEEDED: _C.FAILED_PRECONDITION,
        Reason.LIFETIME_UNATTAINABLE: _C.FAILED_PRECONDITION,
        Reason.RATE_LIMITED: _C.RESOURCE_EXHAUSTED,
        Reason.SCOPE_SETS: _C.RESOURCE_EXHAUSTED,
        Reason.OVERLOADED: _C.RESOURCE_EXHAUSTED,
        Reason.PROVIDER_UNAVAILABLE: _C.UNAVAILABLE,
        Reason.PROVIDER_REFUSED_CLIENT: _C.UNAVAILABLE,
        Reason.STORE_UNAVAILABLE: _C.UNAVAILABLE,
        Reason.AUDIT_UNAVAILABLE: _C.UNAVAILABLE,
        Reason.GRANT_UNCERTAIN: _C.UNAVAILABLE,
        Reason.SCOPE_CONFLICT: _C.ABORTED,
        Reason.GRANT_CONFLICT: _C.ABORTED,
        Reason.DEADLINE_EXCEEDED: _C.DEADLINE_EXCEEDED,
    }
)


@dataclass(frozen=True, slots=True)
class Status:
    """What a failed call is told: status code, text, and trailing metadata; `reason` is for metrics."""

    code: grpc.StatusCode
    text: str
    reason: str
    trailing: tuple[tuple[str, bytes], ...] = ()


INTERNAL: Final = Status(_C.INTERNAL, INTERNAL_TEXT, "INTERNAL")
"""Always a bug of ours; the peer learns nothing of it."""


def status_of(error: BrokerError, jitter: Callable[[], float]) -> Status:
    """Build the status of an error.

    Args:
        error: what went wrong.
        jitter: returns a number from 0 to 1; it lengthens the RetryInfo.
    """
    code = STATUS_OF[error.reason]
    if error.reason is Reason.DEADLINE_EXCEEDED:
        return Status(code, error.public, error.reason)
    status = status_pb2.Status(code=code.value[0], message=error.public)
    status.details.add().Pack(error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=error.metadata))
    if error.retry_after is not None:
        delay = Duration()
        delay.FromMicroseconds(round(error.retry_after * (1 + RETRY_JITTER * jitter()) * 1e6))
        status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=delay))
    if error.fields:
        violations = [
            error_details_pb2.BadRequest.FieldViolation(field=field, description=problem)
            for field, problem in error.fields.items()
        ]
        status.details.add().Pack(error_details_pb2.BadRequest(field_violations=violations))
    return Status(code, error.public, error.reason, ((DETAILS_KEY, status.SerializeToString()),))
