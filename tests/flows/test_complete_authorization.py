"""What the starter of a login does: wait for it, cancel it, bring the code."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from broker.core.audit import Action
from broker.core.authorization import CODE_LIFE_MS, LIFE_MS, LoginPhase
from broker.core.errors import BrokerError, Reason, StoreUnavailableError
from broker.core.identity import CallerId
from broker.core.oauth.rfc7636 import challenge_of
from broker.core.secret import Secret
from broker.flows.complete_authorization import LONGEST_WAIT
from broker.flows.start_authorization import StartedLogin
from tests.flows.logins import APP, APP_URI, OPS, RECEIVED, Logins, gave, new_logins
from tests.flows.test_connect import answered
from tests.flows.world import error, let_pass, reply
from tests.support.waiting import ENOUGH, until

VERIFIER = "v" * 43
OTHER = CallerId("key", "other")


async def refused(call: Any) -> BrokerError:  # noqa: ANN401 - a coroutine
    """Return the error a call is answered with."""
    with pytest.raises(BrokerError) as refusal:
        await call
    return refusal.value


async def coded(logins: Logins, **app: str) -> tuple[StartedLogin, Secret]:
    """Return an app's login that came back, and its one-time code."""
    login = await logins.app_started(**app)
    return login, Secret(answered(await logins.logged_in(login))["code"])


async def complete(logins: Logins, code: Secret, who: CallerId = APP, uri: str = APP_URI, verifier: str = "") -> Any:  # noqa: ANN401
    """Bring a one-time code."""
    return await logins.complete.app(who, code, uri, verifier, logins.trail())


# --- waiting and cancelling ------------------------------------------------------------------------------------------


async def test_only_the_starter_is_told() -> None:
    """To anybody else there is no such login, as where there is none."""
    logins = await new_logins()
    login = await logins.started()
    shown = await logins.get(login)
    assert (LoginPhase.STARTED, None, LIFE_MS / 1000) == (shown.login.phase, shown.subject, shown.expires_in)
    none = [
        await refused(logins.get(login, who=OTHER)),
        await refused(logins.complete.get(OPS, Secret("unknown"), 0.0, logins.trail())),
        await refused(logins.complete.cancel(OTHER, login.flow_id, logins.trail())),
        await refused(logins.complete.direct(OTHER, login.flow_id, Secret("c"), APP_URI, logins.trail())),
    ]
    assert {(Reason.POLICY_DENIED, none[0].public)} == {(one.reason, one.public) for one in none}


async def test_a_wait_ends_when_the_login_gets_further() -> None:
    """And with its time, at most half a minute."""
    logins = await new_logins()
    login = await logins.started()
    waiting = asyncio.create_task(logins.get(login, wait=3600.0))
    await until(lambda: "find_login" in logins.world.store.calls)
    await logins.confirmed(login)
    assert LoginPhase.CONFIRMED is (await let_pass(logins.world.clock, waiting)).login.phase
    began = logins.world.clock.boottime()
    again = asyncio.create_task(logins.get(login, wait=3600.0))
    assert LoginPhase.CONFIRMED is (await let_pass(logins.world.clock, again)).login.phase
    assert logins.world.clock.boottime() - began >= LONGEST_WAIT


async def test_nobody_waits_for_a_process_that_ends() -> None:
    """The answer is how the login stands; who asks goes on elsewhere."""
    logins = await new_logins()
    login = await logins.started()
    waiting = asyncio.create_task(logins.get(login, wait=3600.0))
    await until(lambda: "find_login" in logins.world.store.calls)
    logins.draining.set()  # and time stands still
    async with asyncio.timeout(ENOUGH):
        assert LoginPhase.STARTED is (await waiting).login.phase


async def test_a_login_that_is_over_is_told_at_once() -> None:
    """Whatever was to be waited for; with whose it is."""
    logins = await new_logins()
    login = await logins.started()
    await logins.logged_in(login)
    shown = await logins.get(login, wait=3600.0)
    assert (LoginPhase.CONNECTED, "ada", 0.0) == (shown.login.phase, shown.subject, shown.expires_in)


