"""The login in three JSON steps."""

from __future__ import annotations

import json
from typing import Any

import httpx2
import pytest

from broker.sandbox import ClientSeed, UserSeed
from broker.sandbox.login_state import MOST_LOGINS
from tests.sandbox.logins import (
    ADA,
    CODE,
    GRACE,
    PLAIN,
    PUBLIC,
    REDIRECT,
    S256,
    TO_PUBLIC,
    VERIFIER,
    begin,
    confirm,
    exchange,
    named,
    step,
    told,
    verify,
    who_am_i,
)
from tests.support.sandbox import FakeClock, SandboxDriver, running_sandbox

ASKED = ["account:information", "user:information"]


async def test_with_a_code_from_the_phone(sandbox: SandboxDriver) -> None:
    """Three steps with the documented fields, and a code whose tokens act for the person, with what was asked."""
    first = await begin(sandbox, ADA, scope=" ".join(ASKED))
    second = await verify(sandbox, first)
    third = await confirm(sandbox, second)
    shown = {"consent_required": True, "client_name": "Desk", "scopes": ASKED}
    assert {"next_step_auth_id": named(first), "is_mfa": True, **shown} == first.json()
    assert {"next_step_auth_id": named(second), **shown} == second.json()
    assert {"code": third.json()["code"], "redirect_uri": REDIRECT} == third.json()
    tokens = await exchange(sandbox, third.json()["code"])
    assert (" ".join(ASKED), 1001) == (tokens.json()["scope"], await who_am_i(sandbox, tokens))


async def test_without_a_code(sandbox: SandboxDriver) -> None:
    """Who has no second factor goes from the password to the consent; the tokens are theirs, not the client owner's."""
    first = await begin(sandbox, GRACE)
    assert False is first.json()["is_mfa"]
    code = (await confirm(sandbox, first)).json()["code"]
    assert 1003 == await who_am_i(sandbox, await exchange(sandbox, code))


async def test_no_scope_means_all_the_client_has(sandbox: SandboxDriver) -> None:
    """As at the token endpoint."""
    scopes = sandbox.running.state.clients["desk-app"].scopes
    assert sorted(scopes) == (await begin(sandbox, ADA)).json()["scopes"]


@pytest.mark.parametrize("seeded", ["ada@example.com", "Ada@example.com"])
async def test_an_address_is_taken_as_people_type_it(seeded: str) -> None:
    """In any case, with blanks around it, however it is seeded."""
    async with running_sandbox(users=(UserSeed(1001, seeded, password=ADA["password"]),)) as sandbox:
        assert 200 == (await begin(sandbox, {**ADA, "email": " ada@Example.COM "})).status_code


async def test_each_step_is_named_anew_and_once(sandbox: SandboxDriver) -> None:
    """No id is good for two steps, and none twice."""
    first = await begin(sandbox, ADA)
    second = await verify(sandbox, first)
    assert (400, "INVALID_REQUEST") == told(await verify(sandbox, first))
    assert (400, "INVALID_REQUEST") == told(await confirm(sandbox, first))
    assert 200 == (await confirm(sandbox, second)).status_code
    assert (400, "INVALID_REQUEST") == told(await confirm(sandbox, second))


async def test_steps_go_in_order(sandbox: SandboxDriver) -> None:
    """No consent before the code, no code where none is wanted; the step whose turn it is stays possible."""
    of_ada, of_grace = await begin(sandbox, ADA), await begin(sandbox, GRACE)
    assert (403, "STEP_NOT_ALLOWED") == told(await confirm(sandbox, of_ada))
    assert (403, "STEP_NOT_ALLOWED") == told(await verify(sandbox, of_grace))
    assert [200, 200] == [
        (await verify(sandbox, of_ada)).status_code,
        (await confirm(sandbox, of_grace)).status_code,
    ]


