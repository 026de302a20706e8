"""The pattern language: what matches, what is refused, and how long it takes."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.core import globs
from broker.core.identity import CallerId, Role

PATTERNS = st.text(alphabet="ab*/:", max_size=12)
TEXTS = st.text(alphabet="ab/:", max_size=12)


def naive(pattern: str, text: str) -> bool:
    """Match by trying every way; the reference, hopelessly slow on purpose."""
    if re.split("[/:]", pattern)[-1] == "**":
        return any(
            text[end - 1 : end] in {"", *"/:"} and naive_segments(pattern[:-2], text[:end])
            for end in range(len(text) + 1)
        )
    return naive_segments(pattern, text)


def naive_segments(pattern: str, text: str) -> bool:
    """Match without `**`."""
    if not pattern:
        return not text
    if pattern[0] == "*":
        here = naive_segments(pattern[1:], text)
        return here or bool(text and text[0] not in "/:" and naive_segments(pattern, text[1:]))
    return bool(text) and text[0] == pattern[0] and naive_segments(pattern[1:], text[1:])


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        ("desk-service", "desk-service", True),
        ("desk-service", "desk-service2", False),
        ("desk-*", "desk-service", True),
        ("desk-*", "desk-", True),
        ("desk-*", "Desk-service", False),
        ("desk-*", "desk-a/b", False),
        ("desk-*", "desk-a:b", False),
        ("*", "anything", True),
        ("*", "", True),
        ("*", "a/b", False),
        ("*-*-*", "a-b-c", True),
        ("*-*-*", "a-b", False),
        ("a*a", "a", False),
        ("a*b*a", "aba", True),
        ("a*ab*a", "aba", False),
        ("a*b*b", "ab", False),
        ("spiffe://corp.example/ns/reports/*", "spiffe://corp.example/ns/reports/sa", True),
        ("spiffe://corp.example/ns/reports/*", "spiffe://corp.example/ns/reports/sa/x", False),
        ("spiffe://corp.example/ns/*/sa/orders", "spiffe://corp.example/ns/trading/sa/orders", True),
        ("spiffe://corp.example/**", "spiffe://corp.example/ns/reports/sa", True),
        ("spiffe://corp.example/**", "spiffe://corp.example.evil/ns", False),
        ("spiffe://corp.example/**", "spiffe://corp.example", False),
        ("k8s:system:serviceaccount:*:orders", "k8s:system:serviceaccount:trading:orders", True),
        ("k8s:system:serviceaccount:*:orders", "k8s:system:serviceaccount:a:b:orders", False),
        ("k8s:**", "k8s:system:serviceaccount:a:b", True),
        ("**", "a/b:c", True),
        ("**", "", True),
        ("a/b", "a:b", False),
        ("a**b", "axyb", True),
        ("a**", "ab/c", False),
        ("**/b", "a/b", True),
        ("**/b", "a/a/b", False),
        ("a?[b]\\", "a?[b]\\", True),
        ("a?", "ab", False),
        ("[ab]", "a", False),
        ("\\*", "*", False),
    ],
)
def test_matches(pattern: str, text: str, expected: bool) -> None:
    """`*` stays in its segment, `**` is the rest only as the last segment, all else is literal and case counts."""
    assert expected == globs.matches(pattern, text)


@given(PATTERNS, TEXTS)
def test_matches_as_the_naive_matcher(pattern: str, text: str) -> None:
    """The matcher agrees with one that tries every way."""
    assert naive(pattern, text) == globs.matches(pattern, text)


@given(TEXTS)
def test_a_pattern_without_stars_matches_itself_alone(text: str) -> None:
    """A literal pattern covers its own text, and none with more in it."""
    assert [True, False] == [globs.matches(text, text), globs.matches(text, text + "b")]


@given(PATTERNS, TEXTS)
def test_every_match_begins_with_the_literal_prefix(pattern: str, text: str) -> None:
    """A store may look grants up by the literal prefix without missing one."""
    assert not globs.matches(pattern, text) or text.startswith(globs.literal_prefix(pattern))


@pytest.mark.parametrize(
    ("pattern", "unit"),
    [("*a" * 200 + "b", "a"), ("*ab" * 150 + "*c", "ab"), ("*" * 500 + "b", "a"), ("a*" * 100 + "/**", "a")],
)
def test_hostile_input_takes_linear_time(pattern: str, unit: str) -> None:
    """Text eight times as long takes about eight times as long, not exponentially or even quadratically longer."""

    def shortest(length: int) -> float:
        text = unit * length
        spans = []
        for _ in range(5):
            start = time.thread_time()
            globs.matches(pattern, text)
            spans.append(time.thread_time() - start)
        return min(spans)

    assert shortest(80_000) < 40 * shortest(10_000) + 0.005


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        ("key:reports", CallerId("key", "reports"), True),
        ("key:reports", CallerId("corp", "reports"), False),
        ("key", CallerId("key", ""), False),
        ("*:reports", CallerId("key", "reports"), False),
        ("spiffe://td/*", CallerId("spiffe", "//td/a"), True),
        ("a:b:*", CallerId("a", "b:c"), True),
        ("a:b:*", CallerId("a:b", "c"), False),
    ],
)
def test_the_kind_is_literal(pattern: str, text: CallerId, expected: bool) -> None:
    """A caller matches only under its own kind, whatever stars stand before the first colon."""
    assert expected == globs.matches_caller(pattern, text)


@pytest.mark.parametrize(
    ("pattern", "expected"), [("desk-*", "desk-"), ("desk", "desk"), ("*", ""), ("a/**", "a/"), ("", "")]
)
def test_literal_prefix(pattern: str, expected: str) -> None:
    """The literal prefix ends where the first star stands."""
    assert expected == globs.literal_prefix(pattern)


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("desk-*", []),
        ("**", []),
        ("a/**", []),
        ("", ["a pattern must not be empty"]),
        ("a" * 513, ["a pattern has at most 512 characters"]),
        ("a b", ["a pattern holds printable ASCII without spaces"]),
        ("dé", ["a pattern holds printable ASCII without spaces"]),
        ("a\n", ["a pattern holds printable ASCII without spaces"]),
        ("**/a", ["`**` may only be the whole last segment"]),
        ("a/b**", ["`**` may only be the whole last segment"]),
        ("a/***", ["`**` may only be the whole last segment"]),
    ],
)
def test_problems(pattern: str, expected: list[str]) -> None:
    """A pattern that cannot mean what it seems to say is refused in words."""
    assert expected == globs.problems(pattern)


LITERAL_KIND = "a caller pattern begins with a literal kind and a colon, as in `key:` or `spiffe:`"
EVERY_SUBJECT = "the pattern matches every subject of its issuer: narrow it, or say `any_subject: true`"


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("key:reports", []),
        ("spiffe://corp.example/ns/reports/*", []),
        ("k8s:system:serviceaccount:**", []),
        ("", ["a pattern must not be empty"]),
        ("*:reports", [LITERAL_KIND]),
        ("**", [LITERAL_KIND]),
        ("KEY:reports", [LITERAL_KIND]),
        ("reports", ["a caller pattern is a kind, a colon and a subject"]),
        ("key:", ["a caller pattern names a subject after its kind"]),
        ("key:*", [EVERY_SUBJECT]),
        ("k8s:**", [EVERY_SUBJECT]),
        ("k8s:*:*:*:*", [EVERY_SUBJECT]),
        ("spiffe://corp.example/**", [EVERY_SUBJECT]),
        ("spiffe://*/**", [EVERY_SUBJECT]),
        ("spiffe:**", [EVERY_SUBJECT]),
        ("spiffe:/**", [EVERY_SUBJECT]),
        ("spiffe://**", [EVERY_SUBJECT]),
        ("spiffe:*/**", [EVERY_SUBJECT]),
        ("spiffe:*/*/**", [EVERY_SUBJECT]),
        ("spiffe:*/*/*/*", [EVERY_SUBJECT]),
        ("spiffe:*/*/corp.example/**", [EVERY_SUBJECT]),
        ("spiffe://corp.*/**", [EVERY_SUBJECT]),
        ("spiffe://*.example/*/*", [EVERY_SUBJECT]),
        ("spiffe:*", [EVERY_SUBJECT]),
        ("spiffe://*", [EVERY_SUBJECT]),
        ("spiffe://corp.*", [EVERY_SUBJECT]),
        ("spiffe://corp.example", []),
        ("spiffe://*/orders", []),
        ("spiffe:*/*/*/orders", []),
        ("spiffe://corp.example/*/sa/**", []),
        ("key:a b", ["a pattern holds printable ASCII without spaces"]),
    ],
)
def test_caller_problems(pattern: str, expected: list[str]) -> None:
    """A caller pattern has a literal kind and tells subjects apart."""
    assert expected == globs.caller_problems(pattern)


def test_every_subject_has_to_be_said() -> None:
    """`any_subject: true` allows the pattern that matches every subject."""
    assert [] == globs.caller_problems("k8s:**", any_subject=True)


@pytest.mark.parametrize(
    ("pattern", "role", "expected"),
    [
        ("spiffe://corp.example/ns/ops/*", Role.ROTATOR, []),
        ("key:root", Role.ADMIN, []),
        ("key:root-*", Role.ADMIN, ["the role admin names each caller in full"]),
        ("k8s:system:**", Role.OPERATOR, ["a role's pattern holds no `**`"]),
        ("key:*", Role.AUDITOR, ["a role's pattern is no bare `*`"]),
        ("spiffe://corp.example/*", Role.AUDITOR, ["a role's pattern is no bare `*`"]),
        ("spiffe:*/*/corp.example/*", Role.AUDITOR, ["a role's pattern is no bare `*`"]),
        ("ops", Role.AUDITOR, ["a caller pattern is a kind, a colon and a subject"]),
    ],
)
def test_role_problems(pattern: str, role: Role, expected: list[str]) -> None:
    """A role is never given by `**` or a bare `*`, and admin by no glob at all."""
    assert expected == globs.role_problems(pattern, role)


@given(st.text(alphabet="ab*/:", max_size=8))
def test_what_is_not_flagged_leaves_a_subject_out(pattern: str) -> None:
    """A caller pattern that is not said to match every subject does not match some subject."""
    whole = f"k8s:{pattern}**"
    assert globs.matches_every_subject(whole) or not globs.matches_caller(whole, CallerId("k8s", "#"))


@given(st.text(alphabet="td*/:", max_size=10))
def test_what_is_not_flagged_leaves_a_workload_out(pattern: str) -> None:
    """A pattern that is not said to match every workload of a trust domain does not match some workload."""
    patterns = [f"spiffe:{pattern}", f"spiffe:{pattern}**", f"spiffe:{pattern}/**"]
    every = [one for one in patterns if globs.matches_caller(one, CallerId("spiffe", "//td/z"))]
    assert all(map(globs.matches_every_subject, every))


def test_printed_ids_split_at_the_first_colon() -> None:
    """A SPIFFE ID prints as itself."""
    assert str(CallerId("spiffe", "//td/a")) == "spiffe://td/a"
