"""Pictures for the documentation from a recorded run: ``python scripts/make_screenshots.py RUN_DIR [-o docs/images]``.

``console.png`` is the live console in the middle of the last fine-tuning, ``dashboard.png`` the page. Needs Chromium.
"""

from __future__ import annotations

import argparse
import io
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from neural_plasticity.events import Event, Progress
from neural_plasticity.record import Recorded, open_run
from neural_plasticity.render.lines import lines
from neural_plasticity.render.live import LiveState, advance, live_view
from neural_plasticity.render.page import write_page
from neural_plasticity.views import figures

COLUMNS, ROWS = 100, 38
PAGE_SIZE = (1280, 1400)
CONSOLE_CSS = (
    "body{margin:0;background:#0c0c0c}pre{margin:0;padding:18px 22px;font:14px/1.25 'DejaVu Sans Mono',monospace}"
)


def main() -> int:
    """Write both pictures; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("-o", "--output", type=Path, default=Path("docs/images"))
    arguments = parser.parse_args()
    browser = next((found for name in ("chromium", "google-chrome", "chrome") if (found := shutil.which(name))), None)
    if browser is None:
        print("make_screenshots: needs Chromium on the path.", file=sys.stderr)
        return 2
    arguments.output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch, open_run(arguments.run_dir) as run:
        page = write_page(run, Path(scratch) / "page.html")
        picture(browser, page, arguments.output / "dashboard.png", PAGE_SIZE)
        console = Path(scratch) / "console.html"
        html, rows = console_html(list(run.records()))
        console.write_text(html, encoding="utf-8")
        picture(browser, console, arguments.output / "console.png", (COLUMNS * 9 + 20, int(rows * 17.5) + 40))
    return 0


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


def picture(browser: str, page: Path, target: Path, size: tuple[int, int]) -> None:
    """A PNG of ``page`` at ``size`` pixels."""
    flags = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run")
    subprocess.run(
        [browser, *flags, "--hide-scrollbars", f"--window-size={size[0]},{size[1]}",
         f"--screenshot={target.resolve()}", page.resolve().as_uri()],
        check=True, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    print(target)


if __name__ == "__main__":
    sys.exit(main())
