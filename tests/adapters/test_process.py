"""The process keeps its memory to itself, and may hold as many connections as the machine lets it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from broker.adapters import process

PROGRAM = """
import ctypes, resource
from broker.adapters.process import forbid_core_dumps
dumpable = lambda: ctypes.CDLL(None).prctl(3, 0, 0, 0, 0)
before = dumpable()
forbid_core_dumps()
print(before, dumpable(), *resource.getrlimit(resource.RLIMIT_CORE))
"""


def test_core_dumps_are_forbidden() -> None:
    """The kernel says that the process is not dumpable any more, and that core files have no room."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, timeout=30)  # noqa: S603
    assert "1 0 0 0" == done.stdout.strip()


OPEN_FILES = """
import resource, sys
from broker.adapters.process import raise_open_files
resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[1]), int(sys.argv[2])))
raise_open_files(300)
print(*resource.getrlimit(resource.RLIMIT_NOFILE))
"""


@pytest.mark.parametrize(
    ("soft", "hard", "raised"),
    [(64, 256, 256), (256, 256, 256), (64, 512, 300), (400, 512, 400)],
)
def test_open_files_are_as_many_as_may_be(soft: int, hard: int, raised: int) -> None:
    """The soft limit becomes the hard one, within a bound; it is never lowered, and the hard one stays."""
    command = [sys.executable, "-c", OPEN_FILES, str(soft), str(hard)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)  # noqa: S603 - ours
    assert f"{raised} {hard}" == done.stdout.strip()


def test_a_kernel_that_refuses_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """The broker does not go on as if its memory were its own."""

    class Refusing:
        def prctl(self, *_: int) -> int:
            return -1

    monkeypatch.setattr("ctypes.CDLL", lambda *_, **__: Refusing())
    monkeypatch.setattr("resource.setrlimit", lambda *_: None)
    with pytest.raises(process.ProcessError, match="core dumps cannot be forbidden"):
        process.forbid_core_dumps()
