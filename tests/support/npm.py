"""Node and the packages that tests take from npm, at the versions and hashes that are committed."""

from __future__ import annotations

import fcntl
import hashlib
import re
import shutil
import subprocess
from pathlib import Path
from typing import Final

from tests.support.not_run import not_run

OLDEST_NODE: Final = 20
INSTALL_SECONDS: Final = 120


def node_program() -> str:
    """Return the path of a Node that is new enough, or skip the test."""
    node = shutil.which("node")
    if node is None or shutil.which("npm") is None:
        not_run("node and npm are not installed")
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=False).stdout  # noqa: S603
    number = re.match(r"v([0-9]+)\.", version)
    if number is None or int(number[1]) < OLDEST_NODE:
        not_run(f"node is older than {OLDEST_NODE}: {version.strip()}")
    return node


def install(folder: Path) -> None:
    """Install a folder's locked packages once, whichever test process comes first."""
    lock = (folder / "package-lock.json").read_bytes()
    done = folder / "node_modules" / f".installed-{hashlib.sha256(lock).hexdigest()[:16]}"
    with (folder / "package.json").open() as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        if done.exists():
            return
        command = ["npm", "ci", "--ignore-scripts"]
        try:
            subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=INSTALL_SECONDS)  # noqa: S603
        except (OSError, subprocess.SubprocessError) as error:
            not_run(f"npm ci failed: {type(error).__name__}")
        done.touch()
