"""What every page of a login has: words that are escaped, fields that are labelled, headers that keep it to itself."""

from __future__ import annotations

import itertools
import re
from collections.abc import AsyncIterator

import httpx2
import pytest

from broker.sandbox import ClientSeed, UserSeed
from tests.sandbox.browser import Browser, Page, browser
from tests.sandbox.logins import ADA, CODE, REDIRECT
from tests.support.sandbox import SandboxDriver, running_sandbox

MARKUP = "\"'><script>alert(1)</script>&amp;"
_RGB = re.compile(r"--([a-z-]+): #(..)(..)(..);")


@pytest.fixture
async def ada(sandbox: SandboxDriver) -> AsyncIterator[Browser]:
    """A browser."""
    async with browser(sandbox) as hers:
        yield hers


async def pages(ada: Browser) -> list[httpx2.Response]:
    """Return one of each page, and of each that tells a problem."""
    shown = [(await ada.ask()).last, (await ada.send(**{**ADA, "password": "wrong"})).last]
    shown += [(await ada.send(**ADA)).last, (await ada.send(code="000000")).last, (await ada.send(code=CODE)).last]
    shown += [(await ada.open("/oauth2/authorize/made-up")).last, (await ada.ask(client_id="nobody")).last]
    return shown


async def test_headers(ada: Browser) -> None:
    """No page is stored, framed, sniffed, or named to others; it loads nothing but its style, and sends forms home."""
    shown = await pages(ada)
    policy = "default-src 'none'; style-src 'self'; base-uri 'none'; frame-ancestors 'none'; form-action"
    for page in shown:
        assert ("no-store", "no-referrer", "nosniff") == tuple(
            page.headers[name] for name in ("Cache-Control", "Referrer-Policy", "X-Content-Type-Options")
        )
        assert page.headers["Content-Security-Policy"].startswith(policy)
    targets = {page.headers["Content-Security-Policy"].removeprefix(policy).strip() for page in shown}
    assert {"'none'", "'self' http://127.0.0.1:8080 http://127.0.0.1:* http://localhost:*"} == targets


async def test_redirects_keep_nothing(ada: Browser) -> None:
    """A redirect carries an answer: it is not stored, and names no referrer."""
    await ada.ask(scope="withdraw")
    await ada.ask(response_type="token")
    assert (303, "no-store", "no-referrer") == (
        ada.last.status_code,
        ada.last.headers["Cache-Control"],
        ada.last.headers["Referrer-Policy"],
    )


@pytest.mark.parametrize(
    ("uri", "source"),
    [
        ("https://app.example.com/callback?a=b", "https://app.example.com"),
        ("com.example.app:/callback", "com.example.app:"),
        ("http://[::1]:8080/callback", "http:"),
    ],
)
async def test_a_form_may_lead_to_the_redirect_uri(uri: str, source: str) -> None:
    """Browsers hold form-action against redirects too; an IPv6 address cannot be named in one."""
    client = ClientSeed("desk-app", "secret", redirect_uris=(uri,))
    async with running_sandbox(clients=(client,)) as sandbox, browser(sandbox) as ada:
        policy = (await ada.ask(redirect_uri=uri)).last.headers["Content-Security-Policy"]
        assert f" form-action 'self' {source} " in policy


async def test_the_cookie(ada: Browser) -> None:
    """Out of reach of scripts and of other sites' forms, and sent to these pages alone."""
    cookie = (await ada.ask()).last.headers["Set-Cookie"]
    assert ["Path=/oauth2/authorize", "SameSite=lax", "HttpOnly"] == [
        part for part in ("Path=/oauth2/authorize", "SameSite=lax", "HttpOnly") if part in cookie.split("; ")
    ]


