"""Load on one unary method: by h2load where it is installed, else by a `grpc.aio` client in a process of its own."""

from __future__ import annotations

import asyncio
import re
import shutil
import sys
import tempfile
import time
from pathlib import Path

import grpc
import uvloop

from tests.bench.empty_server import METHOD

IN_FLIGHT = 32


async def requests_per_second(address: str, request: bytes, bearer: str, seconds: float) -> float:
    """Return how many calls a second are answered with IN_FLIGHT of them under way."""
    program = shutil.which("h2load")
    if program is None:
        command = [sys.executable, "-m", "tests.bench.load", address, request.hex(), bearer, str(seconds)]
        return float(await _output(command))
    with tempfile.NamedTemporaryFile() as body:
        body.write(b"\x00" + len(request).to_bytes(4, "big") + request)
        body.flush()
        headers = ["content-type: application/grpc", "te: trailers", f"authorization: Bearer {bearer}"]
        options = [option for header in headers for option in ("-H", header)]
        load = ["-D", str(round(seconds)), "--warm-up-time", "1", "-c", "1", "-m", str(IN_FLIGHT), "-d", body.name]
        printed = await _output([program, *load, *options, f"http://{address}{METHOD}"])
    found = re.search(r"([0-9.]+) req/s", printed)
    assert found, printed
    return float(found[1])


async def _output(command: list[str]) -> str:
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, cwd=Path(__file__).parents[2]
    )
    out, _ = await process.communicate()
    assert process.returncode == 0
    return out.decode()


async def _drive(address: str, request: bytes, bearer: str, seconds: float) -> float:
    metadata = (("authorization", f"Bearer {bearer}"),)
    answered = 0
    async with grpc.aio.insecure_channel(address) as channel:
        call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(METHOD)
        until = time.monotonic() + seconds

        async def worker() -> None:
            nonlocal answered
            while time.monotonic() < until:
                await call(request, metadata=metadata)
                answered += 1

        await asyncio.gather(*(worker() for _ in range(IN_FLIGHT)))
    return answered / seconds


if __name__ == "__main__":
    where, what, who, how_long = sys.argv[1:]
    print(uvloop.run(_drive(where, bytes.fromhex(what), who, float(how_long))))  # noqa: T201 - the answer
