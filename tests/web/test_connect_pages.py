"""The pages of a login over a real socket: their headers, forms, cookies, and what is never in them."""

from __future__ import annotations

import html
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

import httpx2
import pytest
from starlette.types import Message

from broker.core.authorization import Failure, LoginPhase, Obstacle, fail
from broker.core.models import Origin, Policy
from broker.flows.start_authorization import StartedLogin
from broker.web.connect import MAX_BODY, ConnectPages
from broker.web.pages import FAILURES, OBSTACLES
from broker.web.server import WebServer
from tests.flows.logins import APP_URI, CODE, LOGIN_PROVIDER, RECEIVED, Logins, gave, new_logins
from tests.flows.test_sign_in import ADA, CORP, PLACE, signs_in
from tests.flows.world import error
from tests.support.person import asked, onward
from tests.support.sandbox import NO_AUTHORITIES

PUBLIC = "https://broker.example"
SECURE = "__Host-aries-login"


@dataclass
class Live:
    """The pages, a browser without the browser, and the flows behind."""

    logins: Logins
    http: httpx2.AsyncClient
    cookie: str = ""

    async def get(self, path: str) -> httpx2.Response:
        """Fetch a page as the browser that has the cookie."""
        return await self.http.get(path, headers={"cookie": self.cookie} if self.cookie else {})

    async def open(self, login: StartedLogin) -> httpx2.Response:
        """Open a login's link, and keep the cookie."""
        page = await self.get(path_of(login))
        if "set-cookie" in page.headers:
            self.cookie = page.headers["set-cookie"].partition(";")[0]
        return page

    async def post(self, login: StartedLogin, **fields: str) -> httpx2.Response:
        """Send the form of a login's page; what is given stands for its own fields."""
        page = await self.open(login)
        token = re.search(r'name="csrf" value="([^"]*)"', page.text)
        assert token is not None
        code = "" if login.short_code is None else login.short_code.reveal()
        form = {"csrf": token[1], "code": code} | fields
        return await self.http.post(path_of(login), data=form, headers={"cookie": self.cookie})

    async def back(self, sent: httpx2.Response, **answer: str) -> httpx2.Response:
        """Come back from the provider that the form led to."""
        state = asked(onward(sent))["state"]
        query = httpx2.QueryParams({"code": CODE, "state": state} | answer)
        return await self.get(f"/callback/aries?{query}")


def path_of(login: StartedLogin) -> str:
    """Return the path of a login's link."""
    assert login.url is not None
    return login.url.reveal().removeprefix(PUBLIC)


@pytest.fixture
async def live() -> AsyncIterator[Live]:
    """Serve the pages on a free port."""
    logins = await new_logins()
    server = WebServer(ConnectPages(logins.connect, PUBLIC).app(), "127.0.0.1:0")
    port = await server.start()
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False, verify=NO_AUTHORITIES) as http:
        yield Live(logins, http)
    await server.stop()


def text_of(page: httpx2.Response) -> str:
    """Return a page's text as it is read."""
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", page.text)).split())


async def test_the_whole_way(live: Live) -> None:
    """Confirm, provider, callback, result, which is a page without a query."""
    login = await live.logins.started()
    sent = await live.post(login)
    assert (200, True) == (sent.status_code, onward(sent).startswith("https://login.example/authorize?"))
    assert f'<a href="{html.escape(onward(sent))}">' in sent.text
    live.logins.world.endpoint.answers.append(gave())
    back = await live.back(sent)
    row = await live.logins.row(login)
    assert (303, f"{PUBLIC}/login/{row.facts.id}") == (back.status_code, back.headers["location"])
    result = await live.get(back.headers["location"].removeprefix(PUBLIC))
    assert (200, True) == (result.status_code, "The grant login is connected as ada" in text_of(result))


async def test_a_page_keeps_to_itself(live: Live) -> None:
    """No script, no frame, nothing from elsewhere; its form goes to us and nowhere else."""
    page = await live.open(await live.logins.started())
    policy = page.headers["content-security-policy"]
    assert (
        "default-src 'none'; style-src 'self'; base-uri 'none'; frame-ancestors 'none'; form-action 'self'"
    ) == policy
    assert ("no-store", "no-referrer", "nosniff") == (
        page.headers["cache-control"],
        page.headers["referrer-policy"],
        page.headers["x-content-type-options"],
    )
    assert "text/html; charset=utf-8" == page.headers["content-type"]
    assert [] == re.findall(r"<script|style=|\son\w+=|(?:src|href|action)=\"(?!/)", page.text)
    style = await live.get("/style.css")
    assert (200, "text/css; charset=utf-8") == (style.status_code, style.headers["content-type"])


