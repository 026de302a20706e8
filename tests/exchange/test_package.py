"""The package as others see it: what it exports, which scopes it knows, and that it shares no secret by accident."""

from __future__ import annotations

import pytest

import aries_exchange
from aries_exchange.scopes import SCOPES, build_scope, product_scope
from broker.adapters.presets import aries


def test_everything_public_is_named() -> None:
    """`__all__` holds what the package exports, sorted, and every name in it is there."""
    public = {
        name
        for name, value in vars(aries_exchange).items()
        if not name.startswith("_") and getattr(value, "__module__", "").startswith("aries_exchange")
    }

    assert sorted(public) == aries_exchange.__all__


def test_scopes_are_those_of_the_brokers_preset() -> None:
    """An app gets the same with a broker and without."""
    assert dict(aries.SCOPES) == dict(SCOPES)


@pytest.mark.parametrize(
    ("scopes", "expected"),
    [
        (["trade"], "order:execution"),
        (["read", "user:information"], "account:information order:information position:information user:information"),
        (["withdraw", "admin"], "withdraw admin"),
        (("market:information",), "market:information"),
        ([], ""),
    ],
    ids=str,
)
def test_a_scope_parameter_has_each_scope_once(scopes: list[str], expected: str) -> None:
    """In the wire's words, as far as it has any."""
    assert expected == build_scope(scopes)


@pytest.mark.parametrize("scope", ["", "two words", "line\nbreak", "ümlaut"])
def test_a_scope_is_a_word(scope: str) -> None:
    """Else it would be another one on the wire."""
    with pytest.raises(ValueError, match="a scope is a word"):
        build_scope([scope])


def test_scopes_are_a_list() -> None:
    """The letters of one text are none."""
    with pytest.raises(TypeError, match="scope is a list"):
        build_scope("read")


def test_every_call_has_a_scope_of_the_sdk() -> None:
    """Which a broker is asked for."""
    assert ["read", "trade"] == [product_scope("user:information"), product_scope("order:execution")]
