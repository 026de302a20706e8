"""Every page of ours that a login can come to, in a real browser: how it looks, and whether everybody can use it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect
from starlette.applications import Starlette
from starlette.responses import HTMLResponse, RedirectResponse
from starlette.routing import Route

from broker.core.authorization import LIFE_MS, Failure, fail
from broker.core.identity import Role
from broker.core.models import Client, Grant, GrantType, Origin, Policy, Provider
from broker.flows.connect import PAGES
from broker.flows.start_authorization import StartedLogin
from broker.web.connect import COOKIE, ConnectPages
from broker.web.pages import FAILURES
from broker.web.server import WebServer
from tests.browser.looks import Looks
from tests.flows.logins import CODE, LOGIN_PROVIDER, Logins, gave, new_logins
from tests.flows.world import grant
from tests.support.ports import free_port

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

ADMIN: Final = frozenset({Role.ADMIN, Role.OPERATOR})
LONG: Final = "key:" + "a-service-with-a-long-name" * 6 + "<b>&\N{RIGHT-TO-LEFT OVERRIDE}"
BROWSER: Final = "b" * 43
"""What the browser's cookie holds."""


@dataclass
class Gallery:
    """A browser at the pages, and the flows behind them."""

    page: Page
    logins: Logins
    url: str

    async def goto(self, path: str) -> None:
        """Go to a page of ours."""
        await self.page.goto(self.url + path)

    async def open(self, login: StartedLogin) -> None:
        """Open a login's link."""
        await self.goto(f"/connect/{login.flow_id.reveal()}")

    async def result(self, login: StartedLogin) -> None:
        """Look at how a login stands."""
        await self.goto(f"/login/{(await self.logins.row(login)).facts.id}")

    async def taken(self, login: StartedLogin) -> StartedLogin:
        """Go the whole way with a login, but for the pages."""
        query = await self.logins.confirmed(login, BROWSER)
        self.logins.world.endpoint.answers.append(gave())
        await self.logins.back(query, BROWSER)
        return login

    async def ended(self, failure: Failure) -> StartedLogin:
        """Return a login of this browser that ended so."""
        login = await self.logins.started()
        await self.logins.confirmed(login, BROWSER)
        await self.logins.world.store.inner.move_login(fail(await self.logins.row(login), failure))
        return login

    def belongs_to(self, subject: str) -> None:
        """Let the grant be somebody's."""
        grants = self.logins.world.store.inner._grants
        grants["id-login"] = replace(grants["id-login"], subject=subject)

    async def put(self, *some: Grant | Policy | Provider | Client) -> None:
        """Put into the catalog."""
        await self.logins.world.put(*some)
        await self.logins.view.catch_up(await self.logins.world.store.inner.read_version())


Way: TypeAlias = Callable[[Gallery], Awaitable[None]]


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def window(chromium: Browser) -> AsyncIterator[Page]:
    """A browser's window, for all of these tests: another costs more than any page."""
    context = await chromium.new_context(bypass_csp=True)  # for the checker's script alone
    await context.add_cookies([{"name": COOKIE, "value": BROWSER, "domain": "127.0.0.1", "path": "/"}])
    yield await context.new_page()
    await context.close()


@pytest.fixture(scope="module")
def origin() -> str:
    """Where the pages are, for all of these tests: at another origin a browser starts another process."""
    return f"http://127.0.0.1:{free_port()}"


@asynccontextmanager
async def served(app: Starlette, origin: str = "http://127.0.0.1:0") -> AsyncIterator[str]:
    """Serve an application; return its origin."""
    server = WebServer(app, origin.removeprefix("http://"))
    yield f"http://127.0.0.1:{await server.start()}"
    await server.stop()


@pytest_asyncio.fixture(loop_scope="session")
async def gallery(window: Page, origin: str) -> AsyncIterator[Gallery]:
    """The pages of flows that have seen no login yet."""
    logins = await new_logins()
    async with served(ConnectPages(logins.connect, origin).app(), origin) as url:
        yield Gallery(window, logins, url)


