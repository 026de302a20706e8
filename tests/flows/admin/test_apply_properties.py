"""What holds for any two files: applying is idempotent, forgets what was before, and leaves everything else alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from broker.adapters.keys.keyring import Keyring
from broker.core.config import (
    ClientConfig,
    ConfigFile,
    GrantConfig,
    LimitConfig,
    PolicyConfig,
    RoleConfig,
    WindowConfig,
)
from broker.core.config_change import label
from broker.core.config_values import Configured, catalog_objects
from broker.core.grant_state import GrantState
from broker.core.models import Grant, Origin
from broker.core.provider_config import ProviderConfig
from broker.core.secret import Secret
from tests.flows.admin.kit import AdminKit, trail

KEPT = settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
SCOPES = st.sets(st.sampled_from(["read", "trade"]), min_size=1).map(lambda words: tuple(sorted(words)))
TYPES = {"g-cc": "client_credentials", "g-rt": "refresh_token"}
FROM_RPC = """\
    revision: 1
    {section}:
      - {entry}
"""
RPC_OBJECTS = {
    "providers": "{name: r-provider, preset: aries}",
    "clients": "{name: r-client, provider: r-provider, client_id: r}",
    "grants": "{name: r-grant, client: r-client, type: refresh_token, scopes: [read]}",
    "policies": '{name: r-policy, callers: ["key:r"], grants: [r-grant], scopes: [read]}',
    "limits": "{name: r-limit, applies_to: admin, key: [caller], rate: 1/s, burst: 1}",
    "roles": '{name: r-role, role: auditor, callers: ["key:auditor"]}',
}


@st.composite
def config_files(draw: st.DrawFn) -> ConfigFile:
    """Draw a right configuration over few names, so that two of them overlap."""
    providers = draw(st.sets(st.sampled_from(["p-1", "p-2"]), min_size=1))
    clients = draw(st.sets(st.sampled_from(["c-1", "c-2"])))
    grants = draw(st.sets(st.sampled_from(sorted(TYPES)))) if "c-1" in clients else set()
    limits = draw(st.sets(st.sampled_from(["l-1", "l-2"])))
    policies = draw(st.sets(st.sampled_from(["y-1", "y-2"])))
    auditors = draw(st.sets(st.sampled_from(["key:a", "key:b"])))
    profiles = st.sampled_from([None, "additional", "sticky"])
    return ConfigFile(
        revision=1,
        providers=tuple(ProviderConfig(name, "aries", narrowing=draw(profiles)) for name in sorted(providers)),
        clients=tuple(
            ClientConfig(name, draw(st.sampled_from(sorted(providers))), draw(st.sampled_from(["a", "b"])))
            for name in sorted(clients)
        ),
        grants=tuple(GrantConfig(name, "c-1", TYPES[name], draw(SCOPES)) for name in sorted(grants)),
        policies=tuple(PolicyConfig(name, ("key:x",), ("g-*",), draw(SCOPES)) for name in sorted(policies)),
        limits=tuple(
            LimitConfig(name, "get_token", ("caller",), (WindowConfig("1/s", draw(st.integers(1, 3))),))
            for name in sorted(limits)
        ),
        roles=(RoleConfig("auditor", tuple(sorted(auditors))),) if auditors else (),
    )


async def objects(kit: AdminKit, origin: Origin) -> Mapping[str, Configured]:
    """Return the objects of an origin by kind and name, grants with their states among them."""
    values: list[Configured] = [*catalog_objects(await kit.catalog())]
    for grant in await kit.store.list_grants("", 100):
        whole = await kit.store.get_grant(grant.id)
        assert whole is not None
        values.append(whole)
    return {label(value): value for value in values if value.origin is origin}


def configuration(values: Mapping[str, Configured]) -> Mapping[str, Configured]:
    """Return the objects without what is no configuration."""
    return {
        name: replace(value, id="", state=GrantState()) if isinstance(value, Grant) else replace(value, id="")
        for name, value in values.items()
    }


async def with_rpc_objects(keyring: Keyring) -> AdminKit:
    """Return a kit whose store holds an object of each kind made by RPC, the grant with a refresh token."""
    kit = AdminKit(keyring)
    for section, entry in RPC_OBJECTS.items():
        await kit.put(FROM_RPC.format(section=section, entry=entry))
    await kit.consent("r-grant")
    client = (await kit.catalog()).clients["r-client"]
    provider = (await kit.catalog()).providers["r-provider"]
    await kit.first_secrets.store(client, provider, Secret("r"), trail())
    return kit


@KEPT
@given(file=config_files())
async def test_applying_twice_is_applying_once(keyring: Keyring, file: ConfigFile) -> None:
    """The second apply of a file writes nothing, under its own revision or a greater one."""
    kit = AdminKit(keyring)
    await kit.apply_config(file, {}, trail())
    once = await objects(kit, Origin.FILE)
    again = await kit.apply_config(file, {}, trail())
    later = await kit.apply_config(replace(file, revision=2), {}, trail())
    for applied in (again, later):
        assert (applied.created, applied.updated, applied.removed) == ((), (), ())
    assert once == await objects(kit, Origin.FILE)


@KEPT
@given(first=config_files(), second=config_files())
async def test_only_the_last_file_counts(keyring: Keyring, first: ConfigFile, second: ConfigFile) -> None:
    """Applying one file after another leaves what applying the last alone leaves."""
    both, alone = AdminKit(keyring), AdminKit(keyring)
    await both.apply_config(first, {}, trail())
    await both.apply_config(replace(second, revision=2), {}, trail())
    await alone.apply_config(second, {}, trail())
    expected = configuration(await objects(alone, Origin.FILE))
    assert expected == configuration(await objects(both, Origin.FILE))


@KEPT
@given(first=config_files(), second=config_files())
async def test_objects_made_by_rpc_and_states_are_never_touched(
    keyring: Keyring, first: ConfigFile, second: ConfigFile
) -> None:
    """Objects of origin rpc stay byte for byte; a grant that both files name keeps id, subject, state and token."""
    kit = await with_rpc_objects(keyring)
    before = await objects(kit, Origin.RPC)
    client = (await kit.catalog()).clients["r-client"].id
    secret = await kit.store.current_secret(client)
    await kit.apply_config(replace(first, revision=1), {}, trail())
    staying = {grant.name for grant in second.grants}  # one that holds a token could not be removed
    for grant in first.grants:
        if grant.type == "refresh_token" and grant.name in staying:
            await kit.consent(grant.name)
    had = await objects(kit, Origin.FILE)
    await kit.apply_config(replace(second, revision=2), {}, trail())
    assert before == await objects(kit, Origin.RPC)
    assert secret == await kit.store.current_secret(client)
    has = await objects(kit, Origin.FILE)
    for name in had.keys() & has.keys():
        old, new = had[name], has[name]
        assert old.id == new.id
        if isinstance(old, Grant) and isinstance(new, Grant):
            assert (old.state, old.subject) == (new.state, new.subject)


async def test_a_removed_name_comes_back_as_another_object(keyring: Keyring) -> None:
    """Ids are never used again: what is named anew has a new id and no state."""
    kit = AdminKit(keyring)
    file = ConfigFile(
        revision=1,
        providers=(ProviderConfig("p-1", "aries"),),
        clients=(ClientConfig("c-1", "p-1", "a"),),
        grants=(GrantConfig("g-rt", "c-1", "refresh_token", ("read",)),),
    )
    await kit.apply_config(file, {}, trail())
    await kit.consent("g-rt")
    old = await kit.grant("g-rt")
    await kit.revoke("g-rt")
    await kit.apply_config(ConfigFile(revision=2), {}, trail())
    await kit.apply_config(replace(file, revision=3), {}, trail())
    new = await kit.grant("g-rt")
    assert old.id != new.id
    assert (None, GrantState()) == (new.subject, new.state)
