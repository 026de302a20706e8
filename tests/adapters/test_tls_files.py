"""TLS files: what is served, what is not taken, what is noticed."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from broker.adapters.tls_files import TlsFiles, TlsFilesError
from tests.rpc.authorities import Authority, Pair, TlsFolder
from tests.rpc.kit import Clock, Counters
from tests.support.waiting import until


class Parts:
    """The files, an authority, and what hears of them."""

    def __init__(self, folder: Path) -> None:
        self.files, self.authority = TlsFolder(folder), Authority()
        self.clock, self.telemetry = Clock(), Counters()
        self.first = self.authority.server()
        self.files.write(self.first, self.authority.pem)

    def open(self, *, client_ca: bool = True) -> TlsFiles:
        """Read the files."""
        certificate, key, bundle = self.files.paths
        return TlsFiles(certificate, key, bundle if client_ca else None, clock=self.clock, telemetry=self.telemetry)


@pytest.fixture
def parts(tmp_path: Path) -> Parts:
    """Write good files."""
    return Parts(tmp_path)


def test_the_serial_served_is_told(parts: Parts) -> None:
    """At the start and at every swap, and only then."""
    tls = parts.open()
    second = parts.authority.server()
    assert not tls.check()
    parts.files.write(second)
    assert tls.check()
    assert not tls.check()
    assert [parts.first.serial, second.serial] == parts.telemetry.serials
    assert (2, second.certificate) == (tls.current().version, tls.current().certificate_chain)


def test_a_start_without_good_files_is_refused(parts: Parts) -> None:
    """With words for each cause that name no key."""
    other = parts.authority.server()
    cases = {
        "is not the certificate's": Pair(parts.first.certificate, other.key, ""),
        "is valid from": parts.authority.server(ends_in=-60),
        "is no PEM": Pair(b"junk", other.key, ""),
    }
    for words, pair in cases.items():
        parts.files.write(pair)
        with pytest.raises(TlsFilesError, match=words):
            parts.open()
    parts.files.paths[1].unlink()
    with pytest.raises(TlsFilesError, match="cannot be read: No such file"):
        parts.open()


def test_a_file_that_goes_away_changes_nothing(parts: Parts) -> None:
    """The old set is served, the loss is told once, and the files' return is noticed."""
    tls = parts.open()
    certificate, key, _ = parts.files.paths
    content = key.read_bytes()
    key.unlink()
    assert [False, False] == [tls.check(), tls.check()]
    assert 1 == parts.telemetry.refused
    key.write_bytes(content)
    assert not tls.check()
    assert parts.first.certificate == tls.current().certificate_chain == certificate.read_bytes()


def test_a_rotation_in_two_steps_is_taken_whole(parts: Parts) -> None:
    """Between the certificate's and the key's appearance the old pair is served."""
    tls = parts.open()
    second = parts.authority.server()
    certificate, key, _ = parts.files.paths
    certificate.write_bytes(second.certificate)
    assert not tls.check()
    assert parts.first.certificate == tls.current().certificate_chain
    key.write_bytes(second.key)
    assert tls.check()
    assert second.certificate == tls.current().certificate_chain


async def test_the_watch_swaps(parts: Parts) -> None:
    """Without a restart or a call."""
    tls = parts.open()
    watching = asyncio.create_task(tls.watch(0.001))
    second = parts.authority.server()
    parts.files.write(second)
    await until(lambda: tls.current().certificate_chain == second.certificate)
    watching.cancel()


def test_clients_are_trusted_under_the_current_bundle_only(parts: Parts) -> None:
    """Now, by a CA that is in it, and not at all where none is asked for."""
    tls = parts.open()
    client = parts.authority.client("spiffe://corp.example/a").certificate
    now = parts.clock.now()
    foreign = Authority().client("spiffe://corp.example/a").certificate
    assert [True, True] == [tls.trusts_client(client, now), tls.trusts_client(client, now)]
    assert [False, False, False] == [
        tls.trusts_client(foreign, now),
        tls.trusts_client(b"junk", now),
        tls.trusts_client(client, now + 3601),
    ]
    assert not parts.open(client_ca=False).trusts_client(client, now)


def test_a_leaf_signs_no_leaf(parts: Parts) -> None:
    """What is no authority cannot be in the middle of a chain."""
    middle = parts.authority.client("spiffe://corp.example/a", key=(forger := Authority("client")).key)
    leaf = forger.client("spiffe://corp.example/admin")
    tls = parts.open()
    assert tls.trusts_client(middle.certificate, parts.clock.now())
    assert not tls.trusts_client(leaf.certificate + middle.certificate, parts.clock.now())
