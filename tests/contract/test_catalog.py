"""What is configured: written in one transaction, read as of one version, believed only with its MAC."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction

import pytest
from structlog.testing import capture_logs

from broker.adapters.memory import base
from broker.adapters.memory import catalog as memory_catalog
from broker.adapters.sql import catalog, control, grants
from broker.adapters.sql.outbox import KEPT_MS
from broker.core.errors import RevisionStaleError, StoreUnavailableError
from broker.core.identity import Role
from broker.core.lease import Consented
from broker.core.models import (
    ApiKey,
    Catalog,
    Client,
    Issuer,
    Kind,
    Limit,
    LimitTarget,
    NarrowingProfile,
    NarrowingProof,
    Origin,
    Policy,
    Provider,
    ReplayKind,
    RoleBinding,
    TokenEndpointAuth,
    Window,
)
from broker.ports import CatalogMovedError, ObjectChange
from tests.contract.backends import EVENT, SEALED, Backend, SqlBackend, TestMacKeys, new_grant, put_grant
from tests.support.times import TIMES

PROVIDER = Provider(
    id="p1",
    name="aries",
    origin=Origin.FILE,
    preset="aries",
    issuer="https://auth.example",
    token_url="https://auth.example/token",
    token_endpoint_auth=TokenEndpointAuth.CLIENT_SECRET_JSON,
    scopes={"read": ("account:information",), "withdraw": ()},
    wire_scopes=frozenset({"order:preview", "order:execution"}),
    api_origins=("https://api.example",),
    endpoint_origins=("https://login.example",),
    resources=("urn:api",),
    narrowing=NarrowingProfile.ADDITIONAL,
    proof=NarrowingProof(NarrowingProfile.STICKY, "https://api.example/token"),
    replay_window=30,
    replay_kind=ReplayKind.SAME_TOKEN,
    revocation_url="https://auth.example/revoke",
    refresh_kills_older_access_tokens=True,
    refresh_reply_deadline=10,
    client_credentials_reply_deadline=5,
    unspent_statuses=frozenset({503}),
)
CLIENT = Client(id="c1", name="desk", origin=Origin.RPC, provider="aries", client_id="desk-app")
POLICY = Policy(
    id="o1", name="orders", origin=Origin.FILE, callers=("key:*",), grants=("desk-*",), scopes=frozenset({"read"})
)
LIMIT = Limit(
    id="l1",
    name="per-caller",
    origin=Origin.FILE,
    applies_to=LimitTarget.GET_TOKEN,
    key=("caller",),
    windows=(Window(Fraction(1, 3), 10), Window(Fraction(50), 100)),
)
ISSUER = Issuer(
    id="i1", name="k8s", origin=Origin.FILE, issuer="https://k8s", audience="broker", require={"team": "ops"}
)
ROLE = RoleBinding(id="r1", name="ops", origin=Origin.FILE, role=Role.OPERATOR, callers=("key:ops",))
EVERYTHING = (
    ObjectChange(Kind.PROVIDER, "aries", PROVIDER),
    ObjectChange(Kind.CLIENT, "desk", CLIENT),
    ObjectChange(Kind.POLICY, "orders", POLICY),
    ObjectChange(Kind.LIMIT, "per-caller", LIMIT),
    ObjectChange(Kind.ISSUER, "k8s", ISSUER),
    ObjectChange(Kind.ROLE, "ops", ROLE),
)


async def write(backend: Backend, *changes: ObjectChange, revision: int | None = None) -> int:
    """Write changes with a plain event."""
    return await backend.store.write_objects(changes, revision=revision, event=EVENT)


async def test_what_is_written_is_what_is_loaded(backend: Backend) -> None:
    """Every kind of object comes back equal, as of the version its writing returned."""
    version = await write(backend, *EVERYTHING, revision=7)
    assert (
        Catalog(
            version=version,
            revision=7,
            providers={"aries": PROVIDER},
            clients={"desk": CLIENT},
            policies=(POLICY,),
            limits=(LIMIT,),
            issuers=(ISSUER,),
            roles=(ROLE,),
        )
        == await backend.store.load_catalog()
    )


async def test_a_limit_knows_when_it_was_written_last(backend: Backend) -> None:
    """Its version is that of its own last writing, whatever else was written since."""
    first = await write(backend, *EVERYTHING)
    await write(backend, ObjectChange(Kind.ROLE, "ops", None))
    assert [first] == [limit.version for limit in (await backend.store.load_catalog()).limits]
    again = await write(backend, ObjectChange(Kind.LIMIT, "per-caller", replace(LIMIT, windows=LIMIT.windows[:1])))
    assert [again] == [limit.version for limit in (await backend.store.load_catalog()).limits]


async def test_each_write_is_one_version(backend: Backend) -> None:
    """A write of several objects raises the version by one, and reading the version sees it."""
    first = await write(backend, *EVERYTHING)
    second = await write(backend, ObjectChange(Kind.ROLE, "ops", None))
    assert (first + 1, second) == (second, await backend.store.read_version())


async def test_writes_at_once_come_one_after_another(backend: Backend) -> None:
    """However many write at the same time, each gets a version of its own and nothing is lost."""
    names = [f"g{n}" for n in range(6)]
    changes = [ObjectChange(Kind.GRANT, name, new_grant(name)) for name in names]
    before = await backend.store.read_version()
    versions = await asyncio.gather(*(write(backend, item) for item in changes))
    assert list(range(before + 1, before + 7)) == sorted(versions)
    assert names == [grant.name for grant in await backend.store.list_grants("", 10)]


async def test_a_replaced_object_keeps_its_id(backend: Backend) -> None:
    """Writing a name that is there changes the object, not who it is."""
    await write(backend, *EVERYTHING)
    await write(backend, ObjectChange(Kind.POLICY, "orders", replace(POLICY, id="other", grants=("*",))))
    assert (replace(POLICY, grants=("*",)),) == (await backend.store.load_catalog()).policies


async def test_a_removed_and_made_again_object_is_another(backend: Backend) -> None:
    """A name removed and put again, even in one write, has its new id."""
    await write(backend, *EVERYTHING)
    again = replace(CLIENT, id="c2")
    await write(backend, ObjectChange(Kind.CLIENT, "desk", None), ObjectChange(Kind.CLIENT, "desk", again))
    assert {"desk": again} == (await backend.store.load_catalog()).clients


@pytest.mark.parametrize("revision", [3, 5])
async def test_an_old_revision_changes_nothing(backend: Backend, revision: int) -> None:
    """A revision that is not greater than the stored one is refused whole, told the stored one."""
    version = await write(backend, EVERYTHING[0], revision=5)
    with pytest.raises(RevisionStaleError) as refused:
        await write(backend, *EVERYTHING, revision=revision)
    loaded = await backend.store.load_catalog()
    assert ({"stored_revision": "5"}, version, 5, {}) == (
        refused.value.metadata,
        loaded.version,
        loaded.revision,
        loaded.clients,
    )


async def test_a_write_without_a_revision_leaves_the_stored_one(backend: Backend) -> None:
    """An edit by RPC has no revision and moves none."""
    await write(backend, EVERYTHING[0], revision=5)
    await write(backend, EVERYTHING[1])
    assert 5 == (await backend.store.load_catalog()).revision


async def test_changed_grants_are_named_since_a_version(backend: Backend) -> None:
    """Grants created, changed or removed after a version are named, those before are not, other objects never."""
    first = await put_grant(backend.store, "a")
    since = await backend.store.read_version()
    second = await put_grant(backend.store, "b")
    await write(backend, EVERYTHING[0], ObjectChange(Kind.GRANT, "a", None))
    changed = await backend.store.changed_grants(since)
    assert changed is not None
    assert ({first, second}, []) == (set(changed), await backend.store.changed_grants(since + 2))


async def test_too_many_changed_grants_are_not_named(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """Past a bound, the answer is: drop all."""
    monkeypatch.setattr(catalog, "MANY_GRANTS", 3)
    monkeypatch.setattr(memory_catalog, "_MANY_GRANTS", 3)
    await write(backend, *(ObjectChange(Kind.GRANT, f"g{n}", new_grant(f"g{n}")) for n in range(4)))
    assert await backend.store.changed_grants(0) is None


async def test_changes_of_long_ago_are_not_named(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever fell behind further than changes are kept drops all; nobody is told too little."""
    monkeypatch.setattr(control, "CHANGES_KEPT", 2)
    monkeypatch.setattr(base, "CHANGES_KEPT", 2)
    since = await backend.store.read_version()
    ids = [await put_grant(backend.store, name) for name in "abc"]
    assert [None, ids[1:], ids[2:], []] == [
        named if (named := await backend.store.changed_grants(since + behind)) is None else sorted(named)
        for behind in range(4)
    ]


