"""Client authentication at the token and revocation endpoints (RFC 6749 §2.3, RFC 7523)."""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote_plus

import jwt

from broker.sandbox.config import AuthMethod, ClientSeed
from broker.sandbox.errors import OAuthError, invalid_request
from broker.sandbox.state import State

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
MAX_ASSERTION_SECONDS = 300
ALGORITHMS = ["ES256", "ES384", "RS256", "PS256", "EdDSA"]


def authenticate(
    state: State,
    params: Mapping[str, str],
    authorization: str | None,
    *,
    body_is_json: bool,
) -> tuple[ClientSeed, AuthMethod]:
    """Return the client that sent this request, and how it proved itself.

    Raises:
        OAuthError: `invalid_client`, or `invalid_request` for more than one method at once.
    """
    method = _method(params, authorization, body_is_json=body_is_json)
    match method:
        case AuthMethod.BASIC:
            client = _by_secret(state, *_basic(authorization or ""))
        case AuthMethod.PRIVATE_KEY_JWT:
            client = _by_assertion(state, params)
        case AuthMethod.NONE:
            client = _client(state, params.get("client_id", ""))
            if client.client_secret is not None or client.jwks is not None or client.public_key is not None:
                raise _refused("the client must authenticate")
        case _:
            client = _by_secret(state, params.get("client_id", ""), params["client_secret"])
    if client.auth_method not in {None, method}:
        raise _refused(f"{method} is not this client's method")
    return client, method


def _method(params: Mapping[str, str], authorization: str | None, *, body_is_json: bool) -> AuthMethod:
    used = []
    if authorization is not None:
        used.append(AuthMethod.BASIC)
    if "client_secret" in params:
        used.append(AuthMethod.JSON if body_is_json else AuthMethod.FORM)
    if "client_assertion" in params:
        used.append(AuthMethod.PRIVATE_KEY_JWT)
    if len(used) > 1:
        raise invalid_request("more than one way of client authentication")
    return used[0] if used else AuthMethod.NONE


def _basic(authorization: str) -> tuple[str, str]:
    scheme, _, credentials = authorization.partition(" ")
    try:
        decoded = base64.b64decode(credentials.strip(), validate=True).decode("utf-8")
    except (binascii.Error, UnicodeDecodeError) as error:
        raise _refused("the Authorization header is not Basic") from error
    client_id, colon, secret = decoded.partition(":")
    if scheme.lower() != "basic" or not colon:
        raise _refused("the Authorization header is not Basic")
    return unquote_plus(client_id), unquote_plus(secret)


def _by_secret(state: State, client_id: str, secret: str) -> ClientSeed:
    client = _client(state, client_id)
    if client.client_secret is None or not hmac.compare_digest(client.client_secret.encode(), secret.encode()):
        raise _refused("unknown client or wrong secret")
    return client


def _by_assertion(state: State, params: Mapping[str, str]) -> ClientSeed:
    if params.get("client_assertion_type") != ASSERTION_TYPE:
        raise _refused("unknown client_assertion_type")
    assertion = params["client_assertion"]
    try:
        unverified_claims = jwt.decode(assertion, options={"verify_signature": False})
        client = _client(state, str(unverified_claims.get("sub", "")))
        claims = jwt.decode(
            assertion,
            _verification_key(client, jwt.get_unverified_header(assertion)),
            algorithms=ALGORITHMS,
            # Times are checked below, by the sandbox's own clock.
            options={"verify_exp": False, "verify_iat": False, "verify_nbf": False, "verify_aud": False},
        )
    except jwt.PyJWTError as error:
        raise _refused("the assertion does not verify") from error
    _check_claims(state, claims, client, params)
    return client


def _verification_key(client: ClientSeed, header: Mapping[str, Any]) -> Any:  # noqa: ANN401, whatever PyJWT takes
    if client.public_key is not None:
        return client.public_key
    if client.jwks is not None:
        keys = jwt.PyJWKSet.from_dict(dict(client.jwks)).keys
        for key in keys:
            if len(keys) == 1 or key.key_id == header.get("kid"):
                return key.key
    raise _refused("no key for this assertion")


def _check_claims(state: State, claims: Mapping[str, Any], client: ClientSeed, params: Mapping[str, str]) -> None:
    """Check RFC 7523 §3, with the audience as one string: the issuer."""
    now = state.now()
    expires, assertion_id = claims.get("exp"), claims.get("jti")
    if claims.get("iss") != client.client_id or params.get("client_id", client.client_id) != client.client_id:
        raise _refused("iss, sub and client_id differ")
    if claims.get("aud") != state.config.issuer:
        raise _refused("aud is not the issuer")
    if not isinstance(expires, int | float) or not now < expires <= now + MAX_ASSERTION_SECONDS:
        raise _refused("exp is missing, past or too far ahead")
    if not isinstance(assertion_id, str) or assertion_id in state.assertion_ids:
        raise _refused("jti is missing or was seen before")
    state.assertion_ids = {known: end for known, end in state.assertion_ids.items() if end > now}
    state.assertion_ids[assertion_id] = expires


def _client(state: State, client_id: str) -> ClientSeed:
    client = state.clients.get(client_id)
    if client is None:
        raise _refused("unknown client or wrong secret")
    return client


def _refused(description: str) -> OAuthError:
    return OAuthError("invalid_client", description, status=401)
