"""The steps of a login, one by one: what they move, and when they are refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from broker.core.authorization import (
    CODE_LIFE_MS,
    LIFE_MS,
    MOST_TRIES,
    SETTLE_MS,
    Authorization,
    AuthorizationFacts,
    Failure,
    LoginPhase,
    Obstacle,
    ReceivedGrant,
    StepError,
    Way,
    begin_exchange,
    check_at_hand,
    check_back,
    come_back,
    confirm,
    connect,
    fail,
    give_code,
    is_over,
    is_signed_in,
    know,
    named_person,
    normal_short_code,
    parse_bundle,
    parse_facts,
    receive,
    sign_in,
    take_code,
)
from broker.core.oauth.rfc7636 import challenge_of
from broker.core.sealing import Sealed
from broker.core.secret import Secret

NOW = 5_000_000
SEALED = Sealed("k", b"verifier")
GOT = Sealed("k", b"received")
VERIFIER = "v" * 43
FACTS = AuthorizationFacts(
    id="id",
    grant_id="g",
    grant="desk",
    client_id="c",
    provider_id="p",
    starter="key:ops",
    way=Way.PAGE,
    scopes=("read",),
    redirect_uri="https://broker.example/callback/aries",
    short_code="right",
)
APP = replace(
    FACTS, way=Way.APP, short_code="", app_redirect_uri="https://app.example/cb", app_challenge=challenge_of(VERIFIER)
)
STARTED = Authorization(FACTS, SEALED, NOW + LIFE_MS)
SIGNING_IN = sign_in(STARTED, "mine", "sign-in", NOW)
SIGNED_IN = know(come_back(SIGNING_IN, "mine", NOW), "ada at https://corp.example")
CONFIRMED = confirm(STARTED, "mine", "right", "state", NOW)
SENT = begin_exchange(CONFIRMED, "me", NOW)
DIRECT = Authorization(replace(FACTS, way=Way.DIRECT, short_code=""), SEALED, NOW + LIFE_MS)


def received(of: Authorization = SENT) -> Authorization:
    """Return a login with what the provider gave."""
    after = receive(of, GOT, ("read",), NOW)
    assert after is not None
    return after


CODED = give_code(received(replace(SENT, facts=APP)), "code", NOW)
CONNECTED = connect(received())
FAILED = fail(STARTED, Failure.CANCELLED)


def refused(step: Callable[[], object]) -> StepError:
    """Return the error of a step that must be refused."""
    with pytest.raises(StepError) as refusal:
        step()
    return refusal.value


def test_the_whole_way_on_a_page() -> None:
    """Each step is a version of its own; at the end nothing sealed is left but the verifier."""
    assert [0, 1, 2, 3, 4] == [one.version for one in (STARTED, CONFIRMED, SENT, received(), CONNECTED)]
    assert (LoginPhase.CONFIRMED, "state", NOW + LIFE_MS) == (CONFIRMED.phase, CONFIRMED.state, CONFIRMED.expires_at)
    assert (LoginPhase.EXCHANGING, "", "me") == (SENT.phase, SENT.state, SENT.owner)
    assert (LoginPhase.RECEIVED, GOT, NOW + SETTLE_MS) == (received().phase, received().received, received().expires_at)
    assert (LoginPhase.CONNECTED, None, True) == (CONNECTED.phase, CONNECTED.received, is_over(CONNECTED))


def test_the_first_browser_that_goes_on_has_it() -> None:
    """It may go back and on again, in as many tabs as it likes; another may not.

    To look is not to go on, nor is to be sent to sign in, which everybody with the link can.
    """
    for browser in ("mine", "other"):
        check_at_hand(STARTED, browser, NOW)
    check_at_hand(SIGNING_IN, "other", NOW)
    assert "other" == sign_in(SIGNING_IN, "other", "s", NOW).browser
    for login in (SIGNED_IN, CONFIRMED):
        assert "mine" == login.browser
        check_at_hand(login, "mine", NOW)
        assert Obstacle.OTHER_BROWSER is refused(lambda at=login: check_at_hand(at, "other", NOW)).obstacle  # type: ignore[misc]
        assert Obstacle.OTHER_BROWSER is refused(lambda at=login: confirm(at, "other", "right", "s", NOW)).obstacle  # type: ignore[misc]
    assert Obstacle.OTHER_BROWSER is refused(lambda: sign_in(SIGNED_IN, "other", "s", NOW)).obstacle


def test_whoever_types_a_wrong_code_does_not_have_it() -> None:
    """Or nobody else could go on."""
    assert ["", "mine"] == [
        ended.browser
        for login in (STARTED, CONFIRMED)
        if (ended := refused(lambda at=login: confirm(at, "mine", "wrong", "s", NOW)).ended)  # type: ignore[misc]
    ]


def test_confirming_again_asks_anew() -> None:
    """A person who went back: the provider's first answer has a state that is none any more. It gains no time."""
    again = confirm(CONFIRMED, "mine", "right", "state-2", NOW + 7)
    assert ("state-2", NOW + LIFE_MS, 2) == (again.state, again.expires_at, again.version)


