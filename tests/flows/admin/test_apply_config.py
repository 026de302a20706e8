"""Applying a file: all or nothing, once, and only what is the file's."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from broker.core.audit import Action
from broker.core.errors import InvalidRequestError, ProviderUnavailableError, RevisionStaleError, StoreUnavailableError
from broker.core.models import Kind, NarrowingProfile, NarrowingProof, Origin
from broker.core.sealing import client_secret_binding
from broker.core.secret import Secret
from broker.ports import CatalogMovedError, ClientSecretVersion, ObjectChange, SecretUnreadableError
from tests.flows.admin.kit import AdminKit, Source, config, names, trail
from tests.support.waiting import until

BASE = """\
    revision: {revision}
    providers:
      - {{name: aries, preset: aries}}
    clients:
      - {{name: desk, provider: aries, client_id: desk-app}}
    grants:
      - {{name: desk-service, client: desk, type: client_credentials, scopes: [read, trade]}}
    policies:
      - {{name: reports, callers: ["key:reports"], grants: [desk-service], scopes: [read]}}
    limits:
      - {{name: per-caller, applies_to: get_token, key: [caller], rate: 50/s, burst: 100}}
    issuers:
      - {{name: k8s, issuer: "https://kube.example", audience: aries-broker, jwks_file: /etc/jwks.json}}
    roles:
      - {{role: rotator, callers: ["spiffe://corp.example/ns/ops/*"]}}
"""
GENERIC = """\
    revision: {revision}
    providers:
      - {{name: corp, preset: generic, issuer: "https://id.example"}}
