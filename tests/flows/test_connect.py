"""The browser's half of a login: what a person sees, and what comes back with their browser."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from typing import Any
from urllib.parse import parse_qsl

import pytest

from broker.core.audit import Action
from broker.core.authorization import CODE_LIFE_MS, LIFE_MS, LoginPhase, Obstacle, digest
from broker.core.errors import BrokerError, OverloadedError, StoreUnavailableError
from broker.core.grant_state import Hold, Phase
from broker.core.models import Kind, Limit, LimitTarget, Origin, Window
from broker.core.oauth.rfc7636 import challenge_of
from broker.core.secret import Secret
from broker.flows.connect_views import ConnectError, WhoMayUse
from broker.flows.start_authorization import StartedLogin
from broker.ports import NotSentError, ReplyLostError
from tests.flows.logins import (
    APP,
    APP_URI,
    CODE,
    HERS,
    LOGIN_CLIENT,
    LOGIN_PROVIDER,
    RECEIVED,
    Logins,
    gave,
    id_token,
    new_logins,
)
from tests.flows.world import ALL, SECRET, error, reply
from tests.support.waiting import until

CONNECTED = (LoginPhase.CONNECTED, "")


def failed(why: str) -> tuple[LoginPhase, str]:
    """Return how a login that failed ends."""
    return LoginPhase.FAILED, why


async def obstacle(call: Callable[[], Any]) -> Obstacle:
    """Return why a page cannot be shown."""
    with pytest.raises(ConnectError) as refusal:
        await call()
    return refusal.value.obstacle


async def test_a_person_is_told_before_anything_is_sent() -> None:
    """Who asked, for what, in both words, who will be able to use it, how long there is."""
    logins = await new_logins()
    login = await logins.started()
    shown = await logins.page(login.flow_id)
    assert ("key:ops", "login", "desk", "aries", ("read", "trade"), ALL) == (
        shown.starter,
        shown.grant,
        shown.client,
        shown.provider,
        shown.scopes,
        shown.wire_scopes,
    )
    assert (WhoMayUse(("key:portal",), ("read", "trade")), WhoMayUse(("key:orders", "key:reports"), ("read",))) == (
        shown.who_may_use
    )
    assert (None, True, None, 600.0) == (
        shown.subject,
        shown.needs_code,
        shown.app,
        shown.expires_in,
    )
    assert [] == logins.world.endpoint.requests


async def test_the_provider_is_asked_with_our_state_challenge_and_callback() -> None:
    """The challenge is of the verifier that the exchange then sends, with our client's secret, once."""
    logins = await new_logins()
    login = await logins.started()
    query = await logins.confirmed(login)
    assert ("code", "desk-app", "https://broker.example/callback/aries", " ".join(ALL), "S256") == tuple(
        query[name] for name in ("response_type", "client_id", "redirect_uri", "scope", "code_challenge_method")
    )
    logins.world.endpoint.answers.append(gave())
    onward = await logins.back(query)
    (sent,) = logins.world.endpoint.requests
    assert challenge_of(sent["code_verifier"]) == query["code_challenge"]
    assert ("authorization_code", CODE, query["redirect_uri"], SECRET) == tuple(
        sent[name] for name in ("grant_type", "code", "redirect_uri", "client_secret")
    )
    assert ((await logins.row(login)).facts.id, None) == (onward.result_id, onward.url)


async def test_what_comes_becomes_the_grants() -> None:
    """The refresh token is its current one, in a new consent; the person is remembered; all of it is told."""
    logins = await new_logins()
    login = await logins.started()
    await logins.logged_in(login)
    state = logins.world.state("login")
    assert (CONNECTED, RECEIVED, "ada") == (
        await logins.end(login),
        await logins.world.refresh_token("login"),
        logins.subject(),
    )
    assert (1, Phase.IDLE) == (state.consent, state.phase)
    assert ["at"] == logins.subjects.asked
    told = [event.action for event in logins.events()]
    wanted = [Action.LOGIN_START, Action.LOGIN_CONFIRM, Action.LOGIN_RECEIVE, Action.GRANT_AUTHORIZE]
    assert wanted == [action for action in told if action in set(wanted)]
    assert (await logins.row(login)).received is None
    result = await logins.connect.result((await logins.row(login)).facts.id, HERS)
    assert (LoginPhase.CONNECTED, ALL, "ada") == (result.phase, result.granted, result.subject)


