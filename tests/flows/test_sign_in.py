"""People who have to sign in before they are told what a login is about."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import parse_qsl

import pytest

from broker.core.audit import Action
from broker.core.authorization import LIFE_MS, LoginPhase, Obstacle, digest
from broker.core.errors import InvalidRequestError
from broker.core.identity import Role
from broker.core.models import Client, Kind, Origin, TokenEndpointAuth
from broker.core.oauth.rfc7636 import challenge_of
from broker.core.secret import Secret
from broker.flows.connect_views import ConnectError, Onward, SignInView
from broker.flows.start_authorization import StartedLogin
from broker.ports import ReplyLostError
from tests.flows.logins import (
    APP_URI,
    CODE,
    HERS,
    LOGIN_CLIENT,
    LOGIN_PROVIDER,
    OPS,
    PUBLIC,
    RECEIVED,
    Logins,
    gave,
    id_token,
    new_logins,
)
from tests.flows.world import SECRET, error, tokens

ISSUER = "https://corp.example"
CORP = replace(
    LOGIN_PROVIDER,
    id="p-corp",
    name="corp",
    issuer=ISSUER,
    token_url=f"{ISSUER}/token",
    authorize_url=f"{ISSUER}/authorize",
    token_endpoint_auth=TokenEndpointAuth.CLIENT_SECRET_BASIC,
    authorize_parameters={"prompt": "login"},
)
PLACE = Client("c-corp", "corp-sign-in", Origin.RPC, "corp", "broker-at-corp")
ADA = f"ada at {ISSUER}"


@dataclass
class SigningIn:
    """Logins at a provider whose people sign in at `corp` first."""

    logins: Logins

    async def to_sign_in(self, where: Secret | str, browser: str = HERS) -> dict[str, str]:
        """Go on from the first page; return the parameters of the authentication request."""
        assert SignInView("corp", 600.0) == await self.logins.connect.open(where, browser)
        url = await self.logins.connect.confirm(where, browser, "", self.logins.trail())
        at, _, query = url.reveal().partition("?")
        assert f"{ISSUER}/authorize" == at
        return dict(parse_qsl(query))

    async def signed_in(
        self, query: dict[str, str], answer: object = None, browser: str = HERS, **told: str | None
    ) -> Onward:
        """Come back from the sign-in, whose token endpoint answers so."""
        says = signs_in(nonce=query["nonce"]) if answer is None else answer
        self.logins.world.endpoint.answers.append(says)  # type: ignore[arg-type]  # a reply
        return await self.logins.back(query, browser, provider="corp", answer=told)

    async def at_the_page(self, login: StartedLogin) -> None:
        """Sign in."""
        await self.signed_in(await self.to_sign_in(login.flow_id))


def signs_in(subject: str = "ada", **claims: object) -> Any:  # noqa: ANN401 - a reply
    """Return the reply of the sign-in's token endpoint."""
    token = id_token(subject, **({"iss": ISSUER, "aud": "broker-at-corp", "exp": 4_102_444_800} | claims))
    return tokens(access_token="corp-at", id_token=token)


@pytest.fixture
async def corp() -> SigningIn:
    """People sign in."""
    logins = await new_logins(replace(LOGIN_PROVIDER, connect_login="corp-sign-in"))
    await logins.world.put(CORP, PLACE)
    await logins.world.secret(CORP, PLACE)
    await seen(logins)
    return SigningIn(logins)


async def seen(logins: Logins) -> None:
    """Let the flows see what is configured now."""
    await logins.view.catch_up(await logins.world.store.inner.read_version())


async def refusal(call: Any) -> ConnectError:  # noqa: ANN401 - a coroutine
    """Return why a page cannot be shown."""
    with pytest.raises(ConnectError) as refused:
        await call
    return refused.value


async def test_a_person_signs_in_and_then_logs_in(corp: SigningIn) -> None:
    """The sign-in comes first, says nothing of the login, and leads back to its page; the grant knows who it was."""
    logins = corp.logins
    login = await logins.started()
    query = await corp.to_sign_in(login.flow_id)
    onward = await corp.signed_in(query)
    row = await logins.row(login)
    assert Onward(None, row.facts.id) == onward
    assert ADA == (await logins.page(row.facts.id)).person == (await logins.page(login.flow_id)).person
    await logins.logged_in(login)
    assert (LoginPhase.CONNECTED, "") == await logins.end(login)
    assert ADA == logins.world.store.inner._grants["id-login"].person