"""


def base(revision: int = 1) -> str:
    """Return a file with one object of each kind."""
    return BASE.format(revision=revision)


async def test_a_file_is_applied(kit: AdminKit) -> None:
    """The first apply creates every object, raises version and revision once, and is told in one event."""
    applied = await kit.apply(base())
    assert applied.created == (
        "client/desk",
        "grant/desk-service",
        "issuer/k8s",
        "limit/per-caller",
        "policy/reports",
        "provider/aries",
        "role/rotator",
    )
    assert (applied.updated, applied.removed, applied.warnings) == ((), (), ())
    catalog = await kit.catalog()
    assert (applied.version, 1) == (catalog.version, catalog.revision)
    assert names(catalog, Origin.FILE) == {"aries", "desk", "reports", "per-caller", "k8s", "rotator"}
    assert (await kit.grant("desk-service")).origin is Origin.FILE
    (event,) = await kit.events()
    assert (event.action, event.actor, event.object_name) == (Action.CONFIG_APPLY, "key:ops", "revision 1")
    assert event.detail.startswith("7 created, 0 updated, 0 removed: created client/desk")


async def test_the_same_file_again_changes_nothing(kit: AdminKit) -> None:
    """A second apply of a revision writes nothing and tells of nothing."""
    first = await kit.apply(base())
    again = await kit.apply(base())
    assert (again.created, again.updated, again.removed) == ((), (), ())
    assert first.version == again.version
    assert [Action.CONFIG_APPLY] == await kit.actions()


async def test_a_greater_revision_of_the_same_content_only_raises_it(kit: AdminKit) -> None:
    """The revision follows the file even when nothing else does."""
    await kit.apply(base())
    before = await kit.catalog()
    applied = await kit.apply(base(7))
    after = await kit.catalog()
    assert (applied.created, applied.updated, applied.removed) == ((), (), ())
    assert after.revision == 7
    assert replace(before, version=after.version, revision=7) == after


@pytest.mark.parametrize(
    ("text", "public"),
    [
        (base(2), "a newer revision of the file was applied"),
        (base(3).replace("50/s", "60/s"), "this revision was applied with other content: raise it"),
        ("revision: 3\n", "this revision was applied with other content: raise it"),
        (
            base(3) + "      - {role: auditor, callers: [key:audit]}\n",
            "this revision was applied with other content: raise it",
        ),
    ],
)
async def test_a_stale_revision_is_refused(kit: AdminKit, text: str, public: str) -> None:
    """An older revision, or the same with other content, is refused with the one that is stored."""
    await kit.apply(base(3))
    before = await kit.catalog()
    with pytest.raises(RevisionStaleError, match=public) as caught:
        await kit.apply(text)
    assert caught.value.metadata == {"stored_revision": "3"}
    assert before == await kit.catalog()


async def test_an_update_keeps_ids_and_states(kit: AdminKit) -> None:
    """Apply replaces configuration: ids, a provider's freeze and a grant's state stay."""
    await kit.apply(base())
    before = await kit.catalog()
    event = trail().event(Action.PROVIDER_FREEZE, kit.clock.now())
    proof = NarrowingProof(NarrowingProfile.ADDITIONAL, before.providers["aries"].token_url)
    frozen = replace(before.providers["aries"], frozen=True, proof=proof)
    await kit.store.write_objects([ObjectChange(Kind.PROVIDER, "aries", frozen)], revision=None, event=event)
    grant = await kit.grant("desk-service")
    applied = await kit.apply(
        base(2)
        .replace("preset: aries}", "preset: aries, narrowing: additional}")
        .replace("[read, trade]", "[read]")
        .replace("desk-app", "desk-app-2")
    )
    after = await kit.catalog()
    assert applied.updated == ("client/desk", "grant/desk-service", "provider/aries")
    assert after.providers["aries"].id == before.providers["aries"].id
    assert (True, proof, ()) == (after.providers["aries"].frozen, after.providers["aries"].proof, applied.warnings)
    assert after.clients["desk"].id == before.clients["desk"].id
    now = await kit.grant("desk-service")
    assert (now.id, now.state, now.scopes) == (grant.id, grant.state, frozenset({"read"}))


async def test_a_state_that_moved_is_no_difference(kit: AdminKit) -> None:
    """A grant that got a refresh token and a provider that was frozen are as the file wants them."""
    text = base().replace("client_credentials", "refresh_token")
    await kit.apply(text)
    await kit.consent("desk-service")
    event = trail().event(Action.PROVIDER_FREEZE, kit.clock.now())
    frozen = replace((await kit.catalog()).providers["aries"], frozen=True)
    await kit.store.write_objects([ObjectChange(Kind.PROVIDER, "aries", frozen)], revision=None, event=event)
    for revision in (1, 2):
        applied = await kit.apply(text.replace("revision: 1", f"revision: {revision}"))
        assert (applied.created, applied.updated, applied.removed) == ((), (), ())


async def test_apply_touches_only_the_file_s_objects(kit: AdminKit) -> None:
    """Objects made by RPC stay, whatever the file says; the file's own go when it no longer names them."""
    await kit.apply(base())
    await kit.put("revision: 1\nroles: [{name: more, role: auditor, callers: ['key:audit']}]")
    await kit.put("revision: 1\nlimits: [{name: rpc, applies_to: admin, key: [caller], rate: 1/s, burst: 1}]")
    applied = await kit.apply("revision: 2\n")
    catalog = await kit.catalog()
    assert applied.removed == (
        "client/desk",
        "grant/desk-service",
        "issuer/k8s",
        "limit/per-caller",
        "policy/reports",
        "provider/aries",
        "role/rotator",
    )
    assert names(catalog, Origin.FILE) == set()
    assert names(catalog, Origin.RPC) == {"more", "rpc"}


async def test_a_name_made_by_rpc_is_not_taken_over(kit: AdminKit) -> None:
    """A file that names an object of origin rpc is refused, and says what to do."""
    await kit.put("revision: 1\nroles: [{role: rotator, callers: ['key:r']}]")
    assert await kit.refused(base()) == {
        "roles[0].name": "the role 'rotator' exists already, made by RPC or detached from the file: "
        "remove one of the two"
    }


