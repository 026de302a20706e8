"""RFC 7523: what a client assertion says; signing it is an adapter's."""

from __future__ import annotations

from typing import Final

from broker.core.models import Client, Provider

ASSERTION_LIFE: Final = 60
"""Seconds."""


def client_assertion_claims(provider: Provider, client: Client, *, now: float, jti: str) -> dict[str, str | int]:
    """Return the claims of an assertion by which `client` authenticates at `provider` (RFC 7523 §3).

    The audience is the issuer identifier alone, as one string, so that no other server can be made to accept it.
    `now` is UTC in seconds; `jti` must be unguessable and never used before.
    """
    issued = int(now)
    return {
        "iss": client.client_id,
        "sub": client.client_id,
        "aud": provider.issuer,
        "jti": jti,
        "iat": issued,
        "exp": issued + ASSERTION_LIFE,
    }
