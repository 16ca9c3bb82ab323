"""The live page in a browser while another process records: nothing is missed, whatever happens to the server."""

from __future__ import annotations

import math
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Page, expect

from neural_plasticity import events as ev
from neural_plasticity.dashboard.demo_events import simulate
from neural_plasticity.record import RecordWriter, open_run
from neural_plasticity.record.run import STALE_SECONDS
from neural_plasticity.render.page.live.server import serve_in_thread
from tests.page_browser import looking_at, open_panel, saved_csv, settle
from tests.page_runs import PACE, RUNS, write_at
from tests.page_runs import until as until_cycle

# Records a metric every 20 ms until it is told to end (a line on its standard input) or is killed.
WRITER = """
import select, sys, time
from neural_plasticity import events as ev
from neural_plasticity.heads import HeadId
from neural_plasticity.record import RecordWriter
with RecordWriter.create(sys.argv[1]) as writer:
    writer.append(ev.RunStarted(name='written by another process', shape=(2, 2), config={}))
    writer.append(ev.PhaseStarted(phase='warmup', planned=10_000))
    step = 0
    while not select.select([sys.stdin], [], [], 0.02)[0]:
        writer.append(ev.StepMetrics(step=step, phase='warmup', metrics={'loss': 3 - step / 1000 + step % 7 / 50}))
        if step == 40:
            writer.append(ev.HeadsPruned(step=step, phase='pruning', heads=(HeadId(1, 0),), strategy='magnitude'))
        step += 1
    writer.append(ev.RunEnded(step=step, state='finished'))
"""


