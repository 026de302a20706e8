"""`POST /v1/oauth2/token`: JSON or form in, an access token or a flat error out."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from broker.sandbox.behaviour import Narrowing
from broker.sandbox.client_auth import authenticate
from broker.sandbox.client_request import NO_STORE, Params, asked_scopes, is_json, parse_params, refusal, required
from broker.sandbox.codes import check_verifier
from broker.sandbox.config import ClientSeed
from broker.sandbox.errors import OAuthError, invalid_scope
from broker.sandbox.rotation import RULES, is_live, is_reuse, new_refresh_token, note_reuse
from broker.sandbox.state import RefreshToken, State, state_of
from broker.sandbox.tokens import forget_access_tokens, granted_scopes, new_access_token, token_reply

TOKEN_PATH = "/v1/oauth2/token"  # noqa: S105, no token


async def token(request: Request) -> Response:
    """Answer a token request, and count how it went."""
    state = state_of(request)
    state.counters.token_calls += 1
    body_is_json = is_json(request)
    grant_type, seen = "-", {}
    try:
        params = parse_params(await request.body(), body_is_json=body_is_json)
        # Only known names are counted, so that a caller cannot grow the counters.
        grant_type = params["grant_type"] if params.get("grant_type") in _GRANTS else "-"
        seen = {"grant_type": grant_type, "body": "json" if body_is_json else "form", "scope": params.get("scope")}
        client, method = authenticate(
            state,
            params,
            request.headers.get("authorization"),
            body_is_json=body_is_json,
        )
        seen |= {"client_id": client.client_id, "auth_method": method.value}
        reply = _GRANTS.get(grant_type, _unsupported)(state, client, params)
    except OAuthError as error:
        _count(state, grant_type, error.error, seen)
        return refusal(error)
    _count(state, grant_type, "issued", {**seen, "granted": reply.get("scope")})
    return JSONResponse(reply, headers=NO_STORE)


def _client_credentials(state: State, client: ClientSeed, params: Params) -> dict[str, object]:
    """RFC 6749 §4.4: the client acts for its owner; no refresh token."""
    asked = asked_scopes(state, client, params, client.scopes)
    granted = granted_scopes(state, asked, client.client_id)
    access_token = new_access_token(state, client.client_id, client.owner, granted)
    return token_reply(state, access_token, asked=asked, granted=granted, refresh_token=None)


def _refresh_token(state: State, client: ClientSeed, params: Params) -> dict[str, object]:
    """RFC 6749 §6: a new access token, and what the rotation mode makes of the refresh token."""
    presented = _presented(state, client, params)
    if state.behaviour.narrowing is Narrowing.IGNORED:
        asked = presented.scopes
    else:
        asked = asked_scopes(state, client, params, presented.scopes)
        if not asked <= presented.scopes:
            raise invalid_scope("wider than the grant")
    kept = asked if state.behaviour.narrowing is Narrowing.STICKY else presented.scopes
    successor = RULES[state.behaviour.rotation].advance(state, presented, kept)
    if state.behaviour.refresh_kills_access_tokens:
        forget_access_tokens(state, presented.family)
    return _reply_for(state, asked, successor or presented, is_named=successor is not None)


def _authorization_code(state: State, client: ClientSeed, params: Params) -> dict[str, object]:
    """RFC 6749 §4.1.3 and RFC 7636 §4.6: a code works once; a second use ends what the first gave."""
    code = state.codes.get(required(params, "code"))
    if code is None or code.client_id != client.client_id or code.expires_at <= state.now():
        raise _invalid_grant("unknown or expired code")
    if code.family is not None:
        code.family.revoked = True
        raise _invalid_grant("the code was used before")
    if code.redirect_uri != params.get("redirect_uri", ""):
        raise _invalid_grant("redirect_uri differs")
    check_verifier(code, params.get("code_verifier"), client)
    behaviour = state.behaviour
    subject = code.user_id if behaviour.code_subject is None else behaviour.code_subject
    code.family = state.new_family(client.client_id, subject)
    refresh_token = new_refresh_token(state, code.family, code.scopes)
    return _reply_for(state, code.scopes, refresh_token, is_named=behaviour.code_refresh_token)


def _unsupported(_state: State, _client: ClientSeed, params: Params) -> dict[str, object]:
    required(params, "grant_type")
    raise _unsupported_grant_type()


_GRANTS: Mapping[str, Callable[[State, ClientSeed, Params], dict[str, object]]] = {
    "client_credentials": _client_credentials,
    "refresh_token": _refresh_token,
    "authorization_code": _authorization_code,
    "code": _authorization_code,
}


def _reply_for(
    state: State,
    asked: frozenset[str],
    refresh_token: RefreshToken,
    *,
    is_named: bool,
) -> dict[str, object]:
    family = refresh_token.family
    granted = granted_scopes(state, asked, family.client_id)
    access_token = new_access_token(state, family.client_id, family.user_id, granted, refresh_token)
    named = refresh_token if is_named else None
    return token_reply(state, access_token, asked=asked, granted=granted, refresh_token=named)


def _presented(state: State, client: ClientSeed, params: Params) -> RefreshToken:
    presented = state.refresh_tokens.get(required(params, "refresh_token"))
    if presented is None or presented.family.client_id != client.client_id:
        raise _invalid_grant("unknown refresh token")
    if is_reuse(state, presented):
        note_reuse(state, presented)
        raise _invalid_grant("the refresh token was used before")
    if not is_live(state, presented):
        raise _invalid_grant("the refresh token is superseded, revoked or expired")
    return presented


def _invalid_grant(description: str) -> OAuthError:
    return OAuthError("invalid_grant", description)


def _unsupported_grant_type() -> OAuthError:
    return OAuthError("unsupported_grant_type", "no such grant_type", field="grant_type")


def _count(state: State, grant_type: str, outcome: str, seen: Mapping[str, object]) -> None:
    state.counters.token_outcomes[f"{grant_type}/{outcome}"] += 1
    state.counters.last_token_call = {**seen, "outcome": outcome}
