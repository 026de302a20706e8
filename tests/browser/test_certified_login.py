"""People log in at a certified authorization server, through the same pages, in a real browser."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.async_api import Browser, expect

from aries.broker.admin.v1 import config_pb2
from aries.broker.v1 import authorization_pb2, authorization_pb2_grpc
from tests.browser.person import Person
from tests.support.canary import MFA_CODE
from tests.support.oidc import OidcProvider, oidc_provider
from tests.support.world import CLIENT_ID, Desk, World, provider

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="session")]

PROVIDER = "certified"
GUARDED = "guarded"
"""The sandbox, where people log in once they have signed in at the certified server."""


@pytest.fixture(scope="module")
def server(public_url: str) -> Iterator[OidcProvider]:
    """The server, with pages of its own."""
    with oidc_provider(redirect_uri=f"{public_url}/callback/{PROVIDER}") as running:
        yield running


@pytest.fixture(scope="module")
def configured() -> set[str]:
    """Worlds that know the server already."""
    return set()


async def certified_desk(world: World, server: OidcProvider, configured: set[str], name: str = PROVIDER) -> Desk:
    """Return a service, and a grant of the server that nobody has logged in for."""
    if PROVIDER not in configured:
        configured.add(PROVIDER)
        certified = config_pb2.Provider(
            name=PROVIDER,
            preset="generic",
            issuer=server.issuer,
            insecure_loopback=True,
            login_scopes=["openid", "offline_access"],
            authorize_parameters={"prompt": "consent"},
        )
        config = config_pb2.Config(
            revision=world.revision + 1,
            providers=[
                provider("aries", world.sandbox.url),
                certified,
                provider(GUARDED, world.sandbox.url, connect_login=PROVIDER),
            ],
            clients=[
                config_pb2.Client(name="aries", provider="aries", client_id=CLIENT_ID),
                config_pb2.Client(name=PROVIDER, provider=PROVIDER, client_id="web"),
                config_pb2.Client(name=GUARDED, provider=GUARDED, client_id=CLIENT_ID),
            ],
        )
        first = [
            config_pb2.ClientSecret(client=PROVIDER, secret="web-secret"),
            config_pb2.ClientSecret(client=GUARDED, secret=world.right_secret),
        ]
        await world.call(world.config.Apply, config_pb2.ApplyRequest(config=config, first_secrets=first))
    return await world.desk("refresh_token", provider=name, imported=False)


async def at_the_server(person: Person, name: str) -> None:
    """Log in on the server's own pages, up to its question."""
    await person.page.locator("[name=login]").fill(name)
    await person.page.locator("[name=password]").fill("anything")
    await person.page.locator("button[type=submit]").click()
    await expect(person.page.locator("body")).to_contain_text("offline")


async def test_a_person_connects_an_account(
    ada: Person, world: World, server: OidcProvider, configured: set[str]
) -> None:
    """Refresh token, scopes and person come of the code; the service then gets its token, and another after that."""
    desk = await certified_desk(world, server, configured)
    login = await ada.start(desk.grant)
    await ada.confirm("BBBBBBBB")
    await expect(ada.page.get_by_role("alert")).to_contain_text("4 more times")
    await ada.confirm(login.short_code)
    await at_the_server(ada, "ada")
    await ada.page.locator("button[type=submit]").click()
    await ada.sees("Connected")
    await expect(ada.page.locator("main")).to_contain_text("connected as ada")
    first = await desk.get("read", "trade")
    assert ["read", "trade"] == list(first.provider_scopes)
    assert "ada" == server.claims(first.access_token)["sub"]
    again = await desk.get("read", "trade", rejected=first.fingerprint)
    assert again.fingerprint != first.fingerprint


async def test_the_grant_stays_the_persons(
    ada: Person, chromium: Browser, world: World, public_url: str, server: OidcProvider, configured: set[str]
) -> None:
    """Who somebody is, the ID token says: another person's login is not taken."""
    desk = await certified_desk(world, server, configured)
    login = await ada.start(desk.grant)
    await ada.confirm(login.short_code)
    await at_the_server(ada, "ada")
    await ada.page.locator("button[type=submit]").click()
    await ada.sees("Connected")
    context = await chromium.new_context()
    eve = Person(await context.new_page(), world, public_url)
    login = await eve.start(desk.grant)
    await eve.confirm(login.short_code)
    await at_the_server(eve, "eve")
    await eve.page.locator("button[type=submit]").click()
    await eve.sees("Not connected")
    await expect(eve.page.get_by_role("alert")).to_contain_text("another person")
    await context.close()
    stub = authorization_pb2_grpc.AuthorizationServiceStub(world.channel)
    told = await world.call(stub.GetAuthorization, authorization_pb2.GetAuthorizationRequest(flow_id=login.flow_id))
    assert authorization_pb2.AUTHORIZATION_FAILURE_SUBJECT_MISMATCH == told.authorization.failure
    assert (await desk.get("read", "trade")).access_token


async def test_a_person_says_no(ada: Person, world: World, server: OidcProvider, configured: set[str]) -> None:
    """The server's own way of saying so."""
    desk = await certified_desk(world, server, configured)
    login = await ada.start(desk.grant)
    await ada.confirm(login.short_code)
    await at_the_server(ada, "ada")
    await ada.page.get_by_text("[ Cancel ]").click()
    await ada.sees("Not connected")
    await expect(ada.page.get_by_role("alert")).to_contain_text("did not allow it")
    assert "CONSENT_REQUIRED" == (await desk.refused("read", "trade")).reason


async def test_a_person_signs_in_first(
    ada: Person,
    chromium: Browser,
    world: World,
    public_url: str,
    server: OidcProvider,
    configured: set[str],
    password: str,
) -> None:
    """At the certified server, before the page tells who asks for what; somebody else cannot have the grant then."""
    desk = await certified_desk(world, server, configured, GUARDED)
    login = await ada.start(desk.grant)
    await ada.sees("Sign in")
    assert desk.grant not in await ada.page.content()
    await ada.page.get_by_role("button", name=f"Sign in at {PROVIDER}").click()
    await sign_in(ada, "ada.lovelace")
    await ada.sees(f"Connect {desk.grant}")
    await expect(ada.page.locator("main")).to_contain_text(f"signed in as ada.lovelace at {server.issuer}")
    await ada.confirm(login.short_code)
    await ada.log_in("ada@example.com", password)
    await ada.type_code(MFA_CODE)
    await ada.page.get_by_role("button", name="Allow").click()
    await ada.sees("Connected")
    assert (await desk.get("read", "trade")).access_token
    context = await chromium.new_context()
    eve = Person(await context.new_page(), world, public_url)
    await eve.start(desk.grant)
    await eve.page.get_by_role("button").click()
    await sign_in(eve, "eve")
    await eve.sees("Not connected")
    await expect(eve.page.get_by_role("alert")).to_contain_text("another person")
    await context.close()


async def sign_in(person: Person, name: str) -> None:
    """Sign in on the server's own pages, and let us know who it is."""
    await person.page.locator("[name=login]").fill(name)
    await person.page.locator("[name=password]").fill("anything")
    await person.page.locator("button[type=submit]").click()
    await person.page.locator("button[type=submit]").click()