async def test_an_id_token_tells_whose_it_is() -> None:
    """Then nobody has to be asked."""
    logins = await new_logins()
    await logins.logged_in(await logins.started(), gave(id_token=id_token("eve")))
    assert ("eve", []) == (logins.subject(), logins.subjects.asked)


async def test_an_id_token_of_another_client_tells_nothing() -> None:
    """The API is asked instead."""
    logins = await new_logins()
    await logins.logged_in(await logins.started(), gave(id_token=id_token("eve", aud="other")))
    assert "ada" == logins.subject()


@pytest.mark.parametrize(
    ("by", "echoed"),
    [("id token", SECRET), ("id token", CODE), ("id token", RECEIVED), ("api", RECEIVED), ("api", "canary-at-0001")],
)
async def test_nobody_is_called_by_a_secret(by: str, echoed: str) -> None:
    """A subject is shown to callers and on pages: one that repeats what we sent or were given is not taken."""
    logins = await new_logins()
    login, named = await logins.started(), f"person {echoed}."
    if by == "api":
        logins.subjects.answers = [named]
    told = {"id_token": id_token(named)} if by == "id token" else {}
    await logins.logged_in(login, gave(access_token="canary-at-0001", **told))
    assert (failed("unusable_reply"), None) == (await logins.end(login), logins.subject())
    assert [("refresh_token", RECEIVED)] == logins.world.endpoint.ended


async def test_a_verifier_may_stand_for_the_secret() -> None:
    """Where the provider is configured so, our client only names itself."""
    logins = await new_logins(replace(LOGIN_PROVIDER, pkce_with_secret=False))
    await logins.logged_in(await logins.started())
    (sent,) = logins.world.endpoint.requests
    assert ("desk-app", False, True) == (sent["client_id"], "client_secret" in sent, "code_verifier" in sent)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ({"error": "access_denied", "code": None}, "denied"),
        ({"error": "<b>odd</b>", "code": None}, "provider_error"),
        ({"error": "server_error"}, "provider_error"),
        ({"code": None}, "provider_error"),
        ({"iss": "https://evil.example"}, "wrong_issuer"),
    ],
)
async def test_an_answer_that_is_no_code_ends_the_login(answer: dict[str, str | None], why: str) -> None:
    """Nothing is sent, and what the grant had before is as it was."""
    logins = await new_logins()
    await logins.world.consent("login", "older")
    login = await logins.started()
    query = await logins.confirmed(login)
    await logins.back(query, answer=answer)
    assert (failed(why), [], "older") == (
        await logins.end(login),
        logins.world.endpoint.requests,
        await logins.world.refresh_token("login"),
    )
    (event,) = [event for event in logins.events() if event.action is Action.LOGIN_FAIL]
    assert (why, "login") == (event.detail, event.grant)


async def test_a_promised_issuer_may_not_be_missing() -> None:
    """RFC 9207 §2.4."""
    logins = await new_logins(replace(LOGIN_PROVIDER, iss_promised=True))
    login = await logins.started()
    await logins.back(await logins.confirmed(login))
    assert failed("wrong_issuer") == await logins.end(login)


