"""The demo: tells its story with real processes, and leaves nothing behind, whichever way it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

DEMO = (sys.executable, "-u", "-m", "broker.cli", "demo")


def processes_in(folder: Path) -> list[str]:
    """Return the processes whose working folder is below one, as /proc knows them."""
    found = []
    for process in Path("/proc").iterdir():
        try:
            if process.name.isdigit() and (process / "cwd").readlink().is_relative_to(folder):
                found.append(process.name)
        except OSError:
            continue  # ended meanwhile, or another user's
    return found


@pytest.fixture
def temporary(tmp_path: Path) -> Path:
    """The folder the demo makes its own in."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    return folder


@pytest.mark.timeout(150)
def test_the_story_is_told_on_one_screen(tmp_path: Path, temporary: Path) -> None:
    """Both refusals with their reasons, the trade, the audit events, the search; exit 0 and nothing left."""
    ended = subprocess.run(  # noqa: S603 - our own program
        DEMO, cwd=tmp_path, env={**os.environ, "TMPDIR": str(temporary)}, capture_output=True, text=True, check=False
    )

    assert (0, "") == (ended.returncode, ended.stderr)
    for words in (
        "200, TA-1001, TA-1002",
        "[POLICY_DENIED]",
        "REFUSED by the API: 403",
        "order NEW",
        "reason=POLICY_DENIED",
        "not there",
    ):
        assert words in ended.stdout
    assert len(ended.stdout.splitlines()) <= 24
    assert ([], []) == (list(temporary.iterdir()), processes_in(temporary))


@pytest.mark.timeout(150)
@pytest.mark.parametrize(("number", "who"), [(signal.SIGINT, "broker"), (signal.SIGTERM, "sandbox")])
def test_an_interrupted_story_leaves_nothing(tmp_path: Path, temporary: Path, number: signal.Signals, who: str) -> None:
    """Ctrl-C, or SIGTERM, once a server runs: all end, the folder goes, exit 130."""
    process = subprocess.Popen(  # noqa: S603 - our own program
        DEMO, cwd=tmp_path, env={**os.environ, "TMPDIR": str(temporary)}, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    with process.stdout as lines:
        for line in lines:
            if line.startswith(f"{who} "):
                process.send_signal(number)
                break
        lines.read()

    assert 130 == process.wait()
    assert ([], []) == (list(temporary.iterdir()), processes_in(temporary))
