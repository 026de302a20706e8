"""Renewed certificates: calls use them without a restart, and half a renewal breaks nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent import futures
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import ClassVar

import grpc
import pytest
import trustme

from aries.broker.v1 import token_pb2
from aries_broker import AsyncClient, Client, ConfigurationError, Connection, UnavailableError
from aries_broker.renewal import LOOK_SECONDS, Channels
from tests.clients.conftest import ScriptedTokenService, Start
from tests.support.waiting import ENOUGH


class Folder:
    """An authority, and the files of a client it knows."""

    def __init__(self, folder: Path) -> None:
        self.authority = trustme.CA()
        self.ca, self.cert, self.cert_key = (folder / name for name in ("ca.pem", "cert.pem", "key.pem"))
        self.ca.write_bytes(self.authority.cert_pem.bytes())
        self.renew("first.example")

    def renew(self, name: str) -> None:
        """Write a new certificate and its key."""
        chain, key = self.issue(name)
        self.cert.write_bytes(chain)
        self.cert_key.write_bytes(key)

    def issue(self, name: str) -> tuple[bytes, bytes]:
        """Return a chain and its key."""
        issued = self.authority.issue_cert(name)
        return b"".join(pem.bytes() for pem in issued.cert_chain_pems), issued.private_key_pem.bytes()

    def server(self, clients: trustme.CA | None = None) -> grpc.ServerCredentials:
        """Return what a server needs that wants certificates of this authority, or of another one."""
        chain, key = self.issue("127.0.0.1")
        known = (clients or self.authority).cert_pem.bytes()
        return grpc.ssl_server_credentials([(key, chain)], root_certificates=known, require_client_auth=True)

    def connection(self, address: str = "127.0.0.1:1") -> Connection:
        """Return a connection with the files."""
        return Connection.resolve(address, ca=self.ca, cert=self.cert, cert_key=self.cert_key, environ={})

    def client(self, address: str) -> Client:
        """Return a client with the files."""
        return Client(address, ca=self.ca, cert=self.cert, cert_key=self.cert_key)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """Give files."""
    return Folder(tmp_path)


# --- over a real socket ----------------------------------------------------------------------------------------------


def test_a_renewed_certificate_is_used(start: Start, service: ScriptedTokenService, folder: Folder) -> None:
    """The blocking client shows the new certificate though the old connection still stands."""
    with folder.client(start(folder.server())) as broker:
        broker.get_token(["read"])
        folder.renew("second.example")
        while service.peers[-1] != "second.example":
            broker.get_token(["read"])

    assert ["first.example", "second.example"] == sorted(set(service.peers))


async def test_the_asyncio_client_uses_it_too(start: Start, service: ScriptedTokenService, folder: Folder) -> None:
    """The same for asyncio."""
    address = start(folder.server())
    async with AsyncClient(address, ca=folder.ca, cert=folder.cert, cert_key=folder.cert_key) as broker:
        await broker.get_token(["read"])
        folder.renew("second.example")
        while service.peers[-1] != "second.example":
            await broker.get_token(["read"])

    assert ["first.example", "second.example"] == sorted(set(service.peers))


def test_a_renewed_bundle_is_used(start: Start, folder: Folder) -> None:
    """A broker whose authority was replaced is reached once the bundle knows the new one."""
    trusted = folder.authority
    folder.authority = trustme.CA()
    with folder.client(start(folder.server(trusted))) as broker:
        with pytest.raises(UnavailableError):
            broker.get_token(["read"])
        folder.ca.write_bytes(folder.authority.cert_pem.bytes())
        token = _first_token(broker)

    assert "at-canary" == token


def _first_token(broker: Client) -> str:
    while True:
        try:
            return broker.get_token(["read"]).access_token
        except UnavailableError:
            continue


def test_a_call_ends_on_the_channel_it_began_on(start: Start, service: ScriptedTokenService, folder: Folder) -> None:
    """A call that waits while the certificate is renewed is answered, and then the old channel is closed."""
    service.hold = hold = threading.Event()
    with folder.client(start(folder.server())) as broker, futures.ThreadPoolExecutor(1) as threads:
        old = broker._channels._current
        waiting = threads.submit(broker.get_token, ["read"])
        assert service.held.wait(ENOUGH)
        folder.renew("second.example")
        while service.peers[-1] != "second.example":
            broker.get_token(["read"])
        kept = broker._channels._retired
        hold.set()
        token = waiting.result(ENOUGH)
        left = broker._channels._retired
        with pytest.raises(ValueError, match="closed"):
            old.channel.tokens.GetToken(token_pb2.GetTokenRequest())

    assert ([old], "at-canary", []) == (kept, token.access_token, left)


# --- the rules, by a clock moved by hand -----------------------------------------------------------------------------


@dataclass(eq=False)
class Opened:
    """What stands for a channel."""

    number: int


class Clock:
    """Seconds as a test says them."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


