from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest

from broker.core.errors import (
    BrokerError,
    GrantAmbiguousError,
    GrantHeldError,
    InvalidRequestError,
    PolicyDeniedError,
    RateLimitedError,
    Reason,
    ScopeNotGrantedError,
    ScopeNotSupportedError,
)
from broker.core.grant_state import Hold
from broker.core.identity import Role
from broker.core.models import (
    Kind,
    Limit,
    LimitTarget,
    NarrowingProfile,
    NarrowingProof,
    Origin,
    Provider,
    RoleBinding,
    Window,
)
from tests.flows.world import ALL, NARROWING, PROVIDER, READ, Replica, World, grant, policy


async def refusal(replica: Replica, *scopes: str, **request: str) -> BrokerError:
    """Return the error a request is answered with."""
    with pytest.raises(BrokerError) as caught:
        await replica.get(*scopes, **request)  # type: ignore[arg-type]  # fields of the request by name
    return caught.value


@pytest.mark.parametrize(
    ("caller", "name", "scopes"),
    [
        ("reports", "desk", ("trade",)),
        ("reports", "desk", ("read", "trade")),
        ("reports", "person", ("read",)),
        ("nobody", "desk", ("read",)),
    ],
)
async def test_what_no_policy_covers_is_denied(
    world: World, replica: Replica, caller: str, name: str, scopes: tuple[str, ...]
) -> None:
    """One policy has to cover caller, grant and every scope; nothing is asked of the provider or told."""
    error = await refusal(replica, *scopes, caller=caller, grant=name)
    assert PolicyDeniedError is type(error)
    assert [] == world.endpoint.requests
    assert [] == world.audit.events


async def test_unknown_grant_looks_like_a_denied_one(world: World, replica: Replica) -> None:
    """Text, metadata and the calls made are the same, the first time and later."""

    def facts(error: BrokerError) -> tuple[object, ...]:
        return type(error), error.public, error.cause, error.metadata, error.retry_after, error.fields, error.args

    seen = []
    for name in ("person", "no-such-grant", "person", "no-such-grant"):
        world.store.calls.clear()
        world.buckets.charged.clear()
        error = await refusal(replica, caller="reports", grant=name)
        seen.append((facts(error), tuple(world.store.calls), tuple(world.buckets.charged)))
    assert seen[0] == seen[1]
    assert seen[2] == seen[3]
    assert [("find_grant",), ()] == [seen[0][1], seen[2][1]]


@pytest.mark.parametrize("name", ["de\0sk", "x" * 60_000, "Desk", "desk "])
async def test_what_no_grant_can_be_called_is_denied_without_a_look(world: World, replica: Replica, name: str) -> None:
    """Such a name is one more unknown grant; neither the store nor memory is troubled with it."""
    world.store.calls.clear()
    assert Reason.POLICY_DENIED == (await refusal(replica, grant=name)).reason
    assert [] == world.store.calls
    assert {} == replica.view._absent


async def test_holder_of_a_role_gets_no_token(world: World) -> None:
    """No policy matches a caller that holds a role, with a grant named or not."""
    await world.put(RoleBinding("r1", "ops", Origin.RPC, Role.AUDITOR, ("key:orders",)))
    replica = await world.replica()
    assert PolicyDeniedError is type(await refusal(replica))
    ambiguous = await refusal(replica, grant="")
    assert (GrantAmbiguousError, {"grants": ""}) == (type(ambiguous), ambiguous.metadata)


async def test_grant_may_be_left_out_when_policy_leaves_one(world: World, replica: Replica) -> None:
    """The one grant this caller may use is taken and named in the reply; a revoked one does not count."""
    assert "desk" == (await replica.get("read", caller="reports", grant="")).grant
    await world.hold("person", Hold.REVOKED)
    assert "desk" == (await replica.get("read", caller="orders", grant="")).grant


@pytest.mark.parametrize(("caller", "names"), [("orders", "desk,person"), ("nobody", "")])
async def test_grant_left_out_is_ambiguous_otherwise(replica: Replica, caller: str, names: str) -> None:
    """With several grants their names are told, with none there is none to tell; scopes do not matter."""
    error = await refusal(replica, "trade", caller=caller, grant="")
    assert (GrantAmbiguousError, {"grants": names}) == (type(error), error.metadata)
    assert ["grant"] == list(error.fields)


async def test_misspelt_scope_is_told_before_policy(replica: Replica) -> None:
    """A scope no provider has a word for is the caller's mistake, whoever it is and whatever grant it names."""
    for request in ({"caller": "nobody", "grant": "no-such-grant"}, {"caller": "orders"}):
        error = await refusal(replica, "raed", **request)
        assert (InvalidRequestError, ["scopes"]) == (type(error), list(error.fields))


async def test_unsupported_scope_is_told_after_policy(world: World) -> None:
    """Only who is allowed the scope learns that the grant's provider has no word for it, alone or in company."""
    await world.put(replace(PROVIDER, id="p2", name="other", wire_scopes=frozenset({"weather"})))
    await world.put(policy("orders", "key:orders", "desk", "read withdraw weather"))
    replica = await world.replica()
    for scopes in (("withdraw",), ("read", "withdraw"), ("weather",)):
        assert PolicyDeniedError is type(await refusal(replica, *scopes, caller="reports"))
        error = await refusal(replica, *scopes)
        assert (ScopeNotSupportedError, {"scope": scopes[-1]}) == (type(error), error.metadata)


