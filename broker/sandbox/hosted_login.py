"""`/oauth2/authorize`: the login on Aries' own pages, from an authorization request to the redirect that answers it.

`GET /oauth2/authorize?…` begins a login and shows its first page; `/oauth2/authorize/{login}` shows the page whose turn
it is, and takes its form. A login belongs to the browser that began it: its cookie is wanted, and in each form a token
that only this browser's page has. One browser may have several logins under way.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from urllib.parse import parse_qsl

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from broker.sandbox.authorization_request import given, parse_authorization, parse_recipient
from broker.sandbox.client_request import Params, parse_params, read_body
from broker.sandbox.errors import OAuthError, invalid_request
from broker.sandbox.login_pages import STYLE_PATH, Pages, describe, redirect
from broker.sandbox.login_state import Step
from broker.sandbox.login_visit import AUTHORIZATION_PATH, COOKIE, Visit, VisitError, begin_visit, visit_of
from broker.sandbox.logins import (
    LoginError,
    Problem,
    check_code,
    check_life,
    check_password,
    consent,
    consent_required,
)
from broker.sandbox.redirects import build_redirect
from broker.sandbox.state import state_of

_Endpoint = Callable[[Request], Awaitable[Response]]


class HostedLogin:
    """Serves the pages."""

    def __init__(self) -> None:
        self._pages = Pages()

    def routes(self) -> list[Route]:
        """Return the routes of the pages and their style sheet."""
        one = AUTHORIZATION_PATH + "/{login}"
        return [
            Route(AUTHORIZATION_PATH, self._guarded(self._begin), methods=["GET"]),
            Route(one, self._guarded(self._show), methods=["GET"]),
            Route(one, self._guarded(self._take), methods=["POST"]),
            Route(STYLE_PATH, self._style, methods=["GET"]),
        ]

    def _guarded(self, endpoint: _Endpoint) -> _Endpoint:
        async def answer(request: Request) -> Response:
            try:
                return await endpoint(request)
            except VisitError as error:
                return self._pages.problem(str(error), error.status)
            except OAuthError as error:
                return self._pages.problem(f"The request is wrong: {error.description}.", error.status)
            except LoginError as error:
                status, what = describe(error)
                return self._pages.problem(what, status)

        return answer

    async def _begin(self, request: Request) -> Response:
        state = state_of(request)
        params, repeated = _query(request)
        # Until these two are known to belong together, whatever is wrong is told on a page.
        client, redirect_uri = parse_recipient(state, params)
        try:
            if repeated:
                raise invalid_request("a parameter appears twice")
            asked = parse_authorization(state, client, redirect_uri, params)
        except OAuthError as error:
            answer = {"error": error.error, "error_description": error.description}
            return redirect(build_redirect(state, redirect_uri, params.get("state"), answer))
        visit = begin_visit(request, asked)
        page = self._page(visit)
        page.set_cookie(COOKIE, visit.login.browser, path=AUTHORIZATION_PATH, httponly=True, samesite="lax")
        return page

    async def _show(self, request: Request) -> Response:
        visit = visit_of(request)
        check_life(visit.state, visit.login)
        return self._page(visit)

    async def _take(self, request: Request) -> Response:
        form = parse_params(await read_body(request), body_is_json=False)
        visit = visit_of(request)
        visit.check_form(form)
        check_life(visit.state, visit.login)
        if form.get("answer") == "cancel":
            return redirect(visit.end({"error": "access_denied"}))
        try:
            return redirect(_take_step(visit, form))
        except LoginError as error:
            if error.problem is Problem.OUT_OF_ORDER:  # the form of another tab, or of a page gone back to
                return redirect(visit.path)
            if error.problem is Problem.LOCKED and visit.login.step is Step.CODE:
                visit.state.logins.remove(visit.name)
                raise
            return self._page(visit, error, form.get("email", ""))

    def _page(self, visit: Visit, error: LoginError | None = None, email: str = "") -> Response:
        state, login = visit.state, visit.login
        status, problem = (HTTPStatus.OK, "") if error is None else describe(error)
        return self._pages.step(
            login.step,
            login.request.redirect_uri,
            status,
            problem=problem,
            action=visit.path,
            csrf=visit.csrf,
            client=login.request.client.shown_name,
            email=login.user.email if login.user else email,
            scopes=sorted(login.request.scopes),
            allowed_before=login.step is Step.CONSENT and not consent_required(state, login),
        )

    async def _style(self, _request: Request) -> Response:
        return self._pages.style()


def _take_step(visit: Visit, form: Params) -> str:
    """Take the step that the form is of, and return where the browser goes.

    Raises:
        LoginError: it was not taken.
    """
    state, login = visit.state, visit.login
    match form.get("step"):
        case Step.PASSWORD:
            check_password(state, login, form.get("email", ""), form.get("password", ""))
        case Step.CODE:
            # As people type it: in two groups.
            check_code(state, login, "".join(form.get("code", "").split()))
        case Step.CONSENT:
            answer, error = {"code": consent(state, login)}, state.behaviour.redirect_error
            return visit.end(answer if error is None else {"error": error})
        case _:
            raise LoginError(Problem.OUT_OF_ORDER)
    return visit.path


def _query(request: Request) -> tuple[Params, bool]:
    """Return the query's parameters that stand there once, and whether others stand there more often."""
    pairs = parse_qsl(request.url.query, keep_blank_values=True)
    times = Counter(name for name, _ in pairs)
    once = {name: value for name, value in pairs if times[name] == 1}
    return given(once), len(once) < len(times)
