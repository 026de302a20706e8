"""Caller ids: a pair in code, one text in print."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.core.identity import ISSUER_NAME, RESERVED_KINDS, CallerId, is_subject, parse_caller


@pytest.mark.parametrize(
    ("caller", "printed"),
    [
        (CallerId("key", "reports"), "key:reports"),
        (CallerId("spiffe", "//corp.example/ns/a"), "spiffe://corp.example/ns/a"),
        (CallerId("k8s", "system:serviceaccount:a:b"), "k8s:system:serviceaccount:a:b"),
    ],
)
def test_printed_form(caller: CallerId, printed: str) -> None:
    """Kind and subject are parted by a colon, and known again; a SPIFFE ID prints as itself."""
    assert (printed, caller) == (str(caller), parse_caller(printed))


KINDS = st.from_regex(ISSUER_NAME, fullmatch=True)


@given(KINDS, st.text(min_size=1), KINDS, st.text(min_size=1))
def test_two_callers_never_print_alike(kind: str, subject: str, other_kind: str, other_subject: str) -> None:
    """A kind holds no colon, so the first colon parts the printed form again."""
    first, second = CallerId(kind, subject), CallerId(other_kind, other_subject)
    assert (first == second) == (str(first) == str(second))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a", True),
        ("~!x/y:z", True),
        ("x" * 255, True),
        ("x" * 256, False),
        ("", False),
        ("a b", False),
        ("a\n", False),
        ("é", False),
        ("a\x7f", False),
    ],
)
def test_subjects(text: str, expected: bool) -> None:
    """A subject is 1 to 255 printable ASCII characters."""
    assert expected == is_subject(text)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("k8s", True), ("corp-sso", True), ("k", False), ("8s", False), ("K8s", False), ("a" * 32, False), ("a:b", False)],
)
def test_issuer_names(name: str, expected: bool) -> None:
    """An issuer's name is 2 to 31 of lower case, digits and dashes, a letter first."""
    assert expected == bool(ISSUER_NAME.fullmatch(name))


@pytest.mark.parametrize("kind", sorted(RESERVED_KINDS))
def test_reserved_kinds_look_like_issuer_names(kind: str) -> None:
    """Reserved kinds have to be refused by name, their form does not tell them apart."""
    assert ISSUER_NAME.fullmatch(kind)
