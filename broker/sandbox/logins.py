"""The steps of a login, whether behind pages or JSON: password, code from the phone, consent."""

from __future__ import annotations

import hmac
import re
from enum import Enum

from broker.sandbox.codes import new_code
from broker.sandbox.config import UserSeed
from broker.sandbox.login_state import AuthorizationRequest, Login, Step
from broker.sandbox.state import State

LOGIN_SECONDS = 600.0
MFA_SECONDS = 300.0
_CODE = re.compile(r"[0-9]{6}")


class Problem(Enum):
    """Why a step was not taken."""

    WRONG_PASSWORD = "wrong_password"  # noqa: S105, no password
    NO_CODE = "no_code"
    WRONG_CODE = "wrong_code"
    LOCKED = "locked"
    CODE_EXPIRED = "code_expired"
    LOGIN_EXPIRED = "login_expired"
    OUT_OF_ORDER = "out_of_order"


class LoginError(Exception):
    """A step that was not taken; `tries_left` tells how many more codes may be tried."""

    def __init__(self, problem: Problem, tries_left: int = 0) -> None:
        super().__init__(problem.value)
        self.problem = problem
        self.tries_left = tries_left


def new_login(state: State, request: AuthorizationRequest, browser: str = "") -> Login:
    """Return a login that begins now."""
    return Login(request, state.now() + LOGIN_SECONDS, browser)


def check_life(state: State, login: Login) -> None:
    """Check that the login is not over.

    Raises:
        LoginError: it took too long.
    """
    if login.expires_at <= state.now():
        raise LoginError(Problem.LOGIN_EXPIRED)


def check_password(state: State, login: Login, email: str, password: str) -> None:
    """Take the first step: who it is.

    Wrong ones are counted by address, whether or not anybody has it, so that nobody learns who does.

    Raises:
        LoginError: it was not taken.
    """
    _check_step(state, login, Step.PASSWORD)
    address = email.strip().casefold()
    whose, most = f"password of {address}", state.behaviour.password_tries
    _check_not_locked(state, whose, most)
    user = _user(state, address)
    expected = None if user is None else user.password
    if user is None or expected is None or not hmac.compare_digest(expected.encode(), password.encode()):
        raise _wrong(state, whose, most, Problem.WRONG_PASSWORD)
    state.tries.forget(whose)
    _check_not_locked(state, _code_of(user), state.behaviour.mfa_tries)
    login.user = user
    login.step = Step.CODE if user.mfa else Step.CONSENT
    login.code_expires_at = state.now() + MFA_SECONDS


def check_code(state: State, login: Login, code: str) -> None:
    """Take the second step: the code from the phone, which may be tried again until it was wrong too often.

    What cannot be a code costs no try.

    Raises:
        LoginError: it was not taken. Where the code's time is over, the login waits for the password again.
    """
    _check_step(state, login, Step.CODE)
    user = person(login)
    _check_not_locked(state, _code_of(user), state.behaviour.mfa_tries)
    if login.code_expires_at <= state.now():
        login.step, login.user = Step.PASSWORD, None
        raise LoginError(Problem.CODE_EXPIRED)
    if not _CODE.fullmatch(code):
        raise LoginError(Problem.NO_CODE)
    if not hmac.compare_digest(user.mfa_code.encode(), code.encode()):
        raise _wrong(state, _code_of(user), state.behaviour.mfa_tries, Problem.WRONG_CODE)
    state.tries.forget(_code_of(user))
    login.step = Step.CONSENT


def consent_required(state: State, login: Login) -> bool:
    """Return whether the person has not allowed this client all of these scopes before."""
    allowed = state.consents.get((person(login).id, login.request.client.client_id), frozenset())
    return not login.request.scopes <= allowed


def consent(state: State, login: Login) -> str:
    """Take the last step: remember what the person allows, and return a code.

    Raises:
        LoginError: it was not taken.
    """
    _check_step(state, login, Step.CONSENT)
    request, user = login.request, person(login)
    whose = (user.id, request.client.client_id)
    state.consents[whose] = state.consents.get(whose, frozenset()) | request.scopes
    return new_code(
        state,
        client_id=request.client.client_id,
        user_id=user.id,
        scopes=request.scopes,
        redirect_uri=request.redirect_uri,
        code_challenge=request.code_challenge,
        code_challenge_method=request.code_challenge_method,
    )


def person(login: Login) -> UserSeed:
    """Return who gave the right password.

    Raises:
        LoginError: nobody did yet.
    """
    if login.user is None:
        raise LoginError(Problem.OUT_OF_ORDER)
    return login.user


def _check_step(state: State, login: Login, step: Step) -> None:
    check_life(state, login)
    if login.step is not step:
        raise LoginError(Problem.OUT_OF_ORDER)


def _check_not_locked(state: State, whose: str, most: int) -> None:
    if state.tries.count(whose, state.now()) >= most:
        raise LoginError(Problem.LOCKED)


def _wrong(state: State, whose: str, most: int, problem: Problem) -> LoginError:
    left = most - state.tries.add(whose, state.now())
    return LoginError(problem, left) if left > 0 else LoginError(Problem.LOCKED)


def _user(state: State, address: str) -> UserSeed | None:
    return next((user for user in state.users.values() if user.email.casefold() == address), None)


def _code_of(user: UserSeed) -> str:
    return f"code of {user.id}"