async def test_it_is_asked_as_openid_says(corp: SigningIn) -> None:
    """With a challenge and a nonce of its own; nothing of it is what the login's provider is sent, or sees."""
    logins = corp.logins
    login = await logins.started()
    query = await corp.to_sign_in(login.flow_id)
    parameters = ("response_type", "client_id", "redirect_uri", "scope", "prompt", "code_challenge_method")
    assert ["code", "broker-at-corp", f"{PUBLIC}/callback/corp", "openid", "login", "S256"] == [
        query[name] for name in parameters
    ]
    await corp.signed_in(query)
    (form,) = logins.world.endpoint.requests
    assert (CODE, f"{PUBLIC}/callback/corp", query["code_challenge"]) == (
        form["code"],
        form["redirect_uri"],
        challenge_of(form["code_verifier"]),
    )
    asked = await logins.confirmed(login)
    assert set() == {query["state"], query["code_challenge"], query["nonce"]} & set(asked.values())
    assert "nonce" not in asked


async def test_it_is_told_in_the_audit_log(corp: SigningIn) -> None:
    """Who, where, and for which grant and login."""
    login = await corp.logins.started()
    await corp.at_the_page(login)
    event = corp.logins.events()[-1]
    assert (Action.LOGIN_IDENTIFY, "person", ADA, "login", "corp-sign-in", "corp", True) == (
        event.action,
        event.object_kind,
        event.object_name,
        event.grant,
        event.client,
        event.provider,
        event.detail.endswith((await corp.logins.row(login)).facts.id[:16]),
    )


@pytest.mark.parametrize(
    ("answer", "cause"),
    [
        (lambda _: signs_in(nonce="another"), "id_token"),
        (lambda _: signs_in(), "id_token"),
        (lambda nonce: signs_in(nonce=nonce, iss="https://evil.example"), "id_token"),
        (lambda nonce: signs_in(nonce=nonce, aud="another"), "id_token"),
        (lambda nonce: signs_in(nonce=nonce, azp="another"), "id_token"),
        (lambda nonce: signs_in(nonce=nonce, exp=1), "id_token"),
        (lambda nonce: signs_in(nonce=nonce, exp=None), "id_token"),
        (lambda nonce: signs_in("", nonce=nonce), "id_token"),
        (lambda nonce: signs_in("   ", nonce=nonce), "id_token"),
        (lambda nonce: signs_in(SECRET, nonce=nonce), "id_token"),
        (lambda nonce: signs_in("corp-at", nonce=nonce), "id_token"),
        (lambda _: tokens(access_token="corp-at"), "no_id_token"),
        (lambda _: error("invalid_grant"), "invalid_grant"),
        (lambda _: ReplyLostError("timeout"), "timeout"),
    ],
)
async def test_an_answer_that_names_nobody(corp: SigningIn, answer: Callable[[str], object], cause: str) -> None:
    """The login stays; the code is sent once, and its state counts no more; the person may sign in again."""
    logins = corp.logins
    login = await logins.started()
    query = await corp.to_sign_in(login.flow_id)
    refused = await refusal(corp.signed_in(query, answer(query["nonce"])))
    assert (Obstacle.NOT_SIGNED_IN, cause, 1) == (refused.obstacle, refused.cause, len(logins.world.endpoint.requests))
    assert Obstacle.WRONG_STATE is (await refusal(logins.back(query, provider="corp"))).obstacle
    await corp.at_the_page(login)
    assert ADA == (await logins.page(login.flow_id)).person


