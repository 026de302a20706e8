"""SPIFFE IDs as caller ids (SPIFFE-ID standard §2)."""

from __future__ import annotations

import re
from typing import Final

from broker.core.identity import CallerId, is_subject

SCHEME: Final = "spiffe"
_SEGMENT: Final = re.compile(r"[A-Za-z0-9._-]+")
_TRUST_DOMAIN: Final = re.compile(r"[a-z0-9._-]{1,255}")


def is_trust_domain(text: str) -> bool:
    """Tell whether `text` can be the name of a trust domain."""
    return bool(_TRUST_DOMAIN.fullmatch(text))


def workload_of(unverified_id: str, trust_domain: str) -> CallerId | None:
    """Return the caller a SPIFFE ID names, or None when it is no workload of exactly this trust domain.

    A workload has a path, of segments that are not empty, `.` or `..`; there is no query, fragment, user or port. The
    caller's subject is bounded as every subject, to 255 characters.
    """
    start = f"{SCHEME}://{trust_domain}/"
    if not unverified_id.startswith(start):
        return None
    segments = unverified_id.removeprefix(start).split("/")
    if not all(_SEGMENT.fullmatch(segment) and segment not in {".", ".."} for segment in segments):
        return None
    subject = unverified_id.removeprefix(f"{SCHEME}:")
    return CallerId(SCHEME, subject) if is_subject(subject) else None
