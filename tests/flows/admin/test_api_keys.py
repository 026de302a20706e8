"""API keys: made once, shown without their secret, ended for good."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from broker.core.api_keys import maced_api_key, parse_api_key_id
from broker.core.audit import Action
from broker.core.errors import AlreadyExistsError, InvalidRequestError, NotFoundError
from broker.core.models import ApiKey
from tests.flows.admin.kit import AdminKit, trail


async def test_a_key_proves_its_name(kit: AdminKit) -> None:
    """The key made verifies against its row, which holds no secret, and its event names only the id."""
    made = await kit.api_keys.create("reports", trail())
    row = await kit.store.find_api_key(parse_api_key_id(made.secret) or "")
    assert row == made.key
    assert kit.keyring.verify(row.mac_key_id, maced_api_key(made.secret, "reports", None), row.mac)
    (event,) = await kit.events()
    assert (event.action, event.object_kind, event.object_name) == (Action.KEY_CREATE, "api_key", "reports")
    assert event.detail == f"id {made.key.id}"
    assert [made.key] == await kit.api_keys.list_keys(trail())
    assert [Action.ADMIN_READ] == [event.action for event in kit.audit.events]


@pytest.mark.parametrize("name", ["", "a" * 65, "a:b", "a/b", "ä", "a b", "a*", "bootstrap-admin", "bootstrap-admin-2"])
async def test_a_name_is_plain_and_not_the_broker_s_own(kit: AdminKit, name: str) -> None:
    """Names have no separators and wildcards, and the first admin's are kept."""
    with pytest.raises(InvalidRequestError) as caught:
        await kit.api_keys.create(name, trail())
    assert list(caught.value.fields) == ["name"]
    assert await kit.actions() == []


async def test_a_name_is_used_once(kit: AdminKit) -> None:
    """A name stays its key's, also when that is disabled: who had it is in the audit log."""
    await kit.api_keys.create("reports", trail())
    await kit.api_keys.disable("reports", trail())
    with pytest.raises(AlreadyExistsError):
        await kit.api_keys.create("reports", trail())


async def test_a_key_is_ended(kit: AdminKit) -> None:
    """A disabled key stays disabled, and ending it again tells nothing new."""
    await kit.api_keys.create("reports", trail())
    await kit.api_keys.disable("reports", trail())
    await kit.api_keys.disable("reports", trail())
    assert [True] == [key.disabled for key in await kit.store.list_api_keys()]
    assert await kit.actions() == [Action.KEY_CREATE, Action.KEY_DISABLE]
    with pytest.raises(NotFoundError):
        await kit.api_keys.disable("nobody", trail())


async def test_the_last_admin_s_key_is_not_ended(kit: AdminKit) -> None:
    """The key of the only caller that can act as admin stays; with another admin it goes."""
    await kit.api_keys.create("alice", trail())
    await kit.put("revision: 1\nroles: [{role: admin, callers: ['key:alice', 'key:bob']}]")
    with pytest.raises(InvalidRequestError, match="nobody could act as admin"):
        await kit.api_keys.disable("alice", trail())
    await kit.api_keys.create("bob", trail())
    await kit.api_keys.disable("alice", trail())


async def test_two_replicas_do_not_end_the_last_two_admins(kit: AdminKit, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key ended by another process after this one looked is seen before this one ends its own."""
    for name in ("alice", "bob"):
        await kit.api_keys.create(name, trail())
    await kit.put("revision: 1\nroles: [{role: admin, callers: ['key:alice', 'key:bob']}]")
    look = kit.store.list_api_keys

    async def overtaken() -> Sequence[ApiKey]:
        seen = await look()
        (alice,) = (key for key in seen if key.name == "alice")
        if not alice.disabled:
            event = trail().event(Action.KEY_DISABLE, 0.0)
            await kit.store.set_api_key(replace(alice, disabled=True), event)
        return seen

    monkeypatch.setattr(kit.store, "list_api_keys", overtaken)
    with pytest.raises(InvalidRequestError, match="nobody could act as admin"):
        await kit.api_keys.disable("bob", trail())
    assert {"alice": True, "bob": False} == {key.name: key.disabled for key in await look()}
