"""`make bench-limits`: limits that replicas share on PostgreSQL, against those in one process's memory, in one run.

How many decisions a second, and how long each takes, by how many wait at once; whether three processes that want ten
times as much keep to a limit and use it; what a limit costs GetToken with a cached token, on PostgreSQL.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from fractions import Fraction
from pathlib import Path

import grpc
import uvloop

from aries.broker.v1 import token_pb2_grpc
from broker.adapters.memory.buckets import MemoryBuckets
from broker.adapters.sql import migrate
from broker.adapters.sql.limit_lane import PATIENCE
from broker.core.gcra import charge
from broker.core.models import Window
from broker.ports import Buckets
from tests.bench.get_token import CONFIG, REQUEST, ROUNDS, create_key, get_token, say
from tests.bench.load import requests_per_second
from tests.contract.limits import microseconds, opened
from tests.support.broker import running_broker
from tests.support.load import Admitted, offer, worst_excess
from tests.support.postgres import PostgresServer, running_postgres
from tests.support.sandbox import running_sandbox
from tests.support.world import postgres_environment

SECONDS = float(os.environ.get("BENCH_SECONDS", "5"))
WAITING = (1, 32, 256)
CALLERS = 20
WIDE = Window(Fraction(1_000_000), 1_000_000)
"""Refuses nothing here."""
PROCESSES = 3
RATE, BURST, WANTED = 200, 40, 10
USED = 0.95
"""Share of what a limit allows that is to be used while more is wanted."""
LIMITS = 'limits: [{name: per-caller, applies_to: get_token, key: [caller], rate: "100000/s", burst: 1000000}]\n'


def main() -> None:
    """Measure and print."""
    with running_postgres() as server:
        uvloop.run(_buckets(server.url(server.create_database())))
        asyncio.run(_get_token(server))


async def _buckets(url: str) -> None:
    await migrate(url)
    async with opened(url, patience=PATIENCE) as shared:
        for waiting in WAITING:
            await _decisions(MemoryBuckets(microseconds), shared, waiting)
    await _kept_and_used(url)


async def _decisions(memory: Buckets, shared: Buckets, waiting: int) -> None:
    pairs = [(await _spend(memory, waiting, 1.0), await _spend(shared, waiting, 1.0)) for _ in range(ROUNDS)]
    base, full = sorted(pairs, key=lambda pair: len(pair[1]) / len(pair[0]))[ROUNDS // 2]
    full.sort()
    p50, p99 = (full[int(len(full) * part)] * 1000 for part in (0.5, 0.99))
    say(
        f"{waiting:3} waiting: memory {len(base):6}/s   PostgreSQL {len(full):5}/s   median ratio "
        f"{len(full) / len(base):.4f}   p50 {p50:.2f} ms   p99 {p99:.2f} ms"
    )


async def _spend(buckets: Buckets, waiting: int, seconds: float) -> list[float]:
    """Return how long each decision took, with so many under way at once for so long."""
    took: list[float] = []
    until = time.perf_counter() + seconds

    async def worker(caller: int) -> None:
        charges = [charge("per-caller", ("l", "0", f"key:service-{caller}"), WIDE)]
        started = time.perf_counter()
        while started < until:
            assert (await buckets.spend(charges)).allowed
            ended = time.perf_counter()
            took.append(ended - started)
            started = ended

    await asyncio.gather(*(worker(number % CALLERS) for number in range(waiting)))
    return took


async def _kept_and_used(url: str) -> None:
    """Offer one bucket ten times its rate from three processes, and look at every span."""
    begin = time.monotonic() + 3
    command = [sys.executable, "-m", "tests.bench.limits", url, str(begin)]
    processes = [
        await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE) for _ in range(PROCESSES)
    ]
    printed = [(await process.communicate())[0] for process in processes]
    admitted = [Admitted(*one) for output in printed for one in json.loads(output)]
    span = max(one.answered for one in admitted) - min(one.asked for one in admitted)
    bound = RATE * span + BURST
    excess = worst_excess(admitted, RATE, BURST)
    say(
        f"{PROCESSES} processes want {WANTED} x {RATE}/s, burst {BURST}: admitted {len(admitted)} of {bound:.0f} in "
        f"{span:.2f} s ({len(admitted) / bound:.1%}, wanted {USED:.0%} or more), worst span {excess:+.2f} of its bound"
    )
    assert excess <= 0


async def _offer(url: str, begin: float) -> None:
    """One of the processes: offer its part, and print what was admitted and when."""
    async with opened(url, patience=PATIENCE) as buckets:
        await asyncio.sleep(begin - time.monotonic())
        window = Window(Fraction(RATE), BURST)
        admitted = await offer([buckets.spend], window, per_second=WANTED * RATE / PROCESSES, seconds=SECONDS)
    sys.stdout.write(json.dumps(admitted))


async def _get_token(server: PostgresServer) -> None:
    """Measure GetToken at two brokers in turns, one of which has a limit for each caller."""
    with tempfile.TemporaryDirectory() as name:
        async with running_sandbox() as sandbox, AsyncExitStack() as stack:
            callers = []
            for kind, more in (("free", ""), ("limited", LIMITS)):
                folder = Path(name) / kind
                env = {**await postgres_environment(server, folder), "BROKER_SECRET_DESK": "desk-app-secret"}
                config = folder / "broker.yaml"
                config.write_text(CONFIG.format(url=sandbox.url) + more)
                broker = await stack.enter_async_context(running_broker(folder / "data", config=config, env=env))
                admin_key = await asyncio.to_thread(Path(env["BROKER_BOOTSTRAP_ADMIN_KEY_FILE"]).read_text)
                bearer = await create_key(broker, admin_key.strip())
                await get_token(broker.address, bearer)
                callers.append((broker.address, bearer))
            pairs = []
            for _ in range(ROUNDS):
                free, limited = [
                    await requests_per_second(address, REQUEST.SerializeToString(), bearer, SECONDS)
                    for address, bearer in callers
                ]
                pairs.append(limited / free)
                say(f"GetToken on PostgreSQL {free:6.0f}/s   with a limit {limited:6.0f}/s   ratio {pairs[-1]:.2f}")
            alone = [await _one_at_a_time(address, bearer) for address, bearer in callers]
            say(
                f"median ratio {statistics.median(pairs):.2f}; "
                f"one at a time p50 {alone[0]:.2f} ms, with a limit {alone[1]:.2f} ms"
            )


async def _one_at_a_time(address: str, bearer: str) -> float:
    """Return the median milliseconds of a call when nothing else runs."""
    took = []
    async with grpc.aio.insecure_channel(address) as channel:
        stub = token_pb2_grpc.TokenServiceStub(channel)
        for _ in range(300):
            started = time.perf_counter()
            await stub.GetToken(REQUEST, metadata=(("authorization", f"Bearer {bearer}"),))
            took.append(time.perf_counter() - started)
    return statistics.median(took) * 1000


if __name__ == "__main__":
    if sys.argv[1:]:
        uvloop.run(_offer(sys.argv[1], float(sys.argv[2])))
    else:
        main()
