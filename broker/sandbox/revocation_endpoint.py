"""`POST /v1/oauth2/revoke` (RFC 7009): a token in, and 200 out whether or not it was there to be ended."""

from __future__ import annotations

from http import HTTPStatus

from starlette.requests import Request
from starlette.responses import Response

from broker.sandbox.behaviour import Revocation
from broker.sandbox.client_auth import authenticate
from broker.sandbox.client_request import NO_STORE, is_json, parse_params, refusal, required
from broker.sandbox.config import ClientSeed
from broker.sandbox.errors import OAuthError, http_error
from broker.sandbox.rotation import has_ended
from broker.sandbox.state import State, state_of
from broker.sandbox.tokens import forget_access_tokens

REVOCATION_PATH = "/v1/oauth2/revoke"


async def revoke(request: Request) -> Response:
    """Answer a revocation request, and count how it went."""
    state = state_of(request)
    state.counters.revocation_calls += 1
    if state.behaviour.revocation is Revocation.OFF:
        _count(state, "-/not_found")
        return http_error(HTTPStatus.NOT_FOUND)
    body_is_json = is_json(request)
    try:
        params = parse_params(await request.body(), body_is_json=body_is_json)
        authorization = request.headers.get("authorization")
        client, _ = authenticate(state, params, authorization, body_is_json=body_is_json)
        token = required(params, "token")
        if state.behaviour.revocation is Revocation.UNSUPPORTED:
            raise OAuthError("unsupported_token_type", "tokens of this kind cannot be revoked", field="token")  # noqa: TRY301, one place for errors
    except OAuthError as error:
        _count(state, f"-/{error.error}")
        return refusal(error)
    _count(state, _end(state, client, token))
    return Response(headers=NO_STORE)


def _end(state: State, client: ClientSeed, token: str) -> str:
    """End what this token of the client's stands for, and return the outcome.

    `token_type_hint` does not matter, since both kinds are looked through in any case (RFC 7009 §2.1).
    """
    access = state.access_tokens.get(token)
    if access is not None and access.client_id == client.client_id:
        del state.access_tokens[token]
        return "access_token/unchanged" if access.expires_at <= state.now() else "access_token/ended"
    refresh_token = state.refresh_tokens.get(token)
    if refresh_token is None or refresh_token.family.client_id != client.client_id:
        return "-/unchanged"
    if has_ended(state, refresh_token):
        return "refresh_token/unchanged"
    # Spent or not: the client ends the grant, and may hold no newer token of it.
    refresh_token.family.revoked = True
    forget_access_tokens(state, refresh_token.family)
    return "refresh_token/ended"


def _count(state: State, outcome: str) -> None:
    state.counters.revocation_outcomes[outcome] += 1
