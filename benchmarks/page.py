"""What the page costs to make, to open, to use and to keep up to date, in real headless Chromium, in one run.

The long run is 1,000,000 steps of four noisy metrics and 500 snapshots of 144 heads (`_page_record.py`); its file is
opened beside a Plotly page of the same curves, in turns. Work per frame is what Chromium's trace says of the main
thread. Times on the wall, so that a busy machine makes them worse, never better.

    python benchmarks/page.py [--run_dir QUICK_RUN]    # writes results/page.csv, exits 1 when a figure misses
    python benchmarks/page.py --only scrub zoom        # some of it; nothing is written
"""

from __future__ import annotations

import argparse
import csv
import gzip
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from _page_browser import OURS, browser, drawn_is_drawn, load, middle, scrub, zoom
from _page_live import CLIENTS, RATE, measure
from _page_plotly import DRAWN, write_plotly
from _page_record import write_record
from _page_trace import Trace
from playwright.sync_api import Browser

from neural_plasticity.render.page.assets import SCRIPT, asset

RESULTS = Path(__file__).parent / "results" / "page.csv"
MB = 1e6
EXPORTS, LOADS, MOVES, TURNS, LIVE_S = 3, 5, 240, 160, 40


@dataclass(frozen=True)
class Row:
    """One figure; without a bound it is only reported."""

    figure: str
    value: float
    unit: str
    bound: float | None = None
    note: str = ""

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

    def script(self) -> Iterator[Row]:
        """The page's script as any server would send it."""
        yield Row("page script, gzip -9", len(gzip.compress(asset(SCRIPT).encode(), 9)) / 1e3, "kB", 350)

    def quick(self) -> Iterator[Row]:
        """The single file of a quick run."""
        run_dir = self.quick_run or quick_run(self.scratch / "quick")
        page = self.scratch / "quick.html"
        export(run_dir, page)
        yield Row("single file of a quick run", page.stat().st_size / MB, "MB", 1.5)

    def file(self) -> Iterator[Row]:
        """Export of the long run."""
        _, page, seconds = self.long()
        spread = f"{min(seconds):.1f} to {max(seconds):.1f}"
        yield Row("export of the long run, whole process", statistics.median(seconds), "s", 10, spread)
        yield Row("single file of the long run", page.stat().st_size / MB, "MB", 4)

    def load(self) -> Iterator[Row]:
        """Cold loads of that file and of a Plotly page of its curves, in turns."""
        run_dir, page, _ = self.long()
        peer = self.scratch / "plotly.html"
        curves, points = write_plotly(run_dir, peer)
        told = drawn_is_drawn(self.chromium, page)
        if told:
            raise SystemExit(f"the page says that everything is drawn when it is not: {told}")
        turns = [(load(self.chromium, page, OURS), load(self.chromium, peer, DRAWN)) for _ in range(LOADS)]
        ours, theirs = middle([one for one, _ in turns]), middle([one for _, one in turns])
        worst = max(one.drawn for one, _ in turns) / 1e3
        yield Row("first contentful paint", ours.first_paint / 1e3, "s", 1)
        yield Row("everything drawn", ours.drawn / 1e3, "s", 2.5, f"worst of {LOADS}: {worst:.2f}")
        shown = f"{curves} curves of {points:,} points, nothing else"
        yield Row("Plotly: first contentful paint", theirs.first_paint / 1e3, "s", None, shown)
        yield Row("Plotly: everything drawn", theirs.drawn / 1e3, "s", None, shown)
        yield Row("Plotly: file", peer.stat().st_size / MB, "MB", None, shown)

    def scrub(self) -> Iterator[Row]:
        """The cursor dragged over the whole timeline and back."""
        yield from frames("scrubbing", scrub(self.chromium, self.long()[1], MOVES), MOVES)

    def zoom(self) -> Iterator[Row]:
        """The wheel turned over a chart that others are linked to."""
        yield from frames("zooming", zoom(self.chromium, self.long()[1], TURNS), TURNS)

    def live(self) -> Iterator[Row]:
        """The live page while another process records."""
        seen = measure(self.chromium, self.scratch, LIVE_S)
        who = f"{RATE} events/s, Chromium and {CLIENTS} more clients"
        yield Row("live: committed to drawn, p95", seen.p95, "s", 1, who)
        yield Row("live: committed to drawn, median", seen.median, "s")
        yield Row("live: committed to drawn, worst", seen.worst, "s")
        yield Row("live: committed to received by a client, p95", seen.received_p95, "s")
        yield Row("live: events missed by any client", seen.missed, "events", 0, f"of {seen.events:,}")
        yield Row("live: server CPU per event and client", seen.cpu_per_event_and_client * 1e6, "µs")
        yield Row("live: server CPU", 100 * seen.cpu / seen.seconds, "% of a core")


PARTS: dict[str, Callable[[Bench], Iterator[Row]]] = {
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


def frames(what: str, trace: Trace, asked: int) -> Iterator[Row]:
    """Main-thread work per frame; the moves have to have been handled one by one, or the figure means nothing."""
    found = trace.frames()
    if len(found) < asked * 0.75:
        raise SystemExit(f"{what}: only {len(found)} frames for {asked} moves: the page or the machine cannot follow")
    median, p95 = np.percentile(found, [50, 95])
    yield Row(f"{what}: main thread per frame, median", float(median), "ms", 12, f"{len(found)} frames")
    yield Row(f"{what}: main thread per frame, p95", float(p95), "ms", 33, f"worst {max(found):.0f}")


def main() -> int:
    """Measure, print, write the CSV; 1 when a bound is missed."""
    parser = argparse.ArgumentParser(description="What the page costs.")
    parser.add_argument("--run_dir", type=Path, help="a quick run that is there already; default: one is made")
    parser.add_argument("--only", nargs="+", choices=PARTS, help="measure these; nothing is written")
    options = parser.parse_args()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as scratch, browser() as chromium:
        bench = Bench(Path(scratch), chromium, options.run_dir)
        for name in options.only or PARTS:
            for row in PARTS[name](bench):
                bound = "" if row.bound is None else f"<= {row.bound:g}"
                missed = "" if row.held else "MISSED"
                print(
                    f"{row.figure:<46} {row.value:>10,.3f} {row.unit:<11} {bound:<7} {missed:<7} {row.note}", flush=True
                )
                rows.append(row)
    if not options.only:
        RESULTS.parent.mkdir(exist_ok=True)
        with RESULTS.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["figure", "value", "unit", "bound", "held", "note"])
            for row in rows:
                bound = "" if row.bound is None else f"<= {row.bound:g}"
                writer.writerow([row.figure, f"{row.value:.4g}", row.unit, bound, row.held, row.note])
    return 0 if all(row.held for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
