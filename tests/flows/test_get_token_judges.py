"""What is handed out, under which label, for how long, and what is remembered."""

from __future__ import annotations

import asyncio
import base64
from dataclasses import replace
from fractions import Fraction
from types import SimpleNamespace

import pytest

from broker.core.errors import (
    BrokerError,
    LifetimeUnattainableError,
    ProviderRefusedClientError,
    ProviderUnavailableError,
    RateLimitedError,
    ScopeExceededError,
    ScopeNotGrantedError,
)
from broker.core.models import AbsentScope, Limit, LimitTarget, Narrowing, Origin, TokenEndpointAuth, Window
from broker.core.oauth.rfc6749 import HttpReply
from tests.flows.world import (
    ALL,
    NARROWING,
    PROVIDER,
    READ,
    SECRET,
    TRADE,
    Replica,
    World,
    error,
    jwt,
    new_world,
    policy,
    tokens,
)
from tests.support.waiting import until


async def test_cached_token_needs_no_call(world: World, replica: Replica) -> None:
    """The second caller is served from memory; every hand-out is audited with its source."""
    first = await replica.get()
    second = await replica.get(caller="reports")
    assert first.access_token == second.access_token
    assert 1 == len(world.endpoint.requests)
    assert ["provider", "memory"] == [event.source for event in world.audit.events] == world.counted.issued


async def test_reply_says_what_the_token_is(world: World, replica: Replica) -> None:
    """Scopes are the caller's words, sorted; times count from before the request was sent."""

    async def slow() -> None:
        world.clock.advance(100)

    world.endpoint.connect = slow
    issued = await replica.get("trade", "read", "trade")
    assert ("read", "trade") == issued.scopes
    assert ALL == issued.provider_scopes
    assert 3500 == issued.lifetime
    assert world.clock.now() + 3500 == issued.expires_at.timestamp()
    assert 0.7 * 3500 <= issued.renew_after <= 0.9 * 3500
    assert (Narrowing.EXACT, "desk", False) == (issued.narrowing, issued.grant, issued.lifetime_assumed)
    assert PROVIDER.api_origins == issued.api_origins
    assert world.keyring.fingerprint(issued.access_token) == issued.fingerprint == world.audit.events[0].fingerprint


@pytest.mark.parametrize("source", ["provider", "memory", "store"])
async def test_what_the_login_asked_for_beside_is_no_excess(source: str) -> None:
    """A provider that still names `openid` in its replies gives usable tokens, from wherever they are served."""
    world = await new_world(replace(PROVIDER, login_scopes=("openid", "offline_access")))
    replica = await world.replica()
    world.endpoint.answers = [tokens(scope=" ".join((*ALL, "openid", "offline_access")), refresh_token="rt-1")]
    issued = await replica.get("read", "trade", grant="person")
    if source != "provider":
        again = replica if source == "memory" else await world.replica()
        issued = await again.get("read", "trade", grant="person")
    assert (source, Narrowing.EXACT, ALL, ()) == (
        issued.source,
        issued.narrowing,
        issued.provider_scopes,
        issued.excess_scopes,
    )


async def test_a_grant_without_a_login_has_no_scopes_beside() -> None:
    """Nobody asked for them there: they are an excess."""
    world = await new_world(replace(PROVIDER, login_scopes=("openid",)))
    replica = await world.replica()
    world.endpoint.answers = [tokens(scope=" ".join((*READ, "openid")))]
    with pytest.raises(ScopeExceededError):
        await replica.get()


async def test_assumed_lifetime_is_said(world: World, replica: Replica) -> None:
    """A reply without expires_in lives the provider's default."""
    world.endpoint.answers = [tokens(scope=" ".join(READ), expires_in=None)]
    issued = await replica.get()
    assert (True, 300) == (issued.lifetime_assumed, issued.lifetime)


