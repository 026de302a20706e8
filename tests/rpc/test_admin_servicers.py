"""The admin services: messages in, flows, messages out; what an operator writes arrives as it was written."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from aries.broker.admin.v1 import audit_pb2, config_pb2, grants_pb2, keys_pb2, secrets_pb2
from broker.adapters.config_file import parse_config
from broker.adapters.keys.files import make_kek_file
from broker.adapters.keys.kek import open_kek
from broker.adapters.keys.keyring import open_keyring
from broker.adapters.memory import MemoryStore
from broker.cli.messages import build_config
from broker.core.api_keys import parse_api_key_id
from broker.core.audit import Action, AuditEvent
from broker.core.errors import InvalidRequestError
from broker.core.identity import CallerId, Role
from broker.core.models import Grant, GrantType, NarrowingProfile, Origin
from broker.core.secret import Secret
from broker.flows.add_secret import AddFirstSecret
from broker.flows.explain_policy import ExplainPolicy
from broker.flows.hold_grant import HoldGrant
from broker.flows.import_grant import ImportGrant
from broker.flows.list_events import ListEvents
from broker.flows.prove_narrowing import Proof, ProveNarrowing
from broker.flows.read_config import ReadConfig
from broker.flows.release_suspect import ReleaseSuspect
from broker.flows.trail import Trail
from broker.ports import AttemptRecord
from broker.rpc.call import Call
from broker.rpc.convert_admin import event_message, grant_status, shown_grant
from broker.rpc.convert_config import config_file, object_message
from broker.rpc.servicers.audit import AuditServicer
from broker.rpc.servicers.config import ConfigServicer
from broker.rpc.servicers.grants import GrantsServicer
from broker.rpc.servicers.keys import KeysServicer
from broker.rpc.servicers.secrets import SecretsServicer
from tests.flows.admin.kit import AdminKit, trail
from tests.support.times import TIMES

FILE = """\
revision: 3
providers:
  - {name: aries, preset: aries, narrowing: additional, replay_window: 60, refresh_reply_deadline: 20,
     replay_kind: same_token, revocation_url: "https://api.aries.com/r", refresh_kills_older_access_tokens: false,
     client_credentials_reply_deadline: 5, unspent_statuses: [503], wire_scopes: [extra:word],
     scopes: {withdraw: [withdraw], admin: []}, default_expires_in: 600, absent_scope: refuse,
     resources: ["https://api.example/v1"], endpoint_origins: ["https://login.example"],
     connect_login: corp, login_scopes: [openid], authorize_parameters: {prompt: consent}, pkce_with_secret: false}
  - {name: corp, preset: generic, token_url: "https://corp.example/token", token_endpoint_auth: client_secret_post}
clients:
  - {name: desk, provider: aries, client_id: desk-app, redirect_uris: ["https://app.example/cb"], direct_login: true}
  - {name: corp, provider: corp, client_id: broker}
grants:
  - {name: g, client: desk, type: refresh_token, scopes: [read, trade]}
  - {name: h, client: desk, type: client_credentials, scopes: [read]}
policies:
  - {name: p, callers: ["key:*"], any_subject: true, grants: ["*"], scopes: [read], accept_excess: [trade]}
  - {name: q, callers: ["key:portal"], grants: [g], scopes: [read, trade], authorize: true}
limits:
  - {name: a, applies_to: get_token, key: [caller, grant], windows: [{rate: 50/s, burst: 5}, {rate: 7/min, burst: 2}]}
  - {name: b, applies_to: admin, key: [caller], rate: 1/h, burst: 1}
issuers:
  - {name: k8s, issuer: i, audience: a, jwks_uri: "https://i.example/j",
     algorithms: [ES256], require: {ns: trading}, extra_audiences: [b]}
roles:
  - {role: auditor, callers: ["key:x"]}
  - {name: more, role: auditor, callers: ["key:y"]}
"""


class Log:
    """The port AuditLog over one event."""

    async def newest(self, limit: int) -> Sequence[AuditEvent]:
        return [AuditEvent(datetime(2026, 1, 2, tzinfo=UTC), Action.KEY_CREATE, actor="key:ops", detail=f"{limit}")]


class Prove(ProveNarrowing):
    """Stands for two redeems."""

    def __init__(self) -> None:
        """Need nothing."""

    async def __call__(self, grant_name: str, trail: Trail) -> Proof:
        return Proof(NarrowingProfile.STICKY, (f"asked {grant_name}",))


@pytest.fixture
def kit(tmp_path: Path) -> AdminKit:
    """Give the admin flows over an empty store."""
    make_kek_file(tmp_path / "kek.json")
    return AdminKit(asyncio.run(open_keyring(MemoryStore(TIMES), [open_kek(f"file:{tmp_path / 'kek.json'}")])))


@pytest.fixture
def config(kit: AdminKit) -> ConfigServicer:
    """Give the service for configuration."""
    return ConfigServicer(
        apply_config=kit.apply_config,
        edit_object=kit.edit,
        read_config=ReadConfig(catalogs=kit.store, grants=kit.store, audit=kit.audit, clock=kit.clock),
        explain_policy=ExplainPolicy(catalogs=kit.store, grants=kit.store, audit=kit.audit, clock=kit.clock),
        prove_narrowing=Prove(),
        unfreeze_provider=kit.unfreeze,
    )


def call() -> Call:
    """Return an admin's call."""
    return Call(CallerId("key", "ops"), frozenset({Role.ADMIN}), trail())


