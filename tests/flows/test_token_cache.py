from __future__ import annotations

from dataclasses import replace

import pytest

from broker.core.errors import ScopeNotGrantedError
from broker.core.models import AccessTokenKey
from broker.core.secret import Secret
from broker.flows import token_cache
from broker.flows.token_cache import CachedToken, Need, TokenCache, least_life

ORIGIN = "https://provider.example"
KEY = AccessTokenKey("g1", 1, "c1:app", ("order:execution",))


def token(**changes: object) -> CachedToken:
    """Return a token of an hour, changed where told."""
    base = CachedToken(
        key=KEY,
        access_token=Secret("at-1"),
        fingerprint="f1",
        attempt=1,
        granted=frozenset(KEY.wire_scopes),
        verified=True,
        life=3600.0,
        ends_at=3600.0,
        lifetime_assumed=False,
        token_origin=ORIGIN,
    )
    return replace(base, **changes)  # type: ignore[arg-type]  # fields by name


@pytest.mark.parametrize(
    ("life", "boottime", "expected"),
    [(3600.0, 3594.9, True), (3600.0, 3595.1, False), (10.0, 7.9, True), (10.0, 8.1, False), (1.0, 0.7, True)],
)
def test_token_is_served_until_shortly_before_its_end(life: float, boottime: float, expected: bool) -> None:
    """A token is handed out to 5 s before its end, or to the last fifth of a shorter life."""
    cache = TokenCache()
    cache.put(token(life=life, ends_at=life))
    assert expected == (cache.find(KEY, ORIGIN, boottime) is not None)


@pytest.mark.parametrize(
    ("need", "boottime", "met"),
    [
        (Need(), 3540.0, True),
        (Need(), 3540.1, False),
        (Need(600.0), 3000.0, True),
        (Need(600.0), 3000.1, False),
        (Need(1.0), 3594.9, True),
        (Need(1.0), 3595.1, False),
        (Need(unlike="f1"), 0.0, False),
        (Need(unlike="f2"), 0.0, True),
        (Need(600.0, "f2"), 3000.1, False),
    ],
)
def test_what_a_token_has_to_be(need: Need, boottime: float, met: bool) -> None:
    """It lives as long as is wanted, may still be handed out, and is not the one that does not do."""
    assert met == need.met_by(token(), boottime)


@pytest.mark.parametrize(
    "other",
    [
        replace(KEY, epoch=2),
        replace(KEY, grant_id="g2"),
        replace(KEY, client_id="c2:app"),
        replace(KEY, wire_scopes=("order:execution", "order:information")),
        replace(KEY, wire_scopes=()),
        replace(KEY, resource="https://api.example"),
    ],
)
def test_no_other_key_finds_a_token(other: AccessTokenKey) -> None:
    """Every part of the key tells tokens apart: another epoch, client, scope set or resource finds nothing."""
    cache = TokenCache()
    cache.put(token())
    assert cache.find(other, ORIGIN, 0.0) is None


def test_token_of_another_endpoint_is_not_served() -> None:
    """After a provider was re-pointed, tokens of the old endpoint are misses."""
    cache = TokenCache()
    cache.put(token())
    assert cache.find(KEY, "https://elsewhere.example", 0.0) is None


def test_older_attempt_does_not_replace_a_later_one() -> None:
    """A slow store read never puts an older token over a newer one."""
    cache = TokenCache()
    cache.put(token(attempt=2, fingerprint="new"))
    cache.put(token(attempt=1, fingerprint="old"))
    found = cache.find(KEY, ORIGIN, 0.0)
    assert found is not None
    assert found.fingerprint == "new"


def test_cache_is_bounded_and_drops_the_least_recently_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """A full cache forgets the token not asked for the longest."""
    monkeypatch.setattr(token_cache, "MAX_TOKENS", 2)
    cache = TokenCache()
    keys = [replace(KEY, grant_id=f"g{number}") for number in range(3)]
    cache.put(token(key=keys[0]))
    cache.put(token(key=keys[1]))
    cache.find(keys[0], ORIGIN, 0.0)
    cache.put(token(key=keys[2]))
    assert [True, False, True] == [cache.find(key, ORIGIN, 0.0) is not None for key in keys]


def test_refusal_is_remembered_for_its_time_and_ends_with_a_token() -> None:
    """A refused key is refused again without a call until its time is over or a token came."""
    cache = TokenCache()
    cache.refuse(KEY, ScopeNotGrantedError("no"), 0.0, 30.0, 300.0)
    assert isinstance(cache.refusal(KEY, 29.0), ScopeNotGrantedError)
    assert cache.refusal(KEY, 30.0) is None
    cache.refuse(KEY, ScopeNotGrantedError("no"), 30.0, 30.0, 300.0)
    cache.put(token())
    assert cache.refusal(KEY, 1.0) is None


def test_refusals_in_a_row_are_remembered_longer() -> None:
    """Each refusal soon after the last one doubles the time, up to the longest; a late one starts over."""
    cache = TokenCache()
    seen = []
    for boottime in (0.0, 31.0, 100.0, 299.0, 2000.0):
        cache.refuse(KEY, ScopeNotGrantedError("no"), boottime, 30.0, 100.0)
        ends = [end for end in range(1, 400) if cache.refusal(KEY, boottime + end) is None]
        seen.append(ends[0])
    assert [30, 60, 100, 100, 30] == seen


def _refused() -> CachedToken:
    raise ScopeNotGrantedError("no")


def test_remembered_refusals_are_bounded_and_hold_no_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    """The refusal not renewed the longest is forgotten first; what is kept has no traceback."""
    monkeypatch.setattr(token_cache, "MAX_TOKENS", 1)
    cache = TokenCache()
    other = replace(KEY, grant_id="g2")
    with pytest.raises(ScopeNotGrantedError) as caught:
        _ = _refused()
    cache.refuse(KEY, caught.value, 0.0, 30.0, 30.0)
    cache.refuse(other, caught.value, 0.0, 30.0, 30.0)
    assert cache.refusal(KEY, 0.0) is None
    assert [None] == [kept.error.__traceback__ for kept in cache._refusals.values()]


@pytest.mark.parametrize(
    ("min_lifetime", "life", "expected"), [(None, 3600.0, 60.0), (None, 100.0, 20.0), (5.0, 3600.0, 5.0)]
)
def test_least_life(min_lifetime: float | None, life: float, expected: float) -> None:
    """Without a wish a token must live 60 s still, or a fifth of a shorter life."""
    assert expected == least_life(min_lifetime, life)