async def test_every_part_of_the_key_separates(world: World, replica: Replica) -> None:
    """Another scope set, resource, client or epoch is another token."""
    await replica.get("read")
    await replica.get("trade")
    await replica.get("read", "trade")
    await replica.get("read", resource="https://api.example")
    await world.put(replace(PROVIDER, api_origins=()))
    assert 4 == len(world.endpoint.requests)
    assert "https://api.example" == world.endpoint.requests[3]["resource"]
    await replica.get("read", "trade", grant="person")
    await world.consent("person", world.endpoint.live)
    await replica.view.catch_up(await world.store.read_version())
    await replica.get("read", "trade", grant="person")
    assert 6 == len(world.endpoint.requests)


async def test_tokens_of_a_former_endpoint_are_not_served(world: World, replica: Replica) -> None:
    """After a provider was re-pointed neither memory nor store serve its old tokens, and its secret does not open."""
    await replica.get()
    await world.put(replace(PROVIDER, token_url="https://elsewhere.example/token"))
    await replica.view.catch_up(await world.store.read_version())
    for asked in (replica, await world.replica()):
        with pytest.raises(ProviderRefusedClientError) as caught:
            await asked.get()
        assert "secret_sealed_elsewhere" == caught.value.cause
        assert "another token endpoint" in caught.value.public
    assert 1 == len(world.endpoint.requests)


async def test_client_without_a_secret_is_told(world: World) -> None:
    """Operators are told what is missing; the provider is not called."""
    world.store.inner._secrets.clear()
    replica = await world.replica()
    with pytest.raises(ProviderRefusedClientError) as caught:
        await replica.get()
    assert "no_secret" == caught.value.cause
    assert [] == world.endpoint.requests


READ_WIRE, ALL_WIRE = " ".join(READ), " ".join(ALL)
CLAIM = jwt(scope=ALL_WIRE)


@pytest.mark.parametrize(
    ("scopes", "answer", "label"),
    [
        (("read", "trade"), tokens(scope=ALL_WIRE), Narrowing.EXACT),
        (("read",), tokens(scope=READ_WIRE), Narrowing.NARROWED),
        (("read",), tokens(access_token=jwt(scp=list(READ))), Narrowing.NARROWED),
        (("read",), tokens(), Narrowing.UNVERIFIED),
        (("read",), tokens(scope=ALL_WIRE), Narrowing.WIDER),
        (("read",), tokens(scope=READ_WIRE, access_token=CLAIM), Narrowing.WIDER),
    ],
)
async def test_labels(scopes: tuple[str, ...], answer: HttpReply, label: Narrowing) -> None:
    """Exact, narrowed, unverified or wider, in the reply and in the audit event, from memory as well."""
    world = await new_world(replace(PROVIDER, absent_scope=AbsentScope.AS_ASKED))
    await world.put(policy("orders", "key:orders", "desk", "read trade", "trade"))
    replica = await world.replica()
    world.endpoint.answers = [answer]
    for _ in range(2):
        issued = await replica.get(*scopes)
        assert label is issued.narrowing
        assert TRADE * (label is Narrowing.WIDER) == issued.excess_scopes
    assert [label.value] * 2 == [event.narrowing for event in world.audit.events]
    assert 1 == len(world.endpoint.requests)


@pytest.mark.parametrize("excess", ["", "trade", "withdraw admin trade"])
async def test_wider_token_is_refused_unless_accepted(excess: str) -> None:
    """Only excess a policy lists is accepted, and withdraw and admin never are; the caller sees no token."""
    world = await new_world()
    await world.put(policy("orders", "key:orders", "desk", "read trade", excess))
    replica = await world.replica()
    world.endpoint.answers = [tokens(scope=f"{ALL_WIRE} boss"), tokens(scope=ALL_WIRE)]
    for _ in range(2):
        with pytest.raises(ScopeExceededError) as caught:
            await replica.get("read")
        assert "boss" in caught.value.metadata["excess"]
    assert 1 == len(world.endpoint.requests)
    assert [] == world.audit.events


