"""Certificate authorities for tests, and the certificates, good and bad, they give."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

HOUR = dt.timedelta(hours=1)


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, as PEM."""

    certificate: bytes
    key: bytes
    serial: str


def _key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


@dataclass
class Authority:
    """A certificate authority."""

    name: str = "ca"
    key: ec.EllipticCurvePrivateKey = field(default_factory=_key)
    certificate: x509.Certificate = field(init=False)

    def __post_init__(self) -> None:
        now = dt.datetime.now(dt.UTC)
        public = self.key.public_key()
        self.certificate = (
            x509.CertificateBuilder()
            .subject_name(_name(self.name))
            .issuer_name(_name(self.name))
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - HOUR)
            .not_valid_after(now + 24 * HOUR)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .sign(self.key, hashes.SHA256())
        )

    def intermediate(self, name: str) -> Authority:
        """Return an authority that this one certifies."""
        below = Authority(name)
        builder = x509.CertificateBuilder(
            issuer_name=self.certificate.subject,
            subject_name=below.certificate.subject,
            public_key=below.key.public_key(),
            serial_number=x509.random_serial_number(),
            not_valid_before=below.certificate.not_valid_before_utc,
            not_valid_after=below.certificate.not_valid_after_utc,
            extensions=list(below.certificate.extensions),
        )
        below.certificate = builder.sign(self.key, hashes.SHA256())
        return below

    @property
    def pem(self) -> bytes:
        """Return the authority's own certificate."""
        return self.certificate.public_bytes(Encoding.PEM)

    def server(self, *, ends_in: float = 3600.0) -> Pair:
        """Issue a server certificate for 127.0.0.1 and localhost."""
        names = [x509.IPAddress(IPv4Address("127.0.0.1")), x509.DNSName("localhost")]
        return self._issue("server", names, ExtendedKeyUsageOID.SERVER_AUTH, ends_in)

    def client(
        self,
        *uris: str,
        common_name: str = "client",
        dns: tuple[str, ...] = (),
        ends_in: float = 3600.0,
        key: ec.EllipticCurvePrivateKey | None = None,
    ) -> Pair:
        """Issue a client certificate with these URIs as names."""
        names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(uri) for uri in uris]
        names += [x509.DNSName(name) for name in dns]
        return self._issue(common_name, names, ExtendedKeyUsageOID.CLIENT_AUTH, ends_in, key)

    def _issue(
        self,
        common_name: str,
        names: list[x509.GeneralName],
        usage: x509.ObjectIdentifier,
        ends_in: float,
        given: ec.EllipticCurvePrivateKey | None = None,
    ) -> Pair:
        now = dt.datetime.now(dt.UTC)
        key = given or _key()
        serial = x509.random_serial_number()
        builder = (
            x509.CertificateBuilder()
            .subject_name(_name(common_name))
            .issuer_name(self.certificate.subject)
            .public_key(key.public_key())
            .serial_number(serial)
            .not_valid_before(now - 2 * HOUR)
            .not_valid_after(now + dt.timedelta(seconds=ends_in))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False)
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        certificate = builder.sign(self.key, hashes.SHA256())
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return Pair(certificate.public_bytes(Encoding.PEM), pem, f"{serial:x}")


@dataclass(frozen=True)
class TlsFolder:
    """Where a broker's TLS files are; written whole, each by a rename."""

    folder: Path

    @property
    def paths(self) -> tuple[Path, Path, Path]:
        """Return certificate, key and client CA."""
        return self.folder / "tls.crt", self.folder / "tls.key", self.folder / "ca.crt"

    def write(self, pair: Pair | None = None, client_ca: bytes | None = None) -> None:
        """Replace what is given."""
        certificate, key, bundle = self.paths
        if pair is not None:
            _replace(certificate, pair.certificate)
            _replace(key, pair.key)
        if client_ca is not None:
            _replace(bundle, client_ca)


def _replace(path: Path, content: bytes) -> None:
    fresh = path.with_suffix(".new")
    fresh.write_bytes(content)
    fresh.rename(path)
