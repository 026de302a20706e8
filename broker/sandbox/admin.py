"""`/sandbox/admin/…`: what tests and the demo drive the sandbox with."""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from broker.sandbox.behaviour import changed
from broker.sandbox.codes import new_code
from broker.sandbox.parsing import parsed_json
from broker.sandbox.rotation import is_live, new_refresh_token
from broker.sandbox.script import MAX_FAILURES, parse_failure
from broker.sandbox.state import RefreshToken, State, new_state, state_of

Command = Callable[[Request, State, Mapping[str, Any]], dict[str, Any]]


def admin_routes() -> list[Route]:
    """Return the admin endpoint's routes."""
    commands: list[tuple[str, str, Command]] = [
        ("GET", "/behaviour", _get_behaviour),
        ("PATCH", "/behaviour", _change_behaviour),
        ("POST", "/failures", _script_failures),
        ("DELETE", "/failures", _clear_failures),
        ("GET", "/refresh-tokens", _list_refresh_tokens),
        ("POST", "/refresh-tokens", _create_refresh_token),
        ("POST", "/refresh-tokens/revoke", _revoke_refresh_token),
        ("POST", "/refresh-tokens/inspect", _inspect_refresh_token),
        ("POST", "/codes", _create_code),
        ("POST", "/access-tokens/revoke", _revoke_access_tokens),
        ("GET", "/counters", _counters),
        ("POST", "/reset", _reset),
    ]
    return [Route(f"/sandbox/admin{path}", _guarded(command), methods=[verb]) for verb, path, command in commands]


def _guarded(command: Command) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        state = state_of(request)
        if not _is_loopback(request):
            return JSONResponse({"error": "the admin endpoint is for loopback only"}, status_code=403)
        expected = f"Bearer {state.config.admin_token}".encode()
        if not hmac.compare_digest(request.headers.get("authorization", "").encode(), expected):
            return JSONResponse({"error": "the admin token is missing or wrong"}, status_code=401)
        try:
            body = parsed_json(await request.body() or b"{}")
            if not isinstance(body, dict):
                raise ValueError("the body: an object")  # noqa: TRY004, TRY301, answered below like every wrong value
            return JSONResponse(command(request, state, body))
        except KeyError as error:
            return JSONResponse({"error": f"missing or unknown: {error.args[0]}"}, status_code=400)
        except (TypeError, ValueError) as error:
            return JSONResponse({"error": str(error)}, status_code=400)

    return answer


def _is_loopback(request: Request) -> bool:
    return request.client is not None and ipaddress.ip_address(request.client.host).is_loopback


def _get_behaviour(_request: Request, state: State, _body: Mapping[str, Any]) -> dict[str, Any]:
    return state.behaviour.as_json()


def _change_behaviour(_request: Request, state: State, body: Mapping[str, Any]) -> dict[str, Any]:
    state.behaviour = changed(state.behaviour, body)
    return state.behaviour.as_json()


def _script_failures(_request: Request, state: State, body: Mapping[str, Any]) -> dict[str, Any]:
    """Queue `count` (default 1) failures of the kind described."""
    count = body.get("count", 1)
    if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= MAX_FAILURES:
        raise ValueError(f"count: a whole number from 1 to {MAX_FAILURES}")
    failure = parse_failure({name: value for name, value in body.items() if name != "count"})
    queue = state.failures[failure.target]
    queue.extend([failure] * count)
    return {"queued": len(queue)}


def _clear_failures(_request: Request, state: State, _body: Mapping[str, Any]) -> dict[str, Any]:
    cleared = sum(len(queue) for queue in state.failures.values())
    for queue in state.failures.values():
        queue.clear()
    state.released.set()
    state.released.clear()
    return {"cleared": cleared}


