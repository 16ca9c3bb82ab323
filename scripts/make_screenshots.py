"""The pictures of docs/: ``make screenshots`` or ``python scripts/make_screenshots.py [--run_dir RUN_DIR]``.

Every panel of the page in light and dark, 1280 and 390 pixels wide: one by one of a run with five cycles, and on a
sheet each of runs of other kinds (``tests/page_runs.py``: all made up, all marked so). With ``--run_dir`` also
``console.png``, the live console in the middle of that run's last fine-tuning. Needs Chromium.
"""

from __future__ import annotations

import argparse
import io
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from neural_plasticity.events import Event, Progress
from neural_plasticity.record import Recorded, open_run
from neural_plasticity.render.lines import lines
from neural_plasticity.render.live import LiveState, advance, live_view
from neural_plasticity.render.page import write_page
from neural_plasticity.render.page.comparison import write_comparison
from neural_plasticity.views import figures
from tests.page_browser import PANELS, context_of, go, launch, open_panel, program, settle, wait_drawn
from tests.page_runs import RUNS

COLUMNS, ROWS = 100, 38
CONSOLE_CSS = (
    "body{margin:0;background:#0c0c0c}pre{margin:0;padding:18px 22px;font:14px/1.25 'DejaVu Sans Mono',monospace}"
)
MAIN = "five-cycles"
OTHER = "crashed"  # what it is compared with
SHOWN = [name for name in RUNS if name != "stopped"]  # it looks like a finished one
FIRST = "first-screen"
SIZES = {"1280": (1280, 900), "390": (390, 844)}
# Of a sheet: how large a picture stands on it, how much of a long panel is kept, how many stand side by side.
SHEETS = {"1280": (0.5, 1400, 3), "390": (1.0, 1500, 8)}


