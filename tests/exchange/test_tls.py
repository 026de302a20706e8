"""Over TLS, which is how Aries is reached."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
import trustme

from aries_exchange import AriesClient, AriesConnectionError, Timing
from tests.support.raw_server import answering, http, raw_server
from tests.support.threaded import LoopThread

USER = http("200 OK", b'{"id": 7, "email": "ada@example.com"}', "Content-Type: application/json")

AT_ONCE = Timing(sleep=lambda _: None)


@pytest.mark.parametrize("known", [True, False], ids=["an authority that is known", "one that is not"])
def test_a_token_is_sent_to_whom_a_known_authority_vouches_for(
    loop: LoopThread, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, known: bool
) -> None:
    """Nobody else gets it; the machine's authorities are those of the environment, if it names any."""
    authority, other = trustme.CA(), trustme.CA()
    file = tmp_path / "authorities.pem"
    (authority if known else other).cert_pem.write_to_path(file)
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with (
        loop.entered(raw_server(answering(USER), tls=context)) as server,
        AriesClient(bearer_token="at-canary", base_url=f"https://127.0.0.1:{server.port}", timing=AT_ONCE) as client,
    ):
        if known:
            assert "ada@example.com" == client.users.get_current_user().email
        else:
            with pytest.raises(AriesConnectionError, match="nothing was sent"):
                client.users.get_current_user()
        received = b"".join(bytes(each.received) for each in server.connections)

    assert known == (b"Bearer at-canary" in received)