async def wrong_code(gallery: Gallery) -> None:
    """Its field says so."""
    await gallery.open(await gallery.logins.started())
    await gallery.page.get_by_label("Code").fill("BBBBBBBB")
    await gallery.page.keyboard.press("Enter")
    await expect(gallery.page.get_by_role("alert")).to_be_visible()


async def of_somebody(gallery: Gallery) -> None:
    """It is renewed."""
    gallery.belongs_to("ada")
    await gallery.open(await gallery.logins.started())


async def of_somebody_else(gallery: Gallery) -> None:
    """An admin lets another person have it."""
    gallery.belongs_to("ada")
    await gallery.open(await gallery.logins.started(roles=ADMIN, any_subject=True))


async def of_nobody_knows_whom(gallery: Gallery) -> None:
    """It was imported."""
    await gallery.logins.world.consent("login", "imported")
    await gallery.open(await gallery.logins.started())


async def of_an_app(gallery: Gallery) -> None:
    """No code is asked."""
    await gallery.open(await gallery.logins.app_started())


async def of_nobody(gallery: Gallery) -> None:
    """No policy lets anybody use it."""
    await gallery.put(grant("alone", GrantType.REFRESH_TOKEN))
    await gallery.open(await gallery.logins.started("alone"))


async def with_long_names(gallery: Gallery) -> None:
    """They are broken, and are text."""
    gallery.belongs_to(LONG)
    await gallery.put(Policy("id-x", "x", Origin.RPC, (LONG,) * 9, ("login",), frozenset({"read"})))
    await gallery.open(await gallery.logins.started())


async def sign_in_first(gallery: Gallery) -> None:
    """Nothing is told before it."""
    corp = replace(LOGIN_PROVIDER, id="p-corp", name="corp")
    place = Client("c-corp", "corp-sign-in", Origin.RPC, "corp", "broker-at-corp")
    await gallery.put(corp, place, replace(LOGIN_PROVIDER, connect_login="corp-sign-in"))
    await gallery.open(await gallery.logins.started())


async def on_the_way(gallery: Gallery) -> None:
    """Which nobody sees unless the provider is slow."""
    await gallery.page.route("https://login.example/**", lambda route: route.fulfill(status=204), times=1)
    await gallery.open(await gallery.logins.app_started())
    await gallery.page.get_by_role("button").click()


async def connected(gallery: Gallery) -> None:
    """The last page of most."""
    await gallery.result(await gallery.taken(await gallery.logins.started()))


async def nearly(gallery: Gallery) -> None:
    """An app has not come for it yet."""
    await gallery.result(await gallery.taken(await gallery.logins.app_started()))


async def denied(gallery: Gallery) -> None:
    """The person said no."""
    await gallery.result(await gallery.ended(Failure.DENIED))


async def foreign_state(gallery: Gallery) -> None:
    """A callback that nobody waits for."""
    await gallery.goto(f"/callback/aries?code={CODE}&state=foreign")


@pytest.mark.parametrize(
    ("name", "way", "heading"),
    [
        ("confirm-wrong-code", wrong_code, "Connect login"),
        ("confirm-of-somebody", of_somebody, "Connect login"),
        ("confirm-of-somebody-else", of_somebody_else, "Connect login"),
        ("confirm-in-use", of_nobody_knows_whom, "Connect login"),
        ("confirm-of-an-app", of_an_app, "Connect login"),
        ("confirm-of-nobody", of_nobody, "Connect alone"),
        ("confirm-long-names", with_long_names, "Connect login"),
        ("sign-in", sign_in_first, "Sign in"),
        ("onward", on_the_way, "One moment"),
        ("connected", connected, "Connected"),
        ("nearly", nearly, "Nearly there"),
        ("failed-denied", denied, "Not connected"),
        ("problem-foreign-state", foreign_state, "This did not work"),
    ],
)
async def test_everybody_can_use_every_kind_of_page(
    gallery: Gallery, looks: Looks, name: str, way: Way, heading: str
) -> None:
    """On a desk and a phone, in light and dark: nothing is cut off, and a checker finds nothing to keep people out."""
    await way(gallery)
    await expect(gallery.page.get_by_role("heading", level=1)).to_have_text(heading)
    assert [] == await looks.at(gallery.page, f"broker-{name}")


