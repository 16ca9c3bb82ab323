"""The live page under load: a process that records, a server in another, 19 clients in a third, Chromium beside them.

python benchmarks/_page_live.py write RUN_DIR COMMITS.csv SECONDS     # the process that records
python benchmarks/_page_live.py watch URL CLIENTS SEEN.csv            # the clients, until the server's end
"""

from __future__ import annotations

import asyncio
import csv
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import psutil
from _page_browser import VIEW
from _page_record import CHUNK, METRICS, SHAPE, STEPS, Plan, long_run
from playwright.async_api import Browser, Page

from neural_plasticity import events as ev
from neural_plasticity.record import RecordWriter

RATE, CLIENTS = 50, 19
LINE = 25  # of each fifty events, the one that is a line of the log
SETTLE_S = 3.0  # the page and the clients are there, the first document is drawn

# When events are on the screen, by the clock that the recording process reads too: the number that the page sets once
# it has drawn what it knows up to there, and lines of the log, which come with a section that is fetched again.
LOGGER = """() => {
  window.__seen = []
  window.__read = []
  let newest = -1
  const note = () => {
    window.__seen.push([Number(document.documentElement.dataset.seq), Date.now()])
  }
  const read = () => {
    const said = document.getElementById('npd-panel')?.textContent ?? ''
    const number = Math.max(-1, ...[...said.matchAll(/line no (\\d+)\\./g)].map((one) => Number(one[1])))
    if (number > newest) window.__read.push([newest = number, Date.now()])
  }
  const watch = () => {
    new MutationObserver(note).observe(document.documentElement, {attributeFilter: ['data-seq']})
    new MutationObserver(read).observe(document, {subtree: true, childList: true, characterData: true})
  }
  document.documentElement ? watch() : document.addEventListener('readystatechange', watch, {once: true})
}"""


@dataclass(frozen=True)
class Live:
    """Seconds; CPU of the server's process while events came in."""

    events: int
    median: float  # committed -> drawn
    p95: float
    worst: float
    line_p95: float  # committed -> a line of the log in the log's panel
    received_p95: float  # committed -> at an SSE client
    missed: int  # events that a client never heard of, all clients together
    cpu: float
    seconds: float

    @property
    def cpu_per_event_and_client(self) -> float:
        return self.cpu / (self.events * (CLIENTS + 1))