class Kit:
    """Channels that are counted, over files."""

    def __init__(self, connection: Connection) -> None:
        self.clock = Clock()
        self.numbers = count(1)
        self.channels = Channels(connection, lambda _: Opened(next(self.numbers)), self.clock)

    def used(self, seconds: float = LOOK_SECONDS) -> int:
        """Return the channel of a call so much later."""
        self.clock.seconds += seconds
        held = self.channels.take()
        self.channels.give_back(held)
        return held.channel.number


def test_files_are_looked_at_once_a_second(folder: Folder) -> None:
    """Within the second calls use what there is, and files that did not change are not read again."""
    kit = Kit(folder.connection())
    same = [kit.used(), kit.used()]
    folder.renew("second.example")
    used = [kit.used(LOOK_SECONDS / 2), kit.used(LOOK_SECONDS / 4), kit.used(LOOK_SECONDS / 4), kit.used()]

    assert ([1, 1], [1, 1, 2, 2]) == (same, used)


def test_without_files_nothing_is_renewed() -> None:
    """A connection in plaintext keeps its channel."""
    kit = Kit(Connection.resolve("127.0.0.1:1", environ={}))

    assert [1, 1] == [kit.used(), kit.used()]


def test_a_link_that_moves_is_a_change(tmp_path: Path, folder: Folder) -> None:
    """Mounted secrets are links to folders that are replaced whole."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    for path in (folder.ca, folder.cert, folder.cert_key):
        (tmp_path / "one" / path.name).write_bytes(path.read_bytes())
    chain, key = folder.issue("second.example")
    for name, content in (("ca.pem", folder.ca.read_bytes()), ("cert.pem", chain), ("key.pem", key)):
        (tmp_path / "two" / name).write_bytes(content)
    (tmp_path / "data").symlink_to("one")
    mounted = tmp_path / "data"
    files = {"ca": mounted / "ca.pem", "cert": mounted / "cert.pem", "cert_key": mounted / "key.pem"}
    kit = Kit(Connection.resolve("127.0.0.1:1", **files, environ={}))  # type: ignore[arg-type]  # one type for all
    (tmp_path / "next").symlink_to("two")
    (tmp_path / "next").rename(tmp_path / "data")

    assert 2 == kit.used()


Break = Callable[[Folder], object]


def endless(folder: Folder) -> None:
    """Put a device in place of the certificate."""
    folder.cert.unlink()
    folder.cert.symlink_to("/dev/zero")


HALVES: dict[str, Break] = {
    "the certificate alone": lambda folder: folder.cert.write_bytes(folder.issue("second.example")[0]),
    "the key alone": lambda folder: folder.cert_key.write_bytes(folder.issue("second.example")[1]),
    "no certificate": lambda folder: folder.cert.unlink(),
    "no key": lambda folder: folder.cert_key.unlink(),
    "an empty certificate": lambda folder: folder.cert.write_bytes(b""),
    "half a certificate": lambda folder: folder.cert.write_bytes(folder.cert.read_bytes()[:400]),
    "an encrypted key": lambda folder: folder.cert_key.write_bytes(
        folder.cert_key.read_bytes().replace(b"\n", b"\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\n", 1)
    ),
    "no bundle": lambda folder: folder.ca.unlink(),
    "an empty bundle": lambda folder: folder.ca.write_bytes(b""),
    "half a bundle": lambda folder: folder.ca.write_bytes(folder.ca.read_bytes()[:400]),
    "a file without end": endless,
}


@pytest.mark.parametrize("break_it", HALVES.values(), ids=HALVES)
def test_half_a_renewal_breaks_nothing(tmp_path: Path, break_it: Break) -> None:
    """What does not fit is not used, and is looked at again until it does, whether or not it changes meanwhile."""
    folder = Folder(tmp_path)
    kit = Kit(folder.connection())
    break_it(folder)
    used = [kit.used(), kit.used()]
    for path in (folder.ca, folder.cert, folder.cert_key):
        path.unlink(missing_ok=True)
    folder.ca.write_bytes(b"# caf\xc3\xa9\n" + folder.authority.cert_pem.bytes())
    folder.renew("second.example")
    used += [kit.used(), kit.used()]

    assert [1, 1, 2, 2] == used


class Overtaken(Connection):
    """A connection whose files are renewed, once, when they have just been read."""

    by: ClassVar[Callable[[], None] | None] = None

    def load_credentials(self) -> grpc.ChannelCredentials | None:
        loaded = super().load_credentials()
        by, Overtaken.by = Overtaken.by, None
        if by is not None:
            by()
        return loaded


def test_files_that_change_while_they_are_read_are_read_again(folder: Folder) -> None:
    """A renewal between two reads is not taken for the files that were seen."""
    kit = Kit(Overtaken.resolve("127.0.0.1:1", ca=folder.ca, cert=folder.cert, cert_key=folder.cert_key, environ={}))
    folder.renew("second.example")
    Overtaken.by = lambda: folder.renew("third.example")

    assert [1, 2, 2] == [kit.used(), kit.used(), kit.used()]


def test_a_missing_file_at_the_start_is_told(folder: Folder) -> None:
    """Only what worked before is kept."""
    folder.cert.unlink()
    with pytest.raises(ConfigurationError, match=r"cert\.pem"):
        Kit(folder.connection())


def test_a_replaced_channel_is_given_out_to_be_closed_once_no_call_uses_it(folder: Folder) -> None:
    """Neither before its last call ends, nor twice."""
    kit = Kit(folder.connection())
    old = [kit.channels.take(), kit.channels.take()]
    folder.renew("second.example")
    kit.clock.seconds += LOOK_SECONDS
    new = kit.channels.take()
    closed = [kit.channels.give_back(held) for held in (old[0], new, old[1])]
    folder.renew("third.example")
    kit.clock.seconds += LOOK_SECONDS
    closed.append(kit.channels.give_back(kit.channels.take()))

    assert [[], [], [1], [2]] == [[one.number for one in ended] for ended in closed]


def test_nothing_is_opened_once_all_is_closed(folder: Folder) -> None:
    """Closing gives out every channel, those in use too, and a renewal opens no further one."""
    kit = Kit(folder.connection())
    kit.channels.take()
    folder.renew("second.example")
    kit.used()
    closed = sorted(one.number for one in kit.channels.close())
    folder.renew("third.example")

    assert ([1, 2], 2) == (closed, kit.used())


def test_threads_share_the_channels(folder: Folder) -> None:
    """However calls and renewals meet, no channel is closed that a call uses, and each replaced one is closed once."""
    kit = Kit(folder.connection())
    closed: list[Opened] = []
    wrong: list[Opened] = []

    def calls() -> None:
        for _ in range(300):
            kit.clock.seconds += LOOK_SECONDS
            held, other = kit.channels.take(), kit.channels.take()
            closed.extend(kit.channels.give_back(other))
            if held.channel in closed:
                wrong.append(held.channel)
            closed.extend(kit.channels.give_back(held))

    def renewals() -> None:
        for number in range(10):
            folder.renew(f"n{number}.example")

    with futures.ThreadPoolExecutor(5) as threads:
        for ended in [*(threads.submit(calls) for _ in range(4)), threads.submit(renewals)]:
            ended.result(ENOUGH)
    closed.extend(kit.channels.close())

    assert ([], list(range(1, next(kit.numbers)))) == (wrong, sorted(one.number for one in closed))