@contextmanager
def writer(run_dir: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that records into ``run_dir``."""
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(run_dir)], stdin=subprocess.PIPE, text=True)
    try:
        until(lambda: (run_dir / "run.sqlite").exists())
        yield process
    finally:
        process.kill()
        process.communicate()


def until(true: Callable[[], bool], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "did not happen"
        time.sleep(0.02)


def drawn(page: Page) -> int:
    """Number of the last event that is on the screen."""
    return int(page.evaluate("() => document.documentElement.dataset.seq ?? 0"))


def wait_for_event(page: Page, seq: int, seconds: float = 40.0) -> None:
    until(lambda: drawn(page) >= seq, seconds)


def finish(process: subprocess.Popen[str], run_dir: Path) -> int:
    """Let the writer end; returns the number of its last event."""
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()
    process.wait(30)
    with open_run(run_dir) as run:
        return run.last_seq


def assert_same_loss(page: Page, run_dir: Path) -> None:
    """The page has every point of the record, once and in order."""
    panel = open_panel(page, "Metrics")
    panel.get_by_role("slider", name="Smoothing").press("Home")
    figure = panel.locator("figure").first
    figure.locator("summary").click()
    rows = saved_csv(page, figure.get_by_text("CSV data"))[1:]
    with open_run(run_dir) as run:
        steps, values = run.series("loss")
    assert [(int(row[0]), float(row[1])) for row in rows] == list(zip(steps.tolist(), values.tolist(), strict=True))


def test_what_another_process_records_is_shown_as_it_comes(browser: Browser, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    with (
        writer(run_dir) as process,
        serve_in_thread(run_dir) as server,
        looking_at(browser, server.url) as page,
    ):
        expect(page.get_by_role("status").first).to_contain_text("running")
        first = drawn(page)
        wait_for_event(page, first + 30)
        expect(page.locator(".side")).to_contain_text("1 head pruned", timeout=20_000)
        assert "follows the newest step" in page.locator("body").inner_text()
        last = finish(process, run_dir)
        wait_for_event(page, last)
        expect(page.get_by_role("banner")).to_contain_text("finished in", timeout=15_000)
        expect(page.locator(".frame .head")).to_contain_text("3 of 4 active", timeout=15_000)
        assert_same_loss(page, run_dir)


def test_a_server_that_goes_and_comes_back_costs_no_point(browser: Browser, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    forgiven = "ERR_CONNECTION|ERR_INCOMPLETE|Failed to load resource|net::"
    with writer(run_dir) as process:
        server = serve_in_thread(run_dir)
        port = server.port
        with looking_at(browser, server.url, forgiven=forgiven) as page:
            wait_for_event(page, drawn(page) + 10)
            server.close()
            expect(page.get_by_role("banner")).to_contain_text("connection lost", timeout=20_000)
            time.sleep(1.0)  # the run goes on meanwhile
            with open_run(run_dir) as run:
                missed = run.last_seq
            with serve_in_thread(run_dir, port=port):
                wait_for_event(page, missed + 10)
                expect(page.get_by_role("banner")).not_to_contain_text("connection lost", timeout=20_000)
                wait_for_event(page, finish(process, run_dir))
                expect(page.get_by_role("banner")).to_contain_text("finished in", timeout=15_000)
                assert_same_loss(page, run_dir)


def test_where_no_stream_gets_through_the_page_asks_every_second(browser: Browser, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    forgiven = "ERR_FAILED|Failed to load resource"
    with (
        writer(run_dir) as process,
        serve_in_thread(run_dir) as server,
        looking_at(browser, "about:blank", forgiven=forgiven + "|request: http") as page,
    ):
        page.route(re.compile("/stream"), lambda route: route.abort())
        page.goto(server.url)
        page.get_by_role("tab", name="Metrics").wait_for()
        expect(page.get_by_role("banner")).to_contain_text("live, by polling", timeout=20_000)
        wait_for_event(page, drawn(page) + 30)
        wait_for_event(page, finish(process, run_dir))
        expect(page.get_by_role("banner")).to_contain_text("finished in", timeout=15_000)
        assert_same_loss(page, run_dir)


def test_a_killed_run_is_not_called_running_for_ever(browser: Browser, tmp_path: Path) -> None:
    """Its last event lies almost as long back as a run may be silent: the page says so without any news."""
    events = list(until_cycle(simulate(), "fine-tuning", 1, 0.5))
    run_dir = write_at(tmp_path / "run", events, time.time() - len(events) * PACE - STALE_SECONDS + 6)
    with serve_in_thread(run_dir) as server, looking_at(browser, server.url) as page:
        expect(page.get_by_role("banner")).to_contain_text("running")
        expect(page.get_by_role("banner")).to_contain_text("killed or stuck?", timeout=30_000)


def test_nan_and_infinity_arrive_live(browser: Browser, tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    with RecordWriter.create(run_dir) as record:
        record.append(ev.RunStarted(name="r", shape=(1, 1), config={}))
        record.append(ev.StepMetrics(step=0, phase="warmup", metrics={"loss": 1.0}))
        with serve_in_thread(run_dir) as server, looking_at(browser, server.url) as page:
            for step, value in enumerate((2.0, math.nan, math.inf, 3.0), start=1):
                last = record.append(ev.StepMetrics(step=step, phase="warmup", metrics={"loss": value}))
            wait_for_event(page, last)
            page.get_by_text("1 NaN").first.wait_for()
            page.get_by_text("1 infinite").first.wait_for()


# Many runs -------------------------------------------------------------------------------------------------------


def test_the_list_of_runs_is_searched_sorted_and_kept_up_to_date(browser: Browser, tmp_path: Path) -> None:
    root = tmp_path / "served"
    for name in ("one-head", "stopped", "nan"):
        RUNS[name](root / name)
    with serve_in_thread(root) as server, looking_at(browser, server.url) as page:
        rows = page.locator("tbody tr")
        expect(rows).to_have_count(3)
        page.get_by_role("searchbox").fill("by hand")
        expect(rows).to_have_count(1)
        page.get_by_role("searchbox").fill("")
        page.get_by_role("combobox", name="State").select_option("failed")
        expect(rows).to_have_count(1)
        expect(rows).to_contain_text("loss became NaN")
        page.get_by_role("combobox", name="State").select_option("")
        page.get_by_role("columnheader").first.get_by_role("button").click()
        names = [one.inner_text() for one in rows.locator("td:first-child a").all()]
        assert names == sorted(names, key=str.lower)
        page.get_by_role("columnheader").first.get_by_role("button").click()
        assert [one.inner_text() for one in rows.locator("td:first-child a").all()] == names[::-1]
        RUNS["begun"](root / "later" / "begun")  # a run that starts when the page is open
        expect(rows).to_have_count(4, timeout=20_000)
        page.get_by_role("link", name="just begun").click()
        page.get_by_role("tab", name="Metrics").wait_for()
        settle(page)
        assert "/run/later/begun" in page.url
        page.get_by_role("link", name="Runs").click()
        expect(rows).to_have_count(4)


def test_an_empty_directory_says_how_to_begin(browser: Browser, tmp_path: Path) -> None:
    root = tmp_path / "served"
    root.mkdir()
    with (
        serve_in_thread(root) as server,
        looking_at(browser, "about:blank", forgiven="request: http") as page,
    ):
        page.goto(server.url)
        expect(page.get_by_role("heading", name="No run here yet")).to_be_visible()
        assert "plasticity run" in page.inner_text("pre")