async def test_excess_is_judged_by_each_callers_policy(world: World) -> None:
    """One cached wider token is handed to whom policy accepts the excess, and to nobody else."""
    await world.put(policy("orders", "key:orders", "desk", "read", "trade"))
    replica = await world.replica()
    world.endpoint.answers = [tokens(scope=ALL_WIRE)]
    assert TRADE == (await replica.get(caller="orders")).excess_scopes
    assert "order:execution" == world.audit.events[0].excess
    with pytest.raises(ScopeExceededError):
        await replica.get(caller="reports")
    assert 1 == len(world.endpoint.requests)


@pytest.mark.parametrize(
    "lie",
    [{"granted": tuple(sorted(READ))}, {"verified": False}, {"life_ms": 10**9}],
    ids=["granted", "verified", "life"],
)
async def test_a_writer_of_the_store_cannot_make_a_wide_token_pass(world: World, lie: dict[str, object]) -> None:
    """What a stored token was found to be is sealed with it: a row that says otherwise is no token at all."""
    first = await world.replica()
    world.endpoint.answers = [tokens(scope=ALL_WIRE, access_token="wide")]
    with pytest.raises(ScopeExceededError):
        await first.get(caller="reports")
    (row,) = world.store.inner._access.values()
    assert row.token is not None
    row.token = replace(row.token, **lie)  # type: ignore[arg-type]  # fields by name
    second = await world.replica("b")
    issued = await second.get(caller="reports")
    assert issued.access_token.reveal() != "wide"
    assert 2 == len(world.endpoint.requests)


@pytest.mark.parametrize("echo", [SECRET, f"x.{SECRET}.y", "canary-rt-0", "canary-rt-9"])
async def test_a_secret_of_ours_is_no_access_token(world: World, replica: Replica, echo: str) -> None:
    """A provider that hands a secret or refresh token back as an access token gets nothing past us to a caller."""
    world.endpoint.answers = [tokens(access_token=echo, scope=ALL_WIRE, refresh_token="canary-rt-9")]
    with pytest.raises(ProviderUnavailableError) as caught:
        await replica.get("read", "trade", grant="person")
    assert "echo" == caught.value.cause
    assert "canary-rt-9" == await world.refresh_token("person")


BASIC = base64.b64encode(f"desk-app:{SECRET}".encode()).decode()


@pytest.mark.parametrize(
    ("auth", "echo"),
    [
        (TokenEndpointAuth.CLIENT_SECRET_POST, base64.urlsafe_b64encode(f"so: {SECRET}".encode()).decode()),
        (TokenEndpointAuth.CLIENT_SECRET_POST, SECRET.encode().hex().upper()),
        (TokenEndpointAuth.CLIENT_SECRET_BASIC, BASIC),
        (TokenEndpointAuth.CLIENT_SECRET_BASIC, jwt(authorization=f"Basic {BASIC}")),
        (TokenEndpointAuth.PRIVATE_KEY_JWT, "assertion-of-desk-app"),
        (TokenEndpointAuth.PRIVATE_KEY_JWT, jwt(client_assertion="assertion-of-desk-app")),
    ],
)
async def test_what_a_request_held_is_no_access_token(auth: TokenEndpointAuth, echo: str) -> None:
    """The secret in whatever encoding, the Basic header's value, the assertion: none of them reaches a caller."""
    world = await new_world(replace(PROVIDER, token_endpoint_auth=auth))
    replica = await world.replica()
    world.endpoint.answers = [tokens(access_token=echo, scope=ALL_WIRE, refresh_token=None)]
    with pytest.raises(ProviderUnavailableError) as caught:
        await replica.get("read", "trade")
    assert "echo" == caught.value.cause


async def test_word_of_the_provider_is_not_repeated(world: World, replica: Replica) -> None:
    """Excess nobody configured is refused without quoting it."""
    world.endpoint.answers = [tokens(scope=f"{READ_WIRE} <script>")]
    with pytest.raises(ScopeExceededError) as caught:
        await replica.get()
    assert {} == caught.value.metadata


