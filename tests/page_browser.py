"""Looking at the page in a real browser: it is opened as a reader opens it, and everything that goes wrong is noted."""

from __future__ import annotations

import csv
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, BrowserContext, Locator, Page, Playwright

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "chrome")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--hide-scrollbars"]
PANELS = (
    "Lifelines", "Metrics", "Warm-up", "Analysis", "Pruning", "Fine-tuning", "Evaluation", "Cycles", "Attention",
    "Growth", "Embeddings", "Samples", "Configuration", "Log", "Events",
)  # fmt: skip
DESK, PHONE, WALL = (1280, 900), (390, 844), (3840, 2160)
# What foreign text calls where it gets to run: the page's author would not know.
TRAP = "npdTrap"
_TRAPPED = f"window.{TRAP} = () => console.error('{TRAP} was called')"
# A loop inside the page: its content policy lets nobody evaluate the text of a condition again and again.
_DRAWN = """async () => {
  const there = () => performance.getEntriesByName('npd-drawn').length || document.querySelector('main table')
  const end = Date.now() + 20000
  while (!there() && Date.now() < end) await new Promise((done) => setTimeout(done, 20))
  if (!there()) throw new Error('the page was not drawn within 20 s: ' + document.body.innerText.slice(0, 500))
}"""
# Elements that reach beyond the page's right edge although nothing around them scrolls or cuts.
_BEYOND = """() => {
  const wide = document.documentElement.clientWidth
  const held = (one) => {
    for (let up = one; up && up !== document.body; up = up.parentElement)
      if (getComputedStyle(up).overflowX !== 'visible' && up.getBoundingClientRect().right <= wide + 1) return true
    return false
  }
  const found = [...document.querySelectorAll('.npd *')]
    .filter((one) => one.getBoundingClientRect().right > wide + 1 && !held(one))
    .map((one) => `${one.tagName.toLowerCase()}.${one.getAttribute('class') ?? ''}`)
  const scrolls = document.scrollingElement.scrollWidth > wide
  return scrolls ? [`the page is ${document.scrollingElement.scrollWidth} px wide`, ...found.slice(0, 8)] : []
}"""

# What a finger has to hit and is less than 44 px high; a box to tick is as large as its label.
_SMALL = """() => [...document.querySelectorAll('.npd :is(button, select, summary, input:not([type=range]), td a)')]
  .filter((one) => one.checkVisibility() && (one.closest('label') ?? one).getBoundingClientRect().height < 43.5)
  .map((one) => one.outerHTML.slice(0, 120))"""


def program() -> str | None:
    """Chromium's path, if there is one."""
    return next(filter(None, map(shutil.which, PROGRAMS)), None)


def launch(playwright: Playwright, path: str) -> Browser:
    """A headless browser."""
    return playwright.chromium.launch(executable_path=path, args=ARGUMENTS)


def context_of(
    browser: Browser, size: tuple[int, int] = DESK, *, dark: bool = False, bypass_csp: bool = False, scale: float = 1
) -> BrowserContext:
    """A reader's browser: the same place, language and colours on every machine."""
    context = browser.new_context(
        viewport={"width": size[0], "height": size[1]}, color_scheme="dark" if dark else "light",
        reduced_motion="reduce", timezone_id="UTC", locale="en-GB", bypass_csp=bypass_csp, device_scale_factor=scale,
        has_touch=size[0] < 500,
    )  # fmt: skip
    context.add_init_script(_TRAPPED)
    context.set_default_timeout(20_000)
    return context


@contextmanager
def looking_at(
    browser: Browser,
    address: str | Path,
    size: tuple[int, int] = DESK,
    *,
    dark: bool = False,
    bypass_csp: bool = False,
    forgiven: str = "",
) -> Iterator[Page]:
    """The page at ``address``, drawn. At the end nothing may have gone wrong on it but what ``forgiven`` (a regular
    expression) names: no error, no line of the content policy, no dialog; and a file asks for nothing at all.
    """
    url = address.as_uri() if isinstance(address, Path) else address
    context = context_of(browser, size, dark=dark, bypass_csp=bypass_csp)
    page = context.new_page()
    wrong = watch(page, url)
    context.set_offline(url.startswith("file:"))
    try:
        page.goto(url)
        if url != "about:blank":
            wait_drawn(page)
        yield page
    finally:
        context.close()
    left = [one for one in wrong if not (forgiven and re.search(forgiven, one))]
    assert left == [], f"{url}: {left}"


def watch(page: Page, url: str) -> list[str]:
    """What goes wrong on ``page`` from now on."""
    wrong: list[str] = []
    site = url if url.startswith("file:") else "/".join(url.split("/")[:3]) + "/"
    page.on("pageerror", lambda error: wrong.append(f"error: {error.stack or error}"))
    page.on(
        "console", lambda said: wrong.append(f"console: {said.text}") if said.type in ("error", "warning") else None
    )
    page.on("dialog", lambda dialog: (wrong.append(f"dialog: {dialog.message[:200]}"), dialog.dismiss()))
    allowed = (site, "data:", "blob:")
    page.on("request", lambda one: None if one.url.startswith(allowed) else wrong.append(f"request: {one.url}"))
    return wrong


def wait_drawn(page: Page) -> None:
    """Until the first screen of a run's page, or the list of runs, is there."""
    page.evaluate(_DRAWN)
    settle(page)


def settle(page: Page) -> None:
    """Two frames: what was asked for is drawn."""
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def open_panel(page: Page, label: str) -> Locator:
    """Press the tab; returns the panel."""
    page.get_by_role("tab", name=label, exact=True).click()
    panel = page.get_by_role("tabpanel", name=label)
    panel.wait_for()
    settle(page)
    return panel


def go(page: Page, place: str) -> None:
    """Follow a link to ``#place`` on the same page."""
    page.evaluate("(hash) => { location.hash = hash }", place)
    settle(page)


def too_wide(page: Page) -> list[str]:
    """Empty when the page needs no sideways scrolling; else what is too wide."""
    found: list[str] = page.evaluate(_BEYOND)
    return found


def too_small(page: Page) -> list[str]:
    """What cannot be hit with a finger."""
    found: list[str] = page.evaluate(_SMALL)
    return found


def saved_csv(page: Page, button: Locator) -> list[list[str]]:
    """The rows of the CSV file that ``button`` saves."""
    with page.expect_download() as download:
        button.click()
    with Path(download.value.path()).open(newline="", encoding="utf-8-sig") as file:
        return list(csv.reader(file))
