"""What a ciphertext is bound to, so that swapped rows and re-pointed endpoints do not open."""

from __future__ import annotations

from dataclasses import dataclass


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
    grant_id: str, epoch: int, client_id: str, scopes: str, resource: str, attempt: int, token_origin: str
) -> Binding:
    """Bind a cached access token to its cache key and attempt."""
    return Binding("access_tokens", (grant_id, epoch, client_id, scopes, resource, attempt), token_origin)