def test_a_person_signs_in_before() -> None:
    """The state of that is spent as they come back; the login's own comes later. It gains no time."""
    assert ("sign-in", "", NOW + LIFE_MS) == (SIGNING_IN.state, SIGNING_IN.person, SIGNING_IN.expires_at)
    assert ("", "ada at https://corp.example", LoginPhase.STARTED) == (
        SIGNED_IN.state,
        SIGNED_IN.person,
        SIGNED_IN.phase,
    )
    assert SIGNED_IN.person == confirm(SIGNED_IN, "mine", "right", "state", NOW).person


@pytest.mark.parametrize(
    ("login", "browser", "obstacle"),
    [
        (STARTED, "mine", Obstacle.WRONG_STATE),
        (SIGNED_IN, "mine", Obstacle.WRONG_STATE),
        (CONFIRMED, "mine", Obstacle.WRONG_STATE),
        (SIGNING_IN, "other", Obstacle.OTHER_BROWSER),
        (SIGNING_IN, "", Obstacle.OTHER_BROWSER),
    ],
)
def test_only_who_was_sent_to_sign_in_comes_back(login: Authorization, browser: str, obstacle: Obstacle) -> None:
    """Once, and in the browser that went."""
    assert obstacle is refused(lambda: come_back(login, browser, NOW)).obstacle


def test_who_confirmed_does_not_sign_in_any_more() -> None:
    """The state of the provider's answer would be lost."""
    assert Obstacle.OVER is refused(lambda: sign_in(CONFIRMED, "mine", "s", NOW)).obstacle


@pytest.mark.parametrize("issuer", ["https://corp.example/", "https://other.example", "corp.example"])
def test_a_person_is_signed_in_at_one_issuer(issuer: str) -> None:
    """Another one's word is not asked, however the two are called."""
    assert is_signed_in(SIGNED_IN, "https://corp.example")
    assert not is_signed_in(SIGNED_IN, issuer)
    assert not is_signed_in(STARTED, "https://corp.example")
    assert SIGNED_IN.person == named_person("ada", "https://corp.example")


def test_a_wrong_short_code_counts_and_the_last_one_ends_it() -> None:
    """Each is written down before it is told; one that is not demanded is not looked at."""
    login = STARTED
    for tries in range(1, MOST_TRIES + 1):
        error = refused(lambda at=login: confirm(at, "mine", "wrong", "s", NOW))  # type: ignore[misc]  # a default
        assert (Obstacle.WRONG_CODE, tries) == (error.obstacle, error.ended.tries if error.ended else 0)
        assert error.ended is not None
        assert login.version + 1 == error.ended.version
        login = error.ended
    assert (LoginPhase.FAILED, Failure.TOO_MANY_TRIES) == (login.phase, login.failure)
    undemanded = replace(STARTED, facts=replace(FACTS, short_code=""))
    assert LoginPhase.CONFIRMED is confirm(undemanded, "mine", "whatever", "s", NOW).phase


