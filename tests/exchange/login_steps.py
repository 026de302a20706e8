"""The three documented steps of a login without a browser, put before a sandbox's own endpoints.

The codes they give are the sandbox's, so the exchange after them is the real one.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from broker.sandbox.state import AuthorizationCode, State

PATH = "/v1/oauth2/authorize"
PASSWORD = "correct horse"
MFA_CODE = "123456"
MAX_TRIES = 3


@dataclass
class LoginSteps:
    """What the steps are told to do, and what they were sent.

    Attributes:
        mfa: whether a code is wanted.
        consent_required: what the replies say.
        received, cookies: path and body, and the cookie, of each request.
        changes: fields of replies set to something else, None to leave them out; by path.
    """

    state: State
    mfa: bool = True
    consent_required: object = True
    cookies: list[str | None] = field(default_factory=list)
    received: list[tuple[str, Mapping[str, Any]]] = field(default_factory=list)
    changes: dict[str, dict[str, object]] = field(default_factory=dict)
    _numbers: itertools.count[int] = field(default_factory=itertools.count)
    _open: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    _tries: int = 0

    def routes(self) -> list[Route]:
        """Return the endpoints."""
        steps = (("", self._authorize), ("/mfa", self._mfa), ("/confirm", self._confirm))
        return [Route(PATH + path, self._answering(path, step), methods=["POST"]) for path, step in steps]

    def _answering(self, path: str, step: Any) -> Any:  # noqa: ANN401 - an endpoint
        async def answer(request: Request) -> Response:
            body = json.loads(await request.body())
            self.received.append((path, body))
            self.cookies.append(request.headers.get("cookie"))
            status, reply = step(body)
            changed = {**reply, **self.changes.get(path, {})}
            shown = {name: value for name, value in changed.items() if value is not None}
            return JSONResponse(shown, status, headers={"Set-Cookie": f"session={path}; Path=/"})

        return answer

    def _authorize(self, body: Mapping[str, Any]) -> tuple[int, dict[str, object]]:
        if body["password"] != PASSWORD:
            return 401, {"error": f"wrong email or password: {body['password']}"}
        return 200, {**self._next(body), "is_mfa": self.mfa}

    def _mfa(self, body: Mapping[str, Any]) -> tuple[int, dict[str, object]]:
        login = self._open.get(body["next_step_auth_id"])
        if login is None:
            return 400, {"error": "the login is over"}
        if body["verification_code"] != MFA_CODE:
            self._tries += 1
            if self._tries >= MAX_TRIES:
                self._open.clear()
                return 423, {"error": "locked"}
            return 401, {"error": "wrong code"}
        del self._open[body["next_step_auth_id"]]
        return 200, self._next(login)

    def _confirm(self, body: Mapping[str, Any]) -> tuple[int, dict[str, object]]:
        login = self._open.pop(body["next_step_auth_id"])
        code = f"code-{next(self._numbers)}"
        self.state.codes[code] = AuthorizationCode(
            login["client_id"],
            1001,
            frozenset(login["scope"].split()),
            login["redirect_uri"],
            login.get("code_challenge"),
            self.state.now() + 600,
        )
        return 200, {"code": code, "redirect_uri": login["redirect_uri"]}

    def _next(self, login: Mapping[str, Any]) -> dict[str, object]:
        name = f"step-{next(self._numbers)}"
        self._open[name] = login
        return {
            "next_step_auth_id": name,
            "consent_required": self.consent_required,
            "client_name": "Desk",
            "scopes": login.get("scope", "").split(),
        }