def message(text: str = FILE) -> config_pb2.Config:
    """Return a file as the command line sends it."""
    return build_config(parse_config(text).config)


def test_a_file_arrives_as_it_was_written() -> None:
    """Text to message to value loses nothing that was said."""
    files = 'jwks_uri: "https://i.example/j", ca_file: /ca, token_file: /t'
    text = FILE.replace('jwks_uri: "https://i.example/j"', files)
    written = parse_config(text).config
    assert written.issuers[0].token_file == "/t"
    expected = replace(written, roles=(replace(written.roles[0], name=""), written.roles[1]))
    assert expected == config_file(message(text))


@pytest.mark.parametrize(
    ("keys", "fields"),
    [
        ("jwks_file: /j", ["jwks_file"]),
        ('jwks_uri: "https://i.example/j", ca_file: /ca, token_file: /t', ["ca_file", "token_file"]),
        ('jwks_uri: "http://127.0.0.1:1/j"', ["jwks_uri"]),
    ],
)
async def test_nobody_points_the_broker_at_its_own_files(
    kit: AdminKit, config: ConfigServicer, keys: str, fields: list[str]
) -> None:
    """Over the network no issuer names files of the broker's machine or plain http, however often it was applied."""
    text = f"revision: 1\nissuers: [{{name: k8s, issuer: i, audience: a, {keys}}}]"
    for _ in range(2):
        with pytest.raises(InvalidRequestError) as applied:
            await config.apply(config_pb2.ApplyRequest(config=message(text)), call())
        item = config_pb2.Object(issuer=message(text).issuers[0])
        with pytest.raises(InvalidRequestError) as put:
            await config.put_object(config_pb2.PutObjectRequest(object=item, detach=True), call())
        assert [f"issuers[0].{field}" for field in fields] == list(applied.value.fields)
        assert [f"object.{field}" for field in fields] == list(put.value.fields)
        assert all("serve --config" in told for told in (*applied.value.fields.values(), *put.value.fields.values()))
        await kit.apply(text)


async def test_what_is_listed_can_be_put_again(kit: AdminKit, config: ConfigServicer) -> None:
    """Every kind of object comes out as a message that, put back, changes nothing but its origin."""
    applied = await config.apply(config_pb2.ApplyRequest(config=message()), call())
    assert len(applied.created) == 13
    for kind in ("provider", "client", "policy", "limit", "issuer", "role"):
        listed = await config.list_objects(config_pb2.ListObjectsRequest(kind=kind), call())
        assert (listed.revision, len(listed.objects) > 0) == (3, True)
        for item in listed.objects:
            assert item.origin == config_pb2.ORIGIN_FILE
            put = await config.put_object(config_pb2.PutObjectRequest(object=item, detach=True), call())
            assert not put.created
        again = await config.list_objects(config_pb2.ListObjectsRequest(kind=kind), call())
        for before, after in zip(listed.objects, again.objects, strict=True):
            assert after.origin == config_pb2.ORIGIN_RPC
            after.origin = config_pb2.ORIGIN_FILE
            assert before == after
    grant = object_message(await kit.grant("g"))
    assert not (await config.put_object(config_pb2.PutObjectRequest(object=grant, detach=True), call())).created
    await config.remove_object(config_pb2.RemoveObjectRequest(kind="grant", name="g"), call())
    assert await kit.store.find_grant("g") is None


@pytest.mark.parametrize("kind", ["", "grants", "PROVIDER"])
async def test_an_unknown_kind_is_told(config: ConfigServicer, kind: str) -> None:
    """Kinds are a closed list."""
    with pytest.raises(InvalidRequestError, match="must be one of provider, client"):
        await config.list_objects(config_pb2.ListObjectsRequest(kind=kind), call())


