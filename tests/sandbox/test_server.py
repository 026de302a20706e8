"""Serving: loopback only, one line when ready, a clean end."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx2
import pytest

from broker.sandbox import SandboxConfig, run, serve
from tests.sandbox.requests import CREDENTIALS
from tests.support.sandbox import NO_AUTHORITIES, running_sandbox

RUN = """
import sys
from pathlib import Path
from broker.sandbox import SandboxConfig, run
run(SandboxConfig(admin_token_file=Path(sys.argv[1]) if sys.argv[1:] else None))
"""


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "example.com", ""])
def test_other_addresses_are_refused(host: str) -> None:
    """The sandbox serves loopback addresses only."""
    with pytest.raises(ValueError, match=r"loopback|IP address"):
        run(SandboxConfig(), host)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_the_url_is_the_one_served(host: str) -> None:
    """The handle's URL answers, and is the issuer."""
    running = await serve(SandboxConfig(), host)
    async with httpx2.AsyncClient(verify=NO_AUTHORITIES, trust_env=False) as http:
        answer = await http.get(f"{running.url}/health")
    await running.stop()
    assert (200, running.url) == (answer.status_code, running.state.config.issuer)


@pytest.mark.parametrize("script", [{"body": "hang"}, {"delay_seconds": 3600}])
async def test_stop_ends_calls_that_wait(monkeypatch: pytest.MonkeyPatch, script: dict[str, Any]) -> None:
    """A stop ends calls that would not end without waiting for them, and the port is free again."""
    monkeypatch.setattr("broker.sandbox.server.STOP_SECONDS", 3600)
    async with running_sandbox() as sandbox:
        await sandbox.fail(**script)
        call = asyncio.ensure_future(sandbox.http.post("/v1/oauth2/token", json=CREDENTIALS))
        while (await sandbox.counters())["token_calls"] == 0:
            pass
        await sandbox.running.stop()
        with pytest.raises((httpx2.ReadError, httpx2.RemoteProtocolError)):
            await call
        with pytest.raises(httpx2.ConnectError):
            await sandbox.http.get("/health")


async def test_bytes_that_are_not_http_get_a_marked_400() -> None:
    """Even the answer to a malformed request carries the mark."""
    async with running_sandbox() as sandbox:
        host, port = sandbox.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"nonsense\r\n\r\n")
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
    assert (True, True) == (answer.startswith(b"HTTP/1.1 400 "), b"\r\nAries-Sandbox: 1\r\n" in answer)


async def test_the_sandbox_s_own_faults_are_marked_too() -> None:
    """A reply to an unexpected exception is a marked 500 without its text."""

    def broken_clock() -> float:
        raise RuntimeError("no time")

    async with running_sandbox(now=broken_clock) as sandbox:
        answer = await sandbox.http.post("/v1/oauth2/token", json=CREDENTIALS | {"grant_type": "client_credentials"})
    assert "no time" not in answer.text
    assert (500, "1", "INTERNAL") == (
        answer.status_code,
        answer.headers["Aries-Sandbox"],
        answer.json()["error"]["code"],
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("with_file", [False, True])
def test_run_says_where_it_is_and_ends_cleanly(tmp_path: Path, number: signal.Signals, with_file: bool) -> None:
    """`run` prints one line with the URL and the admin token or its file, and ends with 0 at SIGTERM or SIGINT."""
    token_file = tmp_path / "admin-token"
    process = subprocess.Popen(  # noqa: S603, our own interpreter and text
        [sys.executable, "-c", RUN, *([str(token_file)] if with_file else [])],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    url = line.removeprefix("sandbox ready at ").split(",")[0]
    token = token_file.read_text().strip() if with_file else line.split()[-1]
    answer = httpx2.get(
        f"{url}/sandbox/admin/counters",
        headers={"Authorization": f"Bearer {token}"},
        trust_env=False,
        verify=NO_AUTHORITIES,
    )
    os.kill(process.pid, number)
    rest, errors = process.communicate(timeout=10)
    assert (200, 0, "", "") == (answer.status_code, process.returncode, rest, errors)
    assert with_file is (token not in line)
    if with_file:
        assert 0o600 == stat.S_IMODE(token_file.stat().st_mode)