async def test_an_apps_page_names_the_app(live: Live) -> None:
    """Which is where the result goes; no code is demanded."""
    page = await live.open(await live.logins.app_started())
    assert "Afterwards you are sent to https://app.example ." in text_of(page)
    assert 'name="code"' not in page.text


async def test_every_answer_is_guarded(live: Live) -> None:
    """Errors, redirects and pages that are not there, too; the address asked for is never looked at."""
    login = await live.logins.started()
    sent = await live.post(login)
    answers = [
        await live.get("/connect/unknown"),
        await live.get("/nothing"),
        await live.get("/callback/aries?state=x&code=y"),
        await live.http.post("/callback/aries"),
        await live.http.get(path_of(login), headers={"host": "evil.example", "x-forwarded-host": "evil.example"}),
        await live.back(sent, error="access_denied"),
        sent,
    ]
    for answer in answers:
        assert ("no-store", "no-referrer") == (answer.headers["cache-control"], answer.headers["referrer-policy"])
        assert "evil.example" not in str(answer.headers) + answer.text


async def test_a_browser_is_known_by_a_cookie_of_its_own(live: Live) -> None:
    """Host-only, over TLS alone, out of scripts' reach, not sent by other sites' forms; set once."""
    login = await live.logins.started()
    page = await live.open(login)
    name, _, attributes = page.headers["set-cookie"].partition("=")
    assert (SECURE, {"HttpOnly", "Path=/", "SameSite=lax", "Secure"}) == (
        name,
        {part.strip() for part in attributes.split(";")[1:]},
    )
    assert "set-cookie" not in (await live.get(path_of(login))).headers


async def test_on_loopback_the_cookie_needs_no_tls() -> None:
    """Where nothing speaks TLS a secure one would not be kept."""
    logins = await new_logins()
    server = WebServer(ConnectPages(logins.connect, "http://127.0.0.1:1").app(), "127.0.0.1:0")
    port = await server.start()
    login = await logins.started()
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False, verify=NO_AUTHORITIES) as http:
        page = await http.get(path_of(login))
    await server.stop()
    assert page.headers["set-cookie"].startswith("aries-login=")
    assert "Secure" not in page.headers["set-cookie"]


@pytest.mark.parametrize("forged", [{"csrf": ""}, {"csrf": "0" * 64}, {"csrf": "\N{SNOWMAN}"}])
async def test_a_form_of_another_page_does_nothing(live: Live, forged: dict[str, str]) -> None:
    """Without the page's own token, whatever else is right."""
    login = await live.logins.started()
    assert 403 == (await live.post(login, **forged)).status_code
    assert (LoginPhase.STARTED, "") == await live.logins.end(login)


async def test_a_token_is_of_one_browser_and_one_login(live: Live) -> None:
    """Another login's, and another browser's, are none here; a browser without cookies is told so."""
    login, other = await live.logins.started(), await live.logins.started()
    token = re.search(r'name="csrf" value="([^"]*)"', (await live.open(other)).text)
    assert token is not None
    assert 403 == (await live.post(login, csrf=token[1])).status_code
    form = {"csrf": token[1], "code": other.short_code.reveal() if other.short_code else ""}
    bare = await live.http.post(path_of(other), data=form)
    assert (403, True) == (bare.status_code, "cookies" in text_of(bare))
    assert (LoginPhase.STARTED, "") == await live.logins.end(other)


async def test_a_form_that_is_too_long_or_no_form_does_nothing(live: Live) -> None:
    """It is read as far as it may be, and has no token then."""
    login = await live.logins.started()
    await live.open(login)
    for body in (b"a=" + b"x" * MAX_BODY, b"\xff\xfe", b"&".join(b"a=1" for _ in range(30)), b"csrf=a&csrf=b"):
        answer = await live.http.post(path_of(login), content=body, headers={"cookie": live.cookie})
        assert 403 == answer.status_code


