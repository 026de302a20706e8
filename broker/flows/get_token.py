"""GetToken, from the caller's wish to a token in its hand."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from broker.core.identity import CallerId
from broker.core.models import Narrowing
from broker.core.secret import Secret
from broker.flows.trail import Trail


@dataclass(frozen=True, slots=True)
class TokenRequest:
    """A caller's wish, fields as in the contract; `min_lifetime` in seconds, `grant` empty when left out."""

    caller: CallerId
    grant: str
    scopes: tuple[str, ...]
    min_lifetime: float | None
    resource: str


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """A token and what its reply says; `lifetime` and `renew_after` in seconds from now."""

    access_token: Secret
    scopes: tuple[str, ...]
    expires_at: datetime
    lifetime: float
    renew_after: float
    narrowing: Narrowing
    fingerprint: str
    grant: str
    lifetime_assumed: bool
    provider_scopes: tuple[str, ...]
    api_origins: tuple[str, ...]
    excess_scopes: tuple[str, ...]
    source: str


class GetToken:
    """The flow; one per process."""

    async def __call__(self, request: TokenRequest, trail: Trail) -> IssuedToken:
        """Return a token that carries no more than asked and policy accepts; BrokerError otherwise."""
        raise NotImplementedError