@pytest.mark.parametrize("who", [{**ADA, "password": "wrong"}, {"email": "nobody@example.com", "password": "wrong"}])
async def test_nobody_learns_who_has_an_account(sandbox: SandboxDriver, who: dict[str, str]) -> None:
    """A wrong password and an unknown address have the same replies, also when they are locked."""
    replies = [await begin(sandbox, who) for _ in range(6)]
    bodies = {reply.status_code: reply.json() for reply in replies}
    assert [401] * 4 + [423] * 2 == [reply.status_code for reply in replies]
    assert {
        401: {
            "error": "wrong email or password",
            "codes": [{"code": "INVALID_CREDENTIALS", "description": "wrong email or password"}],
        },
        423: {"error": "too many wrong tries", "codes": [{"code": "LOCKED", "description": "too many wrong tries"}]},
    } == bodies


async def test_who_has_no_password_cannot_log_in() -> None:
    """Whatever is tried."""
    async with running_sandbox(users=(UserSeed(1001, "ada@example.com"),)) as sandbox:
        assert (401, "INVALID_CREDENTIALS") == told(await begin(sandbox, {**ADA, "password": "None"}))


async def test_a_locked_password_opens_again(sandbox: SandboxDriver, clock: FakeClock) -> None:
    """The right one is refused for fifteen minutes after the last wrong one, and others are not touched."""
    await sandbox.behave(password_tries=2)
    for _ in range(2):
        await begin(sandbox, {**ADA, "password": "wrong"})
    clock.advance(899)
    assert [423, 200] == [(await begin(sandbox, who)).status_code for who in (ADA, GRACE)]
    clock.advance(1)
    assert 200 == (await begin(sandbox, ADA)).status_code


async def test_a_right_password_ends_the_count(sandbox: SandboxDriver) -> None:
    """What was wrong before it counts no more."""
    await sandbox.behave(password_tries=2)
    statuses = [
        (await begin(sandbox, {**ADA, "password": password})).status_code
        for password in ("wrong", ADA["password"], "wrong")
    ]
    assert [401, 200, 401] == statuses


async def test_old_tries_are_forgotten_each_by_its_own_time(sandbox: SandboxDriver, clock: FakeClock) -> None:
    """Somebody who goes on guessing keeps nobody else's count alive."""
    await sandbox.behave(password_tries=3)
    wrong = [{**who, "password": "wrong"} for who in (ADA, GRACE)]
    for who in (*wrong, wrong[1]):
        await begin(sandbox, who)
    clock.advance(600)
    await begin(sandbox, wrong[0])
    clock.advance(300)
    assert [423, 401] == [(await begin(sandbox, who)).status_code for who in wrong]


async def test_a_wrong_code_may_be_followed_by_the_right_one(sandbox: SandboxDriver) -> None:
    """Under the same id, until it was wrong too often."""
    await sandbox.behave(mfa_tries=3)
    first = await begin(sandbox, ADA)
    for _ in range(2):
        assert (401, "INVALID_VERIFICATION_CODE") == told(await verify(sandbox, first, "000000"))
    assert 200 == (await verify(sandbox, first)).status_code


async def test_too_many_wrong_codes_lock_the_person(sandbox: SandboxDriver, clock: FakeClock) -> None:
    """The login is over, a new one is refused also with the right password, and fifteen minutes later it works."""
    await sandbox.behave(mfa_tries=3)
    first, other = await begin(sandbox, ADA), await begin(sandbox, ADA)
    statuses = [(await verify(sandbox, first, code)).status_code for code in ["000000"] * 3 + [CODE]]
    assert [401, 401, 423, 400] == statuses
    assert (423, "LOCKED") == told(await verify(sandbox, other))
    assert (423, "LOCKED") == told(await begin(sandbox, ADA))
    clock.advance(900)
    assert 200 == (await begin(sandbox, ADA)).status_code


