"""The page as a file: what it carries equals the record, it asks for nothing, and what came from outside is text."""

from __future__ import annotations

import base64
import hashlib
import html
import math
import os
import re
import sys
import zlib
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neural_plasticity import events as ev
from neural_plasticity.errors import InputError, RecordError
from neural_plasticity.heads import HeadId
from neural_plasticity.record import Run, open_run
from neural_plasticity.render.page import assets, read_page, write_page
from neural_plasticity.render.page.document import META, SECTIONS
from tests.sample_run import HOSTILE, SampleRun, write_events

VOID = {"meta", "link"}  # never closed in HTML
LOADING = {"src", "srcset", "href", "xlink:href", "data", "action", "poster", "background"}


class Page(HTMLParser):
    """What a browser would make of the file before any script runs: elements, what it would load, and the text."""

    def __init__(self, source: str) -> None:
        super().__init__(convert_charrefs=True)
        self.source = source
        self.tags: list[str] = []
        self.loads: list[str] = []
        self.handlers: list[str] = []
        self.policy = ""
        self.blocks: dict[str, str] = {}  # script elements by id ("" for the one that runs)
        self.open: list[str] = []
        self.text = ""
        self._script: str | None = None
        self.feed(source)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = {name: value or "" for name, value in attrs}
        self.tags.append(tag)
        self.loads += [value for name, value in named.items() if name in LOADING]
        self.handlers += [name for name in named if name.startswith("on")]
        if named.get("http-equiv") == "Content-Security-Policy":
            self.policy = named["content"]
        if tag == "script":
            self._script = named.get("id", "")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag
        self._script = None

    def handle_data(self, data: str) -> None:
        if self._script is not None:
            self.blocks[self._script] = data
        elif self.open[-1:] != ["style"]:
            self.text += data


def page_of(run_dir: Path) -> tuple[Page, dict[str, Any]]:
    with open_run(run_dir) as run:
        path = write_page(run, run_dir / "dashboard.html")
    page = Page(path.read_text(encoding="utf-8"))
    assert page.open == []
    return page, read_page(path)


@pytest.fixture(scope="module")
def sample_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_events(tmp_path_factory.mktemp("page") / "run", SampleRun().events())


@pytest.fixture(scope="module")
def sample(sample_dir: Path) -> tuple[Page, dict[str, Any]]:
    return page_of(sample_dir)


def inflated(block: str) -> bytes:
    return zlib.decompress(base64.b64decode(block), -zlib.MAX_WBITS)


# The file --------------------------------------------------------------------------------------------------------


