"""The pages of a login: templates that escape by themselves, and headers that keep a page to itself."""

from __future__ import annotations

from http import HTTPStatus
from urllib.parse import urlsplit

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.responses import HTMLResponse, Response

from broker.sandbox.login_state import Step
from broker.sandbox.logins import LoginError, Problem

STYLE_PATH = "/oauth2/style.css"

_HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_POLICY = "default-src 'none'; style-src 'self'; base-uri 'none'; frame-ancestors 'none'; form-action {targets}"
# Browsers hold form-action against every hop: whoever takes the answer may send it on to an app on this machine.
_ON_THIS_MACHINE = "http://127.0.0.1:* http://localhost:*"

_TITLES = {Step.PASSWORD: "Log in", Step.CODE: "Enter your code", Step.CONSENT: "Allow access?"}
_PROBLEMS = {
    Problem.WRONG_PASSWORD: (HTTPStatus.FORBIDDEN, "The email address or the password is wrong."),
    Problem.NO_CODE: (HTTPStatus.BAD_REQUEST, "A code has six digits."),
    Problem.WRONG_CODE: (HTTPStatus.FORBIDDEN, "The code is wrong."),
    Problem.LOCKED: (HTTPStatus.LOCKED, "There were too many wrong tries. Try again in 15 minutes."),
    Problem.CODE_EXPIRED: (HTTPStatus.GONE, "The code has expired. Log in again to get another."),
    Problem.LOGIN_EXPIRED: (HTTPStatus.GONE, "This login took too long and is over."),
}


class Pages:
    """Renders them."""

    def __init__(self) -> None:
        loader = PackageLoader("broker.sandbox")
        self._templates = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True)

    def step(self, step: Step, redirect_uri: str, status: int, **facts: object) -> Response:
        """Return the page of a step, whose form leads on, or by cancelling to the redirect URI."""
        targets = f"'self' {_source(redirect_uri)} {_ON_THIS_MACHINE}"
        return self._page(f"{step}.html", targets, status, title=_TITLES[step], step=step, **facts)

    def problem(self, what: str, status: int) -> Response:
        """Return the page that says why there is no step."""
        return self._page("problem.html", "'none'", status, title="This did not work", problem=what)

    def style(self) -> Response:
        """Return the style sheet."""
        style = self._templates.get_template("style.css").render()
        return Response(style, media_type="text/css", headers=_HEADERS)

    def _page(self, template: str, targets: str, status: int, **facts: object) -> Response:
        html = self._templates.get_template(template).render(style=STYLE_PATH, **facts)
        return HTMLResponse(html, status, {**_HEADERS, "Content-Security-Policy": _POLICY.format(targets=targets)})


def describe(error: LoginError) -> tuple[int, str]:
    """Return the status and the words for a step that was not taken."""
    # Not 401, which names a way to authenticate by HTTP (RFC 9110 §15.5.2): a form is none.
    status, what = _PROBLEMS[error.problem]
    if error.problem is Problem.WRONG_CODE:
        what += f" You can try {error.tries_left} more time{'' if error.tries_left == 1 else 's'}."
    return status, what


def redirect(url: str) -> Response:
    """Return a redirect that keeps nothing of where it comes from."""
    return Response(None, HTTPStatus.SEE_OTHER, {**_HEADERS, "Location": url})


def _source(redirect_uri: str) -> str:
    """Return the source expression that lets a form be redirected there; an IPv6 address cannot be one."""
    parts = urlsplit(redirect_uri)
    return f"{parts.scheme}://{parts.netloc}" if parts.netloc and "[" not in parts.netloc else f"{parts.scheme}:"
