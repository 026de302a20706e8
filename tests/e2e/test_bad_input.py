"""Bad wishes, told by a whole broker: status, reason, details, and an audit event each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import grpc
import pytest

from aries_broker.errors import BrokerError
from tests.support.world import World

pytestmark = pytest.mark.asyncio(loop_scope="session")

CODE = grpc.StatusCode


@pytest.mark.parametrize(
    ("scopes", "more", "status", "reason", "metadata", "fields"),
    [
        (["reed"], {}, CODE.INVALID_ARGUMENT, "INVALID_REQUEST", {}, ["scopes"]),
        (["read", "order:exec"], {}, CODE.INVALID_ARGUMENT, "INVALID_REQUEST", {}, ["scopes"]),
        ([], {}, CODE.INVALID_ARGUMENT, "INVALID_REQUEST", {}, ["scopes"]),
        (["Read"], {}, CODE.INVALID_ARGUMENT, "INVALID_REQUEST", {}, ["scopes"]),
        ([f"s{n}" for n in range(1000)], {}, CODE.INVALID_ARGUMENT, "INVALID_REQUEST", {}, ["scopes"]),
        (["admin"], {}, CODE.INVALID_ARGUMENT, "SCOPE_NOT_SUPPORTED", {"scope": "admin"}, []),
        (["admin", "read"], {}, CODE.INVALID_ARGUMENT, "SCOPE_NOT_SUPPORTED", {"scope": "admin"}, []),
        (["withdraw"], {}, CODE.PERMISSION_DENIED, "POLICY_DENIED", {}, []),
        (["read", "withdraw"], {}, CODE.PERMISSION_DENIED, "POLICY_DENIED", {}, []),
        (
            ["read"],
            {"min_lifetime": 4000},
            CODE.FAILED_PRECONDITION,
            "LIFETIME_UNATTAINABLE",
            {"attainable_seconds": "2880"},
            [],
        ),
        (["trade"], {}, CODE.FAILED_PRECONDITION, "SCOPE_NOT_GRANTED", {"missing": "order:execution"}, []),
    ],
    ids=[
        "misspelt",
        "misspelt in company",
        "none",
        "upper case",
        "a thousand",
        "mapped to nothing",
        "mapped to nothing in company",
        "not allowed",
        "not allowed in company",
        "too long a life",
        "outside the grant",
    ],
)
async def test_each_has_its_answer_and_its_event(
    world: World,
    scopes: list[str],
    more: Mapping[str, Any],
    status: grpc.StatusCode,
    reason: str,
    metadata: Mapping[str, str],
    fields: list[str],
) -> None:
    """One status, one reason, details of a closed list, one denial in the audit log, and no call to the provider."""
    desk = await world.desk(scopes=["read"], allowed=["read", "trade", "admin"])
    if "min_lifetime" in more:
        await desk.get("read")
    before = (await world.sandbox.counters())["token_calls"]
    told = await desk.refused(*scopes, **more)
    assert (status, reason, metadata, fields) == (told.status, told.reason, told.metadata, list(told.fields))
    assert ("token:deny", reason) == (await desk.events())[-1]
    assert before == (await world.sandbox.counters())["token_calls"]


async def test_a_grant_of_another_is_like_one_that_is_not_there(world: World) -> None:
    """Status, text and every detail are the same, so that nobody finds out which grants there are."""
    desk, other = await world.desk(), await world.desk()

    def facts(error: BrokerError) -> tuple[object, ...]:
        return error.status, str(error), error.reason, error.metadata, error.fields, error.retry_after

    told = [await desk.refused("read", grant=name) for name in (other.grant, "no-such-grant")]
    assert facts(told[0]) == facts(told[1])
    assert (CODE.PERMISSION_DENIED, "POLICY_DENIED") == (told[0].status, told[0].reason)
    assert [("token:deny", "POLICY_DENIED")] * 2 == await desk.events()
    events = await world.events(f"key:{desk.caller}")
    assert ["no-such-grant", other.grant] == [event.fields["grant"] for event in events]


async def test_several_grants_are_named_to_choose_from(world: World) -> None:
    """Without a grant's name the caller is told those it may use, and no others."""
    desk, other = await world.desk(), await world.desk()
    await world.allow(desk.caller, [desk.grant, other.grant])
    told = await desk.refused("read", grant="")
    assert (CODE.INVALID_ARGUMENT, "GRANT_AMBIGUOUS") == (told.status, told.reason)
    assert {desk.grant, other.grant} == set(told.metadata["grants"].split(","))
    assert ("token:deny", "GRANT_AMBIGUOUS") == (await desk.events())[-1]


async def test_a_holder_of_a_role_gets_no_token(world: World) -> None:
    """An operator cannot be matched by a policy, whatever it says."""
    desk = await world.desk()
    told = await world.refusal(world.get_token(world.admin_key, "read", grant=desk.grant))
    assert "POLICY_DENIED" == told.reason


async def test_a_grant_without_consent(world: World) -> None:
    """CONSENT_REQUIRED, told only to those whom policy allows the grant."""
    desk = await world.desk("refresh_token", imported=False)
    told = await desk.refused("read")
    assert (CODE.FAILED_PRECONDITION, "CONSENT_REQUIRED") == (told.status, told.reason)
    assert "POLICY_DENIED" == (await desk.refused("withdraw")).reason
    assert [("token:deny", "CONSENT_REQUIRED"), ("token:deny", "POLICY_DENIED")] == await desk.events()


async def test_a_service_is_no_operator(world: World) -> None:
    """Every call of an operator is refused to a service's key, and recorded."""
    desk = await world.desk()
    told = await world.refusal(world.call(world.config.ListObjects, world.list_of("policy"), desk.key))
    assert (CODE.PERMISSION_DENIED, "ROLE_REQUIRED") == (told.status, told.reason)
    assert [("rpc:deny", "ROLE_REQUIRED")] == await desk.events()


async def test_a_life_too_long_for_a_new_token(world: World) -> None:
    """Nobody knows how long tokens live before there is one; then the provider's word counts."""
    desk = await world.desk()
    told = await desk.refused("read", min_lifetime=4000)
    assert (CODE.FAILED_PRECONDITION, "LIFETIME_UNATTAINABLE") == (told.status, told.reason)
    assert [("token:deny", "LIFETIME_UNATTAINABLE")] == await desk.events()


async def test_a_millisecond_is_too_little(world: World) -> None:
    """DEADLINE_EXCEEDED, and nothing was asked of the provider."""
    desk = await world.desk()
    before = (await world.sandbox.counters())["token_calls"]
    told = await desk.refused("read", deadline=0.001)
    assert CODE.DEADLINE_EXCEEDED == told.status
    assert before == (await world.sandbox.counters())["token_calls"]


async def test_a_megabyte(world: World) -> None:
    """Refused by the transport, with its status alone."""
    desk = await world.desk()
    told = await desk.refused("read", grant="g" * 1_000_000)
    assert (CODE.RESOURCE_EXHAUSTED, "") == (told.status, told.reason)
