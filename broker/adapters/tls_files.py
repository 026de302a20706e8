"""Server certificate, key and client CA from files, swapped together when they change and only when they fit.

The files' contents are compared, not their times: secrets are mounted as links that move, and a write in place may not
change a time. A set that does not fit is told once and looked at again every second, so the order in which files of
one rotation appear does not matter.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import structlog
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.x509.verification import Criticality, ExtensionPolicy, PolicyBuilder, Store, VerificationError

from broker.core.secret import Secret
from broker.ports import Clock, Telemetry, TlsMaterial

POLL_SECONDS: Final = 1.0
MAX_CHAINS: Final = 4_096
"""Client certificate chains remembered as verified under the current bundle."""

MAX_FILE: Final = 1024 * 1024
"""Bytes of the longest file; a bundle of every public authority has a quarter of it."""

UNREADABLE: Final = (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion)
"""What comes out of certificates and keys that are none, or of a kind that nobody knows."""

log = structlog.get_logger("broker.tls")


class TlsFilesError(Exception):
    """The files are no set that can be served; the text says why, in our own words."""


@dataclass(frozen=True, slots=True)
class _Served:
    material: TlsMaterial
    clients: Store | None


class TlsFiles:
    """The TLS files of one broker; `ServerTls`."""

    def __init__(
        self,
        certificate: Path,
        key: Path,
        client_ca: Path | None,
        *,
        clock: Clock,
        telemetry: Telemetry,
    ) -> None:
        """Read and verify the files.

        Raises:
            TlsFilesError: they cannot be served.
        """
        self._paths: tuple[Path, ...] = (certificate, key) if client_ca is None else (certificate, key, client_ca)
        self._clock = clock
        self._telemetry = telemetry
        self._verified: OrderedDict[tuple[int, bytes], tuple[float, float]] = OrderedDict()
        contents = self._read()
        self._seen = _digest(contents)
        self._refused: object = None
        self._served = self._swap(contents, version=1)

    def current(self) -> TlsMaterial:
        """Return the material in use."""
        return self._served.material

    def trusts_client(self, unverified_chain: bytes, now: float) -> bool:
        """Tell whether a PEM chain is valid at `now` under the current client CA bundle."""
        served = self._served
        if served.clients is None:
            return False
        key = (served.material.version, hashlib.sha256(unverified_chain).digest())
        span = self._verified.get(key)
        if span is None:
            span = _verify_client(unverified_chain, served.clients, now)
            if span is None:
                return False
            self._verified[key] = span
            if len(self._verified) > MAX_CHAINS:
                self._verified.popitem(last=False)
        not_before, not_after = span
        return not_before <= now <= not_after

    def check(self) -> bool:
        """Look at the files and serve them if they changed and fit; tell whether they were swapped."""
        try:
            contents = self._read()
            seen = _digest(contents)
            if seen == self._seen:
                return False
            self._served = self._swap(contents, self._served.material.version + 1)
        except TlsFilesError as error:
            if self._refused != (refused := str(error)):
                self._refused = refused
                self._telemetry.certificate_refused()
                log.warning("tls_files_refused", problem=refused)
            return False
        self._seen, self._refused = seen, None
        return True

    async def watch(self, every: float = POLL_SECONDS) -> None:
        """Check the files every so many seconds, until cancelled."""
        while True:
            await asyncio.sleep(every)
            await asyncio.to_thread(self.check)

    def _read(self) -> tuple[bytes, ...]:
        return tuple(map(_content, self._paths))

    def _swap(self, contents: tuple[bytes, ...], version: int) -> _Served:
        chain, key, *bundle = contents
        leaf, private_key = _verify_server(chain, key, datetime.fromtimestamp(self._clock.now(), UTC), self._paths)
        clients = _store_of(bundle[0], self._paths[2]) if bundle else None
        material = TlsMaterial(version, chain, private_key, bundle[0] if bundle else None)
        serial = f"{leaf.serial_number:x}"
        self._telemetry.certificate_served(serial, leaf.not_valid_after_utc.timestamp())
        log.info("tls_files_served", serial=serial, not_after=leaf.not_valid_after_utc.isoformat())
        return _Served(material, clients)


def _digest(contents: tuple[bytes, ...]) -> tuple[bytes, ...]:
    return tuple(hashlib.sha256(content).digest() for content in contents)


def _content(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE + 1)
    except OSError as error:
        msg = f"{path} cannot be read: {error.strerror}"
        raise TlsFilesError(msg) from None
    if len(content) > MAX_FILE:
        msg = f"{path} is longer than {MAX_FILE} bytes, which no certificate, key or bundle is: name another file"
        raise TlsFilesError(msg)
    return content


def _verify_server(chain: bytes, key: bytes, now: datetime, paths: Sequence[Path]) -> tuple[x509.Certificate, Secret]:
    """Return the leaf of a chain that is valid now and whose key is this one, and the key without what is around it."""
    certificate_path, key_path = paths[:2]
    try:
        leaf = x509.load_pem_x509_certificates(chain)[0]
        private = load_pem_private_key(key, None)
        own = private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        named = leaf.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        not_before, not_after = leaf.not_valid_before_utc, leaf.not_valid_after_utc
        text = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode("ascii")
    except UNREADABLE:
        msg = (
            f"{certificate_path} or {key_path} is no PEM that can be read, or the key is encrypted: name a certificate "
            "chain, leaf first, and its key without a password"
        )
        raise TlsFilesError(msg) from None
    if own != named:
        msg = f"the key {key_path} is not the one of the certificate {certificate_path}: name two that belong together"
        raise TlsFilesError(msg)
    if not not_before <= now <= not_after:
        msg = f"the certificate {certificate_path} is valid from {not_before} to {not_after} only: renew it"
        raise TlsFilesError(msg)
    return leaf, Secret(text)


def _store_of(bundle: bytes, path: Path) -> Store:
    try:
        return Store(x509.load_pem_x509_certificates(bundle))
    except UNREADABLE:
        msg = f"the client CA bundle {path} is no PEM of certificates: name the authorities of client certificates"
        raise TlsFilesError(msg) from None


_CA_POLICY: Final = ExtensionPolicy.permit_all().require_present(x509.BasicConstraints, Criticality.AGNOSTIC, None)
_LEAF_POLICY: Final = ExtensionPolicy.permit_all().require_present(
    x509.SubjectAlternativeName, Criticality.AGNOSTIC, None
)
"""The handshake judged the extensions; what is left to see is the path to a CA that is still in the bundle."""


def _verify_client(unverified_chain: bytes, clients: Store, now: float) -> tuple[float, float] | None:
    """Return from when to when (UTC seconds) the chain is valid, or None when it does not lead to the bundle."""
    try:
        leaf, *between = x509.load_pem_x509_certificates(unverified_chain)
        builder = PolicyBuilder().store(clients).time(datetime.fromtimestamp(now, UTC))
        verifier = builder.extension_policies(ca_policy=_CA_POLICY, ee_policy=_LEAF_POLICY).build_client_verifier()
        path = verifier.verify(leaf, between).chain
    except (*UNREADABLE, VerificationError):
        return None
    return (
        max(one.not_valid_before_utc.timestamp() for one in path),
        min(one.not_valid_after_utc.timestamp() for one in path),
    )