async def test_malformed_requests_are_refused(config: ConfigServicer) -> None:
    """No object, a scope mapped twice, an empty or a second first secret are told before anything is read."""
    with pytest.raises(InvalidRequestError, match="object"):
        await config.put_object(config_pb2.PutObjectRequest(), call())
    twice = [config_pb2.ScopeMapping(scope="read", wire_scopes=["a"]), config_pb2.ScopeMapping(scope="read")]
    provider = config_pb2.Object(provider=config_pb2.Provider(name="a", preset="aries", scopes=twice))
    with pytest.raises(InvalidRequestError, match="mapped twice"):
        await config.put_object(config_pb2.PutObjectRequest(object=provider), call())
    for secrets in (["s", "t"], [""]):
        sent = [config_pb2.ClientSecret(client="desk", secret=secret) for secret in secrets]
        with pytest.raises(InvalidRequestError):
            await config.apply(config_pb2.ApplyRequest(config=message(), first_secrets=sent), call())


async def test_first_secrets_travel_with_the_file(kit: AdminKit, config: ConfigServicer) -> None:
    """A dry run stores nothing, the apply stores the secret, and the reply warns of a changed one."""
    for dry_run, secret, warned in ((True, "one", False), (False, "one", False), (False, "two", True)):
        sent = [config_pb2.ClientSecret(client="desk", secret=secret)]
        request = config_pb2.ApplyRequest(config=message(), first_secrets=sent, dry_run=dry_run)
        reply = await config.apply(request, call())
        assert any("stays" in warning for warning in reply.warnings) is warned
    assert [Action.SECRET_ADD] == [action for action in await kit.actions() if action is Action.SECRET_ADD]


async def test_a_secret_that_was_not_read_is_needed_by_clients_without_one(
    kit: AdminKit, config: ConfigServicer
) -> None:
    """The flag stands for a secret nobody could read: refused by the client's place, and nothing once there is one."""
    unread = config_pb2.ApplyRequest(
        config=message(), first_secrets=[config_pb2.ClientSecret(client="desk", unread=True)], dry_run=True
    )
    with pytest.raises(InvalidRequestError) as caught:
        await config.apply(unread, call())
    assert {"clients[0].secret"} == set(caught.value.fields)
    read = config_pb2.ApplyRequest(
        config=message(), first_secrets=[config_pb2.ClientSecret(client="desk", secret="one")]
    )
    assert ["client/desk"] == list((await config.apply(read, call())).first_secrets)
    assert [] == list((await config.apply(unread, call())).first_secrets)


def test_whose_a_grant_is_is_shown() -> None:
    """By the provider's word and by the sign-in's; nothing where nobody knows."""
    alone = Grant("g1", "desk", Origin.FILE, "aries", GrantType.REFRESH_TOKEN, frozenset({"read"}))
    known = replace(alone, subject="1001", person="ada at https://corp.example")
    shown = [grant_status(grant) for grant in (alone, known)]
    assert [("", ""), ("1001", "ada at https://corp.example")] == [(one.subject, one.person) for one in shown]


async def test_a_frozen_provider_is_shown_and_unfrozen(kit: AdminKit, config: ConfigServicer) -> None:
    """With its reason, at the provider and at its grants; the reply says what was accepted."""
    await kit.freeze()
    why = "discovery names the token endpoint at https://new.example instead of https://id.example"
    read = ReadConfig(catalogs=kit.store, grants=kit.store, audit=kit.audit, clock=kit.clock)
    shown, _ = await read.get_grant("person", trail())
    assert why == shown_grant(shown).provider_frozen
    listing = config_pb2.ListObjectsRequest(kind="provider")
    (before,) = (await config.list_objects(listing, call())).objects
    done = await config.unfreeze_provider(config_pb2.UnfreezeProviderRequest(name="corp"), call())
    (after,) = (await config.list_objects(listing, call())).objects
    assert [(True, why), (False, "")] == [
        (item.provider.frozen, item.provider.frozen_reason) for item in (before, after)
    ]
    assert ("https://new.example", 2) == (done.token_origin, len(done.left_to_do))


async def test_policy_is_explained_and_narrowing_proved(config: ConfigServicer) -> None:
    """Both answers come from their flows, word for word."""
    await config.apply(config_pb2.ApplyRequest(config=message()), call())
    request = config_pb2.ExplainPolicyRequest(caller="key:a", grant="h", scopes=["read"])
    told = await config.explain_policy(request, call())
    assert (told.allowed, told.policy, list(told.considered)) == (
        True,
        "p",
        ["p: chosen", "q: does not name the caller"],
    )
    proved = await config.prove_narrowing(config_pb2.ProveNarrowingRequest(grant="g"), call())
    assert (proved.narrowing, list(proved.observations)) == ("sticky", ["asked g"])


