"""What is in the wheels: the whole one, and the one for the image."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def build(folder: Path, wheel: str) -> zipfile.ZipFile:
    """Build a wheel from the working tree."""
    subprocess.run(  # noqa: S603 - our own interpreter
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=ROOT,
        env={**os.environ, "ARIES_BROKER_WHEEL": wheel},
        check=True,
        capture_output=True,
    )
    (file,) = folder.glob("*.whl")
    return zipfile.ZipFile(file)


def test_the_whole_wheel_has_everything(tmp_path: Path) -> None:
    """Broker, stubs with their types, client and sandbox; no tests."""
    with build(tmp_path, "") as wheel:
        names = set(wheel.namelist())

    expected = {
        "broker/cli/__init__.py",
        "broker/py.typed",
        "broker/sandbox/__init__.py",
        "broker/sandbox/templates/base.html",
        "aries/broker/py.typed",
        "aries/broker/v1/token.proto",
        "aries/broker/v1/token_pb2.pyi",
        "aries_broker/__init__.py",
        "aries_broker/py.typed",
        "aries_exchange/__init__.py",
        "aries_exchange/py.typed",
    }
    assert set() == expected - names
    assert [] == [name for name in names if name.startswith("tests/")]


@pytest.mark.parametrize("command", ["sandbox", "demo"])
def test_the_images_wheel_leaves_sandbox_and_demo_out_and_says_so(tmp_path: Path, command: str) -> None:
    """Neither is in it, everything else is, and the command explains itself with exit 1."""
    with build(tmp_path / "wheel", "image") as wheel:
        names = wheel.namelist()
        wheel.extractall(tmp_path / "installed")

    ended = subprocess.run(  # noqa: S603 - our own interpreter
        [sys.executable, "-c", "import broker.cli; broker.cli.main()", command],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "installed")},
        check=False,
        capture_output=True,
        text=True,
    )

    assert [] == [name for name in names if name.startswith(("broker/sandbox", "broker/cli/demo"))]
    assert "broker/cli/serving.py" in names
    assert (1, "") == (ended.returncode, ended.stdout)
    assert f"leaves the {command} out" in ended.stderr
