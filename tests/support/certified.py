"""A broker process told of a certified authorization server by its issuer alone, and who calls it."""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import grpc
from google.protobuf.message import Message

from aries.broker.admin.v1 import (
    config_pb2,
    config_pb2_grpc,
    grants_pb2,
    grants_pb2_grpc,
    keys_pb2,
    keys_pb2_grpc,
)
from aries_broker import AsyncClient, BrokerError, Token
from aries_broker.errors import parse_error
from tests.support.broker import BrokerProcess, start_broker
from tests.support.oidc import OidcProvider

CALLER: Final = "desk"
EVERY_SCOPE: Final = ("read", "trade", "withdraw", "admin")
PHANTOM: Final = "phantom"
"""A wire scope that the provider `narrowing` is configured to have and the server has never heard of."""

PROVIDERS: Final[Mapping[str, str]] = {
    "narrowing": f"narrowing: additional, wire_scopes: [{PHANTOM}]",
    "whole": "",
    "basic": "token_endpoint_auth: client_secret_basic",
    "post": "token_endpoint_auth: client_secret_post",
    "keyed": "token_endpoint_auth: private_key_jwt",
}
"""The server in several guises."""

CLIENTS: Final[Mapping[str, tuple[str, str]]] = {
    "svc": ("narrowing", "svc"),
    "svc-read": ("narrowing", "svc-read"),
    "svc-whole": ("whole", "svc"),
    "svc-wrong": ("narrowing", "svc"),
    "svc-basic": ("basic", "svc"),
    "svc-post": ("post", "svc"),
    "svc-keyed": ("keyed", "svc-key"),
    "web": ("narrowing", "web"),
    "web-whole": ("whole", "web"),
    "web-wrong": ("narrowing", "web"),
}
"""Clients by name: the provider each is of, and its id there."""


def configuration(issuer: str) -> str:
    """Return the configuration file; of the server it knows the issuer, the rest is discovered."""
    lines = ["revision: 1", "providers:"]
    for name, more in PROVIDERS.items():
        known = f"name: {name}, preset: generic, issuer: {issuer!r}, insecure_loopback: true"
        lines.append(f"  - {{{known}{', ' + more if more else ''}}}")
    lines.append("clients:")
    lines += [
        f"  - {{name: {name}, provider: {provider}, client_id: {client_id}, secret_env: {_variable(name)}}}"
        for name, (provider, client_id) in CLIENTS.items()
    ]
    scopes = ", ".join((*EVERY_SCOPE, PHANTOM))
    lines += ["policies:", f'  - {{name: all, callers: ["key:{CALLER}"], grants: ["*"], scopes: [{scopes}]}}', ""]
    return "\n".join(lines)


def secrets(private_key: str) -> dict[str, str]:
    """Return the variables that hold the clients' secrets; those of `…-wrong` are not the server's."""
    return {
        _variable(name): private_key
        if name == "svc-keyed"
        else "not-the-secret"
        if name.endswith("-wrong")
        else f"{client_id}-secret"
        for name, (_, client_id) in CLIENTS.items()
    }


def _variable(client: str) -> str:
    return f"BROKER_SECRET_{client.replace('-', '_').upper()}"


