"""JWT bearers: every decision but the signature's."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.core.caller_jwt import UnverifiedJwt, VerifiedCaller, check_claims, check_header, issuer_of, parse
from broker.core.errors import UnauthenticatedError
from broker.core.identity import CallerId
from broker.core.models import Issuer, Origin

NOW = 1_900_000_000.0
ISSUER = Issuer(
    id="i1",
    name="k8s",
    origin=Origin.FILE,
    issuer="https://issuer.example",
    audience="aries-broker",
    jwks_uri="https://issuer.example/keys",
    require={"env": "prod"},
    extra_audiences=("https://kubernetes",),
)
CLAIMS: Mapping[str, object] = {
    "iss": "https://issuer.example",
    "sub": "system:serviceaccount:trading:orders",
    "aud": ["aries-broker"],
    "iat": NOW - 60,
    "exp": NOW + 600,
    "env": "prod",
}


def _part(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def _raw(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()


def _cause(error: pytest.ExceptionInfo[UnauthenticatedError]) -> str:
    assert "the caller did not prove who it is" == error.value.public
    return error.value.cause


def test_a_jwt_is_read() -> None:
    """Header and claims come out as stated."""
    unverified = parse(f"{_part({'alg': 'ES256', 'kid': 'k'})}.{_part(CLAIMS)}.c2ln")
    assert UnverifiedJwt({"alg": "ES256", "kid": "k"}, CLAIMS) == unverified


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("a" * 8193, "jwt_too_long"),
        ("", "jwt_malformed"),
        ("a.b", "jwt_malformed"),
        ("a.b.c.d", "jwt_malformed"),
        (f"{_part([])}.{_part({})}.", "jwt_malformed"),
        (f"{_part({})}.{_part('text')}.", "jwt_malformed"),
        (f"{_raw('{')}.{_part({})}.", "jwt_malformed"),
        (f"***.{_part({})}.", "jwt_malformed"),
        (f"é.{_part({})}.", "jwt_malformed"),
        (f"{_raw('[' * 5000)}.{_part({})}.", "jwt_malformed"),
        (_raw('{"alg":"none","alg":"ES256"}') + f".{_part({})}.", "jwt_malformed"),
    ],
    ids=range(11),
)
def test_what_is_no_jwt_is_refused(text: str, cause: str) -> None:
    """Bounded, three parts, JSON objects, no key twice."""
    with pytest.raises(UnauthenticatedError) as error:
        parse(text)
    assert cause == _cause(error)


@given(st.text(max_size=200))
def test_nothing_but_a_refusal_comes_of_any_text(text: str) -> None:
    """Whatever a caller sends, parsing refuses it in the one way there is, or reads it."""
    try:
        parse(text)
    except UnauthenticatedError:
        return


def test_the_issuer_is_matched_exactly() -> None:
    """`iss` is compared as a whole; a slash more is another issuer."""
    assert ISSUER is issuer_of(UnverifiedJwt({}, CLAIMS), [ISSUER])
    for iss in ("https://issuer.example/", "", None, 7):
        with pytest.raises(UnauthenticatedError) as error:
            issuer_of(UnverifiedJwt({}, {"iss": iss}), [ISSUER])
        assert "jwt_issuer" == _cause(error)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ({"alg": "ES256", "kid": "k1"}, ("ES256", "k1")),
        ({"alg": "RS256"}, ("RS256", None)),
        ({"alg": "ES384"}, "jwt_algorithm"),
        ({"alg": "none"}, "jwt_algorithm"),
        ({"alg": "HS256"}, "jwt_algorithm"),
        ({}, "jwt_algorithm"),
        ({"alg": ["ES256"]}, "jwt_algorithm"),
        ({"alg": "ES256", "kid": 7}, "jwt_header"),
        ({"alg": "ES256", "kid": ""}, "jwt_header"),
        ({"alg": "ES256", "kid": "k" * 257}, "jwt_header"),
        ({"alg": "ES256", "crit": ["x"]}, "jwt_header"),
        ({"alg": "ES256", "jku": "https://evil.example"}, "jwt_header"),
        ({"alg": "ES256", "jwk": {}}, "jwt_header"),
        ({"alg": "ES256", "x5u": "https://evil.example"}, "jwt_header"),
    ],
)
def test_the_header_may_only_choose_among_what_the_issuer_lists(
    header: Mapping[str, object], expected: tuple[str, str | None] | str
) -> None:
    """Algorithm of the issuer's list, a plain kid, and nothing that brings keys along."""
    try:
        found: object = check_header(UnverifiedJwt(header, {}), ISSUER)
    except UnauthenticatedError as error:
        found = error.cause
    assert expected == found


