"""The words of `broker.yaml` as messages of the contract."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from aries.broker.admin.v1 import config_pb2
from broker.core.config import ConfigFile, ConfigObject, sections
from broker.core.models import Kind

_MESSAGES = {
    Kind.PROVIDER: config_pb2.Provider,
    Kind.CLIENT: config_pb2.Client,
    Kind.GRANT: config_pb2.Grant,
    Kind.POLICY: config_pb2.Policy,
    Kind.LIMIT: config_pb2.Limit,
    Kind.ISSUER: config_pb2.Issuer,
    Kind.ROLE: config_pb2.RoleBinding,
}


def build_config(config: ConfigFile) -> config_pb2.Config:
    """Return the whole configuration as a message."""
    parts = {name: [_build(kind, item) for item in items] for kind, (name, items) in sections(config).items()}
    return config_pb2.Config(revision=config.revision, **parts)


def build_object(kind: Kind, item: ConfigObject) -> config_pb2.Object:
    """Return one object as a message."""
    return config_pb2.Object(**{kind.value: _build(kind, item)})


def _build(kind: Kind, item: ConfigObject) -> Any:  # noqa: ANN401 - one of the messages above
    """Fill the message whose fields are named like the object's; what is absent stays absent."""
    values = {name: value for name, value in asdict(item).items() if value is not None}
    if kind is Kind.PROVIDER:
        values["scopes"] = _build_scope_map(values.get("scopes") or {})
    return _MESSAGES[kind](**values)


def _build_scope_map(scopes: Mapping[str, Sequence[str]]) -> list[config_pb2.ScopeMapping]:
    return [config_pb2.ScopeMapping(scope=scope, wire_scopes=wire) for scope, wire in scopes.items()]