@pytest.mark.parametrize(
    ("told", "cause"),
    [
        ({"code": None, "error": "access_denied"}, "access_denied"),
        ({"code": None, "error": "<b>"}, "other"),
        ({"code": None}, "no_code"),
        ({"iss": "https://evil.example"}, "wrong_issuer"),
    ],
)
async def test_who_does_not_sign_in_may_try_again(corp: SigningIn, told: dict[str, str | None], cause: str) -> None:
    """Nothing is sent; the first answer's state counts no more."""
    logins = corp.logins
    login = await logins.started()
    query = await corp.to_sign_in(login.flow_id)
    refused = await refusal(logins.back(query, provider="corp", answer=told))
    assert (Obstacle.NOT_SIGNED_IN, cause, []) == (refused.obstacle, refused.cause, logins.world.endpoint.requests)
    assert Obstacle.WRONG_STATE is (await refusal(logins.back(query, provider="corp"))).obstacle
    await corp.at_the_page(login)
    assert ADA == (await logins.page(login.flow_id)).person


async def test_nothing_is_confirmed_before(corp: SigningIn) -> None:
    """However right the short code is: the form leads to the sign-in."""
    logins = corp.logins
    login = await logins.started()
    code = login.short_code.reveal() if login.short_code else ""
    url = await logins.connect.confirm(login.flow_id, HERS, code, logins.trail())
    assert url.reveal().startswith(f"{ISSUER}/authorize?")
    assert (LoginPhase.STARTED, "") == await logins.end(login)


async def test_a_second_browser_does_not_come_back(corp: SigningIn) -> None:
    """Nor does it see the page, by link or by id; the one whose person is known has the login."""
    logins = corp.logins
    login = await logins.started()
    query = await corp.to_sign_in(login.flow_id)
    row = await logins.row(login)
    assert Obstacle.OTHER_BROWSER is (await refusal(logins.back(query, "other", provider="corp"))).obstacle
    assert [] == logins.world.endpoint.requests
    await corp.signed_in(query)
    told = [
        await refusal(logins.connect.open(login.flow_id, "other")),
        await refusal(logins.connect.open(row.facts.id, "other")),
        await refusal(logins.connect.confirm(row.facts.id, "other", "", logins.trail())),
    ]
    assert [Obstacle.OTHER_BROWSER, Obstacle.UNKNOWN, Obstacle.UNKNOWN] == [one.obstacle for one in told]


async def test_who_is_sent_to_sign_in_locks_nobody_out(corp: SigningIn) -> None:
    """Somebody with the link and no account there: the person goes on, and that one's answer is nobody's."""
    logins = corp.logins
    login = await logins.started()
    strangers = await corp.to_sign_in(login.flow_id, "stranger")
    await corp.at_the_page(login)
    assert ADA == (await logins.page(login.flow_id)).person
    assert Obstacle.WRONG_STATE is (await refusal(logins.back(strangers, "stranger", provider="corp"))).obstacle
    assert Obstacle.OTHER_BROWSER is (await refusal(logins.connect.open(login.flow_id, "stranger"))).obstacle


async def test_a_second_click_goes_to_the_sign_in_too(corp: SigningIn) -> None:
    """Of the same browser, at the same moment; the last one sent off comes back."""
    logins = corp.logins
    login = await logins.started()
    urls = await asyncio.gather(*(logins.connect.confirm(login.flow_id, HERS, "", logins.trail()) for _ in range(2)))
    states = {dict(parse_qsl(url.reveal().partition("?")[2]))["state"] for url in urls}
    assert (2, True) == (len(states), (await logins.row(login)).state in {digest(state) for state in states})


async def test_a_refresh_token_that_nobody_needs_is_ended(corp: SigningIn) -> None:
    """Whoever gives one with an ID token is told at once."""
    login = await corp.logins.started()
    query = await corp.to_sign_in(login.flow_id)
    answer = signs_in(nonce=query["nonce"])
    await corp.signed_in(
        query, replace(answer, unverified_body=answer.unverified_body[:-1] + b', "refresh_token": "corp-rt"}')
    )
    assert [("refresh_token", "corp-rt")] == corp.logins.world.endpoint.ended


async def test_nobody_goes_on_by_an_id_alone(corp: SigningIn) -> None:
    """Ids are in the audit log, links are not."""
    row = await corp.logins.row(await corp.logins.started())
    assert Obstacle.UNKNOWN is (await refusal(corp.logins.connect.open(row.facts.id, HERS))).obstacle


