"""Where a browser is sent back to, with what (RFC 6749 §4.1.2, RFC 9207)."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlencode, urlsplit

from broker.sandbox.behaviour import Iss, StateReply
from broker.sandbox.state import State

WRONG_ISSUER = "https://other-issuer.example"


def build_redirect(state: State, redirect_uri: str, request_state: str | None, answer: Mapping[str, str]) -> str:
    """Return the redirect URI with this answer, the request's state, and who answers; what it has of a query stays."""
    query = urlencode({**answer, **_state(state, request_state), **_iss(state)})
    joint = "&" if urlsplit(redirect_uri).query else "?"
    return f"{redirect_uri.removesuffix('?')}{joint}{query}"


def _state(state: State, request_state: str | None) -> Mapping[str, str]:
    if request_state is None or state.behaviour.state_reply is StateReply.MISSING:
        return {}
    altered = state.behaviour.state_reply is StateReply.ALTERED
    return {"state": f"{request_state}x" if altered else request_state}


def _iss(state: State) -> Mapping[str, str]:
    match state.behaviour.iss:
        case Iss.ON:
            return {"iss": state.config.issuer}
        case Iss.WRONG:
            return {"iss": WRONG_ISSUER}
        case Iss.OFF | Iss.MISSING:
            return {}
