"""The parts of the demo that must not fail quietly: the search for secrets, interrupts, servers that do not start."""

from __future__ import annotations

import base64
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from broker.cli.demo.interrupts import Interrupts
from broker.cli.demo.leak_search import forms_of, read_all, search
from broker.cli.demo.processes import Processes
from broker.cli.errors import CommandError

SECRET = "demo-secret/+canary"


@pytest.mark.parametrize(
    "hidden",
    [
        SECRET.encode(),
        SECRET.encode().hex().encode(),
        quote(SECRET, safe="").encode(),
        base64.b64encode(SECRET.encode()),
        base64.urlsafe_b64encode(SECRET.encode()),
        base64.b64encode(f"desk-app:{SECRET}".encode()),
    ],
)
def test_the_search_finds_every_form(tmp_path: Path, hidden: bytes) -> None:
    """In the middle of any file of any folder; a place without it is not named."""
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "file").write_bytes(b"\x00before " + hidden + b" behind")
    (tmp_path / "clean").write_bytes(b"nothing")

    assert ["inner/file"] == search(read_all(tmp_path), forms_of(SECRET, "desk-app"))


@pytest.fixture
def interrupts() -> Iterator[Interrupts]:
    """The demo's handlers, taken back afterwards."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield Interrupts()
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_waits_for_the_end_of_a_whole_block(interrupts: Interrupts, number: signal.Signals) -> None:
    """Inside a block, and inside one in it, nothing is torn; at the end of the outer one it takes effect, once."""
    done = []

    def whole() -> None:
        with interrupts.held():
            with interrupts.held():
                os.kill(os.getpid(), number)
                done.append("inner")
            done.append("outer")

    with pytest.raises(KeyboardInterrupt):
        whole()
    with interrupts.held():
        done.append("later")

    assert ["inner", "outer", "later"] == done


def test_an_interrupt_outside_takes_effect_at_once(interrupts: Interrupts) -> None:
    """Both signals end the demo the way Ctrl-C does."""
    for number in (signal.SIGINT, signal.SIGTERM):
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)


def test_a_server_that_ends_is_told_with_its_last_words(tmp_path: Path, interrupts: Interrupts) -> None:
    """The demo does not wait for what is gone, and shows why."""
    with Processes(tmp_path, interrupts) as processes:
        server = processes.serve("sandbox", "sandbox", "--host", "192.0.2.1")

        with pytest.raises(CommandError, match=r"the sandbox did not start:\n.*loopback"):
            processes.wait_for(server, "sandbox", lambda: None)


def test_commands_see_nothing_of_the_shells_settings(
    tmp_path: Path, interrupts: Interrupts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A BROKER_ variable of whoever runs the demo changes nothing in it; what a command printed is remembered."""
    monkeypatch.setenv("BROKER_LISTN", "x")

    with Processes(tmp_path, interrupts) as processes:
        ended = processes.call("migrate")

    assert 1 == ended.returncode
    assert "nothing to migrate" in ended.stderr
    assert [ended.stderr.encode()] == processes.replies