@pytest.mark.parametrize("hold", [Hold.FROZEN, Hold.REVOKING, Hold.REVOKED])
async def test_held_grant_is_told_after_policy(world: World, hold: Hold) -> None:
    """A hold refuses those whom policy allows, and is not known to others; a cached token does not help."""
    replica = await world.replica()
    await replica.get()
    await world.hold("desk", hold)
    await replica.view.catch_up(await world.store.read_version())
    assert GrantHeldError is type(await refusal(replica))
    assert PolicyDeniedError is type(await refusal(replica, "trade", caller="reports"))


async def test_frozen_provider_holds_its_grants(world: World) -> None:
    """Every grant of a provider that is held is held, told after policy."""
    await world.put(replace(PROVIDER, frozen=True))
    replica = await world.replica()
    assert GrantHeldError is type(await refusal(replica))
    assert PolicyDeniedError is type(await refusal(replica, caller="nobody"))


async def test_scopes_outside_the_grant_are_not_asked_for(world: World, replica: Replica) -> None:
    """What the grant's own set does not hold needs another grant; the provider is not asked."""
    error = await refusal(replica, "read", "news")
    assert (ScopeNotGrantedError, {"missing": "news"}) == (type(error), error.metadata)
    assert [] == world.endpoint.requests


async def test_grant_of_a_client_that_is_gone_is_unknown(world: World) -> None:
    """Without its client or its provider a grant is as good as none."""
    await world.remove(Kind.PROVIDER, "aries")
    await world.put(replace(PROVIDER, id="p9", name="other"))
    replica = await world.replica()
    assert PolicyDeniedError is type(await refusal(replica))


def limit(name: str, *key: str, burst: int = 1) -> Limit:
    """Return a limit of GetToken that lets `burst` through."""
    return Limit(f"id-{name}", name, Origin.RPC, LimitTarget.GET_TOKEN, key, (Window(Fraction(1, 3600), burst),))


async def test_callers_bucket_is_paid_before_policy(world: World) -> None:
    """A caller that is denied again and again runs out of its bucket; the grant's is untouched."""
    await world.put(limit("per-caller", "caller"), limit("per-grant", "grant"))
    replica = await world.replica()
    assert PolicyDeniedError is type(await refusal(replica, caller="nobody"))
    error = await refusal(replica, caller="nobody")
    assert (RateLimitedError, {"limit": "per-caller"}) == (type(error), error.metadata)
    assert error.retry_after is not None
    assert ["per-caller", "per-caller"] == world.buckets.charged


async def test_each_bucket_is_paid_once_per_call(world: World) -> None:
    """The grant's bucket is paid after policy, none twice, however often the wish is decided."""
    await world.put(limit("per-caller", "caller"), limit("per-grant", "caller", "grant"), limit("all"))
    replica = await world.replica()
    await replica.get()
    assert ["all", "per-caller", "per-grant"] == world.buckets.charged


async def test_empty_grant_bucket_refuses_even_a_cached_token(world: World) -> None:
    """Limits hold for tokens in memory as well."""
    await world.put(limit("per-grant", "client", "provider"))
    replica = await world.replica()
    await replica.get()
    error = await refusal(replica, caller="reports")
    assert (RateLimitedError, {"limit": "per-grant"}) == (type(error), error.metadata)


@pytest.mark.parametrize(
    "provider",
    [
        *(replace(NARROWING, narrowing=profile) for profile in NarrowingProfile if profile != "additional"),
        *(
            replace(NARROWING, proof=NarrowingProof(profile, PROVIDER.token_url))
            for profile in NarrowingProfile
            if profile != "additional"
        ),
        replace(NARROWING, proof=NarrowingProof(NarrowingProfile.ADDITIONAL, "https://id.example/before")),
        replace(NARROWING, proof=None),
    ],
)
async def test_refresh_grant_serves_its_own_set_unless_narrowing_is_proved(world: World, provider: Provider) -> None:
    """Unless configured and proved nothing but the whole set is served, no scope is sent; others need another grant."""
    await world.put(provider)
    replica = await world.replica()
    error = await refusal(replica, "read", grant="person")
    assert ScopeNotGrantedError is type(error)
    assert "another grant" in error.public
    assert ALL == (await replica.get("read", "trade", grant="person")).provider_scopes
    assert ["scope" in request for request in world.endpoint.requests] == [False]


async def test_proved_narrowing_sends_the_scope(world: World) -> None:
    """Where the provider keeps the refresh token whole, the scopes asked for are sent."""
    await world.put(NARROWING)
    replica = await world.replica()
    assert READ == (await replica.get("read", grant="person")).provider_scopes
    assert " ".join(READ) == world.endpoint.requests[0]["scope"]


async def test_new_grant_is_found_once_the_version_is_known(world: World, replica: Replica) -> None:
    """That a name was unknown is forgotten as soon as anything changed."""
    assert PolicyDeniedError is type(await refusal(replica, grant="late"))
    await world.put(grant("late"), policy("late", "key:orders", "late", "read"))
    await replica.view.catch_up(await world.store.read_version())
    assert "late" == (await replica.get(grant="late")).grant


async def test_resources_are_the_configured_ones(replica: Replica, world: World) -> None:
    """A resource the provider's configuration does not list is refused, and only to callers policy allows the grant."""
    for resource in ("https://api.example/", "https://api.example/v1", "urn:any"):
        error = await refusal(replica, resource=resource)
        assert (InvalidRequestError, ["resource"]) == (type(error), list(error.fields))
    assert PolicyDeniedError is type(await refusal(replica, caller="nobody", resource="urn:any"))
    assert [] == world.endpoint.requests
    await replica.get(resource="https://api.example")
    assert ["https://api.example"] == [request["resource"] for request in world.endpoint.requests]
