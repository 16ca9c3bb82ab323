"""The page as a file: self-contained, strictly escaped, and never at a loss when something is missing."""

from __future__ import annotations

import math
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from neural_plasticity import events as ev
from neural_plasticity.errors import RecordError
from neural_plasticity.heads import HeadId
from neural_plasticity.record import open_run
from neural_plasticity.render.page import write_page
from tests.sample_run import HOSTILE, SampleRun, write_events

VOID = {"meta", "link"}  # never closed in HTML
LOADING = {"src", "srcset", "href", "xlink:href", "data", "action", "poster", "background"}


class Page(HTMLParser):
    """What a browser would make of the file: elements, what it would load, and the text."""

    def __init__(self, source: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.loads: list[str] = []
        self.handlers: list[str] = []
        self.classes: list[str] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(source)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.classes += [value or "" for name, value in attrs if name == "class"]
        self.loads += [value or "" for name, value in attrs if name in LOADING]
        self.handlers += [name for name, _ in attrs if name.startswith("on")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def page_of(run_dir: Path) -> tuple[Page, str]:
    with open_run(run_dir) as run:
        source = write_page(run, run_dir / "dashboard.html").read_text(encoding="utf-8")
    page = Page(source)
    assert page.open == []
    return page, source


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> tuple[Page, str]:
    return page_of(write_events(tmp_path_factory.mktemp("page") / "run", SampleRun().events()))


def test_nothing_is_loaded_and_nothing_runs(sample: tuple[Page, str]) -> None:
    page, source = sample
    assert page.loads == ["data:,"]
    assert "script" not in page.tags
    assert page.handlers == []
    assert not re.search(r"@import|url\((?!#)", source)
    assert "default-src 'none'" in source


def test_hostile_text_is_text(sample: tuple[Page, str]) -> None:
    page, source = sample
    assert "alert" not in source.replace("&#34;", '"').split("<body>")[0]
    assert HOSTILE.replace("\x1b", "␛") in page.text
    assert "\x1b" not in source


def test_every_outside_string_is_escaped(tmp_path: Path) -> None:
    bad = '"><img src=x onerror=alert(1)></style></title>{{ 7*7 }}\x00\ud800\u202e'
    events = [
        ev.RunStarted(name=bad, shape=(1, 2), config={bad: bad}, model={"name": bad}, data={bad: [bad]}),
        ev.PhaseStarted(phase=bad, cycle=1),
        ev.StepMetrics(phase=bad, metrics={"loss": 1.0, bad: 2.0}),
        ev.HeadScores(step=1, phase=bad, scores={bad: np.ones((1, 2))}),
        ev.HeadsPruned(step=2, heads=(HeadId(0, 1),), strategy=bad, rule=bad, reasons={"0.1": bad}),
        ev.TextSample(step=2, prompt=bad, text=bad, model=bad),
        ev.Evaluation(step=3, results={"baseline": {"loss": bad}, bad: {bad: 1}}),
        ev.LogLine(step=3, message=bad, level="warning"),
        ev.RunEnded(step=3, state="failed", reason=bad),
    ]
    page, source = page_of(write_events(tmp_path / "run", events))
    assert "img" not in page.tags
    assert page.handlers == []
    assert page.loads == ["data:,"]
    assert "49" not in page.text
    assert "\x00" not in source
    assert page.text.count("onerror=alert(1)") >= 8


def test_the_page_says_what_happened(sample: tuple[Page, str]) -> None:
    text = re.sub(r"\s+", " ", sample[0].text)
    for said in (
        "Simulated.", "sample-run", "finished", "No measurable difference in loss to the baseline",
        "12 pruned", "1 regrown", "Cycle 2: 6 heads pruned by gradient", "rank 1 of 48", "model_name", "baseline",
    ):  # fmt: skip
        assert said in text, said
    classes = sample[0].classes
    assert classes.count("cell pruned") == 12 + 1  # one more in the legend
    assert classes.count("cell hatch") == 12 + 1
    assert classes.count("cell regrown") == 1 + 1
    assert classes.count("cell active") == 35


def started(shape: tuple[int, int] = (2, 2)) -> ev.RunStarted:
    return ev.RunStarted(name="r", shape=shape, config={})


@pytest.mark.parametrize(
    ("events", "said"),
    [
        ([], "Nothing happened yet"),
        ([started()], "Not evaluated yet"),
        ([ev.LogLine(message="only a line")], "only a line"),
        ([started((0, 0))], "The run has not said how many layers"),
        ([ev.PhaseStarted(phase="warmup")], "No loss was recorded."),
        ([started(), ev.Evaluation(results={})], "Not evaluated yet"),
        ([started(), ev.RunEnded(state="failed", reason="loss is NaN at step 7")], "loss is NaN at step 7"),
    ],
)
def test_what_is_missing_is_said(events: list[ev.Event], said: str, tmp_path: Path) -> None:
    page, _ = page_of(write_events(tmp_path / "run", events))
    assert said in page.text


@pytest.mark.parametrize("losses", [[math.nan] * 4, [1.0, math.nan, math.inf, 2.0], [5.0], [3.0, 3.0], [1e300, -1e300]])
def test_losses_of_any_kind_are_drawn(losses: list[float], tmp_path: Path) -> None:
    events = [ev.StepMetrics(step=step, metrics={"loss": loss}) for step, loss in enumerate(losses)]
    page, source = page_of(write_events(tmp_path / "run", [started(), *events]))
    assert page.classes.count("broken") == 2 * sum(not math.isfinite(loss) for loss in losses)  # wide and narrow
    assert not re.search(r'(d|x|y|at)="[^"]*(nan|inf)', source)


@pytest.mark.parametrize("shape", [(1, 1), (40, 50), (1, 64), (96, 1)])
def test_models_of_any_size_are_drawn(shape: tuple[int, int], tmp_path: Path) -> None:
    run = SampleRun(layers=shape[0], heads=shape[1], warmup_steps=5, tuning_steps=5)
    page, _ = page_of(write_events(tmp_path / "run", run.events()))
    cells = [name for name in page.classes if name.startswith("cell ") and "hatch" not in name]
    assert len(cells) >= shape[0] * shape[1]


def test_a_long_run_is_thinned_and_says_so(tmp_path: Path) -> None:
    events = [ev.StepMetrics(step=step, metrics={"loss": 2.0 + (step == 4_321)}) for step in range(9_000)]
    page, source = page_of(write_events(tmp_path / "run", [started(), *events]))
    assert "of 9,000 points, extremes kept" in page.text
    assert ">3.0<" in source  # the one spike stretches the axis
    assert len(source) < 200_000


def test_a_directory_gets_dashboard_html_and_leaves_nothing_else(tmp_path: Path) -> None:
    run_dir = write_events(tmp_path / "run", [started()])
    before = set(run_dir.iterdir())
    assert write_page(open_run(run_dir), run_dir) == run_dir / "dashboard.html"
    assert set(run_dir.iterdir()) - before == {run_dir / "dashboard.html"}


def test_a_page_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    run_dir = write_events(tmp_path / "run", [started()])
    with pytest.raises(RecordError, match=r"^[^\n]*the page cannot be written there[^\n]*$"):
        write_page(open_run(run_dir), run_dir / "run.sqlite" / "dashboard.html")
