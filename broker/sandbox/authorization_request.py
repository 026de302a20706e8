"""The authorization request, from a query or from JSON (RFC 6749 §4.1.1, RFC 7636 §4.3)."""

from __future__ import annotations

import re
from http import HTTPStatus

from broker.sandbox.client_request import Params, asked_scopes, required
from broker.sandbox.codes import PLAIN, S256
from broker.sandbox.config import ClientSeed
from broker.sandbox.errors import OAuthError, invalid_request
from broker.sandbox.login_state import AuthorizationRequest
from broker.sandbox.state import State

_CHALLENGES = {S256: re.compile(r"[A-Za-z0-9_-]{43}"), PLAIN: re.compile(r"[A-Za-z0-9._~-]{43,128}")}


def given(params: Params) -> Params:
    """Return the parameters with a value: one without counts as left out (RFC 6749 §3.1)."""
    return {name: value for name, value in params.items() if value}


def parse_recipient(state: State, params: Params) -> tuple[ClientSeed, str]:
    """Return the client and the redirect URI; while they are not known to belong together nobody is sent anywhere.

    Raises:
        OAuthError: one is missing, the client is unknown, or the URI is not one of its registered ones to the letter.
    """
    client = state.clients.get(required(params, "client_id"))
    if client is None:
        raise OAuthError("unauthorized_client", "unknown client", status=HTTPStatus.FORBIDDEN, field="client_id")
    redirect_uri = required(params, "redirect_uri")
    if redirect_uri not in client.redirect_uris:
        description = "the redirect_uri is not registered for this client"
        raise OAuthError("invalid_redirect_uri", description, status=HTTPStatus.FORBIDDEN, field="redirect_uri")
    return client, redirect_uri


def parse_authorization(state: State, client: ClientSeed, redirect_uri: str, params: Params) -> AuthorizationRequest:
    """Return the request of a known client.

    Raises:
        OAuthError: with its code of RFC 6749 §4.1.2.1.
    """
    if required(params, "response_type") != "code":
        raise OAuthError("unsupported_response_type", "only code", field="response_type")
    challenge, method = _challenge(state, client, params)
    return AuthorizationRequest(
        client=client,
        redirect_uri=redirect_uri,
        scopes=asked_scopes(state, client, params, client.scopes),
        state=params.get("state"),
        code_challenge=challenge,
        code_challenge_method=method,
    )


def _challenge(state: State, client: ClientSeed, params: Params) -> tuple[str | None, str]:
    challenge = params.get("code_challenge")
    # A challenge without a method is a plain one (RFC 7636 §4.3).
    method = params.get("code_challenge_method", S256 if challenge is None else PLAIN)
    if method != S256 and not (method == PLAIN and state.behaviour.plain_challenge):
        raise invalid_request("code_challenge_method must be S256", "code_challenge_method")
    if challenge is None:
        if client.is_public or "code_challenge_method" in params:
            raise invalid_request("code_challenge is missing", "code_challenge")
    elif not _CHALLENGES[method].fullmatch(challenge):
        raise invalid_request("code_challenge is none", "code_challenge")
    return challenge, method