@pytest.mark.parametrize("confirmed", [False, True])
async def test_a_login_is_cancelled_before_it_comes_back(*, confirmed: bool) -> None:
    """Then what the provider sends with the browser is nobody's."""
    logins = await new_logins()
    login = await logins.started()
    query = await logins.confirmed(login) if confirmed else {}
    shown = await logins.complete.cancel(OPS, login.flow_id, logins.trail())
    assert (LoginPhase.FAILED, "cancelled") == (shown.login.phase, shown.login.failure)
    assert ("login:fail", "cancelled") == (logins.events()[-1].action, logins.events()[-1].detail)
    if confirmed:
        with pytest.raises(Exception, match="wrong_state"):
            await logins.back(query)
    assert [] == logins.world.endpoint.requests


async def test_a_login_that_got_further_is_not_cancelled() -> None:
    """It is shown as it is; also when it moves at the same moment."""
    logins = await new_logins()
    login = await logins.started()
    await logins.logged_in(login)
    shown = await logins.complete.cancel(OPS, login.flow_id, logins.trail())
    assert LoginPhase.CONNECTED is shown.login.phase
    other = await logins.started()

    async def confirmed() -> None:
        logins.world.store.before.clear()
        await logins.confirmed(other)

    logins.world.store.before["move_login"] = confirmed
    assert LoginPhase.CONFIRMED is (await logins.complete.cancel(OPS, other.flow_id, logins.trail())).login.phase


# --- an app's code ---------------------------------------------------------------------------------------------------


async def test_an_apps_code_works_once() -> None:
    """Of two at once one is taken."""
    logins = await new_logins()
    _, code = await coded(logins)
    told = await asyncio.gather(complete(logins, code), complete(logins, code), return_exceptions=True)
    errors = [one for one in told if isinstance(one, BrokerError)]
    assert [Reason.INVALID_REQUEST] == [one.reason for one in errors]
    assert RECEIVED == await logins.world.refresh_token("login")
    assert Reason.INVALID_REQUEST is (await refused(complete(logins, code))).reason


@pytest.mark.parametrize(
    "bring",
    [
        {"who": OTHER},
        {"uri": "https://app.example/other"},
        {"verifier": "w" * 43},
        {"verifier": ""},
        {"code": Secret("unknown")},
        {"late": True},
    ],
)
async def test_a_code_is_the_apps_alone(bring: dict[str, Any]) -> None:
    """By another caller, for another redirect URI, without its verifier, too late: refused alike, and not spent."""
    logins = await new_logins()
    _, code = await coded(logins, code_challenge=challenge_of(VERIFIER))
    if bring.pop("late", False):
        logins.world.clock.advance(CODE_LIFE_MS / 1000)
    told = await refused(complete(logins, **{"code": code, "verifier": VERIFIER, **bring}))
    assert (Reason.INVALID_REQUEST, ["app.code"]) == (told.reason, list(told.fields))
    assert logins.world.state("login").current is None


async def test_a_code_with_its_verifier_is_taken() -> None:
    """And the grant is connected."""
    logins = await new_logins()
    _, code = await coded(logins, code_challenge=challenge_of(VERIFIER))
    assert LoginPhase.CONNECTED is (await complete(logins, code, verifier=VERIFIER)).login.phase


async def test_a_code_shown_at_the_last_moment_is_not_given_up() -> None:
    """Another process finds its time over while the app's is being written: one of the two has the login."""
    logins = await new_logins()
    login, code = await coded(logins)
    reached, go_on = asyncio.Event(), asyncio.Event()

    async def pause() -> None:
        del logins.world.store.before["move_login"]
        reached.set()
        await go_on.wait()

    logins.world.store.before["move_login"] = pause
    app = asyncio.create_task(complete(logins, code))
    await reached.wait()
    logins.world.clock.advance(CODE_LIFE_MS / 1000)

    async def let_the_app_go_on() -> None:
        go_on.set()
        await app

    logins.world.store.after["unsettled_logins"] = let_the_app_go_on
    await logins.tend()
    assert ((LoginPhase.CONNECTED, ""), []) == (await logins.end(login), logins.world.endpoint.ended)


