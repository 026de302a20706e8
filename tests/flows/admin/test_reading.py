"""What operators read: policies explained by the decision itself, lists in order, the audit log bounded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from broker.core.audit import Action, AuditEvent
from broker.core.errors import AlreadyExistsError, InvalidRequestError, NotFoundError
from broker.core.grant_state import GrantState, Hold
from broker.core.models import Kind
from broker.core.sealing import client_secret_binding
from broker.core.secret import Secret
from broker.flows.add_secret import AddFirstSecret
from broker.flows.explain_policy import ExplainPolicy
from broker.flows.list_events import ListEvents
from broker.flows.read_config import ReadConfig
from tests.flows.admin.kit import AdminKit, trail

FILE = """\
    revision: 1
    providers: [{name: aries, preset: aries}]
    clients: [{name: desk, provider: aries, client_id: a}]
    grants:
      - {name: one, client: desk, type: refresh_token, scopes: [read, trade]}
      - {name: two, client: desk, type: client_credentials, scopes: [read, trade]}
    policies:
      - {name: orders, callers: ["key:orders"], grants: ["*"], scopes: [read, trade, withdraw]}
      - {name: reports, callers: ["key:reports"], grants: [two], scopes: [read]}
    roles:
      - {role: auditor, callers: ["key:audit"]}
