"""Objects and events as text: nothing is lost, the same value is the same text."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.adapters.sql.objects_json import (
    StoredObject,
    decode_names,
    decode_object,
    encode_names,
    encode_object,
    mac_input,
)
from broker.core.models import Client, Issuer, Kind, Limit, Origin, Policy, Provider, RoleBinding, TokenEndpointAuth

KINDS: dict[Kind, type[StoredObject]] = {
    Kind.PROVIDER: Provider,
    Kind.CLIENT: Client,
    Kind.POLICY: Policy,
    Kind.LIMIT: Limit,
    Kind.ISSUER: Issuer,
    Kind.ROLE: RoleBinding,
}
TEXT = st.text(max_size=8)


def objects(kind: Kind) -> st.SearchStrategy[StoredObject]:
    """Return objects of a kind with anything in every attribute."""
    return st.from_type(KINDS[kind])


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=40)
@given(data=st.data())
def test_objects_survive_being_text(kind: Kind, data: st.DataObject) -> None:
    """Decoding what was encoded gives an equal object, and encoding it again the same text."""
    value = data.draw(objects(kind))
    text = encode_object(value)
    decoded = decode_object(kind, value.id, value.name, value.origin, text)
    assert (value, text) == (decoded, encode_object(decoded))


def test_what_is_configured_is_all_in_the_text() -> None:
    """Changing any attribute but those with columns of their own changes the text."""
    client = Client("c1", "desk", Origin.FILE, "aries", "app")
    assert encode_object(client) == encode_object(replace(client, id="x", name="y", origin=Origin.RPC))
    assert encode_object(client) != encode_object(replace(client, client_id="other"))


def test_an_older_text_has_defaults_for_newer_attributes() -> None:
    """An attribute the text lacks has its default."""
    text = '{"issuer":"https://k8s","audience":"broker","algorithms":["ES256"],"extra_audiences":[]}'
    expected = Issuer("i1", "k8s", Origin.FILE, "https://k8s", "broker", algorithms=("ES256",))
    assert expected == decode_object(Kind.ISSUER, "i1", "k8s", Origin.FILE, text)
    provider = Provider("p1", "as", Origin.FILE, "generic", "i", "t", TokenEndpointAuth.CLIENT_SECRET_POST, {})
    text = encode_object(provider).replace('"resources":[],', "").replace('"proof":null,', "")
    assert ("resources" in text, "proof" in text) == (False, False)
    assert provider == decode_object(Kind.PROVIDER, "p1", "as", Origin.FILE, text)


def test_objects_stored_before_there_were_logins() -> None:
    """A client has no redirect URIs and no direct steps, a provider asks for nothing beside and sends our proof."""
    client = Client("c1", "desk", Origin.FILE, "aries", "app")
    body = '{"client_id":"app","provider":"aries"}'
    assert client == decode_object(Kind.CLIENT, "c1", "desk", Origin.FILE, body)
    provider = Provider("p1", "as", Origin.FILE, "generic", "i", "t", TokenEndpointAuth.CLIENT_SECRET_POST, {})
    newer = {"login_scopes", "authorize_parameters", "pkce_with_secret"}
    newer |= {"iss_promised", "direct_login_url", "subject_url", "connect_login"}
    members = json.loads(encode_object(provider))
    older = {name: value for name, value in members.items() if name not in newer}
    assert len(newer) == len(members) - len(older)
    assert provider == decode_object(Kind.PROVIDER, "p1", "as", Origin.FILE, json.dumps(older))
    assert ((), {}, True, False, None, None) == (
        provider.login_scopes,
        provider.authorize_parameters,
        provider.pkce_with_secret,
        provider.iss_promised,
        provider.direct_login_url,
        provider.subject_url,
    )


@given(st.frozensets(TEXT))
def test_names_survive_being_text(names: frozenset[str]) -> None:
    """A set of names comes back equal."""
    assert names == decode_names(encode_names(names))


@given(st.lists(TEXT, max_size=4), st.lists(TEXT, max_size=4))
def test_no_two_rows_give_a_mac_the_same_bytes(one: list[str], other: list[str]) -> None:
    """Parts cannot be shifted into one another."""
    assert (one == other) == (mac_input("t", *one) == mac_input("t", *other))