async def test_a_wrong_code_is_told_with_what_is_left(live: Live) -> None:
    """At its field, for screen readers too; then the right one is taken; the last wrong one ends it."""
    login = await live.logins.started()
    wrong = await live.post(login, code="WRONG")
    assert (403, True) == (wrong.status_code, "It can be typed 4 more times." in text_of(wrong))
    assert 'aria-invalid="true"' in wrong.text
    left = [text_of(await live.post(login, code="WRONG")) for _ in range(3)]
    assert "It can be typed 1 more time." in left[-1]
    assert 410 == (await live.post(login, code="WRONG")).status_code
    assert 410 == (await live.open(login)).status_code


@pytest.mark.parametrize("failure", Failure)
async def test_every_failure_has_a_page_that_says_what_to_do(live: Live, failure: Failure) -> None:
    """In our own words, for the browser that has the login."""
    login = await live.logins.started()
    await live.post(login)
    row = await live.logins.row(login)
    await live.logins.world.store.inner.move_login(fail(row, failure))
    page = await live.get(f"/login/{row.facts.id}")
    what, following = FAILURES[failure]
    assert what in text_of(page)
    assert following in text_of(page)
    assert "is as it was" in text_of(page)


def test_every_obstacle_has_a_page() -> None:
    """With a status that is an error."""
    assert set(Obstacle) == set(OBSTACLES)
    assert all(400 <= status < 500 for status, _, _ in OBSTACLES.values())


async def test_a_sign_in_comes_before_the_page(live: Live) -> None:
    """It leads away and back by forms and redirects of ours; the page afterwards has an address without the link."""
    logins = live.logins
    await logins.world.put(CORP, PLACE, replace(LOGIN_PROVIDER, connect_login=PLACE.name))
    await logins.world.secret(CORP, PLACE)
    await logins.view.catch_up(await logins.world.store.inner.read_version())
    login = await logins.started()
    first = await live.open(login)
    assert ("Sign in at corp", False) == (re.findall(r"<button[^>]*>([^<]*)", first.text)[0], "login" in text_of(first))
    sent = await live.post(login)
    query = asked(onward(sent))
    logins.world.endpoint.answers.append(signs_in(nonce=query["nonce"]))
    back = await live.get(f"/callback/corp?{httpx2.QueryParams({'code': CODE, 'state': query['state']})}")
    where = f"/login/{(await logins.row(login)).facts.id}"
    assert (303, PUBLIC + where) == (back.status_code, back.headers["location"])
    page = await live.get(where)
    assert f"You are signed in as {ADA} ." in text_of(page)
    token = re.search(r'action="([^"]*)"[^>]*>\s*<input type="hidden" name="csrf" value="([^"]*)"', page.text)
    assert token is not None
    assert where == token[1]
    form = {"csrf": token[2], "code": login.short_code.reveal() if login.short_code else ""}
    bare = await live.http.post(where, data=form)
    confirmed = await live.http.post(where, data=form, headers={"cookie": live.cookie})
    assert (403, True) == (bare.status_code, onward(confirmed).startswith("https://login.example/authorize?"))
    again = await live.get(where)  # back from the provider
    assert ("Continue to aries" in again.text, where in again.text) == (True, True)


async def test_another_browser_sees_nothing(live: Live) -> None:
    """Neither the page nor the result, whose address it may know."""
    login = await live.logins.started()
    sent = await live.post(login)
    row = await live.logins.row(login)
    mine, live.cookie = live.cookie, ""
    assert 403 == (await live.open(login)).status_code
    assert 404 == (await live.get(f"/login/{row.facts.id}")).status_code
    assert 403 == (await live.back(sent)).status_code
    live.cookie = mine
    live.logins.world.endpoint.answers.append(gave())
    assert 303 == (await live.back(sent)).status_code


async def test_nothing_of_the_provider_is_repeated(live: Live) -> None:
    """Not an error's words, nor what it described; neither code nor state stands in a page or an address of ours."""
    login = await live.logins.started()
    sent = await live.post(login)
    live.logins.world.endpoint.answers.append(error("invalid_grant"))
    back = await live.back(sent, error="<b>odd</b>", error_description="words of theirs")
    page = await live.get(back.headers["location"].removeprefix(PUBLIC))
    seen = str(back.headers) + page.text + str(page.headers)
    for text in ("odd", "words of theirs", CODE, asked(onward(sent))["state"], RECEIVED):
        assert text not in seen