async def test_secrets_and_refresh_tokens_go_in(kit: AdminKit, config: ConfigServicer) -> None:
    """A client secret and a refresh token become secrets at once; replies hold none."""
    await config.apply(config_pb2.ApplyRequest(config=message()), call())
    secrets = SecretsServicer(AddFirstSecret(catalogs=kit.store, first_secrets=kit.first_secrets))
    added = secrets_pb2.AddFirstClientSecretRequest(client="desk", secret="canary")
    assert (await secrets.add_first_client_secret(added, call())).version == 1
    with pytest.raises(InvalidRequestError) as caught:
        await secrets.add_first_client_secret(secrets_pb2.AddFirstClientSecretRequest(client="desk"), call())
    assert caught.value.fields == {"secret": "required"}

    async def rotates(name: str) -> bool:
        return name == "g"

    read = ReadConfig(catalogs=kit.store, grants=kit.store, audit=kit.audit, clock=kit.clock)
    importing = ImportGrant(
        catalogs=kit.store,
        grants=kit.store,
        access_tokens=kit.store,
        cipher=kit.keyring,
        clock=kit.clock,
        redeem_now=rotates,
    )
    soon: list[str] = []
    holding = HoldGrant(grants=kit.store, access_tokens=kit.store, clock=kit.clock, soon=soon.append)
    releasing = ReleaseSuspect(grants=kit.store, store=kit.store, clock=kit.clock)
    grants = GrantsServicer(read_config=read, import_grant=importing, hold_grant=holding, release_suspect=releasing)
    token = grants_pb2.ImportRefreshTokenRequest(grant="g", refresh_token="canary")
    imported = await grants.import_refresh_token(token, call())
    assert (imported.rotated, len(imported.warnings)) == (True, 1)
    await kit.store.record_attempt(
        AttemptRecord((await kit.grant("g")).id, 3, "me", 1, datetime(2026, 1, 2, tzinfo=UTC), "landed", "why")
    )
    shown = await grants.get_grant(grants_pb2.GetGrantRequest(name="g"), call())
    status = shown.grant
    assert [(3, "me", 1, "landed", "why")] == [
        (item.attempt, item.owner, item.secret_version, item.outcome, item.cause) for item in shown.attempts
    ]
    assert (status.consented, status.generation, status.origin) == (True, 1, "file")
    page = await grants.list_grants(grants_pb2.ListGrantsRequest(page_size=1), call())
    assert (["g"], "g") == ([grant.name for grant in page.grants], page.next_page_token)
    last = await grants.list_grants(grants_pb2.ListGrantsRequest(page_token="g"), call())
    assert (["h"], "") == ([grant.name for grant in last.grants], last.next_page_token)
    assert "canary" not in repr((imported, status, page))
    frozen = await grants.freeze(grants_pb2.FreezeRequest(name="g"), call())
    let_go = await grants.unfreeze(grants_pb2.UnfreezeRequest(name="g"), call())
    revoked = await grants.revoke_grant(grants_pb2.RevokeGrantRequest(name="g"), call())
    assert ["frozen", "none", "revoking"] == [said.grant.hold for said in (frozen, let_go, revoked)]
    with pytest.raises(InvalidRequestError):
        await grants.settle(grants_pb2.SettleRequest(name="g"), call())
    assert 3 == len(soon)


async def test_a_key_is_shown_once(kit: AdminKit) -> None:
    """Only the reply that makes a key holds it."""
    keys = KeysServicer(kit.api_keys)
    made = await keys.create_api_key(keys_pb2.CreateApiKeyRequest(name="reports"), call())
    assert made.key.id == parse_api_key_id(Secret(made.api_key))
    await keys.disable_api_key(keys_pb2.DisableApiKeyRequest(name="reports"), call())
    listed = await keys.list_api_keys(keys_pb2.ListApiKeysRequest(), call())
    assert [("reports", True)] == [(key.name, key.disabled) for key in listed.keys]
    assert made.api_key not in repr(listed)


async def test_events_are_shown_without_what_is_empty(kit: AdminKit) -> None:
    """An event has its time, action and actor, and of the rest what says something."""
    audit = AuditServicer(ListEvents(log=Log(), audit=kit.audit, clock=kit.clock))
    (event,) = (await audit.list_events(audit_pb2.ListEventsRequest(limit=5), call())).events
    assert (event.action, event.actor, dict(event.fields)) == ("key:create", "key:ops", {"detail": "5"})
    assert event.time.ToDatetime(UTC) == datetime(2026, 1, 2, tzinfo=UTC)
    counted = event_message(AuditEvent(datetime(2026, 1, 2, tzinfo=UTC), Action.RPC_DENY, count=7))
    assert dict(counted.fields) == {"count": "7"}
