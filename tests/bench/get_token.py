"""`make bench`: GetToken with a cached token against an empty `grpc.aio` method with the same reply size.

Both in one run on one machine, each in one process, in turns; what is printed is their ratio. Full path: an API key, a
policy, a durable audit event before each reply, metrics.
"""

from __future__ import annotations

import asyncio
import os
import platform
import re
import shutil
import statistics
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import httpx2

from aries.broker.v1 import token_pb2, token_pb2_grpc
from tests.bench.load import IN_FLIGHT, requests_per_second
from tests.support.broker import BrokerProcess, running_broker
from tests.support.sandbox import running_sandbox

ROUNDS = 3
SECONDS = float(os.environ.get("BENCH_SECONDS", "5"))
TARGET = 0.70
CONFIG = """\
revision: 1
providers: [{{name: aries, preset: aries, base_url: "{url}", insecure_loopback: true}}]
clients: [{{name: desk, provider: aries, client_id: desk-app, secret_env: BROKER_SECRET_DESK}}]
grants: [{{name: desk-service, client: desk, type: client_credentials, scopes: [read, trade]}}]
policies: [{{name: bench, callers: ["key:bench"], grants: [desk-service], scopes: [read]}}]
"""
REQUEST = token_pb2.GetTokenRequest(grant="desk-service", scopes=["read"])


async def main() -> None:
    """Measure in turns and print the ratio."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        async with running_sandbox() as sandbox:
            config = folder / "broker.yaml"
            config.write_text(CONFIG.format(url=sandbox.url))
            secret = {"BROKER_SECRET_DESK": "desk-app-secret"}
            async with running_broker(folder / "data", config=config, env=secret) as broker:
                await _measure(broker)


async def _measure(broker: BrokerProcess) -> None:
    bearer = await create_key(broker, broker.admin_key)
    reply = await get_token(broker.address, bearer)
    pairs = []
    async with _empty_server(len(reply.SerializeToString())) as empty:
        for _ in range(ROUNDS):
            base = await requests_per_second(empty, REQUEST.SerializeToString(), bearer, SECONDS)
            full = await requests_per_second(broker.address, REQUEST.SerializeToString(), bearer, SECONDS)
            pairs.append((base, full))
            say(f"empty method {base:7.0f}/s   GetToken {full:7.0f}/s   ratio {full / base:.2f}")
    await _expect_cached_tokens(broker, reply.fingerprint, await get_token(broker.address, bearer))
    ratio = statistics.median(full / base for base, full in pairs)
    tool = "h2load" if shutil.which("h2load") else "grpc.aio"
    machine = f"{os.cpu_count()} cores {platform.machine()}, Python {platform.python_version()}"
    say(f"median ratio {ratio:.2f}, wanted {TARGET:.2f} or more ({machine}, {tool}, {IN_FLIGHT} in flight)")


async def _expect_cached_tokens(broker: BrokerProcess, first: str, last: token_pb2.GetTokenResponse) -> None:
    """A fast refusal is no fast answer: every call must have been answered, and with the one cached token."""
    async with httpx2.AsyncClient(base_url=broker.http, trust_env=False) as http:
        metrics = (await http.get("/metrics")).text
    codes = re.findall(r'^aries_broker_requests_total\{code="(\w+)",method="[^"]*/GetToken"', metrics, re.MULTILINE)
    assert set(codes) <= {"OK", "CANCELLED"}, codes  # h2load hangs up on what is under way when its time is over
    assert first == last.fingerprint


@asynccontextmanager
async def _empty_server(size: int) -> AsyncIterator[str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.bench.empty_server", str(size), stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        yield (await process.stdout.readline()).decode().strip()
    finally:
        process.terminate()
        await process.wait()


async def create_key(broker: BrokerProcess, admin_key: str) -> str:
    """Return the API key of a new caller `bench`."""
    environment = {**os.environ, "BROKER_ADDRESS": broker.address, "BROKER_API_KEY": admin_key}
    command = [sys.executable, "-m", "broker.cli", "admin", "api-keys", "create", "bench"]
    process = await asyncio.create_subprocess_exec(*command, env=environment, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    assert process.returncode == 0
    return out.decode().strip()


async def get_token(address: str, bearer: str) -> token_pb2.GetTokenResponse:
    """Return one reply."""
    async with grpc.aio.insecure_channel(address) as channel:
        stub = token_pb2_grpc.TokenServiceStub(channel)
        return await stub.GetToken(REQUEST, metadata=(("authorization", f"Bearer {bearer}"),), timeout=30)


def say(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main())
