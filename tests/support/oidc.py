"""A certified authorization server (npm `oidc-provider`) on loopback; needs node 20 or newer and its packages.

Clients: `svc` (client credentials, every scope), `svc-read` (read alone), `web` (refresh tokens) and, told its public
keys, `svc-key` (private_key_jwt). A client's secret is its id followed by `-secret`. Access tokens are JWTs signed
with ES256; refresh tokens rotate, and one sent twice ends its grant.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import socket
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlencode, urlsplit

import jwt

from tests.support.npm import install, node_program

FOLDER: Final = Path(__file__).parent / "oidc_provider"


@dataclass(frozen=True)
class SeenRequest:
    """A request the server answered; `auth` names every way in which the client authenticated, space-separated.

    Attributes:
        refresh_token: SHA-256 of the one sent, or empty.
        granted: the `scope` of the answer, empty when it had none.
    """

    path: str
    status: int
    grant_type: str
    scope: str
    auth: str
    refresh_token: str
    granted: str


@dataclass
class OidcProvider:
    """A running server; its issuer is its origin and `resource` the audience of its access tokens."""

    issuer: str
    node: str
    environment: Mapping[str, str]
    listener: socket.socket
    resource: str = ""
    process: subprocess.Popen[bytes] | None = None

    @property
    def token_url(self) -> str:
        """The token endpoint."""
        return f"{self.issuer}/token"

    def refresh_token(self, scopes: Iterable[str] = ("read", "trade", "withdraw")) -> str:
        """Return a refresh token of `web`, as a login and a consent to these scopes would have given it."""
        return str(self._ask("POST", f"/test/consent?scope={quote(' '.join(scopes))}")["refresh_token"])

    def set_access_ttl(self, seconds: int) -> None:
        """Let access tokens live so long from now on."""
        self._ask("POST", f"/test/access-ttl?seconds={seconds}")

    def set_reply_delay(self, milliseconds: int) -> None:
        """Hold every answer back so long from now on, once it is known."""
        self._ask("POST", f"/test/reply-delay?milliseconds={milliseconds}")

    def requests(self, path: str = "/token") -> list[SeenRequest]:
        """Return the requests for a path since it started, in the order of their answers."""
        seen = [SeenRequest(**request) for request in self._ask("GET", "/test/seen")["requests"]]
        return [request for request in seen if request.path == path]

    def revoked_grants(self) -> int:
        """Return how often a whole grant was revoked, as the reuse of a refresh token makes it."""
        return int(self._ask("GET", "/test/seen")["revoked_grants"])

    def claims(self, access_token: str) -> dict[str, Any]:
        """Return the claims of an access token, verified as an API would."""
        keys = jwt.PyJWKSet.from_dict(self._ask("GET", "/jwks"))
        key = keys[jwt.get_unverified_header(access_token)["kid"]]
        return jwt.decode(access_token, key, ["ES256"], audience=self.resource, issuer=self.issuer)

    def redeem(self, refresh_token: str) -> int:
        """Redeem a refresh token as `web`, past the broker; return the status of the answer."""
        body = urlencode({"grant_type": "refresh_token", "refresh_token": refresh_token})
        basic = base64.b64encode(b"web:web-secret").decode()
        headers = {"content-type": "application/x-www-form-urlencoded", "authorization": f"Basic {basic}"}
        status, _ = self._exchange("POST", "/token", body, headers)
        return status

    def start(self) -> None:
        """Start it on its socket, which keeps what connects meanwhile."""
        handle = self.listener.fileno()
        self.process = subprocess.Popen(  # noqa: S603 - node of the machine, our own script
            [self.node, "server.mjs"],
            cwd=FOLDER,
            env={**self.environment, "LISTEN_FD": str(handle)},
            pass_fds=(handle,),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the server ended before it listened"
        self.resource = json.loads(line)["resource"]

    def stop(self) -> None:
        """Kill it."""
        if self.process is not None:
            with self.process as process:
                process.kill()

    def restart(self) -> None:
        """Kill it and start it anew, with other keys and no memory of any grant."""
        self.stop()
        self.start()

    def _ask(self, method: str, path: str) -> dict[str, Any]:
        status, body = self._exchange(method, path)
        assert status == HTTPStatus.OK, f"{method} {path}: {status}"
        answer: dict[str, Any] = json.loads(body)
        return answer

    def _exchange(
        self, method: str, path: str, body: str | None = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(urlsplit(self.issuer).netloc, timeout=10)
        try:
            connection.request(method, path, body, dict(headers or {}))
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()


@contextmanager
def oidc_provider(
    *,
    access_ttl: int = 300,
    refresh_ttl: int = 86_400,
    opaque: bool = False,
    client_jwks: Mapping[str, Any] | None = None,
    redirect_uri: str | None = None,
) -> Iterator[OidcProvider]:
    """Run a server of its own, ready in about half a second; times in seconds. Without node the test is not run.

    With `redirect_uri` people log in for `web` on its own pages, by any name and password.
    """
    node = node_program()
    install(FOLDER)
    environment = {"PATH": os.environ["PATH"], "ACCESS_TTL": str(access_ttl), "REFRESH_TTL": str(refresh_ttl)}
    if opaque:
        environment["OPAQUE"] = "1"
    if client_jwks is not None:
        environment["CLIENT_JWKS"] = json.dumps(client_jwks)
    if redirect_uri is not None:
        environment["REDIRECT_URI"] = redirect_uri
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listener:
        issuer = f"http://127.0.0.1:{listener.getsockname()[1]}"
        server = OidcProvider(issuer, node, environment, listener)
        try:
            server.start()
            yield server
        finally:
            server.stop()