async def test_narrower_token_is_kept_for_what_it_has(world: World, replica: Replica) -> None:
    """Who asked for more is told what is missing, again from memory; who asks for just that is served."""
    world.endpoint.answers = [tokens(scope=READ_WIRE)]
    for _ in range(2):
        with pytest.raises(ScopeNotGrantedError) as caught:
            await replica.get("read", "trade")
        assert {"missing": "order:execution"} == caught.value.metadata
    assert "memory" == (await replica.get("read")).source
    assert 1 == len(world.endpoint.requests)


async def test_narrower_token_of_another_key_does_not_outrank_its_own(world: World, replica: Replica) -> None:
    """Attempts count per key for client credentials: a stray token never shuts out the tokens got for the key."""
    for number in range(5):
        world.endpoint.answers = [tokens(scope=READ_WIRE, access_token=f"stray-{number}", expires_in=100)]
        with pytest.raises(ScopeNotGrantedError):
            await replica.get("read", "trade")
        world.clock.advance(400)
    world.endpoint.answers = [tokens(scope=READ_WIRE, expires_in=100)]
    with pytest.raises(ScopeNotGrantedError):
        await replica.get("read", "trade")
    world.clock.advance(85)
    issued = await replica.get("read")
    assert ("provider", 3600) == (issued.source, issued.lifetime)
    assert "memory" == (await replica.get("read")).source


async def test_token_whose_scopes_nobody_can_tell_is_not_kept(world: World, replica: Replica) -> None:
    """A claim that states what the reply leaves out serves neither set."""
    world.endpoint.answers = [tokens(scope=READ_WIRE, access_token=CLAIM)]
    with pytest.raises(ScopeNotGrantedError):
        await replica.get("read", "trade")
    assert "provider" == (await replica.get("read")).source


async def test_silence_counts_as_configured(world: World, replica: Replica) -> None:
    """A reply that states no scope is refused, or taken as asked; a changed setting holds for cached tokens too."""
    world.endpoint.answers = [tokens(), tokens()]
    with pytest.raises(ScopeNotGrantedError) as caught:
        await replica.get()
    assert "scope absent" == caught.value.cause
    await world.put(replace(PROVIDER, absent_scope=AbsentScope.AS_ASKED))
    replica = await world.replica()
    assert Narrowing.UNVERIFIED is (await replica.get()).narrowing
    await world.put(PROVIDER)
    await replica.view.catch_up(await world.store.read_version())
    with pytest.raises(ScopeNotGrantedError):
        await replica.get()


# --- min_lifetime ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("life", "age", "min_lifetime", "calls"),
    [
        (3600, 3539, None, 1),
        (3600, 3541, None, 2),
        (100, 79, None, 1),
        (100, 81, None, 2),
        (3600, 3590, 5.0, 1),
        (3600, 3596, 0.0, 2),
        (3600, 1000, 2600.0, 1),
        (3600, 1001, 2600.0, 2),
        (3600, 0, 2880.0, 1),
    ],
)
async def test_min_lifetime(
    world: World, replica: Replica, life: int, age: float, min_lifetime: float | None, calls: int
) -> None:
    """Without a wish 60 s or a fifth of a shorter life; a shorter wish is heeded to 5 s before the end."""
    world.endpoint.answers = [tokens(scope=READ_WIRE, expires_in=life)]
    await replica.get()
    world.clock.advance(age)
    issued = await replica.get(min_lifetime=min_lifetime)
    assert calls == len(world.endpoint.requests)
    assert issued.lifetime >= (min_lifetime or 0)


async def test_more_than_four_fifths_is_unattainable(world: World, replica: Replica) -> None:
    """Such a wish is refused whatever token is there, with the seconds that can be had."""
    for _ in range(2):
        with pytest.raises(LifetimeUnattainableError) as caught:
            await replica.get(min_lifetime=2881.0)
        assert {"attainable_seconds": "2880"} == caught.value.metadata
    assert 1 == len(world.endpoint.requests)


