"""The login on pages: its steps, what goes wrong in them, and whose they are."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.sandbox.browser import Browser, browser
from tests.sandbox.logins import ADA, CODE, GRACE, PLAIN, S256, VERIFIER, exchange, who_am_i
from tests.support.sandbox import FakeClock, SandboxDriver

ASKED = "account:information user:information"


@pytest.fixture
async def ada(sandbox: SandboxDriver) -> AsyncIterator[Browser]:
    """A browser."""
    async with browser(sandbox) as hers:
        yield hers


@pytest.fixture
async def eve(sandbox: SandboxDriver) -> AsyncIterator[Browser]:
    """Another browser."""
    async with browser(sandbox) as hers:
        yield hers


async def test_password_code_consent(sandbox: SandboxDriver, ada: Browser) -> None:
    """Page after page to a redirect with code and state alone, and tokens that act for the person."""
    steps = [(await ada.ask(scope=ASKED)).step, (await ada.send(**ADA)).step, (await ada.send(code=CODE)).step]
    assert ["password", "code", "consent"] == steps
    answer = (await ada.send()).answer
    assert ("http://127.0.0.1:8080/callback/aries", {"code", "state"}, "its-state") == (
        ada.sent_to.partition("?")[0],
        set(answer),
        answer["state"],
    )
    tokens = await exchange(sandbox, answer["code"])
    assert (ASKED, 1001) == (tokens.json()["scope"], await who_am_i(sandbox, tokens))


async def test_without_a_code(sandbox: SandboxDriver, ada: Browser) -> None:
    """Who has no second factor goes from the password to the consent."""
    assert "consent" == (await (await ada.ask()).send(**GRACE)).step
    tokens = await exchange(sandbox, (await ada.send()).answer["code"])
    assert 1003 == await who_am_i(sandbox, tokens)


@pytest.mark.parametrize("challenge", [S256, PLAIN], ids=["S256", "plain"])
async def test_a_challenge_wants_its_verifier(sandbox: SandboxDriver, ada: Browser, challenge: dict[str, str]) -> None:
    """The code is bound to the challenge of the request."""
    await sandbox.behave(plain_challenge=True)
    codes = []
    for _ in range(2):
        await (await ada.ask(**challenge)).log_in()
        codes.append((await ada.send()).answer["code"])
    replies = [
        await exchange(sandbox, code, code_verifier=verifier)
        for code, verifier in zip(codes, (VERIFIER, "w" * 43), strict=True)
    ]
    assert [200, 400] == [reply.status_code for reply in replies]


async def test_the_consent_says_who_asks_for_what(ada: Browser) -> None:
    """The client's name, the person's address, each scope."""
    text = (await (await ada.ask(scope=ASKED)).log_in()).page.text
    assert [] == [said for said in ("Desk", GRACE["email"], *ASKED.split()) if said not in text]


async def test_the_consent_is_asked_every_time(ada: Browser) -> None:
    """Where all of it was allowed before, the page says so."""
    for said in (False, True):
        await (await ada.ask(scope=ASKED)).log_in()
        assert ("consent", said) == (ada.step, "You allowed it all of that before" in ada.page.text)
        await ada.send()


@pytest.mark.parametrize("step", ["password", "code", "consent"])
async def test_every_step_can_be_cancelled(ada: Browser, step: str) -> None:
    """That is a denial, and the login is over."""
    await ada.ask()
    if step != "password":
        await ada.send(**ADA)
    if step == "consent":
        await ada.send(code=CODE)
    path = ada.page.all("form")[0]["action"] or ""
    assert step == ada.step
    assert {"error": "access_denied", "state": "its-state"} == (await ada.send(answer="cancel")).answer
    assert 404 == (await ada.open(path)).last.status_code


@pytest.mark.parametrize(
    "who", [{**ADA, "password": "wrong"}, {"email": "nobody@example.com", "password": "wrong"}, {}]
)
async def test_nobody_learns_who_has_an_account(ada: Browser, who: dict[str, str]) -> None:
    """A wrong password and an unknown address are told alike, on the page and as often."""
    await ada.ask()
    told = []
    for _ in range(6):
        await ada.send(**who)
        told.append(
            (ada.last.status_code, ada.step, ada.page.text.count("The email address or the password is wrong."))
        )
    assert [(403, "password", 1)] * 4 + [(423, "password", 0)] * 2 == told
    assert "too many wrong tries" in ada.page.text


async def test_who_was_wrong_need_not_type_the_address_again(ada: Browser) -> None:
    """The address stays in its field, the password does not."""
    fields = (await (await ada.ask()).send(email=ADA["email"], password="wrong")).page.fields
    assert (ADA["email"], "") == (fields["email"], fields["password"])


async def test_a_wrong_code_says_how_many_are_left(sandbox: SandboxDriver, ada: Browser) -> None:
    """Down to the last; the right one is taken then."""
    await sandbox.behave(mfa_tries=3)
    await (await ada.ask()).send(**ADA)
    for left in ("You can try 2 more times.", "You can try 1 more time."):
        await ada.send(code="000000")
        assert (403, True) == (ada.last.status_code, f"The code is wrong. {left}" in ada.page.text)
    assert "consent" == (await ada.send(code=CODE)).step


async def test_too_many_wrong_codes_lock_the_person(sandbox: SandboxDriver, ada: Browser, clock: FakeClock) -> None:
    """This login is over, the next one stops at the password, and fifteen minutes later it goes on."""
    await sandbox.behave(mfa_tries=2)
    await (await ada.ask()).send(**ADA)
    path = ada.page.all("form")[0]["action"] or ""
    for _ in range(2):
        await ada.send(code="000000")
    assert (423, "") == (ada.last.status_code, ada.step)
    assert 404 == (await ada.open(path)).last.status_code
    assert (423, "password") == ((await (await ada.ask()).send(**ADA)).last.status_code, ada.step)
    clock.advance(900)
    assert "code" == (await (await ada.ask()).send(**ADA)).step


@pytest.mark.parametrize("code", ["", "12345", "1234567", "12345a", "\u0661\u0662\u0663\u0664\u0665\u0666"])
async def test_what_is_no_code_costs_no_try(sandbox: SandboxDriver, ada: Browser, code: str) -> None:
    """Six ASCII digits, or it is told to be none."""
    await sandbox.behave(mfa_tries=1)
    await (await ada.ask()).send(**ADA)
    assert (400, "code") == ((await ada.send(code=code)).last.status_code, ada.step)
    assert "consent" == (await ada.send(code=CODE)).step


async def test_a_code_is_taken_in_groups(ada: Browser) -> None:
    """As people type it, and as it is shown on telephones."""
    await (await ada.ask()).send(**ADA)
    assert "consent" == (await ada.send(code=" 123 456 ")).step


async def test_a_code_from_the_phone_lasts_five_minutes(ada: Browser, clock: FakeClock) -> None:
    """After that the same login begins with the password, which sends another."""
    await (await ada.ask()).send(**ADA)
    clock.advance(300)
    await ada.send(code=CODE)
    assert (410, "password", True) == (ada.last.status_code, ada.step, "The code has expired" in ada.page.text)
    assert "consent" == (await ada.log_in(ADA)).step


async def test_a_login_lasts_ten_minutes(ada: Browser, clock: FakeClock) -> None:
    """By the sandbox's clock, whatever its step; then its pages and its forms say so."""
    await (await ada.ask()).log_in()
    path, fields = ada.page.all("form")[0]["action"] or "", ada.page.fields
    clock.advance(600)
    shown = [(await ada.open(path)).last]
    shown += [(await ada.post(path, {**fields, "answer": answer})).last for answer in ("go", "cancel")]
    assert [(410, True)] * 3 == [(reply.status_code, "This login took too long" in reply.text) for reply in shown]