@pytest.mark.parametrize(
    ("answer", "why", "ended"),
    [
        (error("invalid_grant"), "code_refused", []),
        (error("invalid_client", 401), "client_refused", []),
        (error("invalid_scope"), "scope_not_granted", []),
        (reply(503, {}), "provider_unavailable", []),
        (error("slow_down", 429), "provider_unavailable", []),
        (NotSentError("connect"), "provider_unavailable", []),
        (ReplyLostError("timeout"), "provider_unavailable", []),
        (gave(refresh_token=None), "no_refresh_token", []),
        (gave(scope="account:information"), "scope_not_granted", [RECEIVED]),
        (gave(access_token=None), "unusable_reply", [RECEIVED]),
        (gave(access_token=RECEIVED), "unusable_reply", [RECEIVED]),
        (gave(token_type="mac"), "unusable_reply", [RECEIVED]),
    ],
)
async def test_an_exchange_that_brings_nothing_of_use(answer: Any, why: str, ended: list[str]) -> None:  # noqa: ANN401
    """The code is sent once; a token that came is told to the provider; what the grant had before is as it was."""
    logins = await new_logins()
    await logins.world.consent("login", "older")
    login = await logins.started()
    await logins.logged_in(login, answer)
    assert (failed(why), "older") == (await logins.end(login), await logins.world.refresh_token("login"))
    assert (1, [("refresh_token", token) for token in ended]) == (
        len(logins.world.endpoint.requests),
        logins.world.endpoint.ended,
    )
    assert (await logins.row(login)).received is None


async def test_more_than_was_asked_is_connected_and_told() -> None:
    """What callers get of it is judged with every token; words nobody configured are kept nowhere."""
    logins = await new_logins()
    login = await logins.started()
    await logins.logged_in(login, gave(scope=" ".join((*ALL, "news", "unheard-of"))))
    row = await logins.row(login)
    assert (CONNECTED, tuple(sorted((*ALL, "news")))) == (await logins.end(login), row.granted)


@pytest.mark.parametrize(
    ("before", "now", "any_subject", "end"),
    [
        (None, "ada", False, CONNECTED),
        (None, None, False, CONNECTED),
        ("ada", "ada", False, CONNECTED),
        ("ada", "eve", False, failed("subject_mismatch")),
        ("ada", None, False, failed("subject_mismatch")),
        ("ada", "eve", True, CONNECTED),
        ("ada", None, True, failed("unusable_reply")),
    ],
)
async def test_a_grant_stays_its_persons(
    before: str | None, now: str | None, any_subject: bool, end: tuple[LoginPhase, str]
) -> None:
    """Somebody else's login is not taken, and told to the provider, unless an admin wanted another person."""
    logins = await new_logins()
    if before is not None:
        logins.subjects.answers = [before]
        await logins.logged_in(await logins.started(), gave(refresh_token="older"))
    logins.subjects.answers = [now]
    roles = frozenset({"admin"}) if any_subject else frozenset({"operator"})
    login = await logins.started(any_subject=any_subject, roles=roles)
    await logins.logged_in(login)
    assert end == await logins.end(login)
    taken = end == CONNECTED
    assert (RECEIVED if taken else "older") == await logins.world.refresh_token("login")
    assert (now if taken else before) == logins.subject()
    assert ([] if taken else [("refresh_token", RECEIVED)]) == logins.world.endpoint.ended


async def test_a_quarantined_grant_works_again() -> None:
    """Under its name, with its history, its person and its policies."""
    logins = await new_logins()
    await logins.logged_in(await logins.started(), gave(refresh_token="older"))
    inner = logins.world.store.inner
    held = inner._grants["id-login"]
    inner._grants["id-login"] = replace(held, state=replace(held.state, health=type(held.state.health)("quarantined")))
    await logins.logged_in(await logins.started())
    state = logins.world.state("login")
    assert ("ok", 2, RECEIVED) == (state.health, state.consent, await logins.world.refresh_token("login"))


async def test_a_redeem_under_way_does_not_get_in_between() -> None:
    """The login lands although the grant moved while it did; what the redeem brings late is told to the provider."""
    logins = await new_logins()
    await logins.world.consent("login", "older")
    login = await logins.started()
    moved: list[int] = []

    async def redeem() -> None:
        if not moved:
            moved.append(1)
            await logins.world.send_and_vanish("login")

    logins.world.store.before["keep_and_consent"] = redeem
    await logins.logged_in(login)
    assert (CONNECTED, RECEIVED) == (await logins.end(login), await logins.world.refresh_token("login"))