async def test_markup_in_names_is_text() -> None:
    """A client's name and a person's address, seeded or typed, are shown as they are."""
    client = ClientSeed("desk-app", "secret", name=MARKUP, redirect_uris=(REDIRECT,), scopes=frozenset({MARKUP}))
    user = UserSeed(1, f"{MARKUP}@example.com", password=ADA["password"], mfa=True)
    async with running_sandbox(clients=(client,), users=(user,)) as sandbox, browser(sandbox) as ada:
        shown = [(await ada.ask()).page, (await ada.send(email=MARKUP, password="wrong")).page]
        assert MARKUP == shown[1].fields["email"]
        shown.append((await ada.send(email=user.email, password=ADA["password"])).page)
        shown.append((await ada.send(code=CODE)).page)
        assert [1, 1, 1, 3] == [page.text.count(MARKUP) for page in shown]
        assert [] == [page for page in shown if page.all("script")]


@pytest.mark.parametrize("params", [{"client_id": MARKUP}, {"redirect_uri": MARKUP}], ids=["client", "redirect"])
async def test_what_is_wrong_in_a_request_is_not_repeated(ada: Browser, params: dict[str, str]) -> None:
    """Nobody puts words of theirs on the page."""
    assert "alert(1)" not in (await ada.ask(**params)).last.text


async def test_pages_work_without_scripts_and_are_labelled(ada: Browser) -> None:
    """One heading, a language, a viewport; each field has its label, each problem is an alert that its field names."""
    for reply in await pages(ada):
        page = Page(reply.text)
        assert ([{"lang": "en"}], 1) == (page.all("html"), len(page.all("h1")))
        assert [] == [tag for tag, attributes in page.tags if tag in {"script", "style"} or "style" in attributes]
        assert "width=device-width, initial-scale=1" in [meta.get("content") for meta in page.all("meta")]
        visible = [field for field in page.all("input") if field["type"] != "hidden"]
        assert [field["id"] for field in visible] == [label["for"] for label in page.all("label")]
        alerts = [tag.get("id") for _, tag in page.tags if tag.get("role") == "alert"]
        wrong = reply.status_code != 200
        assert ["problem"] * wrong == alerts
        described = ["problem" in (field.get("aria-describedby") or "").split() for field in visible]
        assert [wrong] * len(visible) == described


async def test_password_managers_and_telephones_help(ada: Browser) -> None:
    """Fields say what they are for."""
    await ada.ask()
    hints = [field.get("autocomplete") for field in ada.page.all("input") if field["type"] != "hidden"]
    await ada.send(**ADA)
    (code,) = [field for field in ada.page.all("input") if field["type"] != "hidden"]
    assert ["username", "current-password"] == hints
    assert ("one-time-code", "numeric") == (code["autocomplete"], code["inputmode"])


async def test_the_first_button_goes_on(ada: Browser) -> None:
    """Enter in a field sends it; to cancel, fields need not be filled in."""
    first, second = (await ada.ask()).page.all("button")
    assert ("go", "cancel", True) == (first["value"], second["value"], "formnovalidate" in second)


async def test_colours_can_be_read(sandbox: SandboxDriver) -> None:
    """Light and dark: text has a contrast of 4.5 to what it stands on, lines of fields 3 (WCAG 2.2, AA)."""
    reply = await sandbox.http.get("/oauth2/style.css")
    assert ("text/css; charset=utf-8", "nosniff") == (
        reply.headers["Content-Type"],
        reply.headers["X-Content-Type-Options"],
    )
    light, dark = reply.text.split("prefers-color-scheme: dark")
    needed = {
        **dict.fromkeys(itertools.product(("ink", "soft", "bad", "accent"), ("card",)), 4.5),
        ("on-accent", "accent"): 4.5,
        ("line", "card"): 3.0,
    }
    for scheme in (light, dark):
        colours = {name: tuple(int(part, 16) for part in parts) for name, *parts in _RGB.findall(scheme)}
        assert [] == [pair for pair, least in needed.items() if contrast(*(colours[name] for name in pair)) < least]


def contrast(one: tuple[int, ...], other: tuple[int, ...]) -> float:
    """Return the contrast of two colours, as WCAG defines it."""
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def luminance(colour: tuple[int, ...]) -> float:
    """Return the relative luminance of a colour in sRGB."""
    parts = [part / 255 for part in colour]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