"""

CASES = [
    ("key:reports", "two", ["read"], True, "reports", ""),
    ("key:reports", "", ["read"], True, "reports", ""),
    ("key:reports", "two", ["trade"], False, "", "POLICY_DENIED"),
    ("key:reports", "nothing", ["read"], False, "", "POLICY_DENIED"),
    ("key:nobody", "", ["read"], False, "", "GRANT_AMBIGUOUS"),
    ("key:orders", "", ["read"], False, "", "GRANT_AMBIGUOUS"),
    ("key:orders", "two", ["withdraw"], False, "orders", "SCOPE_NOT_SUPPORTED"),
    ("key:orders", "one", ["read"], False, "orders", "SCOPE_NOT_GRANTED"),
    ("key:audit", "two", ["read"], False, "", "POLICY_DENIED"),
]


@pytest.mark.parametrize(("caller", "grant", "scopes", "allowed", "policy", "reason"), CASES)
async def test_an_explanation_says_what_get_token_would(
    kit: AdminKit, caller: str, grant: str, scopes: Sequence[str], allowed: bool, policy: str, reason: str
) -> None:
    """The winning policy, or the reason of the refusal."""
    await kit.apply(FILE)
    explain = ExplainPolicy(catalogs=kit.store, grants=kit.store, audit=kit.audit, clock=kit.clock)
    told = await explain(caller, grant, scopes, trail())
    assert (allowed, policy, reason) == (told.allowed, told.policy, told.reason)
    assert told.considered or caller == "key:nobody"


async def test_a_held_grant_is_explained(kit: AdminKit) -> None:
    """A grant that operators hold is told once policy has passed."""
    await kit.apply(FILE)
    held = GrantState(hold=Hold.FROZEN)
    kit.store._grants = {id_: replace(grant, state=held) for id_, grant in kit.store._grants.items()}
    explain = ExplainPolicy(catalogs=kit.store, grants=kit.store, audit=kit.audit, clock=kit.clock)
    told = await explain("key:reports", "two", ["read"], trail())
    assert (told.allowed, told.policy, told.reason) == (False, "reports", "GRANT_HELD")


@pytest.mark.parametrize(
    ("caller", "scopes", "field"),
    [
        ("reports", ["read"], "caller"),
        ("key:", ["read"], "caller"),
        ("key:a", [], "scopes"),
        ("key:a", ["x"], "scopes"),
    ],
)
async def test_nonsense_is_not_explained(kit: AdminKit, caller: str, scopes: Sequence[str], field: str) -> None:
    """What GetToken would not even look at is refused the same way."""
    explain = ExplainPolicy(catalogs=kit.store, grants=kit.store, audit=kit.audit, clock=kit.clock)
    with pytest.raises(InvalidRequestError) as caught:
        await explain(caller, "", scopes, trail())
    assert list(caught.value.fields) == [field]


async def test_objects_are_listed_in_order_of_names(kit: AdminKit) -> None:
    """A list has one kind, sorted, with version and revision; the reading is recorded."""
    await kit.apply(FILE)
    read = ReadConfig(catalogs=kit.store, grants=kit.store, audit=kit.audit, clock=kit.clock)
    listing = await read.list_objects(Kind.POLICY, trail())
    assert (["orders", "reports"], 1, 1) == (
        [value.name for value in listing.objects],
        listing.revision,
        listing.version,
    )
    assert [Action.ADMIN_READ] == [event.action for event in kit.audit.events]
    with pytest.raises(InvalidRequestError):
        await read.list_objects(Kind.GRANT, trail())


async def test_grants_are_listed_a_page_at_a_time(kit: AdminKit) -> None:
    """Every grant is on exactly one page, and the last page says that it is."""
    await kit.apply(FILE)
    read = ReadConfig(catalogs=kit.store, grants=kit.store, audit=kit.audit, clock=kit.clock)
    first = await read.list_grants("", 1, trail())
    second = await read.list_grants(first.next_after, 1, trail())
    assert [(["one"], "one"), (["two"], "")] == [
        ([shown.grant.name for shown in page.grants], page.next_after) for page in (first, second)
    ]
    for size in (-1, 1001):
        with pytest.raises(InvalidRequestError):
            await read.list_grants("", size, trail())
    with pytest.raises(NotFoundError):
        await read.get_grant("nothing", trail())
    shown, attempts = await read.get_grant("one", trail())
    assert ("one", "", []) == (shown.grant.name, shown.provider_frozen, list(attempts))


async def test_a_grant_shows_that_its_provider_is_frozen(kit: AdminKit) -> None:
    """Shown alone or in the list, a grant says why it is held though its own state is well."""
    await kit.freeze()
    read = ReadConfig(catalogs=kit.store, grants=kit.store, audit=kit.audit, clock=kit.clock)
    shown, _ = await read.get_grant("person", trail())
    why = "discovery names the token endpoint at https://new.example instead of https://id.example"
    assert [why, why] == [shown.provider_frozen, (await read.list_grants("", 9, trail())).grants[0].provider_frozen]


async def test_events_are_bounded(kit: AdminKit) -> None:
    """Nothing said means 100 events; more than 1000 are not given."""

    class Log:
        asked: int = 0

        async def newest(self, limit: int) -> Sequence[AuditEvent]:
            self.asked = limit
            return ()

    log = Log()
    events = ListEvents(log=log, audit=kit.audit, clock=kit.clock)
    for limit, expected in ((0, 100), (1, 1), (1000, 1000)):
        await events(limit, trail())
        assert expected == log.asked
    for limit in (-1, 1001):
        with pytest.raises(InvalidRequestError):
            await events(limit, trail())


async def test_a_first_secret_is_added_once(kit: AdminKit) -> None:
    """A client's first secret is stored; a second one is another story, and nobody's is refused."""
    await kit.apply(FILE)
    add = AddFirstSecret(catalogs=kit.store, first_secrets=kit.first_secrets)
    assert await add("desk", Secret("s"), trail()) == 1
    with pytest.raises(AlreadyExistsError):
        await add("desk", Secret("t"), trail())
    with pytest.raises(NotFoundError):
        await add("nobody", Secret("t"), trail())
    assert (await kit.actions()).count(Action.SECRET_ADD) == 1


async def test_a_secret_is_added_anew_where_the_endpoint_moved(kit: AdminKit) -> None:
    """A secret sealed for another origin counts as none: the next version is bound to the origin there is now, once."""
    await kit.apply(FILE)
    add = AddFirstSecret(catalogs=kit.store, first_secrets=kit.first_secrets)
    await add("desk", Secret("s"), trail())
    moved = FILE.replace("revision: 1", "revision: 2").replace(
        "preset: aries", "preset: aries, base_url: 'https://n.example'"
    )
    await kit.apply(moved)
    assert await add("desk", Secret("t"), trail()) == 2
    with pytest.raises(AlreadyExistsError):
        await add("desk", Secret("u"), trail())
    client = (await kit.catalog()).clients["desk"]
    stored = await kit.store.current_secret(client.id)
    assert stored is not None
    binding = client_secret_binding(client.id, 2, "https://n.example")
    assert Secret("t") == await kit.keyring.open(stored.sealed, binding)
    assert ["version 1", "version 2"] == [
        event.detail for event in await kit.events() if event.action is Action.SECRET_ADD
    ]


async def test_a_secret_may_be_put_in_another_s_place(kit: AdminKit) -> None:
    """The provider refuses the one there is: another one, asked for so, is the next version and used from then on."""
    await kit.apply(FILE)
    add = AddFirstSecret(catalogs=kit.store, first_secrets=kit.first_secrets)
    assert 1 == await add("desk", Secret("canary-1"), trail(), replace=True)
    assert 2 == await add("desk", Secret("canary-2"), trail(), replace=True)
    assert 3 == await add("desk", Secret("canary-3"), trail(), replace=True)
    stored = await kit.store.current_secret((await kit.catalog()).clients["desk"].id)
    assert stored is not None
    assert 3 == stored.version
