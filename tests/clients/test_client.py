"""The clients over a real socket: the request sent, the token received, the credential presented."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from pathlib import Path

import grpc
import pytest
import trustme
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

import aries_broker
from aries.broker.v1 import token_pb2
from aries_broker import AsyncClient, Client, ConfigurationError, Narrowing, Token
from tests.clients.conftest import ScriptedTokenService, Start

FULL_RESPONSE = token_pb2.GetTokenResponse(
    access_token="at-canary",
    token_type="Bearer",
    scopes=["read"],
    expire_time=Timestamp(seconds=1_700_000_000),
    lifetime=Duration(seconds=3599, nanos=500_000_000),
    renew_after=Duration(seconds=2880),
    narrowing=token_pb2.NARROWING_NARROWED,
    fingerprint="fp1",
    grant="desk",
    lifetime_assumed=True,
    provider_scopes=["account:information"],
    api_origins=["https://api.example"],
    excess_scopes=["order:information"],
)
FULL_TOKEN = Token(
    access_token="at-canary",
    lifetime=3599.5,
    renew_after=2880.0,
    expire_time=datetime.fromtimestamp(1_700_000_000, UTC),
    scopes=("read",),
    provider_scopes=("account:information",),
    excess_scopes=("order:information",),
    narrowing=Narrowing.NARROWED,
    fingerprint="fp1",
    grant="desk",
    token_type="Bearer",
    lifetime_assumed=True,
    api_origins=("https://api.example",),
)


def test_everything_public_is_named() -> None:
    """`__all__` holds what the package exports, sorted, and every name in it is there."""
    public = {
        name
        for name, value in vars(aries_broker).items()
        if not name.startswith("_") and getattr(value, "__module__", "").startswith("aries_broker")
    }

    assert sorted(public) == aries_broker.__all__


def test_the_reply_becomes_a_token(service: ScriptedTokenService, address: str) -> None:
    """Every field of the reply reaches the token."""
    service.response = FULL_RESPONSE

    with Client(address) as broker:
        token = broker.get_token(["read"])

    assert FULL_TOKEN == token


async def test_the_asyncio_client_gives_the_same(service: ScriptedTokenService, address: str) -> None:
    """Both clients send the same request and return the same token."""
    service.response = FULL_RESPONSE

    with Client(address, api_key="abk_1_x") as broker:
        broker.get_token(["read", "trade"], "desk", 90.5)
    async with AsyncClient(address, api_key="abk_1_x") as asyncio_broker:
        token = await asyncio_broker.get_token(["read", "trade"], "desk", 90.5)

    assert FULL_TOKEN == token
    assert service.requests[0] == service.requests[1]
    assert ["Bearer abk_1_x"] * 2 == [metadata["authorization"] for metadata in service.metadata]


def test_the_request_carries_what_was_asked(service: ScriptedTokenService, address: str) -> None:
    """Scopes, grant and the least lifetime stand in the request."""
    with Client(address) as broker:
        broker.get_token(("trade", "read"), grant="desk", min_lifetime=90.5)

    expected = token_pb2.GetTokenRequest(
        grant="desk", scopes=["trade", "read"], min_lifetime=Duration(seconds=90, nanos=500_000_000)
    )
    assert [expected] == service.requests


def test_what_is_left_out_stays_absent(service: ScriptedTokenService, address: str) -> None:
    """No grant and no least lifetime: the broker chooses."""
    with Client(address) as broker:
        broker.get_token(["read"])

    assert [token_pb2.GetTokenRequest(scopes=["read"])] == service.requests


def test_a_call_has_a_deadline(service: ScriptedTokenService, address: str) -> None:
    """Ten seconds by itself, otherwise as set."""
    with Client(address) as broker:
        broker.get_token(["read"])
    with Client(address, deadline=3) as broker:
        broker.get_token(["read"])

    usual, chosen = service.deadlines
    assert 8 < usual < 11
    assert 1 < chosen < 4


def test_a_narrowing_not_known_yet_is_unspecified(service: ScriptedTokenService, address: str) -> None:
    """A newer broker may say more than this client knows; the token is still of use."""
    service.response = token_pb2.GetTokenResponse(access_token="at")
    service.response.MergeFromString(b"\x38\x63")  # narrowing = 99

    with Client(address) as broker:
        token = broker.get_token(["read"])

    assert Narrowing.UNSPECIFIED == token.narrowing


def test_printing_a_token_does_not_reveal_it() -> None:
    """Neither repr nor str of a token holds the access token."""
    assert "at-canary" not in f"{FULL_TOKEN!r} {FULL_TOKEN}"


def test_one_text_is_not_a_list_of_scopes(service: ScriptedTokenService, address: str) -> None:
    """`get_token("read")` would ask for r, e, a and d."""
    with Client(address) as broker, pytest.raises(TypeError, match="not one text"):
        broker.get_token("read")

    assert [] == service.requests


@pytest.mark.parametrize("seconds", [-1, math.nan, math.inf, 315_576_000_001])
def test_a_lifetime_that_is_none_is_refused_here(service: ScriptedTokenService, address: str, seconds: float) -> None:
    """A negative or endless least lifetime is a mistake of the program."""
    with Client(address) as broker, pytest.raises(ValueError, match="negative"):
        broker.get_token(["read"], min_lifetime=seconds)

    assert [] == service.requests


def test_the_token_file_is_read_for_every_call(service: ScriptedTokenService, address: str, tmp_path: Path) -> None:
    """A projected token is replaced in its file every few minutes; the next call presents the new one."""
    file = tmp_path / "token"
    file.write_text("first.jwt\n")

    with Client(address, token_file=file) as broker:
        broker.get_token(["read"])
        file.write_text("second.jwt\n")
        broker.get_token(["read"])

    assert ["Bearer first.jwt", "Bearer second.jwt"] == [call["authorization"] for call in service.metadata]


@pytest.mark.parametrize("content", [None, "", "two words", "line\nbreak", "umläut"])
def test_a_token_file_without_a_bearer_is_a_configuration_error(
    service: ScriptedTokenService, address: str, tmp_path: Path, content: str | None
) -> None:
    """Missing, empty or odd content is said with the file's name, never with its content, and nothing is sent."""
    file = tmp_path / "token"
    if content is not None:
        file.write_text(content)

    with Client(address, token_file=file) as broker, pytest.raises(ConfigurationError) as caught:
        broker.get_token(["read"])

    assert str(file) in str(caught.value)
    assert not content or content not in str(caught.value)
    assert [] == service.requests


