"""A backup put back: what was redeemed since is held, and no spent refresh token is sent."""

from __future__ import annotations

import shutil
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from aries.broker.admin.v1 import grants_pb2, grants_pb2_grpc
from tests.support.broker import BrokerProcess, start_broker
from tests.support.canary import Seen
from tests.support.postgres import PostgresServer
from tests.support.sandbox import SandboxDriver, running_sandbox
from tests.support.waiting import until_told
from tests.support.world import World, connected, postgres_environment, provider, sandbox_config

pytestmark = pytest.mark.asyncio(loop_scope="session")


class Backup:
    """One backup of a broker's database, which is not running meanwhile."""

    def __init__(self, data: Path, server: PostgresServer | None, name: str) -> None:
        self._data, self._server, self._name = data, server, name

    def take(self) -> None:
        """Copy the database as it is."""
        if self._server is None:
            shutil.copytree(self._data, self._data.with_suffix(".backup"))
        else:
            self._server.execute(f'CREATE DATABASE "{self._name}_backup" TEMPLATE "{self._name}"')

    def put_back(self) -> None:
        """Put the copy in its place."""
        if self._server is None:
            shutil.rmtree(self._data)
            self._data.with_suffix(".backup").rename(self._data)
        else:
            self._server.execute(f'DROP DATABASE "{self._name}"')
            self._server.execute(f'ALTER DATABASE "{self._name}_backup" RENAME TO "{self._name}"')


async def started(data: Path, env: dict[str, str]) -> BrokerProcess:
    """Start a broker."""
    return await start_broker(data, env=env)


@pytest.mark.parametrize("store", ["sqlite", "postgres"])
async def test_no_spent_token_is_sent(store: str, postgres: PostgresServer, tmp_path: Path) -> None:
    """After a restore the grant that was redeemed since is held, the other serves; a release lets it go."""
    data = tmp_path / "data"
    env = {} if store == "sqlite" else await postgres_environment(postgres, data)
    env["BROKER_EVIDENCE_DIR"] = str(tmp_path / "evidence")
    name = urlsplit(env.get("BROKER_DATABASE_URL", "")).path.strip("/")
    backup = Backup(data, None if store == "sqlite" else postgres, name)
    async with running_sandbox(sandbox_config()) as sandbox:
        process = await started(data, env)
        async with connected(process, sandbox, seen=Seen()) as world:
            await world.apply(provider("aries", sandbox.url))
            await world.prove_narrowing()
            spent, idle = await world.desk("refresh_token"), await world.desk("refresh_token")
            assert 0 == await process.stop()
            backup.take()
        process = await started(data, env)
        async with connected(process, sandbox, seen=world.seen, admin_key=world.admin_key) as later:
            spent.world = later
            assert (await spent.get("read")).access_token
            assert 0 == await process.stop()
        backup.put_back()
        used = await _presented_again(sandbox)
        process = await started(data, env)
        async with connected(process, sandbox, seen=world.seen, admin_key=world.admin_key) as restored:
            spent.world = idle.world = restored
            assert "GRANT_HELD" == (await spent.refused("read")).reason
            assert (await idle.get("read")).access_token
            stub = grants_pb2_grpc.GrantsServiceStub(restored.channel)
            listed = await restored.call(stub.ListSuspects, grants_pb2.ListSuspectsRequest())
            assert [spent.grant] == [suspect.name for suspect in listed.suspects]
            assert used == await _presented_again(sandbox)
            request = grants_pb2.ReleaseSuspectRequest(name=spent.grant, abandon_token=True)
            await restored.call(stub.ReleaseSuspect, request)
            await until_told(lambda: _wants_consent(restored, spent.key, spent.grant))
            assert used == await _presented_again(sandbox)
            assert 0 == await process.stop()
    assert [] == world.seen.leaks()


async def _wants_consent(world: World, key: str, grant: str) -> bool:
    return "CONSENT_REQUIRED" == (await world.refusal(world.get_token(key, "read", grant=grant))).reason


async def _presented_again(sandbox: SandboxDriver) -> int:
    """Return how often a spent refresh token was presented."""
    return int((await sandbox.counters())["reuses"])
