"""A person connects an account in a real browser: every page, with and without a phone, yes and no."""

from __future__ import annotations

import pytest
from playwright.async_api import Browser, expect

from aries.broker.admin.v1 import config_pb2, secrets_pb2, secrets_pb2_grpc
from aries.broker.v1 import authorization_pb2
from broker.core.oauth.rfc7636 import challenge_of
from tests.browser.looks import Looks
from tests.browser.person import Person
from tests.support.canary import MFA_CODE
from tests.support.person import asked
from tests.support.sandbox import SandboxDriver
from tests.support.world import CLIENT_ID, World, wire

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

APP_URI = "http://127.0.0.1:9/app"


async def test_an_account_is_connected_with_a_phone(
    ada: Person, world: World, sandbox: SandboxDriver, password: str
) -> None:
    """From the link to "Connected": a wrong code from the phone may be followed by the right one; then GetToken."""
    desk = await world.desk("refresh_token", imported=False)
    login = await ada.start(desk.grant)
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


async def test_a_wrong_short_code_is_told_at_its_field(ada: Person, world: World) -> None:
    """Which is where the next one is typed; then the right one leads on, as people write it."""
    desk = await world.desk("refresh_token", imported=False)
    login = await ada.start(desk.grant)
    await ada.confirm("BBBB-BBBB")
    await expect(ada.page.get_by_role("alert")).to_contain_text("4 more times")
    assert "true" == await ada.page.get_by_label("Code").get_attribute("aria-invalid")
    await expect(ada.page.get_by_label("Code")).to_be_focused()
    await ada.confirm(f"{login.short_code[:4]}-{login.short_code[4:]}".lower())
    await expect(ada.page.get_by_label("Email")).to_be_visible()


async def test_a_person_says_no(ada: Person, world: World, password: str) -> None:
    """Nothing is connected, and the page says what to do next."""
    desk = await world.desk("refresh_token", imported=False)
    login = await ada.start(desk.grant)
    await ada.confirm(login.short_code)
    await ada.log_in("ada@example.com", password)
    await ada.type_code(MFA_CODE)
    await ada.page.get_by_role("button", name="Cancel").click()
    await ada.sees("Not connected")
    assert "CONSENT_REQUIRED" == (await desk.refused("read", "trade")).reason


async def test_the_form_is_sent_by_the_keyboard(ada: Person, world: World) -> None:
    """First the code, then the button, by Tab and Enter alone; what has the focus shows it."""
    desk = await world.desk("refresh_token", imported=False)
    login = await ada.start(desk.grant)
    reached = []
    for typed in (login.short_code, ""):
        await ada.page.keyboard.press("Tab")
        focused = await ada.page.evaluate(
            "[document.activeElement.tagName, getComputedStyle(document.activeElement).outlineStyle]"
        )
        reached.append(tuple(focused))
        await ada.page.keyboard.type(typed)
    assert [("INPUT", "solid"), ("BUTTON", "solid")] == reached
    await ada.page.keyboard.press("Enter")
    await expect(ada.page.get_by_label("Email")).to_be_visible()


async def test_a_person_comes_back_to_the_app(ada: Person, world: World, password: str) -> None:
    """Who has no phone is asked for no code, and no page's policy keeps the browser from the app's own address."""
    app, key = await world.new_key()
    client, grant = world.new_name("client"), world.new_name("grant")
    await world.put(
        client=config_pb2.Client(name=client, provider="aries", client_id=CLIENT_ID, redirect_uris=[APP_URI])
    )
    secret = secrets_pb2.AddFirstClientSecretRequest(client=client, secret=world.right_secret)
    await world.call(secrets_pb2_grpc.SecretsServiceStub(world.channel).AddFirstClientSecret, secret)
    await world.put(grant=config_pb2.Grant(name=grant, client=client, type="refresh_token", scopes=["read"]))
    may = config_pb2.Policy(name=app, callers=[f"key:{app}"], grants=[grant], scopes=["read"], authorize=True)
    await world.put(policy=may)
    await ada.page.route(f"{APP_URI}**", lambda route: route.fulfill(body="<h1>The app</h1>", content_type="text/html"))
    redirect = authorization_pb2.AppRedirect(
        redirect_uri=APP_URI, state="its-own", code_challenge=challenge_of("v" * 43)
    )
    await ada.start(grant, key, app=redirect)
    await ada.page.get_by_role("button").click()
    await ada.log_in("grace@example.com", password)
    await ada.page.get_by_role("button", name="Allow").click()
    await ada.sees("The app")
    assert "its-own" == asked(ada.page.url)["state"]


async def test_everybody_can_use_the_sandboxs_pages(
    chromium: Browser, world: World, public_url: str, looks: Looks, password: str
) -> None:
    """On a desk and a phone, in light and dark: nothing is cut off, and a checker finds nothing to keep people out."""
    context = await chromium.new_context(bypass_csp=True)  # for the checker's script alone
    person = Person(await context.new_page(), world, public_url)
    desk = await world.desk("refresh_token", imported=False)
    login = await person.start(desk.grant)
    await person.confirm(login.short_code)
    await expect(person.page.get_by_label("Email")).to_be_visible()
    problems = await looks.at(person.page, "sandbox-password")
    await person.log_in("ada@example.com", password)
    await expect(person.page.get_by_label("Code")).to_be_visible()
    problems += await looks.at(person.page, "sandbox-code")
    await person.type_code(MFA_CODE)
    await expect(person.page.get_by_role("button", name="Allow")).to_be_visible()
    problems += await looks.at(person.page, "sandbox-consent")
    await context.close()
    assert [] == problems