def write_certificates(folder: Path) -> tuple[grpc.ServerCredentials, dict[str, Path]]:
    """Make an authority, a server that wants a client certificate, and a client's files."""
    authority = trustme.CA()
    server, workload = authority.issue_cert("127.0.0.1"), authority.issue_cert("workload.example")
    files = {"ca": folder / "ca.pem", "cert": folder / "cert.pem", "cert_key": folder / "key.pem"}
    authority.cert_pem.write_to_path(str(files["ca"]))
    files["cert"].write_bytes(b"".join(pem.bytes() for pem in workload.cert_chain_pems))
    workload.private_key_pem.write_to_path(str(files["cert_key"]))
    credentials = grpc.ssl_server_credentials(
        [(server.private_key_pem.bytes(), b"".join(pem.bytes() for pem in server.cert_chain_pems))],
        root_certificates=authority.cert_pem.bytes(),
        require_client_auth=True,
    )
    return credentials, files


def test_a_certificate_opens_the_mtls_listener(start: Start, tmp_path: Path) -> None:
    """CA, certificate and key as arguments."""
    credentials, files = write_certificates(tmp_path)

    with Client(start(credentials), **files) as broker:  # type: ignore[arg-type]  # one type for all keywords
        token = broker.get_token(["read"])

    assert "at-canary" == token.access_token


async def test_settings_come_from_the_environment(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """BROKER_ADDRESS, BROKER_CA, BROKER_CERT and BROKER_CERT_KEY need no argument."""
    credentials, files = write_certificates(tmp_path)
    monkeypatch.setenv("BROKER_ADDRESS", start(credentials))
    for name, path in files.items():
        monkeypatch.setenv(f"BROKER_{name.upper()}", str(path))

    async with AsyncClient() as broker:
        token = await broker.get_token(["read"])

    assert "at-canary" == token.access_token


def test_a_proxy_of_the_environment_is_not_used(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bearer goes to the broker, not to whoever http_proxy names."""
    for name in ("http_proxy", "https_proxy", "grpc_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)

    with Client(address) as broker:
        token = broker.get_token(["read"])

    assert "at-canary" == token.access_token
