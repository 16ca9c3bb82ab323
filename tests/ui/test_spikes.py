"""A spike among 1,000,000 points is on the screen at every zoom, read from the chart's pixels; live, every point is."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser, Locator, Page

from neural_plasticity import events as ev
from neural_plasticity.record import RecordWriter, open_run
from neural_plasticity.render.page import write_page
from neural_plasticity.render.page.live.server import serve_in_thread

STEPS, SPIKE, HEIGHT = 1_000_000, 654_321, 40.0
# Windows around the spike: it lies in their first, middle or last part.
WIDTHS = (500_000, 60_000, 7_000, 800, 90, 12)
SHARES = (0.5, 0.11, 0.93)
# At most so far apart are the points of a thinned curve: two stretches of which four points each are kept.
FILE_GAP, LIVE_GAP = 2 * 4 * STEPS // 20_000, 2 * 4 * STEPS // 4_000
LOSS = "Loss: step of the cursor"
OPTIONS = Path(__file__).parents[2] / "frontend" / "src" / "charts" / "options.ts"
MARGIN = {side: int(room) for side, room in re.findall(r"(left|right|top|bottom): (\d+)[, ]", OPTIONS.read_text())[:4]}

# Which columns of the plot have a pixel in the curve's blue in its upper half.
BLUE_COLUMNS = """(canvas, margin) => {
  const {width, height} = canvas
  const scale = width / canvas.getBoundingClientRect().width
  const [left, right] = [margin.left * scale, width - margin.right * scale]
  const [top, bottom] = [margin.top * scale, height - margin.bottom * scale]
  const room = canvas.getContext('2d').getImageData(left, top, right - left, (bottom - top) / 2)
  const found = []
  for (let x = 0; x < room.width; x++)
    for (let y = 0; y < room.height; y++) {
      const at = 4 * (y * room.width + x)
      if (room.data[at + 3] > 60 && room.data[at + 2] - room.data[at] > 40) { found.push(x / room.width); break }
    }
  return found
}"""


def events() -> Iterator[ev.Event]:
    """A quiet loss, and one step where it is not."""
    loss = np.random.default_rng(0).normal(2.0, 0.05, STEPS)
    loss[SPIKE] = HEIGHT
    yield ev.RunStarted(name="one spike", shape=(2, 2), config={})
    yield ev.PhaseStarted(phase="warmup", planned=STEPS)
    for step, value in enumerate(loss.tolist()):
        yield ev.StepMetrics(step=step, phase="warmup", phase_step=step, metrics={"loss": value})


@pytest.fixture(scope="module")
def spiked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The record, as a run that still goes on leaves it."""
    folder = tmp_path_factory.mktemp("spike") / "run"
    source = events()
    with RecordWriter.create(folder) as writer:
        while writer.append_many(islice(source, 50_000)):
            pass
    return folder


@pytest.fixture(scope="module")
def file_page(browser: Browser, spiked: Path) -> Iterator[Page]:
    """The single file, open."""
    with open_run(spiked) as run:
        path = write_page(run, spiked.parent / "spike.html")
    yield from opened(browser, path.as_uri())


@pytest.fixture(scope="module")
def live_page(browser: Browser, spiked: Path) -> Iterator[Page]:
    """The live page, open."""
    with serve_in_thread(spiked) as server:
        yield from opened(browser, server.url)


def opened(browser: Browser, address: str) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1280, "height": 900}, reduced_motion="reduce")
    page = context.new_page()
    page.goto(address)
    plot(page).wait_for()
    yield page
    context.close()


def plot(page: Page) -> Locator:
    return page.get_by_role("slider", name=LOSS).first


def look_at(page: Page, window: tuple[int, int] | None) -> None:
    """Zoom the linked charts as a link would."""
    page.evaluate("(hash) => { location.hash = hash }", f"zoom={window[0]}-{window[1]}" if window else "")


def eventually(page: Page, expected: Callable[[], Any]) -> Any:
    """The first true answer of ``expected``, or its last after 200 frames: the page draws when it finds the time."""
    for _ in range(200):
        if found := expected():
            break
        page.evaluate("() => new Promise(requestAnimationFrame)")
    return found


