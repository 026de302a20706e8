"""The sandbox's steps of a login without a browser, watched, and with replies changed where a test says so."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tests.support.canary import new_secret

PATH = "/v1/oauth2/authorize"
ADA, GRACE = "ada@example.com", "grace@example.com"
"""Of Ada a code is wanted, of Grace none."""
PASSWORDS = {ADA: new_secret("password"), GRACE: new_secret("password")}


@dataclass
class LoginSteps:
    """What went over the wire.

    Attributes:
        received: path and body of each request.
        cookies: the cookie of each.
        replies: the reply to each.
        changes: fields of replies set to something else, None to leave them out; by path.
    """

    received: list[tuple[str, Mapping[str, Any]]] = field(default_factory=list)
    cookies: list[str | None] = field(default_factory=list)
    replies: list[Mapping[str, Any]] = field(default_factory=list)
    changes: dict[str, dict[str, object]] = field(default_factory=dict)

    def watching(self, path: str, endpoint: Callable[[Request], Awaitable[Response]]) -> Route:
        """Return a step's route that does the same, watched; every reply sets a cookie."""

        async def answer(request: Request) -> Response:
            self.received.append((path, json.loads(await request.body())))
            self.cookies.append(request.headers.get("cookie"))
            response = await endpoint(request)
            changed = {**json.loads(bytes(response.body)), **self.changes.get(path, {})}
            self.replies.append({name: value for name, value in changed.items() if value is not None})
            return JSONResponse(
                self.replies[-1], response.status_code, headers={"Set-Cookie": f"session={path}; Path=/"}
            )

        return Route(PATH + path, answer, methods=["POST"])


@contextmanager
def watched_steps(app: Starlette) -> Iterator[LoginSteps]:
    """Watch the steps of a sandbox for the length of the block."""
    steps, before = LoginSteps(), list(app.router.routes)
    app.router.routes[:] = [
        steps.watching(route.path.removeprefix(PATH), route.endpoint)
        if isinstance(route, Route) and route.path.startswith(PATH)
        else route
        for route in before
    ]
    yield steps
    app.router.routes[:] = before
