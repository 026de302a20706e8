"""A certified authorization server (npm `oidc-provider`) on loopback; needs node 20 or newer and its packages.

Clients: `svc` (client credentials, every scope), `svc-read` (read alone), `web` (refresh tokens) and, told its public
keys, `svc-key` (private_key_jwt). A client's secret is its id followed by `-secret`. Access tokens are JWTs signed
with ES256; refresh tokens rotate, and one sent twice ends its grant.
"""

from __future__ import annotations

import fcntl
import hashlib
import http.client
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlsplit

from tests.support.not_run import not_run

FOLDER: Final = Path(__file__).parent / "oidc_provider"
OLDEST_NODE: Final = 20
INSTALL_SECONDS: Final = 120


@dataclass(frozen=True)
class OidcProvider:
    """A running server; its issuer is its origin and `resource` the audience of its access tokens."""

    issuer: str
    resource: str

    @property
    def token_url(self) -> str:
        """The token endpoint."""
        return f"{self.issuer}/token"

    def refresh_token(self, scopes: Iterable[str] = ("read", "trade", "withdraw")) -> str:
        """Return a refresh token of `web`, as a login and a consent to these scopes would have given it."""
        connection = http.client.HTTPConnection(urlsplit(self.issuer).netloc, timeout=10)
        try:
            connection.request("POST", f"/test/consent?scope={quote(' '.join(scopes))}")
            return str(json.loads(connection.getresponse().read())["refresh_token"])
        finally:
            connection.close()


@contextmanager
def oidc_provider(
    *,
    access_ttl: int = 300,
    refresh_ttl: int = 86_400,
    opaque: bool = False,
    client_jwks: Mapping[str, Any] | None = None,
) -> Iterator[OidcProvider]:
    """Run a server of its own, ready in about half a second; times in seconds. Without node the test is not run."""
    node = _node()
    _install()
    environment = {"PATH": os.environ["PATH"], "ACCESS_TTL": str(access_ttl), "REFRESH_TTL": str(refresh_ttl)}
    if opaque:
        environment["OPAQUE"] = "1"
    if client_jwks is not None:
        environment["CLIENT_JWKS"] = json.dumps(client_jwks)
    with subprocess.Popen(  # noqa: S603 - node of the machine, our own script
        [node, "server.mjs"],
        cwd=FOLDER,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line, "the server ended before it listened"
            started = json.loads(line)
            yield OidcProvider(started["issuer"], started["resource"])
        finally:
            process.kill()


def _node() -> str:
    node = shutil.which("node")
    if node is None or shutil.which("npm") is None:
        not_run("node and npm are not installed")
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=False).stdout  # noqa: S603
    number = re.match(r"v([0-9]+)\.", version)
    if number is None or int(number[1]) < OLDEST_NODE:
        not_run(f"node is older than {OLDEST_NODE}: {version.strip()}")
    return node


def _install() -> None:
    """Install the locked packages once, whichever test process comes first."""
    lock = (FOLDER / "package-lock.json").read_bytes()
    done = FOLDER / "node_modules" / f".installed-{hashlib.sha256(lock).hexdigest()[:16]}"
    with (FOLDER / "package.json").open() as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        if done.exists():
            return
        command = ["npm", "ci", "--ignore-scripts"]
        try:
            subprocess.run(command, cwd=FOLDER, check=True, capture_output=True, timeout=INSTALL_SECONDS)  # noqa: S603
        except (OSError, subprocess.SubprocessError) as error:
            not_run(f"npm ci failed: {type(error).__name__}")
        done.touch()
