"""How pages look, and whether everybody can use them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from playwright.async_api import Page

SIZES: Final = {"desktop": (1280, 900), "phone": (390, 844)}
SCHEMES: Final[tuple[Literal["light", "dark"], ...]] = ("light", "dark")
ALL: Final = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]}
COLOURS: Final = {"runOnly": {"type": "rule", "values": ["color-contrast"]}}
RUN: Final = """async (options) => (await axe.run(document, options))
    .violations.map(each => each.id + ": " + each.nodes.map(node => node.html).join(" | "))"""
TOO: Final = """() => { const {scrollWidth, clientWidth, scrollHeight, clientHeight} = document.documentElement;
    return [scrollWidth > clientWidth, scrollHeight > clientHeight]; }"""


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
        await page.add_script_tag(content=self.axe)
        for scheme in SCHEMES:
            for size in SIZES:
                problems += await self.glance(page, name, size, scheme)
            rules = ALL if scheme == "light" else COLOURS  # the others look at the same page twice
            problems += [f"{name} in {scheme}: {problem}" for problem in await page.evaluate(RUN, rules)]
        return problems

    async def glance(
        self, page: Page, name: str, size: str = "phone", scheme: Literal["light", "dark"] = "light"
    ) -> list[str]:
        """Take one picture of a page; return whether it is cut off there."""
        width, height = SIZES[size]
        await page.emulate_media(color_scheme=scheme)
        await page.set_viewport_size({"width": width, "height": height})
        too_wide, too_tall = await page.evaluate(TOO)
        picture = self.folder / f"{name}-{size}-{scheme}.png"
        await page.screenshot(path=picture, full_page=too_tall)  # which takes longer
        return [f"{name} is wider than a {size}"] if too_wide else []
