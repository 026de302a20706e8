"""Refresh tokens that rotate, each known by every token it ever was.

Aries does not say whether a refresh ends the token that was spent, and an app may hold on to the one it began with: the
documented calls show no other. To present a spent token again can cost the whole grant. So whichever token of a lineage
is presented, the newest one is sent, and by one thread at a time.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from dataclasses import dataclass, field, replace
from typing import Final

from aries_exchange.token_endpoint import TokenEndpoint, Tokens

MAX_TOKENS: Final = 10_000
"""Tokens remembered, spent ones included; past that the one that was used the longest time ago is forgotten."""


@dataclass(eq=False, slots=True)
class _Lineage:
    newest: str = field(repr=False)
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)


class Lineages:
    """The refresh tokens one client has seen."""

    def __init__(self, endpoint: TokenEndpoint) -> None:
        self._endpoint = endpoint
        self._lock = threading.Lock()
        self._by_digest: OrderedDict[bytes, _Lineage] = OrderedDict()

    def refresh(self, refresh_token: str) -> Tokens:
        """Refresh by the newest token of the lineage that this one belongs to.

        Raises:
            AriesAPIError: it was refused.
        """
        lineage = self._remember(refresh_token, _Lineage(refresh_token))
        with lineage.lock:
            tokens = self._endpoint.refresh(lineage.newest)
            if tokens.refresh_token is not None:
                lineage.newest = tokens.refresh_token
                self._remember(tokens.refresh_token, lineage)
            # The reply may leave it out, and the one sent stays good then.
            kept = lineage.newest
        return replace(tokens, refresh_token=kept)

    def _remember(self, refresh_token: str, lineage: _Lineage) -> _Lineage:
        """Return the lineage of a token: the one it is known by, else this."""
        digest = hashlib.sha256(refresh_token.encode()).digest()  # what is spent need not be kept itself
        with self._lock:
            known = self._by_digest.setdefault(digest, lineage)
            self._by_digest.move_to_end(digest)
            while len(self._by_digest) > MAX_TOKENS:
                self._by_digest.popitem(last=False)
        return known