@pytest.mark.parametrize("change", ["frozen", "removed", "provider", "repointed"])
async def test_a_grant_that_is_another_now_gets_nothing(change: str) -> None:
    """Held, removed, its provider another one, or at another endpoint, while the person was away."""
    logins = await new_logins()
    login = await logins.started()
    query = await logins.confirmed(login)
    if change == "frozen":
        await logins.world.put(replace(LOGIN_PROVIDER, frozen=True))
    elif change == "removed":
        await logins.world.remove(Kind.GRANT, "login")
    elif change == "provider":
        await logins.world.remove(Kind.PROVIDER, "aries")
        await logins.world.put(replace(LOGIN_PROVIDER, id="p2"))
    else:
        await logins.world.put(replace(LOGIN_PROVIDER, token_url="https://evil.example/token"))
    await logins.view.catch_up(await logins.world.store.inner.read_version())
    logins.world.endpoint.answers.append(gave())
    if change == "provider":
        assert Obstacle.WRONG_STATE is await obstacle(lambda: logins.back(query))
    else:
        await logins.back(query)
        assert failed("grant_unavailable") == await logins.end(login)
    assert [] == logins.world.endpoint.requests


async def test_a_grant_frozen_during_the_exchange_gets_nothing() -> None:
    """What came is told to the provider."""
    logins = await new_logins()
    login = await logins.started()

    async def freeze() -> None:
        await logins.world.hold("login", Hold.FROZEN)

    logins.world.store.after["receive_login"] = freeze
    await logins.logged_in(login)
    assert failed("grant_unavailable") == await logins.end(login)
    assert [("refresh_token", RECEIVED)] == logins.world.endpoint.ended


# --- browsers, tabs, states ------------------------------------------------------------------------------------------


async def test_a_second_browser_gets_nothing() -> None:
    """Not the page, not the form, not the callback with a state it got hold of, not the result."""
    logins = await new_logins()
    login = await logins.started()
    query = await logins.confirmed(login)
    code = login.short_code.reveal() if login.short_code else ""
    other = "other-browser"
    assert Obstacle.OTHER_BROWSER is await obstacle(lambda: logins.connect.open(login.flow_id, other))
    confirming = lambda: logins.connect.confirm(login.flow_id, other, code, logins.trail())  # noqa: E731 - a call
    assert Obstacle.OTHER_BROWSER is await obstacle(confirming)
    assert Obstacle.OTHER_BROWSER is await obstacle(lambda: logins.back(query, other))
    row = await logins.row(login)
    assert Obstacle.UNKNOWN is await obstacle(lambda: logins.connect.result(row.facts.id, other))
    logins.world.endpoint.answers.append(gave())
    await logins.back(query)
    assert CONNECTED == await logins.end(login)


async def test_two_tabs_of_one_browser() -> None:
    """The second confirmation is the one that counts; the first tab's answer belongs to no login any more."""
    logins = await new_logins()
    login = await logins.started()
    first, second = await logins.confirmed(login), await logins.confirmed(login)
    assert Obstacle.WRONG_STATE is await obstacle(lambda: logins.back(first))
    logins.world.endpoint.answers.append(gave())
    await logins.back(second)
    assert CONNECTED == await logins.end(login)


@pytest.mark.parametrize("end", [gave(), error("invalid_grant")])
async def test_a_state_works_once(end: Any) -> None:  # noqa: ANN401 - a reply
    """Whatever came of it; and of two callbacks at once one is taken."""
    logins = await new_logins()
    login = await logins.started()
    query = await logins.confirmed(login)
    logins.world.endpoint.answers.append(end)
    told = await asyncio.gather(logins.back(query), logins.back(query), return_exceptions=True)
    assert 1 == len(logins.world.endpoint.requests)
    assert 1 <= len([one for one in told if not isinstance(one, Exception)])
    assert Obstacle.WRONG_STATE is await obstacle(lambda: logins.back(query))