async def test_caller_forces_one_redeem_in_30_seconds(world: World, replica: Replica) -> None:
    """A second forced redeem of the same caller is refused, for another key too, with the seconds to wait."""
    await replica.get("read")
    await replica.get("trade")
    world.clock.advance(1000)
    assert "provider" == (await replica.get("read", min_lifetime=2700.0)).source
    world.clock.advance(20)
    with pytest.raises(RateLimitedError) as caught:
        await replica.get("trade", min_lifetime=2700.0)
    assert {"limit": "forced-redeem"} == caught.value.metadata
    assert 10 == caught.value.retry_after
    world.clock.advance(10)
    assert "provider" == (await replica.get("trade", min_lifetime=2700.0)).source


async def test_key_is_forced_once_in_30_seconds(world: World, replica: Replica) -> None:
    """A second forced redeem of the same key is refused whoever asks."""

    async def slow() -> None:
        world.clock.advance(15)

    world.endpoint.connect = slow
    world.endpoint.answers = [tokens(scope=READ_WIRE, expires_in=100) for _ in range(3)]
    assert 85 == (await replica.get()).lifetime
    world.clock.advance(10)
    assert "provider" == (await replica.get(min_lifetime=80.0)).source
    world.clock.advance(10)
    with pytest.raises(RateLimitedError):
        await replica.get(caller="reports", min_lifetime=80.0)
    world.clock.advance(5)
    assert "provider" == (await replica.get(caller="reports", min_lifetime=80.0)).source
    assert 3 == len(world.endpoint.requests)


async def test_joining_a_forced_redeem_is_free(world: World, replica: Replica) -> None:
    """Callers with the same wish wait for the one redeem that runs instead of being refused."""
    await replica.get()
    world.clock.advance(1000)
    world.endpoint.hold = asyncio.Event()
    forced = [asyncio.create_task(replica.get(caller=who, min_lifetime=2700.0)) for who in ("orders", "reports") * 5]
    await until(lambda: len(world.endpoint.requests) == 2)
    world.endpoint.hold.set()
    assert {"provider"} == {issued.source for issued in await asyncio.gather(*forced)}
    assert 2 == len(world.endpoint.requests)
    world.clock.advance(1000)
    world.endpoint.hold.clear()
    first = asyncio.create_task(replica.get(min_lifetime=2700.0))
    await until(lambda: len(world.endpoint.requests) == 3)
    paid = len(world.buckets.charged)
    second = asyncio.create_task(replica.get(caller="reports", min_lifetime=2700.0))
    await until(lambda: replica.obtain._waiting == 2)
    world.endpoint.hold.set()
    await asyncio.gather(first, second)
    assert paid == len(world.buckets.charged)


async def test_provider_that_gives_no_better_token(world: World, replica: Replica) -> None:
    """What was got just now does when nothing was said of its life, and is told as unattainable when it was."""

    async def slow() -> None:
        world.clock.advance(90)

    world.endpoint.connect = slow
    world.endpoint.answers = [tokens(scope=READ_WIRE, expires_in=110), tokens(scope=READ_WIRE, expires_in=110)]
    assert 20 == (await replica.get()).lifetime
    with pytest.raises(LifetimeUnattainableError) as caught:
        await replica.get(min_lifetime=80.0)
    assert {"attainable_seconds": "20"} == caught.value.metadata
    assert 2 == len(world.endpoint.requests)


