"""The page in real headless Chromium: cold loads, the cursor dragged over the timeline, a chart zoomed."""

from __future__ import annotations

import asyncio
import shutil
import statistics
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from difflib import unified_diff
from functools import partial
from pathlib import Path

from _page_trace import Trace, traced
from playwright.async_api import Browser, FloatRect, Locator, Page, async_playwright

VIEW = {"width": 1920, "height": 1080}
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
OURS = "npd-drawn"
PATIENCE_MS = 180_000
HEAD = "3.7"

# Our own clock beside the page's word: the frame after its mark, and what the page looks like then.
WATCH = """(mark) => {
  const own = performance.mark.bind(performance)
  performance.mark = (name, ...rest) => {
    const made = own(name, ...rest)
    if (name === mark && !window.__drawn) {
      window.__drawn = {pictures: window.__pictures(), text: document.body.innerText}
      requestAnimationFrame(() => setTimeout(() => { window.__drawn.presented = performance.now() }))
    }
    return made
  }
  window.__pictures = () => [...document.querySelectorAll('canvas')]
    .filter((one) => {
      const box = one.getBoundingClientRect()
      return box.width > 0 && box.height > 0 && box.top < innerHeight && box.bottom > 0
    })
    .map((one) => one.toDataURL())
  window.__blank = (url) => new Promise((done) => {
    const image = new Image()
    image.onload = () => {
      const copy = Object.assign(document.createElement('canvas'), {width: image.width, height: image.height})
      const pen = copy.getContext('2d')
      pen.drawImage(image, 0, 0)
      const pixels = new Uint32Array(pen.getImageData(0, 0, copy.width, copy.height).data.buffer)
      done(pixels.every((one) => one === pixels[0]))
    }
    image.src = url
  })
}"""


@dataclass(frozen=True)
class Load:
    """Milliseconds since navigation began."""

    first_paint: float  # first contentful paint
    drawn: float  # everything of the first screen


@asynccontextmanager
async def browser() -> AsyncIterator[Browser]:
    """Chromium as it is installed, headless."""
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        raise SystemExit("no Chromium here: apt-get install chromium")
    async with async_playwright() as play:
        started = await play.chromium.launch(executable_path=path, args=FLAGS)
        try:
            yield started
        finally:
            await started.close()


@asynccontextmanager
async def opened(chromium: Browser, url: str, mark: str = OURS) -> AsyncIterator[Page]:
    """The page in a context of its own (nothing cached), once it says that everything is drawn."""
    context = await chromium.new_context(viewport=VIEW)
    try:
        page = await context.new_page()
        await page.add_init_script(f"({WATCH})({mark!r})")
        await page.goto(url, timeout=PATIENCE_MS, wait_until="commit")
        await page.wait_for_function("() => window.__drawn?.presented", timeout=PATIENCE_MS)
        yield page
    finally:
        await context.close()


async def load(chromium: Browser, path: Path, mark: str = OURS) -> Load:
    """One cold load of a file."""
    async with opened(chromium, path.as_uri(), mark) as page:
        paint = "performance.getEntriesByName('first-contentful-paint')[0]"
        await page.wait_for_function(f"() => {paint}", timeout=PATIENCE_MS)
        return Load(await page.evaluate(f"{paint}.startTime"), await page.evaluate("window.__drawn.presented"))


def middle(loads: list[Load]) -> Load:
    """The median of each figure."""
    return Load(
        statistics.median(one.first_paint for one in loads), statistics.median(one.drawn for one in loads)
    )  # fmt: skip


async def drawn_is_drawn(chromium: Browser, path: Path) -> str:
    """Whether the page's word can be taken: "" when, at its mark, no canvas was blank and nothing changed later."""
    async with opened(chromium, path.as_uri()) as page:
        await asyncio.sleep(2)
        then = await page.evaluate("window.__drawn")
        now = await page.evaluate("({pictures: window.__pictures(), text: document.body.innerText})")
        blank = await page.evaluate("Promise.all(window.__drawn.pictures.map(window.__blank))")
    if not then["pictures"]:
        return "there was no canvas"
    if any(blank):
        return f"{sum(blank)} of {len(blank)} canvases were blank"
    if len(then["pictures"]) != len(now["pictures"]):
        return f"{len(then['pictures'])} canvases, and {len(now['pictures'])} later"
    changed = sum(a != b for a, b in zip(then["pictures"], now["pictures"], strict=True))
    if changed:
        return f"{changed} of {len(blank)} canvases changed later"
    before, after = then["text"].splitlines(), now["text"].splitlines()
    others = [line for line in unified_diff(before, after, lineterm="", n=0) if line[:2] not in ("--", "++", "@@")]
    return f"text changed later: {others[:6]}" if others else ""


async def scrub(chromium: Browser, path: Path, moves: int) -> Trace:
    """Drag the cursor from one end of the timeline to the other and back, a head selected and its drawer open."""
    async with opened(chromium, f"{path.as_uri()}#head={HEAD}") as page:
        await page.get_by_role("complementary", name="Selected head").wait_for()
        box = await _box(page.get_by_role("slider", name="Time: step of the experiment"))
        y, left, width = box["y"] + box["height"] / 2, box["x"] + 2, box["width"] - 4
        await page.mouse.move(left + width, y)
        await page.mouse.down()
        # Not by `page.mouse`: while a button is held, that runs scripts of its own in the page with every move.
        session = await page.context.new_cdp_session(page)
        held = {"type": "mouseMoved", "button": "left", "buttons": 1, "y": y}
        shares = [abs(1 - 2 * number / (moves - 1)) for number in range(moves)]  # 1 ... 0 ... 1
        move = partial(session.send, "Input.dispatchMouseEvent")
        async with traced(page) as trace:
            await _at_sixty([partial(move, {**held, "x": left + width * share}) for share in shares])
        await page.mouse.up()
        return trace


async def zoom(chromium: Browser, path: Path, turns: int) -> Trace:
    """Turn the wheel over the first of the linked charts: in, out, in again elsewhere."""
    async with opened(chromium, f"{path.as_uri()}#head={HEAD}") as page:
        box = await _box(page.get_by_role("slider", name="Loss: step of the cursor").first)
        await page.keyboard.down("Control")  # without it the wheel scrolls the page
        acts: list[Callable[[], Awaitable[object]]] = []
        for number in range(turns):
            part, place = divmod(number, 24)
            if place == 0:
                x = box["x"] + box["width"] * (0.25 + 0.5 * (part % 5) / 4)
                acts.append(partial(page.mouse.move, x, box["y"] + box["height"] / 2))
            acts.append(partial(page.mouse.wheel, 0, -120 if place < 12 else 120))
        async with traced(page) as trace:
            await _at_sixty(acts)
        return trace


async def _box(found: Locator) -> FloatRect:
    """Where it is, once nothing moves any more."""
    await found.wait_for()
    await asyncio.sleep(1)
    box = await found.bounding_box()
    assert box is not None
    return box


async def _at_sixty(acts: list[Callable[[], Awaitable[object]]]) -> None:
    """Input as a hand gives it, sixty times a second, whether the page has dealt with the last one or not."""
    clock, running = asyncio.get_running_loop(), []
    start = clock.time()
    for number, act in enumerate(acts):
        await asyncio.sleep(max(0.0, start + number / 60 - clock.time()))
        running.append(asyncio.ensure_future(act()))
    await asyncio.gather(*running)
    await asyncio.sleep(0.5)
