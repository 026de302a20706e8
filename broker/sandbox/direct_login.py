"""`POST /v1/oauth2/authorize`, `…/mfa`, `…/confirm`: the login without a browser, JSON in and out.

    /authorize ─► is_mfa ──────► /authorize/mfa ─┐
        └──────► no MFA ─────────────────────────┴─► /authorize/confirm ─► a code

Each reply names the next step by a new `next_step_auth_id`, which is good once; only a wrong code may be followed by
another under the same, until it was wrong too often. Confirm is the person's consent, also where it is not required.

Errors have the flat body. What their statuses are is not documented, and decided here:
    400 a parameter is missing or wrong, an unknown or spent `next_step_auth_id`
    401 wrong password, or nobody has that address (the same reply); wrong code
    403 the client is unknown, the redirect URI is not one of its own, or it is another step's turn
    410 the login (10 minutes) or the code from the phone (5 minutes) is over
    413 the body is too long
    423 too many wrong passwords or codes, for 15 minutes
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from broker.sandbox.authorization_request import given, parse_authorization, parse_recipient
from broker.sandbox.client_request import NO_STORE, Params, parse_params, read_body, required
from broker.sandbox.errors import ApiError, OAuthError, Shape, error_response, invalid_request
from broker.sandbox.login_state import Login, Step
from broker.sandbox.logins import (
    LoginError,
    Problem,
    check_code,
    check_password,
    consent,
    consent_required,
    new_login,
)
from broker.sandbox.state import State, state_of

DIRECT_PATH = "/v1/oauth2/authorize"

_Reply = Mapping[str, Any]
_PROBLEMS = {
    Problem.WRONG_PASSWORD: (401, "INVALID_CREDENTIALS", "wrong email or password"),
    Problem.NO_CODE: (400, "INVALID_REQUEST", "verification_code: six digits"),
    Problem.WRONG_CODE: (401, "INVALID_VERIFICATION_CODE", "wrong code"),
    Problem.LOCKED: (423, "LOCKED", "too many wrong tries"),
    Problem.CODE_EXPIRED: (410, "VERIFICATION_CODE_EXPIRED", "the code has expired"),
    Problem.LOGIN_EXPIRED: (410, "LOGIN_EXPIRED", "the login has expired"),
    Problem.OUT_OF_ORDER: (403, "STEP_NOT_ALLOWED", "the login waits for another step"),
}


def direct_login_routes() -> list[Route]:
    """Return the routes of the three steps."""
    steps = (("", _authorize), ("/mfa", _verify), ("/confirm", _confirm))
    return [Route(DIRECT_PATH + path, _answering(step), methods=["POST"]) for path, step in steps]


def _answering(step: Callable[[State, Params], _Reply]) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        try:
            params = given(parse_params(await read_body(request), body_is_json=True))
            return JSONResponse(step(state_of(request), params), headers=NO_STORE)
        except OAuthError as error:
            return _refusal(error.status, error.error.upper(), error.description, error.field)
        except LoginError as error:
            return _refusal(*_PROBLEMS[error.problem])

    return answer


def _refusal(status: int, code: str, message: str, field: str | None = None) -> Response:
    return error_response(ApiError(status, code, message, field=field, headers=NO_STORE), Shape.FLAT)


def _authorize(state: State, params: Params) -> _Reply:
    if "sid" in params:
        raise invalid_request("encrypted passwords are not taken here", "sid")
    email, password = required(params, "email"), required(params, "password")
    recipient = parse_recipient(state, params)
    login = new_login(state, parse_authorization(state, *recipient, {"response_type": "code", **params}))
    check_password(state, login, email, password)
    return {**_next_step(state, login), "is_mfa": login.step is Step.CODE}


def _verify(state: State, params: Params) -> _Reply:
    name, code = required(params, "next_step_auth_id"), required(params, "verification_code")
    login = _login(state, name)
    try:
        check_code(state, login, code)
    except LoginError as error:
        if error.problem in {Problem.LOCKED, Problem.CODE_EXPIRED}:
            state.steps.remove(name)
        raise
    state.steps.remove(name)
    return _next_step(state, login)


def _confirm(state: State, params: Params) -> _Reply:
    name = required(params, "next_step_auth_id")
    login = _login(state, name)
    code = consent(state, login)
    state.steps.remove(name)
    return {"code": code, "redirect_uri": login.request.redirect_uri}


def _login(state: State, name: str) -> Login:
    login = state.steps.find(name)
    if login is None:
        raise invalid_request("next_step_auth_id is unknown or spent", "next_step_auth_id")
    return login


def _next_step(state: State, login: Login) -> _Reply:
    name = secrets.token_urlsafe(32)
    state.steps.put(name, login)
    return {
        "next_step_auth_id": name,
        "consent_required": consent_required(state, login),
        "client_name": login.request.client.shown_name,
        "scopes": sorted(login.request.scopes),
    }
