"""The live page in a cell: a real kernel, its comm messages carried to Chromium, and back."""

from __future__ import annotations

import base64
import csv
import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.blocking.client import BlockingKernelClient
from playwright.sync_api import Browser, Frame

from neural_plasticity.record import open_run
from neural_plasticity.render.page.packing import unpack
from tests.notebook_bridge import Notebook, kernel, watched_page

BEGIN = """
import time
import neural_plasticity as npl
board = npl.MultiPhaseDashboard(output_dir="run", mode="disabled", config={"num_layers": 2, "num_heads": 4})
board.record_phase_transition("warmup", 0)
board.record_step({"loss": 3.0}, 1)
"""
COMPUTE = """
for step in range(2, 30):
    board.record_step({"loss": 3.0 / step, "perplexity": 2.0}, step)
    if step == 12:
        board.record_pruning_event({"strategy": "entropy", "pruned_heads": [(0, 1)], "cycle": 1}, step)
    time.sleep(0.15)
"""
# The cell goes on computing until the test has looked, however slow this machine is just now.
UNTIL_SEEN = """
end = time.monotonic() + 15
while not os.path.exists("seen") and time.monotonic() < end:
    time.sleep(0.05)
"""


@pytest.fixture(scope="module")
def client() -> Iterator[BlockingKernelClient]:
    with kernel() as found:
        yield found


@pytest.fixture
def notebook(browser: Browser, client: BlockingKernelClient, tmp_path: Path) -> Iterator[Notebook]:
    page, wrong = watched_page(browser)
    page.set_content("<!doctype html><body data-jp-theme-light='true'><div id='cell'></div><div id='other'></div>")
    opened = Notebook(client, page)
    opened.run(f"import os\nos.chdir({str(tmp_path)!r})")
    yield opened
    page.close()
    assert wrong == []


def open_cell(notebook: Notebook, into: str = "#cell") -> Frame:
    """Show the widget displayed last, as a notebook's front end does."""
    before = len(notebook.page.frames)
    notebook.until(lambda: notebook.page.evaluate("Object.keys(cells).length"))
    notebook.page.evaluate("([id, into]) => comm.show(id, into)", [notebook.widget_id(), into])
    notebook.until(lambda: len(notebook.page.frames) > before)
    return notebook.page.frames[-1]


def drawn(frame: Frame) -> int:
    """Number of the last event on the page; 0 before the first."""
    return int(frame.evaluate("document.documentElement.dataset.seq ?? 0"))


def last_seq(directory: Path) -> int:
    with open_run(directory / "run") as run:
        return run.last_seq


def test_it_follows_while_the_kernel_computes(notebook: Notebook, tmp_path: Path) -> None:
    notebook.run(BEGIN + "board")
    notebook.page.evaluate("document.body.dataset.jpThemeLight = 'false'")
    frame = open_cell(notebook)
    notebook.until(lambda: drawn(frame) == last_seq(tmp_path))
    assert frame.locator(".npd").get_attribute("data-theme") == "dark", "as the notebook is"
    busy = notebook.start(COMPUTE)
    seen: set[int] = set()

    def ended() -> bool:
        seen.add(drawn(frame))
        return busy in notebook.idle

    notebook.until(ended)
    assert len(seen) >= 4, "the page stood still while the cell ran"
    notebook.run("board.finish()")
    notebook.until(lambda: drawn(frame) == last_seq(tmp_path))
    notebook.until(lambda: "finished" in frame.locator(".npd").inner_text())
    assert "connecting" not in frame.locator(".npd").inner_text()


def test_a_page_that_opens_while_the_kernel_computes_is_live_too(notebook: Notebook, tmp_path: Path) -> None:
    """ "Run all": the next cell runs before the page could say that it is there."""
    notebook.start(BEGIN + "board")
    busy = notebook.start(COMPUTE + UNTIL_SEEN)
    notebook.until(lambda: notebook.page.evaluate("Object.keys(cells).length"))
    frame = open_cell(notebook)
    notebook.until(lambda: drawn(frame) > 10)
    assert busy not in notebook.idle, "the page came to life only once the kernel was idle"
    (tmp_path / "seen").touch()
    notebook.until(lambda: busy in notebook.idle and drawn(frame) == last_seq(tmp_path))
    with open_run(tmp_path / "run") as run:
        assert saved_points(notebook, frame, tmp_path / "loss.csv") == list(zip(*run.series("loss"), strict=True))


def test_what_the_page_shows_equals_the_record(notebook: Notebook, tmp_path: Path) -> None:
    """Pushed in parts, by several routes, to two pages: no point is lost and none comes twice."""
    notebook.run(BEGIN + "board")
    first = open_cell(notebook)
    notebook.run(COMPUTE)
    second = open_cell(notebook, "#other")
    notebook.run(COMPUTE.replace("range(2, 30)", "range(30, 50)").replace("step == 12", "step == 44"))
    with open_run(tmp_path / "run") as run:
        steps, values = run.series("loss")
        last = run.last_seq
    for number, frame in enumerate((first, second)):
        notebook.until(lambda frame=frame: drawn(frame) == last)  # type: ignore[misc]
        assert saved_points(notebook, frame, tmp_path / f"{number}.csv") == list(zip(steps, values, strict=True))


def saved_points(notebook: Notebook, frame: Frame, path: Path) -> list[tuple[int, float]]:
    """What the page's own CSV file says of the loss, downloaded out of the frame."""
    figure = frame.locator("figure").filter(has=frame.get_by_role("slider", name="Loss: step of the cursor")).first
    figure.locator("summary").first.click()
    with notebook.page.expect_download() as download:
        figure.get_by_text("CSV data").click()
    download.value.save_as(path)
    with path.open(newline="", encoding="utf-8-sig") as file:
        return [(int(row[0]), float(row[1])) for row in list(csv.reader(file))[1:] if row[1]]


