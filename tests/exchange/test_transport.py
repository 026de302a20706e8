"""What a request may cost, and by which way it goes."""

from __future__ import annotations

import pytest

from aries_exchange.errors import AriesConnectionError
from aries_exchange.timing import Timing
from aries_exchange.transport import Request, Transport
from tests.support.raw_server import answering, http, raw_server
from tests.support.threaded import LoopThread

REPLY = b'{"id": "0123456789"}'


@pytest.mark.parametrize("max_body", [len(REPLY), len(REPLY) - 1])
def test_a_reply_that_is_longer_than_was_said_is_none(loop: LoopThread, max_body: int) -> None:
    """It is not read to its end."""
    transport = Transport(Timing(), max_body=max_body)
    with loop.entered(raw_server(answering(http("200 OK", REPLY)))) as server:
        request = Request("POST", f"http://127.0.0.1:{server.port}/", {})
        if max_body < len(REPLY):
            with pytest.raises(AriesConnectionError, match="before the whole answer"):
                transport.send(request)
        else:
            assert {"id": "0123456789"} == transport.send(request)
    transport.close()


@pytest.mark.parametrize("proxies", [True, False])
def test_a_proxy_of_the_environment_is_used_where_it_may_be(
    loop: LoopThread, monkeypatch: pytest.MonkeyPatch, *, proxies: bool
) -> None:
    """Else what is sent goes straight to where it is for."""
    transport = Transport(Timing(), proxies=proxies)
    with loop.entered(raw_server(answering(http("502 Bad Gateway")))) as server:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{server.port}")
        monkeypatch.delenv("NO_PROXY", raising=False)
        with pytest.raises(AriesConnectionError):
            transport.send(Request("POST", "https://127.0.0.1:1/", {}))
        received = [bytes(each.received).split()[0] for each in server.connections]
    transport.close()
    assert ([b"CONNECT"] if proxies else []) == received