async def test_what_is_needed_by_rpc_objects_is_not_removed(kit: AdminKit) -> None:
    """The file cannot drop a provider, a client or an issuer that an object of origin rpc needs."""
    await kit.apply(base())
    await kit.put("revision: 1\nclients: [{name: other, provider: aries, client_id: x}]")
    await kit.put("revision: 1\ngrants: [{name: more, client: desk, type: refresh_token, scopes: [read]}]")
    await kit.put("revision: 1\npolicies: [{name: p, callers: ['k8s:a:b'], grants: [more], scopes: [read]}]")
    before = await kit.catalog()
    assert await kit.refused("revision: 2\n") == {
        "providers": "the client 'other' still needs the provider 'aries'",
        "clients": "the grant 'more' still needs the client 'desk'",
        "issuers": "the policy 'p' still needs the issuer 'k8s'",
    }
    assert before == await kit.catalog()


async def test_nobody_signs_in_where_openid_is_not_spoken(kit: AdminKit) -> None:
    """No ID token would come."""
    desk = "{name: desk, preset: aries, base_url: 'https://other.example'}"
    aries = "{name: aries, preset: aries, connect_login: desk}"
    assert {
        "providers[1].connect_login": "nobody signs in with the client 'desk': 'desk' does not speak OpenID Connect"
    } == await kit.refused(
        f"revision: 1\nproviders: [{desk}, {aries}]\nclients: [{{name: desk, provider: desk, client_id: b}}]"
    )


async def test_a_client_that_people_sign_in_with_is_not_removed(kit: AdminKit) -> None:
    """It has to be there before, be of another provider, and stay while the provider names it."""
    corp = "{name: corp, preset: generic, token_url: 'https://corp.example/t', token_endpoint_auth: client_secret_post}"
    aries = "{name: aries, preset: aries, connect_login: corp}"
    refused = [
        await kit.refused(f"revision: 1\nproviders: [{aries}]"),
        await kit.refused(
            f"revision: 1\nproviders: [{aries}]\nclients: [{{name: corp, provider: aries, client_id: b}}]"
        ),
    ]
    assert [
        {"providers[0].connect_login": "there is no client called 'corp'"},
        {
            "providers[0].connect_login": (
                "the client 'corp' is one of the provider 'aries' itself: people sign in where they are known already"
            )
        },
    ] == refused
    await kit.apply(f"revision: 1\nproviders: [{corp}]\nclients: [{{name: corp, provider: corp, client_id: b}}]")
    await kit.put(f"revision: 1\nproviders: [{aries}]")
    moved = await kit.refused(
        f"revision: 2\nproviders: [{corp}]\nclients: [{{name: corp, provider: aries, client_id: b}}]"
    )
    assert ["clients"] == list(moved)
    needed = "the provider 'aries' still needs the client 'corp'"
    assert {"clients": needed} == await kit.refused(f"revision: 2\nproviders: [{corp}]")


async def test_everything_wrong_is_told_at_once(kit: AdminKit) -> None:
    """Spelling, names that lead nowhere and scopes a provider lacks come together; nothing is applied."""
    text = """\
        revision: 1
        providers:
          - {name: aries, preset: aries}
        clients:
          - {name: Desk, provider: nowhere, client_id: a}
          - {name: desk, provider: aries, client_id: a}
        grants:
          - {name: a, client: nobody, type: password, scopes: [read]}
          - {name: b, client: desk, type: client_credentials, scopes: [read, withdraw]}
        policies:
          - {name: p, callers: ["k8s:x"], grants: ["a**b"], scopes: [order:everything], accept_excess: [withdraw]}
        """
    assert await kit.refused(text) == {
        "clients[0].name": "a name has lower-case letters, digits, `.`, `_` and `-`, begins with a letter or digit, "
        "and is at most 63 long",
        "clients[0].provider": "there is no provider called 'nowhere'",
        "grants[0].type": "must be one of client_credentials, refresh_token",
        "grants[0].client": "there is no client called 'nobody'",
        "grants[1].scopes[1]": "the provider 'aries' maps no scope to 'withdraw'",
        "policies[0].callers[0]": "there is no issuer called 'k8s'",
        "policies[0].grants[0]": "`**` may only be the whole last segment",
        "policies[0].scopes[0]": "no provider has the scope 'order:everything'",
        "policies[0].accept_excess[0]": "withdraw is never accepted unasked",
    }
    assert (await kit.catalog()).version == 0


