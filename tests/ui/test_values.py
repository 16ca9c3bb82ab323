"""What the page shows equals the record: values are read back from it as a reader gets them, and compared."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from neural_plasticity import events as ev
from neural_plasticity.heads import HeadState
from neural_plasticity.record import Run, open_run
from neural_plasticity.views import figures
from tests.page_browser import go, looking_at, open_panel, saved_csv, settle

RUN, BROKEN = "five-cycles", "nan"
WORDS = {HeadState.ACTIVE: "active", HeadState.PRUNED: "pruned", HeadState.REGROWN: "regrown", HeadState.ADDED: "added"}


@pytest.fixture(scope="module")
def run(run_of: Callable[[str], Path]) -> Iterator[Run]:
    with open_run(run_of(RUN)) as found:
        yield found


@pytest.fixture(scope="module")
def page(browser: Browser, run_of: Callable[[str], Path]) -> Iterator[Page]:
    with looking_at(browser, run_of(RUN) / "dashboard.html") as found:
        yield found


def test_the_key_figures_are_the_last_evaluation_s(page: Page, run: Run) -> None:
    (last,) = [one for one in run.events(ev.Evaluation) if isinstance(one, ev.Evaluation)][-1:]
    pruned, baseline = last.results["pruned"], last.results["baseline"]
    told = page.locator(".standing").inner_text()
    assert figures.perplexity(pruned["perplexity"]) in told
    assert f"baseline {figures.perplexity(baseline['perplexity'])}" in told
    assert figures.change(pruned["perplexity"] / baseline["perplexity"] - 1) in told
    grid = run.heads()
    left = int(np.isin(grid, (HeadState.ACTIVE, HeadState.REGROWN, HeadState.ADDED)).sum())
    assert f"{left} of {int((grid != HeadState.ABSENT).sum())} active" in page.locator(".frame .head").inner_text()
    assert figures.ratio(last.results["comparison"]["prefill_speedup"]) in told


@pytest.mark.parametrize("name", [RUN, BROKEN])
def test_curves_are_the_record_s_to_the_bit(
    name: str, browser: Browser, run_of: Callable[[str], Path], tmp_path: Path
) -> None:
    """NaN and infinities included; every metric is somewhere."""
    with looking_at(browser, run_of(name) / "dashboard.html") as page, open_run(run_of(name)) as run:
        panel = open_panel(page, "Metrics")
        panel.get_by_role("slider", name="Smoothing").press("Home")  # the raw values alone
        expected = {metric: pairs(*run.series(metric)) for metric in run.metrics()}
        found: dict[str, str] = {}
        for figure in panel.locator("figure").all():
            head, *rows = saved_csv(page, save_button(figure))
            for place, label in enumerate(head[1:], start=1):
                shown = [(int(row[0]), number(row[place])) for row in rows if row[place]]
                same = [metric for metric, points in expected.items() if repr(points) == repr(shown)]
                assert same, f"{label}: no metric has these {len(shown)} points: {shown[:3]}"
                found[same[0]] = label
        assert found.keys() == expected.keys()
        assert name != BROKEN or any(math.isnan(value) for _, value in expected["loss"])


def save_button(figure: Locator) -> Locator:
    figure.locator("summary").click()
    return figure.get_by_text("CSV data")


def pairs(steps: Any, values: Any) -> list[tuple[int, float]]:
    return list(zip(steps.tolist(), values.tolist(), strict=True))


def number(text: str) -> float:
    return {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}[text] if text[-1] in "Ny" else float(text)


def test_every_head_s_state_and_score_at_any_step(page: Page, run: Run) -> None:
    """After each decision, and between: the grid's spoken text, head by head."""
    decided = [event.step for event in run.decisions()]
    for step in (decided[0] - 1, decided[0], decided[3] + 1, last_step(run)):
        go(page, f"step={step}")
        states, scores = run.heads(step), run.scores("combined", step)
        for (layer, head), said in spoken(page, states).items():
            state = HeadState(states[layer, head])
            assert said.startswith(f"L{layer}H{head} · {WORDS[state]}"), (step, said)
            score = scores[layer, head] if head < scores.shape[1] else math.nan
            if state is not HeadState.PRUNED:
                assert any(one in said for one in written(score)), (step, said, score)


def written(score: float) -> set[str]:
    """As the page has it, in single precision; of a tie, either neighbour."""
    if math.isnan(score):
        return {"not measured"}
    value = float(np.float32(score))
    return {figures.significant(value * (1 + nudge)) for nudge in (-1e-9, 1e-9)}


def last_step(run: Run) -> int:
    return max(event.step for event in run.events())


