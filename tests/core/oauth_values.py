"""Values the OAuth tests share."""

from __future__ import annotations

import base64
import json
from dataclasses import replace

from broker.core.models import Client, GrantType, Origin, Provider, TokenEndpointAuth
from broker.core.oauth.reply import Reading, read_reply
from broker.core.oauth.rfc6749 import HttpReply, SendFailure

NOW = 1_800_000_000.0
JSON = {"content-type": "application/json"}

PROVIDER = Provider(
    id="p1",
    name="aries",
    origin=Origin.FILE,
    preset="generic",
    issuer="https://as.example",
    token_url="https://as.example/token",
    token_endpoint_auth=TokenEndpointAuth.CLIENT_SECRET_POST,
    scopes={},
    default_expires_in=1234,
)
CLIENT = Client(id="c1", name="desk", origin=Origin.FILE, provider="aries", client_id="desk app:é")


def provider(token_endpoint_auth: TokenEndpointAuth) -> Provider:
    """Return the provider with another client authentication."""
    return replace(PROVIDER, token_endpoint_auth=token_endpoint_auth)


def jwt(**claims: object) -> str:
    """Return a JWT with these claims and a nonsense signature."""
    parts = [json.dumps(part).encode() for part in ({"alg": "ES256"}, claims)]
    return ".".join([*(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts), "c2ln"])


def success(**members: object) -> HttpReply:
    """Return a 200 with an access token and these members; a member given as None is left out."""
    body = {"access_token": "at-1", "token_type": "Bearer", "expires_in": 3600} | members
    return reply(200, json.dumps({name: value for name, value in body.items() if value is not None}).encode())


def reply(status: int, body: bytes = b"", **headers: str) -> HttpReply:
    """Return a JSON reply; header names with _ for -."""
    return HttpReply(status, JSON | {name.replace("_", "-"): value for name, value in headers.items()}, body)


def read(
    result: HttpReply | SendFailure, grant_type: GrantType = GrantType.REFRESH_TOKEN, *, refuse_sandbox: bool = False
) -> Reading:
    """Read a reply to a request sent five seconds ago."""
    return read_reply(
        result, grant_type=grant_type, provider=PROVIDER, sent_at=NOW - 5, now=NOW, refuse_sandbox=refuse_sandbox
    )