async def test_a_step_is_taken_in_its_turn(ada: Browser) -> None:
    """A form sent too early, too late, or of no step at all shows the page whose turn it is, and takes nothing."""
    await ada.ask()
    for step in ("consent", "code", "soup"):
        assert "password" == (await ada.send(step=step, **ADA, code=CODE)).step
    await ada.send(**ADA)
    assert "code" == (await ada.send(step="password", **ADA)).step
    assert "code" == (await ada.send(step="consent")).step


async def test_two_tabs_are_two_logins(sandbox: SandboxDriver, ada: Browser) -> None:
    """One browser, two requests, each answered with its own state and person."""
    first, second = Browser(ada.http), Browser(ada.http)
    await first.ask(state="one", scope="user:information")
    await second.ask(state="two", scope="user:information")
    await first.log_in(GRACE)
    await second.log_in(ADA)
    tabs = [await second.send(), await first.send()]
    people = [await who_am_i(sandbox, await exchange(sandbox, tab.answer["code"])) for tab in tabs]
    assert [("two", 1001), ("one", 1003)] == [(tab.answer["state"], who) for tab, who in zip(tabs, people, strict=True)]


async def test_one_login_in_two_tabs_ends_once(ada: Browser) -> None:
    """The second consent finds no login any more."""
    await (await ada.ask()).log_in()
    other = Browser(ada.http, ada.last)
    assert "code" in (await ada.send()).answer
    assert (404, "") == ((await other.send()).last.status_code, other.sent_to)


