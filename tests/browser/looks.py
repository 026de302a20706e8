"""How pages look, and whether everybody can use them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from playwright.async_api import Page

SIZES: Final = {"desktop": (1280, 900), "phone": (390, 844)}
SCHEMES: Final = ("light", "dark")
RUN: Final = """async () => (await axe.run(document, {runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]}))
    .violations.map(each => each.id + ": " + each.nodes.map(node => node.html).join(" | "))"""


@dataclass(frozen=True, slots=True)
class Looks:
    """Takes pictures and finds what keeps people out.

    Attributes:
        folder: where pictures are put.
        axe: the checker's script; the page's context has to bypass its policy for it.
    """

    folder: Path
    axe: str

    async def at(self, page: Page, name: str) -> list[str]:
        """Take a page's pictures in every size and scheme; return what is wrong with it in any."""
        problems: list[str] = []
        for scheme in SCHEMES:
            await page.emulate_media(color_scheme=scheme)
            for size, (width, height) in SIZES.items():
                await page.set_viewport_size({"width": width, "height": height})
                await page.screenshot(path=self.folder / f"{name}-{size}-{scheme}.png", full_page=True)
                if await page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"):
                    problems.append(f"{name} is wider than a {size}")
            await page.add_script_tag(content=self.axe)
            problems += [f"{name} in {scheme}: {problem}" for problem in await page.evaluate(RUN)]
        return problems
