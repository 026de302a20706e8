"""Who calls: a caller id is a pair in code; only its printed form has a colon."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

RESERVED_KINDS: Final = frozenset({"key", "spiffe", "system", "local", "broker"})
"""Kinds the broker gives itself; no issuer may be called so."""

ISSUER_NAME: Final = re.compile(r"[a-z][a-z0-9-]{1,30}")
MAX_SUBJECT: Final = 255
"""Longest subject of a caller, in characters."""


class Role(StrEnum):
    """What a person or tool may do to the broker; a caller holding one is never matched by a policy."""

    ADMIN = "admin"
    ROTATOR = "rotator"
    OPERATOR = "operator"
    AUDITOR = "auditor"


@dataclass(frozen=True, slots=True, order=True)
class CallerId:
    """An authenticated workload: `kind` says who vouched (`spiffe`, `key`, an issuer's name), `subject` for whom.

    A SPIFFE ID `spiffe://td/path` is kind `spiffe`, subject `//td/path`, so that it prints as itself.
    """

    kind: str
    subject: str

    def __str__(self) -> str:
        return f"{self.kind}:{self.subject}"


def parse_caller(printed: str) -> CallerId:
    """Return the caller id that prints so."""
    kind, _, subject = printed.partition(":")
    return CallerId(kind, subject)


def is_subject(text: str) -> bool:
    """Tell whether `text` can be a subject: 1 to 255 printable ASCII characters."""
    return 0 < len(text) <= MAX_SUBJECT and all(" " < char <= "~" for char in text)