async def test_an_app_whose_process_ended_in_between_is_served() -> None:
    """The code was taken: any replica ends the login."""
    logins = await new_logins()
    login, code = await coded(logins)
    away = StoreUnavailableError("away", cause="connection")
    logins.subjects.answers = [away, "ada"]
    assert Reason.STORE_UNAVAILABLE is (await refused(complete(logins, code))).reason
    logins.world.clock.advance(60)
    await logins.tend()
    assert (LoginPhase.CONNECTED, "") == await logins.end(login)


# --- direct logins ---------------------------------------------------------------------------------------------------


async def test_a_direct_login_ends_with_the_providers_code() -> None:
    """Exchanged with the broker's verifier and the redirect URI the steps were told."""
    logins = await new_logins()
    login = await logins.started(direct_redirect_uri=APP_URI)
    logins.world.endpoint.answers.append(gave())
    shown = await logins.complete.direct(OPS, login.flow_id, Secret("code"), APP_URI, logins.trail())
    (sent,) = logins.world.endpoint.requests
    assert login.direct is not None
    assert (LoginPhase.CONNECTED, "ada", APP_URI, login.direct.code_challenge) == (
        shown.login.phase,
        shown.subject,
        sent["redirect_uri"],
        challenge_of(sent["code_verifier"]),
    )


@pytest.mark.parametrize(
    ("answer", "failure"),
    [(error("invalid_grant"), "code_refused"), (reply(500, {}), "provider_unavailable")],
)
async def test_a_direct_login_that_fails_is_shown_as_failed(answer: Any, failure: str) -> None:  # noqa: ANN401 - a reply
    """And its code is not sent again."""
    logins = await new_logins()
    login = await logins.started(direct_redirect_uri=APP_URI)
    logins.world.endpoint.answers.append(answer)
    shown = await logins.complete.direct(OPS, login.flow_id, Secret("code"), APP_URI, logins.trail())
    assert (LoginPhase.FAILED, failure) == (shown.login.phase, shown.login.failure)
    told = await refused(logins.complete.direct(OPS, login.flow_id, Secret("code"), APP_URI, logins.trail()))
    assert (Reason.INVALID_REQUEST, ["flow_id"]) == (told.reason, list(told.fields))
    assert 1 == len(logins.world.endpoint.requests)


@pytest.mark.parametrize("case", ["a page's", "another redirect", "too late"])
async def test_what_is_no_direct_login(case: str) -> None:
    """A page's login is not ended by a code somebody brings; nothing is sent."""
    logins = await new_logins()
    login = await logins.started(direct_redirect_uri=None if case == "a page's" else APP_URI)
    if case == "too late":
        logins.world.clock.advance(LIFE_MS / 1000)
    uri = "https://app.example/other" if case == "another redirect" else APP_URI
    told = await refused(logins.complete.direct(OPS, login.flow_id, Secret("code"), uri, logins.trail()))
    assert (Reason.INVALID_REQUEST, []) == (told.reason, logins.world.endpoint.requests)


# --- what is left behind ---------------------------------------------------------------------------------------------


async def test_logins_end_with_their_time() -> None:
    """Whatever they waited for; each is told of."""
    logins = await new_logins()
    started, confirmed = await logins.started(), await logins.started()
    await logins.confirmed(confirmed)
    logins.world.clock.advance(LIFE_MS / 1000)
    await logins.tend()
    ends = [await logins.end(login) for login in (started, confirmed)]
    assert [(LoginPhase.FAILED, "expired")] * 2 == ends
    told = [event.detail for event in logins.events() if event.action is Action.LOGIN_FAIL]
    assert ["expired", "expired"] == told