@pytest.mark.parametrize(
    ("change", "field"),
    [("type: refresh_token", "grants[0].type"), ("client: other", "grants[0].client")],
)
async def test_a_grant_does_not_become_another(kit: AdminKit, change: str, field: str) -> None:
    """A grant's type, and the client its refresh token belongs to, stay what they are."""
    kinds = ("client_credentials", "refresh_token") if "type" in change else ("refresh_token", "refresh_token")
    text = """\
        revision: {revision}
        providers: [{{name: aries, preset: aries}}]
        clients:
          - {{name: desk, provider: aries, client_id: a}}
          - {{name: other, provider: aries, client_id: b}}
        grants: [{{name: g, client: {client}, type: {type}, scopes: [read]}}]
        """
    await kit.apply(text.format(revision=1, client="desk", type=kinds[0]))
    client = "other" if "client" in change else "desk"
    assert list(await kit.refused(text.format(revision=2, client=client, type=kinds[1]))) == [field]


async def test_the_last_admin_is_not_removed(kit: AdminKit) -> None:
    """A file that leaves nobody who can act as admin is refused; a name without a key is nobody."""
    await kit.add_key("alice")
    await kit.apply("revision: 1\nroles: [{role: admin, callers: ['key:alice']}]")
    message = "nobody could act as admin any more: bind the role to a caller that can prove who it is, first"
    assert await kit.refused("revision: 2\n") == {"roles": message}
    assert await kit.refused("revision: 2\nroles: [{role: admin, callers: ['key:nobody']}]") == {"roles": message}
    await kit.apply("revision: 2\nroles: [{role: admin, callers: ['spiffe://corp.example/ops']}]")


async def test_a_dry_run_checks_and_changes_nothing(kit: AdminKit) -> None:
    """A dry run tells what would be done and refuses what would be refused."""
    applied = await kit.apply(base(), {"desk": Secret("s")}, dry_run=True)
    assert len(applied.created) == 7
    assert (await kit.catalog()).version == 0
    assert await kit.store.find_grant("desk-service") is None
    with pytest.raises(InvalidRequestError):
        await kit.apply_config(
            config("revision: 1\nclients: [{name: a, provider: b, client_id: c}]"), {}, trail(), dry_run=True
        )


async def test_another_process_s_change_is_seen_before_anything_is_written(kit: AdminKit) -> None:
    """A replica that applies a later revision meanwhile wins: the change is decided anew, on what is there then."""
    other = AdminKit(kit.keyring, store=kit.store)
    write = kit.store.write_objects
    applied: list[bool] = []

    async def write_late(*args: Any, **kwargs: Any) -> int:  # noqa: ANN401 - handed on as they are
        if not applied:
            applied.append(True)
            await other.apply(base(5))
        return await write(*args, **kwargs)

    kit.store.write_objects = write_late  # type: ignore[method-assign]  # the moment before the write
    with pytest.raises(RevisionStaleError, match="a newer revision"):
        await kit.apply("revision: 2\n")
    assert (await kit.catalog()).revision == 5


async def test_a_configuration_that_never_rests_is_told(kit: AdminKit) -> None:
    """After some rounds the apply gives up and says that nothing was changed."""

    async def moved(*_: Any, **__: Any) -> int:  # noqa: ANN401 - whatever it is
        raise CatalogMovedError

    kit.store.write_objects = moved  # type: ignore[method-assign]  # somebody is always faster
    with pytest.raises(StoreUnavailableError, match="keeps changing"):
        await kit.apply(base())


# --- first secrets ---------------------------------------------------------------------------------------------------


async def test_a_first_secret_is_stored_and_bound_to_the_token_endpoint(kit: AdminKit) -> None:
    """A client without a secret gets the one that came with the file, sealed for its provider's origin."""
    await kit.apply(base(), {"desk": Secret("hunter2")})
    client = (await kit.catalog()).clients["desk"]
    stored = await kit.store.current_secret(client.id)
    assert stored is not None
    assert (stored.version, stored.token_origin) == (1, "https://api.aries.com")
    binding = client_secret_binding(client.id, 1, "https://api.aries.com")
    assert await kit.keyring.open(stored.sealed, binding) == Secret("hunter2")
    added = (await kit.events())[-1]
    assert (added.action, added.object_name, added.client) == (Action.SECRET_ADD, "desk", "desk")
    assert "hunter2" not in repr(await kit.events())


