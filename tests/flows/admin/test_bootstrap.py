"""The first admin: made only when nobody can act as admin, and only from a key that was given or may be made."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from broker.core.admins import live_admins, opens
from broker.core.api_keys import build_api_key, maced_api_key, parse_api_key_id
from broker.core.audit import Action
from broker.core.identity import Role
from broker.core.secret import Secret
from broker.flows.bootstrap import BOOTSTRAP_SECONDS, Bootstrap, BootstrapError, BootstrapKey
from tests.flows.admin.kit import AdminKit, trail


def new_key(number: int) -> Secret:
    """Return a whole API key."""
    return build_api_key(number.to_bytes(8, "big"), bytes(32))[1]


def bootstrap(kit: AdminKit, secret: Secret | None) -> Bootstrap:
    """Return the flow with a first key, or none."""
    first: Callable[[], BootstrapKey] | None = None
    if secret is not None:
        given = secret

        def first_key() -> BootstrapKey:
            return BootstrapKey(given, "/data/admin.key")

        first = first_key
    return Bootstrap(
        catalogs=kit.store,
        keys=kit.store,
        macs=kit.keyring,
        clock=kit.clock,
        first_key=first,
        trusts_spiffe=True,
        new_id=kit.new_id,
    )


async def admins(kit: AdminKit) -> frozenset[str]:
    """Return who can act as admin now."""
    keys = await kit.store.list_api_keys()
    return live_admins(await kit.catalog(), keys, kit.clock.now(), trusts_spiffe=True)


async def test_the_first_admin_is_made_for_a_day(kit: AdminKit) -> None:
    """An empty store gets a key that ends after 24 hours and the role admin bound to it."""
    secret = new_key(1)
    assert await bootstrap(kit, secret)(trail())
    key = await kit.store.find_api_key(parse_api_key_id(secret) or "")
    assert key is not None
    assert (key.name, key.bootstrap_until) == ("bootstrap-admin", int(kit.clock.now()) + BOOTSTRAP_SECONDS)
    assert kit.keyring.verify(key.mac_key_id, maced_api_key(secret, key.name, key.bootstrap_until), key.mac)
    (binding,) = (await kit.catalog()).roles
    assert (binding.role, binding.callers) == (Role.ADMIN, ("key:bootstrap-admin",))
    assert [Action.KEY_CREATE, Action.CONFIG_PUT] == await kit.actions()
    kit.clock.seconds += BOOTSTRAP_SECONDS
    assert not opens(key, kit.clock.now())
    assert await admins(kit) == frozenset()


async def test_a_second_start_makes_nothing(kit: AdminKit) -> None:
    """While somebody can act as admin the key is not even asked for."""
    await bootstrap(kit, new_key(1))(trail())
    assert not await bootstrap(kit, None)(trail())


async def test_a_start_that_ended_half_way_is_completed(kit: AdminKit) -> None:
    """A key stored without its role gets it at the next start."""
    secret = new_key(1)
    await bootstrap(kit, secret)(trail())
    kit.store._objects.clear()
    assert await admins(kit) == frozenset()
    assert await bootstrap(kit, secret)(trail())
    assert await admins(kit) == {"key:bootstrap-admin"}


async def test_without_a_key_the_operator_is_told_what_to_do(kit: AdminKit) -> None:
    """Where no key was given and none may appear by itself, the broker does not start."""
    with pytest.raises(BootstrapError, match="BROKER_BOOTSTRAP_ADMIN_KEY_FILE"):
        await bootstrap(kit, None)(trail())


async def test_what_is_no_key_is_refused_without_being_shown(kit: AdminKit) -> None:
    """A file that holds something else is named, its text is not."""
    with pytest.raises(BootstrapError, match=r"/data/admin\.key holds no API key") as caught:
        await bootstrap(kit, Secret("hunter2"))(trail())
    assert "hunter2" not in str(caught.value)


async def test_a_key_that_is_over_does_not_live_again(kit: AdminKit) -> None:
    """After its day a first key is dead; another one, under another name, can be made."""
    await bootstrap(kit, new_key(1))(trail())
    kit.clock.seconds += BOOTSTRAP_SECONDS
    with pytest.raises(BootstrapError, match="is over"):
        await bootstrap(kit, new_key(1))(trail())
    assert await bootstrap(kit, new_key(2))(trail())
    assert await admins(kit) == {"key:bootstrap-admin-2"}
    assert len((await kit.catalog()).roles) == 1


async def test_a_binding_of_somebody_who_cannot_come_is_no_admin(kit: AdminKit) -> None:
    """A role bound to a name without a key does not keep the first admin from being made."""
    await kit.apply("revision: 1\nroles: [{role: admin, callers: ['key:later']}]")
    assert await bootstrap(kit, new_key(1))(trail())
    assert await admins(kit) == {"key:bootstrap-admin"}


async def test_the_first_key_stays_dead_whatever_is_deleted_later(kit: AdminKit) -> None:
    """Its end is written down when another admin is there, so that a deleted role does not bring it back."""
    flow = bootstrap(kit, new_key(1))
    await flow(trail())
    await flow.retire(trail())
    (first,) = await kit.store.list_api_keys()
    assert not first.disabled
    await kit.apply("revision: 1\nroles: [{role: admin, callers: ['spiffe://corp.example/ops']}]")
    for _ in range(2):
        await flow.retire(trail())
    (first,) = await kit.store.list_api_keys()
    assert first.disabled
    assert 1 == (await kit.actions()).count(Action.KEY_DISABLE)
    kit.store._objects = {key: value for key, value in kit.store._objects.items() if key[1] == "bootstrap-admin"}
    assert frozenset() == await admins(kit)