@dataclass
class CertifiedBroker:
    """A running broker, an admin and a service that policy allows every grant."""

    process: BrokerProcess
    config: Path
    env: Mapping[str, str]
    admin_key: str = ""
    service_key: str = ""
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    # --- the service -------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def service(self) -> AsyncIterator[AsyncClient]:
        """Connect as the service."""
        async with AsyncClient(self.process.address, api_key=self.service_key, deadline=30) as client:
            yield client

    async def get(self, grant: str, *scopes: str, min_lifetime: float | None = None) -> Token:
        """Get a token."""
        async with self.service() as client:
            return await client.get_token(scopes, grant, min_lifetime)

    async def refused(self, grant: str, *scopes: str) -> BrokerError:
        """Return the error that a wish for a token is answered with."""
        try:
            await self.get(grant, *scopes)
        except BrokerError as error:
            return error
        message = "the call was served"
        raise AssertionError(message)

    # --- the admin ---------------------------------------------------------------------------------------------------

    async def call(self, stub: Callable[[grpc.aio.Channel], Any], method: str, request: Message) -> Any:  # noqa: ANN401 - the response
        """Call an RPC as the admin; raises the client library's errors."""
        async with grpc.aio.insecure_channel(self.process.address) as channel:
            metadata = (("authorization", f"Bearer {self.admin_key}"),)
            try:
                return await getattr(stub(channel), method)(request, timeout=30, metadata=metadata)
            except grpc.aio.AioRpcError as error:
                raise parse_error(error) from None

    async def command(self, *arguments: str, stdin: str = "") -> tuple[int, str, str]:
        """Run an `aries-broker` command as the admin; return its exit code and what it printed."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("BROKER_")}
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "broker.cli", *arguments),
            env={**inherited, "BROKER_ADDRESS": self.process.address, "BROKER_API_KEY": self.admin_key},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate(stdin.encode())
        return process.returncode or 0, out.decode(), err.decode()

    async def new_grant(self, client: str, scopes: Sequence[str], refresh_token: str = "") -> str:
        """Return the name of a new grant of a client; with a refresh token, it is imported into it."""
        name = f"{client}-{next(self._numbers)}"
        kind = "refresh_token" if client.startswith("web") else "client_credentials"
        grant = config_pb2.Grant(name=name, client=client, type=kind, scopes=scopes)
        put = config_pb2.PutObjectRequest(object=config_pb2.Object(grant=grant))
        await self.call(config_pb2_grpc.ConfigServiceStub, "PutObject", put)
        if refresh_token:
            assert (await self.import_token(name, refresh_token)).rotated
        return name

    async def import_token(self, grant: str, refresh_token: str) -> grants_pb2.ImportRefreshTokenResponse:
        """Import a refresh token into a grant."""
        request = grants_pb2.ImportRefreshTokenRequest(grant=grant, refresh_token=refresh_token)
        response: grants_pb2.ImportRefreshTokenResponse = await self.call(
            grants_pb2_grpc.GrantsServiceStub, "ImportRefreshToken", request
        )
        return response

    async def status(self, grant: str) -> grants_pb2.GetGrantResponse:
        """Return a grant and its history."""
        response: grants_pb2.GetGrantResponse = await self.call(
            grants_pb2_grpc.GrantsServiceStub, "GetGrant", grants_pb2.GetGrantRequest(name=grant)
        )
        return response

    async def health(self, grant: str) -> tuple[str, str, bool]:
        """Return a grant's phase and health, and whether it has a refresh token."""
        grant_status = (await self.status(grant)).grant
        return grant_status.phase, grant_status.health, grant_status.consented

    # --- its life ----------------------------------------------------------------------------------------------------

    async def restart(self) -> None:
        """End it, and start it anew on the same data."""
        await self.stop()
        self.process = await start_broker(self.process.data_dir, config=self.config, env=self.env)

    async def stop(self) -> None:
        """End it; it must end by itself, with exit code 0."""
        code = await self.process.stop()
        assert code == 0, bytes(self.process.output).decode(errors="replace")


@asynccontextmanager
async def certified_broker(
    folder: Path, server: OidcProvider, env: Mapping[str, str], *, joins: CertifiedBroker | None = None
) -> AsyncIterator[CertifiedBroker]:
    """Run a broker for the length of the block; that the provider `narrowing` narrows is proved.

    Args:
        folder: for its data and its configuration.
        server: the provider.
        env: secrets and further settings.
        joins: a broker on the same database, whose callers are this one's.
    """
    config = _write_configuration(folder, server.issuer)
    process = await start_broker(folder / "data", config=config, env=env)
    started = CertifiedBroker(process, config, env)
    try:
        if joins is not None:
            started.admin_key, started.service_key = joins.admin_key, joins.service_key
        else:
            bootstrap = env.get("BROKER_BOOTSTRAP_ADMIN_KEY_FILE")
            started.admin_key = _read_key(Path(bootstrap)) if bootstrap else process.admin_key
            request = keys_pb2.CreateApiKeyRequest(name=CALLER)
            created = await started.call(keys_pb2_grpc.KeysServiceStub, "CreateApiKey", request)
            started.service_key = created.api_key
            grant = await started.new_grant("web", EVERY_SCOPE[:2], server.refresh_token(EVERY_SCOPE[:2]))
            proof = config_pb2.ProveNarrowingRequest(grant=grant)
            await started.call(config_pb2_grpc.ConfigServiceStub, "ProveNarrowing", proof)
        yield started
    finally:
        await started.stop()


def _write_configuration(folder: Path, issuer: str) -> Path:
    folder.mkdir(exist_ok=True)
    config = folder / "broker.yaml"
    config.write_text(configuration(issuer))
    return config


def _read_key(file: Path) -> str:
    return file.read_text().strip()
