"""Access tokens: what is granted, and the JWT that carries it."""

from __future__ import annotations

import math
import secrets

import jwt

from broker.sandbox.behaviour import ReplyScope, ScopeClaim, ScopeReply
from broker.sandbox.state import AccessToken, Family, RefreshToken, State


def granted_scopes(state: State, asked: frozenset[str], client_id: str) -> frozenset[str]:
    """Return what is granted where `asked` was due, by the `scope_reply` switch."""
    behaviour = state.behaviour
    match behaviour.scope_reply:
        case ScopeReply.HONEST:
            return asked
        case ScopeReply.IGNORE:
            return state.clients[client_id].scopes
        case ScopeReply.WIDER:
            return asked | set(behaviour.wider_scopes)
        case ScopeReply.NARROWER:
            return frozenset(sorted(asked)[:-1])


def new_access_token(
    state: State,
    client_id: str,
    user_id: int,
    scopes: frozenset[str],
    refresh_token: RefreshToken | None = None,
) -> str:
    """Return a signed access token (RFC 9068 claims), remembered until it expires, with where it came from."""
    now = state.now()
    expires_at = math.ceil(now + state.behaviour.access_token_seconds)
    skew = state.behaviour.clock_skew_seconds
    claims: dict[str, object] = {
        "iss": state.config.issuer,
        "aud": state.config.issuer,
        "sub": str(user_id),
        "client_id": client_id,
        "iat": int(now) + skew,
        "nbf": int(now) + skew,
        "exp": expires_at + skew,
        "jti": secrets.token_urlsafe(12),
    }
    if state.behaviour.scope_claim is ScopeClaim.STRING:
        claims["scope"] = " ".join(sorted(scopes))
    elif state.behaviour.scope_claim is ScopeClaim.LIST:
        claims["scope"] = sorted(scopes)
    token = jwt.encode(claims, state.signing_key, algorithm="HS256", headers={"typ": "at+jwt"})
    _forget_expired(state, now)
    state.access_tokens[token] = AccessToken(client_id, user_id, scopes, expires_at, refresh_token)
    return token


def token_reply(
    state: State,
    access_token: str,
    *,
    asked: frozenset[str],
    granted: frozenset[str],
    refresh_token: RefreshToken | None,
) -> dict[str, object]:
    """Return the token endpoint's success body, with the switches that change it applied."""
    behaviour = state.behaviour
    reply: dict[str, object] = {
        "access_token": access_token,
        "token_type": "Bearer",
        "expires_in": behaviour.access_token_seconds,
    }
    if refresh_token is not None:
        reply["refresh_token"] = refresh_token.token
        reply["refresh_token_expires_in"] = int(refresh_token.expires_at - state.now())
    if behaviour.reply_scope is not ReplyScope.ABSENT:
        said = asked if behaviour.reply_scope is ReplyScope.ASKED else granted
        reply["scope"] = " ".join(sorted(said))
    overridden = {**reply, **behaviour.reply_overrides}
    return {name: value for name, value in overridden.items() if value is not None}


def forget_access_tokens(state: State, family: Family) -> None:
    """Make the access tokens given to this family unknown to the API."""
    for token in [token for token, access in state.access_tokens.items() if access.family is family]:
        del state.access_tokens[token]


def _forget_expired(state: State, now: float) -> None:
    # Oldest first: enough to bound the memory, without a search per token.
    while state.access_tokens:
        oldest = next(iter(state.access_tokens))
        if state.access_tokens[oldest].expires_at > now:
            return
        del state.access_tokens[oldest]
