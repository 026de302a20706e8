"""A token that repeats a secret of ours, as it is or encoded, is known; an honest one is not taken for one."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.core.oauth.echo import DEPTH, LEAST_TELLING, repeats, views
from tests.core.oauth_values import jwt

SECRET = 'canary s3cret/with+ödd\\"signs\U0001f511'
PAIR = f"{quote_plus('desk app:é')}:{quote_plus(SECRET)}"


def b64(text: str) -> str:
    """Return base64 as most libraries write it."""
    return base64.b64encode(text.encode()).decode()


def b64url(text: str) -> str:
    """Return base64 of the alphabet of URLs, padded."""
    return base64.urlsafe_b64encode(text.encode()).decode()


def percent_all(text: str) -> str:
    """Return a text of nothing but percent signs and digits."""
    return "".join(f"%{byte:02x}" for byte in text.encode())


ENCODINGS: dict[str, Callable[[str], str]] = {
    "base64": b64,
    "base64 without padding": lambda text: b64(text).rstrip("="),
    "base64url": b64url,
    "base64url without padding": lambda text: b64url(text).rstrip("="),
    "hex": lambda text: text.encode().hex(),
    "HEX": lambda text: text.encode().hex().upper(),
}
SPELLINGS: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "percent": lambda text: quote(text, safe=""),
    "form": quote_plus,
    "percent, all of it, lower case": percent_all,
    "JSON": json.dumps,
    "JSON without escapes": lambda text: json.dumps(text, ensure_ascii=False),
}


@pytest.mark.parametrize("before", ["", "t", "to", "tok", "tok_", "v1.", "a-b.c~"])
@pytest.mark.parametrize("behind", ["", "x", "xy", "xyz", ".sig"])
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_encoded_secrets_are_seen_wherever_they_stand(encoding: str, before: str, behind: str) -> None:
    """Base64 of both alphabets and hex of both cases, at whatever place of the token."""
    assert repeats(before + ENCODINGS[encoding](SECRET) + behind, ["another secret", SECRET])


@pytest.mark.parametrize("lead", ["", "a", "ab"])
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_secret_inside_an_encoded_text_is_seen(encoding: str, lead: str) -> None:
    """A secret may begin at any of the three places of a base64 quantum."""
    assert repeats(ENCODINGS[encoding](f"{lead}{SECRET}: and more"), [SECRET])


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("encoding", ["base64", "base64url without padding", "hex"])
def test_spellings_inside_an_encoding_are_seen(encoding: str, spelling: str) -> None:
    """Percent signs and the escapes of JSON are undone first."""
    assert repeats(ENCODINGS[encoding](f"say {SPELLINGS[spelling](SECRET)}!"), [SECRET])


@pytest.mark.parametrize("encoding", [*ENCODINGS, "as it is", "percent", "form", "percent, all of it, lower case"])
@pytest.mark.parametrize("part", ["header", "claims"])
def test_jwts_are_looked_into(part: str, encoding: str) -> None:
    """The decoded header and claims of a JWT are searched, also for a secret that is encoded in them."""
    told = {"note": f"got {(ENCODINGS | SPELLINGS)[encoding](SECRET)} from you"}
    header, claims = ({"alg": "none"} | told, {}) if part == "header" else ({"alg": "none"}, told)
    token = ".".join(b64url(json.dumps(each)).rstrip("=") for each in (header, claims)) + ".c2ln"
    assert repeats(token, [SECRET])


@pytest.mark.parametrize(
    "token", [b64(PAIR), b64(PAIR).rstrip("="), b64url(PAIR), jwt(authorization=f"Basic {b64(PAIR)}")]
)
def test_basic_credentials_are_seen_by_secret_or_pair(token: str) -> None:
    """What stands in the Basic header is found by the secret in it, and by the pair where the secret is too short."""
    assert [True, True] == [repeats(token, [SECRET]), repeats(token, [PAIR])]


@pytest.mark.parametrize("token", [jwt(sub="desk"), f"x.{jwt(sub='desk')}", b64(jwt(sub="desk"))])
def test_client_assertions_are_seen(token: str) -> None:
    """An assertion that comes back, also within something else, is one of ours."""
    assert repeats(token, [jwt(sub="desk")])


@pytest.mark.parametrize(
    ("token", "expected"),
    [
        ("short", True),
        (b64("short"), True),
        (b64url("short").rstrip("="), True),
        (b"short".hex(), True),
        ("a-short-token", False),
        (b64("a short token"), False),
        (jwt(scope="short"), False),
    ],
)
def test_short_secrets_are_compared_whole(token: str, expected: bool) -> None:
    """Fewer than twelve characters stand in honest tokens by chance: the whole token has to be them."""
    assert expected == repeats(token, ["short"])


@given(
    secret=st.text(st.characters(codec="utf-8"), min_size=LEAST_TELLING, max_size=60),
    before=st.from_regex(r"\A[A-Za-z0-9._~+/-]{0,40}\Z"),
    behind=st.from_regex(r"\A[A-Za-z0-9._~+/-]{0,40}\Z"),
    encoding=st.sampled_from([*ENCODINGS.values()]),
    spelling=st.sampled_from([*SPELLINGS.values()]),
)
def test_every_secret_is_seen_in_every_encoding(
    secret: str, before: str, behind: str, encoding: Callable[[str], str], spelling: Callable[[str], str]
) -> None:
    """Whatever the secret, whatever stands around it."""
    assert repeats(before + encoding(spelling(secret)) + behind, [secret])


@given(st.from_regex(r"\A[A-Za-z0-9._~+/-]{1,300}={0,2}\Z"))
def test_honest_tokens_are_left_alone(token: str) -> None:
    """A token that holds nothing of a secret is no echo, and no token makes the search fail."""
    assert not repeats(token, ["a secret of no token ö", "short ö"])


@given(
    st.one_of(
        st.binary(max_size=400),
        st.sampled_from([b"A", b"4141", b"QUFB", b"%41", b"\\u0041", b"JTQx"]).map(lambda each: each * 500),
    )
)
def test_the_work_is_a_multiple_of_the_tokens_length(token: bytes) -> None:
    """What is looked through is bounded: three spellings at most, each decoded to at most four times its length."""
    looked_through = sum(map(len, views(token)))
    assert looked_through <= 3 * sum(12**depth for depth in range(DEPTH + 1)) * len(token)
