"""Judged cycles in views and figure: verdicts, the knee, and that a cycle given up leaves no trace of pruning."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from neural_plasticity import events as ev
from neural_plasticity.heads import HeadId, HeadState
from neural_plasticity.record import Run, open_run
from neural_plasticity.record.history import head_states
from neural_plasticity.render.figures.cycles import multi_cycle_process
from neural_plasticity.views.cycles import cycles
from neural_plasticity.views.happenings import recent
from neural_plasticity.views.pruning import pruning
from tests.sample_run import SampleRun, write_events

BUDGET = math.log(1.05)
COSTS = (0.003, 0.006, 0.009, 0.014, 0.058)  # of five cycles: cheap, and then not


def events() -> Iterator[ev.Event]:
    """Five cycles; the fifth is outside the budget and given up."""
    run = SampleRun(cycles=len(COSTS), regrow=False, warmup_steps=20, tuning_steps=20)
    states = [np.ones((6, 8), np.int8)]
    for event in run.events():
        if event.phase == "evaluation":
            continue
        yield event
        at = {"step": event.step, "cycle": event.cycle, "phase": "evaluation"}
        if isinstance(event, ev.HeadsPruned):
            after = states[-1].copy()
            for head in event.heads:
                after[head] = HeadState.PRUNED
            states.append(after)
        if isinstance(event, ev.PhaseEnded) and event.phase == "fine-tuning":
            cost = COSTS[event.cycle - 1]
            yield ev.CycleJudged(
                log_ratio=cost, log_ratio_low=cost - 0.005, log_ratio_high=cost + 0.005, budget=BUDGET,
                inside=cost + 0.005 <= BUDGET, sparsity=float((states[-1] == 0).mean()), perplexity=20.0,
                control_perplexity=20 / math.exp(cost), sequences=256, documents=18, reason="why", **at,
            )  # fmt: skip
            if event.cycle == len(COSTS):
                yield ev.StateRestored(to_cycle=4, to_step=run.step - 20, states=states[-2], reason="too far", **at)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    directory: Path = tmp_path_factory.mktemp("judged") / "run"
    with open_run(write_events(directory, events())) as opened:
        yield opened


def test_verdicts_knee_and_return_are_in_the_view(run: Run) -> None:
    view = cycles(run)
    assert [one.inside for one in view.judged] == [True] * 4 + [False]
    assert view.knee == 4
    assert view.returned is not None
    assert view.returned.to_cycle == 4
    assert view.cycles[4].sparsity > view.cycles[3].sparsity  # what the fifth cycle tried stays to be seen


def test_heads_of_a_cycle_that_was_given_up_are_not_said_to_be_pruned_in_it(run: Run) -> None:
    view = cycles(run)
    assert (view.states == run.heads()).all()
    assert ((view.pruned_in > 0) == (view.states == HeadState.PRUNED)).all()
    assert view.pruned_in.max() == 4
    assert (pruning(run).now == (view.states > 0).sum(axis=1)).all()
    assert pruning(run).decisions[-1].chosen.any()


def test_what_happened_is_told(run: Run) -> None:
    titles = [one.title for one in recent(run)]
    assert "Cycle 4 inside the budget" in titles
    assert "Cycle 5 outside the budget" in titles
    assert "Back to cycle 4" in titles


def test_the_figure_shows_them(run: Run) -> None:
    figure = multi_cycle_process(run)
    (panel,) = (axes for axes in figure.axes if any(text.get_text().startswith("Judged") for text in axes.texts))
    assert {line.get_gid() for line in panel.lines} >= {"knee", "back", "judged:inside", "judged:outside"}


def test_heads_that_a_return_takes_back_are_absent_again() -> None:
    born = ev.HeadsGrown(step=1, heads=(HeadId(0, 2),), origin="added")
    back = ev.StateRestored(step=2, to_cycle=0, to_step=0, states=np.array([[1, 0]], np.int8))
    later = ev.HeadsPruned(step=3, heads=(HeadId(0, 0),), strategy="random")
    assert head_states((1, 2), [born, back, later], step=1).tolist() == [[1, 1, 3]]
    assert head_states((1, 2), [born, back, later], step=2).tolist() == [[1, 0, -1]]
    assert head_states((1, 2), [born, back, later], step=None).tolist() == [[0, 0, -1]]
