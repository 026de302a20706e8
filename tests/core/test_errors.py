"""Every error has a reason of its own, and keeps what is public apart from what is ours."""

from __future__ import annotations

import pytest

from broker.core import errors
from broker.core.errors import BrokerError, RateLimitedError, Reason

TOLD = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, BrokerError)]
TOLD.remove(BrokerError)


def test_each_reason_has_one_error() -> None:
    """Errors and reasons are one to one."""
    assert sorted(Reason) == sorted(kind.reason for kind in TOLD)


@pytest.mark.parametrize("kind", TOLD)
def test_every_error_stands_in_the_tree(kind: type[BrokerError]) -> None:
    """The tree in the module's docstring names each error beside its reason."""
    assert any(kind.__name__ in line and kind.reason in line for line in (errors.__doc__ or "").splitlines())


def test_the_cause_is_not_shown() -> None:
    """What is printed of an error is its public text; the cause stays ours."""
    error = RateLimitedError("slow down", cause="bucket 7", metadata={"limit": "per-caller"}, retry_after=0.5)
    assert ("slow down", False) == (str(error), "bucket 7" in repr(error))


def test_an_error_keeps_its_own_facts() -> None:
    """Metadata and fields are copies: who raised the error cannot change what is told."""
    metadata = {"limit": "per-caller"}
    fields = {"scopes": "name at least one"}
    error = RateLimitedError("slow down", metadata=metadata, fields=fields, retry_after=0.5)
    metadata.clear()
    fields.clear()
    expected = ({"limit": "per-caller"}, {"scopes": "name at least one"}, 0.5)
    assert expected == (error.metadata, error.fields, error.retry_after)


def test_an_error_may_say_nothing_more() -> None:
    """Metadata, fields and waiting time are empty unless given."""
    error = RateLimitedError("slow down")
    assert ({}, {}, None, "") == (error.metadata, error.fields, error.retry_after, error.cause)


def test_told_again_an_error_is_equal_and_another() -> None:
    """Who waits for the same outcome is told the same, in an exception of its own."""
    error = RateLimitedError("slow", cause="b", metadata={"limit": "l"}, retry_after=0.5, fields={"scopes": "s"})
    again = error.again()
    assert (RateLimitedError, vars(error)) == (type(again), vars(again))
    assert again is not error
