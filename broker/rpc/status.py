"""The one table from reason to status code, and the details that travel with a status.

Details are a `google.rpc.Status` in the trailing metadata `grpc-status-details-bin`: ErrorInfo (domain
`broker.aries`), RetryInfo where waiting helps, BadRequest for wrong fields. Of what is longer than trailers may be, as
much is told as fits: a status that is too long would be lost whole.
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

TRAILERS: Final = 8 * 1024
"""Bytes of trailing metadata that peers take unless told otherwise, the least of them counting it as Base64."""
OTHER_TRAILERS: Final = 512
"""Bytes left to what gRPC adds of its own, and to the number of fields that are not told."""
MAX_TEXT: Final = 512
"""Most of a text, in bytes: of the status, and of what is wrong with a field."""
MAX_METADATA: Final = 4_200
"""Most of all values of ErrorInfo's metadata, in bytes: 32 scopes of 128 characters."""

INTERNAL_TEXT: Final = "an error of the broker; its log has the details"

_MORE: Final = "…"
_ENVELOPE: Final = 64
"""Bytes of a detail's name and lengths."""
_PREFIX: Final = 4
"""Bytes of a field's mark and length within a list."""

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
    text = _cut(error.public, MAX_TEXT)
    status = status_pb2.Status(code=code.value[0], message=text)
    metadata = _metadata(error.metadata)
    status.details.add().Pack(error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=metadata))
    if error.retry_after is not None:
        delay = Duration()
        delay.FromMicroseconds(round(error.retry_after * (1 + RETRY_JITTER * jitter()) * 1e6))
        status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=delay))
    if error.fields:
        violations = _violations(error.fields, _room(text) - status.ByteSize())
        status.details.add().Pack(error_details_pb2.BadRequest(field_violations=violations))
        if left := len(error.fields) - len(violations):
            text = f"{text}; {len(violations)} wrong fields are named here, and there are {left} more"
            status.message = text
    return Status(code, text, error.reason, ((DETAILS_KEY, status.SerializeToString()),))


# --- as much as fits -------------------------------------------------------------------------------------------------


def _room(text: str) -> int:
    """Return the bytes of details that have room beside a text, which travels with `%XX` for what is not plain."""
    length = sum(1 if " " <= chr(byte) <= "~" and byte != ord("%") else 3 for byte in text.encode())
    return (TRAILERS - OTHER_TRAILERS - length) * 3 // 4  # Base64


def _violations(fields: Mapping[str, str], room: int) -> list[error_details_pb2.BadRequest.FieldViolation]:
    """Return those wrong fields that have room, in their order; one that is too long keeps no other from its place."""
    room -= _ENVELOPE
    found = []
    for field, problem in fields.items():
        if room <= _PREFIX:
            break
        violation = error_details_pb2.BadRequest.FieldViolation(field=field, description=_cut(problem, MAX_TEXT))
        length = violation.ByteSize() + _PREFIX
        if length <= room:
            found.append(violation)
            room -= length
    return found


def _metadata(metadata: Mapping[str, str]) -> dict[str, str]:
    room = MAX_METADATA
    found = {}
    for key, value in metadata.items():
        found[key] = _cut(value, room)
        room -= len(found[key].encode())
    return found


def _cut(text: str, size: int) -> str:
    """Return what a text begins with, and a sign that there was more, if it has more bytes than `size`."""
    data = text.encode()
    if len(data) <= size:
        return text
    return data[: max(0, size - len(_MORE.encode()))].decode(errors="ignore") + _MORE
