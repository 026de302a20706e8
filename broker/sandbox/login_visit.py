"""A browser's visit to a login: that it is the one that began it, and that its form is of its own page."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus

from starlette.requests import Request

from broker.sandbox.client_request import Params
from broker.sandbox.login_state import AuthorizationRequest, Login
from broker.sandbox.logins import new_login
from broker.sandbox.redirects import build_redirect
from broker.sandbox.state import State, state_of

AUTHORIZATION_PATH = "/oauth2/authorize"
COOKIE = "aries-sandbox-browser"

_BROWSER = re.compile(r"[A-Za-z0-9_-]{43}")


class VisitError(Exception):
    """A visit that comes to nothing; the text is for people."""

    def __init__(self, what: str, status: int) -> None:
        super().__init__(what)
        self.status = status


@dataclass(frozen=True)
class Visit:
    """A login as its own browser sees it, at a path that nobody else knows."""

    state: State
    name: str
    login: Login

    @property
    def path(self) -> str:
        """Where its pages are, and its forms go."""
        return f"{AUTHORIZATION_PATH}/{self.name}"

    @property
    def csrf(self) -> str:
        """What a form must bring: known to those alone who can read this browser's pages."""
        text = f"csrf {self.login.browser} {self.name}"
        return hmac.new(self.state.signing_key, text.encode(), hashlib.sha256).hexdigest()

    def check_form(self, form: Params) -> None:
        """Check that a form is of this login's page.

        Raises:
            VisitError: it is not.
        """
        if not hmac.compare_digest(form.get("csrf", "").encode(), self.csrf.encode()):
            raise VisitError("This form did not come from this page. Go back to where you came from.", 403)

    def end(self, answer: Mapping[str, str]) -> str:
        """Forget the login, and return where the browser is sent with this answer."""
        self.state.logins.remove(self.name)
        request = self.login.request
        return build_redirect(self.state, request.redirect_uri, request.state, answer)


def begin_visit(request: Request, asked: AuthorizationRequest) -> Visit:
    """Return the first visit of a login that begins; a browser that has others under way stays the same."""
    state = state_of(request)
    browser = _browser(request) or secrets.token_urlsafe(32)
    visit = Visit(state, secrets.token_urlsafe(32), new_login(state, asked, browser))
    state.logins.put(visit.name, visit.login)
    return visit


def visit_of(request: Request) -> Visit:
    """Return the visit that a request is.

    Raises:
        VisitError: there is no such login, or another browser began it.
    """
    state, name = state_of(request), str(request.path_params["login"])
    login = state.logins.find(name)
    if login is None:
        what = "There is no such login. It may be over: go back to where you came from."
        raise VisitError(what, HTTPStatus.NOT_FOUND)
    if _browser(request) != login.browser:
        what = "This login was begun in another browser, or yours keeps no cookies."
        raise VisitError(what, HTTPStatus.FORBIDDEN)
    return Visit(state, name, login)


def _browser(request: Request) -> str | None:
    browser = request.cookies.get(COOKIE, "")
    return browser if _BROWSER.fullmatch(browser) else None
