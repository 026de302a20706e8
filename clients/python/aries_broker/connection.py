"""Where the broker is, how it is reached and who is asking."""

from __future__ import annotations

import ipaddress
import os
import ssl
import stat
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

import grpc

from aries_broker.errors import ConfigurationError

DEFAULT_ADDRESS: Final = "127.0.0.1:50051"
MAX_BEARER_FILE: Final = 16 * 1024
"""Longest file with an API key or a JWT, in bytes."""
MAX_TLS_FILE: Final = 4 * 1024 * 1024
"""Longest PEM file, in bytes; the authorities of a whole system have a quarter of a megabyte."""

# A proxy of the environment would see what is meant for the broker alone.
_OPTIONS: Final = (("grpc.enable_http_proxy", 0),)


@dataclass(frozen=True, slots=True)
class Connection:
    """How to reach the broker; made by `resolve`, which refuses what is contradictory or unsafe.

    Attributes:
        address: host:port.
        tls: whether the connection is encrypted.
        api_key: an API key, sent as a bearer.
        token_file: a file holding a JWT, read anew for every call since such tokens are short-lived.
        ca: PEM file of the authorities the broker's certificate must come from; None: the system's.
        cert: PEM file of our certificate chain.
        cert_key: PEM file of its key.
    """

    address: str
    tls: bool
    api_key: str | None = field(default=None, repr=False)
    token_file: Path | None = None
    ca: Path | None = None
    cert: Path | None = None
    cert_key: Path | None = None

    @classmethod
    def resolve(  # noqa: PLR0913 - each is a setting of its own
        cls,
        address: str | None = None,
        *,
        api_key: str | None = None,
        token_file: str | os.PathLike[str] | None = None,
        ca: str | os.PathLike[str] | None = None,
        cert: str | os.PathLike[str] | None = None,
        cert_key: str | os.PathLike[str] | None = None,
        plaintext: bool | None = None,
        environ: Mapping[str, str] = os.environ,
    ) -> Self:
        """Complete the arguments from BROKER_* variables; an argument for a credential hides every variable for one.

        Plaintext is spoken to loopback when no CA and no certificate is given, and elsewhere only with
        `plaintext=True` and without a bearer. `plaintext=False` speaks TLS to loopback too.

        Raises:
            ConfigurationError: what is given contradicts itself or would send a credential in the clear.
        """
        address = address or environ.get("BROKER_ADDRESS") or DEFAULT_ADDRESS
        if not (api_key or token_file or cert):
            api_key, token_file = environ.get("BROKER_API_KEY"), environ.get("BROKER_TOKEN_FILE")
            cert, cert_key = environ.get("BROKER_CERT"), cert_key or environ.get("BROKER_CERT_KEY")
        ca = ca or environ.get("BROKER_CA")
        if plaintext is None:
            plaintext = is_loopback(address) and not (ca or cert)
        connection = cls(
            address, not plaintext, api_key or None, _path(token_file), _path(ca), _path(cert), _path(cert_key)
        )
        connection._check()
        return connection

    def _check(self) -> None:
        if self.api_key and self.token_file:
            message = "an API key and a token file are given; one credential is wanted"
            raise ConfigurationError(message)
        if (self.cert is None) != (self.cert_key is None):
            message = "a certificate and its key belong together"
            raise ConfigurationError(message)
        bearer = self.api_key or self.token_file
        if self.cert and bearer:
            message = "a certificate and a bearer are given; the broker takes one credential"
            raise ConfigurationError(message)
        if not self.tls and (self.ca or self.cert):
            message = "plaintext was asked for, and TLS files are given"
            raise ConfigurationError(message)
        if not self.tls and bearer and not is_loopback(self.address):
            message = f"a bearer is not sent in plaintext to {self.address}: that is not loopback"
            raise ConfigurationError(message)

    def open_channel(self, credentials: grpc.ChannelCredentials | None = None) -> grpc.Channel:
        """Open a channel for blocking calls; it connects at the first one.

        Args:
            credentials: what the TLS files hold, when they have been read.

        Raises:
            ConfigurationError: a TLS file cannot be read.
        """
        credentials = credentials or self.load_credentials()
        if credentials is None:
            return grpc.insecure_channel(self.address, options=_OPTIONS)
        return grpc.secure_channel(self.address, credentials, options=_OPTIONS)

    def open_aio_channel(self, credentials: grpc.ChannelCredentials | None = None) -> grpc.aio.Channel:
        """Open a channel for asyncio; it connects at the first call.

        Args:
            credentials: what the TLS files hold, when they have been read.

        Raises:
            ConfigurationError: a TLS file cannot be read.
        """
        credentials = credentials or self.load_credentials()
        if credentials is None:
            return grpc.aio.insecure_channel(self.address, options=_OPTIONS)
        return grpc.aio.secure_channel(self.address, credentials, options=_OPTIONS)

    def load_credentials(self) -> grpc.ChannelCredentials | None:
        """Read the TLS files; None where TLS is not spoken.

        Raises:
            ConfigurationError: one cannot be read, or does not hold what it should; gRPC tells no sooner than a call.
        """
        if not self.tls:
            return None
        self._check_files()
        return grpc.ssl_channel_credentials(
            root_certificates=read_file(self.ca, MAX_TLS_FILE) if self.ca else None,
            private_key=read_file(self.cert_key, MAX_TLS_FILE) if self.cert_key else None,
            certificate_chain=read_file(self.cert, MAX_TLS_FILE) if self.cert else None,
        )

    def _check_files(self) -> None:
        """Make sure that the files hold what they should and the key is the certificate's.

        Whether the certificate is still valid, and its algorithms strong enough, is for the broker to say.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        with suppress(ssl.SSLError):  # a library without levels
            context.set_ciphers("DEFAULT:@SECLEVEL=0")
        if self.ca:
            try:
                context.load_verify_locations(cadata=read_file(self.ca, MAX_TLS_FILE).decode("ascii", "ignore"))
            except (ssl.SSLError, ValueError):
                message = f"{self.ca} holds no certificate: name the PEM file of the broker's authorities"
                raise ConfigurationError(message) from None
        if self.cert and self.cert_key:
            for path in (self.cert, self.cert_key):
                read_file(path, MAX_TLS_FILE)
            try:
                context.load_cert_chain(self.cert, self.cert_key, password=lambda: "")  # asks nobody
            except (OSError, ValueError):
                message = (
                    f"{self.cert} and {self.cert_key} are no certificate and its key: name the PEM files of both, "
                    "the key's without a password"
                )
                raise ConfigurationError(message) from None

    def build_metadata(self) -> tuple[tuple[str, str], ...]:
        """Return what proves the caller in one call.

        Raises:
            ConfigurationError: the token file cannot be read, or what should be a bearer is none.
        """
        bearer = self.api_key
        if self.token_file:
            bearer = read_file(self.token_file, MAX_BEARER_FILE).decode("ascii", "replace")
        if bearer is None:
            return ()
        bearer = bearer.strip()
        if not bearer or not bearer.isascii() or not bearer.isprintable() or " " in bearer:
            message = f"{self.token_file or 'the API key'} does not hold a bearer: one line of printable ASCII"
            raise ConfigurationError(message)
        return (("authorization", f"Bearer {bearer}"),)


def is_loopback(address: str) -> bool:
    """Tell whether host:port is this machine; a name other than localhost is not, whatever it resolves to."""
    host = address.rpartition(":")[0].strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _path(value: str | os.PathLike[str] | None) -> Path | None:
    return Path(value) if value else None


def read_file(path: Path, limit: int) -> bytes:
    """Read a plain file, or what a link leads to; a device or a pipe could keep us reading for ever.

    Raises:
        ConfigurationError: it cannot be read, or has more bytes than `limit`.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            message = f"cannot read {path}: it is not a plain file"
            raise ConfigurationError(message)
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        message = f"cannot read {path}: {error.strerror}"
        raise ConfigurationError(message) from error
    if len(data) > limit:
        message = f"cannot read {path}: it is longer than {limit} bytes; name a file that holds nothing else"
        raise ConfigurationError(message)
    return data