async def test_a_right_code_ends_the_count(sandbox: SandboxDriver) -> None:
    """What was wrong before it counts no more."""
    await sandbox.behave(mfa_tries=2)
    statuses = []
    for codes in (("000000", CODE), ("000000", CODE)):
        first = await begin(sandbox, ADA)
        statuses += [(await verify(sandbox, first, code)).status_code for code in codes]
    assert [401, 200, 401, 200] == statuses


async def test_wrong_codes_of_several_logins_are_counted_together(sandbox: SandboxDriver) -> None:
    """Beginning anew gives nobody more tries."""
    await sandbox.behave(mfa_tries=2)
    statuses = [(await verify(sandbox, await begin(sandbox, ADA), "000000")).status_code for _ in range(2)]
    assert [401, 423] == statuses


@pytest.mark.parametrize("code", ["", "12345", "1234567", "12345a", " 123456", "\u0661\u0662\u0663\u0664\u0665\u0666"])
async def test_what_is_no_code_costs_no_try(sandbox: SandboxDriver, code: str) -> None:
    """Six ASCII digits, or it is malformed."""
    await sandbox.behave(mfa_tries=1)
    first = await begin(sandbox, ADA)
    assert (400, "INVALID_REQUEST") == told(await verify(sandbox, first, code))
    assert 200 == (await verify(sandbox, first)).status_code


async def test_a_code_from_the_phone_lasts_five_minutes(sandbox: SandboxDriver, clock: FakeClock) -> None:
    """After that the login begins anew."""
    first = await begin(sandbox, ADA)
    clock.advance(300)
    assert (410, "VERIFICATION_CODE_EXPIRED") == told(await verify(sandbox, first))
    assert (400, "INVALID_REQUEST") == told(await verify(sandbox, first))


async def test_a_login_lasts_ten_minutes(sandbox: SandboxDriver, clock: FakeClock) -> None:
    """From its beginning to the consent."""
    last, late = await begin(sandbox, GRACE), await begin(sandbox, GRACE)
    clock.advance(599)
    assert 200 == (await confirm(sandbox, last)).status_code
    clock.advance(1)
    assert (410, "LOGIN_EXPIRED") == told(await confirm(sandbox, late))


async def test_a_code_lasts_as_long_as_told(sandbox: SandboxDriver, clock: FakeClock) -> None:
    """Ten minutes unless a switch says otherwise; at 0 it has expired when it is exchanged."""
    codes = [(await confirm(sandbox, await begin(sandbox, GRACE))).json()["code"] for _ in range(2)]
    await sandbox.behave(code_seconds=0)
    codes.append((await confirm(sandbox, await begin(sandbox, GRACE))).json()["code"])
    statuses = []
    for code, seconds in zip(codes, (599, 1, 0), strict=True):
        clock.advance(seconds)
        statuses.append((await exchange(sandbox, code)).status_code)
    assert [200, 400, 400] == statuses


