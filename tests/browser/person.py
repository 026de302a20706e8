"""Somebody at a real browser."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import urlsplit

from playwright.async_api import ConsoleMessage, Page, Request, expect

from aries.broker.v1 import authorization_pb2, authorization_pb2_grpc
from tests.support.world import World


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
            ours = self.page.url.startswith(self.public_url)
            if ours and message.type in {"error", "warning"} and "status of 4" not in message.text:  # an error page's
                self.complaints.append(message.text)

        def ask(request: Request) -> None:
            parts = urlsplit(request.url)
            self.asked.add(f"{parts.scheme}://{parts.netloc}")
            loaded = self.page.url.startswith(self.public_url) and not request.is_navigation_request()
            if loaded and not request.url.startswith(self.public_url):
                self.complaints.append(f"a page of ours loads {request.url}")

        self.page.on("console", complain)
        self.page.on("request", ask)

    async def start(self, grant: str, key: str = "", **fields: object) -> authorization_pb2.StartAuthorizationResponse:
        """Have a login started, by the admin where no key is given, and open its link."""
        stub = authorization_pb2_grpc.AuthorizationServiceStub(self.world.channel)
        request = authorization_pb2.StartAuthorizationRequest(grant=grant, **fields)  # type: ignore[arg-type]
        metadata = (("authorization", f"Bearer {key or self.world.admin_key}"),)
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
