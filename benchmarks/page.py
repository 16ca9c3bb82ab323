"""What the page costs to make, to open, to use and to keep up to date, in real headless Chromium, in one run.

The long run is 1,000,000 steps of four noisy metrics and 500 snapshots of 144 heads (`_page_record.py`); its file is
opened beside a Plotly page of the same curves, in turns. Work per frame is what Chromium's trace says of the main
thread. Times on the wall, so that a busy machine makes them worse, never better.

    python benchmarks/page.py [--run_dir QUICK_RUN]    # writes results/page.csv, exits 1 when a figure misses
    python benchmarks/page.py --only scrub zoom        # some of it; nothing is written
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import gzip
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from _page_browser import OURS, browser, drawn_is_drawn, load, middle, scrub, zoom
from _page_live import CLIENTS, RATE, measure
from _page_plotly import DRAWN, write_plotly
from _page_record import write_record
from _page_trace import Trace
from playwright.async_api import Browser

from neural_plasticity.render.page.assets import SCRIPT, asset

RESULTS = Path(__file__).parent / "results" / "page.csv"
MB = 1e6
EXPORTS, LOADS, MOVES, TURNS, LIVE_S = 3, 5, 300, 240, 40
FEWEST = 100  # frames; a page that is behind handles several moves in one


@dataclass(frozen=True)
class Row:
    """One figure; without a bound it is only reported."""

    figure: str
    value: float
    unit: str
    bound: float | None = None
    note: str = ""

    @property
    def asked(self) -> str:
        """The bound in words."""
        return "" if self.bound is None else f"<= {self.bound:g}"

    @property
    def held(self) -> bool:
        return self.bound is None or self.value <= self.bound


class Bench:
    """What the parts share: a folder, a browser, and the long run, made when it is first asked for."""

    def __init__(self, scratch: Path, chromium: Browser, quick_run: Path | None) -> None:
        self.scratch, self.chromium, self.quick_run = scratch, chromium, quick_run
        self._long: tuple[Path, Path, list[float]] | None = None

    def long(self) -> tuple[Path, Path, list[float]]:
        """The long run, its file, and the seconds that each export of it took."""
        if self._long is None:
            run_dir, page = write_record(self.scratch / "long"), self.scratch / "long.html"
            self._long = run_dir, page, [export(run_dir, page) for _ in range(EXPORTS)]
        return self._long

    async def script(self) -> AsyncIterator[Row]:
        """The page's script as any server would send it."""
        yield Row("page script, gzip -9", len(gzip.compress(asset(SCRIPT).encode(), 9)) / 1e3, "kB", 350)

    async def quick(self) -> AsyncIterator[Row]:
        """The single file of a quick run."""
        run_dir = self.quick_run or quick_run(self.scratch / "quick")
        page = self.scratch / "quick.html"
        export(run_dir, page)
        yield Row("single file of a quick run", page.stat().st_size / MB, "MB", 1.5)

    async def file(self) -> AsyncIterator[Row]:
        """Export of the long run."""
        _, page, seconds = self.long()
        spread = f"{min(seconds):.1f} to {max(seconds):.1f}"
        yield Row("export of the long run, whole process", statistics.median(seconds), "s", 10, spread)
        yield Row("single file of the long run", page.stat().st_size / MB, "MB", 4)

    async def load(self) -> AsyncIterator[Row]:
        """Cold loads of that file and of a Plotly page of its curves, in turns."""
        run_dir, page, _ = self.long()
        peer = self.scratch / "plotly.html"
        curves, points = write_plotly(run_dir, peer)
        told = await drawn_is_drawn(self.chromium, page)
        if told:
            raise SystemExit(f"the page says that everything is drawn when it is not: {told}")
        turns = [(await load(self.chromium, page, OURS), await load(self.chromium, peer, DRAWN)) for _ in range(LOADS)]
        ours, theirs = middle([one for one, _ in turns]), middle([one for _, one in turns])
        worst = max(one.drawn for one, _ in turns) / 1e3
        yield Row("first contentful paint", ours.first_paint / 1e3, "s", 1)
        yield Row("everything drawn", ours.drawn / 1e3, "s", 2.5, f"worst of {LOADS}: {worst:.2f}")
        shown = f"{curves} curves of {points:,} points, nothing else"
        yield Row("Plotly: first contentful paint", theirs.first_paint / 1e3, "s", None, shown)
        yield Row("Plotly: everything drawn", theirs.drawn / 1e3, "s", None, shown)
        yield Row("Plotly: file", peer.stat().st_size / MB, "MB", None, shown)

    async def scrub(self) -> AsyncIterator[Row]:
        """The cursor dragged over the whole timeline and back."""
        for row in frames("scrubbing", await scrub(self.chromium, self.long()[1], MOVES)):
            yield row

    async def zoom(self) -> AsyncIterator[Row]:
        """The wheel turned over a chart that others are linked to."""
        for row in frames("zooming", await zoom(self.chromium, self.long()[1], TURNS)):
            yield row

    async def live(self) -> AsyncIterator[Row]:
        """The live page while another process records."""
        seen = await measure(self.chromium, self.scratch, LIVE_S)
        who = f"{RATE} events/s, Chromium and {CLIENTS} more clients"
        yield Row("live: committed to drawn, p95", seen.p95, "s", 1, who)
        yield Row("live: committed to drawn, median", seen.median, "s")
        yield Row("live: committed to drawn, worst", seen.worst, "s")
        yield Row("live: a log line committed to drawn, p95", seen.line_p95, "s", 1)
        yield Row("live: committed to received by a client, p95", seen.received_p95, "s")
        yield Row("live: events missed by any client", seen.missed, "events", 0, f"of {seen.events:,}")
        yield Row("live: server CPU per event and client", seen.cpu_per_event_and_client * 1e6, "µs")
        yield Row("live: server CPU", 100 * seen.cpu / seen.seconds, "% of a core")


