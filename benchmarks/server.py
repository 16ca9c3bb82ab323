"""The live server under a crowd, for simulated hours: is its memory flat, how late is the news, what does it cost?

A run goes on (an hour of one event a second is played in `HOUR_S`), while 200 viewers follow it (streams and polls),
ten read a page at a byte a second, pages fetch what changed, and connections are reset in every way, 10,000 in all.

    python benchmarks/server.py                 # writes results/server.csv and server_memory.csv; exit 1 beyond a bound
    python benchmarks/server.py --hour_s 20 --streams 20 --polls 5 --aborts 20      # a small one; writes nothing
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
from _server_crowd import Crowd

from neural_plasticity import events as ev
from neural_plasticity.record import RecordWriter

RESULTS = Path(__file__).parent / "results"
EVENTS = 3_600  # of an hour, one each second
HOURS, HOUR_S = 3, 72.0  # in which they are played: 50 a second
HISTORY, WARM = 40_000, 900  # events before: what is kept in memory of a record (SQLite's pages, too) is full then
SHAPE = (12, 12)
MB = 1e6


@dataclass(frozen=True)
class Sample:
    """The server's memory at one moment: resident bytes, and open files (connections among them)."""

    hour: float
    rss: int
    files: int


class Memory:
    """Looks at a process every half second until it is told to stop."""

    def __init__(self, process: psutil.Process, hour_s: float) -> None:
        self.process, self.hour_s, self.samples = process, hour_s, list[Sample]()
        self._began, self._over = time.perf_counter(), threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def _look(self) -> None:
        while not self._over.wait(0.5):
            hour = (time.perf_counter() - self._began) / self.hour_s
            self.samples.append(Sample(hour, self.process.memory_info().rss, self.process.num_fds()))

    def stop(self) -> list[Sample]:
        """All that was seen."""
        self._over.set()
        self._thread.join()
        return self.samples


@contextlib.contextmanager
def served(run_dir: Path, said: Path) -> Iterator[tuple[int, psutil.Process]]:
    """``plasticity serve`` as a process of its own: its port, and the process; ``said`` takes its errors."""
    command = [sys.executable, "-m", "neural_plasticity", "serve", str(run_dir), "--port", "0", "--no_browser"]
    with said.open("w") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if address := next((word for word in line.split() if word.startswith("http://")), None):
                yield int(address.rstrip("/").rsplit(":", 1)[1]), psutil.Process(process.pid)
                return
        raise SystemExit("plasticity serve did not start")
    finally:
        process.terminate()
        process.wait(20)


def event(number: int) -> ev.Event:
    """Mostly metrics; each minute a snapshot of all heads and a line of log."""
    at = {"step": number, "phase": "fine-tuning", "cycle": 1, "phase_step": number}
    if number % 60 == 10:
        return ev.HeadScores(scores={"gradient": np.random.default_rng(number).gamma(1.2, 0.02, SHAPE)}, **at)
    if number % 60 == 30:
        return ev.LogLine(message=f"line no {number}.", **at)
    return ev.StepMetrics(metrics={"loss": 2 + 1 / (number + 1), "learning_rate": 1e-4, "grad_norm": 0.5}, **at)


def play(writer: RecordWriter, first: int, count: int, hour_s: float) -> list[tuple[int, float]]:
    """So many events, one after the other; the number of each, and when it was kept."""
    began = time.perf_counter()
    commits: list[tuple[int, float]] = []
    for number in range(count):
        time.sleep(max(0.0, began + number * hour_s / EVENTS - time.perf_counter()))
        seq = writer.append(event(first + number))
        commits.append((seq, time.time()))
    return commits


