"""A person connects an account in a real browser: every page, with and without a phone, yes and no."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import pytest
import pytest_asyncio
from playwright.async_api import Browser, ConsoleMessage, Page, Request, expect

from aries.broker.v1 import authorization_pb2, authorization_pb2_grpc
from tests.browser.looks import Looks
from tests.support.sandbox import SandboxDriver
from tests.support.world import Desk, World, wire

pytestmark = pytest.mark.asyncio(loop_scope="session")

MFA_CODE = "135790"


@dataclass
class Person:
    """Somebody at a browser of their own.

    Attributes:
        asked: origins that anything was asked of.
        complaints: what the browser had to say of our pages.
    """

    page: Page
    world: World
    public_url: str
    asked: set[str] = field(default_factory=set)
    complaints: list[str] = field(default_factory=list)

    def watch(self) -> None:
        """Note what is asked of whom, and what the browser complains of."""

        def complain(message: ConsoleMessage) -> None:
            if message.type in {"error", "warning"} and "status of 4" not in message.text:  # an error page's own
                self.complaints.append(message.text)

        def ask(request: Request) -> None:
            parts = urlsplit(request.url)
            self.asked.add(f"{parts.scheme}://{parts.netloc}")

        self.page.on("console", complain)
        self.page.on("request", ask)

    async def start(self, desk: Desk, **fields: object) -> authorization_pb2.StartAuthorizationResponse:
        """Have a login started, and open its link."""
        stub = authorization_pb2_grpc.AuthorizationServiceStub(self.world.channel)
        request = authorization_pb2.StartAuthorizationRequest(grant=desk.grant, **fields)  # type: ignore[arg-type]
        metadata = (("authorization", f"Bearer {self.world.admin_key}"),)
        login: authorization_pb2.StartAuthorizationResponse = await stub.StartAuthorization(
            request, metadata=metadata, timeout=20
        )
        await self.page.goto(login.authorization_url)
        return login

    async def confirm(self, code: str) -> None:
        """Type the code on our page, by the keyboard alone."""
        await self.page.get_by_label("Code").focus()
        await self.page.keyboard.type(code)
        await self.page.keyboard.press("Enter")

    async def log_in(self, email: str, password: str) -> None:
        """Type e-mail address and password at the provider."""
        await self.page.get_by_label("Email").fill(email)
        await self.page.get_by_label("Password").fill(password)
        await self.page.get_by_role("button", name="Log in").click()

    async def type_code(self, code: str) -> None:
        """Type the code from the phone at the provider."""
        await self.page.get_by_label("Code").fill(code)
        await self.page.get_by_role("button", name="Continue").click()

    async def sees(self, heading: str) -> None:
        """Wait for a page."""
        await expect(self.page.get_by_role("heading", level=1)).to_have_text(heading)


@pytest_asyncio.fixture(loop_scope="session")
async def ada(chromium: Browser, world: World, sandbox: SandboxDriver, public_url: str) -> AsyncIterator[Person]:
    """Ada, with a browser that knows nothing yet; its policy for pages holds."""
    await sandbox.reset()
    context = await chromium.new_context()
    person = Person(await context.new_page(), world, public_url)
    person.watch()
    yield person
    world.seen.add("page", await person.page.content())
    await context.close()
    assert [] == person.complaints


async def test_an_account_is_connected_with_a_phone(
    ada: Person, world: World, sandbox: SandboxDriver, password: str
) -> None:
    """From the link to "Connected": a wrong code from the phone may be followed by the right one; then GetToken."""
    desk = await world.desk("refresh_token", imported=False)
    login = await ada.start(desk)
    await ada.sees(f"Connect {desk.grant}")
    await ada.confirm(login.short_code)
    await ada.log_in("ada@example.com", password)
    await ada.type_code("000000")
    await expect(ada.page.get_by_role("alert")).to_be_visible()
    await ada.type_code(MFA_CODE)
    await ada.page.get_by_role("button", name="Allow").click()
    await ada.sees("Connected")
    assert "?" not in ada.page.url
    assert sorted(wire(["read", "trade"])) == sorted((await desk.get("read", "trade")).provider_scopes)
    assert {ada.public_url, sandbox.url} == ada.asked


async def test_a_wrong_short_code_is_told_at_its_field(ada: Person, world: World, password: str) -> None:
    """Then the right one leads on; who has no phone is asked for none."""
    desk = await world.desk("refresh_token", imported=False)
    login = await ada.start(desk)
    await ada.confirm("BBBB-BBBB")
    await expect(ada.page.get_by_role("alert")).to_contain_text("4 more times")
    assert "true" == await ada.page.get_by_label("Code").get_attribute("aria-invalid")
    await ada.confirm(f"{login.short_code[:4]}-{login.short_code[4:]}".lower())
    await ada.log_in("grace@example.com", password)
    await ada.page.get_by_role("button", name="Allow").click()
    await ada.sees("Connected")


async def test_a_person_says_no(ada: Person, world: World, password: str) -> None:
    """Nothing is connected, and the page says what to do next."""
    desk = await world.desk("refresh_token", imported=False)
    login = await ada.start(desk)
    await ada.confirm(login.short_code)
    await ada.log_in("ada@example.com", password)
    await ada.type_code(MFA_CODE)
    await ada.page.get_by_role("button", name="Cancel").click()
    await ada.sees("Not connected")
    assert "CONSENT_REQUIRED" == (await desk.refused("read", "trade")).reason


async def test_the_form_is_reached_by_the_keyboard(ada: Person, world: World) -> None:
    """First the code, then the button; what has the focus shows it."""
    desk = await world.desk("refresh_token", imported=False)
    await ada.start(desk)
    reached = []
    for _ in range(2):
        await ada.page.keyboard.press("Tab")
        focused = await ada.page.evaluate(
            "[document.activeElement.tagName, getComputedStyle(document.activeElement).outlineStyle]"
        )
        reached.append(tuple(focused))
    assert [("INPUT", "solid"), ("BUTTON", "solid")] == reached


async def test_everybody_can_use_every_page(
    chromium: Browser, world: World, sandbox: SandboxDriver, public_url: str, looks: Looks, password: str
) -> None:
    """On a desk and a phone, in light and dark: nothing is cut off, and a checker finds nothing to keep people out."""
    await sandbox.reset()
    context = await chromium.new_context(bypass_csp=True)  # for the checker's script alone
    person = Person(await context.new_page(), world, public_url)
    desk = await world.desk("refresh_token", imported=False)
    problems: list[str] = []
    login = await person.start(desk)
    problems += await looks.at(person.page, "confirm")
    await person.confirm("BBBBBBBB")
    problems += await looks.at(person.page, "confirm-wrong-code")
    await person.confirm(login.short_code)
    problems += await looks.at(person.page, "sandbox-password")
    await person.log_in("ada@example.com", password)
    problems += await looks.at(person.page, "sandbox-code")
    await person.type_code(MFA_CODE)
    problems += await looks.at(person.page, "sandbox-consent")
    await person.page.get_by_role("button", name="Allow").click()
    await person.sees("Connected")
    problems += await looks.at(person.page, "connected")
    login = await person.start(desk)
    problems += await looks.at(person.page, "confirm-again")
    await person.confirm(login.short_code)
    await person.page.goto(f"{public_url}/callback/aries?state=foreign&code=x")
    problems += await looks.at(person.page, "wrong-state")
    await sandbox.fail(status=503)
    login = await person.start(desk)
    await person.confirm(login.short_code)
    await person.log_in("grace@example.com", password)
    await person.page.get_by_role("button", name="Allow").click()
    await person.sees("Not connected")
    problems += await looks.at(person.page, "not-connected")
    await context.close()
    assert [] == problems
