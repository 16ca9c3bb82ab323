"""The parts of a sweep that compute nothing: its cells, what they share, means over seeds, time left, the console."""

from __future__ import annotations

import io
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from neural_plasticity import events as ev
from neural_plasticity.config import VIEWS, RunConfig, as_json
from neural_plasticity.record import open_run
from neural_plasticity.sweep.board import Board, Overall, Running, seconds_left, summary_table
from neural_plasticity.sweep.cells import (
    AFTER_THE_BASELINE,
    AXES,
    Cell,
    beginning_key,
    in_order,
    product,
    recorded_cell,
)
from neural_plasticity.sweep.table import columns, outcome, ratio_interval, summary, t_interval
from tests.sample_run import SampleRun, write_events


def test_cells_are_the_product_in_the_order_given() -> None:
    cells = product("random, entropy", "0.1,.2", "3,0")
    assert [cell.name for cell in cells[:3]] == ["random-0.1-seed3", "random-0.1-seed0", "random-0.2-seed3"]
    assert len(cells) == len(set(cells)) == 8


def test_cells_from_before_come_after_those_asked_for_and_the_record_says_which_they_are() -> None:
    asked, others = product("random,entropy", "0.2", "1"), product("gradient,random", "0.1", "0,1")
    assert [cell.label for cell in in_order(asked, others)] == [
        "random 0.2 seed 1", "random 0.1 seed 1", "random 0.1 seed 0", "entropy 0.2 seed 1", "gradient 0.1 seed 1",
        "gradient 0.1 seed 0",
    ]  # fmt: skip
    assert in_order(asked, ()) == asked
    for cell in (*asked, *others):
        assert recorded_cell(as_json(cell.config(RunConfig(), Path("x")))) == cell
    for wrong in ({}, {"pruning_level": "0.1,0.2"}, {"pruning_level": None}, {"seed": -1}, {"seed": [1]}):
        options = {**as_json(RunConfig()), **wrong} if wrong else {}
        assert recorded_cell(options) is None


@given(
    st.lists(
        st.text(min_size=1, max_size=90).filter(lambda text: "," not in text and text.strip() == text), unique=True
    )
)
def test_names_of_cells_are_safe_and_differ(strategies: list[str]) -> None:
    names = [Cell(strategy, 0.2, 0).name for strategy in strategies]
    assert len(set(names)) == len(strategies)
    assert all(Path(name).name == name and len(name) < 120 and name.isascii() for name in names)


def test_what_comes_after_the_baseline_is_no_part_of_a_beginning() -> None:
    known = set(vars(RunConfig()))
    assert set(AFTER_THE_BASELINE) | set(AXES) | set(VIEWS) <= known
    base = RunConfig()
    key = beginning_key(base)
    assert beginning_key(replace(base, pruning_strategy="random", pruning_level="0.5", fine_tuning_steps=1)) == key
    assert beginning_key(replace(base, output_dir=Path("x"), tags="a")) == key
    for other in ({"seed": 1}, {"warmup_steps": 7}, {"control": True}, {"score_sequences": 8}, {"cycles": "auto"}):
        assert beginning_key(replace(base, **other)) != key, other  # type: ignore[arg-type]


def test_the_interval_over_seeds_holds_what_it_promises() -> None:
    draws = np.random.default_rng(0).normal(2.0, 1.0, size=(4000, 5))
    found = [t_interval(list(row)) for row in draws]
    covered = np.mean([one.low <= 2.0 <= one.high for one in found])
    assert covered == pytest.approx(0.95, abs=0.012)  # 3.5 standard errors of 4,000 trials
    assert t_interval([1.0, 2.0, 3.0]).low == pytest.approx(2 - 4.302653 / math.sqrt(3))  # t(0.975, 2)


def test_the_interval_of_ratios_is_symmetric_about_one_and_says_when_there_is_none() -> None:
    up, down = ratio_interval([2.0, 4.0, 8.0]), ratio_interval([1 / 2, 1 / 4, 1 / 8])
    assert up.mean == pytest.approx(4.0)
    assert (1 / down.mean, 1 / down.high, 1 / down.low) == pytest.approx((up.mean, up.low, up.high))
    assert math.isnan(ratio_interval([1.1]).low)
    assert ratio_interval([1.1, math.inf]).seeds == 1
    assert ratio_interval([]).seeds == 0


def test_a_summary_counts_only_what_has_finished() -> None:
    rows = []
    for seed, (state, ratio) in enumerate([("finished", 1.1), ("finished", 1.3), ("failed", None)]):
        row = dict.fromkeys(columns())
        rows.append(row | {"strategy": "random", "level": 0.2, "seed": seed, "state": state, "perplexity_ratio": ratio})
    (one,) = summary(rows)
    assert (one["seeds"], one["cells"]) == (2, 3)
    assert one["perplexity_ratio"] == pytest.approx(math.sqrt(1.1 * 1.3))
    assert math.isnan(one["ratio_to_control"])
    for width in (80, 140):
        console = Console(file=io.StringIO(), width=width)
        console.print(summary_table([one], width))
        assert "2 of 3" in console.file.getvalue()  # type: ignore[attr-defined]


def test_a_cell_that_went_back_to_the_unpruned_model_has_its_baseline_for_an_outcome(tmp_path: Path) -> None:
    """Without figures it would be missing from the means of its strategy, and only the seeds that went well be left."""
    events = []
    for one in SampleRun(cycles=1, warmup_steps=12, tuning_steps=6).events():
        if isinstance(one, ev.Evaluation):
            at = {"step": one.step + 1, "cycle": 1, "phase": "evaluation"}
            back = ev.StateRestored(to_cycle=0, to_step=0, states=np.ones((6, 8), np.int8), reason="too far", **at)
            events += [replace(one, cycle=0, results={"baseline": one.results["baseline"]}), back]
        else:
            events.append(one)
    with open_run(write_events(tmp_path, events)) as run:
        found = outcome(run)
    assert (found["heads_removed"], found["sparsity"]) == (0, 0.0)
    assert found["perplexity"] == found["baseline_perplexity"] > 1
    assert found["perplexity_ratio"] == found["ratio_to_control_high"] == found["prefill_speedup"] == 1.0
    assert found["size_reduction"] == 0.0
    assert set(found) <= set(columns())


def test_the_time_left_is_told_as_soon_as_it_can_be() -> None:
    running = (Running("a", 30.0, fraction=0.5), Running("b", 10.0, fraction=0.01))
    assert seconds_left(Overall(waiting=2, running=(Running("a", 5.0),)), [], 2) is None
    assert seconds_left(Overall(waiting=2, running=running), [], 2) == pytest.approx((30 + 50 + 120) / 2)
    assert seconds_left(Overall(waiting=0, running=running), [40.0], 2) == pytest.approx(
        30.0
    )  # no sooner than the last


def test_the_console_without_a_terminal_says_now_and_then_what_runs() -> None:
    now = [0.0]
    output = io.StringIO()
    with Board(Console(file=output, width=80), clock=lambda: now[0]) as board:
        overall = Overall(1, 0, 3, 6, (Running("random 0.2 seed 0", 4.0, "fine-tuning", 1, 0.25),) * 6, 60.0)
        for now[0] in (0.0, 1.0, 31.0):
            board.show(overall)
    lines = output.getvalue().splitlines()
    assert len(lines) == 2
    assert "1 of 6 cells done · 6 running · 3 waiting · about 1 min 00 s left" in lines[0]
    assert "random 0.2 seed 0 · cycle 1 · fine-tuning · 25 %" in lines[0]
    assert lines[0].endswith("; 2 more)")