def main() -> int:
    """Take all pictures; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run_dir", type=Path, help="a recorded run: for console.png")
    parser.add_argument("--runs", nargs="*", default=SHOWN, help=f"which: {', '.join(RUNS)}")
    parser.add_argument("-o", "--output", type=Path, default=Path("docs/images"))
    arguments = parser.parse_args()
    path = program()
    if path is None:
        print("make_screenshots: needs Chromium on the path.", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as scratch, sync_playwright() as playwright:
        browser = launch(playwright, path)
        for name in arguments.runs:
            run_dir = RUNS[name](Path(scratch) / name)
            with open_run(run_dir) as run:
                page_file = write_page(run, run_dir)
            for theme in ("light", "dark"):
                for width in SIZES:
                    take(browser, page_file, name, theme, width, arguments.output / "page")
            if name == MAIN:
                best(browser, page_file, arguments.output / "dashboard.png")
        if {MAIN, OTHER} <= set(arguments.runs):
            both, _ = write_comparison([Path(scratch) / MAIN, Path(scratch) / OTHER], Path(scratch) / "compare.html")
            for theme in ("light", "dark"):
                for width in SIZES:
                    compared(browser, both, theme, width, arguments.output / "page")
        if arguments.run_dir:
            console_picture(browser, arguments.run_dir, arguments.output / "console.png")
    return 0


def take(browser: Browser, page_file: Path, name: str, theme: str, width: str, folder: Path) -> None:
    """The first screen and every panel of one run: single pictures of the main one, a sheet of the others."""
    context = context_of(browser, SIZES[width], dark=theme == "dark")
    page = context.new_page()
    page.goto(page_file.as_uri())
    wait_drawn(page)
    pictures = dict(panels(page))
    context.close()
    if name == MAIN:
        for label, image in pictures.items():
            keep(image, folder / f"{label.lower()}-{theme}-{width}.webp")
    else:
        keep(sheet(list(pictures.values()), *SHEETS[width], theme), folder / f"{name}-{theme}-{width}.webp")


def compared(browser: Browser, page_file: Path, theme: str, width: str, folder: Path) -> None:
    """Two runs held against each other: what is always there, and the heads of both."""
    context = context_of(browser, SIZES[width], dark=theme == "dark")
    page = context.new_page()
    page.goto(page_file.as_uri())
    page.get_by_role("tab", name="Heads").click()
    high = int(page.evaluate("document.documentElement.scrollHeight"))
    page.set_viewport_size({"width": SIZES[width][0], "height": min(high, 8_000)})
    drawn(page)
    keep(image_of(page.screenshot()), folder / f"compare-{theme}-{width}.webp")
    context.close()


def panels(page: Page) -> Iterator[tuple[str, Image.Image]]:
    """The page down to the tabs, then each panel."""
    size = page.viewport_size
    assert size is not None
    tall = int(page.locator("[role=tablist]").evaluate("(one) => one.getBoundingClientRect().bottom + scrollY"))
    page.set_viewport_size({"width": size["width"], "height": tall + 400})  # so that everything is drawn
    drawn(page)
    yield FIRST, image_of(page.screenshot(clip={"x": 0, "y": 0, "width": size["width"], "height": tall + 8}))
    for label in PANELS:
        panel = open_panel(page, label)
        high = int(panel.evaluate("(one) => one.getBoundingClientRect().bottom + scrollY"))
        page.set_viewport_size({"width": size["width"], "height": min(high, 8_000) + 40})
        drawn(page)
        yield label, image_of(panel.screenshot())


# Charts draw when they come into sight, a few a frame: until every one that is there has a drawing in it.
_CHARTS = """async () => {
  const end = Date.now() + 20000
  const open = () => [...document.querySelectorAll('figure .canvas:empty')].some((one) => one.clientHeight > 0)
  do await new Promise((done) => setTimeout(done, 250))
  while (open() && Date.now() < end)
}"""


def drawn(page: Page) -> None:
    """Until everything in sight is drawn."""
    page.evaluate(_CHARTS)
    settle(page)


def best(browser: Browser, page_file: Path, target: Path) -> None:
    """The picture that the README opens with: a moment of the run, a head that went and came back."""
    with open_run(page_file.parent) as run:
        head = next(event.heads[0] for event in run.decisions() if event.kind == "heads_grown")
    context = context_of(browser, (1360, 900), scale=1.5)
    page = context.new_page()
    page.goto(page_file.as_uri())
    wait_drawn(page)
    go(page, f"head={head.layer}.{head.head}")
    tall = int(page.locator("#npd-panel").evaluate("(one) => one.getBoundingClientRect().top + scrollY"))
    page.set_viewport_size({"width": 1360, "height": tall + 760})
    drawn(page)
    image = image_of(page.screenshot(clip={"x": 0, "y": 0, "width": 1360, "height": tall + 740}))
    image.save(target, optimize=True)
    print(target)
    context.close()


def image_of(data: bytes) -> Image.Image:
    """A screenshot as a picture."""
    return Image.open(io.BytesIO(data)).convert("RGB")


def keep(image: Image.Image, target: Path) -> None:
    """As lossless WebP: a colour stands for a number, so none is changed."""
    target.parent.mkdir(parents=True, exist_ok=True)
    image.save(target, lossless=True, quality=100, method=6)
    print(target)


def sheet(images: list[Image.Image], scale: float, most: int, across: int, theme: str) -> Image.Image:
    """All pictures side by side, row after row."""
    gap, paper = 12, "#d8d8d4" if theme == "light" else "#000000"
    small = [one.crop((0, 0, one.width, min(one.height, most))) for one in images]
    small = [one.resize((round(one.width * scale), round(one.height * scale)), Image.Resampling.LANCZOS)
             for one in small]  # fmt: skip
    rows = [small[start : start + across] for start in range(0, len(small), across)]
    wide = max(sum(one.width + gap for one in row) for row in rows) + gap
    whole = Image.new("RGB", (wide, sum(max(one.height for one in row) + gap for row in rows) + gap), paper)
    top = gap
    for row in rows:
        left = gap
        for one in row:
            whole.paste(one, (left, top))
            left += one.width + gap
        top += max(one.height for one in row) + gap
    return whole


def console_picture(browser: Browser, run_dir: Path, target: Path) -> None:
    """The live console as a picture."""
    with open_run(run_dir) as run:
        html, rows = console_html(list(run.records()))
    context = context_of(browser, (COLUMNS * 9 + 20, int(rows * 17.5) + 40))
    page = context.new_page()
    page.set_content(html)
    page.screenshot(path=target)
    context.close()
    print(target)


def console_html(records: list[Recorded]) -> tuple[str, int]:
    """The console at a moment in the last fine-tuning, as HTML, and how many rows it has."""
    stop = moment(one.event for one in records)
    log = Console(width=COLUMNS, file=io.StringIO(), force_terminal=True, color_system="truecolor", record=True)
    state = LiveState()
    told: list[Table] = []
    for one in records[: stop + 1]:
        state = advance(state, one.event)
        for line in lines(one.event):
            row = Table.grid(padding=(0, 1))
            row.add_column(width=5, justify="right", style="dim", no_wrap=True)
            row.add_column(ratio=1)
            row.add_row(figures.clock(one.time - records[0].time), line)
            told.append(row)
    region = live_view(state, COLUMNS, ROWS)
    room = ROWS - len(log.render_lines(region))
    shown: list[Table] = []
    for row in reversed(told):
        room -= len(log.render_lines(row))
        if room < 0:
            break
        shown.insert(0, row)
    log.print(*shown, region, sep="\n")
    body = log.export_html(inline_styles=True, code_format="<pre>{code}</pre>")
    page = f"<!doctype html><meta charset=utf-8><style>{CONSOLE_CSS} pre{{color:#d6d6d6}}</style>{body}"
    return page, ROWS


def moment(events: Iterable[Event]) -> int:
    """Index of the progress event nearest to two thirds of the last fine-tuning; the last event when there is none."""
    best, last = -1, 0
    for number, event in enumerate(events):
        last = number
        if isinstance(event, Progress) and event.phase == "fine-tuning" and 3 * event.done <= 2 * event.planned:
            best = number
    return best if best >= 0 else last


if __name__ == "__main__":
    sys.exit(main())