async def measure(chromium: Browser, scratch: Path, seconds: float, steps: int = STEPS) -> Live:
    """Fifty events a second for so long, on a history of ``steps`` steps."""
    run_dir, commits, seen = scratch / "live", scratch / "commits.csv", scratch / "seen.csv"
    me = [sys.executable, __file__]
    writing = subprocess.Popen(
        [*me, "write", str(run_dir), str(commits), str(seconds), str(steps)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert writing.stdout is not None
    assert writing.stdin is not None
    writing.stdout.readline()  # the history is there
    with _server(run_dir) as (url, server):
        context = await chromium.new_context(viewport=VIEW)
        page = await context.new_page()
        await page.add_init_script(f"({LOGGER})()")
        await page.goto(f"{url}/#panel=log")
        await page.wait_for_function("() => document.documentElement.dataset.seq", timeout=60_000)
        watching = subprocess.Popen([*me, "watch", url, str(CLIENTS), str(seen)], stdin=subprocess.PIPE, text=True)
        await asyncio.sleep(SETTLE_S)
        before, start = _cpu(server), time.perf_counter()
        writing.stdin.write("go\n")
        writing.stdin.flush()
        while writing.poll() is None:
            await asyncio.sleep(0.2)
        cpu, wall = _cpu(server) - before, time.perf_counter() - start
        await asyncio.sleep(SETTLE_S)
        drawn, read = [
            np.array(await page.evaluate(f"window.{name}"), dtype=float).reshape(-1, 2) * (1, 1e-3)
            for name in ("__seen", "__read")
        ]
        await _check(page, steps + int(seconds * RATE) - 1)
        await context.close()
        watching.communicate("end\n", timeout=30)
    return _figures(commits, seen, drawn, read, cpu, wall)


async def _check(page: Page, newest: int) -> None:
    """The page says the newest step somewhere: the number that it sets is not all that it does."""
    said = await page.evaluate("document.body.innerText.replace(/[^0-9\\n]/g, '')")
    if str(newest) not in said:
        raise SystemExit(f"the live page does not show step {newest:,}, which is the newest")


def _figures(
    commits: Path, seen: Path, drawn: np.ndarray, read: np.ndarray, cpu: float, wall: float
) -> Live:  # fmt: skip
    committed = np.loadtxt(commits, delimiter=",", ndmin=2)
    late = _late(committed, drawn)
    lines = np.flatnonzero(np.arange(len(committed)) % RATE == LINE)
    late[lines] = line_late = _late(np.column_stack([lines, committed[lines, 1]]), read)
    received = np.loadtxt(seen, delimiter=",", ndmin=2)
    each = [_late(committed, received[received[:, 0] == one, 1:]) for one in np.unique(received[:, 0])]
    everyone = np.concatenate(each)
    missed = int(np.isnan(late).sum() + np.isnan(everyone).sum()) + (CLIENTS - len(each)) * len(committed)
    return Live(
        events=len(committed),
        median=float(np.nanmedian(late)), p95=float(np.nanpercentile(late, 95)), worst=float(np.nanmax(late)),
        line_p95=float(np.nanpercentile(line_late, 95)), received_p95=float(np.nanpercentile(everyone, 95)),
        missed=missed, cpu=cpu, seconds=wall,
    )  # fmt: skip


def _late(committed: np.ndarray, news: np.ndarray) -> np.ndarray:
    """Seconds from each commit (number, time) to the first news of it or of a later one; NaN where none came."""
    found = np.full(len(committed), np.nan)
    for place, (number, when) in enumerate(committed):
        reached = np.flatnonzero(news[:, 0] >= number)
        if len(reached):
            found[place] = news[reached[0], 1] - when
    return found


@contextmanager
def _server(run_dir: Path) -> Iterator[tuple[str, psutil.Process]]:
    """``plasticity serve`` as a process of its own."""
    command = [sys.executable, "-m", "neural_plasticity", "serve", str(run_dir), "--port", "0", "--no_browser"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if address := next((word for word in line.split() if word.startswith("http://")), None):
                yield address.rstrip("/"), psutil.Process(process.pid)
                return
        raise SystemExit("plasticity serve did not start")
    finally:
        process.terminate()
        process.wait(20)


def _cpu(process: psutil.Process) -> float:
    """Seconds that it and its children computed."""
    spent = process.cpu_times()
    inner = sum(sum(child.cpu_times()[:2]) for child in process.children(recursive=True))
    return spent.user + spent.system + inner


def write(run_dir: Path, commits: Path, seconds: float, steps: int) -> None:
    """Record the history; after a line on standard input go on, an event at a time, and note when each was kept."""
    history = long_run(Plan(steps, ended=False))
    random = np.random.default_rng(2)
    rows: list[tuple[int, float]] = []
    with RecordWriter.create(run_dir) as writer:
        while writer.append_many(islice(history, CHUNK)):
            pass
        print("ready", flush=True)
        sys.stdin.readline()
        start = time.perf_counter()
        for number in range(int(seconds * RATE)):
            time.sleep(max(0.0, start + number / RATE - time.perf_counter()))
            seq = writer.append(_event(random, steps, number))
            rows.append((seq, time.time()))
        with commits.open("w", newline="") as file:
            csv.writer(file).writerows(rows)
        writer.append(ev.RunEnded(step=steps + number, phase="fine-tuning", cycle=5, state="finished"))


def _event(random: np.random.Generator, steps: int, number: int) -> ev.Event:
    """Mostly metrics; once a second each a snapshot of all heads, a line of log, and how far the run is."""
    at = {"step": steps + number, "phase": "fine-tuning", "cycle": 5, "phase_step": number}
    kind = number % RATE
    if kind == 10:
        return ev.HeadScores(scores={"gradient": random.gamma(1.2, 0.02, SHAPE)}, **at)
    if kind == LINE:
        return ev.LogLine(message=f"line no {number}.", **at)
    if kind == 40:
        return ev.Progress(done=number, planned=10_000, run_fraction=0.9, seconds_left=60.0, **at)
    values = (2.0, 7.4, 0.9, 41_000.0) * random.lognormal(0, 0.05, 4)
    return ev.StepMetrics(metrics=dict(zip(METRICS, values.tolist(), strict=True)), **at)


async def watch(url: str, clients: int, seen: Path) -> None:
    """Follow the run with so many clients until a line on standard input; note what each heard, and when."""
    import httpx

    rows: list[tuple[int, int, float]] = []

    async def follow(number: int, http: httpx.AsyncClient) -> None:
        now = (await http.get(f"{url}/api/runs/updates", params={"after": 0})).json()["seq"]
        async with http.stream("GET", f"{url}/api/runs/stream", params={"after": now}) as answer:
            answer.raise_for_status()
            async for line in answer.aiter_lines():
                if line.startswith("id:"):
                    rows.append((number, int(line[3:]), time.time()))  # noqa: PERF401 - kept when it is cancelled

    async with httpx.AsyncClient(timeout=None, limits=httpx.Limits(max_connections=clients)) as http:
        tasks = [asyncio.create_task(follow(number, http)) for number in range(clients)]
        await asyncio.to_thread(sys.stdin.readline)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    with seen.open("w", newline="") as file:
        csv.writer(file).writerows(rows)


if __name__ == "__main__":
    what, *rest = sys.argv[1:]
    if what == "write":
        write(Path(rest[0]), Path(rest[1]), float(rest[2]), int(rest[3]))
    else:
        asyncio.run(watch(rest[0], int(rest[1]), Path(rest[2])))
