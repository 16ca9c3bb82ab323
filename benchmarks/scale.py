"""How record, export, page and live server grow with steps and heads, on simulated runs that hold all that a run holds.

Each size is a run of its own: seven metrics of every step, 500 snapshots of every head's score, five cycles with a
decision and a reason per head, patterns of three prompts and hidden states of model and control. What is timed runs as
a process of its own, with its processor seconds (which a busy machine hardly changes), its wall time and its peak of
memory.

    python benchmarks/scale.py                      # all sizes, one after the other; writes results/scale.csv
    python benchmarks/scale.py --sizes 100000x12x12 # steps x layers x heads; its rows are replaced in the CSV
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import os
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from _page_browser import browser, load

from neural_plasticity.record import open_run

RESULTS = Path(__file__).parent / "results" / "scale.csv"
SIZES = ("100000x12x12", "100000x48x64", "100000x100x128", "1000000x100x128", "10000000x100x128")
LOADS = 3
MB = 1e6
PACKAGE = ("-m", "neural_plasticity")


class Size(NamedTuple):
    """Of a run."""

    steps: int
    layers: int
    heads: int

    @classmethod
    def of(cls, text: str) -> Size:
        """From ``STEPSxLAYERSxHEADS``."""
        return cls(*map(int, text.split("x")))


@dataclass(frozen=True)
class Row:
    """One figure of one size."""

    figure: str
    value: float
    unit: str
    note: str = ""


class Cost(NamedTuple):
    """What a process took: seconds of the processor and on the wall, and its peak of memory in MB."""

    processor: float
    wall: float
    memory: float

    def rows(self, what: str) -> Iterator[Row]:
        """As figures."""
        yield Row(f"{what}: processor", self.processor, "s", f"{self.wall:.1f} s on the wall")
        yield Row(f"{what}: memory", self.memory, "MB", "peak of the process")


def cost(*arguments: str | Path) -> Cost:
    """Run Python with these arguments."""
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, *map(str, arguments)], stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(map(str, arguments))}: exit code {process.returncode}")
    return Cost(used.ru_utime + used.ru_stime, time.perf_counter() - start, used.ru_maxrss / 1e3)


def record(size: Size, folder: Path) -> Iterator[Row]:
    """Write the run, and say what it takes on disk."""
    yield from cost(__file__, "--write", folder, *map(str, size)).rows("record written, simulation included")
    path = folder / "run.sqlite"
    yield Row("record", path.stat().st_size / MB, "MB")
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as file:
        (rows,) = file.execute("SELECT count(*) FROM recorded").fetchone()
        yield Row("events", rows, "")
        (stored,) = file.execute(
            "SELECT sum(length(payload)) + sum(length(coalesce(data, ''))) FROM recorded WHERE layout IS NULL"
        ).fetchone()
        (arrays,) = file.execute("SELECT sum(length(data)) FROM blobs").fetchone()
        yield Row("of it arrays in blobs: scores, maps, hidden states", (arrays or 0) / MB, "MB")
        yield Row("of it other events", stored / MB, "MB")
        seqs = [row[0] for row in file.execute("SELECT payload FROM recorded WHERE kind = 'head_scores' LIMIT 50")]
        inline = file.execute("SELECT avg(length(data)) FROM recorded WHERE kind = 'head_scores'").fetchone()[0]
        hashes = [bytes.fromhex(text.split('"$array":"')[1][:32]) for text in seqs if '"$array":"' in text]
        sizes = [file.execute("SELECT length(data) FROM blobs WHERE hash = ?", (one,)).fetchone()[0] for one in hashes]
        yield Row("array of one score of every head", statistics.mean(sizes) if sizes else inline, "bytes")
    file.close()


def reading(run_dir: Path) -> Iterator[Row]:
    """What a reader waits for."""
    yield from cost(__file__, "--read", run_dir, "nothing").rows("a process that imports and reads nothing")
    yield from cost(__file__, "--read", run_dir, "summary").rows("open and summary")
    yield from cost(__file__, "--read", run_dir, "series").rows("one metric as arrays")
    yield from cost(__file__, "--read", run_dir, "scores").rows("the latest score of every head")
    yield from cost(__file__, "--read", run_dir, "recap").rows("what a resumed run's console catches up with")


def page(run_dir: Path, scratch: Path) -> Iterator[Row]:
    """The single file and a comparison of two runs."""
    file, compared = scratch / "page.html", scratch / "compare.html"
    yield from cost(*PACKAGE, "export", run_dir, "-o", file).rows("export")
    yield Row("single file", file.stat().st_size / MB, "MB")
    loads = asyncio.run(_loads(file))
    yield Row("first contentful paint", statistics.median(one[0] for one in loads) / 1e3, "s", f"median of {LOADS}")
    yield Row("everything drawn", statistics.median(one[1] for one in loads) / 1e3, "s", f"median of {LOADS}")
    yield from cost(*PACKAGE, "compare", run_dir, run_dir.with_name("second"), "-o", compared).rows("compare two runs")
    yield Row("comparison's file", compared.stat().st_size / MB, "MB")


def _begun_later(run_dir: Path) -> None:
    """Make a copy of a run another run: a copy would not be compared with the original."""
    with sqlite3.connect(run_dir / "run.sqlite") as file:
        file.execute("UPDATE attempts SET started = started + 60")
        file.execute("UPDATE recorded SET time = time + 60 WHERE kind = 'run_started'")
    file.close()


async def _loads(file: Path) -> list[tuple[float, float]]:
    async with browser() as chromium:
        found = [await load(chromium, file) for _ in range(LOADS)]
    return [(one.first_paint, one.drawn) for one in found]


def live(run_dir: Path) -> Iterator[Row]:
    """The live server's first document, the next one, and its memory."""
    import httpx
    import psutil

    command = [sys.executable, *PACKAGE, "serve", str(run_dir), "--port", "0", "--no_browser"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        words = (word for line in process.stdout for word in line.split())
        address = next(word for word in words if word.startswith("http://")).rstrip("/")
        server = psutil.Process(process.pid)
        for what in ("first", "second"):
            before, start = sum(server.cpu_times()[:2]), time.perf_counter()
            answer = httpx.get(f"{address}/api/runs/document", timeout=900).raise_for_status()
            wall = time.perf_counter() - start
            took = sum(server.cpu_times()[:2]) - before
            yield Row(f"live server, {what} document: processor", took, "s", f"{wall:.1f} s on the wall")
        yield Row("live document, gzipped", int(answer.headers["content-length"]) / MB, "MB")
        yield Row("live server: memory", server.memory_info().rss / MB, "MB", "after the second document")
    finally:
        process.terminate()
        process.wait(30)


def measured(size: Size, scratch: Path) -> Iterator[Row]:
    """Every figure of one size."""
    run_dir = scratch / "run"
    yield from record(size, run_dir)
    yield from reading(run_dir)
    yield from live(run_dir)
    _begun_later(Path(shutil.copytree(run_dir, scratch / "second")))
    yield from page(run_dir, scratch)
    yield from cost(__file__, "--read", run_dir, "figures").rows("all PNG figures")
    yield from cost(__file__, "--read", run_dir, "reopen").rows("reopened for writing after its last event")


def read(run_dir: Path, what: str) -> None:
    """In a process of its own."""
    from neural_plasticity.record import RecordWriter
    from neural_plasticity.record.recap import recap

    if what == "nothing":
        return
    if what == "reopen":
        with open_run(run_dir) as run:
            last = run.last_seq
        RecordWriter.reopen(run_dir, after_seq=last).close()
        return
    with open_run(run_dir) as run:
        if what == "summary":
            run.summary()
        elif what == "series":
            run.series("loss")
        elif what == "scores":
            run.scores("gradient")
        elif what == "recap":
            list(recap(run))
        else:
            from neural_plasticity.render.figures import FIGURES, draw, save_figure

            with tempfile.TemporaryDirectory() as folder:
                for name in FIGURES:
                    save_figure(draw(run, name), Path(folder) / f"{name}.png")


def write(folder: Path, size: Size) -> None:
    """In a process of its own."""
    from _page_record import Plan, write_record

    write_record(folder, Plan(size.steps, shape=(size.layers, size.heads), whole=True))


def keep(size: Size, rows: list[Row]) -> None:
    """Replace this size's rows in the CSV."""
    lines: list[list[str]] = []
    if RESULTS.exists():
        with RESULTS.open(newline="", encoding="utf-8") as file:
            lines = [line for line in list(csv.reader(file))[1:] if line[:3] != [str(one) for one in size]]
    lines += [[*map(str, size), row.figure, f"{row.value:.4g}", row.unit, row.note] for row in rows]
    lines.sort(key=lambda line: (int(line[1]) * int(line[2]), int(line[0])))
    with RESULTS.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["steps", "layers", "heads", "figure", "value", "unit", "note"])
        writer.writerows(lines)


def main() -> int:
    """Measure each size."""
    parser = argparse.ArgumentParser(description="How record, page and server grow.")
    parser.add_argument("--sizes", nargs="+", default=SIZES, help="steps x layers x heads, as 100000x48x64")
    parser.add_argument("--write", nargs=4, help=argparse.SUPPRESS)
    parser.add_argument("--read", nargs=2, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.write:
        write(Path(asked.write[0]), Size(*map(int, asked.write[1:])))
        return 0
    if asked.read:
        read(Path(asked.read[0]), asked.read[1])
        return 0
    for size in map(Size.of, asked.sizes):
        print(f"{size.steps:,} steps, {size.layers} × {size.heads} heads")
        rows: list[Row] = []
        with tempfile.TemporaryDirectory() as scratch:
            for row in measured(size, Path(scratch)):
                print(f"  {row.figure:<60} {row.value:>14,.3f} {row.unit:<5} {row.note}", flush=True)
                rows.append(row)
                keep(size, rows)  # an hour's work that is stopped leaves what it had
    return 0


if __name__ == "__main__":
    sys.exit(main())
