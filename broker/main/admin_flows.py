"""What operators do, wired."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from broker.adapters import presets
from broker.adapters.discovery import HttpDiscovery
from broker.adapters.keys.files import make_bootstrap_key_file, read_bootstrap_key_file
from broker.flows.add_secret import AddFirstSecret
from broker.flows.api_keys import ApiKeys
from broker.flows.apply_config import ApplyConfig
from broker.flows.bootstrap import BOOTSTRAP_SECONDS, Bootstrap, BootstrapError, BootstrapKey
from broker.flows.check_config import CheckConfig
from broker.flows.edit_object import EditObject
from broker.flows.explain_policy import ExplainPolicy
from broker.flows.first_secrets import FirstSecrets
from broker.flows.hold_grant import HoldGrant
from broker.flows.import_grant import ImportGrant
from broker.flows.list_events import ListEvents
from broker.flows.read_config import ReadConfig
from broker.flows.release_suspect import ReleaseSuspect
from broker.flows.resolve_providers import ResolveProviders
from broker.flows.unfreeze_provider import UnfreezeProvider
from broker.main.foundation import Foundation
from broker.main.token_flows import TokenFlows
from broker.rpc.methods import (
    AUDIT_SERVICE,
    CONFIG_SERVICE,
    GRANTS_SERVICE,
    KEYS_SERVICE,
    SECRETS_SERVICE,
)
from broker.rpc.servicers.audit import AuditServicer
from broker.rpc.servicers.config import ConfigServicer
from broker.rpc.servicers.grants import GrantsServicer
from broker.rpc.servicers.keys import KeysServicer
from broker.rpc.servicers.secrets import SecretsServicer
from broker.settings import Settings


@dataclass(frozen=True, slots=True)
class AdminFlows:
    """The flows of operators, the first admin's among them, and their servicers by full service name."""

    bootstrap: Bootstrap
    apply_config: ApplyConfig
    import_grant: ImportGrant
    servicers: Mapping[str, object]


def admin_flows(base: Foundation, settings: Settings, tokens: TokenFlows) -> AdminFlows:
    """Wire what operators do; changes of the configuration come one after the other."""
    store, keyring, audit, clock = base.store, base.keyring, base.audit, base.clock
    changing = asyncio.Lock()
    trusts_spiffe = settings.trust_domain is not None
    first_secrets = FirstSecrets(secrets=store, cipher=keyring, clock=clock)
    resolve = ResolveProviders(presets=presets, discovery=HttpDiscovery(base.exchange))
    check = CheckConfig(resolve=resolve, keys=store, clock=clock, trusts_spiffe=trusts_spiffe)
    apply_config = ApplyConfig(
        catalogs=store,
        grants=store,
        clock=clock,
        check=check,
        resolve=resolve,
        first_secrets=first_secrets,
        changing=changing,
        new_id=_new_id,
    )
    edit_object = EditObject(
        catalogs=store, grants=store, clock=clock, check=check, resolve=resolve, changing=changing, new_id=_new_id
    )
    bootstrap = Bootstrap(
        catalogs=store,
        keys=store,
        macs=keyring,
        clock=clock,
        first_key=_first_key(settings),
        trusts_spiffe=trusts_spiffe,
        new_id=_new_id,
    )
    api_keys = ApiKeys(
        keys=store,
        catalogs=store,
        macs=keyring,
        audit=audit,
        clock=clock,
        changing=changing,
        trusts_spiffe=trusts_spiffe,
        random_bytes=secrets.token_bytes,
    )
    import_grant = ImportGrant(
        catalogs=store,
        grants=store,
        access_tokens=store,
        cipher=keyring,
        clock=clock,
        redeem_now=tokens.redeem_now,
    )
    read_config = ReadConfig(catalogs=store, grants=store, audit=audit, clock=clock)
    servicers = {
        CONFIG_SERVICE: ConfigServicer(
            apply_config=apply_config,
            edit_object=edit_object,
            read_config=read_config,
            explain_policy=ExplainPolicy(catalogs=store, grants=store, audit=audit, clock=clock),
            prove_narrowing=tokens.prove_narrowing,
            unfreeze_provider=UnfreezeProvider(
                catalogs=store, grants=store, secrets=store, clock=clock, changing=changing
            ),
        ),
        SECRETS_SERVICE: SecretsServicer(AddFirstSecret(catalogs=store, first_secrets=first_secrets)),
        GRANTS_SERVICE: GrantsServicer(
            read_config=read_config,
            import_grant=import_grant,
            release_suspect=ReleaseSuspect(grants=store, store=store, clock=clock),
            hold_grant=HoldGrant(grants=store, access_tokens=store, clock=clock, soon=tokens.tend_grants.soon),
        ),
        KEYS_SERVICE: KeysServicer(api_keys),
        AUDIT_SERVICE: AuditServicer(ListEvents(log=base.audit_log, audit=audit, clock=clock)),
    }
    return AdminFlows(bootstrap, apply_config, import_grant, servicers)


def _new_id() -> str:
    return secrets.token_hex(16)


def _first_key(settings: Settings) -> Callable[[], BootstrapKey] | None:
    """Return how the first admin's key is had: from its file, or made in the data folder where that may be."""
    named = settings.bootstrap_admin_key_file
    if named is None and not settings.makes_own_keys:
        return None
    path = named or settings.data_dir / "admin.key"

    def read() -> BootstrapKey:
        if named is None and not path.exists():
            make_bootstrap_key_file(path)
        if time.time() - path.stat().st_mtime > BOOTSTRAP_SECONDS:
            raise BootstrapError(
                f"nobody can act as admin, and the key in {path} is older than a day: remove the file and make a new "
                "one with `aries-broker keys new-bootstrap FILE`"
            )
        return BootstrapKey(read_bootstrap_key_file(path), str(path))

    return read
