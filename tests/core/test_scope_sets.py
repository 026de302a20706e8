"""How many scope sets of a grant may be alive."""

from __future__ import annotations

import pytest

from broker.core.errors import ScopeSetsError
from broker.core.scope_sets import MAX_OF_CALLER, MAX_OF_GRANT, check_one_more


@pytest.mark.parametrize(
    "others",
    [
        [],
        ["key:a"] * (MAX_OF_CALLER - 1),
        ["key:b"] * (MAX_OF_GRANT - 1),
        ["key:a"] * (MAX_OF_CALLER - 1) + ["key:b"] * (MAX_OF_GRANT - MAX_OF_CALLER),
    ],
)
def test_a_set_within_both_bounds_may_live(others: list[str]) -> None:
    """What others brought counts for the grant alone, one's own for both."""
    check_one_more(others, "key:a")


@pytest.mark.parametrize(
    ("others", "maximum"),
    [
        (["key:b"] * MAX_OF_GRANT, MAX_OF_GRANT),
        (["key:a"] * MAX_OF_CALLER, MAX_OF_CALLER),
        (["key:a"] * MAX_OF_CALLER + ["key:b"], MAX_OF_CALLER),
    ],
)
def test_a_set_too_many_is_refused(others: list[str], maximum: int) -> None:
    """The bound that was met is told."""
    with pytest.raises(ScopeSetsError) as caught:
        check_one_more(others, "key:a")
    assert {"maximum": str(maximum)} == caught.value.metadata


def test_one_caller_leaves_room_for_others() -> None:
    """Whatever one caller asks for, another finds a place."""
    assert MAX_OF_CALLER < MAX_OF_GRANT
