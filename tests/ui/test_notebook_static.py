"""The static copy that a saved notebook keeps: the whole page in a frame, which asks nobody for anything."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from playwright.sync_api import Browser

from neural_plasticity import open_run
from neural_plasticity.errors import InputError, RecordError
from neural_plasticity.render import cells
from neural_plasticity.render.page import notebook
from neural_plasticity.render.page.notebook import StaticPage, live_widget, show
from tests.notebook_bridge import watched_page
from tests.sample_run import HOSTILE, SampleRun, write_events


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    name = f'"><img src=x onerror=alert(1)> {HOSTILE}'
    return write_events(tmp_path_factory.mktemp("hostile") / "run", SampleRun(name=name).events())


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What was sent to the notebook."""
    sent: list[dict[str, Any]] = []
    monkeypatch.setattr(notebook, "publish", lambda data, *_: sent.append(data))
    return sent


def test_it_is_one_frame_and_nothing_of_the_run_leaves_it(browser: Browser, hostile: Path) -> None:
    page, wrong = watched_page(browser)
    page.on("dialog", lambda dialog: wrong.append(dialog.message))
    with open_run(hostile) as run:
        copy = StaticPage(run, 700)
        page.set_content(f"<!doctype html><body>{copy._repr_html_()}</body>")
        last = run.last_seq
    assert page.locator("body > div > *").evaluate_all("(all) => all.map((one) => one.tagName)") == ["IFRAME", "P"]
    assert page.locator("img, script").count() == 0
    assert page.locator("iframe").evaluate("(one) => one.getBoundingClientRect().height") == 700
    assert page.locator("iframe").get_attribute("sandbox") == "allow-scripts allow-downloads"
    frame = page.frames[1]
    frame.wait_for_selector(f"html[data-seq='{last}']", state="attached")
    assert "finished" in frame.locator(".npd").inner_text()
    frame.get_by_role("tab", name="Pruning").click()
    frame.locator("canvas").first.click()
    assert frame.evaluate("origin") == "null", "the frame could reach into the notebook"
    assert wrong == []
    page.close()


def test_where_frames_are_not_shown_the_run_is_still_told(hostile: Path) -> None:
    with open_run(hostile) as run:
        bundle = StaticPage(run)._repr_mimebundle_()
    assert set(bundle) == {"text/html", "text/plain"}
    assert re.search(r"finished · .* · perplexity \d", bundle["text/plain"])
    assert "\x1b" not in bundle["text/plain"]


def test_without_anywidget_the_copy_is_shown_and_the_reader_told(
    hostile: Path, published: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(notebook, "find_spec", lambda _: None)
    show(hostile)
    (only,) = published
    assert "<iframe" in only["text/html"]
    assert "pip install 'neural-plasticity[notebook]'" in capsys.readouterr().err
    with pytest.raises(InputError, match=r"needs anywidget: pip install"):
        live_widget(hostile)


def test_a_directory_without_a_run_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"run\.sqlite"):
        show(tmp_path)


def test_in_a_terminal_a_run_is_shown_as_text(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = SimpleNamespace(get_ipython=lambda: SimpleNamespace(kernel=None))
    monkeypatch.setitem(sys.modules, "IPython", terminal)  # type: ignore[arg-type]
    assert not cells.register()
