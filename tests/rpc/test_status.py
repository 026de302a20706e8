"""The table of reasons against the taxonomy and the contract, and the details of a status."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from google.rpc import error_details_pb2, status_pb2

from aries.broker.v1 import error_reason_pb2
from broker.core.errors import DeadlineTooShortError, InvalidRequestError, OverloadedError, Reason
from broker.rpc.status import STATUS_OF, status_of


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


def test_a_short_deadline_is_a_status_only() -> None:
    """DEADLINE_EXCEEDED carries no details."""
    assert () == status_of(DeadlineTooShortError("late"), lambda: 0.0).trailing
