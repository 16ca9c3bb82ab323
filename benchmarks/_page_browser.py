"""The page in real headless Chromium: cold loads, the cursor dragged over the timeline, a chart zoomed."""

from __future__ import annotations

import shutil
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from _page_trace import Trace, traced
from playwright.sync_api import Browser, Page, sync_playwright

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


@contextmanager
def browser() -> Iterator[Browser]:
    """Chromium as it is installed, headless."""
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        raise SystemExit("no Chromium here: apt-get install chromium")
    with sync_playwright() as play:
        started = play.chromium.launch(executable_path=path, args=FLAGS)
        try:
            yield started
        finally:
            started.close()


@contextmanager
def opened(chromium: Browser, url: str, mark: str = OURS) -> Iterator[Page]:
    """The page in a context of its own (nothing cached), once it says that everything is drawn."""
    context = chromium.new_context(viewport=VIEW)
    try:
        page = context.new_page()
        page.add_init_script(f"({WATCH})({mark!r})")
        page.goto(url, timeout=PATIENCE_MS, wait_until="commit")
        page.wait_for_function("() => window.__drawn?.presented", timeout=PATIENCE_MS)
        yield page
    finally:
        context.close()


def load(chromium: Browser, path: Path, mark: str = OURS) -> Load:
    """One cold load of a file."""
    with opened(chromium, path.as_uri(), mark) as page:
        paint = "performance.getEntriesByName('first-contentful-paint')[0]"
        page.wait_for_function(f"() => {paint}", timeout=PATIENCE_MS)
        return Load(page.evaluate(f"{paint}.startTime"), page.evaluate("window.__drawn.presented"))


def middle(loads: list[Load]) -> Load:
    """The median of each figure."""
    return Load(
        statistics.median(one.first_paint for one in loads), statistics.median(one.drawn for one in loads)
    )  # fmt: skip


def drawn_is_drawn(chromium: Browser, path: Path) -> str:
    """Whether the page's word can be taken: "" when, at its mark, no canvas was blank and nothing changed later."""
    with opened(chromium, path.as_uri()) as page:
        time.sleep(2)
        then = page.evaluate("window.__drawn")
        now = page.evaluate("({pictures: window.__pictures(), text: document.body.innerText})")
        blank = page.evaluate("Promise.all(window.__drawn.pictures.map(window.__blank))")
    if not then["pictures"]:
        return "there was no canvas"
    if any(blank):
        return f"{sum(blank)} of {len(blank)} canvases were blank"
    if len(then["pictures"]) != len(now["pictures"]):
        return f"{len(then['pictures'])} canvases, and {len(now['pictures'])} later"
    changed = sum(a != b for a, b in zip(then["pictures"], now["pictures"], strict=True))
    if changed:
        return f"{changed} of {len(blank)} canvases changed later"
    return "" if then["text"] == now["text"] else "text changed later"


def scrub(chromium: Browser, path: Path, moves: int) -> Trace:
    """Drag the cursor from one end of the timeline to the other and back, a head selected and its drawer open."""
    with opened(chromium, f"{path.as_uri()}#head={HEAD}") as page:
        slider = page.get_by_role("slider").first
        slider.wait_for()
        page.get_by_role("complementary").first.wait_for()
        box = slider.bounding_box()
        assert box is not None
        y, left, width = box["y"] + box["height"] / 2, box["x"] + 2, box["width"] - 4
        page.wait_for_timeout(1_000)
        page.mouse.move(left + width, y)
        page.mouse.down()
        with traced(page) as trace:
            for number in range(moves):
                share = abs(1 - 2 * number / (moves - 1))  # 1 ... 0 ... 1
                _frame(page.mouse.move, left + width * share, y)
            page.wait_for_timeout(500)
        page.mouse.up()
        return trace


def zoom(chromium: Browser, path: Path, turns: int) -> Trace:
    """Turn the wheel over the first of the linked charts: in, out, in again elsewhere."""
    with opened(chromium, f"{path.as_uri()}#head={HEAD}") as page:
        chart = page.locator("[data-chart]").first
        chart.wait_for()
        chart.scroll_into_view_if_needed()
        box = chart.bounding_box()
        assert box is not None
        page.wait_for_timeout(1_000)
        with traced(page) as trace:
            for number in range(turns):
                part, place = divmod(number, 16)
                if place == 0:
                    x = box["x"] + box["width"] * (0.25 + 0.5 * (part % 5) / 4)
                    page.mouse.move(x, box["y"] + box["height"] / 2)
                _frame(page.mouse.wheel, 0, -120 if place < 8 else 120)
            page.wait_for_timeout(500)
        return trace


def _frame(act, *arguments: float) -> None:  # type: ignore[no-untyped-def]
    """Do it, and leave the browser at least the rest of a sixtieth of a second."""
    start = time.perf_counter()
    act(*arguments)
    time.sleep(max(0.0, 1 / 60 - (time.perf_counter() - start)))
