"""What an authentication remembers, and what the ends of a bootstrap key are."""

from __future__ import annotations

from dataclasses import replace

import pytest

from broker.core.errors import UnauthenticatedError
from broker.core.identity import CallerId, Role
from broker.core.models import Issuer, Origin
from broker.rpc import authenticate
from broker.rpc.authenticate import Credentials
from tests.rpc.issuer import LiveIssuer
from tests.rpc.kit import Kit, role


def _bearer(token: str) -> Credentials:
    return Credentials.of({"authorization": (f"bearer {token}",)}, {})


class AllSigned:
    """Every signature is good."""

    generation = 0

    def __init__(self) -> None:
        self.verified = 0

    async def verify(self, issuer: Issuer, unverified_jwt: str, algorithm: str, kid: str | None) -> None:
        self.verified += 1


async def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The credential used longest ago is forgotten first, and simply proved again."""
    monkeypatch.setattr(authenticate, "MAX_CACHED", 2)
    kit = Kit()
    kit.edge()
    keys = [kit.add_key(name) for name in ("a", "b", "c")]
    for key in (keys[0], keys[1], keys[0], keys[2], keys[0], keys[1]):
        await kit.authenticate(_bearer(key))
    assert 4 == kit.keys.lookups


async def test_a_jwt_in_its_leeway_is_not_remembered() -> None:
    """Past its exp a JWT is proved on every call, for the seconds clocks may differ."""
    kit, signatures, issuer = Kit(), AllSigned(), LiveIssuer()
    kit.signatures = signatures
    kit.edge()
    kit.catalog = replace(kit.catalog, issuers=(issuer.configured(),))
    now = kit.clock.now()
    token = issuer.sign(issuer.claims(now, iat=int(now) - 60, exp=int(now) - 10))
    for _ in range(2):
        assert "k8s" == (await kit.authenticate(_bearer(token))).caller.kind
    assert 2 == signatures.verified


async def test_a_certificate_where_none_is_asked_for_proves_nobody() -> None:
    """Without a trust domain no SPIFFE ID means anything."""
    kit = Kit()
    kit.edge()
    shown = Credentials.of({}, {"x509_pem_cert": [b"pem"], "peer_spiffe_id": [b"spiffe://corp.example/a"]})
    with pytest.raises(UnauthenticatedError) as error:
        await kit.authenticate(shown)
    assert "certificate_unexpected" == error.value.cause


@pytest.mark.parametrize(
    ("admin", "trust_domain", "ends"),
    [
        ("spiffe://corp.example/ops", "corp.example", True),
        ("spiffe://corp.example/ops", None, False),
        ("k8s:ops", None, True),
        ("other:ops", None, False),
        ("key:nobody", None, False),
        ("key:gone", None, False),
        ("key:alice", None, True),
        ("key:first", None, False),
    ],
)
async def test_a_bootstrap_key_ends_with_another_admin(admin: str, trust_domain: str | None, ends: bool) -> None:
    """Another admin is one that can prove itself: of our trust domain, of a known issuer, or with a key that opens."""
    kit = Kit(trust_domain=trust_domain)
    kit.edge()
    kit.add_key("alice")
    kit.add_key("gone", disabled=True)
    first = kit.add_key("first", bootstrap_until=int(kit.clock.now()) + 3600)
    issuer = Issuer("i", "k8s", Origin.FILE, "https://issuer.example", "aries-broker", jwks_file="/keys")
    kit.catalog = replace(kit.catalog, issuers=(issuer,), roles=(role(Role.ADMIN, "key:first", admin),))
    if ends:
        with pytest.raises(UnauthenticatedError) as error:
            await kit.authenticate(_bearer(first))
        assert "bootstrap_key_over" == error.value.cause
    else:
        assert CallerId("key", "first") == (await kit.authenticate(_bearer(first))).caller