@pytest.mark.parametrize("login", [SENT, received(), CONNECTED, FAILED])
def test_what_got_further_is_neither_shown_nor_confirmed(login: Authorization) -> None:
    """It is over for the browser."""
    held = replace(login, browser="mine")
    assert Obstacle.OVER is refused(lambda: check_at_hand(held, "mine", NOW)).obstacle
    assert Obstacle.OVER is refused(lambda: sign_in(held, "mine", "s", NOW)).obstacle
    assert Obstacle.OVER is refused(lambda: confirm(held, "mine", "right", "s", NOW)).obstacle
    assert Obstacle.OVER is refused(lambda: begin_exchange(held, "me", NOW)).obstacle


@pytest.mark.parametrize(
    "step",
    [
        lambda at: check_at_hand(STARTED, "mine", at),
        lambda at: sign_in(STARTED, "mine", "s", at),
        lambda at: come_back(SIGNING_IN, "mine", at),
        lambda at: confirm(STARTED, "mine", "right", "s", at),
        lambda at: check_back(CONFIRMED, "mine", "p", at),
        lambda at: begin_exchange(CONFIRMED, "me", at),
        lambda at: begin_exchange(DIRECT, "me", at),
    ],
)
def test_time_ends_at_its_last_moment(step: Callable[[int], object]) -> None:
    """A millisecond before it is in time."""
    step(NOW + LIFE_MS - 1)
    assert Obstacle.EXPIRED is refused(lambda: step(NOW + LIFE_MS)).obstacle


@pytest.mark.parametrize(
    ("login", "browser", "provider", "obstacle"),
    [
        (CONFIRMED, "other", "p", Obstacle.OTHER_BROWSER),
        (CONFIRMED, "", "p", Obstacle.OTHER_BROWSER),
        (CONFIRMED, "mine", "q", Obstacle.WRONG_STATE),
        (SIGNING_IN, "mine", "p", Obstacle.WRONG_STATE),
        (SENT, "mine", "p", Obstacle.WRONG_STATE),
        (CONNECTED, "mine", "p", Obstacle.WRONG_STATE),
    ],
)
def test_a_callback_belongs_to_its_browser_and_provider(
    login: Authorization, browser: str, provider: str, obstacle: Obstacle
) -> None:
    """And to a login that waits for it."""
    assert obstacle is refused(lambda: check_back(login, browser, provider, NOW)).obstacle
    check_back(CONFIRMED, "mine", "p", NOW)


def test_only_a_direct_login_is_exchanged_unconfirmed() -> None:
    """And a direct one is never confirmed in a browser by its starter's own code."""
    assert LoginPhase.EXCHANGING is begin_exchange(DIRECT, "me", NOW).phase
    assert Obstacle.OVER is refused(lambda: begin_exchange(SIGNED_IN, "me", NOW)).obstacle


@pytest.mark.parametrize("login", [SENT, fail(SENT, Failure.PROVIDER_UNAVAILABLE), fail(SENT, Failure.EXPIRED)])
def test_what_comes_is_received(login: Authorization) -> None:
    """Also when nobody waited for it any more."""
    after = received(login)
    assert (LoginPhase.RECEIVED, None, login.version + 1) == (after.phase, after.failure, after.version)


@pytest.mark.parametrize("login", [received(), CONNECTED, fail(received(), Failure.SUBJECT_MISMATCH)])
def test_what_came_comes_once(login: Authorization) -> None:
    """A second time changes nothing."""
    assert receive(login, GOT, ("read",), NOW) is None