@pytest.mark.parametrize("failure", Failure)
async def test_every_failure_fits_its_page(gallery: Gallery, looks: Looks, failure: Failure) -> None:
    """Which differ in their words alone."""
    await gallery.result(await gallery.ended(failure))
    await expect(gallery.page.get_by_role("alert")).to_have_text(FAILURES[failure][0])
    assert [] == await looks.glance(gallery.page, f"broker-failed-{failure}")


async def no_login(gallery: Gallery) -> None:
    """A link that was never given."""
    await gallery.goto("/connect/unknown")


async def over(gallery: Gallery) -> None:
    """The link of a login that has ended."""
    await gallery.open(await gallery.ended(Failure.CANCELLED))


async def expired(gallery: Gallery) -> None:
    """A link that nobody opened in time."""
    login = await gallery.logins.started()
    gallery.logins.world.clock.advance(LIFE_MS / 1000)
    await gallery.open(login)


async def of_another_browser(gallery: Gallery) -> None:
    """A link that another browser went on from."""
    login = await gallery.logins.started()
    await gallery.logins.confirmed(login, "another")
    await gallery.open(login)


async def not_signed_in(gallery: Gallery) -> None:
    """Nobody can sign in any more: operators made a mistake."""
    login = await gallery.logins.started()
    corp = replace(LOGIN_PROVIDER, id="p-corp", name="corp", authorize_url=None)
    place = Client("c-corp", "corp-sign-in", Origin.RPC, "corp", "broker-at-corp")
    await gallery.put(corp, place, replace(LOGIN_PROVIDER, connect_login="corp-sign-in"))
    await gallery.open(login)


async def foreign_form(gallery: Gallery) -> None:
    """A form without the page's own token."""
    await gallery.open(await gallery.logins.started())
    await gallery.page.evaluate("document.querySelector('[name=csrf]').value = ''")
    await gallery.page.get_by_label("Code").fill("BBBBBBBB")
    await gallery.page.keyboard.press("Enter")


async def too_many(gallery: Gallery) -> None:
    """Nobody's turn just now."""
    for _ in range(PAGES.burst):
        await gallery.logins.connect.admit("127.0.0.1")
    await gallery.goto("/connect/unknown")


async def away(gallery: Gallery) -> None:
    """The store does not answer."""
    login = await gallery.logins.started()
    gallery.logins.world.store.away.add("*")
    await gallery.open(login)


@pytest.mark.parametrize(
    ("name", "way", "words"),
    [
        ("unknown", no_login, "There is no such login."),
        ("over", over, "This login is over."),
        ("expired", expired, "This login took too long and is over."),
        ("other-browser", of_another_browser, "This login was opened in another browser."),
        ("not-signed-in", not_signed_in, "You were not signed in."),
        ("foreign-form", foreign_form, "This form did not come from this page"),
        ("too-many", too_many, "Too much is going on just now."),
        ("away", away, "The broker cannot do this just now."),
    ],
)
async def test_every_problem_fits_its_page(gallery: Gallery, looks: Looks, name: str, way: Way, words: str) -> None:
    """Which differ in their words alone."""
    await way(gallery)
    await expect(gallery.page.get_by_role("alert")).to_contain_text(words)
    assert [] == await looks.glance(gallery.page, f"broker-problem-{name}")


async def test_a_provider_may_have_people_log_in_elsewhere(chromium: Browser, origin: str) -> None:
    """Its authorization endpoint redirects to whoever knows them, at an origin that our configuration does not name."""
    who = Starlette(routes=[Route("/", lambda _: HTMLResponse("<h1>Who are you?</h1>"))])
    async with served(who) as elsewhere:
        there = Starlette(routes=[Route("/authorize", lambda _: RedirectResponse(elsewhere))])
        async with served(there) as provider:
            logins = await new_logins(replace(LOGIN_PROVIDER, authorize_url=f"{provider}/authorize"))
            async with served(ConnectPages(logins.connect, origin).app(), origin) as ours:
                context = await chromium.new_context()
                page = await context.new_page()
                login = await logins.app_started()
                await page.goto(f"{ours}/connect/{login.flow_id.reveal()}")
                await page.get_by_role("button").click()
                await expect(page.locator("h1")).to_have_text("Who are you?")
                await context.close()
