"""The servers themselves: TLS without client certificates, health, reflection, and the end."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from pathlib import Path
from typing import Any, cast

import grpc
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from aries.broker.v1 import token_pb2_grpc
from broker.adapters.tls_files import TlsFiles
from broker.rpc.listeners import AGE_GRACE_MS, MAX_AGE_MS, OPTIONS, ListenerConfig
from broker.rpc.methods import KEYS_SERVICE, TOKEN_SERVICE
from broker.rpc.server import BrokerServer
from tests.rpc.authorities import Authority, Pair, TlsFolder
from tests.rpc.kit import ACCESS_TOKEN, WISH, Kit, bearer, refusal, token_stub
from tests.support.waiting import ENOUGH

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


async def test_tls_without_client_certificates(tmp_path: Path) -> None:
    """The listener for bearers shows its certificate and asks for none."""
    kit, authority, folder = Kit(), Authority(), TlsFolder(tmp_path)
    folder.write(authority.server(), authority.pem)
    tls = TlsFiles(*folder.paths, clock=kit.clock, telemetry=kit.telemetry)
    key = kit.add_key("orders")
    async with kit.serve(ListenerConfig("127.0.0.1:0", tls)) as (port,):
        credentials = grpc.ssl_channel_credentials(authority.pem)
        async with grpc.aio.secure_channel(f"127.0.0.1:{port}", credentials) as channel:
            reply = await token_pb2_grpc.TokenServiceStub(channel).GetToken(WISH, metadata=bearer(key))
    assert ACCESS_TOKEN == reply.access_token


async def test_tls_files_with_words_around_them(tmp_path: Path) -> None:
    """What a file says besides, in whatever encoding, does not keep its certificate and key from being served."""
    kit, authority, folder = Kit(), Authority(), TlsFolder(tmp_path)
    pair, words = authority.server(), "friendlyName: Börse\n".encode("latin-1")
    folder.write(Pair(words + pair.certificate, words + _as_openssl_writes(pair.key), ""), words + authority.pem)
    tls = TlsFiles(*folder.paths, clock=kit.clock, telemetry=kit.telemetry)
    kit.tls, kit.trust_domain = tls, "corp.example"
    client = authority.client("spiffe://corp.example/a")
    async with kit.serve(ListenerConfig("127.0.0.1:0", tls, client_certificates=True)) as (port,):
        credentials = grpc.ssl_channel_credentials(authority.pem, client.key, client.certificate)
        async with grpc.aio.secure_channel(f"127.0.0.1:{port}", credentials) as channel:
            reply = await token_pb2_grpc.TokenServiceStub(channel).GetToken(WISH)
    assert ACCESS_TOKEN == reply.access_token


def _as_openssl_writes(key: bytes) -> bytes:
    """Return a key in the form of its kind's own."""
    return load_pem_private_key(key, None).private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())


async def test_a_client_without_a_certificate_gets_no_connection(tmp_path: Path) -> None:
    """The mTLS listener ends the handshake of who shows no certificate."""
    kit, authority, folder = Kit(), Authority(), TlsFolder(tmp_path)
    folder.write(authority.server(), authority.pem)
    tls = TlsFiles(*folder.paths, clock=kit.clock, telemetry=kit.telemetry)
    async with kit.serve(ListenerConfig("127.0.0.1:0", tls, client_certificates=True)) as (port,):
        credentials = grpc.ssl_channel_credentials(authority.pem)
        async with grpc.aio.secure_channel(f"127.0.0.1:{port}", credentials) as channel:
            told = await refusal(token_pb2_grpc.TokenServiceStub(channel).GetToken(WISH))
    assert grpc.StatusCode.UNAVAILABLE == told.code


async def test_health_follows_the_state() -> None:
    """Each service and the whole are as the injected state says, without a restart."""
    kit = Kit()
    async with kit.serve() as (port,), grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)  # the stubs package leaves its methods out
        seen = []
        watch = stub.Watch(health_pb2.HealthCheckRequest(service=TOKEN_SERVICE))
        async for reply in watch:
            seen.append(reply.status)
            kit.serving = len(seen) == 2
            if len(seen) == 3:
                break
        whole = await stub.Check(health_pb2.HealthCheckRequest())
        unknown = await refusal(stub.Check(health_pb2.HealthCheckRequest(service="nobody")))
    assert [SERVING, NOT_SERVING, SERVING] == seen
    assert SERVING == whole.status
    assert grpc.StatusCode.NOT_FOUND == unknown.code


@pytest.mark.parametrize("asked", [False, True])
async def test_reflection_only_where_asked_for(asked: bool) -> None:
    """The schema is not published unless an operator says so, and then only what the listener serves."""
    kit = Kit(reflection=asked)
    async with kit.serve() as (port,), grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub: Any = reflection_pb2_grpc.ServerReflectionStub(cast("Any", channel))
        call = stub.ServerReflectionInfo(
            iter([reflection_pb2.ServerReflectionRequest(file_containing_symbol=TOKEN_SERVICE)])
        )
        if not asked:
            assert grpc.StatusCode.UNIMPLEMENTED == await call.code()
            return
        reply = await call.read()
        [file] = [
            FileDescriptorProto.FromString(raw)
            for raw in reply.file_descriptor_response.file_descriptor_proto
            if b"TokenService" in raw
        ]
    assert "aries.broker.v1" == file.package