async def test_changes_do_not_pile_up(sql: SqlBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not named any more is removed by the next change, a consent's too."""
    monkeypatch.setattr(control, "CHANGES_KEPT", 2)
    grant_id = await put_grant(sql.store, "a")
    await put_grant(sql.store, "b")
    newest = await put_grant(sql.store, "c")
    assert {"id-b", newest} == await stored_changes(sql)
    await sql.store.keep_and_consent(grant_id, Consented("t0"), 0, SEALED, None, EVENT, expected_attempt=0)
    assert {newest, grant_id} == await stored_changes(sql)


async def stored_changes(sql: SqlBackend) -> set[str]:
    """Return the ids of everything the table of changes names."""
    return {row["id"] for row in await sql.execute("SELECT id FROM changes")}


async def test_a_write_tells_its_event(backend: Backend) -> None:
    """The event lies in the outbox from the same transaction on, until somebody says it was delivered."""
    await write(backend, *EVERYTHING)
    (pending,) = await backend.store.undelivered(10)
    await backend.store.mark_delivered([pending.id])
    assert (EVENT, []) == (pending.event, await backend.store.undelivered(10))


async def test_delivered_events_do_not_pile_up(sql: SqlBackend) -> None:
    """A delivered event stays as long as its commit may be read back, then goes; one not delivered never does."""
    await write(sql, *EVERYTHING)
    (old,) = await sql.store.undelivered(10)
    await sql.store.mark_delivered([old.id])
    await write(sql, EVERYTHING[0])
    await write(sql, EVERYTHING[0])
    recent, pending = await sql.store.undelivered(10)
    await sql.advance(KEPT_MS - 60_000)
    await sql.store.mark_delivered([recent.id, old.id])
    kept = [await stored_events(sql)]
    await sql.advance(60_000)
    await sql.store.mark_delivered([])
    assert [{old.id, recent.id, pending.id}, {recent.id, pending.id}] == [*kept, await stored_events(sql)]


async def stored_events(sql: SqlBackend) -> set[str]:
    """Return the ids of all events in the outbox, delivered or not."""
    return {row["id"] for row in await sql.execute("SELECT id FROM outbox")}


# --- grants as configured --------------------------------------------------------------------------------------------


async def test_a_grant_is_found_by_name_and_by_id(backend: Backend) -> None:
    """Configuration and a fresh state come back; unknown names and ids are None."""
    grant = new_grant("desk", scopes=frozenset({"read", "trade"}))
    await write(backend, ObjectChange(Kind.GRANT, "desk", grant))
    assert [grant, grant, None, None] == [
        await backend.store.find_grant("desk"),
        await backend.store.get_grant("id-desk"),
        await backend.store.find_grant("other"),
        await backend.store.get_grant("other"),
    ]


async def test_configuration_does_not_touch_what_was_learnt(backend: Backend) -> None:
    """Writing a grant again keeps its id, subject, person, counters and phase."""
    grant_id = await put_grant(backend.store, "desk")
    person = "al at https://corp.example"
    await backend.store.keep_and_consent(
        grant_id, Consented("t0"), 0, SEALED, "alice", EVENT, expected_attempt=0, person=person
    )
    before = await backend.store.find_grant("desk")
    assert before is not None
    assert ("alice", person) == (before.subject, before.person)
    await write(backend, ObjectChange(Kind.GRANT, "desk", new_grant("desk", "other", scopes=frozenset({"trade"}))))
    assert replace(before, scopes=frozenset({"trade"})) == await backend.store.find_grant("desk")


async def test_a_grant_moved_to_another_client_gets_a_new_epoch(backend: Backend) -> None:
    """Cached access tokens of the old client are not the new one's."""
    await put_grant(backend.store, "desk")
    await write(backend, ObjectChange(Kind.GRANT, "desk", new_grant("desk", client="other")))
    grant = await backend.store.find_grant("desk")
    assert grant is not None
    assert ("other", 2) == (grant.client, grant.state.epoch)


async def test_grants_are_listed_in_pages_by_name(backend: Backend) -> None:
    """Pages follow the bytes of the names, start after the name given and do not overlap."""
    for name in ("b", "a-2", "a", "C"):
        await put_grant(backend.store, name)
    first = [grant.name for grant in await backend.store.list_grants("", 3)]
    second = [grant.name for grant in await backend.store.list_grants(first[-1], 3)]
    assert (["C", "a", "a-2"], ["b"]) == (first, second)


@pytest.mark.parametrize(
    ("patterns", "limit", "expected"),
    [
        (["desk"], 5, ["desk"]),
        (["nobody"], 5, []),
        ([], 5, []),
        (["desk-*"], 5, ["desk-eu", "desk-us"]),
        (["*"], 2, ["desk", "desk-eu"]),
        (["*-us", "desk"], 5, ["desk", "desk-us", "fund-us"]),
        (["desk*", "desk-eu"], 5, ["desk", "desk-eu", "desk-us"]),
        (["desk_eu"], 5, []),
        (["de%"], 5, []),
    ],
)
async def test_patterns_find_grants(
    backend: Backend, patterns: Sequence[str], limit: int, expected: Sequence[str]
) -> None:
    """Patterns match as the core's globs do, at most `limit` names, in order; revoked grants are not there."""
    for name in ("desk", "desk-eu", "desk-us", "fund-us"):
        await put_grant(backend.store, name)
    await backend.hold(await put_grant(backend.store, "desk-gone"), "revoked")
    assert expected == await backend.store.match_grants(patterns, limit)


async def test_a_pattern_finds_what_lies_beyond_a_page(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """A match behind pages of names that share its beginning is found."""
    monkeypatch.setattr(grants, "_PAGE", 5)
    many = [ObjectChange(Kind.GRANT, f"g-{n:02}", new_grant(f"g-{n:02}")) for n in range(12)]
    await write(backend, *many, ObjectChange(Kind.GRANT, "g-9-last", new_grant("g-9-last")))
    assert ["g-9-last"] == await backend.store.match_grants(["g-*-last"], 2)


async def test_counters_follow_configuration(backend: Backend) -> None:
    """Grants made and removed move the counters."""
    await put_grant(backend.store, "a")
    await put_grant(backend.store, "b")
    await write(backend, ObjectChange(Kind.GRANT, "a", None), ObjectChange(Kind.GRANT, "nobody", None))
    counts = await backend.store.grant_counts()
    assert {"ok": 1, "quarantined": 0, "unknown": 0, "frozen": 0, "revoked": 0} == counts


# --- a writer of the database can deny, not grant --------------------------------------------------------------------


@pytest.mark.parametrize(
    "tampering",
    [
        """UPDATE objects SET body = replace(body, 'key:*', 'key:**') WHERE kind = 'policy'""",
        "UPDATE objects SET name = 'other' WHERE name = 'orders'",
        "UPDATE objects SET id = 'other' WHERE name = 'orders'",
        "UPDATE objects SET origin = 'rpc' WHERE name = 'orders'",
        "UPDATE objects SET kind = 'role' WHERE name = 'orders'",
        """UPDATE objects SET body = (SELECT o.body FROM objects o WHERE o.name = 'wide')
           WHERE kind = 'policy' AND name = 'orders'""",
        """UPDATE objects SET (body, mac) = (SELECT o.body, o.mac FROM objects o WHERE o.name = 'wide')
           WHERE kind = 'policy' AND name = 'orders'""",
    ],
)
async def test_a_changed_object_is_not_believed(sql: SqlBackend, tampering: str) -> None:
    """A row changed or swapped past the broker makes the whole catalogue unreadable, cause `mac`."""
    wide = ObjectChange(Kind.POLICY, "wide", replace(POLICY, id="o2", name="wide", grants=("*",)))
    await write(sql, *EVERYTHING, wide)
    await sql.execute(tampering)
    with pytest.raises(StoreUnavailableError) as refused, capture_logs() as logged:
        await sql.store.load_catalog()
    assert "mac" == refused.value.cause
    (line,) = logged
    assert ("row_changed_by_somebody_else", "error") == (line["event"], line["log_level"])
    assert line["row"] in {"policy orders", "policy other", "role orders"}


@pytest.mark.parametrize(
    "tampering",
    [
        "client = 'rich'",
        "scopes = '[\"admin\"]'",
        "subject = 'mallory'",
        "person = 'mallory'",
        "name = 'other'",
        "origin = 'rpc'",
    ],
)
async def test_a_changed_grant_is_not_believed(sql: SqlBackend, tampering: str) -> None:
    """A grant's configuration, subject or person changed past the broker is not handed out, nor signed again."""
    await put_grant(sql.store, "desk")
    await sql.execute(f"UPDATE grants SET {tampering}")  # noqa: S608 - the table above
    causes = []
    name = "other" if "name" in tampering else "desk"
    rewrite = [ObjectChange(Kind.GRANT, name, new_grant(name))]
    for call in (
        sql.store.get_grant("id-desk"),
        sql.store.find_grant(name),
        sql.store.list_grants("", 5),
        sql.store.write_objects(rewrite, revision=None, event=EVENT),
    ):
        with pytest.raises(StoreUnavailableError) as refused:
            await call
        causes.append(refused.value.cause)
    assert ["mac"] * 4 == causes


async def test_a_mac_key_made_by_another_replica_is_loaded(sql: SqlBackend) -> None:
    """Rows MACed under a key this process never met are read, and rewritten, once the key is loaded."""
    mine = sql.sql.mac_keys
    assert isinstance(mine, TestMacKeys)
    elsewhere = sql.database.store(TestMacKeys("mac-2"), TIMES)
    await elsewhere.write_objects(EVERYTHING, revision=None, event=EVENT)
    await put_grant(elsewhere, "desk")
    key = ApiKey("kid", "reports", b"mac of the key", "mac-2")
    await elsewhere.add_api_key(key, EVENT)
    for call in (
        sql.store.load_catalog,
        lambda: sql.store.get_grant("id-desk"),
        lambda: sql.store.find_grant("desk"),
        lambda: sql.store.list_grants("", 5),
        lambda: put_grant(sql.store, "desk", client="rich"),
        lambda: sql.store.find_api_key("kid"),
        sql.store.list_api_keys,
        lambda: sql.store.set_api_key(replace(key, disabled=True), EVENT),
    ):
        mine.loaded = {"mac-1"}
        await call()
        mine.loaded, mine.lost = {"mac-1"}, {"mac-2"}
        await put_grant(elsewhere, "desk")
        await elsewhere.set_api_key(key, EVENT)
        with pytest.raises(StoreUnavailableError) as refused:
            await call()
        assert "key" == refused.value.cause
        mine.lost = set()


async def test_a_data_key_in_use_cannot_be_dropped(sql: SqlBackend) -> None:
    """The database itself refuses to delete a key that a row names."""
    await put_grant(sql.store, "desk")
    with pytest.raises(StoreUnavailableError) as refused:
        await sql.execute("DELETE FROM data_keys WHERE id = 'mac-1'")
    assert "constraint" == refused.value.cause


async def test_a_change_decided_on_an_older_version_writes_nothing(backend: Backend) -> None:
    """A writer says on which version it decided; when that moved, nothing is written and it decides again."""
    version = await write(backend, *EVERYTHING, revision=1)
    with pytest.raises(CatalogMovedError):
        await backend.store.write_objects(
            [ObjectChange(Kind.LIMIT, "per-caller", None)], revision=2, event=EVENT, expected_version=version - 1
        )
    catalog = await backend.store.load_catalog()
    assert (version, 1, (LIMIT,)) == (catalog.version, catalog.revision, catalog.limits)
    await backend.store.write_objects(
        [ObjectChange(Kind.LIMIT, "per-caller", None)], revision=2, event=EVENT, expected_version=version
    )
    assert () == (await backend.store.load_catalog()).limits