def test_a_listed_symmetric_algorithm_is_refused_all_the_same() -> None:
    """Even an issuer configured wrongly gets no HS*."""
    issuer = Issuer("i", "x", Origin.FILE, "iss", "aud", algorithms=("HS256",))
    with pytest.raises(UnauthenticatedError) as error:
        check_header(UnverifiedJwt({"alg": "HS256"}, {}), issuer)
    assert "jwt_algorithm" == _cause(error)


def _without(name: str) -> dict[str, object]:
    return {key: value for key, value in CLAIMS.items() if key != name}


@pytest.mark.parametrize(
    ("claims", "cause"),
    [
        (dict(CLAIMS), ""),
        ({**CLAIMS, "aud": "aries-broker"}, ""),
        ({**CLAIMS, "aud": ["https://kubernetes", "aries-broker"]}, ""),
        ({**CLAIMS, "exp": NOW - 29}, ""),
        ({**CLAIMS, "exp": NOW - 30}, "jwt_expired"),
        ({**CLAIMS, "iat": NOW + 30}, ""),
        ({**CLAIMS, "iat": NOW + 31}, "jwt_not_yet"),
        ({**CLAIMS, "nbf": NOW + 30}, ""),
        ({**CLAIMS, "nbf": NOW + 31}, "jwt_not_yet"),
        ({**CLAIMS, "nbf": "soon"}, "jwt_time"),
        ({**CLAIMS, "iat": NOW, "exp": NOW + 86400}, ""),
        ({**CLAIMS, "iat": NOW, "exp": NOW + 86401}, "jwt_life"),
        ({**CLAIMS, "iat": NOW, "exp": NOW}, "jwt_life"),
        ({**CLAIMS, "exp": str(NOW + 600)}, "jwt_time"),
        ({**CLAIMS, "exp": True}, "jwt_time"),
        ({**CLAIMS, "exp": float("nan")}, "jwt_time"),
        ({**CLAIMS, "exp": float("inf")}, "jwt_time"),
        ({**CLAIMS, "exp": 10**400}, "jwt_time"),
        ({**CLAIMS, "iat": -1}, "jwt_time"),
        (_without("exp"), "jwt_time"),
        (_without("iat"), "jwt_time"),
        ({**CLAIMS, "iss": "https://other.example"}, "jwt_issuer"),
        (_without("aud"), "jwt_audience"),
        ({**CLAIMS, "aud": []}, "jwt_audience"),
        ({**CLAIMS, "aud": "other"}, "jwt_audience"),
        ({**CLAIMS, "aud": ["https://kubernetes"]}, "jwt_audience"),
        ({**CLAIMS, "aud": ["aries-broker", "other"]}, "jwt_audience"),
        ({**CLAIMS, "aud": ["aries-broker", 7]}, "jwt_audience"),
        ({**CLAIMS, "aud": {"aries-broker": 1}}, "jwt_audience"),
        (_without("env"), "jwt_required_claim"),
        ({**CLAIMS, "env": "test"}, "jwt_required_claim"),
        ({**CLAIMS, "env": ["prod"]}, "jwt_required_claim"),
        (_without("sub"), "jwt_subject"),
        ({**CLAIMS, "sub": ""}, "jwt_subject"),
        ({**CLAIMS, "sub": "two words"}, "jwt_subject"),
        ({**CLAIMS, "sub": "s" * 256}, "jwt_subject"),
        ({**CLAIMS, "sub": 7}, "jwt_subject"),
    ],
    ids=range(37),
)
def test_claims(claims: Mapping[str, object], cause: str) -> None:
    """The caller is the issuer's name and the subject, if every claim is right for us now."""
    if cause:
        with pytest.raises(UnauthenticatedError) as error:
            check_claims(claims, ISSUER, NOW)
        assert cause == _cause(error)
    else:
        verified = check_claims(claims, ISSUER, NOW)
        assert VerifiedCaller(CallerId("k8s", "system:serviceaccount:trading:orders"), claims["exp"]) == verified  # type: ignore[arg-type]
