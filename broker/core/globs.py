"""The pattern language of policies and roles, matched by our own code in linear time.

Text is a row of segments between `/` and `:`. `*` stands for any characters, also none, inside one segment; `**` as
the whole last segment stands for the rest of the text, whatever it holds. Nothing else is special and case counts.
Patterns match whole texts. The separators are literal: `/` does not match `:`.
"""

from __future__ import annotations

import re
from typing import Final

from broker.core.identity import ISSUER_NAME, CallerId, Role
from broker.core.spiffe import SCHEME

MAX_PATTERN: Final = 512
"""Longest pattern, in characters."""

_SEPARATOR: Final = re.compile(r"([/:])")
_ANY: Final = "*"
_REST: Final = "**"
_TRUST_DOMAIN: Final = 4
"""Where the trust domain stands in the subject of a SPIFFE ID, `//td/path`, split with its separators kept."""


def matches(pattern: str, text: str) -> bool:
    """Tell whether `pattern` covers the whole of `text`.

    A `**` that is not the whole last segment means what `*` means, so a pattern that slipped past validation matches
    less, never more.
    """
    wanted = _SEPARATOR.split(pattern)
    found = _SEPARATOR.split(text)
    if wanted[-1] == _REST:
        wanted.pop()
        if len(found) < len(wanted):
            return False
        found = found[: len(wanted)]
    return len(wanted) == len(found) and all(map(_matches_segment, wanted, found))


def _matches_segment(pattern: str, segment: str) -> bool:
    """Match one segment: each literal piece is looked for once, leftmost, after the one before it."""
    first, *middle = pattern.split(_ANY)
    if not middle:
        return pattern == segment
    last = middle.pop()
    end = len(segment) - len(last)
    if len(first) > end or not segment.startswith(first) or not segment.endswith(last):
        return False
    at = len(first)
    for piece in middle:
        at = segment.find(piece, at, end)
        if at < 0:
            return False
        at += len(piece)
    return True


def matches_caller(pattern: str, caller: CallerId) -> bool:
    """Tell whether a caller pattern covers a caller; the kind, up to the first colon, is compared literally."""
    kind, colon, subject = pattern.partition(":")
    return bool(colon) and kind == caller.kind and matches(subject, caller.subject)


def is_glob(pattern: str) -> bool:
    """Tell whether `pattern` can match more than one text."""
    return _ANY in pattern


def literal_prefix(pattern: str) -> str:
    """Return what every text that `pattern` matches begins with; the whole pattern when it is no glob."""
    return pattern.partition(_ANY)[0]


def problems(pattern: str) -> list[str]:
    """Return what is wrong with `pattern` in words, an empty list when nothing is."""
    if not pattern:
        return ["a pattern must not be empty"]
    found = []
    if len(pattern) > MAX_PATTERN:
        found.append(f"a pattern has at most {MAX_PATTERN} characters")
    if not all(" " < char <= "~" for char in pattern):
        found.append("a pattern holds printable ASCII without spaces")
    *inner, last = _SEPARATOR.split(pattern)
    if any(_REST in segment for segment in inner) or (_REST in last and last != _REST):
        found.append("`**` may only be the whole last segment")
    return found


def caller_problems(pattern: str, *, any_subject: bool = False) -> list[str]:
    """Return what is wrong with a policy's caller pattern.

    Args:
        pattern: `kind:subject`, the kind literal.
        any_subject: the policy says that a pattern may match every subject of an issuer.
    """
    found = problems(pattern)
    if not found and not ISSUER_NAME.fullmatch(pattern.partition(":")[0]):
        found.append("a caller pattern begins with a literal kind and a colon, as in `key:` or `spiffe:`")
    if not found and ":" not in pattern:
        found.append("a caller pattern is a kind, a colon and a subject")
    if not found and not pattern.partition(":")[2]:
        found.append("a caller pattern names a subject after its kind")
    if not found and matches_every_subject(pattern) and not any_subject:
        found.append("the pattern matches every subject of its issuer: narrow it, or say `any_subject: true`")
    return found


def role_problems(pattern: str, role: Role) -> list[str]:
    """Return what is wrong with a role's caller pattern: no `**`, no bare `*`, for admin no glob at all."""
    found = caller_problems(pattern, any_subject=True)
    if role is Role.ADMIN and is_glob(pattern):
        found.append("the role admin names each caller in full")
    elif _REST in pattern:
        found.append("a role's pattern holds no `**`")
    elif is_glob(pattern) and matches_every_subject(pattern):
        found.append("a role's pattern is no bare `*`")
    return found


def matches_every_subject(pattern: str) -> bool:
    """Tell whether nothing in a caller pattern tells one subject of its issuer from another.

    That is a subject of wildcards and separators alone. Within SPIFFE the issuer is the trust domain, so its name, the
    third segment, tells nothing apart either: `spiffe://corp.example/**` matches every subject, as `spiffe:**` does.
    """
    kind, _, subject = pattern.partition(":")
    segments = _SEPARATOR.split(subject)
    if kind == SCHEME:
        del segments[_TRUST_DOMAIN : _TRUST_DOMAIN + 1]
    return is_glob(subject) and not "".join(segments).strip("*/:")
