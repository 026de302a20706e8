"""How long a grant rests after a redeem that came to nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.core.back_off import FIRST, LONGEST, back_off
from broker.core.oauth.reply import MAX_RETRY_AFTER

FAILURES = st.integers(0, 10**6)
RETRY_AFTER = st.none() | st.floats(0, MAX_RETRY_AFTER)
SPREAD = st.floats(0, 1)


@pytest.mark.parametrize(
    ("failures", "seconds"), [(0, 1), (1, 2), (2, 4), (7, 128), (8, 256), (9, 300), (10, 300), (1000, 300)]
)
def test_each_failure_in_a_row_doubles_the_wait(failures: int, seconds: int) -> None:
    """From a second, up to five minutes."""
    assert seconds * 1000 == back_off(failures, None, 0)


@pytest.mark.parametrize(
    ("failures", "retry_after", "seconds"),
    [(0, 0.0, 1), (0, 0.5, 1), (0, 17.25, 17.25), (4, 3.0, 16), (0, 3600.0, 300)],
)
def test_a_provider_is_given_the_time_it_asks_for(failures: int, retry_after: float, seconds: float) -> None:
    """Never less than Retry-After nor than the grant's own wait; an hour is not believed."""
    assert seconds * 1000 == back_off(failures, retry_after, 0)


@given(failures=FAILURES, retry_after=RETRY_AFTER, spread=SPREAD)
def test_the_wait_lies_between_what_is_due_and_a_quarter_more(
    failures: int, retry_after: float | None, spread: float
) -> None:
    """Whatever failed how often and whatever was asked for."""
    least = back_off(failures, retry_after, 0)
    assert FIRST <= least <= LONGEST
    assert least <= back_off(failures, retry_after, spread) <= least * 1.25


@pytest.mark.parametrize(("failures", "retry_after"), [(0, None), (5, None), (100, None), (0, 60.0), (0, 3600.0)])
def test_what_failed_together_does_not_come_back_together(failures: int, retry_after: float | None) -> None:
    """The wait is spread over a quarter of itself, the longest one too."""
    waits = [back_off(failures, retry_after, step / 100) for step in range(101)]
    assert sorted(set(waits)) == waits
    assert waits[0] * 1.25 == waits[-1]
