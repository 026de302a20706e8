"""The client for asyncio."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import grpc

from aries.broker.v1 import token_pb2_grpc
from aries_broker.client import DEFAULT_DEADLINE
from aries_broker.connection import Connection
from aries_broker.errors import parse_error
from aries_broker.renewal import Channels
from aries_broker.token import Token, build_request, parse_response


@dataclass(frozen=True, slots=True)
class _Opened:
    channel: grpc.aio.Channel
    tokens: token_pb2_grpc.TokenServiceAsyncStub


class AsyncClient:
    """Asks the broker for access tokens; belongs to one event loop, closed by `close` or `async with`."""

    def __init__(  # noqa: PLR0913 - each is a setting of its own
        self,
        address: str | None = None,
        *,
        api_key: str | None = None,
        token_file: str | os.PathLike[str] | None = None,
        ca: str | os.PathLike[str] | None = None,
        cert: str | os.PathLike[str] | None = None,
        cert_key: str | os.PathLike[str] | None = None,
        plaintext: bool | None = None,
        deadline: float = DEFAULT_DEADLINE,
    ) -> None:
        """Set up the client; it connects at the first call.

        Renewed TLS files need no restart: calls a second later use them. As long as they cannot be read or do not fit
        together, what was read before stays in use.

        Args:
            address: host:port of the broker, else BROKER_ADDRESS, else 127.0.0.1:50051.
            api_key: an API key, else BROKER_API_KEY.
            token_file: a file with a JWT, read anew for every call, else BROKER_TOKEN_FILE.
            ca: PEM file of the authorities of the broker's certificate, else BROKER_CA, else the system's.
            cert: PEM file of our certificate chain, else BROKER_CERT.
            cert_key: PEM file of its key, else BROKER_CERT_KEY.
            plaintext: speak without TLS; by itself to loopback only, and never with a bearer to anywhere else.
            deadline: seconds a call may take.

        Raises:
            ConfigurationError: these contradict each other, are unsafe, or a TLS file cannot be read.
        """
        self._connection = Connection.resolve(
            address,
            api_key=api_key,
            token_file=token_file,
            ca=ca,
            cert=cert,
            cert_key=cert_key,
            plaintext=plaintext,
        )
        self._deadline = deadline
        self._channels = Channels(self._connection, self._open)

    async def get_token(
        self,
        scopes: Iterable[str],
        grant: str | None = None,
        min_lifetime: float | None = None,
        rejected_fingerprint: str | None = None,
    ) -> Token:
        """Return an access token that carries no more than `scopes`.

        Args:
            scopes: product scopes (read, trade, withdraw, admin) or scopes of the provider.
            grant: the grant's name; may be left out when policy leaves this caller exactly one.
            min_lifetime: the least seconds the token must still live; absent: the broker's choice.
            rejected_fingerprint: of the token that the API refused with 401, to get another one.

        Raises:
            BrokerError: the broker refused, or could not be reached; its subclass and `reason` say why.
            ConfigurationError: the token file cannot be read.
        """
        request = build_request(scopes, grant, min_lifetime, rejected_fingerprint)
        metadata = self._connection.build_metadata()
        held = self._channels.take()
        try:
            response = await held.channel.tokens.GetToken(request, timeout=self._deadline, metadata=metadata)
        except grpc.RpcError as error:
            raise parse_error(error) from None
        finally:
            for ended in self._channels.give_back(held):
                await ended.channel.close()
        return parse_response(response)

    async def close(self) -> None:
        """Close the connection."""
        for ended in self._channels.close():
            await ended.channel.close()

    def _open(self, credentials: grpc.ChannelCredentials | None) -> _Opened:
        channel = self._connection.open_aio_channel(credentials)
        return _Opened(channel, token_pb2_grpc.TokenServiceStub(channel))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()
