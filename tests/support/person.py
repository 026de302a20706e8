"""A person with a browser who logs in, without the browser: pages are fetched, forms sent, cookies kept."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from html import unescape
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2

from tests.support.canary import Seen
from tests.support.sandbox import NO_AUTHORITIES, SandboxDriver

_ONWARD = re.compile(r'<meta http-equiv="refresh" content="0; url=([^"]+)">')
_HIDDEN = re.compile(r'<input type="hidden" name="([^"]+)" value="([^"]*)">')


@dataclass
class Person:
    """Somebody with an account at the sandbox.

    Attributes:
        http: their browser, which follows no redirect by itself.
        sandbox: where they log in.
        user_id: who they are there.
        seen: every page and header they were sent.
    """

    http: httpx2.AsyncClient
    sandbox: SandboxDriver
    user_id: int = 1001
    seen: Seen = field(default_factory=Seen)

    async def get(self, url: str) -> httpx2.Response:
        """Fetch a page."""
        return self._remembered(await self.http.get(url))

    async def confirm(self, url: str, code: str = "", **fields: str) -> httpx2.Response:
        """Open a login's page and send its form; fields given stand for those of the page."""
        page = await self.get(url)
        form = {name: unescape(value) for name, value in _HIDDEN.findall(page.text)} | {"code": code} | fields
        return self._remembered(await self.http.post(url, data=form))

    async def at_provider(self, url: str, scopes: str | None = None, **changes: str) -> str:
        """Log in and consent at the provider's URL; return where it sends the browser, changed as told."""
        query = asked(url)
        code = await self.sandbox.code(
            query["redirect_uri"],
            query["client_id"],
            scopes=(scopes or query["scope"]).split(),
            code_challenge=query["code_challenge"],
            user_id=self.user_id,
        )
        answer = {"code": code, "state": query["state"], **changes}
        return f"{query['redirect_uri']}?{httpx2.QueryParams(answer)}"

    async def log_in(self, url: str, code: str = "", scopes: str | None = None) -> httpx2.Response:
        """Go the whole way; return what the callback answers."""
        sent = await self.confirm(url, code)
        return await self.get(await self.at_provider(onward(sent), scopes))

    def _remembered(self, response: httpx2.Response) -> httpx2.Response:
        self.seen.add("page", response.content)
        self.seen.add("page headers", str({**response.headers, "location": ""}))
        return response


def onward(page: httpx2.Response) -> str:
    """Return where a page of ours sends the browser by itself."""
    led = _ONWARD.search(page.text)
    assert led is not None, page.text
    return unescape(led[1])


def asked(url: str) -> dict[str, str]:
    """Return the parameters of an authorization request."""
    return {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}


@asynccontextmanager
async def person(
    sandbox: SandboxDriver, *, user_id: int = 1001, seen: Seen | None = None, cookies: Mapping[str, Any] | None = None
) -> AsyncIterator[Person]:
    """Give somebody a browser for the length of the block."""
    async with httpx2.AsyncClient(trust_env=False, verify=NO_AUTHORITIES, cookies=dict(cookies or {})) as http:
        yield Person(http, sandbox, user_id, seen or Seen())
