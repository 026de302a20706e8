"""mTLS over real sockets: who a certificate proves, and what a swap of the files changes while calls run."""

from __future__ import annotations

import asyncio
import socket
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from cryptography import x509

from aries.broker.v1 import token_pb2_grpc
from broker.adapters.tls_files import TlsFiles
from broker.core.identity import CallerId
from broker.rpc.listeners import ListenerConfig
from tests.rpc.authorities import Authority, Pair, TlsFolder
from tests.rpc.kit import ACCESS_TOKEN, WISH, Kit, bearer, refusal

WORKLOAD = "spiffe://corp.example/ns/trading/orders"


@dataclass
class Secured:
    """A kit that serves mTLS, and its files."""

    kit: Kit
    authority: Authority
    folder: TlsFolder
    tls: TlsFiles
    port: int

    @asynccontextmanager
    async def stub(self, client: Pair) -> AsyncIterator[token_pb2_grpc.TokenServiceAsyncStub]:
        """Yield a stub over a connection of its own with this client certificate."""
        credentials = grpc.ssl_channel_credentials(self.authority.pem, client.key, client.certificate)
        options = [("grpc.use_local_subchannel_pool", 1)]
        async with grpc.aio.secure_channel(f"127.0.0.1:{self.port}", credentials, options=options) as channel:
            yield token_pb2_grpc.TokenServiceStub(channel)


@pytest.fixture
async def secured(tmp_path: Path) -> AsyncIterator[Secured]:
    """Serve mTLS for the trust domain corp.example."""
    kit, authority, folder = Kit(), Authority(), TlsFolder(tmp_path)
    folder.write(authority.server(), authority.pem)
    tls = TlsFiles(*folder.paths, clock=kit.clock, telemetry=kit.telemetry)
    kit.tls, kit.trust_domain = tls, "corp.example"
    async with kit.serve(ListenerConfig("127.0.0.1:0", tls, client_certificates=True)) as (port,):
        yield Secured(kit, authority, folder, tls, port)


async def test_a_spiffe_id_is_the_caller(secured: Secured) -> None:
    """The caller is the SPIFFE ID of the certificate, whatever its common name says."""
    async with secured.stub(secured.authority.client(WORKLOAD, common_name="root")) as stub:
        reply = await stub.GetToken(WISH)
    assert ACCESS_TOKEN == reply.access_token
    assert CallerId("spiffe", "//corp.example/ns/trading/orders") == secured.kit.get_token.requests[0].caller


@pytest.mark.parametrize(
    ("uris", "dns", "cause"),
    [
        ((), (), "certificate_without_spiffe_id"),
        ((), ("corp.example",), "certificate_without_spiffe_id"),
        (("https://corp.example/ns/trading/orders",), (), "certificate_without_spiffe_id"),
        ((WORKLOAD, "spiffe://corp.example/other"), (), "certificate_without_spiffe_id"),
        (("spiffe://evil.example/ns/trading/orders",), (), "spiffe_id_foreign"),
        (("spiffe://corp.example.evil/ns/trading/orders",), (), "spiffe_id_foreign"),
        (("spiffe://corp.example",), (), "certificate_without_spiffe_id"),
        (("spiffe://corp.example/a/../b",), (), "spiffe_id_foreign"),
    ],
    ids=str,
)
async def test_no_workload_of_the_trust_domain(
    secured: Secured, uris: tuple[str, ...], dns: tuple[str, ...], cause: str
) -> None:
    """A certificate that is trusted but names no workload of our trust domain proves nobody."""
    async with secured.stub(secured.authority.client(*uris, common_name=WORKLOAD, dns=dns)) as stub:
        told = await refusal(stub.GetToken(WISH))
    assert (grpc.StatusCode.UNAUTHENTICATED, "CALLER_UNAUTHENTICATED") == (told.code, told.reason)
    [event] = secured.kit.sink.events
    assert (cause, "") == (event.detail, event.actor)


async def test_a_chain_with_an_intermediate_is_followed(secured: Secured) -> None:
    """A leaf of an intermediate CA is verified through the chain the client sends."""
    between = secured.authority.intermediate("between")
    leaf = between.client(WORKLOAD)
    chained = Pair(leaf.certificate + between.pem, leaf.key, leaf.serial)
    async with secured.stub(chained) as stub:
        assert ACCESS_TOKEN == (await stub.GetToken(WISH)).access_token


async def test_certificate_and_bearer_are_one_too_many(secured: Secured) -> None:
    """A certificate together with a bearer is refused, good as both may be."""
    key = secured.kit.add_key("orders")
    async with secured.stub(secured.authority.client(WORKLOAD)) as stub:
        told = await refusal(stub.GetToken(WISH, metadata=bearer(key)))
    assert "CALLER_UNAUTHENTICATED" == told.reason
    assert ["several_credentials"] == [event.detail for event in secured.kit.sink.events]


