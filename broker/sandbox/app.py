"""The Starlette application: every route, its scope and its error shape."""

from __future__ import annotations

import dataclasses
import secrets
from email.utils import formatdate

from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from broker.sandbox import api_accounts, api_orders, api_users
from broker.sandbox.admin import admin_routes
from broker.sandbox.api_access import Handler, protected
from broker.sandbox.config import SandboxConfig
from broker.sandbox.direct_login import direct_login_routes
from broker.sandbox.errors import ApiError, Shape, error_response, http_error
from broker.sandbox.failures import failing
from broker.sandbox.hosted_login import HostedLogin
from broker.sandbox.metadata import METADATA_PATH, metadata
from broker.sandbox.revocation_endpoint import REVOCATION_PATH, revoke
from broker.sandbox.script import Target
from broker.sandbox.state import State, new_state
from broker.sandbox.token_endpoint import TOKEN_PATH, token

MARK = ("Aries-Sandbox", "1")
DEFAULT_ISSUER = "http://127.0.0.1"

_FLAT, _NESTED = Shape.FLAT, Shape.NESTED
_API: list[tuple[str, str, str, Shape, Handler]] = [
    ("GET", "/v1/users/me", "user:information", _FLAT, api_users.current_user),
    ("GET", "/v1/users/me/accounts", "account:information", _FLAT, api_users.accounts_v1),
    ("GET", "/v2/users/me/accounts", "account:information", _FLAT, api_users.accounts_v2),
    ("GET", "/v1/accounts/{id}/balances", "account:information", _NESTED, api_accounts.balance),
    ("GET", "/v2/accounts/{id}/balance", "account:information", _NESTED, api_accounts.balance),
    # The guide also lets account:information read positions; the published client asks for this one.
    ("GET", "/v1/accounts/{id}/positions", "position:information", _NESTED, api_accounts.positions),
    ("GET", "/v1/accounts/{id}/orders", "order:information", _NESTED, api_accounts.orders_v1),
    ("GET", "/v2/accounts/{id}/orders", "order:information", _NESTED, api_accounts.orders_v2),
    ("GET", "/v2/accounts/{id}/orders/history", "order:information", _NESTED, api_accounts.order_history),
    ("POST", "/v1/orders", "order:execution", _NESTED, api_orders.place),
    ("POST", "/v1/orders/cancel", "order:execution", _NESTED, api_orders.cancel),
    ("POST", "/v1/orders/replace", "order:execution", _NESTED, api_orders.replace),
    ("POST", "/v1/orders/preview", "order:execution", _NESTED, api_orders.preview),
]


def create_app(config: SandboxConfig) -> Starlette:
    """Return the sandbox as an ASGI application; its state is `app.state.sandbox`."""
    api = [
        Route(path, failing(Target.API, protected(scope, shape, handler)), methods=[verb])
        for verb, path, scope, shape, handler in _API
    ]
    app = Starlette(
        routes=[
            Route("/health", _health),
            Route(METADATA_PATH, metadata),
            Route(TOKEN_PATH, failing(Target.TOKEN, token), methods=["POST"]),
            Route(REVOCATION_PATH, failing(Target.REVOKE, revoke), methods=["POST"]),
            *direct_login_routes(),
            *HostedLogin().routes(),
            *api,
            *admin_routes(),
        ],
        middleware=[Middleware(_Marked)],
        exception_handlers={HTTPException: _http_error, Exception: _unexpected},
    )
    app.state.sandbox = new_state(
        dataclasses.replace(
            config,
            admin_token=config.admin_token or secrets.token_urlsafe(24),
            issuer=config.issuer or DEFAULT_ISSUER,
        ),
    )
    return app


async def _health(_request: Request) -> Response:
    return JSONResponse({"status": "ok"})


def _http_error(_request: Request, error: Exception) -> Response:
    return http_error(error.status_code if isinstance(error, HTTPException) else 500)


def _unexpected(_request: Request, _error: Exception) -> Response:
    # Answered outside the middleware, hence marked here.
    error = ApiError(500, "INTERNAL", "the sandbox failed", headers=dict([MARK]))
    return error_response(error, Shape.NESTED)


class _Marked:
    """Marks every reply as the sandbox's, and dates it by the sandbox's clock and the skew it is told to show."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers[MARK[0]] = MARK[1]
                if scope["type"] == "http":
                    state: State = scope["app"].state.sandbox
                    headers["Date"] = formatdate(state.now() + state.behaviour.clock_skew_seconds, usegmt=True)
            await send(message)

        await self._app(scope, receive, send_marked)
