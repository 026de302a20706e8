"""Editing one object by RPC: the file's objects are the file's until they are detached."""

from __future__ import annotations

import asyncio

import pytest

from broker.core.audit import Action
from broker.core.errors import InvalidRequestError, NotFoundError, OriginConflictError, RevisionStaleError
from broker.core.models import Kind, Origin
from tests.flows.admin.kit import AdminKit, config, trail

FILE = """\
    revision: 1
    providers: [{name: aries, preset: aries}]
    clients: [{name: desk, provider: aries, client_id: a}]
    grants: [{name: g, client: desk, type: client_credentials, scopes: [read]}]
"""
CLIENT = "revision: 1\nclients: [{name: desk, provider: aries, client_id: b}]"


async def refused(kit: AdminKit, text: str) -> dict[str, str]:
    """Put an object that is refused; return the wrong fields."""
    with pytest.raises(InvalidRequestError) as caught:
        await kit.put(text)
    return dict(caught.value.fields)


async def test_an_object_is_created_and_replaced(kit: AdminKit) -> None:
    """A put creates, and put again replaces and keeps the id; each is told in its own event."""
    await kit.apply(FILE)
    first = await kit.put("revision: 1\nclients: [{name: more, provider: aries, client_id: a}]")
    before = (await kit.catalog()).clients["more"]
    second = await kit.put("revision: 1\nclients: [{name: more, provider: aries, client_id: b}]")
    after = (await kit.catalog()).clients["more"]
    assert (first.created, second.created) == (True, False)
    assert first.version < second.version
    assert (before.id, before.origin, after.client_id) == (after.id, Origin.RPC, "b")
    events = (await kit.events())[1:]
    assert [(event.action, event.object_kind, event.object_name, event.detail) for event in events] == [
        (Action.CONFIG_PUT, "client", "more", "created"),
        (Action.CONFIG_PUT, "client", "more", "replaced"),
    ]


async def test_the_file_s_objects_need_detach(kit: AdminKit) -> None:
    """Without detach a put and a removal of a file's object change nothing; with it the object is an RPC's."""
    await kit.apply(FILE)
    before = await kit.catalog()
    with pytest.raises(OriginConflictError, match="--detach") as caught:
        await kit.put(CLIENT)
    assert caught.value.metadata == {"kind": "client", "name": "desk"}
    with pytest.raises(OriginConflictError):
        await kit.remove(Kind.GRANT, "g")
    assert before == await kit.catalog()
    put = await kit.put(CLIENT, detach=True)
    after = (await kit.catalog()).clients["desk"]
    assert (put.created, after.origin, after.client_id) == (False, Origin.RPC, "b")
    assert after.id == before.clients["desk"].id
    assert (await kit.events())[-1].detail == "replaced, was the file's"
    await kit.remove(Kind.GRANT, "g", detach=True)
    assert await kit.store.find_grant("g") is None


async def test_after_a_detach_the_same_file_is_stale_and_the_next_one_conflicts(kit: AdminKit) -> None:
    """A file that still names a detached object does not take it back silently."""
    await kit.apply(FILE)
    await kit.put(CLIENT, detach=True)
    with pytest.raises(RevisionStaleError):
        await kit.apply(FILE)
    assert list(await kit.refused(FILE.replace("revision: 1", "revision: 2"))) == ["clients[0].name"]


async def test_what_is_needed_is_not_removed(kit: AdminKit) -> None:
    """A provider with clients, a client with grants and an issuer with policies stay."""
    await kit.put("revision: 1\nproviders: [{name: aries, preset: aries}]")
    await kit.put("revision: 1\nclients: [{name: desk, provider: aries, client_id: a}]")
    await kit.put("revision: 1\ngrants: [{name: g, client: desk, type: client_credentials, scopes: [read]}]")
    await kit.put("revision: 1\nissuers: [{name: k8s, issuer: i, audience: a, jwks_uri: 'https://i/j'}]")
    await kit.put("revision: 1\npolicies: [{name: p, callers: ['k8s:x'], grants: [g], scopes: [read]}]")
    for kind, name in ((Kind.PROVIDER, "aries"), (Kind.CLIENT, "desk"), (Kind.ISSUER, "k8s")):
        with pytest.raises(InvalidRequestError, match="still needs"):
            await kit.remove(kind, name)
    for kind, name in (
        (Kind.POLICY, "p"), (Kind.ISSUER, "k8s"), (Kind.GRANT, "g"), (Kind.CLIENT, "desk"), (Kind.PROVIDER, "aries"),
    ):  # fmt: skip
        await kit.remove(kind, name)
    assert (await kit.events())[-1].action is Action.CONFIG_REMOVE


async def test_an_unknown_object_is_not_found(kit: AdminKit) -> None:
    """Removing what is not there says so."""
    with pytest.raises(NotFoundError) as caught:
        await kit.remove(Kind.POLICY, "nothing")
    assert caught.value.metadata == {"kind": "policy", "name": "nothing"}