@pytest.mark.parametrize("step", ["password", "consent"])
async def test_a_login_belongs_to_its_browser(ada: Browser, eve: Browser, step: str) -> None:
    """Another one, with a cookie of its own or with none, sees nothing of it and can neither end nor continue it."""
    await ada.ask()
    if step == "consent":
        await ada.log_in()
    path, fields = ada.page.all("form")[0]["action"] or "", ada.page.fields
    for _ in ("without a cookie", "with its own"):
        for answer in ("go", "cancel"):
            await eve.post(path, {**fields, **GRACE, "answer": answer})
            assert (403, "") == (eve.last.status_code, eve.sent_to)
        assert (403, "") == ((await eve.open(path)).last.status_code, eve.step)
        await eve.ask()
    assert step == (await ada.open(path)).step


@pytest.mark.parametrize("answer", ["go", "cancel"])
async def test_a_form_brings_the_token_of_its_page(ada: Browser, answer: str) -> None:
    """Without one, with another login's, or with another text nothing happens."""
    foreign = (await ada.ask()).page.fields["csrf"]
    await (await ada.ask()).log_in()
    path, fields = ada.page.all("form")[0]["action"] or "", {**ada.page.fields, "answer": answer}
    told = [
        (await ada.post(path, {**fields, "csrf": token})).last.status_code
        for token in ("", foreign, "x", "\u00e9" * 64)
    ]
    del fields["csrf"]
    told.append((await ada.post(path, fields)).last.status_code)
    assert [403] * 5 == told
    assert "consent" == (await ada.open(path)).step


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"csrf=" + b"x" * 1_000_000, 413),
        (b"password=" + b"%00" * 333_333, 413),
        (b"csrf=a&csrf=b", 400),
        (b"\xff=1", 400),
        (b"soup", 400),
        (b"", 403),
    ],
    ids=["long", "long when read", "twice", "no UTF-8", "no form", "empty"],
)
async def test_forms_that_are_none(ada: Browser, body: bytes, status: int) -> None:
    """They are answered by a page that says so, and the login goes on."""
    path = (await ada.ask()).page.all("form")[0]["action"] or ""
    reply = await ada.http.post(path, content=body, headers={"Content-Type": "application/x-www-form-urlencoded"})
    assert (status, True) == (reply.status_code, "This did not work" in reply.text)
    assert "password" == (await ada.open(path)).step


async def test_a_login_that_is_none(ada: Browser) -> None:
    """Is told by a page."""
    replies = [await ada.http.get("/oauth2/authorize/made-up"), await ada.http.post("/oauth2/authorize/made-up")]
    assert [(404, True)] * 2 == [(reply.status_code, "no such login" in reply.text) for reply in replies]


@pytest.mark.parametrize("made_up", [b"", b"short", b"x" * 44, b"\xe9" * 43])
async def test_a_cookie_that_is_none_is_replaced(sandbox: SandboxDriver, made_up: bytes) -> None:
    """Only what the sandbox gave, or could have, tells browsers apart."""
    async with browser(sandbox) as somebody:
        header = {b"Cookie": b"aries-sandbox-browser=" + made_up}
        query = {
            "response_type": "code",
            "client_id": "desk-app",
            "redirect_uri": "http://127.0.0.1:8080/callback/aries",
        }
        reply = await somebody.http.get("/oauth2/authorize", params=query, headers=header)
        assert 43 == len(reply.cookies["aries-sandbox-browser"])