@pytest.mark.parametrize(
    ("params", "status", "code", "field"),
    [
        ({"client_id": ""}, 400, "INVALID_REQUEST", "client_id"),
        ({"client_id": "nobody"}, 403, "UNAUTHORIZED_CLIENT", "client_id"),
        ({"redirect_uri": ""}, 400, "INVALID_REQUEST", "redirect_uri"),
        ({"redirect_uri": REDIRECT + "/"}, 403, "INVALID_REDIRECT_URI", "redirect_uri"),
        ({"redirect_uri": REDIRECT.replace("8080", "8081")}, 403, "INVALID_REDIRECT_URI", "redirect_uri"),
        ({"redirect_uri": REDIRECT.upper()}, 403, "INVALID_REDIRECT_URI", "redirect_uri"),
        ({"response_type": "token"}, 400, "UNSUPPORTED_RESPONSE_TYPE", "response_type"),
        ({"scope": "withdraw"}, 400, "INVALID_SCOPE", "scope"),
        ({"email": ""}, 400, "INVALID_REQUEST", "email"),
        ({"password": ""}, 400, "INVALID_REQUEST", "password"),
        ({"sid": "a"}, 400, "INVALID_REQUEST", "sid"),
        (PLAIN, 400, "INVALID_REQUEST", "code_challenge_method"),
        ({"code_challenge": VERIFIER}, 400, "INVALID_REQUEST", "code_challenge_method"),
        ({**S256, "code_challenge": "short"}, 400, "INVALID_REQUEST", "code_challenge"),
        ({"code_challenge_method": "S256"}, 400, "INVALID_REQUEST", "code_challenge"),
    ],
    ids=str,
)
async def test_wrong_parameters_are_told_by_name(
    sandbox: SandboxDriver, params: dict[str, str], status: int, code: str, field: str
) -> None:
    """With the flat body, before the password is looked at."""
    reply = await begin(sandbox, {**ADA, "password": "wrong"}, **params)
    assert (status, code, field) == (*told(reply), reply.json()["codes"][0]["field"])


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400),
        (b"[]", 400),
        (b'{"email": 1}', 400),
        (b'{"email": "a", "email": "b"}', 400),
        (b"email=a&password=b", 400),
        (b'{"email": "' + b"x" * 1_000_000 + b'"}', 413),
    ],
    ids=["half", "list", "number", "twice", "form", "long"],
)
@pytest.mark.parametrize("path", ["", "/mfa", "/confirm"])
async def test_bodies_that_are_none(sandbox: SandboxDriver, path: str, body: bytes, status: int) -> None:
    """Only an object of texts, of at most 64 KiB, is read."""
    reply = await sandbox.http.post(f"/v1/oauth2/authorize{path}", content=body)
    assert (status, "INVALID_REQUEST") == told(reply)


@pytest.mark.parametrize("name", ["client_id", "email", "password"])
async def test_half_a_character_is_no_text(sandbox: SandboxDriver, name: str) -> None:
    """JSON can name one; nothing else could be done with it."""
    body = {"client_id": "desk-app", "redirect_uri": REDIRECT, **ADA, name: "\ud800"}
    assert (400, "INVALID_REQUEST") == told(
        await sandbox.http.post("/v1/oauth2/authorize", content=json.dumps(body)),
    )


@pytest.mark.parametrize("challenge", [S256, PLAIN], ids=["S256", "plain"])
@pytest.mark.parametrize(("verifier", "status"), [(VERIFIER, 200), ("w" * 43, 400), ("", 400)])
async def test_a_challenge_wants_its_verifier(
    sandbox: SandboxDriver, challenge: dict[str, str], verifier: str, status: int
) -> None:
    """By its own method."""
    await sandbox.behave(plain_challenge=True)
    code = (await confirm(sandbox, await begin(sandbox, GRACE, **challenge))).json()["code"]
    assert status == (await exchange(sandbox, code, code_verifier=verifier)).status_code


async def test_a_public_client_needs_a_challenge() -> None:
    """It has no secret to show at the exchange."""
    async with running_sandbox(clients=(PUBLIC,)) as sandbox:
        assert (400, "INVALID_REQUEST") == told(await begin(sandbox, GRACE, **TO_PUBLIC))
        code = (await confirm(sandbox, await begin(sandbox, GRACE, **TO_PUBLIC, **S256))).json()["code"]
        params = {"grant_type": "authorization_code", "code": code, "code_verifier": VERIFIER, **TO_PUBLIC}
        assert 200 == (await sandbox.http.post("/v1/oauth2/token", json=params)).status_code


async def test_consent_is_required_once(sandbox: SandboxDriver) -> None:
    """Not again for what the person allowed this client before, however it was put together; else it is."""

    async def required(who: dict[str, str], scope: str) -> Any:  # noqa: ANN401 - as JSON has it
        first = await begin(sandbox, who, scope=scope)
        await confirm(sandbox, first)
        return first.json()["consent_required"]

    one, other = ASKED
    assert [True, False, True, False] == [await required(GRACE, scope) for scope in (one, one, other, f"{one} {other}")]
    assert True is (await begin(sandbox, ADA, scope=one)).json()["consent_required"]