async def test_plain_http_is_the_file_s_alone(kit: AdminKit) -> None:
    """By RPC no provider is spoken to in plaintext, not even on loopback."""
    text = "revision: 1\nproviders: [{name: a, preset: aries, base_url: 'http://127.0.0.1:1', insecure_loopback: true}]"
    assert await refused(kit, text) == {"object.insecure_loopback": "plain http is allowed by the file only"}
    await kit.apply(text)


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("clients: [{name: Desk, provider: nowhere, client_id: a}]", {"object.name", "object.provider"}),
        (
            "policies: [{name: p, callers: ['key:*'], grants: [g], scopes: [x]}]",
            {"object.callers[0]", "object.scopes[0]"},
        ),
        ("grants: [{name: g, client: desk, type: refresh_token, scopes: [read]}]", {"object.type"}),
        ("grants: [{name: h, client: desk, type: refresh_token, scopes: [admin]}]", {"object.scopes[0]"}),
        ("", {"object"}),
        ("clients: [{name: a, provider: b, client_id: c}, {name: b, provider: b, client_id: c}]", {"object"}),
    ],
)
async def test_what_is_wrong_is_told_at_the_object_s_fields(kit: AdminKit, text: str, fields: set[str]) -> None:
    """The fields are those of the request, not of a file."""
    await kit.put("revision: 1\nproviders: [{name: aries, preset: aries}]")
    await kit.put("revision: 1\nclients: [{name: desk, provider: aries, client_id: a}]")
    await kit.put("revision: 1\ngrants: [{name: g, client: desk, type: client_credentials, scopes: [read]}]")
    assert fields == set(await refused(kit, f"revision: 1\n{text}"))


async def test_the_last_admin_stays(kit: AdminKit) -> None:
    """Neither removing nor replacing a binding may leave nobody who can act as admin."""
    await kit.add_key("alice")
    await kit.put("revision: 1\nroles: [{role: admin, callers: ['key:alice']}]")
    with pytest.raises(InvalidRequestError, match="nobody could act as admin"):
        await kit.remove(Kind.ROLE, "admin")
    assert "object" in await refused(kit, "revision: 1\nroles: [{role: admin, callers: ['key:nobody']}]")
    await kit.put("revision: 1\nroles: [{role: admin, name: more, callers: ['spiffe://corp.example/ops']}]")
    await kit.remove(Kind.ROLE, "admin")


async def test_the_first_admin_s_key_does_not_come_back_to_life(kit: AdminKit) -> None:
    """Once another admin was there, removing that one is refused although the first admin's day is not over."""
    await kit.add_key("bootstrap-admin", bootstrap_until=int(kit.clock.now()) + 3600)
    await kit.put("revision: 1\nroles: [{role: admin, name: first, callers: ['key:bootstrap-admin']}]")
    await kit.add_key("alice")
    await kit.put("revision: 1\nroles: [{role: admin, callers: ['key:alice']}]")
    with pytest.raises(InvalidRequestError, match="nobody could act as admin"):
        await kit.remove(Kind.ROLE, "admin")
    with pytest.raises(InvalidRequestError, match="nobody could act as admin"):
        await kit.api_keys.disable("alice", trail())
    await kit.remove(Kind.ROLE, "first")


async def test_removing_the_issuer_of_the_only_admin_is_refused(kit: AdminKit) -> None:
    """Who vouches for the last admin stays as well."""
    await kit.put("revision: 1\nissuers: [{name: sso, issuer: i, audience: a, jwks_uri: 'https://i/j'}]")
    await kit.put("revision: 1\nroles: [{role: admin, callers: ['sso:alice']}]")
    with pytest.raises(InvalidRequestError) as caught:
        await kit.remove(Kind.ISSUER, "sso")
    assert "the role binding 'admin' still needs the issuer 'sso'" in caught.value.fields["name"]


async def test_concurrent_edits_come_one_after_another(kit: AdminKit) -> None:
    """While one change is checked and written, the next one waits."""
    await kit.changing.acquire()

    waiting = asyncio.create_task(
        kit.edit.put(config("revision: 1\nproviders: [{name: a, preset: aries}]"), trail(), detach=False)
    )
    await asyncio.sleep(0)
    assert (await kit.catalog()).version == 0
    kit.changing.release()
    assert (await waiting).created


async def test_a_grant_that_holds_a_token_is_not_removed(kit: AdminKit) -> None:
    """Its removal, and that of the client and provider it hangs on, is refused until it has been revoked."""
    await kit.put("revision: 1\nproviders: [{name: aries, preset: aries}]")
    await kit.put(CLIENT)
    await kit.put("revision: 1\ngrants: [{name: g, client: desk, type: refresh_token, scopes: [read]}]")
    await kit.consent("g")
    with pytest.raises(InvalidRequestError, match="aries-broker admin grants revoke g") as caught:
        await kit.remove(Kind.GRANT, "g")
    assert ["name"] == list(caught.value.fields)
    for kind, name in ((Kind.CLIENT, "desk"), (Kind.PROVIDER, "aries")):
        with pytest.raises(InvalidRequestError, match="still needs"):
            await kit.remove(kind, name)
    await kit.revoke("g")
    await kit.remove(Kind.GRANT, "g")
    assert await kit.store.find_grant("g") is None