async def test_the_end_of_a_certificate_is_seen_on_a_connection_in_use(secured: Secured) -> None:
    """not_after is checked per call, not only in the handshake."""
    async with secured.stub(secured.authority.client(WORKLOAD, ends_in=600)) as stub:
        await stub.GetToken(WISH)
        secured.kit.clock.ahead = 601
        told = await refusal(stub.GetToken(WISH))
    assert "CALLER_UNAUTHENTICATED" == told.reason
    assert ["certificate_untrusted"] == [event.detail for event in secured.kit.sink.events]


async def test_a_ca_that_left_the_bundle_fails_from_the_swap_on(secured: Secured) -> None:
    """A connection made under the old bundle is refused its next call, and the CA's successors are served."""
    successor = Authority("next")
    async with secured.stub(secured.authority.client(WORKLOAD)) as old, secured.stub(successor.client(WORKLOAD)) as new:
        await old.GetToken(WISH)
        secured.folder.write(client_ca=successor.pem)
        assert secured.tls.check()
        told = await refusal(old.GetToken(WISH))
        assert ACCESS_TOKEN == (await new.GetToken(WISH)).access_token
    assert "CALLER_UNAUTHENTICATED" == told.reason


async def test_files_that_do_not_fit_change_nothing(secured: Secured) -> None:
    """A key of another certificate, an ended certificate, an empty bundle: the old set is served on."""
    first = secured.tls.current()
    other = secured.authority.server()
    ended = secured.authority.server(ends_in=-60)
    good = Pair(first.certificate_chain, first.private_key.reveal().encode(), "")
    for pair, bundle in [
        (Pair(good.certificate, other.key, ""), None),
        (ended, None),
        (Pair(b"junk", good.key, ""), None),
        (good, b""),
        (good, b"-----BEGIN CERTIFICATE-----\n"),
    ]:
        secured.folder.write(pair, bundle)
        assert not secured.tls.check()
        assert not secured.tls.check()
    assert first is secured.tls.current()
    assert 4 == secured.kit.telemetry.refused
    async with secured.stub(secured.authority.client(WORKLOAD)) as stub:
        assert ACCESS_TOKEN == (await stub.GetToken(WISH)).access_token


CLIENT = """
import asyncio, sys
import grpc
from aries.broker.v1 import token_pb2, token_pb2_grpc

async def call(port, credentials, number):
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.secure_channel(f"127.0.0.1:{port}", credentials, options=options) as channel:
        stub = token_pb2_grpc.TokenServiceStub(channel)
        for _ in range(2):
            await stub.GetToken(token_pb2.GetTokenRequest(grant="desk", scopes=["read"]), timeout=10)
    print(number, flush=True)

async def main(port, folder):
    read = lambda name: open(f"{folder}/{name}", "rb").read()
    credentials = grpc.ssl_channel_credentials(read("server-ca.crt"), read("client.key"), read("client.crt"))
    number = 0
    while True:
        await asyncio.gather(*(call(port, credentials, number + i) for i in range(4)))
        number += 4

asyncio.run(main(sys.argv[1], sys.argv[2]))
"""


async def test_a_swap_while_another_process_calls_fails_no_call(secured: Secured, tmp_path: Path) -> None:
    """New connections get the new certificate, running ones go on, and no call of a busy client fails."""
    successor = Authority("next")
    client = secured.authority.client(WORKLOAD)
    for name, content in {
        "server-ca.crt": secured.authority.pem + successor.pem,
        "client.crt": client.certificate,
        "client.key": client.key,
    }.items():
        (tmp_path / name).write_bytes(content)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CLIENT, str(secured.port), str(tmp_path), stdout=-1, stderr=-1
    )
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        for authority in (successor, secured.authority, successor):
            for _ in range(12):
                assert await asyncio.wait_for(process.stdout.readline(), 20), await process.stderr.read()
            pair = authority.server()
            secured.folder.write(pair, secured.authority.pem + successor.pem)
            secured.tls.check()
            assert pair.serial == secured.kit.telemetry.serials[-1]
        for _ in range(12):
            assert await asyncio.wait_for(process.stdout.readline(), 20), await process.stderr.read()
    finally:
        process.kill()
        await process.wait()
    served = {key: count for key, count in secured.kit.telemetry.requests.items() if key[1] not in {"OK", "CANCELLED"}}
    assert {} == served
    seen = await asyncio.to_thread(_certificate_of, secured.port)
    assert secured.kit.telemetry.serials[-1] == seen


def _certificate_of(port: int) -> str:
    """Return the serial of the certificate a new connection is shown."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    with socket.create_connection(("127.0.0.1", port)) as plain, context.wrap_socket(plain) as secure:
        der = secure.getpeercert(binary_form=True)
    assert der is not None
    return f"{x509.load_der_x509_certificate(der).serial_number:x}"