async def test_the_host_header_leads_nowhere(live: Live) -> None:
    """A slash too many is no link of ours, and nobody is sent on to the host that the request named."""
    login = await live.logins.started()
    answer = await live.http.get(f"{path_of(login)}/", headers={"host": "evil.example"})
    assert (404, None) == (answer.status_code, answer.headers.get("location"))


async def test_who_asks_for_no_page_opens_no_login(live: Live) -> None:
    """HEAD neither takes a login for a browser nor spends the provider's answer."""
    login = await live.logins.started()
    heads = [await live.http.head(path_of(login))]
    state = asked(onward(await live.post(login)))["state"]
    callback = f"/callback/aries?code={CODE}&state={state}"
    heads.append(await live.http.head(callback, headers={"cookie": live.cookie}))
    phase = (await live.logins.row(login)).phase
    assert ([404, 404], LoginPhase.CONFIRMED) == ([head.status_code for head in heads], phase)


@pytest.mark.parametrize("name", ["%00", "%ff%fe", "..%2f..%2fconnect", "A" * 64, "f" * 63])
async def test_what_is_no_name_of_a_login_is_not_looked_for(live: Live, name: str) -> None:
    """A store that is away, or that takes no NUL, is not asked."""
    live.logins.world.store.away.add("find_login")
    assert 404 == (await live.get(f"/login/{name}")).status_code


async def test_a_form_that_breaks_off_is_no_error_of_ours(live: Live) -> None:
    """Anybody can hang up in the middle of one: what serves the pages hears of no exception."""
    pages = ConnectPages(live.logins.connect, PUBLIC).app()
    sent: list[Message] = []

    async def broken_off() -> Message:
        return {"type": "http.disconnect"}

    async def keep(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/connect/any", "headers": [], "query_string": b""}
    await pages(scope, broken_off, keep)
    assert 400 == sent[0]["status"]


async def test_names_are_text(live: Live) -> None:
    """Whatever stands in a caller's id, an app's address or a person's: it is shown, never obeyed."""
    odd = "key:<b>\N{RIGHT-TO-LEFT OVERRIDE}&\"'"
    await live.logins.world.put(Policy("id-odd", "odd", Origin.RPC, (odd,), ("login",), frozenset({"read"})))
    await live.logins.view.catch_up(await live.logins.world.store.inner.read_version())
    inner = live.logins.world.store.inner
    held = inner._grants["id-login"]
    inner._grants["id-login"] = replace(held, subject="<i>ada</i>\x1b[31m")
    page = await live.open(await live.logins.started())
    assert ("<b>\N{RIGHT-TO-LEFT OVERRIDE}" in page.text, "<i>ada" in page.text, "\x1b" in page.text) == (
        False,
        False,
        False,
    )
    assert "&lt;b&gt;\\u202e&amp;" in page.text


async def test_the_store_away_is_told(live: Live) -> None:
    """A page of its own; nothing of the cause."""
    login = await live.logins.started()
    live.logins.world.store.away.add("*")
    page = await live.open(login)
    assert (503, True) == (page.status_code, "Wait a little" in text_of(page))


async def test_too_many_requests_are_told(live: Live) -> None:
    """After the limit of an address."""
    for _ in range(99):
        await live.logins.connect.admit("127.0.0.1")
    assert [404, 429] == [(await live.get("/connect/unknown")).status_code for _ in range(2)]


async def test_no_header_says_where_somebody_comes_from(live: Live) -> None:
    """Requests are counted by the address of the connection: what names another one is anybody's word."""
    for _ in range(99):
        await live.logins.connect.admit("127.0.0.1")
    told = [
        await live.http.get("/connect/unknown", headers={"x-forwarded-for": address, "forwarded": f"for={address}"})
        for address in ("192.0.2.1", "192.0.2.2")
    ]
    assert [404, 429] == [page.status_code for page in told]


async def test_a_login_for_an_app_goes_on_at_the_app(live: Live) -> None:
    """With a code of ours, in its address alone."""
    login = await live.logins.app_started()
    sent = await live.post(login)
    live.logins.world.endpoint.answers.append(gave())
    back = await live.back(sent)
    assert back.headers["location"].startswith(f"{APP_URI}?")
    assert CODE not in str(back.headers)