async def test_a_later_secret_is_ignored_with_a_warning(kit: AdminKit) -> None:
    """The store wins: a changed value is told, the same value is not, and nothing is replaced."""
    await kit.apply(base(), {"desk": Secret("first")})
    assert (await kit.apply(base(), {"desk": Secret("first")})).warnings == ()
    warning = "client/desk: it has another secret already, which stays"
    assert (await kit.apply(base(), {"desk": Secret("second")})).warnings == (warning,)
    assert (await kit.apply(base(2), {"desk": Secret("second")})).warnings == (warning,)
    assert (await kit.actions()).count(Action.SECRET_ADD) == 1


async def test_a_secret_that_no_longer_opens_counts_as_another(kit: AdminKit) -> None:
    """What was sealed for another row is nothing to compare with: the store's stays, and that is told."""
    await kit.apply(base())
    client = (await kit.catalog()).clients["desk"]
    elsewhere = await kit.keyring.seal(Secret("first"), client_secret_binding("another", 1, "https://api.aries.com"))
    event = trail().event(Action.SECRET_ADD, kit.clock.now())
    await kit.store.add_secret(ClientSecretVersion(client.id, 1, elsewhere, "https://api.aries.com"), event)
    assert len((await kit.apply(base(), {"desk": Secret("first")})).warnings) == 1


async def test_wrong_providers_do_not_hide_what_else_is_wrong(kit: AdminKit) -> None:
    """Scopes are checked whatever else is wrong with a provider, but its preset, which brings them."""
    text = base().replace("[read, trade]", "[nonsense]").replace("desk-app", '""')
    fields = {"providers[0].preset", "clients[0].client_id"}
    assert fields == set(await kit.refused(text.replace("preset: aries", "preset: other")))
    fields = {"providers[0].base_url", "clients[0].client_id", "grants[0].scopes[0]", "policies[0].scopes[0]"}
    text = text.replace("scopes: [read]", "scopes: [unheard]")
    assert fields == set(await kit.refused(text.replace("preset: aries", "preset: aries, base_url: 'http://x'")))


async def test_a_source_is_read_only_while_the_client_has_no_secret(kit: AdminKit) -> None:
    """Once a client has a secret, the place of its first one is not even looked at."""
    source = Source(Secret("first"))
    await kit.apply(base(), {"desk": source})
    await kit.apply(base(), {"desk": source})
    await kit.apply(base(2), {"desk": source})
    assert source.read_times == 1


async def test_a_secret_missing_after_a_crash_is_stored_by_the_same_file(kit: AdminKit) -> None:
    """An apply that ended between its objects and its secrets is completed by the next one."""
    await kit.apply(base())
    await kit.apply(base(), {"desk": Source(Secret("first"))})
    assert await kit.store.current_secret((await kit.catalog()).clients["desk"].id) is not None


async def test_a_secret_that_cannot_be_read_stops_the_apply(kit: AdminKit) -> None:
    """Nothing is applied when a first secret is needed and not there, or is for nobody."""

    class Broken:
        def read(self) -> Secret:
            raise SecretUnreadableError("the file is empty")

    with pytest.raises(InvalidRequestError) as caught:
        await kit.apply(base(), {"desk": Broken(), "nobody": Secret("s")})
    assert caught.value.fields == {
        "clients[0].secret": "the client 'desk' has no secret yet, and the file is empty",
        "first_secrets": "there is no client called 'nobody'",
    }
    assert (await kit.catalog()).version == 0


async def test_a_missing_secret_is_told_with_all_that_is_wrong(kit: AdminKit) -> None:
    """What is wrong with objects does not hide a secret that is missing, nor the other way round."""

    class Broken:
        def read(self) -> Secret:
            raise SecretUnreadableError("the file is empty")

    with pytest.raises(InvalidRequestError) as caught:
        await kit.apply(base().replace("[read, trade]", "[nonsense]"), {"desk": Broken()})
    assert {"clients[0].secret", "grants[0].scopes[0]"} == set(caught.value.fields)