def late(commits: np.ndarray, news: np.ndarray) -> np.ndarray:
    """Seconds from each commit (number, time) to the first news (number, time) of it or of a later one."""
    place = np.searchsorted(np.maximum.accumulate(news[:, 0]), commits[:, 0])
    known = np.append(news[:, 1], np.nan)
    return known[np.minimum(place, len(news))] - commits[:, 1]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hour_s", type=float, default=HOUR_S)
    parser.add_argument("--hours", type=int, default=HOURS)
    for name, value in vars(Crowd()).items():
        parser.add_argument(f"--{name}", type=type(value), default=value)
    asked = vars(parser.parse_args())
    hour_s, hours = asked.pop("hour_s"), asked.pop("hours")
    whole = (Crowd(**asked), hour_s, hours) == (Crowd(), HOUR_S, HOURS)
    with tempfile.TemporaryDirectory() as scratch:
        rows, samples = measured(Path(scratch), Crowd(**asked), hour_s, hours)
    for figure, value, unit, bound in rows:
        print(f"{figure:<66} {value:>10,.3f} {unit:<4}" + ("" if bound is None else f" (at most {bound:g})"))
    if whole:
        with (RESULTS / "server.csv").open("w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([("figure", "value", "unit", "bound"), *rows])
        with (RESULTS / "server_memory.csv").open("w", newline="") as file:
            minutes = [(f"{one.hour * 60:.1f}", f"{one.rss / MB:.1f}", one.files) for one in samples]
            csv.writer(file, lineterminator="\n").writerows([("simulated_minute", "rss_mb", "open_files"), *minutes])
    return int(any(bound is not None and value > bound for _, value, _, bound in rows))


Row = tuple[str, float, str, float | None]


def measured(scratch: Path, crowd: Crowd, hour_s: float, hours: int) -> tuple[list[Row], list[Sample]]:
    """Everything: the figures, and the memory over the hours."""
    seen_file, errors = scratch / "seen.csv", scratch / "errors"
    with RecordWriter.create(scratch / "run") as writer, served(scratch / "run", errors) as (port, process):
        writer.append(ev.RunStarted(name="crowd", shape=SHAPE, config={}))
        writer.append_many(map(event, range(HISTORY)))
        command = [sys.executable, str(Path(__file__).with_name("_server_crowd.py")), str(port)]
        command += [str(crowd.save(scratch / "crowd.json")), str(seen_file)]
        alone = process.memory_info().rss
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as crowding:
            assert crowding.stdout is not None
            crowding.stdout.readline()
            play(writer, HISTORY, WARM, hour_s)  # until everything has been used once
            before, memory = process.cpu_times(), Memory(process, hour_s)
            commits = play(writer, HISTORY + WARM, hours * EVENTS, hour_s)
            samples, after = memory.stop(), process.cpu_times()
            time.sleep(3)  # a poll more
            said = json.loads(crowding.communicate("\n", timeout=120)[0])
        end = time.monotonic() + 40  # whoever reads slowly is let go after 30 s
        while process.num_fds() > 40 and time.monotonic() < end:
            time.sleep(0.2)
        left = process.num_fds()
        at_end = process.memory_info().rss
    if said["broken"]:
        raise SystemExit(f"a viewer met an error: {said['broken']}")
    seen = np.loadtxt(seen_file, delimiter=",", ndmin=2)
    kept = np.array(commits)
    each = [late(kept, seen[seen[:, 0] == one, 1:]) for one in range(crowd.viewers)]
    streams, polls = (np.concatenate(part) for part in (each[: crowd.streams], each[crowd.streams :]))
    cpu = after.user + after.system - before.user - before.system
    rss = np.array([one.rss for one in samples]) / MB
    of = np.array([one.hour for one in samples])
    # Building a page of a long run takes tens of megabytes for a moment: what stays is what is there between times.
    tenths = [float(np.quantile(rss[(of >= hour) & (of < hour + 1)], 0.1)) for hour in range(hours)]
    middles = [float(np.median(rss[(of >= hour) & (of < hour + 1)])) for hour in range(hours)]
    return [
        ("viewers", crowd.viewers, "", None),
        ("connections reset, short of 10,000", max(0, 10_000 - said["left"]), "", 0),
        ("events that a viewer was never told", float(np.isnan(streams).sum() + np.isnan(polls).sum()), "", 0),
        ("committed -> told, stream: median", float(np.nanmedian(streams)), "s", None),
        ("committed -> told, stream: p95", float(np.nanpercentile(streams, 95)), "s", 1),
        ("committed -> told, stream: worst", float(np.nanmax(streams)), "s", None),
        ("committed -> told, one poll a second: p95", float(np.nanpercentile(polls, 95)), "s", None),
        ("server's CPU, of one core", cpu / (hours * hour_s) * 100, "%", None),
        ("server's CPU per event and viewer", cpu / len(commits) / crowd.viewers * 1e6, "us", None),
        ("memory before anybody came", alone / MB, "MB", None),
        *((f"memory in hour {hour + 1}: tenth percentile", one, "MB", None) for hour, one in enumerate(tenths)),
        *((f"memory in hour {hour + 1}: median", one, "MB", None) for hour, one in enumerate(middles)),
        ("from the first hour to the last: tenth percentile", tenths[-1] - tenths[0], "MB", None),
        ("most memory at any time", float(rss.max()), "MB", None),
        ("memory once all have left", at_end / MB, "MB", None),
        ("what stays of it: against the first hour's tenth percentile", at_end / MB - tenths[0], "MB", 5),
        ("open files once all have left", left, "", 40),
        ("lines that the server said of errors", len(errors.read_text().splitlines()), "", 0),
    ], samples  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
