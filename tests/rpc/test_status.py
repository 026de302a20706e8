"""The table of reasons against the taxonomy and the contract, and the details of a status."""

from __future__ import annotations

import base64
import re
import string
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from aries.broker.v1 import error_reason_pb2
from broker.core.errors import (
    DeadlineTooShortError,
    InvalidRequestError,
    NotFoundError,
    OverloadedError,
    Reason,
    ScopeNotGrantedError,
)
from broker.rpc.status import STATUS_OF, Status, status_of
from tests.rpc.kit import WISH, Kit, bearer, refusal, token_stub


def test_every_reason_has_a_status() -> None:
    """The table is total."""
    assert set(Reason) == set(STATUS_OF)


def test_reasons_are_those_of_the_contract() -> None:
    """ErrorReason without its prefix is Reason, but for the one that is a status only."""
    prefix = "ERROR_REASON_"
    contract = {name.removeprefix(prefix) for name in error_reason_pb2.ErrorReason.keys()}  # noqa: SIM118 - no dict
    assert contract - {"UNSPECIFIED"} == set(Reason) - {Reason.DEADLINE_EXCEEDED}


def test_statuses_are_those_the_contract_tells() -> None:
    """The comment on every ErrorReason begins with the status code of the table."""
    text = (Path(__file__).parents[2] / "proto/aries/broker/v1/error_reason.proto").read_text()
    told = re.findall(r"  // ([A-Z_]+):[^\n]*\n(?:  //[^\n]*\n)*  ERROR_REASON_(\w+) =", text)
    pairs = {reason: code for code, reason in told}
    assert {
        reason.value: code.name for reason, code in STATUS_OF.items() if reason is not Reason.DEADLINE_EXCEEDED
    } == pairs


@pytest.mark.parametrize(("jitter", "delay"), [(0.0, 10.0), (1.0, 12.0)])
def test_waiting_is_never_shortened(jitter: float, delay: float) -> None:
    """RetryInfo is the waiting time, lengthened by up to a fifth."""
    status = status_of(OverloadedError("later", retry_after=10.0), lambda: jitter)
    [(_, details)] = status.trailing
    retry = error_details_pb2.RetryInfo()
    assert any(detail.Unpack(retry) for detail in status_pb2.Status.FromString(details).details)
    assert delay == retry.retry_delay.ToMicroseconds() / 1e6


def test_wrong_fields_travel_as_bad_request() -> None:
    """Every wrong field is named."""
    status = status_of(InvalidRequestError("no", fields={"a": "bad", "b": "worse"}), lambda: 0.0)
    [(_, details)] = status.trailing
    bad = error_details_pb2.BadRequest()
    assert any(detail.Unpack(bad) for detail in status_pb2.Status.FromString(details).details)
    assert [("a", "bad"), ("b", "worse")] == [(one.field, one.description) for one in bad.field_violations]


def details_of(status: Status) -> tuple[status_pb2.Status, error_details_pb2.ErrorInfo, error_details_pb2.BadRequest]:
    """Return the details of a status."""
    [(_, value)] = status.trailing
    details = status_pb2.Status.FromString(value)
    info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    for detail in details.details:
        detail.Unpack(info)
        detail.Unpack(bad)
    return details, info, bad


def length_of(status: Status) -> int:
    """Return how long the trailers of a status are for those who count the most: as they travel, 32 more for each."""
    [(key, value)] = status.trailing
    own = [("content-type", "application/grpc"), ("grpc-status", "16"), (":status", "200")]
    sent = [*own, (key, base64.b64encode(value)), ("grpc-message", quote(status.text, safe=string.printable[:95]))]
    return sum(len(name) + len(data) + 32 for name, data in sent)


LONG = {
    "many fields": {f"policies[{number}].callers[0]": "the pattern matches every subject" for number in range(20_000)},
    "long problems": {f"policies[{number}]": "there is no such issuer; " * 1_000 for number in range(20)},
    "a long field among others": {"a": "x", "providers[0].scopes." + "a" * 60_000: "no product scope", "b": "y"},
    "many short ones": {f"{number}": "" for number in range(20_000)},
    "other characters": {f"grants[{number}].name": "\u20ac%" * 200 for number in range(300)},
}


@pytest.mark.parametrize("public", ["no", "\u20ac%" * 300], ids=["short text", "long text"])
@pytest.mark.parametrize("fields", LONG.values(), ids=LONG)
def test_as_many_wrong_fields_are_named_as_trailers_hold(public: str, fields: Mapping[str, str]) -> None:
    """The status fits whatever is wrong, says how much of it is not named, and hardly leaves room unused."""
    status = status_of(InvalidRequestError(public, fields=fields), lambda: 0.0)
    details, info, bad = details_of(status)
    told = {violation.field: violation.description for violation in bad.field_violations}
    assert length_of(status) <= 8 * 1024
    assert ("INVALID_REQUEST", status.text) == (info.reason, details.message)
    assert f"{len(told)} wrong fields are named here, and there are {len(fields) - len(told)} more" in status.text
    assert all(fields[field].startswith(problem.removesuffix("…")) for field, problem in told.items())
    assert {"a": "x", "b": "y"} == told or length_of(status) > 6_300


def test_fields_are_left_out_only_where_there_is_no_room() -> None:
    """One field after the other is named until the next does not fit; from there on the same ones are."""
    fields = {f"policies[{number:04}].callers[0]": "the pattern matches every subject" for number in range(200)}
    fitting = [
        len(details_of(status_of(InvalidRequestError("no", fields=part), lambda: 0.0))[2].field_violations)
        for part in (dict(list(fields.items())[:count]) for count in range(1, 200))
    ]
    most = max(fitting)
    assert [*range(1, most + 1), *[most] * (199 - most)] == fitting


def test_metadata_is_cut_to_what_fits() -> None:
    """A name of any length that was not found does not keep its error from arriving."""
    error = NotFoundError("there is none", metadata={"kind": "client", "name": "\u20ac" * 20_000})
    status = status_of(error, lambda: 0.0)
    _, info, _ = details_of(status)
    assert length_of(status) <= 8 * 1024
    assert ("NOT_FOUND", "client", "\u20ac\u20ac…") == (
        info.reason,
        info.metadata["kind"],
        info.metadata["name"][:2] + info.metadata["name"][-1],
    )


def test_what_fits_is_not_cut() -> None:
    """The longest list of scopes that a reason names is whole."""
    scopes = " ".join(["a" * 128] * 32)
    status = status_of(ScopeNotGrantedError("fewer", metadata={"missing": scopes}), lambda: 0.0)
    assert {"missing": scopes} == dict(details_of(status)[1].metadata)
    assert length_of(status) <= 8 * 1024


async def test_a_status_of_many_fields_arrives() -> None:
    """A peer takes it every time: not even at random is it too long for gRPC."""
    kit = Kit()
    key = kit.add_key("orders")
    kit.get_token.error = InvalidRequestError("no", fields=LONG["many fields"])
    async with kit.serve() as (port,), token_stub(port) as stub:
        told = [await refusal(stub.GetToken(WISH, metadata=bearer(key))) for _ in range(20)]
    assert {("INVALID_REQUEST", grpc.StatusCode.INVALID_ARGUMENT)} == {(one.reason, one.code) for one in told}


def test_a_short_deadline_is_a_status_only() -> None:
    """DEADLINE_EXCEEDED carries no details."""
    assert () == status_of(DeadlineTooShortError("late"), lambda: 0.0).trailing