async def test_a_dry_run_says_whose_secret_is_needed(kit: AdminKit) -> None:
    """Clients whose first secret is stored, or would be, are named; one that has a secret needs none."""
    for dry_run in (True, False):
        applied = await kit.apply(base(), {"desk": Secret("first")}, dry_run=dry_run)
        assert ("client/desk",) == applied.first_secrets
    assert () == (await kit.apply(base(2), {"desk": Source(Secret("first"))}, dry_run=True)).first_secrets


# --- discovery -------------------------------------------------------------------------------------------------------


async def test_a_generic_provider_is_discovered_once_per_revision(kit: AdminKit) -> None:
    """Its endpoints come from its metadata; the same revision again asks nobody, so a start needs no provider."""
    kit.discovery.published["https://id.example"] = {"token_endpoint": "https://id.example/token"}
    await kit.apply(GENERIC.format(revision=1))
    assert (await kit.catalog()).providers["corp"].token_url == "https://id.example/token"
    kit.discovery.published.clear()
    await kit.apply(GENERIC.format(revision=1))
    assert kit.discovery.asked == 1


@pytest.mark.parametrize("published", [{}, {"https://id.example": {"token_endpoint": 7}}])
@pytest.mark.parametrize("way", ["apply", "put"])
async def test_a_provider_that_cannot_be_discovered_stops_the_apply(
    kit: AdminKit, way: str, published: dict[str, dict[str, object]]
) -> None:
    """Nothing is applied when a provider's endpoints cannot be had; error and event name the provider."""
    kit.discovery.published |= published
    seen, file = trail(), config(GENERIC.format(revision=1))
    write = kit.apply_config(file, {}, seen) if way == "apply" else kit.edit.put(file, seen, detach=False)
    with pytest.raises(ProviderUnavailableError) as caught:
        await write
    assert ("provider/corp", "corp") == (caught.value.public.partition(":")[0], seen.provider)
    assert {"failure"} == set(caught.value.metadata)
    assert (await kit.catalog()).version == 0


@pytest.mark.parametrize("endpoint", ["token_endpoint", "authorization_endpoint"])
@pytest.mark.parametrize("way", ["apply", "put"])
async def test_discovery_is_believed_at_the_issuer_s_origin_and_those_listed(
    kit: AdminKit, way: str, endpoint: str
) -> None:
    """Metadata that names an endpoint elsewhere is refused, with the field and the origin to list."""
    metadata = {"token_endpoint": "https://id.example/token", endpoint: "https://login.example:8443/x"}
    kit.discovery.published["https://id.example"] = metadata
    write = kit.apply if way == "apply" else kit.put
    with pytest.raises(InvalidRequestError) as caught:
        await write(GENERIC.format(revision=1))
    ((field, problem),) = caught.value.fields.items()
    assert ("providers[0]" if way == "apply" else "object") + ".endpoint_origins" == field
    assert f"names the {endpoint.replace('_', ' ')} at https://login.example:8443 that is neither" in problem
    assert {} == (await kit.catalog()).providers
    listed = GENERIC.format(revision=1).replace("}", ', endpoint_origins: ["https://login.example:8443"]}')
    await write(listed)
    provider = (await kit.catalog()).providers["corp"]
    assert (metadata["token_endpoint"], False) == (provider.token_url, provider.frozen)


@pytest.mark.parametrize("section", [base(), GENERIC.format(revision=1)])
async def test_a_revocation_endpoint_lies_with_the_token_endpoint(kit: AdminKit, section: str) -> None:
    """Another server is not sent the secret that is meant for the token endpoint's, discovered or preset."""
    kit.discovery.published |= {"https://id.example": {"token_endpoint": "https://id.example/token"}}
    elsewhere = section.replace("}\n", ', revocation_url: "https://elsewhere.example/r"}\n', 1)
    with pytest.raises(InvalidRequestError) as caught:
        await kit.apply(elsewhere)
    assert {"providers[0].revocation_url"} == set(caught.value.fields)