def test_an_app_shows_its_code_once() -> None:
    """With what it began with; then the login is settled like any other."""
    taken = take_code(CODED, "key:ops", "https://app.example/cb", VERIFIER, NOW)
    assert ("", True, NOW + SETTLE_MS) == (taken.code, taken.taken, taken.expires_at)
    again = refused(lambda: take_code(taken, "key:ops", APP.app_redirect_uri, VERIFIER, NOW))
    assert Obstacle.UNKNOWN is again.obstacle
    unproved = replace(CODED, facts=replace(APP, app_challenge=""))
    assert take_code(unproved, "key:ops", APP.app_redirect_uri, "", NOW).taken


@pytest.mark.parametrize(
    ("starter", "redirect_uri", "verifier", "at", "obstacle"),
    [
        ("key:other", APP.app_redirect_uri, VERIFIER, NOW, Obstacle.UNKNOWN),
        ("key:ops", "https://app.example/cb/", VERIFIER, NOW, Obstacle.WRONG_CODE),
        ("key:ops", APP.app_redirect_uri, "w" * 43, NOW, Obstacle.WRONG_CODE),
        ("key:ops", APP.app_redirect_uri, "", NOW, Obstacle.WRONG_CODE),
        ("key:ops", APP.app_redirect_uri, APP.app_challenge, NOW, Obstacle.WRONG_CODE),
        ("key:ops", APP.app_redirect_uri, VERIFIER, NOW + CODE_LIFE_MS, Obstacle.EXPIRED),
    ],
)
def test_a_code_is_bound_to_what_it_was_given_for(
    starter: str, redirect_uri: str, verifier: str, at: int, obstacle: Obstacle
) -> None:
    """Caller, redirect URI, challenge by its verifier alone, and a minute."""
    assert obstacle is refused(lambda: take_code(CODED, starter, redirect_uri, verifier, at)).obstacle


@pytest.mark.parametrize("login", [STARTED, CONFIRMED, SENT, CONNECTED, FAILED])
def test_a_code_is_given_for_what_was_received(login: Authorization) -> None:
    """And for nothing else."""
    assert Obstacle.OVER is refused(lambda: give_code(login, "code", NOW)).obstacle


def test_facts_are_read_back() -> None:
    """Every one of them; two that differ in anything are bound differently."""
    odd = replace(APP, app_state='"\N{SNOWMAN}\x00', any_subject=True)
    assert odd == parse_facts(odd.text())
    bindings = {
        (facts.binding(what, origin)).associated_data()
        for facts in (FACTS, APP, odd)
        for what in ("verifier", "received")
        for origin in ("https://a", "https://b")
    }
    assert 12 == len(bindings)


@pytest.mark.parametrize(
    ("typed", "code"),
    [
        ("BCDF-GHJK", "BCDFGHJK"),
        (" bcdf ghjk\n", "BCDFGHJK"),
        ("bcdfghjkl", "BCDFGHJKL"),
        ("BCDFGHJKLMN", "BCDFGHJKL"),
        ("aeiou 12", ""),
        ("", ""),
    ],
)
def test_a_short_code_is_read_as_people_type(typed: str, code: str) -> None:
    """Without regard to case, dashes and blanks; one letter too many is one too many."""
    assert code == normal_short_code(typed)


@pytest.mark.parametrize("access_token", [None, "at", "a" * 20_000])
@pytest.mark.parametrize("subject", [None, "1001"])
def test_a_bundle_is_read_back(access_token: str | None, subject: str | None) -> None:
    """All of it, or all but an access token that is too long; nothing of it is printed."""
    got = ReceivedGrant(Secret("canary-rt"), None if access_token is None else Secret(access_token), subject)
    read = parse_bundle(got.bundle(14_000))
    kept = access_token if access_token is not None and len(access_token) < 14_000 else None
    assert ("canary-rt", kept, subject) == (
        read.refresh_token.reveal(),
        None if read.access_token is None else read.access_token.reveal(),
        read.subject,
    )
    assert "canary" not in repr(got)
