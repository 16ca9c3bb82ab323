"""View models of the documented views C1 to C8: what they hold, and that missing data is a stated empty state."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neural_plasticity import events as ev
from neural_plasticity.heads import HeadId
from neural_plasticity.record import Run, open_run
from neural_plasticity.record.snapshot import snapshot
from neural_plasticity.views.analysis import analysis
from neural_plasticity.views.attention import attention
from neural_plasticity.views.cycles import cycles
from neural_plasticity.views.evaluation import evaluation
from neural_plasticity.views.fine_tuning import fine_tuning
from neural_plasticity.views.heads_history import heads_history
from neural_plasticity.views.metrics import metrics
from neural_plasticity.views.pruning import pruning
from neural_plasticity.views.timeline import Mark, merged_label, smoothed, smoothed_pieces, timeline
from neural_plasticity.views.warmup import warmup
from tests.sample_run import SampleRun, write_events

VIEWS: tuple[Callable[[Run], Any], ...] = (
    metrics, warmup, analysis, pruning, fine_tuning, evaluation, attention, cycles,
)  # fmt: skip


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return open_run(write_events(tmp_path_factory.mktemp("models") / "run", SampleRun(cycles=3).events()))


def started(shape: tuple[int, int] = (2, 2)) -> ev.RunStarted:
    return ev.RunStarted(name="r", shape=shape, config={})


@pytest.mark.parametrize("view", VIEWS, ids=lambda view: view.__name__)
@pytest.mark.parametrize("events", [[], [started()]], ids=["nothing", "one event"])
def test_missing_data_is_a_stated_empty_state(tmp_path: Path, view: Any, events: list[ev.Event]) -> None:
    reason = view(open_run(write_events(tmp_path / "r", events))).empty
    assert reason
    assert reason.endswith(".")


@pytest.mark.parametrize("view", [one for one in VIEWS if one is not attention], ids=lambda view: view.__name__)
def test_a_whole_run_leaves_no_view_empty(sample: Run, view: Any) -> None:
    assert view(sample).empty is None


def test_cycles_begin_where_their_first_phase_does(sample: Run) -> None:
    assert [(one.cycle, one.step) for one in timeline(sample).boundaries] == [(1, 120), (2, 202), (3, 284)]


def test_events_close_together_are_counted_by_kind() -> None:
    pruned, stable = Mark(1, "pruned", "", 0, "7 pruned"), Mark(2, "stable", "", 0, "stable")
    assert merged_label([pruned]) == "7 pruned"
    assert merged_label([pruned] * 3) == "3 prunings"
    assert merged_label([pruned, stable, pruned]) == "2 prunings, stable"


def test_smoothing_leaves_nan_out_and_a_constant_constant() -> None:
    values = np.full(50_001, 2.5)
    values[::7] = math.nan
    view, window = smoothed("loss", np.arange(50_001), values)
    np.testing.assert_allclose(view.values, 2.5)
    assert len(view.steps) <= 4_000
    assert window > 1


def test_smoothing_does_not_carry_a_jump_over_a_break() -> None:
    steps, values = np.arange(100), np.where(np.arange(100) < 50, 1.0, 5.0)
    left, right = smoothed_pieces("loss", steps, values, [50])
    np.testing.assert_allclose(left.values, 1.0)
    np.testing.assert_allclose(right.values, 5.0)


def test_warmup_has_its_verdict_and_only_its_own_steps(sample: Run) -> None:
    view = warmup(sample)
    assert (view.first, view.last) == (0, 119)
    (stable,) = view.stable
    assert (stable.first, stable.step, stable.tolerance) == (81, 120, 1e-3)
    assert stable.slope_low < stable.slope < stable.slope_high


def test_analysis_marks_what_was_gone_when_it_was_measured(sample: Run) -> None:
    view = analysis(sample)
    assert view.names == ("entropy", "gradient")
    assert [int(one.maps[0].pruned.sum()) for one in view.rounds] == [0, 7, 13]
    assert [one.maps[0].values.shape for one in view.rounds] == [(6, 8)] * 3


def test_many_measurements_are_thinned_to_first_and_last(tmp_path: Path) -> None:
    scored = [ev.HeadScores(step=step, scores={"e": np.full((2, 2), float(step))}) for step in range(40)]
    view = analysis(open_run(write_events(tmp_path / "r", [started(), *scored])))
    assert [one.step for one in view.rounds][:: len(view.rounds) - 1] == [0, 39]
    assert view.left_out + len(view.rounds) == 40


def test_pruning_counts_heads_per_layer_before_and_after(sample: Run) -> None:
    view = pruning(sample)
    assert [int(one.before.sum()) for one in view.decisions] == [48, 41, 35]
    assert [int(one.after.sum()) for one in view.decisions] == [41, 35, 30]
    assert int(view.now.sum()) == 31  # one head came back
    assert view.present.tolist() == [8] * 6


def test_heads_outside_the_stated_shape_are_kept(tmp_path: Path) -> None:
    pruned = ev.HeadsPruned(step=1, cycle=1, heads=(HeadId(3, 4),), strategy="mine")
    view = pruning(open_run(write_events(tmp_path / "r", [started((0, 0)), pruned])))
    assert view.decisions[0].chosen.shape == (4, 5)
    assert view.decisions[0].before.tolist() == [5] * 4  # a grid that was never said is as large as its heads need


def test_recovery_curves_begin_at_step_zero_of_their_fine_tuning(sample: Run) -> None:
    view = fine_tuning(sample)
    assert [one.cycle for one in view.recoveries] == [1, 2, 3]
    for one in view.recoveries:
        assert one.training is not None
        assert one.training.steps[0] == 0
        assert one.loss_before is not None
        assert one.loss_pruned is not None
        assert one.loss_pruned > one.loss_before
    assert view.baseline == 1.86


def test_evaluation_bars_carry_their_intervals(sample: Run) -> None:
    bars = {one.key: one for one in evaluation(sample).bars}
    assert [bar.model for bar in bars["perplexity"].bars] == ["baseline", "pruned", "control"]
    for bar in bars["perplexity"].bars:
        assert bar.low is not None
        assert bar.high is not None
        assert bar.low < bar.value < bar.high
    assert round(bars["bytes"].bars[0].value, 1) == 12.6


def test_cycles_add_up(sample: Run) -> None:
    view = cycles(sample)
    assert [one.pruned for one in view.cycles] == [7, 6, 5]
    assert [one.heads_left for one in view.cycles] == [41, 35, 31]
    assert view.cycles[-1].grown == 1
    assert view.cycles[0].recovered == pytest.approx((1.97 - 1.872) / 0.11)
    assert sorted(set(view.pruned_in.ravel().tolist())) == [0, 1, 2, 3]
    training = view.cycles[0].training
    assert training is not None
    assert training.steps == 80
    assert training.loss_per_100_steps is not None
    assert training.loss_per_100_steps < 0
    assert training.tokens_per_second == 11_800.0


def test_unknown_metrics_are_kept_and_counted(tmp_path: Path) -> None:
    many = {f"metric {number}": float(number) for number in range(30)}
    view = metrics(open_run(write_events(tmp_path / "r", [started(), ev.StepMetrics(step=1, metrics=many)])))
    assert len(view.panels) + view.left_out == 30
    assert view.panels[0].title == "metric 0"


def maps(model: str, patterns: np.ndarray) -> ev.AttentionMaps:
    return ev.AttentionMaps(prompt="p", tokens=("a", "b"), maps=patterns, model=model)


def test_attention_drift_is_zero_for_the_same_and_one_for_disjoint_patterns(tmp_path: Path) -> None:
    before = np.zeros((1, 3, 2, 2))
    before[..., 0] = 1.0
    after = before.copy()
    after[0, 1] = [[0.0, 1.0], [0.0, 1.0]]
    after[0, 2] = math.nan
    view = attention(
        open_run(write_events(tmp_path / "r", [started((1, 3)), maps("baseline", before), maps("pruned", after)]))
    )
    assert [one.drift for one in view.heads] == [0.0, 1.0, None]
    assert view.heads[2].patterns[1] is None
    assert view.heads[2].patterns[0] is not None


@pytest.mark.parametrize(
    ("strategy", "recorded", "shown"),
    [
        ("entropy", (-0.75, -0.5, 0.0), (0.75, 0.5, 0.0)),
        ("entropy", (0.5, 0.25, 0.75), (0.5, 0.25, 0.75)),  # a script that recorded what it measured
        ("fisher", (-1.0, -2.0, 0.0), (-1.0, -2.0, 0.0)),
    ],
)
def test_an_entropy_decision_shows_the_entropy(
    tmp_path: Path, strategy: str, recorded: tuple[float, ...], shown: tuple[float, ...]
) -> None:
    decision = ev.HeadsPruned(
        step=1, phase="pruning", cycle=1, heads=(HeadId(0, 0),), strategy=strategy, score=np.array([recorded]),
        threshold=recorded[0],
    )  # fmt: skip
    start = ev.RunStarted(name="one", shape=(1, 3), config={})
    with open_run(write_events(tmp_path / "run", [start, decision])) as run:
        (one,) = pruning(run).decisions
        (other,) = heads_history(snapshot(run), 10_000).decisions
    for each in (one, other):
        assert each.score is not None
        assert (each.score[0].tolist(), each.threshold) == (list(shown), shown[0])
