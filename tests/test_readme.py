"""The README's examples are run: the six lines of the client against a real broker, the configuration by its rules."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from broker.adapters.config_file import parse_config
from broker.core import config_rules
from tests.support.broker import running_broker
from tests.support.sandbox import running_sandbox

README = (Path(__file__).parents[1] / "README.md").read_text()


def example(language: str) -> str:
    """Return the README's only block in a language."""
    (block,) = re.findall(rf"^```{language}\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
    return str(block)


async def run(*arguments: str, env: dict[str, str]) -> str:
    """Run Python and return what it printed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, *arguments, env=env, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await process.communicate()
    assert 0 == process.returncode, err.decode()
    return out.decode()


def test_the_client_example_has_six_lines() -> None:
    """Short enough to be read before anything else."""
    assert 6 == len([line for line in example("python").splitlines() if line])


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[dict[str, str]]:
    """The environment of a service that may read, at a broker with the configuration as it is printed."""
    folder = tmp_path_factory.mktemp("readme")
    async with running_sandbox() as sandbox:
        text = example("yaml").replace("http://127.0.0.1:8090", sandbox.url)
        # There is no Kubernetes here; everything else is as printed.
        config = folder / "broker.yaml"
        config.write_text(re.sub(r"issuers:\n.*?(?=roles:)", "", text, flags=re.DOTALL).replace('"k8s:', '"key:'))
        secret = {"BROKER_SECRET_DESK": "desk-app-secret"}
        async with running_broker(folder / "data", config=config, env=secret) as broker:
            admin = {"BROKER_ADDRESS": broker.address, "BROKER_API_KEY": broker.admin_key}
            key = await run("-m", "broker.cli", "admin", "api-keys", "create", "reports", env=admin)
            yield {"BROKER_ADDRESS": broker.address, "ARIES_BROKER": broker.address, "BROKER_API_KEY": key.strip()}


@pytest.mark.timeout(120)
@pytest.mark.asyncio(loop_scope="module")
async def test_the_client_example_reads_accounts(service: dict[str, str]) -> None:
    """A key that may read, the example as it stands, and the accounts are there."""
    printed = await run("-c", example("python") + "print(accounts.decode())", env=service)

    assert "TA-1001" in printed


@pytest.mark.timeout(120)
@pytest.mark.asyncio(loop_scope="module")
async def test_the_sdk_example_reads_and_is_refused_an_order(service: dict[str, str]) -> None:
    """The same key, without a secret in the process: it reads, and no policy lets it trade."""
    printed = await run("-c", example("py"), env=service)

    assert ["ada@example.com 2", "403"] == [printed.splitlines()[0], printed.splitlines()[1][:3]]


def test_the_configuration_example_is_right() -> None:
    """It parses, and no rule finds anything wrong with it."""
    parsed = parse_config(example("yaml"))

    assert [] == list(config_rules.problems(parsed.config))


@pytest.mark.timeout(120)
async def test_the_first_start_works_as_it_is_pasted(tmp_path: Path) -> None:
    """The configuration is saved, the commands are run as they stand, and the last thing printed is a token.

    An address of this machine that nobody else uses takes the place of 127.0.0.1, so that the ports are free.
    """
    number = os.getpid()
    host = f"127.{1 + number // 65536 % 254}.{number // 256 % 256}.{1 + number % 254}"
    (tmp_path / "broker.yaml").write_text(example("yaml").replace("127.0.0.1", host))
    commands = example("bash").replace("127.0.0.1", host).replace("broker sandbox", f"broker sandbox --host {host}")
    env = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "BROKER_LISTEN": f"{host}:50051",
        "BROKER_ADDRESS": f"{host}:50051",
        "BROKER_HTTP_LISTEN": f"{host}:8081",
    }
    ended = await asyncio.create_subprocess_exec(
        *("timeout", "90", "bash"),
        *("-ec", "trap 'kill $(jobs -p) 2> ended.log; wait' EXIT\n" + commands),
        cwd=tmp_path,
        env=env,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await ended.communicate()

    assert (0, "") == (ended.returncode, err.decode())
    assert 2 == out.decode().splitlines()[-1].count(".")
    assert README.index("```yaml") < README.index("```bash")