@pytest.mark.parametrize(
    ("state", "provider"), [("foreign", "aries"), ("", "aries"), (None, "other"), (None, "nothing")]
)
async def test_a_foreign_state_is_nobodys(state: str | None, provider: str) -> None:
    """Also a right one at another provider's callback (RFC 9700 §4.4.2)."""
    logins = await new_logins()
    await logins.world.put(replace(LOGIN_PROVIDER, id="p2", name="other"))
    await logins.view.catch_up(await logins.world.store.inner.read_version())
    login = await logins.started()
    query = await logins.confirmed(login)
    told = {"state": query["state"] if state is None else state}
    assert Obstacle.WRONG_STATE is await obstacle(lambda: logins.back(query, provider=provider, answer=told))
    assert (LoginPhase.CONFIRMED, "") == await logins.end(login)


async def test_a_callback_that_comes_too_late() -> None:
    """Ten minutes after the person was sent off."""
    logins = await new_logins()
    login = await logins.started()
    query = await logins.confirmed(login)
    logins.world.clock.advance(LIFE_MS / 1000)
    assert Obstacle.EXPIRED is await obstacle(lambda: logins.back(query))
    assert [] == logins.world.endpoint.requests


async def test_the_starters_code_is_demanded() -> None:
    """A wrong one is told with the tries left; the fifth ends it, and the right one comes too late."""
    logins = await new_logins()
    login = await logins.started()
    left = []
    for _ in range(5):
        with pytest.raises(ConnectError) as refusal:
            await logins.connect.confirm(login.flow_id, HERS, "wrong", logins.trail())
        left.append((refusal.value.obstacle, refusal.value.tries_left))
    assert [(Obstacle.WRONG_CODE, 4), (Obstacle.WRONG_CODE, 3), (Obstacle.WRONG_CODE, 2), (Obstacle.WRONG_CODE, 1)] == (
        left[:4]
    )
    assert (Obstacle.TOO_MANY_TRIES, 0) == left[4]
    assert failed("too_many_tries") == await logins.end(login)
    assert Obstacle.OVER is await obstacle(lambda: logins.confirmed(login))


async def test_a_code_may_be_typed_with_dashes_and_small_letters() -> None:
    """As people read it out."""
    logins = await new_logins()
    login = await logins.started()
    assert login.short_code is not None
    code = login.short_code.reveal().lower()
    await logins.connect.confirm(login.flow_id, HERS, f" {code[:4]}-{code[4:]} ", logins.trail())
    assert (LoginPhase.CONFIRMED, "") == await logins.end(login)


async def test_links_that_open_nothing() -> None:
    """Unknown, direct, over, or too old."""
    logins = await new_logins()
    direct = await logins.started(direct_redirect_uri=APP_URI)
    old = await logins.started()
    done = await logins.started()
    await logins.logged_in(done)
    assert Obstacle.UNKNOWN is await obstacle(lambda: logins.connect.open(Secret("unknown"), HERS))
    assert Obstacle.UNKNOWN is await obstacle(lambda: logins.connect.open(direct.flow_id, HERS))
    assert Obstacle.OVER is await obstacle(lambda: logins.connect.open(done.flow_id, HERS))
    logins.world.clock.advance(LIFE_MS / 1000)
    assert Obstacle.EXPIRED is await obstacle(lambda: logins.connect.open(old.flow_id, HERS))


async def test_of_two_browsers_at_once_one_has_it() -> None:
    """Also when both confirm at the same moment."""
    logins = await new_logins()
    login = await logins.started()
    told = await asyncio.gather(
        *(logins.confirmed(login, browser) for browser in ("one", "two")), return_exceptions=True
    )
    refused = [one.obstacle for one in told if isinstance(one, ConnectError)]
    assert ([Obstacle.OTHER_BROWSER], 1) == (refused, len([one for one in told if not isinstance(one, Exception)]))