def _list_refresh_tokens(_request: Request, state: State, _body: Mapping[str, Any]) -> dict[str, Any]:
    """Tell every refresh token, oldest first, and which of its family lives."""
    return {
        "refresh_tokens": [
            {
                "token": refresh_token.token,
                "family": refresh_token.family.number,
                "used": refresh_token.used_at is not None,
                "revoked": refresh_token.family.revoked,
                "live": is_live(state, refresh_token),
            }
            for refresh_token in state.refresh_tokens.values()
        ],
    }


def _create_refresh_token(_request: Request, state: State, body: Mapping[str, Any]) -> dict[str, Any]:
    """Start a family as a consent would: for `client_id`, and optionally `user_id`, `scopes`, `lifetime_seconds`."""
    client = state.clients[str(body["client_id"])]
    family = state.new_family(client.client_id, _user_id(state, body, client.owner))
    refresh_token = new_refresh_token(state, family, _scopes(body, client.scopes), body.get("lifetime_seconds"))
    return {"refresh_token": refresh_token.token, "scope": " ".join(sorted(refresh_token.scopes))}


def _revoke_refresh_token(_request: Request, state: State, body: Mapping[str, Any]) -> dict[str, Any]:
    """Kill the token's whole family, as a person who withdraws consent does."""
    refresh_token = _known(state, body)
    refresh_token.family.revoked = True
    state.consents.pop((refresh_token.family.user_id, refresh_token.family.client_id), None)
    return _description(refresh_token)


def _inspect_refresh_token(_request: Request, state: State, body: Mapping[str, Any]) -> dict[str, Any]:
    return _description(_known(state, body))


def _create_code(_request: Request, state: State, body: Mapping[str, Any]) -> dict[str, Any]:
    """Make an authorization code, as the hosted login page would."""
    client = state.clients[str(body["client_id"])]
    code = new_code(
        state,
        client_id=client.client_id,
        user_id=_user_id(state, body, client.owner),
        scopes=_scopes(body, client.scopes),
        redirect_uri=str(body["redirect_uri"]),
        code_challenge=body.get("code_challenge"),
    )
    return {"code": code}


def _revoke_access_tokens(_request: Request, state: State, _body: Mapping[str, Any]) -> dict[str, Any]:
    revoked = len(state.access_tokens)
    state.access_tokens.clear()
    return {"revoked": revoked}


def _counters(_request: Request, state: State, _body: Mapping[str, Any]) -> dict[str, Any]:
    counters = state.counters
    return {
        "token_calls": counters.token_calls,
        "token_outcomes": dict(counters.token_outcomes),
        "revocations": {"calls": counters.revocation_calls, "outcomes": dict(counters.revocation_outcomes)},
        "reuses": counters.reuses,
        "families_ended": counters.families_ended,
        "api_calls": dict(counters.api_calls),
        "last_token_call": dict(counters.last_token_call),
        "last_api_scopes": counters.last_api_scopes,
    }


def _reset(request: Request, state: State, _body: Mapping[str, Any]) -> dict[str, Any]:
    """Forget everything since the start, tokens and behaviour included."""
    request.app.state.sandbox = new_state(state.config)
    state.released.set()
    return {}


def _known(state: State, body: Mapping[str, Any]) -> RefreshToken:
    refresh_token = state.refresh_tokens.get(str(body["refresh_token"]))
    if refresh_token is None:
        raise ValueError("unknown refresh token")
    return refresh_token


def _description(refresh_token: RefreshToken) -> dict[str, Any]:
    return {
        "client_id": refresh_token.family.client_id,
        "user_id": refresh_token.family.user_id,
        "scopes": sorted(refresh_token.scopes),
        "used": refresh_token.used_at is not None,
        "revoked": refresh_token.family.revoked,
    }


def _user_id(state: State, body: Mapping[str, Any], default: int) -> int:
    return state.users[body.get("user_id", default)].id


def _scopes(body: Mapping[str, Any], default: frozenset[str]) -> frozenset[str]:
    scopes = body.get("scopes")
    return default if scopes is None else frozenset(str(scope) for scope in scopes)
