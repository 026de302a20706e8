"""A real Chromium, and a broker and a sandbox whose pages it goes through."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import Browser, async_playwright

from broker.sandbox.config import AccountSeed, UserSeed
from tests.browser.looks import Looks
from tests.browser.person import Person
from tests.support.canary import MFA_CODE, Seen, new_secret, search_files
from tests.support.not_run import not_run
from tests.support.npm import install, node_program
from tests.support.ports import free_port
from tests.support.sandbox import SandboxDriver, running_sandbox
from tests.support.world import CLIENT_ID, World, running_world, sandbox_config

AXE = Path(__file__).parents[1] / "support" / "axe"
QUIET = [
    "--no-sandbox",  # as root; what it opens is our own
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--disable-gpu",
    "--in-process-gpu",  # a process less
    "--disable-extensions",
]


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def chromium() -> AsyncIterator[Browser]:
    """The browser, started once."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        not_run("no Chromium is installed")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=program, args=QUIET)
        yield browser
        await browser.close()


@pytest.fixture(scope="session")
def looks(tmp_path_factory: pytest.TempPathFactory) -> Looks:
    """Takes pictures of pages and checks that everybody can use them; BROWSER_PICTURES names where they are kept."""
    node_program()
    install(AXE)
    kept = os.environ.get("BROWSER_PICTURES")
    folder = Path(kept) if kept else tmp_path_factory.mktemp("pictures")
    folder.mkdir(parents=True, exist_ok=True)
    return Looks(folder, (AXE / "node_modules" / "axe-core" / "axe.min.js").read_text())


@pytest.fixture(scope="session")
def password() -> str:
    """Ada's password, which must never be seen anywhere but at the provider."""
    return new_secret("password")


@pytest.fixture(scope="session")
def public_url() -> str:
    """Where the pages are reached."""
    return f"http://127.0.0.1:{free_port()}"


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def sandbox(password: str, public_url: str) -> AsyncIterator[SandboxDriver]:
    """The provider: Ada has a phone, Grace has none."""
    config = sandbox_config()
    client = config.clients[0].__class__(
        CLIENT_ID,
        config.clients[0].client_secret,
        scopes=config.clients[0].scopes,
        redirect_uris=(f"{public_url}/callback/aries", f"{public_url}/callback/guarded"),
    )
    users = (
        UserSeed(1001, "ada@example.com", password=password, mfa=True, mfa_code=MFA_CODE),
        UserSeed(1002, "grace@example.com", password=password),
    )
    accounts = (*config.accounts, AccountSeed("TA-2001", 601, 1002, "5AR00601"))
    async with running_sandbox(config, clients=(client,), users=users, accounts=accounts) as driver:
        yield driver


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def world(
    sandbox: SandboxDriver, public_url: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[World]:
    """A broker with pages; neither secrets nor what people type is in what it says or stores."""
    data, seen = tmp_path_factory.mktemp("browser") / "data", Seen()
    pages = {"BROKER_PUBLIC_LISTEN": public_url.removeprefix("http://"), "BROKER_PUBLIC_URL": public_url}
    async with running_world(sandbox, data, pages, seen) as running:
        yield running
    found = search_files(data, CLIENT_ID)
    assert found.expected, "the search finds nothing at all"
    assert [] == [*found.leaks, *seen.leaks()]


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
