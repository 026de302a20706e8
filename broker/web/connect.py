"""The pages of a login: confirm, the provider's callback, the result; every decision is the flow's."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias
from urllib.parse import parse_qs, urlsplit

import structlog
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from broker.core.authorization import Failure, LoginPhase, Obstacle
from broker.core.errors import BrokerError, OverloadedError
from broker.core.oauth.authorization_request import parse_callback
from broker.core.secret import Secret
from broker.flows.connect import Connect
from broker.flows.connect_views import ConfirmView, ConnectError, SignInView
from broker.flows.trail import Trail
from broker.web.pages import FAILURES, Pages, redirect

Handler: TypeAlias = Callable[[Request], Awaitable[Response]]

COOKIE: Final = "aries-login"
MAX_BODY: Final = 4096
"""Longest form, in bytes."""
_BROWSER: Final = re.compile(r"[A-Za-z0-9_-]{43}")
_BROWSER_BYTES: Final = 32
_MAX_FIELDS: Final = 20

log = structlog.get_logger("broker.web")


class ConnectPages:
    """Serves them; `public_url` is the origin people reach them at, and the only one that links ever name."""

    def __init__(self, connect: Connect, public_url: str) -> None:
        self._connect = connect
        self._public_url = public_url
        self._pages = Pages()
        self._secure = urlsplit(public_url).scheme == "https"
        self._cookie = f"__Host-{COOKIE}" if self._secure else COOKIE

    def app(self) -> Starlette:
        """Return the application."""
        application = Starlette(
            routes=[
                Route("/connect/{flow}", self._guarded(self._show), methods=["GET"]),
                Route("/connect/{flow}", self._guarded(self._confirm), methods=["POST"]),
                Route("/login/{login}", self._guarded(self._confirm), methods=["POST"]),
                Route("/callback/{provider}", self._guarded(self._callback), methods=["GET"]),
                Route("/login/{login}", self._guarded(self._result), methods=["GET"]),
                Route("/style.css", self._style, methods=["GET"]),
            ],
            exception_handlers={404: self._nothing_here, 405: self._nothing_here},
        )
        application.router.redirect_slashes = False  # to the Host that a request names, which is anybody's word
        return application

    async def _show(self, request: Request) -> Response:
        browser, is_new = self._browser_of(request)
        shown = await self._connect.open(_where(request), browser)
        page = self._login_page(request, shown, browser)
        if is_new:
            page.set_cookie(self._cookie, browser, path="/", secure=self._secure, httponly=True, samesite="lax")
        return page

    async def _confirm(self, request: Request) -> Response:
        browser, is_new = self._browser_of(request)
        form = await _form(request)
        token = form.get("csrf", "")
        if is_new or not hmac.compare_digest(token.encode(), _csrf(browser, request).encode()):
            return self._pages.problem(
                "This form did not come from this page, or your browser keeps no cookies.",
                "Open the link once more, with cookies allowed for this site.",
                403,
            )
        where, trail = _where(request), _trail(request, "login-confirm")
        try:
            url = await self._connect.confirm(where, browser, form.get("code", ""), trail)
        except ConnectError as error:
            if error.obstacle is not Obstacle.WRONG_CODE:
                raise
            shown = await self._connect.open(where, browser)
            left = error.tries_left or 0
            told = f"The code is wrong. It can be typed {left} more time{'' if left == 1 else 's'}."
            return self._login_page(request, shown, browser, told, 403)
        return self._pages.onward(url.reveal())

    async def _callback(self, request: Request) -> Response:
        browser, is_new = self._browser_of(request)
        try:
            query = parse_qs(request.url.query, keep_blank_values=True, max_num_fields=_MAX_FIELDS)
        except ValueError:
            query = {}
        if is_new:
            return self._pages.obstacle(Obstacle.OTHER_BROWSER)
        trail = _trail(request, "login-callback")
        onward = await self._connect.callback(request.path_params["provider"], parse_callback(query), browser, trail)
        return redirect(f"{self._public_url}/login/{onward.result_id}" if onward.url is None else onward.url.reveal())

    async def _result(self, request: Request) -> Response:
        browser, _ = self._browser_of(request)
        shown = await self._connect.result(request.path_params["login"], browser)
        if shown.phase in {LoginPhase.STARTED, LoginPhase.CONFIRMED}:  # back from the sign-in, or from the provider
            return self._login_page(request, await self._connect.open(shown.id, browser), browser)
        what, following = FAILURES[shown.failure or Failure.PROVIDER_ERROR]
        titles = {LoginPhase.CONNECTED: "Connected", LoginPhase.FAILED: "Not connected"}
        title = titles.get(shown.phase, "Nearly there")
        return self._pages.page("result.html", title, shown=shown, what=what, next=following)

    async def _style(self, _: Request) -> Response:
        return self._pages.style()

    async def _nothing_here(self, _: Request, __: Exception) -> Response:
        return self._pages.obstacle(Obstacle.UNKNOWN)

    def _login_page(
        self, request: Request, shown: ConfirmView | SignInView, browser: str, problem: str = "", status: int = 200
    ) -> Response:
        """Return the page with the form that goes on: to the sign-in, or to the provider."""
        minutes = max(1, round(shown.expires_in / 60))
        return self._pages.page(
            *(
                ("sign_in.html", "Sign in")
                if isinstance(shown, SignInView)
                else ("confirm.html", f"Connect {shown.grant}")
            ),
            status=status,
            form_target="'self'",
            shown=shown,
            action=request.url.path,
            csrf=_csrf(browser, request),
            problem=problem,
            minutes=f"{minutes} minute{'' if minutes == 1 else 's'}",
        )

    def _browser_of(self, request: Request) -> tuple[str, bool]:
        """Return what this browser's cookie holds, and whether it has none yet."""
        held = request.cookies.get(self._cookie, "")
        return (held, False) if _BROWSER.fullmatch(held) else (secrets.token_urlsafe(_BROWSER_BYTES), True)

    def _guarded(self, handler: Handler) -> Handler:
        async def answer(request: Request) -> Response:
            if request.method == "HEAD":  # Starlette's own beside GET: who asks for no page may bring no answer
                return self._pages.obstacle(Obstacle.UNKNOWN)
            try:
                await self._connect.admit(_address(request))
                return await handler(request)
            except ConnectError as error:
                if error.cause:
                    log.warning("page_refused", obstacle=error.obstacle.value, cause=error.cause, login=error.login)
                return self._pages.obstacle(error.obstacle)
            except ClientDisconnect:  # in the middle of a form, as anybody can: no error of ours, and nobody to tell
                return Response(status_code=400)
            except OverloadedError:
                return self._pages.problem("Too much is going on just now.", "Wait a moment and try again.", 429)
            except BrokerError as error:
                log.warning("page_failed", reason=error.reason, cause=error.cause)
                return self._pages.problem("The broker cannot do this just now.", "Wait a little and try again.", 503)

        return answer


async def _form(request: Request) -> dict[str, str]:
    """Return the fields of a form, each once; of one that is too long, none."""
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > MAX_BODY:
            return {}
    try:
        fields = parse_qs(body.decode(), keep_blank_values=True, max_num_fields=_MAX_FIELDS)
    except ValueError:
        return {}
    return {name: values[0] for name, values in fields.items() if len(values) == 1}


def _where(request: Request) -> Secret | str:
    """Return the flow id of a link, or the id of a login that the browser has."""
    flow = request.path_params.get("flow")
    return str(request.path_params["login"]) if flow is None else Secret(flow)


def _csrf(browser: str, request: Request) -> str:
    """Return what only a page for this browser and this login holds."""
    return hashlib.sha256(f"csrf\n{browser}\n{request.url.path}".encode()).hexdigest()


def _address(request: Request) -> str:
    return "" if request.client is None else request.client.host


def _trail(request: Request, method: str) -> Trail:
    return Trail(method=method, peer=_address(request), request_id=f"web-{secrets.token_hex(8)}")
