"""Metadata fetched over real sockets."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest

from broker.adapters.discovery import HttpDiscovery
from broker.adapters.http_exchange import HttpExchange
from broker.core.errors import ProviderUnavailableError
from tests.support.raw_server import Connection, Script, http, raw_server

OAUTH, OPENID = "/.well-known/oauth-authorization-server", "/.well-known/openid-configuration"


def serving(pages: Mapping[str, bytes]) -> Script:
    """Return a script that serves these replies by path, and 404 elsewhere."""

    async def script(connection: Connection) -> None:
        await connection.asked.wait()
        path = bytes(connection.received).split(b" ")[1].decode()
        port = connection.writer.get_extra_info("sockname")[1]
        await connection.send(pages.get(path, http("404 Not Found")).replace(b"PORT0", f"{port:05d}".encode()))

    return script


def metadata(path: str = "", **members: object) -> bytes:
    """Return a reply with the metadata of the server's issuer; PORT0 becomes its port."""
    body = json.dumps({"issuer": f"http://127.0.0.1:PORT0{path}", **members}).encode()
    return http("200 OK", body, "Content-Type: application/json")


async def discover(
    pages: Mapping[str, bytes], path: str = "", *, insecure_loopback: bool = True
) -> Mapping[str, object]:
    """Discover the issuer at this path of a server with these pages."""
    async with raw_server(serving(pages)) as server:
        discovery = HttpDiscovery(HttpExchange(), reply_deadline=2)
        return await discovery.discover(f"http://127.0.0.1:{server.port}{path}", insecure_loopback=insecure_loopback)


@pytest.mark.parametrize(
    ("path", "page"),
    [
        ("", OAUTH),
        ("", OPENID),
        ("/tenant/1", f"{OAUTH}/tenant/1"),
        ("/tenant/1", f"/tenant/1{OPENID}"),
        ("/", OAUTH),
    ],
)
async def test_both_places(path: str, page: str) -> None:
    """The well-known part stands before the issuer's path for RFC 8414 and after it for OpenID Connect."""
    assert "t" == (await discover({page: metadata(path, token_endpoint="t")}, path))["token_endpoint"]


async def test_the_rfcs_place_goes_first() -> None:
    """Where both are served, RFC 8414's is believed."""
    pages = {OAUTH: metadata(token_endpoint="first"), OPENID: metadata(token_endpoint="second")}
    assert "first" == (await discover(pages))["token_endpoint"]


@pytest.mark.parametrize(
    ("page", "cause", "failure"),
    [
        (http("404 Not Found"), "metadata_absent", "status"),
        (http("302 Found", b"", "Location: /elsewhere"), "metadata_absent", "status"),
        (metadata("/other"), "metadata_issuer", "malformed"),
        (metadata("/"), "metadata_issuer", "malformed"),
        (http("200 OK", b"{}"), "metadata_issuer", "malformed"),
        (http("200 OK", b"<html>"), "metadata_malformed", "malformed"),
        (http("200 OK", b'{"issuer":1,"issuer":2}'), "metadata_duplicate_key", "malformed"),
        (http("200 OK", b"x" * 300_000), "metadata_too_large", "malformed"),
        (b"", "metadata_reset", "malformed"),
    ],
)
async def test_what_is_not_the_issuers_metadata(page: bytes, cause: str, failure: str) -> None:
    """Metadata of another issuer, or what is none, is refused with a cause of ours."""
    with pytest.raises(ProviderUnavailableError) as raised:
        await discover({OAUTH: page, "/elsewhere": metadata()})
    assert (cause, {"failure": failure}) == (raised.value.cause, raised.value.metadata)


async def test_the_rules_of_egress_hold() -> None:
    """Plain http needs the file's word here too."""
    with pytest.raises(ProviderUnavailableError) as raised:
        await discover({OAUTH: metadata()}, insecure_loopback=False)
    assert "metadata_egress" == raised.value.cause
