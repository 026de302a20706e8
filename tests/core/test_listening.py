"""Where the broker may listen."""

from __future__ import annotations

import pytest

from broker.core.listening import AdminOn, default_admin_on, is_loopback, plaintext_problem


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("127.0.0.1:50051", True),
        ("127.9.9.9:1", True),
        ("[::1]:50051", True),
        ("localhost:50051", True),
        ("0.0.0.0:50051", False),
        ("[::]:50051", False),
        ("10.0.0.1:50051", False),
        ("localhost.evil.example:50051", False),
        (":50051", False),
    ],
)
def test_loopback(address: str, expected: bool) -> None:
    """Loopback is an address of this machine's loopback network, or localhost."""
    assert expected == is_loopback(address)


@pytest.mark.parametrize(
    ("address", "flag", "allowed", "may"),
    [
        ("127.0.0.1:1", False, None, True),
        ("0.0.0.0:1", False, None, False),
        ("0.0.0.0:1", True, None, False),
        ("0.0.0.0:1", False, "0.0.0.0:1", False),
        ("0.0.0.0:1", True, "0.0.0.0:2", False),
        ("0.0.0.0:1", True, "0.0.0.0:1", True),
    ],
)
def test_plaintext_off_loopback_is_told_twice(address: str, flag: bool, allowed: str | None, may: bool) -> None:
    """Flag and variable with exactly this address, both; the problem says how."""
    problem = plaintext_problem(address, insecure_flag=flag, allowed_address=allowed)
    assert may == (problem is None)
    assert problem is None or f"BROKER_ALLOW_PLAINTEXT={address}" in problem


def test_admin_answers_on_mtls_where_there_is_such_a_listener() -> None:
    """The default is the safer listener there is."""
    assert [AdminOn.MTLS, AdminOn.LISTEN] == [default_admin_on(has_mtls=True), default_admin_on(has_mtls=False)]