async def test_consent_is_required_for_each_client() -> None:
    """What one may, another may not."""
    other = ClientSeed("other-app", "other", redirect_uris=(REDIRECT,))
    async with running_sandbox(clients=(ClientSeed("desk-app", redirect_uris=(REDIRECT,)), other)) as sandbox:
        await confirm(sandbox, await begin(sandbox, GRACE, **S256))
        replies = [await begin(sandbox, GRACE, **S256, client_id=name) for name in ("desk-app", "other-app")]
        assert [False, True] == [reply.json()["consent_required"] for reply in replies]
        assert ["desk-app", "other-app"] == [reply.json()["client_name"] for reply in replies]


async def test_a_consent_taken_back_is_required_again(sandbox: SandboxDriver) -> None:
    """As a person does who revokes."""
    code = (await confirm(sandbox, await begin(sandbox, GRACE))).json()["code"]
    await sandbox.revoke((await exchange(sandbox, code)).json()["refresh_token"])
    assert True is (await begin(sandbox, GRACE)).json()["consent_required"]


async def test_a_consent_that_was_not_confirmed_is_none(sandbox: SandboxDriver) -> None:
    """To be asked is not to allow."""
    replies = [await begin(sandbox, GRACE) for _ in range(2)]
    assert [True, True] == [reply.json()["consent_required"] for reply in replies]


async def test_an_exchange_may_name_no_refresh_token(sandbox: SandboxDriver) -> None:
    """Neither the token nor its life; refreshes go on naming theirs."""
    await sandbox.behave(code_refresh_token=False)
    code = (await confirm(sandbox, await begin(sandbox, GRACE))).json()["code"]
    assert {"access_token", "token_type", "expires_in", "scope"} == set((await exchange(sandbox, code)).json())


async def test_a_code_may_be_for_somebody_else(sandbox: SandboxDriver) -> None:
    """The switch names whom tokens act for in place of who logged in."""
    await sandbox.behave(code_subject=1001)
    code = (await confirm(sandbox, await begin(sandbox, GRACE))).json()["code"]
    tokens = await exchange(sandbox, code)
    family = await sandbox.inspect(tokens.json()["refresh_token"])
    assert (1001, 1001) == (await who_am_i(sandbox, tokens), family["user_id"])


async def test_the_oldest_logins_are_forgotten(sandbox: SandboxDriver) -> None:
    """Nobody fills the memory with logins that they do not end."""
    oldest = await begin(sandbox, GRACE)
    login = sandbox.running.state.steps.find(named(oldest))
    assert login is not None
    for number in range(MOST_LOGINS):
        sandbox.running.state.steps.put(str(number), login)
    assert MOST_LOGINS == len(list(sandbox.running.state.steps))
    assert (400, "INVALID_REQUEST") == told(await confirm(sandbox, oldest))


async def test_replies_are_not_stored(sandbox: SandboxDriver) -> None:
    """Neither good ones nor refusals."""
    replies: list[httpx2.Response] = [
        await begin(sandbox, GRACE),
        await begin(sandbox, {**GRACE, "password": "wrong"}),
        await step(sandbox, "/confirm", {}),
    ]
    assert ["no-store"] * 3 == [reply.headers["Cache-Control"] for reply in replies]


async def test_no_secret_of_a_login_is_shown(sandbox: SandboxDriver) -> None:
    """What the sandbox remembers can be printed, and the admin endpoint tells none of it."""
    first = await begin(sandbox, ADA, state="its-state")
    shown = f"{sandbox.running.state!r} {list(sandbox.running.state.steps)!r} {await sandbox.counters()}"
    secrets = (ADA["password"], CODE, named(first), "its-state")
    assert [] == [secret for secret in secrets if secret in shown]