PARTS: dict[str, Callable[[Bench], AsyncIterator[Row]]] = {
    name: getattr(Bench, name) for name in ("script", "quick", "file", "load", "scrub", "zoom", "live")
}


def export(run_dir: Path, page: Path) -> float:
    """Seconds of ``plasticity export`` as a whole process."""
    start = time.perf_counter()
    command = [sys.executable, "-m", "neural_plasticity", "export", str(run_dir), "-o", str(page)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def quick_run(folder: Path) -> Path:
    """``plasticity run --quick_test``."""
    command = ["run", "--quick_test", "--no_visualize", "--no_browser", "--output_dir", str(folder)]
    subprocess.run([sys.executable, "-m", "neural_plasticity", *command], check=True, stdout=subprocess.DEVNULL)
    return folder


def frames(what: str, trace: Trace) -> Iterator[Row]:
    """Main-thread work per frame."""
    found = trace.frames()
    if len(found) < FEWEST:
        raise SystemExit(f"{what}: only {len(found)} frames: the machine is too busy to say anything")
    wall, processor = [one.wall for one in found], [one.processor for one in found]
    (median, p95), (cpu_median, cpu_p95) = np.percentile(wall, [50, 95]), np.percentile(processor, [50, 95])
    note = f"{cpu_median:.1f} of the processor"
    yield Row(f"{what}: main thread per frame, median", float(median), "ms", 12, f"{len(found)} frames, {note}")
    yield Row(f"{what}: main thread per frame, p95", float(p95), "ms", 33, f"worst {max(wall):.0f}, {cpu_p95:.1f}")


def options() -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(description="What the page costs.")
    parser.add_argument("--run_dir", type=Path, help="a quick run that is there already; default: one is made")
    parser.add_argument("--only", nargs="+", choices=PARTS, help="measure these; nothing is written")
    return parser.parse_args()


async def measured(parts: list[str], quick_run: Path | None) -> list[Row]:
    """Every figure of these parts, printed as it comes."""
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as scratch:
        async with browser() as chromium:
            bench = Bench(Path(scratch), chromium, quick_run)
            for name in parts:
                async for row in PARTS[name](bench):
                    missed = "" if row.held else "MISSED"
                    print(f"{row.figure:<46} {row.value:>10,.3f} {row.unit:<11} {row.asked:<7} {missed:<7} {row.note}")
                    sys.stdout.flush()
                    rows.append(row)
    return rows


def main() -> int:
    """Measure, print, write the CSV; 1 when a bound is missed."""
    asked = options()
    rows = asyncio.run(measured(asked.only or list(PARTS), asked.run_dir))
    if not asked.only:
        RESULTS.parent.mkdir(exist_ok=True)
        with RESULTS.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["figure", "value", "unit", "bound", "held", "note"])
            writer.writerows([row.figure, f"{row.value:.4g}", row.unit, row.asked, row.held, row.note] for row in rows)
    return 0 if all(row.held for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