async def test_a_second_click_is_no_second_browser() -> None:
    """Both lead to the provider, and the answer to the last of them counts."""
    logins = await new_logins()
    login = await logins.started()
    queries = await asyncio.gather(logins.confirmed(login), logins.confirmed(login))
    state = (await logins.row(login)).state
    (last,) = [query for query in queries if digest(query["state"]) == state]
    logins.world.endpoint.answers.append(gave())
    await logins.back(last)
    assert CONNECTED == await logins.end(login)


async def test_a_person_is_told_that_a_grant_of_nobody_works_already() -> None:
    """An imported one: it becomes theirs."""
    logins = await new_logins()
    shown = [await logins.page((await logins.started()).flow_id)]
    await logins.world.consent("login", "imported")
    shown.append(await logins.page((await logins.started()).flow_id))
    assert [(False, None, None), (True, None, None)] == [
        (one.has_token, one.subject, one.connected_by) for one in shown
    ]


async def test_whoever_only_looks_takes_nothing() -> None:
    """A program that fetches the link for a preview, or somebody it was sent to by mistake."""
    logins = await new_logins()
    login = await logins.started()
    before = await logins.row(login)
    assert await logins.page(login.flow_id, "preview") == await logins.page(login.flow_id, "other")
    assert before == await logins.row(login)
    await logins.logged_in(login)
    assert CONNECTED == await logins.end(login)


# --- apps ------------------------------------------------------------------------------------------------------------


def answered(onward: Any) -> dict[str, str]:  # noqa: ANN401 - where the browser goes
    """Return what an app's redirect URI was called with."""
    assert onward.url is not None
    uri, _, query = onward.url.reveal().partition("?")
    assert APP_URI == uri
    return dict(parse_qsl(query))


async def test_an_app_gets_its_own_state_and_a_code_of_ours() -> None:
    """Neither the provider's code nor state; no short code is demanded; the grant has nothing until it is completed."""
    logins = await new_logins()
    login = await logins.app_started()
    shown = await logins.page(login.flow_id)
    assert (None, False, "https://app.example") == (login.short_code, shown.needs_code, shown.app)
    answer = answered(await logins.logged_in(login))
    assert ({"code", "state"}, "app-state") == (set(answer), answer["state"])
    assert CODE != answer["code"]
    assert (None, (LoginPhase.RECEIVED, "")) == (logins.world.state("login").current, await logins.end(login))
    done = await logins.complete.app(APP, Secret(answer["code"]), APP_URI, "", logins.trail())
    assert (LoginPhase.CONNECTED, "ada", RECEIVED) == (
        done.login.phase,
        done.subject,
        await logins.world.refresh_token("login"),
    )


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ({"error": "access_denied", "code": None}, "access_denied"),
        ({"error": "odd", "code": None}, "server_error"),
        ({}, "server_error"),
    ],
)
async def test_an_app_is_told_of_a_failure(answer: dict[str, str | None], told: str) -> None:
    """By an error of RFC 6749 §4.1.2.1, with its own state; never in the provider's words."""
    logins = await new_logins()
    query = await logins.confirmed(await logins.app_started())
    logins.world.endpoint.answers.append(error("invalid_grant"))
    assert {"error": told, "state": "app-state"} == answered(await logins.back(query, answer=answer))


async def test_an_app_without_a_state_is_given_none() -> None:
    """It brought a challenge."""
    logins = await new_logins()
    login = await logins.app_started(state="", code_challenge=challenge_of("v" * 43))
    assert ["code"] == list(answered(await logins.logged_in(login)))


async def test_a_code_nobody_shows_gives_the_token_up() -> None:
    """A minute later the provider is told, and the grant has what it had."""
    logins = await new_logins()
    login = await logins.app_started()
    await logins.logged_in(login)
    logins.world.clock.advance(CODE_LIFE_MS / 1000)
    await logins.tend()
    assert (failed("not_completed"), [("refresh_token", RECEIVED)], None) == (
        await logins.end(login),
        logins.world.endpoint.ended,
        logins.world.state("login").current,
    )


# --- the store, the provider, the limits -----------------------------------------------------------------------------


