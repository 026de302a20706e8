"""A browser at the sandbox's pages, without the browser: pages are read, forms are filled in and sent, cookies kept."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from html.parser import HTMLParser
from urllib.parse import parse_qs, urlsplit

import httpx2

from tests.sandbox.logins import ADA, CODE, GRACE, REDIRECT
from tests.support.sandbox import NO_AUTHORITIES, SandboxDriver

Attributes = dict[str, str | None]


class Page(HTMLParser):
    """What a page consists of."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, Attributes]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a tag."""
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        """Note a text."""
        self.text += data

    def all(self, tag: str) -> list[Attributes]:
        """Return the attributes of each tag of this name."""
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def fields(self) -> dict[str, str]:
        """The names of the form's fields, and their values."""
        return {field["name"] or "": field.get("value") or "" for field in self.all("input")}


@dataclass
class Browser:
    """Somebody's browser, which follows no redirect by itself; `last` is what it was sent last."""

    http: httpx2.AsyncClient
    last: httpx2.Response = field(default_factory=lambda: httpx2.Response(204))

    @property
    def page(self) -> Page:
        """What it shows."""
        return Page(self.last.text)

    @property
    def step(self) -> str:
        """Which step's form it shows."""
        return self.page.fields.get("step", "")

    @property
    def sent_to(self) -> str:
        """Where it is sent."""
        return self.last.headers.get("location", "")

    @property
    def answer(self) -> dict[str, str]:
        """The parameters it is sent back with."""
        return {name: values[0] for name, values in parse_qs(urlsplit(self.sent_to).query).items()}

    async def ask(self, **params: str | list[str]) -> Browser:
        """Bring an authorization request of the default client."""
        query = {"response_type": "code", "client_id": "desk-app", "redirect_uri": REDIRECT, "state": "its-state"}
        return await self.open("/oauth2/authorize", {**query, **params})

    async def open(self, path: str, query: dict[str, str | list[str]] | None = None) -> Browser:
        """Open a page."""
        self.last = await self.http.get(path, params=query)
        return self

    async def send(self, **fields: str) -> Browser:
        """Send the form with its own values, and these; follow where it leads at the sandbox."""
        page = self.page
        (form,) = page.all("form")
        await self.post(form["action"] or "", {**page.fields, "answer": "go", **fields})
        return await self.open(self.sent_to) if self.sent_to.startswith("/") else self

    async def post(self, path: str, fields: dict[str, str]) -> Browser:
        """Send a form of any kind."""
        self.last = await self.http.post(path, data=fields)
        return self

    async def log_in(self, who: dict[str, str] = GRACE) -> Browser:
        """Go from the first page to the consent."""
        await self.send(**who)
        return await self.send(code=CODE) if who is ADA else self


@asynccontextmanager
async def browser(sandbox: SandboxDriver) -> AsyncIterator[Browser]:
    """Give somebody a browser for the length of the block."""
    async with httpx2.AsyncClient(base_url=sandbox.url, trust_env=False, verify=NO_AUTHORITIES) as http:
        yield Browser(http)