def windows(shares: tuple[float, ...]) -> list[tuple[int, int]]:
    found = []
    for width in WIDTHS:
        for share in shares:
            first = min(max(SPIKE - round(share * width), 0), STEPS - 1 - width)
            found.append((first, first + width))
    return found


def blue(page: Page) -> list[float]:
    """Where in the plot the curve reaches its upper half, as shares of the width."""
    canvas = plot(page).locator("canvas").first
    found: list[float] = canvas.evaluate(BLUE_COLUMNS, MARGIN)
    return found


def said_of(page: Page, window: tuple[int, int], gap: int) -> str:
    """``right``: the spike is in its place, and nothing else as high but its flanks, ``gap`` steps wide."""
    wide = window[1] - window[0]
    where = (SPIKE - window[0]) / wide
    found = blue(page)
    if not any(abs(one - where) < 0.01 for one in found):
        return f"{window}: no spike at {where:.3f}, but at {found[:5]}"
    others = [one for one in found if abs(one - where) > 0.01 + gap / wide]
    return f"{window}: also at {others[:5]}" if others else "right"


def seen(page: Page, window: tuple[int, int], gap: int) -> str:
    """What is said of the chart once it is right, or after some time."""
    eventually(page, lambda: said_of(page, window, gap) == "right")
    return said_of(page, window, gap)


def test_a_spike_is_seen_at_every_zoom_of_the_file(file_page: Page) -> None:
    look_at(file_page, None)
    assert seen(file_page, (0, STEPS - 1), 0) == "right"
    for window in windows(SHARES):
        look_at(file_page, window)
        assert seen(file_page, window, FILE_GAP) == "right"


def test_a_spike_is_seen_at_every_zoom_of_the_live_page(live_page: Page) -> None:
    """With the points that the page has at once, and again with those that it asks for."""
    look_at(live_page, None)
    assert seen(live_page, (0, STEPS - 1), 0) == "right"
    for window in windows(SHARES[:1]):
        with live_page.expect_response(lambda answer: "/curve" in answer.url):
            look_at(live_page, window)
            assert seen(live_page, window, LIVE_GAP) == "right"
        live_page.wait_for_timeout(400)  # what came is drawn by then, or the check sees the points before it
        assert seen(live_page, window, max(1, (window[1] - window[0]) // 500)) == "right"


@pytest.mark.parametrize("host", ["file_page", "live_page"])
def test_where_there_is_no_spike_none_is_seen(host: str, request: pytest.FixtureRequest) -> None:
    """What the test above looks for can be missing: without the spike the axis is another, the curve fills the plot."""
    page: Page = request.getfixturevalue(host)
    look_at(page, (SPIKE + 1_000, SPIKE + 9_000))
    assert eventually(page, lambda: len(blue(page)) > 50)


def test_the_file_says_how_many_points_it_has(file_page: Page) -> None:
    look_at(file_page, None)
    file_page.get_by_text("20,000 of 1,000,000 points, extremes kept").first.wait_for()


def test_the_live_page_is_exact_when_zoomed(live_page: Page, spiked: Path, tmp_path: Path) -> None:
    window = (SPIKE - 2_000, SPIKE + 3_000)
    look_at(live_page, window)
    live_page.get_by_text("exact: 5,001 points").first.wait_for()
    got = saved_points(live_page, tmp_path / "loss.csv")
    with open_run(spiked) as run:
        steps, values = run.series("loss")
    for step in range(window[0], window[1] + 1):
        assert got[step] == values[np.searchsorted(steps, step)]


def saved_points(page: Page, path: Path) -> dict[int, float]:
    """What the chart's own CSV says, by step."""
    figure: Any = page.locator("figure").filter(has=page.get_by_role("slider", name=LOSS)).first
    figure.locator("summary").first.click()
    with page.expect_download() as download:
        figure.get_by_text("CSV data").click()
    download.value.save_as(path)
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = list(csv.reader(file))
    return {round(float(row[0])): float(row[1]) for row in rows[1:] if row[1]}
