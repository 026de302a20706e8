"""The table of methods against the contract."""

from __future__ import annotations

import re
from pathlib import Path

from google.protobuf.descriptor import ServiceDescriptor

from aries.broker.admin.v1 import audit_pb2, config_pb2, grants_pb2, keys_pb2, secrets_pb2
from aries.broker.v1 import authorization_pb2, token_pb2
from broker.core.identity import Role
from broker.core.models import LimitTarget
from broker.rpc.methods import METHODS, SERVICES

FILES = (token_pb2, authorization_pb2, config_pb2, secrets_pb2, grants_pb2, keys_pb2, audit_pb2)
PROTO = Path(__file__).parents[2] / "proto"


def _services() -> list[ServiceDescriptor]:
    return [service for file in FILES for service in file.DESCRIPTOR.services_by_name.values()]


def test_every_rpc_is_in_the_table_and_nothing_else() -> None:
    """The table has exactly the RPCs of the contract, with their messages; no caller streams to the broker."""
    declared = {
        f"/{service.full_name}/{method.name}": (
            method.input_type.full_name,
            method.output_type.full_name,
            False,
            method.server_streaming,
        )
        for service in _services()
        for method in service.methods
    }
    found = {}
    for service in _services():
        for method in service.methods:
            row = METHODS.get(f"/{service.full_name}/{method.name}")
            if row is not None:
                found[row.full_name] = (
                    row.request.DESCRIPTOR.full_name,
                    row.reply.DESCRIPTOR.full_name,
                    method.client_streaming,
                    row.streams,
                )
    assert declared == found
    assert set(declared) == set(METHODS)
    assert {service.full_name for service in _services()} == set(SERVICES)


def test_every_proto_file_is_looked_at() -> None:
    """No file that declares a service is missing from this test."""
    with_services = {
        str(path.relative_to(PROTO)) for path in PROTO.rglob("*.proto") if "\nservice " in path.read_text()
    }
    assert {file.DESCRIPTOR.name for file in FILES} == with_services


def test_roles_agree_with_the_contract() -> None:
    """The comment on an RPC that says who may call names exactly the roles of its row."""
    told = {}
    for file in FILES:
        name = file.DESCRIPTOR.name
        [service] = file.DESCRIPTOR.services_by_name.values()
        text = (PROTO / name).read_text()
        for comment, rpc in re.findall(r"((?:  //[^\n]*\n)+)  rpc (\w+)\(", text):
            flat = " ".join(line.strip(" /") for line in comment.splitlines())
            sentence = re.search(r"Who may call: ([^.]*)\.", flat)
            assert sentence, rpc
            roles = re.fullmatch(r"roles? ([a-z, ]+)", sentence.group(1))
            named = {Role(word) for word in roles.group(1).split(", ")} if roles else set()
            told[f"/{service.full_name}/{rpc}"] = frozenset(named)
    assert told == {name: method.roles for name, method in METHODS.items()}


def test_admin_rpcs_have_roles_and_pay_as_admin() -> None:
    """What is in the admin package needs a role and pays the limits of admin; what is not, does neither."""
    for name, method in METHODS.items():
        admin = name.startswith("/aries.broker.admin.")
        assert (admin, admin) == (bool(method.roles), method.target is LimitTarget.ADMIN), name
