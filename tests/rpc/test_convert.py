"""Messages to values and back."""

from __future__ import annotations

import pytest
from google.protobuf.duration_pb2 import Duration

from aries.broker.v1 import token_pb2
from broker.core.errors import InvalidRequestError
from broker.core.identity import CallerId
from broker.core.models import Narrowing
from broker.core.secret import Secret
from broker.flows.decide import TokenRequest
from broker.rpc.convert import _NARROWING, secret_of, token_reply, token_request
from tests.rpc.kit import ACCESS_TOKEN, issued

CALLER = CallerId("key", "orders")


def test_a_request_becomes_a_wish() -> None:
    """Every field arrives; an absent duration is None."""
    request = token_pb2.GetTokenRequest(
        grant="desk",
        scopes=["trade", "read"],
        min_lifetime=Duration(seconds=90, nanos=500_000_000),
        resource="https://api.example/v1",
        rejected_fingerprint="0f" * 16,
    )
    assert TokenRequest(CALLER, "desk", ("trade", "read"), 90.5, "https://api.example/v1", "0f" * 16) == token_request(
        request, CALLER
    )
    assert TokenRequest(CALLER, "", ("read",), None, "") == token_request(
        token_pb2.GetTokenRequest(scopes=["read"]), CALLER
    )


def test_all_wrong_fields_are_told_at_once() -> None:
    """One answer names every field."""
    request = token_pb2.GetTokenRequest(scopes=["read"], min_lifetime=Duration(seconds=-1), resource="#")
    request.rejected_fingerprint = "0F" * 16
    with pytest.raises(InvalidRequestError) as told:
        token_request(request, CALLER)
    assert {"resource", "min_lifetime", "rejected_fingerprint"} == set(told.value.fields)


def test_a_token_becomes_a_reply() -> None:
    """Every field is set, lifetimes are rounded down, never up."""
    reply = token_reply(issued(("read",), "desk"))
    unset = {"lifetime_assumed", "excess_scopes"}
    assert {field.name for field in reply.DESCRIPTOR.fields} - unset == {field.name for field, _ in reply.ListFields()}
    assert (ACCESS_TOKEN, "Bearer", 59_999) == (reply.access_token, reply.token_type, reply.lifetime.ToMilliseconds())
    assert "2030-01-01T00:00:00Z" == reply.expire_time.ToJsonString()


def test_every_label_has_its_enum_value() -> None:
    """The labels of the model are those of the contract."""
    assert set(Narrowing) == set(_NARROWING)
    assert {f"NARROWING_{label.name}": value for label, value in _NARROWING.items()} == {
        name: value for name, value in token_pb2.Narrowing.items() if value
    }


@pytest.mark.parametrize("text", ["", "s" * (16 * 1024 + 1)])
def test_a_secret_field_is_required_and_bounded(text: str) -> None:
    """An empty or endless secret is refused, naming the field and not the text."""
    with pytest.raises(InvalidRequestError) as told:
        secret_of(text, "secret")
    assert ["secret"] == list(told.value.fields)
    assert "sss" not in told.value.public
    assert Secret("s") == secret_of("s", "secret")
