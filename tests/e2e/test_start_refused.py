"""Starts that are refused: one clear message, a non-zero exit code, no traceback."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

import pytest

from broker.adapters.data_folder import DataFolder
from broker.adapters.keys.kek import open_or_make_local_kek
from broker.adapters.keys.keyring import open_keyring
from broker.adapters.sql.database import open_database
from tests.support.broker import NotServingError, running_broker, start_broker
from tests.support.canary import new_secret
from tests.support.postgres import PostgresServer
from tests.support.world import make_keys, postgres_environment

pytestmark = pytest.mark.asyncio(loop_scope="session")

MISSING = """\
revision: 1
providers: [{name: aries, preset: aries}]
clients:
  - {name: desk, provider: aries, client_id: a, secret_env: BROKER_SECRET_NOT_THERE}
grants:
  - {name: g, client: desk, type: client_credentials, scopes: [read]}
"""
CONFIG = """\
revision: 1
providers:
  - {name: aries, preset: aries, base_url: "http://127.0.0.1:1", insecure_loopback: true}
clients:
  - {name: desk, provider: nowhere, client_id: desk-app}
grants:
  - {name: one, client: desk, type: implicit, scopes: [read]}
"""


async def _refused(data: Path, config: Path | None = None, *, env: dict[str, str] | None = None) -> str:
    """Return what a refused start said."""
    with pytest.raises(NotServingError) as refused:
        await start_broker(data, config=config, env=env)
    assert refused.value.exit_code in {1, 2}, refused.value.said
    assert "Traceback" not in refused.value.said
    return refused.value.said


async def test_bad_settings(tmp_path: Path) -> None:
    """Every problem at once, each at its variable, and no value of a secret."""
    secret = new_secret("password").replace('"', "").replace("/", "")
    said = await _refused(
        tmp_path / "data",
        env={
            "BROKER_LISTEN": "nonsense",
            "BROKER_LOG_LEVEL": "loud",
            "BROKER_LISTN": "127.0.0.1:1",
            "BROKER_DATABASE_URL": f"mysql://broker:{secret}@db/broker",
        },
    )
    for expected in ("BROKER_LISTEN: write host:port", "BROKER_LOG_LEVEL: ", "BROKER_LISTN: no such setting; did you"):
        assert expected in said
    assert "BROKER_DATABASE_URL: write postgresql://" in said
    assert secret not in said
    assert not (tmp_path / "data").exists()


async def test_a_bad_configuration(tmp_path: Path) -> None:
    """Every error at once, each with its line and field."""
    file = tmp_path / "broker.yaml"
    file.write_text(CONFIG)
    said = await _refused(tmp_path / "data", file)
    for expected in ("line 5: clients[0].provider: ", "line 7: grants[0].type: "):
        assert expected in said


async def test_secrets_that_are_missing(tmp_path: Path) -> None:
    """They are told by the lines of their sources, also beside what else is wrong with the file."""
    file = tmp_path / "broker.yaml"
    file.write_text(MISSING)
    said = await _refused(tmp_path / "data", file)
    told = "line 4: clients[0].secret_env: the client 'desk' has no secret yet, and the variable BROKER_SECRET_NOT"
    assert told in said
    for wrong, expected in (
        ("type: nonsense", "line 6: grants[0].type: "),
        ("type: client_credentials, nonsense: 1", "line 6: grants[0].nonsense: "),
    ):
        file.write_text(MISSING.replace("type: client_credentials", wrong))
        said = await _refused(tmp_path / "data", file)
        assert expected in said
        assert "line 4: clients[0].secret_env: " in said


async def test_data_without_its_key(tmp_path: Path) -> None:
    """A database that holds a keyset is not opened without the key-encryption key, and none is made in its stead."""
    data = tmp_path / "data"
    with contextlib.closing(DataFolder(data)) as folder:
        async with contextlib.aclosing(await open_database(None, folder)) as database:
            await open_keyring(database, [await open_or_make_local_kek(f"file:{data / 'kek.json'}", database)])
    (data / "kek.json").rename(tmp_path / "kek.json")
    said = await _refused(data)
    assert "kek.json" in said
    assert not (data / "kek.json").exists()


async def test_a_folder_without_its_database(tmp_path: Path) -> None:
    """Where a broker lived none begins anew by itself; on purpose, as the message says, it does, with the old key."""
    data = tmp_path / "data"
    async with running_broker(data):
        pass
    (data / "broker.db").unlink()
    said = await _refused(data)
    for expected in ("as audit.db tells", "put back the database from the backup", "begin anew on purpose"):
        assert expected in said
    assert not (data / "broker.db").exists()
    key = (data / "kek.json").read_text()
    (data / "audit.db").unlink()
    (data / "broker.db").touch(mode=0o600)  # so far came a first start that ended half way
    async with running_broker(data):
        assert key == (data / "kek.json").read_text()


async def test_no_first_admin(postgres: PostgresServer, tmp_path: Path) -> None:
    """On PostgreSQL the first admin's key does not appear by itself: it has to be named."""
    env = await postgres_environment(postgres, tmp_path / "data")
    del env["BROKER_BOOTSTRAP_ADMIN_KEY_FILE"]
    said = await _refused(tmp_path / "data", env=env)
    assert "BROKER_BOOTSTRAP_ADMIN_KEY_FILE" in said


async def test_a_database_that_lets_nobody_in(postgres: PostgresServer, tmp_path: Path) -> None:
    """What is wrong with it and what to do, and neither the password nor the URL that holds it."""
    secret = new_secret("password").replace('"', "").replace("/", "").replace("%", "")
    env = await postgres_environment(postgres, tmp_path / "data")
    url = env["BROKER_DATABASE_URL"].replace("broker@", f"broker:{secret}@").replace("/test_", "/no_test_")
    said = await _refused(tmp_path / "data", env={**env, "BROKER_DATABASE_URL": url})
    assert "there is no such database: correct its name in BROKER_DATABASE_URL" in said
    assert "did not answer in time" not in said
    assert secret not in said


async def test_a_first_admin_s_key_older_than_a_day(tmp_path: Path) -> None:
    """A key file somebody may have found by now opens nothing: a new one has to be made, which the message says."""
    data = tmp_path / "data"
    env = make_keys(data)
    key = Path(env["BROKER_BOOTSTRAP_ADMIN_KEY_FILE"])
    old = time.time() - 25 * 3600
    os.utime(key, (old, old))
    said = await _refused(data, env=env)
    assert f"the key in {key} is older than a day" in said
    assert "aries-broker keys new-bootstrap" in said


async def test_plaintext_beyond_loopback(tmp_path: Path) -> None:
    """A listener that others can reach needs TLS, and a local key has to be meant."""
    keys = make_keys(tmp_path / "data")
    said = await _refused(tmp_path / "data", env={**keys, "BROKER_LISTEN": "0.0.0.0:0"})
    assert "BROKER_LISTEN" in said
    assert "BROKER_ALLOW_LOCAL_KEK=true" in said
