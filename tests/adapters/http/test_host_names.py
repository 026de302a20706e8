"""Names become addresses while other names' servers say nothing."""

from __future__ import annotations

import asyncio
import ipaddress
import threading
from collections import Counter
from collections.abc import Iterator, Sequence

import pytest

from broker.adapters.egress import Address
from broker.adapters.host_names import HostNames, look_up
from broker.adapters.http_exchange import HttpExchange
from broker.adapters.jwks import Jwks
from broker.core.errors import UnauthenticatedError
from broker.core.models import Issuer, Origin
from broker.ports import NotSentError
from tests.adapters.http.test_provider_http import GOOD, SOON, send
from tests.rpc.kit import Clock
from tests.support.raw_server import answering, raw_server
from tests.support.waiting import ENOUGH, until

ONE = ipaddress.ip_address("192.0.2.1")


class NameServers:
    """Names as a test gives them; a name that ends in `.hang` has no answer until `answer` is set."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.addresses: dict[str, Sequence[str]] = {}
        self.answer = threading.Event()
        self.threads: list[threading.Thread] = []

    def __call__(self, host: str) -> Sequence[str]:
        self.asked[host] += 1
        self.threads.append(threading.current_thread())
        if host.endswith(".hang"):
            self.answer.wait(ENOUGH)
        if host not in self.addresses:
            raise OSError
        return self.addresses[host]


@pytest.fixture
def servers() -> Iterator[NameServers]:
    """Answer in the end, and leave no thread behind."""
    servers = NameServers()
    yield servers
    servers.answer.set()
    for thread in servers.threads:
        thread.join(ENOUGH)


async def cause(names: HostNames, host: str) -> str:
    """Return the cause of there being no address."""
    with pytest.raises(NotSentError) as raised:
        await names(host, 443)
    return raised.value.cause


async def hanging(names: HostNames, servers: NameServers, *hosts: str) -> list[asyncio.Task[Sequence[Address]]]:
    """Return waits for these hosts, their lookups under way."""
    waits = [asyncio.create_task(names(host, 443)) for host in hosts]
    await until(lambda: all(servers.asked[host] for host in hosts))
    return waits


async def test_the_systems_names() -> None:
    """Unless told otherwise the system is asked, for a name in its files as for one that nobody has."""
    assert {"127.0.0.1"} <= set(look_up("127.0.0.1"))
    assert "dns" == await cause(HostNames(), "nobody.invalid")
    assert "dns" == await cause(HostNames(), "a" * 64 + ".test")


async def test_addresses_come_in_order_and_once(servers: NameServers) -> None:
    """As the lookup had them: they are tried in this order."""
    servers.addresses["as.test"] = ["192.0.2.2", "2001:db8::1", "192.0.2.2", "192.0.2.1"]
    found = await HostNames(servers)("as.test", 443)
    assert ["192.0.2.2", "2001:db8::1", "192.0.2.1"] == list(map(str, found))


@pytest.mark.parametrize(
    ("host", "addresses"),
    [("192.0.2.1", ["192.0.2.1"]), ("2001:db8::1", ["2001:db8::1"]), ("localhost", ["127.0.0.1", "::1"])],
)
async def test_what_needs_no_lookup_has_none(servers: NameServers, host: str, addresses: list[str]) -> None:
    """Literals and localhost are known, also when every lookup hangs."""
    names = HostNames(servers, most=1)
    await hanging(names, servers, "a.hang")
    assert addresses == list(map(str, await names(host, 443)))
    assert ["a.hang"] == list(servers.asked)


async def test_names_that_hang_stop_no_other(servers: NameServers) -> None:
    """Many more hang than the event loop has threads for lookups, and a provider is reached all the same."""
    servers.addresses["as.test"] = ["127.0.0.1"]
    names = HostNames(servers)
    await hanging(names, servers, *(f"{number}.hang" for number in range(40)))
    async with raw_server(answering(GOOD)) as server:
        sent = await send(f"http://as.test:{server.port}/token", exchange=HttpExchange(resolve=names))
    assert "landed" == sent.reading.outcome


async def test_one_name_has_one_lookup(servers: NameServers) -> None:
    """However many wait for it, for whichever port, and all get its answer."""
    servers.addresses["a.hang"] = [str(ONE)]
    names = HostNames(servers, most=1)
    waits = [asyncio.ensure_future(names("a.hang", port)) for port in range(20)]
    await until(lambda: servers.asked["a.hang"] > 0)
    servers.answer.set()
    assert [[ONE]] * 20 == await asyncio.gather(*waits)
    assert 1 == servers.asked["a.hang"]


async def test_a_lookup_that_was_given_up_goes_on_for_the_next(servers: NameServers) -> None:
    """Its thread cannot be ended, so whoever comes next does not begin another one."""
    servers.addresses["a.hang"] = [str(ONE)]
    names = HostNames(servers)
    exchange = HttpExchange(resolve=names, connect_limit=SOON)
    for _ in range(3):
        assert ("not_sent", "timeout") == await _outcome(exchange)
    waiting = asyncio.ensure_future(names("a.hang", 443))
    await asyncio.sleep(0)
    servers.answer.set()
    assert [ONE] == await waiting
    assert 1 == servers.asked["a.hang"]


async def _outcome(exchange: HttpExchange) -> tuple[str, str]:
    sent = await send("https://a.hang/token", exchange=exchange)
    return sent.reading.outcome, sent.reading.cause


async def test_too_many_names_at_once(servers: NameServers) -> None:
    """One more is refused at once, and served as soon as one of the others has its answer."""
    servers.addresses |= {"a.hang": [str(ONE)], "as.test": [str(ONE)]}
    names = HostNames(servers, most=2)
    [first, second] = await hanging(names, servers, "a.hang", "b.hang")
    assert "dns" == await cause(names, "as.test")
    servers.answer.set()
    assert [ONE] == await first
    await asyncio.wait({second})
    assert [ONE] == await names("as.test", 443)


async def test_a_name_without_an_address_is_asked_for_again(servers: NameServers) -> None:
    """All who wait are told, and nobody later: it may be there by then."""
    names = HostNames(servers)
    waits = await hanging(names, servers, "a.hang", "a.hang")
    servers.answer.set()
    assert [NotSentError, NotSentError] == list(map(type, await asyncio.gather(*waits, return_exceptions=True)))
    servers.addresses["a.hang"] = [str(ONE)]
    assert [ONE] == await names("a.hang", 443)


async def test_a_system_without_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """When no thread can be had nothing was sent, and the name is not taken for one that is being looked up."""

    def none_left(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    names = HostNames(most=1)
    monkeypatch.setattr("broker.adapters.host_names.threading.Thread.start", none_left)
    assert ["dns", "dns"] == [await cause(names, "as.test"), await cause(names, "as.test")]


def test_a_lookup_outlives_its_loop_and_holds_nothing(servers: NameServers) -> None:
    """A lookup that hangs at the end of the broker neither holds its process nor fails when its answer comes."""

    async def end_early() -> None:
        await hanging(HostNames(servers), servers, "a.hang")

    asyncio.run(end_early())
    [thread] = servers.threads
    assert thread.daemon
    servers.answer.set()
    thread.join(ENOUGH)
    assert not thread.is_alive()


async def test_an_issuers_name_that_hangs_has_one_lookup(servers: NameServers, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each fetch of its keys gives up in time, and begins no lookup beside the one under way."""
    monkeypatch.setattr("broker.adapters.jwks.FETCH_SECONDS", SOON)
    clock = Clock()
    keys = Jwks(clock, resolve=HostNames(servers))
    issuer = Issuer(
        id="i1", name="i", origin=Origin.FILE, issuer="https://a.hang", audience="b", jwks_uri="https://a.hang/jwks"
    )
    for _ in range(3):
        with pytest.raises(UnauthenticatedError) as raised:
            await keys.verify(issuer, "", "ES256", "k1")
        assert "jwks_unavailable" == raised.value.cause
        clock.ahead += 10
    assert 1 == servers.asked["a.hang"]