def test_nothing_is_loaded_and_only_our_two_scripts_may_run(sample: tuple[Page, dict[str, Any]]) -> None:
    page, _ = sample
    assert page.loads == ["data:,"]
    assert page.handlers == []
    assert set(page.blocks) == {"npd-app", "npd-data", ""}
    rules = dict(rule.strip().split(" ", 1) for rule in page.policy.split(";"))
    assert rules["default-src"] == rules["connect-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
    scripts = (page.blocks[""].encode(), inflated(page.blocks["npd-app"]))
    assert rules["script-src"].split() == [
        f"'sha256-{base64.b64encode(hashlib.sha256(script).digest()).decode()}'" for script in scripts
    ]
    assert inflated(page.blocks["npd-app"]).decode() == assets.asset(assets.SCRIPT)
    assert page.tags.index("meta", page.tags.index("meta") + 1) < page.tags.index("script")  # charset, then the policy


def test_the_built_style_sheet_cannot_end_its_element_or_load_anything() -> None:
    style = assets.asset(assets.STYLE)
    assert "</" not in style
    assert not re.search(r"@import|url\((?!['\"]?(#|data:))", style)


def test_it_says_where_the_run_stands_before_any_script_runs(sample: tuple[Page, dict[str, Any]]) -> None:
    text = sample[0].text
    for said in ("sample-run", "finished", "Simulated.", "perplexity", "6.58", "25 %", "need JavaScript"):
        assert said in text, said
    assert "<title>sample-run · finished</title>" in sample[0].source


def test_a_directory_gets_dashboard_html_and_leaves_nothing_else(tmp_path: Path) -> None:
    run_dir = write_events(tmp_path / "run", [started()])
    assert write_page(open_run(run_dir), run_dir) == run_dir / "dashboard.html"
    beside = {path.name for path in run_dir.iterdir() if not path.name.startswith("run.sqlite")}
    assert beside == {"dashboard.html"}


def test_a_page_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    run_dir = write_events(tmp_path / "run", [started()])
    with pytest.raises(RecordError, match=r"^[^\n]*the page cannot be written there[^\n]*$"):
        write_page(open_run(run_dir), run_dir / "run.sqlite" / "dashboard.html")


def test_a_page_never_takes_a_record_s_place(tmp_path: Path) -> None:
    write_events(tmp_path, [ev.RunStarted(name="kept", shape=(1, 1), config={})])
    write_events(tmp_path / "other", [ev.RunStarted(name="other", shape=(1, 1), config={})])
    with open_run(tmp_path) as run:
        for target in (tmp_path / "run.sqlite", tmp_path / "other" / "run.sqlite"):
            with pytest.raises(RecordError, match="belongs to a record"):
                write_page(run, target)
    assert open_run(tmp_path / "other").name == "other"


@pytest.mark.skipif(sys.platform == "win32", reason="rights are not those of POSIX")
def test_a_page_has_the_rights_that_its_writer_gives_to_files(tmp_path: Path) -> None:
    write_events(tmp_path, [ev.RunStarted(name="x", shape=(1, 1), config={})])
    left = tmp_path / ".page-of-a-killed-process.html"
    left.touch()
    os.utime(left, (0, 0))
    before = os.umask(0o077)
    try:
        with open_run(tmp_path) as run:
            path = write_page(run, tmp_path)
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o600
    assert not left.exists()


def test_another_file_is_no_page(tmp_path: Path) -> None:
    (tmp_path / "x.html").write_text("<p>something</p>")
    with pytest.raises(RecordError, match="expected a dashboard page"):
        read_page(tmp_path / "x.html")


def test_an_installation_without_its_front_end_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assets.asset.cache_clear()
    monkeypatch.setattr(assets, "STATIC", tmp_path)
    with pytest.raises(InputError, match=r"^[^\n]*front end is missing[^\n]*$"):
        assets.asset(assets.SCRIPT)


# What it carries -------------------------------------------------------------------------------------------------


def test_every_section_is_there_as_of_the_last_event(sample: tuple[Page, dict[str, Any]], sample_dir: Path) -> None:
    _, document = sample
    assert list(document) == [META, *SECTIONS]
    with open_run(sample_dir) as run:
        assert document[META]["seq"] == run.last_seq
        assert document[META]["notes"] == []
        assert document[META]["simulated"]


def test_curves_are_the_record_s_bit_by_bit(sample: tuple[Page, dict[str, Any]], sample_dir: Path) -> None:
    with open_run(sample_dir) as run:
        names = run.metrics()
        assert sorted(one["name"] for one in sample[1]["curves"]["series"]) == sorted(names)
        for one in sample[1]["curves"]["series"]:
            steps, values = run.series(one["name"])
            np.testing.assert_array_equal(one["steps"], steps)
            assert one["values"].tobytes() == values.tobytes()


def test_heads_and_decisions_are_the_record_s(sample: tuple[Page, dict[str, Any]], sample_dir: Path) -> None:
    heads = sample[1]["heads"]
    with open_run(sample_dir) as run:
        for step, grid in zip(heads["states"]["steps"], heads["states"]["grids"], strict=True):
            np.testing.assert_array_equal(grid, run.heads(int(step)))
        for criterion in heads["criteria"]:
            for step, grid in zip(criterion["steps"], criterion["values"], strict=True):
                np.testing.assert_array_equal(grid, run.scores(criterion["name"], int(step)).astype(np.float32))
        for shown, event in zip(heads["decisions"], run.decisions(), strict=True):
            assert [HeadId(*head) for head in shown["heads"].tolist()] == list(event.heads)
            assert shown["reasons"] == event.reasons
            assert (shown["loss_before"], shown["loss_after"]) == (event.loss_before, event.loss_after)


def test_texts_are_the_record_s(sample: tuple[Page, dict[str, Any]], sample_dir: Path) -> None:
    with open_run(sample_dir) as run:
        expected = [(one.step, one.model, one.prompt.replace("\x1b", "␛"), one.text) for one in run.samples()]
    rows = sample[1]["samples"]["rows"]
    assert [(one["step"], one["model"], one["prompt"], one["text"]) for one in rows] == expected


# From outside ----------------------------------------------------------------------------------------------------


def test_hostile_text_is_data(sample: tuple[Page, dict[str, Any]]) -> None:
    page, document = sample
    assert "alert" not in page.source
    assert HOSTILE.replace("\x1b", "␛") in {one["prompt"] for one in document["samples"]["rows"]}


BAD = '"><img src=x onerror=alert(1)></style></title></script>{{ 7*7 }}${x}\x00\x1b[2J\ud800\u202e'


def test_every_string_from_outside_stays_text(tmp_path: Path) -> None:
    events = [
        ev.RunStarted(name=BAD, shape=(1, 2), config={BAD: BAD}, model={"name": BAD}, data={BAD: [BAD]}),
        ev.PhaseStarted(phase=BAD, cycle=1),
        ev.StepMetrics(phase=BAD, metrics={"loss": 1.0, BAD: 2.0}),
        ev.HeadScores(step=1, phase=BAD, scores={BAD: np.ones((1, 2))}),
        ev.HeadsPruned(step=2, heads=(HeadId(0, 1),), strategy=BAD, rule=BAD, reasons={"0.1": BAD, BAD: BAD}),
        ev.HeadsGrown(step=2, heads=(HeadId(0, 1),), strategy=BAD, rule=BAD, reasons={"0.1": BAD}),
        ev.TextSample(step=2, prompt=BAD, text=BAD, model=BAD, metrics={BAD: 1.0}),
        ev.AttentionMaps(step=2, prompt=BAD, tokens=(BAD, BAD), maps=np.ones((1, 2, 2, 2)), model=BAD),
        ev.Evaluation(step=3, results={"baseline": {"loss": BAD}, BAD: {BAD: 1}}),
        ev.LogLine(step=3, message=BAD, level="warning"),
        ev.Annotation(step=3, tags=(BAD,), note=BAD),
        ev.RunEnded(step=3, state="failed", reason=BAD),
    ]
    page, document = page_of(write_events(tmp_path / "run", events))
    assert "img" not in page.tags
    assert page.handlers == []
    assert page.loads == ["data:,"]
    assert set(page.blocks) == {"npd-app", "npd-data", ""}
    assert "onerror=alert(1)" in page.text
    assert html.unescape(page.source).count("7*7") == page.source.count("7*7") > 0
    found = list(strings(document))
    assert len([one for one in found if "onerror=alert(1)" in one]) > 25
    assert not [one for one in found if not one.replace("\n", "").replace("\t", "").isprintable()]


def strings(value: Any) -> Any:
    """Every string in a document, names included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name, one in value.items():
            yield name
            yield from strings(one)
    elif isinstance(value, list):
        for one in value:
            yield from strings(one)


# Runs of any kind ------------------------------------------------------------------------------------------------


def started(shape: tuple[int, int] = (2, 2)) -> ev.RunStarted:
    return ev.RunStarted(name="r", shape=shape, config={})


@pytest.mark.parametrize(
    "events",
    [
        [],
        [started()],
        [started((0, 0))],
        [ev.LogLine(message="only a line")],
        [ev.PhaseStarted(phase="warmup")],
        [started(), ev.Evaluation(results={})],
        [ev.StepMetrics(step=5, metrics={})],
        [started(), ev.RunEnded(state="failed", reason="loss is NaN at step 7")],
        [started((0, 0)), ev.HeadScores(scores={"mine": np.ones((3, 4))})],
        [ev.HeadScores(scores={"mine": np.ones((3, 4)), "flat": np.ones(3), "none": np.ones((0, 0))})],
        [ev.HeadsPruned(heads=(HeadId(3, 1),), strategy="")],
        [ev.HeadsGrown(heads=(HeadId(0, 0),), origin="added")],
        [ev.HeadsPruned(step=9, heads=(), strategy="x"), ev.HeadsPruned(step=3, heads=(HeadId(0, 0),), strategy="x")],
        [started(), ev.AttentionMaps(prompt="", tokens=(), maps=np.ones((2, 2, 0, 0)))],
        [started(), ev.AttentionMaps(prompt="p", tokens=("a",), maps=np.full((2, 2, 3, 3), np.nan))],
    ],
)  # fmt: skip
def test_what_is_missing_does_not_break_the_page(events: list[ev.Event], tmp_path: Path) -> None:
    page, document = page_of(write_events(tmp_path / "run", events))
    assert list(document) == [META, *SECTIONS]
    assert document["overview"]["name"] in page.text


@pytest.mark.parametrize("odd", [3.5, "good", None, [1, 2], {"perplexity": "high", "loss": None, 7: 1.0}])
def test_what_a_users_own_evaluation_says_does_not_break_the_page(odd: object, tmp_path: Path) -> None:
    results: Any = {"baseline": odd, "pruned": {"perplexity": 12.0}, "comparison": odd, "mine": odd}
    events = [
        started(),
        ev.Evaluation(step=1, phase="evaluation", results=results),
        ev.TextSample(step=1, prompt="p", text="t", metrics={"score": odd, "perplexity": 2.0}),  # type: ignore[dict-item]
        ev.Progress(step=1, done=1, planned=2, run_fraction=0.5, seconds_left=math.inf),
    ]
    _, data = page_of(write_events(tmp_path, events))
    assert data["samples"]["rows"][0]["metrics"]["perplexity"] == 2.0
    assert "12" in str(data["overview"]["figures"])


@pytest.mark.parametrize("losses", [[math.nan] * 4, [1.0, math.nan, math.inf, 2.0], [5.0], [1e300, -1e300, 1e308]])
def test_losses_of_any_kind_arrive(losses: list[float], tmp_path: Path) -> None:
    events = [ev.StepMetrics(step=step, metrics={"loss": loss}) for step, loss in enumerate(losses)]
    _, document = page_of(write_events(tmp_path / "run", [started(), *events]))
    np.testing.assert_array_equal(document["curves"]["series"][0]["values"], losses)


@pytest.mark.parametrize("shape", [(1, 1), (40, 50), (1, 64), (96, 1)])
def test_models_of_any_size_arrive(shape: tuple[int, int], tmp_path: Path) -> None:
    run = SampleRun(layers=shape[0], heads=shape[1], warmup_steps=5, tuning_steps=5)
    _, document = page_of(write_events(tmp_path / "run", run.events()))
    assert tuple(document["heads"]["shape"]) == shape
    assert document["heads"]["states"]["grids"].shape[1:] == shape


def test_a_long_run_is_thinned_and_says_so(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=30_000)
    values[[4_321, 20_000]] = 50.0, math.nan
    events = [ev.StepMetrics(step=step, metrics={"loss": value}) for step, value in enumerate(values.tolist())]
    _, document = page_of(write_events(tmp_path / "run", [started(), *events]))
    (loss,) = document["curves"]["series"]
    assert (len(loss["steps"]), loss["total"], document["curves"]["exact"]) == (20_000, 30_000, False)
    np.testing.assert_array_equal(loss["values"], values[loss["steps"]])
    assert {0, 4_321, 20_000, 29_999} <= set(loss["steps"].tolist())
    assert any("20,000 of 30,000 points" in note for note in document[META]["notes"])


def large() -> list[ev.Event]:
    """48 × 32 heads, measured 300 times by two criteria, with two decisions and attention of 64 tokens."""
    rng = np.random.default_rng(0)
    shape = (48, 32)
    events: list[ev.Event] = [started(shape)]
    for step in range(300):
        events.append(ev.HeadScores(step=step, scores={"gradient": rng.random(shape), "entropy": rng.random(shape)}))
        if step in (100, 200):
            gone = (HeadId(step % 48, 3),)
            events.append(ev.HeadsPruned(step=step, heads=gone, strategy="gradient", score=rng.random(shape)))
            events.append(
                ev.AttentionMaps(step=step, prompt="p", tokens=("t",) * 64, maps=rng.random((*shape, 64, 64)))
            )
    return events


def test_a_large_model_stays_within_bounds_and_says_what_is_left_out(tmp_path: Path) -> None:
    run_dir = write_events(tmp_path / "run", large())
    _, document = page_of(run_dir)
    assert (run_dir / "dashboard.html").stat().st_size < 8_000_000
    steps = document["heads"]["criteria"][0]["steps"].tolist()
    assert {0, 100, 101, 200, 201, 299} <= set(steps)
    assert "of 300 measurements" in document["heads"]["thinned"]
    maps = document["attention"]["prompts"][0]["takes"][0]["maps"]
    assert maps.shape[1:] == (64, 64)
    assert "of 1,536 heads" in document["attention"]["thinned"]
    assert {note.split(":")[0] for note in document[META]["notes"]} >= {"Head scores"}


def test_megabytes_of_text_are_cut_and_the_cut_is_said(tmp_path: Path) -> None:
    long = "<b>" + "x" * 1_000_000
    events = [
        ev.RunStarted(name=long, shape=(1, 1), config={long: long}),
        *(ev.TextSample(prompt=long, text=long) for _ in range(60)),
        *(ev.LogLine(message=long) for _ in range(20)),
        ev.RunEnded(state="failed", reason=long),
    ]
    run_dir = write_events(tmp_path / "run", events)
    page, document = page_of(run_dir)
    assert (run_dir / "dashboard.html").stat().st_size < 1_500_000
    assert len(page.text) < 5_000
    assert document["log"]["lines"][0]["message"].endswith("… (1,000,003 characters)")
    assert document["samples"]["left_out"] > 0


def test_the_document_of_an_open_run_can_be_asked_for_by_section(sample_dir: Path) -> None:
    from neural_plasticity.render.page.document import LIVE, document

    run: Run
    with open_run(sample_dir) as run:
        assert list(document(run, ["growth", "meta", "growth"], LIVE)) == ["meta", "growth"]
        with pytest.raises(RecordError, match="section 'nonsense': expected one of meta, overview"):
            document(run, ["nonsense"])