async def test_an_odd_origin_is_not_repeated(kit: AdminKit) -> None:
    """What a provider made up is shown only where it can be nothing but a host."""
    kit.discovery.published["https://id.example"] = {"token_endpoint": "https://<b>'x'</b>/token"}
    (problem,) = (await kit.refused(GENERIC.format(revision=1))).values()
    assert "names the token endpoint at an origin that is neither" in problem


@pytest.mark.parametrize(
    ("moved", "listed"),
    [
        ({"token_endpoint": "https://evil.example/token"}, ""),
        ({"token_endpoint": "https://evil.example/token"}, ', endpoint_origins: ["https://evil.example"]'),
        ({"token_endpoint": "https://id.example/token", "authorization_endpoint": "https://evil.example/a"}, ""),
    ],
)
async def test_a_discovery_that_moved_freezes_the_provider(
    kit: AdminKit, moved: dict[str, object], listed: str
) -> None:
    """Metadata that now names another origin is told, not believed, and the provider frozen, also by later applies."""
    kit.discovery.published["https://id.example"] = {"token_endpoint": "https://id.example/token"}
    await kit.apply(GENERIC.format(revision=1))
    kit.discovery.published["https://id.example"] = moved
    for revision in (2, 3):
        applied = await kit.apply(GENERIC.format(revision=revision).replace("}", f"{listed}}}"))
        assert any("the provider is frozen" in warning for warning in applied.warnings)
        provider = (await kit.catalog()).providers["corp"]
        assert (True, "https://id.example/token", None) == (
            provider.frozen,
            provider.token_url,
            provider.authorize_url,
        )
    kit.discovery.published["https://id.example"] = {"token_endpoint": "https://id.example/token"}
    await kit.apply(GENERIC.format(revision=4))
    assert (await kit.catalog()).providers["corp"].frozen


@pytest.mark.parametrize("way", ["apply", "put"])
async def test_a_slow_provider_keeps_nobody_waiting(kit: AdminKit, way: str) -> None:
    """While a provider is asked, keys end and other objects change; what they changed is seen by the slow change."""
    await kit.add_key("stolen")
    kit.discovery.published["https://id.example"] = {"token_endpoint": "https://id.example/token"}
    kit.discovery.hold = asyncio.Event()
    text = GENERIC.format(revision=1)
    slow = asyncio.create_task(kit.apply(text) if way == "apply" else kit.put(text))
    await until(lambda: kit.discovery.asked == 1)
    await asyncio.wait_for(kit.api_keys.disable("stolen", trail()), 5)
    await asyncio.wait_for(kit.put("revision: 1\nproviders: [{name: corp, preset: aries}]"), 5)
    kit.discovery.hold.set()
    if way == "apply":
        with pytest.raises(InvalidRequestError, match="nothing was applied"):
            await slow
    else:
        await slow
    provider = (await kit.catalog()).providers["corp"]
    assert ("aries" if way == "apply" else "generic", Origin.RPC) == (provider.preset, provider.origin)
    assert kit.discovery.asked == 1


async def test_a_refused_file_asks_nobody(kit: AdminKit) -> None:
    """A provider is asked only for a configuration that is right otherwise."""
    await kit.refused(GENERIC.format(revision=1) + "\n    clients: [{name: c, provider: none, client_id: a}]\n")
    assert kit.discovery.asked == 0


# --- warnings --------------------------------------------------------------------------------------------------------


async def test_rules_in_vain_are_told(kit: AdminKit) -> None:
    """Shadowed policies, policies for holders of a role and grants that do not exist are warned of."""
    applied = await kit.apply(
        base()
        .replace(
            "    limits:",
            '      - {name: all, callers: ["key:*"], any_subject: true, grants: ["desk-*"], scopes: [read, trade]}\n'
            '      - {name: ops, callers: ["key:ops"], grants: [later], scopes: [read]}\n    limits:',
        )
        .replace('"spiffe://corp.example/ns/ops/*"', '"key:ops"')
    )
    assert applied.warnings == (
        "policy/reports: never decides, policy/all allows all of it",
        "policy/ops: key:ops holds the role rotator, so no policy matches it",
        "policy/ops: there is no grant 'later' yet",
    )