def test_a_question_is_answered_and_a_wrong_one_told(notebook: Notebook, tmp_path: Path) -> None:
    """A page's messages, as they come out of its frame."""
    notebook.run(BEGIN + "board")
    frame = open_cell(notebook)
    notebook.until(lambda: drawn(frame))
    answers = [
        ask(notebook, "curve", {"name": "loss", "first": 0, "last": 9, "most": 100}),
        ask(notebook, "events", {"before": None, "kind": "", "most": 5}),
        ask(notebook, "document", {"sections": "meta,overview"}),
        ask(notebook, "curve", {"name": "no such", "first": 0, "last": 9, "most": 100}),
        ask(notebook, "events", {"before": "1; drop table events", "kind": "", "most": 5}),
        ask(notebook, "../run.sqlite", {}),
    ]
    curve, events, document = (unpack(gzip.decompress(base64.b64decode(one["buffer"]))) for one in answers[:3])
    assert (curve["steps"].tolist(), curve["values"].tolist()) == ([1], [3.0])
    assert [row["kind"] for row in events["rows"]] == ["run_started", "phase_started", "metrics"]
    assert document["overview"]["state"] == "running"
    assert [one["error"] for one in answers[3:]] == [
        "metric 'no such': expected one of loss.",
        "before: expected a whole number.",
        "'../run.sqlite': expected document, curve or events.",
    ]


def ask(notebook: Notebook, path: str, query: dict[str, Any]) -> dict[str, Any]:
    """A question as a page asks it, and the kernel's answer."""
    notebook.page.evaluate(
        """([id, path, query]) => {
            const { model } = cells[id]
            globalThis.answer = null
            const heard = (message, [view]) => {
                if (message.id !== 'test:1') return
                model.off('msg:custom', heard)
                const bytes = Array.from(view ? new Uint8Array(view.buffer) : [], (one) => String.fromCharCode(one))
                globalThis.answer = { ...message, buffer: btoa(bytes.join('')) }
            }
            model.on('msg:custom', heard)
            model.send({ type: 'ask', id: 'test:1', path, query, name: 'test' })
        }""",
        [notebook.widget_id(), path, query],
    )
    notebook.until(lambda: notebook.page.evaluate("globalThis.answer !== null"))
    return dict(notebook.page.evaluate("globalThis.answer"))


def test_a_resumed_run_starts_the_page_afresh(notebook: Notebook, tmp_path: Path) -> None:
    notebook.run(BEGIN + "for step in range(2, 20): board.record_step({'loss': 1.0}, step)\nboard.finish()\nboard")
    frame = open_cell(notebook)
    notebook.until(lambda: "finished" in frame.locator(".npd").inner_text())
    notebook.run(BEGIN + "board.finish()")
    notebook.until(lambda: drawn(frame) == last_seq(tmp_path))
    assert saved_points(notebook, frame, tmp_path / "loss.csv") == [(1, 3.0)]


def test_a_run_made_anew_in_its_place_is_followed(notebook: Notebook, tmp_path: Path) -> None:
    notebook.run(BEGIN + "for step in range(2, 20): board.record_step({'loss': 1.0}, step)\nboard.finish()\nboard")
    frame = open_cell(notebook)
    notebook.until(lambda: "finished" in frame.locator(".npd").inner_text())
    notebook.run("import shutil; shutil.rmtree('run')\n" + BEGIN)
    notebook.until(lambda: drawn(frame) == last_seq(tmp_path) and "running" in frame.locator(".npd").inner_text())
    assert saved_points(notebook, frame, tmp_path / "loss.csv") == [(1, 3.0)]


def copies(notebook: Notebook, kind: str) -> list[dict[str, Any]]:
    """Static copies sent so far; the kernel may still send some of earlier tests' runs."""
    return [one for one in notebook.outputs if one["kind"] == kind and "npd-twin" in one["data"].get("text/html", "")]


def test_the_static_copy_is_hidden_while_the_page_lives_and_ends_as_the_run_did(notebook: Notebook) -> None:
    notebook.run(BEGIN + "board")
    twin = copies(notebook, "display_data")[-1]
    notebook.page.evaluate("(html) => document.getElementById('other').innerHTML = html", twin["data"]["text/html"])
    copy = notebook.page.locator("#other iframe")
    copy.wait_for(state="visible")
    open_cell(notebook)
    copy.wait_for(state="hidden")
    notebook.run("board.finish()")

    def renewed() -> list[dict[str, Any]]:
        return [one for one in copies(notebook, "update_display_data") if one["transient"] == twin["transient"]]

    notebook.until(renewed)
    assert "running" in twin["data"]["text/plain"]
    assert "finished" in renewed()[-1]["data"]["text/plain"]
    notebook.page.evaluate("(id) => comm.leave(id)", notebook.widget_id())
    copy.wait_for(state="visible")


def test_what_nobody_looks_at_costs_nothing(notebook: Notebook) -> None:
    notebook.run(BEGIN + "board")
    frame = open_cell(notebook)
    notebook.until(lambda: drawn(frame))
    notebook.page.evaluate("(id) => comm.leave(id)", notebook.widget_id())
    notebook.page.evaluate(
        """(id) => {
            globalThis.heard = 0
            cells[id].model.on('msg:custom', ({ type }) => (globalThis.heard += type !== 'beat'))
        }""",
        notebook.widget_id(),
    )
    notebook.run("time.sleep(0.5)\nfor step in range(2, 9): board.record_step({'loss': 1.0}, step); time.sleep(0.2)")
    assert notebook.page.evaluate("globalThis.heard") == 0
    notebook.run("import neural_plasticity.render.page.notebook as shown\nshown.live_widget('run').close()")