async def test_the_end_lets_running_calls_end() -> None:
    """stop() takes no new call, and the one that runs gets its answer."""
    kit = Kit()
    key = kit.add_key("orders")
    started, go_on = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        started.set()
        await go_on.wait()

    kit.get_token.before = hold
    server = kit.server()
    [port] = await server.start()
    async with token_stub(port) as stub, token_stub(port) as late:
        running = asyncio.ensure_future(stub.GetToken(WISH, metadata=bearer(key)))
        await started.wait()
        stopping = asyncio.create_task(server.stop(10))
        while (await refusal(late.GetToken(WISH, timeout=1))).code is not grpc.StatusCode.UNAVAILABLE:
            pass
        go_on.set()
        assert ACCESS_TOKEN == (await running).access_token
        await stopping
    assert 1 == len(kit.get_token.requests)


async def test_a_watch_of_health_does_not_hold_the_end() -> None:
    """Whoever watches is told NOT_SERVING, and the server ends without waiting for it to leave."""
    server = Kit().server()
    [port] = await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        watch = stub.Watch(health_pb2.HealthCheckRequest(service=TOKEN_SERVICE))
        assert SERVING == (await watch.read()).status
        await asyncio.wait_for(server.stop(60), ENOUGH)
        assert NOT_SERVING == (await watch.read()).status


async def test_an_address_in_use_is_told() -> None:
    """A second server on the port is refused by name, and nothing of it is served."""
    kit = Kit()
    async with kit.serve() as (port,):
        with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1:{port}"):
            await kit.server(ListenerConfig(f"127.0.0.1:{port}")).start()


@pytest.mark.parametrize(
    ("service", "problem"), [("nobody.Service", "not in the table"), (KEYS_SERVICE, "no method create_api_key")]
)
def test_a_forgotten_method_is_a_bug_at_start(service: str, problem: str) -> None:
    """A servicer without one of its methods, or for no service at all, is refused before anything is bound."""
    with pytest.raises(ValueError, match=problem):
        BrokerServer(Kit().edge(), {service: object()}, (), is_serving=bool)


async def _until_hung_up(port: int, first: bytes, tls: ssl.SSLContext | None) -> bool:
    """Connect, send `first`, and tell whether the server hangs up on what then says nothing."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls)
    writer.write(first)
    with contextlib.closing(writer), contextlib.suppress(ConnectionError):
        while await asyncio.wait_for(reader.read(4096), ENOUGH):
            pass
    return True


@pytest.mark.parametrize(
    ("option", "first"),
    [
        ("grpc.server_handshake_timeout_ms", b""),
        ("grpc.server_handshake_timeout_ms", bytes.fromhex("16030100ff")),  # the head of a ClientHello
        ("grpc.max_connection_idle_ms", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes.fromhex("000000040000000000")),
    ],
    ids=["silent", "half-a-hello", "idle"],
)
@pytest.mark.parametrize("client_certificates", [False, True], ids=["tls", "mtls"])
async def test_connections_that_say_nothing_are_hung_up_on(
    option: str, first: bytes, client_certificates: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the handshake is done as after it: descriptors are for those who call."""
    assert 60_000 >= dict(OPTIONS)[option]
    quicker = tuple((name, 500 if name == option else value) for name, value in OPTIONS)
    monkeypatch.setattr("broker.rpc.server.OPTIONS", quicker)
    kit, authority, folder = Kit(), Authority(), TlsFolder(tmp_path)
    folder.write(authority.server(), authority.pem)
    kit.tls, kit.trust_domain = TlsFiles(*folder.paths, clock=kit.clock, telemetry=kit.telemetry), "corp.example"
    context = None
    if option == "grpc.max_connection_idle_ms":
        client = authority.client("spiffe://corp.example/a")
        (tmp_path / "client.pem").write_bytes(client.certificate + client.key)
        context = ssl.create_default_context(cadata=authority.pem.decode())
        context.check_hostname = False
        context.set_alpn_protocols(["h2"])
        context.load_cert_chain(tmp_path / "client.pem")
    async with kit.serve(ListenerConfig("127.0.0.1:0", kit.tls, client_certificates=client_certificates)) as (port,):
        assert await _until_hung_up(port, first, context)


def test_no_connection_outlives_ten_minutes() -> None:
    """Age, gRPC's tenth of jitter and the grace together stay under it."""
    assert 600_000 >= 1.1 * MAX_AGE_MS + AGE_GRACE_MS
    assert len(OPTIONS) == len(dict(OPTIONS))