# --- refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "kind", "seconds"),
    [
        (error("invalid_scope"), ScopeNotGrantedError, 30),
        (error("invalid_target"), ScopeNotGrantedError, 30),
        (tokens(scope="account:information"), ScopeNotGrantedError, 30),
        (error("x", 503), ProviderUnavailableError, 1),
        (error("x", 429, retry_after="120"), ProviderUnavailableError, 120),
        (error("x", 429, retry_after="3000"), ProviderUnavailableError, 300),
    ],
)
async def test_refusals_are_remembered(
    world: World, replica: Replica, answer: HttpReply, kind: type[BrokerError], seconds: int
) -> None:
    """What the provider refused is not asked again by each caller, for a while; no text of its reply is told."""
    world.endpoint.answers = [answer]
    seen = []
    for _ in range(2):
        with pytest.raises(kind) as caught:
            await replica.get()
        seen.append(caught.value)
        assert SECRET not in f"{caught.value!r} {caught.value.public} {caught.value.cause} {caught.value.metadata}"
    assert 1 == len(world.endpoint.requests)
    assert seen[0] is not seen[1]
    world.clock.advance(seconds - 0.01)
    with pytest.raises(kind):
        await replica.get()
    world.clock.advance(0.02)
    await replica.get()
    assert 2 == len(world.endpoint.requests)


async def test_scope_refused_again_is_remembered_longer(world: World, replica: Replica) -> None:
    """The time doubles with each refusal in a row."""
    for number, seconds in enumerate((30, 60, 120, 240, 300, 300), start=1):
        world.endpoint.answers = [error("invalid_scope")]
        with pytest.raises(ScopeNotGrantedError):
            await replica.get()
        assert number == len(world.endpoint.requests)
        world.clock.advance(seconds - 0.01)
        with pytest.raises(ScopeNotGrantedError):
            await replica.get()
        assert number == len(world.endpoint.requests)
        world.clock.advance(0.01)


async def test_refusal_costs_no_forced_redeem(world: World, replica: Replica) -> None:
    """A remembered refusal is told before anything is paid; the cached token still serves others."""
    await replica.get()
    world.clock.advance(1000)
    world.endpoint.answers = [error("x", 503)]
    for _ in range(2):
        with pytest.raises(ProviderUnavailableError):
            await replica.get(min_lifetime=2700.0)
    assert 2 == world.buckets.charged.count("forced-redeem")
    assert "memory" == (await replica.get()).source


async def test_own_limit_towards_the_provider(world: World) -> None:
    """Permits that do not come in time are told as such, remembered for a second, and nothing is sent."""
    window = Window(Fraction(1, 3600), 1)
    await world.put(Limit("l1", "calls", Origin.RPC, LimitTarget.PROVIDER, ("provider",), (window,)))
    await world.put(NARROWING)
    replica = await world.replica()
    await replica.get("read")
    for _ in range(2):
        with pytest.raises(RateLimitedError) as caught:
            await replica.get("read", "trade", grant="person")
        assert {"limit": "calls"} == caught.value.metadata
    assert 1 == world.store.calls.count("Take")
    assert ("idle", None) == (world.state("person").phase, world.state("person").first_sent_at)
    with pytest.raises(RateLimitedError):
        await replica.get("read", grant="person")
    world.clock.advance(1)
    with pytest.raises(RateLimitedError):
        await replica.get("read", "trade", grant="person")
    assert 1 == len(world.endpoint.requests)


async def test_short_wait_for_the_providers_permits_is_waited(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A permit that comes within five seconds is waited for, the lease held meanwhile."""
    window = Window(Fraction(1, 4), 1)
    await world.put(Limit("l1", "calls", Origin.RPC, LimitTarget.PROVIDER, ("provider",), (window,)))
    replica = await world.replica()
    await replica.get("read")
    waited = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)
        world.clock.advance(seconds)

    monkeypatch.setattr("broker.flows.provider_call.asyncio", SimpleNamespace(sleep=sleep))
    await replica.get("trade")
    assert [4.0] == waited


async def test_narrowed_refresh_is_labelled(world: World) -> None:
    """A subset from a provider proved to narrow is narrowed, the whole set exact."""
    await world.put(NARROWING)
    replica = await world.replica()
    assert Narrowing.NARROWED is (await replica.get("read", grant="person")).narrowing
    assert Narrowing.EXACT is (await replica.get("read", "trade", grant="person")).narrowing