async def test_an_exchange_whose_process_died_ends_the_login() -> None:
    """Nobody knows the code's fate, and it is not sent again."""
    logins = await new_logins()
    login = await logins.started()
    query = await logins.confirmed(login)
    logins.world.endpoint.hold = asyncio.Event()
    task = asyncio.create_task(logins.back(query))
    await until(lambda: bool(logins.world.endpoint.requests))
    for running in logins.exchange._running:
        running.cancel()
    await asyncio.gather(task, return_exceptions=True)
    logins.world.clock.advance(LIFE_MS / 1000)
    await (await new_logins(world=logins.world, owner="b")).tend()
    assert (LoginPhase.FAILED, "provider_unavailable") == await logins.end(login)
    assert 1 == len(logins.world.endpoint.requests)


async def test_what_was_received_by_a_process_that_died_is_settled_by_another() -> None:
    """The row holds it, sealed."""
    logins = await new_logins()
    login = await logins.started()
    logins.subjects.answers = [StoreUnavailableError("away", cause="connection")]
    await logins.logged_in(login)
    assert (LoginPhase.RECEIVED, "") == await logins.end(login)
    other = await new_logins(world=logins.world, owner="b")
    await other.tend()
    assert (LoginPhase.RECEIVED, "") == await logins.end(login)
    logins.world.clock.advance(60)
    await other.tend()
    assert ((LoginPhase.CONNECTED, ""), RECEIVED) == (
        await logins.end(login),
        await logins.world.refresh_token("login"),
    )


async def test_a_login_that_landed_lands_once() -> None:
    """The process died before the login's row said so: whoever ends it begins no other consent."""
    logins = await new_logins()
    login = await logins.started()

    async def die() -> None:
        logins.world.store.away.add("move_login")

    logins.world.store.after["keep_and_consent"] = die
    await logins.logged_in(login)
    consent = logins.world.state("login").consent
    logins.world.store.away.clear()
    logins.world.store.after.clear()
    logins.world.clock.advance(60)
    await (await new_logins(world=logins.world, owner="b")).tend()
    assert ((LoginPhase.CONNECTED, ""), 1, 1) == (
        await logins.end(login),
        consent,
        logins.world.state("login").consent,
    )


async def test_what_the_store_did_not_take_is_in_the_journal() -> None:
    """The process dies; the next one on its volume brings it, and the login goes on."""
    logins = await new_logins()
    login = await logins.started()
    query = await logins.confirmed(login)
    logins.world.endpoint.answers.append(gave())
    logins.world.store.away.add("receive_login")
    task = asyncio.create_task(logins.back(query))
    await until(lambda: bool(logins.journal.entries))
    for running in logins.exchange._running:
        running.cancel()
    await asyncio.gather(task, return_exceptions=True)
    logins.world.store.away.clear()
    after = await new_logins(world=logins.world, owner="a2", journal=logins.journal.reopened())
    await after.drain()
    assert (LoginPhase.RECEIVED, "") == await logins.end(login)
    logins.world.clock.advance(60)
    await after.tend()
    assert ((LoginPhase.CONNECTED, ""), RECEIVED) == (
        await logins.end(login),
        await logins.world.refresh_token("login"),
    )
    assert {} == after.journal.entries


async def test_what_a_forgotten_login_brought_stays_in_the_journal() -> None:
    """There is no row to keep it in: operators are told."""
    logins = await new_logins()
    login = await logins.started()
    query = await logins.confirmed(login)
    logins.world.endpoint.answers.append(gave())
    logins.world.store.away.add("receive_login")
    task = asyncio.create_task(logins.back(query))
    await until(lambda: bool(logins.journal.entries))
    for running in logins.exchange._running:
        running.cancel()
    await asyncio.gather(task, return_exceptions=True)
    logins.world.store.away.clear()
    logins.world.store.inner._logins.clear()
    after = await new_logins(world=logins.world, owner="a2", journal=logins.journal.reopened())
    await after.drain()
    assert (1, ("drain", "not_kept")) == (len(after.journal.entries), logins.world.counted.refused[-1])
