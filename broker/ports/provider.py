"""What is asked of providers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

from broker.core.models import Client, Origin, Provider
from broker.core.oauth.rfc6749 import HttpReply, HttpRequest
from broker.core.provider_config import ProviderConfig
from broker.core.secret import Secret


class NotSentError(Exception):
    """No byte of the request was written; `cause` is one of: dns, connect, tls, egress, withheld, timeout."""

    def __init__(self, cause: str) -> None:
        super().__init__(cause)
        self.cause = cause


class ReplyLostError(Exception):
    """Bytes were written and no whole reply came; `cause` is one of: timeout, reset, too_large, malformed.

    `partial` is what had come, when the reply's head was whole: a refresh token may stand in it.
    """

    def __init__(self, cause: str, partial: HttpReply | None = None) -> None:
        super().__init__(cause)
        self.cause = cause
        self.partial = partial


class TokenEndpoint(Protocol):
    """One POST to a provider's token endpoint over a connection of its own."""

    async def send(
        self,
        provider: Provider,
        request: HttpRequest,
        *,
        before_write: Callable[[], Awaitable[None]],
        reply_deadline: float,
    ) -> HttpReply:
        """Connect, await `before_write`, write, read the whole reply.

        Guarantees: a new connection, TLS verified and done before `before_write` is awaited; not a byte of the request
        is written before it returns, nothing is awaited between its return and the write, and when it raises nothing is
        written and its exception comes out unchanged. No redirect is followed, nothing is sent twice. The reply is at
        most 256 KiB. `reply_deadline` is in seconds from the write and ends the read whatever drips in.

        Raises:
            NotSentError: before the first byte.
            ReplyLostError: after it.
        """


class AssertionSigner(Protocol):
    """Signs client assertions for private_key_jwt (RFC 7523 §2.2, §3)."""

    def sign(self, provider: Provider, client: Client, private_key: Secret, *, now: float) -> str:
        """Return an assertion for one request: audience the provider's issuer, one-time `jti`, at most 60 s of life.

        `now` is UTC in seconds.

        Raises:
            ProviderRefusedClientError: the stored secret is no private key that can be used (cause `private_key`).
        """


class Presets(Protocol):
    """What is peculiar to a kind of provider; computes, asks nobody."""

    def needs_discovery(self, config: ProviderConfig) -> str | None:
        """Return the issuer whose metadata `resolve` needs, or None when the configuration says it all."""

    def vocabulary(self, config: ProviderConfig) -> Provider | None:
        """Return a provider that is right in nothing but its scopes, whatever else the configuration says.

        None where not even the preset is known.
        """

    def resolve(
        self, config: ProviderConfig, metadata: Mapping[str, object] | None, *, provider_id: str, origin: Origin
    ) -> Provider:
        """Return the provider of a checked configuration.

        Raises:
            ProviderUnavailableError: the metadata lacks or contradicts what is needed.
        """


class Discovery(Protocol):
    """Authorization server metadata (RFC 8414, OpenID Connect Discovery)."""

    async def discover(self, issuer: str, *, insecure_loopback: bool) -> Mapping[str, object]:
        """Return the metadata whose `issuer` equals the one asked for.

        Raises:
            ProviderUnavailableError: not reachable, or not metadata of this issuer (cause says which).
        """
