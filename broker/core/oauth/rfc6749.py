"""RFC 6749: requests built, and the messages as values; `reply.py` reads what comes back. No I/O."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeVar
from urllib.parse import quote_plus, urlencode

from broker.core.models import GrantType, Provider, TokenEndpointAuth
from broker.core.secret import Secret

_T = TypeVar("_T")

JWT_BEARER: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A POST to a token or revocation endpoint. `body` and `headers` hold secrets: the type prints neither."""

    url: str
    headers: Mapping[str, str]
    body: bytes

    def __repr__(self) -> str:
        return f"HttpRequest(url={self.url!r})"

    @property
    def basic_pair(self) -> Secret | None:
        """Return the two halves in the Basic credentials, as they were encoded, if there are any."""
        scheme, _, encoded = self.headers.get("authorization", "").partition(" ")
        return Secret(base64.b64decode(encoded).decode()) if scheme == "Basic" else None


@dataclass(frozen=True, slots=True)
class HttpReply:
    """A whole reply, bounded. `unverified_body` may echo secrets: it is never logged and the type does not print it.

    Attributes:
        headers: lower-case names; only the first of a repeated one.
    """

    status: int
    headers: Mapping[str, str]
    unverified_body: bytes

    def __repr__(self) -> str:
        return f"HttpReply(status={self.status})"


@dataclass(frozen=True, slots=True)
class SendFailure:
    """No whole reply came.

    Attributes:
        sent: at least one byte of the request was written.
        cause: not sent: dns, connect, tls, egress, withheld, timeout; sent: timeout, reset, too_large, malformed.
        partial: what had come when the reply broke off, if its head was whole: a refresh token may stand in it.
    """

    sent: bool
    cause: str
    partial: HttpReply | None = None


@dataclass(frozen=True, slots=True)
class ClientProof:
    """How our client proves itself (RFC 6749 §2.3): `secret`, or for private_key_jwt the signed `assertion`.

    Attributes:
        named_only: nothing is proved, since a code verifier stands for the secret (RFC 7636 §4.5).
    """

    method: TokenEndpointAuth
    client_id: str
    secret: Secret | None
    assertion: str | None = field(repr=False)
    named_only: bool = False


@dataclass(frozen=True, slots=True)
class ClientCredentials:
    """The client's own rights (RFC 6749 §4.4). `scopes` are wire scopes; `resource` (RFC 8707) may be empty."""

    scopes: frozenset[str]
    resource: str = ""

    @property
    def type(self) -> GrantType:
        """Return how a reply to this is to be read."""
        return GrantType.CLIENT_CREDENTIALS


@dataclass(frozen=True, slots=True)
class RefreshToken:
    """A refresh (RFC 6749 §6). `scopes` None sends no `scope` parameter: the provider is not trusted to narrow."""

    token: Secret
    scopes: frozenset[str] | None = None
    resource: str = ""

    @property
    def type(self) -> GrantType:
        """Return how a reply to this is to be read."""
        return GrantType.REFRESH_TOKEN


@dataclass(frozen=True, slots=True)
class AuthorizationCode:
    """A code to be exchanged (RFC 6749 §4.1.3), and the verifier of the challenge it was asked with (RFC 7636 §4.5)."""

    code: Secret
    redirect_uri: str
    verifier: Secret

    @property
    def type(self) -> GrantType:
        """Return how a reply to this is to be read: a code is spent as a refresh token is."""
        return GrantType.REFRESH_TOKEN


TokenGrant = ClientCredentials | RefreshToken | AuthorizationCode
"""What a token request is about."""


def build_token_request(provider: Provider, grant: TokenGrant, proof: ClientProof) -> HttpRequest:
    """Build the POST to the token endpoint, authenticated in the provider's one configured way (RFC 6749 §2.3).

    Raises:
        ValueError: client credentials or a narrowed refresh without any scope (an absent `scope` may mean everything),
            or the credential that the provider's method needs is missing.
    """
    as_json = proof.method is TokenEndpointAuth.CLIENT_SECRET_JSON
    return authenticated_post(provider.token_url, _grant_parameters(grant), proof, as_json=as_json)


def authenticated_post(
    url: str, parameters: Mapping[str, str], proof: ClientProof, *, as_json: bool = False
) -> HttpRequest:
    """Build a POST of these parameters in which our client proves itself, or only names itself.

    Raises:
        ValueError: the credential that the method needs is missing.
    """
    headers = {"accept": "application/json"}
    sent = dict(parameters)
    if proof.named_only:
        sent |= {"client_id": proof.client_id}
    elif proof.method is TokenEndpointAuth.PRIVATE_KEY_JWT:
        signed = _needed(proof.assertion, "an assertion")
        sent |= {"client_id": proof.client_id, "client_assertion_type": JWT_BEARER, "client_assertion": signed}
    elif proof.method is TokenEndpointAuth.CLIENT_SECRET_BASIC:
        headers["authorization"] = _basic(proof.client_id, _needed(proof.secret, "a secret").reveal())
    else:
        sent |= {"client_id": proof.client_id, "client_secret": _needed(proof.secret, "a secret").reveal()}
    headers["content-type"] = "application/json" if as_json else "application/x-www-form-urlencoded"
    body = json.dumps(sent) if as_json else urlencode(sent)
    return HttpRequest(url, headers, body.encode())


def _grant_parameters(grant: TokenGrant) -> dict[str, str]:
    if isinstance(grant, AuthorizationCode):
        return {
            "grant_type": "authorization_code",
            "code": grant.code.reveal(),
            "redirect_uri": grant.redirect_uri,
            "code_verifier": grant.verifier.reveal(),
        }
    parameters = {"grant_type": grant.type.value}
    if isinstance(grant, RefreshToken):
        parameters["refresh_token"] = grant.token.reveal()
    if grant.scopes is not None:
        parameters["scope"] = _scope_parameter(grant.scopes)
    if grant.resource:
        parameters["resource"] = grant.resource
    return parameters


def _scope_parameter(scopes: Iterable[str]) -> str:
    """Return the scopes sorted and space-separated (RFC 6749 §3.3)."""
    parameter = " ".join(sorted(scopes))
    if not parameter:
        msg = "a token request without scopes"
        raise ValueError(msg)
    return parameter


def _basic(client_id: str, secret: str) -> str:
    """Return the Basic credentials, both halves form-urlencoded first (RFC 6749 §2.3.1)."""
    pair = f"{quote_plus(client_id)}:{quote_plus(secret)}"
    return f"Basic {base64.b64encode(pair.encode()).decode()}"


def _needed(value: _T | None, what: str) -> _T:
    if value is None:
        msg = f"the provider's client authentication needs {what}"
        raise ValueError(msg)
    return value