@pytest.mark.parametrize("provider", ["aries", "nothing"])
async def test_an_answer_comes_to_its_own_callback(corp: SigningIn, provider: str) -> None:
    """One provider's answer is not taken as another's (RFC 9700 §4.4.2)."""
    login = await corp.logins.started()
    query = await corp.to_sign_in(login.flow_id)
    assert Obstacle.WRONG_STATE is (await refusal(corp.logins.back(query, provider=provider))).obstacle
    await corp.signed_in(query)


async def test_a_sign_in_is_no_login(corp: SigningIn) -> None:
    """The provider's own answer is not taken at the sign-in's callback."""
    login = await corp.logins.started()
    await corp.at_the_page(login)
    query = await corp.logins.confirmed(login)
    assert Obstacle.WRONG_STATE is (await refusal(corp.logins.back(query, provider="corp"))).obstacle


async def test_of_two_answers_at_once_one_is_taken(corp: SigningIn) -> None:
    """The code is sent once."""
    login = await corp.logins.started()
    query = await corp.to_sign_in(login.flow_id)
    told = await asyncio.gather(corp.signed_in(query), corp.logins.back(query, provider="corp"), return_exceptions=True)
    assert (1, 1) == (len([one for one in told if isinstance(one, Onward)]), len(corp.logins.world.endpoint.requests))


async def test_a_sign_in_gains_no_time(corp: SigningIn) -> None:
    """Ten minutes are for all that comes before the provider."""
    login = await corp.logins.started()
    query = await corp.to_sign_in(login.flow_id)
    corp.logins.world.clock.advance(LIFE_MS / 1000)
    assert Obstacle.EXPIRED is (await refusal(corp.signed_in(query))).obstacle


async def another(corp: SigningIn, **fields: Any) -> StartedLogin:  # noqa: ANN401 - of the start
    """Connect the grant as Ada, then let Bob sign in for it."""
    first = await corp.logins.started()
    await corp.at_the_page(first)
    await corp.logins.logged_in(first)
    login = await corp.logins.started(**fields)
    query = await corp.to_sign_in(login.flow_id)
    await corp.signed_in(query, signs_in("bob", nonce=query["nonce"]))
    return login


async def test_a_grant_stays_with_the_person_who_connected_it(corp: SigningIn) -> None:
    """Another is told before anything is sent to the provider; the grant keeps what it had."""
    login = await another(corp)
    assert (LoginPhase.FAILED, "subject_mismatch") == await corp.logins.end(login)
    assert (ADA, RECEIVED) == (
        corp.logins.world.store.inner._grants["id-login"].person,
        await corp.logins.world.refresh_token("login"),
    )


async def test_an_admin_lets_another_person_have_it(corp: SigningIn) -> None:
    """As with the provider's own word for them."""
    login = await another(corp, any_subject=True, roles=frozenset({Role.ADMIN, Role.OPERATOR}))
    await corp.logins.logged_in(login, gave(refresh_token="canary-rt-bob"))
    assert (LoginPhase.CONNECTED, "") == await corp.logins.end(login)
    login = await corp.logins.started()
    query = await corp.to_sign_in(login.flow_id)
    await corp.signed_in(query, signs_in("bob", nonce=query["nonce"]))
    assert f"bob at {ISSUER}" == (await corp.logins.page(login.flow_id)).connected_by
    assert f"bob at {ISSUER}" == corp.logins.world.store.inner._grants["id-login"].person


async def test_of_two_persons_at_once_one_connects_it(corp: SigningIn) -> None:
    """Whoever lands second is told, and the provider of their token."""
    logins = corp.logins
    adas, bobs = await logins.started(), await logins.started()
    await corp.at_the_page(adas)
    query = await corp.to_sign_in(bobs.flow_id)
    await corp.signed_in(query, signs_in("bob", nonce=query["nonce"]))
    await logins.logged_in(adas)
    await logins.logged_in(bobs, gave(refresh_token="canary-rt-bob"))
    assert (LoginPhase.FAILED, "subject_mismatch") == await logins.end(bobs)
    assert (ADA, [("refresh_token", "canary-rt-bob")]) == (
        logins.world.store.inner._grants["id-login"].person,
        logins.world.endpoint.ended,
    )


