from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.core.api_keys import build_api_key, maced_api_key, parse_api_key_id
from broker.core.secret import Secret

KEY = Secret("abk_0123456789abcdef_" + "A" * 43)


@given(st.binary(min_size=8, max_size=8), st.binary(min_size=32, max_size=32))
def test_a_built_key_parses_to_its_id(id_bytes: bytes, secret_bytes: bytes) -> None:
    """A key built from random bytes has the documented form and parses to its id."""
    key_id, key = build_api_key(id_bytes, secret_bytes)
    assert (key_id, 64) == (parse_api_key_id(key), len(key.reveal()))


@pytest.mark.parametrize(("id_bytes", "secret_bytes"), [(b"short", bytes(32)), (bytes(8), bytes(31))])
def test_too_few_bytes_are_a_bug(id_bytes: bytes, secret_bytes: bytes) -> None:
    """A key is never built from fewer random bytes."""
    with pytest.raises(ValueError, match="random bytes"):
        build_api_key(id_bytes, secret_bytes)


@pytest.mark.parametrize(
    "text",
    [
        "abk_0123456789abcdef_" + "A" * 42,
        "abk_0123456789abcdef_" + "A" * 44,
        "abk_0123456789ABCDEF_" + "A" * 43,
        "abk_0123456789abcde_" + "A" * 43,
        "abk_0123456789abcdef_" + "A" * 42 + "=",
        "abk_0123456789abcdef_" + "A" * 43 + "\n",
        " abk_0123456789abcdef_" + "A" * 43,
        "eyJhbGciOiJSUzI1NiJ9.e30.c2ln",
        "abk_",
    ],
)
def test_anything_else_is_no_key(text: str) -> None:
    """Only the exact form is an API key."""
    assert None is parse_api_key_id(Secret(text))


def test_the_mac_covers_key_name_and_end() -> None:
    """Another key, name or end of life is another text under the MAC, and borders between them cannot be moved."""
    texts = {
        maced_api_key(KEY, "ops", None),
        maced_api_key(KEY, "ops", 0),
        maced_api_key(KEY, "ops1", None),
        maced_api_key(KEY, "ops", 10),
        maced_api_key(KEY, "ops1", 0),
        maced_api_key(Secret(KEY.reveal() + "o"), "ps", None),
    }
    assert 6 == len(texts)
