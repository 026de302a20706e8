"""TLS files: what is served, what is not taken, what is noticed."""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509 import load_pem_x509_certificate

from broker.adapters.tls_files import MAX_FILE, TlsFiles, TlsFilesError
from tests.rpc.authorities import Authority, Pair, TlsFolder
from tests.rpc.kit import Clock, Counters
from tests.support.waiting import until


class Parts:
    """The files, an authority, and what hears of them."""

    def __init__(self, folder: Path) -> None:
        self.files, self.authority = TlsFolder(folder), Authority()
        self.clock, self.telemetry = Clock(), Counters()
        self.first = self.authority.server(ends_in=10**9)  # past 2050 the year has four digits in it
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
    """With words for each cause that name the files and what to do, and no key."""
    other = parts.authority.server()
    certificate, key, bundle = parts.files.paths
    cases = {
        f"the key {key} is not the one of the certificate {certificate}: name two": Pair(
            parts.first.certificate, other.key, ""
        ),
        f"the certificate {certificate} is valid from": parts.authority.server(ends_in=-60),
        f"{certificate} or {key} is no PEM that can be read": Pair(b"junk", other.key, ""),
    }
    for words, pair in cases.items():
        parts.files.write(pair)
        with pytest.raises(TlsFilesError, match=re.escape(words)):
            parts.open()
    parts.files.write(parts.first, b"junk")
    with pytest.raises(TlsFilesError, match=re.escape(f"the client CA bundle {bundle} is no PEM of certificates: ")):
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


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_text_around_a_key_does_not_matter(parts: Parts, encoding: str) -> None:
    """Files may say whose they are, in any encoding; of the key's file the key alone is kept."""
    tls = parts.open()
    second = parts.authority.server()
    words = "friendlyName: Börse\r\n".encode(encoding)
    parts.files.write(Pair(words + second.certificate, words + second.key + words, ""), words + parts.authority.pem)
    assert tls.check()
    assert (second.key.decode(), second.serial) == (tls.current().private_key.reveal(), parts.telemetry.serials[-1])


def _altered(pem: bytes, pattern: bytes, replacement: bytes) -> bytes:
    """Return a certificate with one spot of its DER changed."""
    der, count = re.subn(
        pattern, lambda _: replacement, load_pem_x509_certificate(pem).public_bytes(Encoding.DER), count=1
    )
    assert 1 == count
    return b"-----BEGIN CERTIFICATE-----\n%b-----END CERTIFICATE-----\n" % base64.encodebytes(der)


def _of_version_11(pem: bytes) -> bytes:
    return _altered(pem, rb"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x0a")


def _until_the_year_0(pem: bytes) -> bytes:
    return _altered(pem, rb"\x18\x0f20..", b"\x18\x0f0000")


def _encrypted(key: bytes) -> bytes:
    return load_pem_private_key(key, None).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"password")
    )


def _of_another_kind() -> bytes:
    return X25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


CERTIFICATE, KEY, CLIENT_CA = range(3)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        *((file, lambda _: b"") for file in range(3)),
        *((file, lambda _: b"\xff\x00" * 99) for file in range(3)),
        (CERTIFICATE, lambda parts: parts.first.certificate + b"\n" * MAX_FILE),
        (KEY, lambda parts: parts.first.key + b"\n" * MAX_FILE),
        (CLIENT_CA, lambda parts: parts.authority.pem + b"\n" * MAX_FILE),
        *((file, lambda _: None) for file in range(3)),
        (CERTIFICATE, lambda parts: _of_version_11(parts.first.certificate)),
        (CERTIFICATE, lambda parts: _until_the_year_0(parts.first.certificate)),
        (CERTIFICATE, lambda parts: parts.first.certificate[:-99]),
        (KEY, lambda parts: parts.first.key.replace(b"\nM", "\nÖ".encode(), 1)),
        (KEY, lambda parts: _encrypted(parts.first.key)),
        (KEY, lambda _: _of_another_kind()),
        (CLIENT_CA, lambda parts: _of_version_11(parts.authority.pem)),
        (CLIENT_CA, lambda parts: parts.first.key),
    ],
    ids=[
        *(f"{what}-{name}" for what in ("empty", "junk", "long", "folder") for name in ("certificate", "key", "ca")),
        "certificate-version",
        "certificate-year",
        "certificate-cut",
        "key-cut",
        "key-encrypted",
        "key-kind",
        "ca-version",
        "ca-key",
    ],
)
def test_files_that_cannot_be_served_change_nothing(
    parts: Parts, file: int, content: Callable[[Parts], bytes | None]
) -> None:
    """Whatever is in them, or where a folder is in their place: the old set is served, and good files are taken."""
    tls, before = parts.open(), parts.open().current()
    path, written = parts.files.paths[file], content(parts)
    path.unlink()
    path.mkdir() if written is None else path.write_bytes(written)
    assert [False, False] == [tls.check(), tls.check()]
    assert (before, 1) == (tls.current(), parts.telemetry.refused)
    if written is None:
        path.rmdir()
    second = parts.authority.server()
    parts.files.write(second, parts.authority.pem)
    assert tls.check()
    assert second.serial == parts.telemetry.serials[-1]


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