async def test_a_store_that_fails_at_the_callback_sends_nothing() -> None:
    """The person may reload: the state is not spent."""
    logins = await new_logins()
    login = await logins.started()
    query = await logins.confirmed(login)
    logins.world.store.away.add("find_by_state")
    with pytest.raises(StoreUnavailableError):
        await logins.back(query)
    logins.world.store.away.clear()
    logins.world.endpoint.answers.append(gave())
    await logins.back(query)
    assert CONNECTED == await logins.end(login)


async def test_a_provider_that_cannot_be_asked_whose_it_is_is_asked_again() -> None:
    """What came is kept meanwhile; the page says that it takes a moment."""
    logins = await new_logins()
    away: BrokerError = StoreUnavailableError("away", cause="connection")
    logins.subjects.answers = [away, "ada"]
    login: StartedLogin = await logins.started()
    onward = await logins.logged_in(login)
    assert ((LoginPhase.RECEIVED, ""), True) == (await logins.end(login), onward.result_id is not None)
    logins.world.clock.advance(60)
    await logins.tend()
    assert (CONNECTED, RECEIVED) == (await logins.end(login), await logins.world.refresh_token("login"))


async def test_a_client_without_a_secret_cannot_exchange() -> None:
    """Nothing is sent; the person is told that it is the operators' to mend."""
    logins = await new_logins()
    login = await logins.started()
    query = await logins.confirmed(login)
    logins.world.store.inner._secrets.clear()
    await logins.back(query)
    assert (failed("client_refused"), []) == (await logins.end(login), logins.world.endpoint.requests)


async def test_a_limit_of_the_provider_ends_the_wait() -> None:
    """The permits do not come in time: nothing is sent, the person begins again."""
    logins = await new_logins()
    slow = Limit("l", "slow", Origin.RPC, LimitTarget.PROVIDER, ("provider",), (Window(Fraction(1, 3600), 1),))
    await logins.world.put(slow)
    await logins.view.catch_up(await logins.world.store.inner.read_version())
    await logins.logged_in(await logins.started())
    login = await logins.started()
    await logins.back(await logins.confirmed(login))
    assert (failed("provider_unavailable"), 1) == (await logins.end(login), len(logins.world.endpoint.requests))


@pytest.mark.parametrize("fault", ["journal full", "store away"])
async def test_what_passes_leaves_the_state_as_it_is(fault: str) -> None:
    """The person loads the page again, and is connected."""
    logins = await new_logins()
    login = await logins.started()
    query = await logins.confirmed(login)
    places = list(logins.journal._free)
    if fault == "journal full":
        logins.journal._free.clear()
    else:
        logins.world.store.away.add("current_secret")
    with pytest.raises(BrokerError):
        await logins.back(query)
    logins.journal._free[:] = places
    logins.world.store.away.clear()
    logins.world.endpoint.answers.append(gave())
    await logins.back(query)
    assert CONNECTED == await logins.end(login)


async def test_a_browser_that_goes_away_changes_nothing() -> None:
    """The exchange goes on to its end."""
    logins = await new_logins()
    login = await logins.started()
    query = await logins.confirmed(login)
    logins.world.endpoint.answers.append(gave())
    logins.world.endpoint.hold = asyncio.Event()
    task = asyncio.create_task(logins.back(query))
    await until(lambda: bool(logins.world.endpoint.requests))
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    logins.world.endpoint.hold.set()
    await logins.exchange.aclose(5)
    assert CONNECTED == await logins.end(login)


async def test_pages_are_limited() -> None:
    """An address that asks too often is told to wait; another is not."""
    logins = await new_logins()
    for _ in range(100):
        await logins.connect.admit("10.0.0.1")
    with pytest.raises(OverloadedError):
        await logins.connect.admit("10.0.0.1")
    await logins.connect.admit("10.0.0.2")


async def test_a_client_without_direct_logins_changes_nothing_here() -> None:
    """Pages work for it all the same."""
    logins: Logins = await new_logins(client=replace(LOGIN_CLIENT, direct_login=False))
    login = await logins.started()
    await logins.logged_in(login)
    assert CONNECTED == await logins.end(login)
