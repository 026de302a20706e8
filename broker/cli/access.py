"""How commands reach a broker: the address, the credential, and calls whose failures are errors of the client."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Protocol, TypeVar

import grpc
import typer
from google.protobuf.message import Message

from aries_broker import ConfigurationError, Connection
from aries_broker.connection import DEFAULT_ADDRESS, is_loopback
from aries_broker.errors import parse_error

DEADLINE: Final = 30.0
MAX_REQUEST: Final = 64 * 1024
"""Longest request a broker takes, in bytes."""
ADMIN_KEY: Final = "admin.key"
"""The file in the data folder that a first start on this machine leaves the admin's key in."""

Address = Annotated[str | None, typer.Option(envvar="BROKER_ADDRESS", help="host:port of the broker.")]
ApiKeyFile = Annotated[
    Path | None, typer.Option(help="File with an API key; else BROKER_API_KEY, BROKER_TOKEN_FILE or BROKER_CERT.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]

Request_contra = TypeVar("Request_contra", bound=Message, contravariant=True)
Response_co = TypeVar("Response_co", bound=Message, covariant=True)


class Method(Protocol[Request_contra, Response_co]):
    """One RPC of a stub."""

    def __call__(
        self, request: Request_contra, timeout: float | None = ..., metadata: tuple[tuple[str, str], ...] | None = ...
    ) -> Response_co:
        """Call it."""


@dataclass(frozen=True, slots=True)
class Broker:
    """An open channel to a broker, and who is calling."""

    channel: grpc.Channel
    connection: Connection

    def call(self, method: Method[Request_contra, Response_co], request: Request_contra) -> Response_co:
        """Call an RPC.

        Raises:
            BrokerError: it failed.
            ConfigurationError: the credential cannot be read.
        """
        try:
            return method(request, timeout=DEADLINE, metadata=self.connection.build_metadata())
        except grpc.RpcError as error:
            raise parse_error(error) from None


@dataclass(frozen=True, slots=True)
class Access:
    """What an operator said about reaching the broker."""

    address: str | None = None
    api_key_file: Path | None = None

    @contextmanager
    def open(self) -> Iterator[Broker]:
        """Open the broker for a block.

        Raises:
            ConfigurationError: there is no credential, or it cannot be read or used.
        """
        connection = self.resolve()
        with connection.open_channel() as channel:
            yield Broker(channel, connection)

    def resolve(self) -> Connection:
        """Find the credential: the file named, the environment's, or what a first start left on this machine."""
        file = self.api_key_file
        if file is None and not any(os.environ.get(f"BROKER_{name}") for name in ("API_KEY", "TOKEN_FILE", "CERT")):
            file = find_admin_key(self.address or os.environ.get("BROKER_ADDRESS") or DEFAULT_ADDRESS)
        return Connection.resolve(self.address, token_file=file)


def find_admin_key(address: str) -> Path:
    """Return the admin key that a first start left in the data folder; it is shown to this machine's broker alone.

    Raises:
        ConfigurationError: there is none, or the broker is elsewhere.
    """
    file = Path(os.environ.get("BROKER_DATA_DIR") or "broker-data") / ADMIN_KEY
    if not is_loopback(address):
        message = f"no credential for {address}: give --api-key-file, or set BROKER_API_KEY or BROKER_TOKEN_FILE"
        raise ConfigurationError(message)
    if not file.is_file():
        message = f"no credential: give --api-key-file, set BROKER_API_KEY or BROKER_TOKEN_FILE; {file} is not there"
        raise ConfigurationError(message)
    return file
