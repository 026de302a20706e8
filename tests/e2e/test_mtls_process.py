"""Callers with certificates, in processes of their own, and a broker whose certificate is swapped meanwhile."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
import pytest_asyncio

from aries.broker.admin.v1 import config_pb2, config_pb2_grpc
from aries.broker.v1 import token_pb2, token_pb2_grpc
from aries_broker.errors import parse_error
from tests.rpc.authorities import Authority, Pair, TlsFolder
from tests.support.broker import BrokerProcess, start_broker
from tests.support.canary import Seen
from tests.support.sandbox import SandboxDriver
from tests.support.waiting import until_told
from tests.support.world import World, connected, provider

pytestmark = pytest.mark.asyncio(loop_scope="session")

ROOT = Path(__file__).parents[2]
REPORTS = "spiffe://corp.example/ns/reports/daily"


@dataclass
class Secured:
    """A broker that speaks TLS, and the authority of everybody's certificates."""

    process: BrokerProcess
    authority: Authority
    tls: TlsFolder
    world: World
    grant: str

    def credentials(self, pair: Pair | None) -> grpc.ChannelCredentials:
        """Return what a caller connects with."""
        if pair is None:
            return grpc.ssl_channel_credentials(self.authority.pem)
        return grpc.ssl_channel_credentials(self.authority.pem, pair.key, pair.certificate)


@pytest_asyncio.fixture(loop_scope="session", scope="module")
async def secured(upstream: SandboxDriver, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Secured]:
    """A broker with both listeners, admin on the one for bearers; reports may read by its SPIFFE ID."""
    folder = tmp_path_factory.mktemp("tls")
    authority, tls = Authority("corp"), TlsFolder(folder)
    tls.write(authority.server(), authority.pem)
    certificate, key, bundle = tls.paths
    env = {
        "BROKER_MTLS_LISTEN": "127.0.0.1:0",
        "BROKER_TLS_CERT": str(certificate),
        "BROKER_TLS_KEY": str(key),
        "BROKER_TLS_CLIENT_CA": str(bundle),
        "BROKER_TRUST_DOMAIN": "corp.example",
        "BROKER_ADMIN_ON": "listen",
    }
    process = await start_broker(folder / "data", env=env)
    credentials = grpc.ssl_channel_credentials(authority.pem)
    async with connected(process, upstream, credentials=credentials, seen=Seen()) as world:
        await world.apply(provider("aries", upstream.url))
        grant = config_pb2.Grant(name="desk", client="aries", type="client_credentials", scopes=["read", "trade"])
        await world.put(grant=grant)
        policy = config_pb2.Policy(
            name="reports", callers=["spiffe://corp.example/ns/reports/*"], grants=["desk"], scopes=["read"]
        )
        await world.put(policy=policy)
        yield Secured(process, authority, tls, world, "desk")
    assert 0 == await process.stop()
    world.seen.add("log", bytes(process.output))
    assert [] == world.seen.leaks()


async def _ask(address: str, credentials: grpc.ChannelCredentials) -> token_pb2.GetTokenResponse:
    async with grpc.aio.secure_channel(address, credentials) as channel:
        return await token_pb2_grpc.TokenServiceStub(channel).GetToken(
            token_pb2.GetTokenRequest(scopes=["read"]), timeout=20
        )


async def test_none_fails_while_the_certificate_is_swapped(
    secured: Secured, fresh_upstream: SandboxDriver, tmp_path: Path
) -> None:
    """A service in another process asks on kept and new connections through two swaps; every call gets a token."""
    caller = secured.authority.client(REPORTS)
    files = [tmp_path / name for name in ("ca.crt", "tls.crt", "tls.key")]
    for file, content in zip(files, (secured.authority.pem, caller.certificate, caller.key), strict=True):
        file.write_bytes(content)
    service = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.e2e.mtls_caller",
        secured.process.addresses["mtls_listen"],
        *map(str, files),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(str(ROOT / part) for part in ("", "proto", "clients/python"))},
    )
    assert service.stdout is not None
    assert b"asking\n" == await service.stdout.readline()
    for life in (5_000, 6_000):
        fresh = secured.authority.server(ends_in=life)
        secured.tls.write(fresh)
        await _until_served(secured, fresh)
    said, _ = await service.communicate(b"")
    outcomes = json.loads(said)
    assert ["OK"] == list(outcomes)
    assert outcomes["OK"] > 5
    issued = [event for event in await secured.world.events(REPORTS, limit=1000) if event.action == "token:issue"]
    assert len(issued) >= min(outcomes["OK"], 900)
    assert {"desk"} == {event.fields["grant"] for event in issued}


async def test_a_certificate_is_asked_for(secured: Secured) -> None:
    """Without one no connection is made; with one that says nobody the call is refused and recorded."""
    address = secured.process.addresses["mtls_listen"]
    with pytest.raises(grpc.aio.AioRpcError) as unconnected:
        await _ask(address, secured.credentials(None))
    assert grpc.StatusCode.UNAVAILABLE == unconnected.value.code()
    nobody = secured.authority.client(dns=("reports.corp.example",), common_name="reports")
    foreign = secured.authority.client("spiffe://other.example/ns/reports/daily")
    for pair in (nobody, foreign):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await _ask(address, secured.credentials(pair))
        assert "CALLER_UNAUTHENTICATED" == parse_error(refused.value).reason

    async def recorded() -> bool:  # denials of nobody in particular are not waited for
        return len(await _denied(secured)) >= 2

    await until_told(recorded)
    assert ["CALLER_UNAUTHENTICATED"] * 2 == await _denied(secured)


async def test_operators_are_served_where_they_are_meant_to_be(secured: Secured) -> None:
    """With `ADMIN_ON=listen` the listener for certificates knows no admin service."""
    credentials = secured.credentials(secured.authority.client(REPORTS))
    async with grpc.aio.secure_channel(secured.process.addresses["mtls_listen"], credentials) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await config_pb2_grpc.ConfigServiceStub(channel).ListObjects(
                config_pb2.ListObjectsRequest(kind="policy"), timeout=20
            )
    assert grpc.StatusCode.UNIMPLEMENTED == refused.value.code()


async def _denied(secured: Secured) -> list[str]:
    return [event.fields["reason"] for event in await secured.world.events() if event.action == "token:deny"]


async def _until_served(secured: Secured, pair: Pair) -> None:
    """Return once new connections are shown this certificate."""
    wanted = f'serial="{pair.serial}"'

    async def served() -> bool:
        return wanted in await secured.world.metrics()

    await until_told(served)
