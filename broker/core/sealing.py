"""What a ciphertext is bound to, so that swapped rows and re-pointed endpoints do not open."""

from __future__ import annotations

from dataclasses import dataclass

from broker.core.models import AccessTokenKey


@dataclass(frozen=True, slots=True)
class Sealed:
    """A ciphertext and the data key it names; `key_id` is the key's row, so a key in use cannot be dropped."""

    key_id: str
    ciphertext: bytes


@dataclass(frozen=True, slots=True)
class Binding:
    """A row's immutable facts, put into the associated data of what is sealed there.

    Attributes:
        table: where the ciphertext lies.
        facts: facts of the row that never change (ids, consent, attempt, version), in a fixed order.
        token_origin: scheme, host and port of the token endpoint the secret may be sent to; empty where none.
    """

    table: str
    facts: tuple[str | int, ...]
    token_origin: str

    def associated_data(self) -> bytes:
        """Return the binding as bytes in which no two different bindings are alike: each part length-prefixed."""
        parts = [self.table, self.token_origin, *(f"{type(fact).__name__}:{fact}" for fact in self.facts)]
        encoded = [part.encode() for part in parts]
        return b"".join(len(part).to_bytes(4, "big") + part for part in encoded)


def refresh_token_binding(grant_id: str, consent: int, attempt: int, token_origin: str) -> Binding:
    """Bind a refresh token to the attempt that received it."""
    return Binding("refresh_tokens", (grant_id, consent, attempt), token_origin)


def client_secret_binding(client: str, version: int, token_origin: str) -> Binding:
    """Bind a client secret to its client's row id and version."""
    return Binding("client_secrets", (client, version), token_origin)


def access_token_binding(  # noqa: PLR0913 - every immutable fact of the row
    key: AccessTokenKey, attempt: int, granted: tuple[str, ...], *, verified: bool, life_ms: int, token_origin: str
) -> Binding:
    """Bind a cached access token to its cache key, its attempt, and what it was found to be.

    `granted` and `verified` decide who may have the token: whoever could change them beside it could hand it out.
    """
    key_facts = (key.grant_id, key.epoch, key.client_id, " ".join(key.wire_scopes), key.resource)
    return Binding("access_tokens", (*key_facts, attempt, " ".join(granted), verified, life_ms), token_origin)