def spoken(page: Page, states: Any) -> dict[tuple[int, int], str]:
    """What is said of each head as the arrow keys walk over the grid; the head that is chosen is not changed."""
    grid = page.get_by_role("application", name=re.compile("^Heads by layer"))
    grid.press("ArrowLeft")
    for _ in range(max(states.shape)):
        page.keyboard.press("ArrowLeft")
        page.keyboard.press("ArrowUp")
    live = page.locator(".frame [aria-live=polite]").first
    found = {}
    for layer in range(states.shape[0]):
        order = range(states.shape[1]) if layer % 2 == 0 else range(states.shape[1] - 1, -1, -1)
        for place, head in enumerate(order):
            if place:
                page.keyboard.press("ArrowRight" if layer % 2 == 0 else "ArrowLeft")
            if states[layer, head] != HeadState.ABSENT:
                found[layer, head] = live.inner_text()
        page.keyboard.press("ArrowDown")
    return found


def test_every_decision_s_reasons(page: Page, run: Run) -> None:
    panel = open_panel(page, "Pruning")
    pruned = [one for one in run.decisions() if isinstance(one, ev.HeadsPruned)]
    for place, event in enumerate(pruned):
        panel.get_by_role("group", name="Decisions").get_by_role("button").nth(place).click()
        settle(page)
        told = panel.inner_text()
        assert event.rule in told
        rows = {one.locator("button").inner_text(): one.inner_text() for one in reason_rows(panel)}
        assert rows.keys() == {str(head) for head in event.heads}
        for head in event.heads:
            assert event.reasons[f"{head.layer}.{head.head}"] in rows[str(head)]
            assert event.score is not None
            assert figures.significant(float(event.score[head])) in rows[str(head)]


def reason_rows(panel: Locator) -> list[Locator]:
    section = panel.locator("section").filter(has_text="Heads that went, and why")
    return section.locator("tbody tr").all()


def test_what_came_back_and_why(page: Page, run: Run) -> None:
    told = open_panel(page, "Growth").inner_text()
    grown = [one for one in run.decisions() if isinstance(one, ev.HeadsGrown)]
    assert len(grown) > 3
    for event in grown:
        for head in event.heads:
            assert str(head) in told
            assert event.reasons[f"{head.layer}.{head.head}"] in told


def test_a_head_s_life_is_told_with_its_reasons(page: Page, run: Run) -> None:
    head = next(one for one in run.decisions() if isinstance(one, ev.HeadsGrown)).heads[0]
    go(page, f"head={head.layer}.{head.head}")
    drawer = page.get_by_role("region", name=f"Head {head}")
    told = drawer.inner_text()
    turns = [one for one in run.decisions() if head in one.heads]
    assert len(turns) >= 2
    for event in turns:
        assert event.reasons[f"{head.layer}.{head.head}"] in told
        assert f"step {event.step:,}" in told
    go(page, "")


def test_texts_settings_and_lines(page: Page, run: Run) -> None:
    samples = open_panel(page, "Samples")
    rows = list(run.samples())
    assert f"{len(rows)} text samples" in samples.inner_text()
    while (more := samples.get_by_role("button", name=re.compile("^Show .* older"))).count():
        more.click()
    told = [one.inner_text() for one in samples.locator("li .text").all()]
    assert sorted(told) == sorted(one.prompt + one.text for one in rows)
    settings = open_panel(page, "Configuration")
    assert run.started is not None
    for name, value in run.started.config.items():
        shown = settings.locator("dl > div", has=page.get_by_text(name, exact=True)).first.locator("dd").inner_text()
        assert shown.strip() == (
            {True: "yes", False: "no"}[value] if isinstance(value, bool) else shown_value(value)
        ), name
    log = open_panel(page, "Log")
    lines = [one for one in run.events(ev.LogLine) if isinstance(one, ev.LogLine)]
    shown_lines = [one.locator(".message").inner_text() for one in log.locator("[role=option]").all()]
    assert shown_lines == [one.message for one in lines][: len(shown_lines)]
    assert shown_lines
    events = open_panel(page, "Events")
    assert f"{run.last_seq:,}" in events.locator("[role=option]").first.inner_text()


def shown_value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def test_results_of_the_evaluation_and_of_the_cycles(page: Page, run: Run) -> None:
    last = [one for one in run.events(ev.Evaluation) if isinstance(one, ev.Evaluation)][-1]
    panel = open_panel(page, "Evaluation")
    told = panel.get_by_role("region", name="Results").inner_text()
    for model in ("baseline", "pruned", "control"):
        assert figures.perplexity(last.results[model]["perplexity"]) in told
        assert figures.plain(last.results[model]["loss"]) in told
    head, *rows = saved_csv(page, open_panel(page, "Cycles").get_by_role("button", name="Save as CSV").first)
    assert len(rows) == 5
    column = next(place for place, name in enumerate(head) if "left" in name.lower())
    after = [int(row[column]) for row in rows]
    ends = [one.step for one in run.events(ev.Evaluation)][1:]
    assert after == [int((run.heads(step) > HeadState.PRUNED).sum()) for step in ends]


def test_the_record_s_numbers_are_in_the_figures_that_thin_out(page: Page, run: Run) -> None:
    """Nothing was left out of so small a run, and the page says so."""
    points = len(run.series("learning_rate")[0])
    expect(open_panel(page, "Metrics").get_by_text(f"all {points} points").first).to_be_visible()