async def demanded() -> Logins:
    """Return logins of which one is under way when operators begin to demand a sign-in."""
    logins = await new_logins()
    await logins.world.put(CORP, PLACE)
    await logins.world.secret(CORP, PLACE)
    await seen(logins)
    return logins


async def demand(logins: Logins) -> None:
    """People have to sign in from now on."""
    await logins.world.put(replace(LOGIN_PROVIDER, connect_login="corp-sign-in"))
    await seen(logins)


async def test_who_is_at_the_provider_already_is_too_late() -> None:
    """Nobody knows who it is: the code is not exchanged."""
    logins = await demanded()
    login = await logins.started()
    query = await logins.confirmed(login)
    await demand(logins)
    await logins.back(query)
    assert ((LoginPhase.FAILED, "grant_unavailable"), []) == (await logins.end(login), logins.world.endpoint.requests)


async def test_who_is_at_the_page_signs_in() -> None:
    """The form leads there now."""
    logins = await demanded()
    login = await logins.started()
    await logins.page(login.flow_id)
    await demand(logins)
    await SigningIn(logins).at_the_page(login)
    assert ADA == (await logins.page(login.flow_id)).person


async def test_another_place_wants_another_sign_in(corp: SigningIn) -> None:
    """Who signed in elsewhere is not known there."""
    logins = corp.logins
    login = await logins.started()
    await corp.at_the_page(login)
    await logins.world.put(replace(CORP, issuer="https://new.example"))
    await seen(logins)
    assert isinstance(await logins.connect.open(login.flow_id, HERS), SignInView)


async def test_who_signed_in_at_a_place_that_was_given_up_is_too_late(corp: SigningIn) -> None:
    """Operators do not believe its word any more: the code is not exchanged, and the grant is nobody's."""
    logins = corp.logins
    login = await logins.started()
    await corp.at_the_page(login)
    query = await logins.confirmed(login)
    await logins.world.put(replace(CORP, issuer="https://new.example"))
    await seen(logins)
    calls = len(logins.world.endpoint.requests)
    await logins.back(query)
    assert (LoginPhase.FAILED, "grant_unavailable") == await logins.end(login)
    assert (calls, None) == (len(logins.world.endpoint.requests), logins.world.store.inner._grants["id-login"].person)


async def test_direct_steps_have_no_sign_in() -> None:
    """They are refused from the start, and a login that began before does not end."""
    logins = await demanded()
    login = await logins.started(direct_redirect_uri=APP_URI)
    await demand(logins)
    with pytest.raises(InvalidRequestError, match="sign in first"):
        await logins.started(direct_redirect_uri=APP_URI)
    with pytest.raises(Exception, match="changed since the login began"):
        await logins.complete.direct(OPS, login.flow_id, Secret("c"), APP_URI, logins.trail())


@pytest.mark.parametrize("place", [replace(CORP, authorize_url=None), replace(CORP, frozen=True), None])
async def test_without_a_place_nobody_goes_on(corp: SigningIn, place: Any) -> None:  # noqa: ANN401 - a provider
    """It fails closed."""
    logins = corp.logins
    login = await logins.started()
    if place is None:
        await logins.world.remove(Kind.CLIENT, "corp-sign-in")
    else:
        await logins.world.put(place)
    await seen(logins)
    refused = [
        await refusal(logins.connect.open(login.flow_id, HERS)),
        await refusal(logins.connect.confirm(login.flow_id, HERS, "", logins.trail())),
    ]
    assert [(Obstacle.NOT_SIGNED_IN, "unavailable")] * 2 == [(one.obstacle, one.cause) for one in refused]
    with pytest.raises(InvalidRequestError, match="nobody can"):
        await logins.started()


async def test_an_app_is_told_of_another_person(corp: SigningIn) -> None:
    """Its user comes back with an error, and the app's own state."""
    first = await corp.logins.started()
    await corp.at_the_page(first)
    await corp.logins.logged_in(first)
    login = await corp.logins.app_started()
    query = await corp.to_sign_in(login.flow_id)
    onward = await corp.signed_in(query, signs_in("bob", nonce=query["nonce"]))
    assert onward.url is not None
    assert f"{APP_URI}?error=server_error&state=app-state" == onward.url.reveal()
    assert LOGIN_CLIENT.redirect_uris == (APP_URI,)