async def test_a_policy_shadowed_by_one_that_accepts_less_is_told(kit: AdminKit) -> None:
    """The policy that accepts less excess decides, whatever the names; one that accepts more shadows nothing."""
    more = """      - {name: a-lax, callers: ["key:x"], grants: [desk-service], scopes: [read], accept_excess: [trade]}
      - {name: starter, callers: ["key:x"], grants: [desk-service], scopes: [read], authorize: true}
      - {name: strict, callers: ["key:x"], grants: [desk-service], scopes: [read]}
    limits:"""
    applied = await kit.apply(base().replace("    limits:", more))
    assert applied.warnings == (
        "policy/a-lax: never decides, policy/starter allows all of it and accepts less excess",
        "policy/strict: never decides, policy/starter allows all of it",
    )


async def test_a_narrowing_nobody_proved_is_told(kit: AdminKit) -> None:
    """A provider stated to narrow is told how that is proved, until it is."""
    applied = await kit.apply(base().replace("preset: aries}", "preset: aries, narrowing: additional}"))
    (warning,) = applied.warnings
    assert warning.startswith("provider/aries: that it narrows is not proved at its token endpoint")
    assert "prove-narrowing" in warning


async def test_what_a_change_costs_is_told(kit: AdminKit) -> None:
    """A token endpoint at another origin is warned of, another path at the same origin is not."""
    text = base().replace("client_credentials", "refresh_token")
    await kit.apply(text)
    await kit.consent("desk-service")
    moved = await kit.apply(
        text.replace("revision: 1", "revision: 2").replace(
            "preset: aries", "preset: aries, base_url: 'https://x.example'"
        )
    )
    assert moved.warnings == (
        (
            "provider/aries: the token endpoint moved to another origin; secrets and refresh tokens sealed for the "
            "former one do not open until they are entered again"
        ),
    )
    moved = await kit.apply(
        text.replace("revision: 1", "revision: 3").replace(
            "preset: aries", "preset: aries, base_url: 'https://x.example', token_url: 'https://x.example/other'"
        )
    )
    assert (moved.updated, moved.warnings) == (("provider/aries",), ())


# --- grants that hold a token ----------------------------------------------------------------------------------------


async def test_a_grant_that_holds_a_token_is_not_removed(kit: AdminKit) -> None:
    """Leaving it out of the file is refused with the command to run first, beside what else is wrong."""
    await kit.apply(base().replace("client_credentials", "refresh_token"))
    await kit.consent("desk-service")
    before = await kit.catalog()
    fields = await kit.refused("revision: 2\nclients: [{name: c, provider: nowhere, client_id: a}]")
    assert {"grants", "clients[0].provider"} == set(fields)
    assert "aries-broker admin grants revoke desk-service" in fields["grants"]
    assert before == await kit.catalog()
    await kit.revoke("desk-service")
    applied = await kit.apply("revision: 2\n")
    assert ("grant/desk-service" in applied.removed, applied.warnings) == (True, ())


async def test_a_token_that_comes_while_a_grant_is_removed_stops_the_removal(kit: AdminKit) -> None:
    """The look at its tokens and the write are one: an import in between is seen, and the grant stays."""
    await kit.apply(base().replace("client_credentials", "refresh_token"))
    write = kit.store.write_objects

    async def late(*args: Any, **kwargs: Any) -> int:  # noqa: ANN401 - whatever it is
        kit.store.write_objects = write  # type: ignore[method-assign]  # once is enough
        await kit.consent("desk-service")
        return await write(*args, **kwargs | {"expected_version": None})

    kit.store.write_objects = late  # type: ignore[method-assign]  # somebody is just as fast
    assert {"grants"} == set(await kit.refused("revision: 2\n"))
    assert (await kit.grant("desk-service")).state.current is not None
