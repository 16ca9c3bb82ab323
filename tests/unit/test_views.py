"""View models of a run: what they hold, that thinning keeps every extreme, and that wording follows the evidence."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from neural_plasticity import events as ev
from neural_plasticity.heads import HeadId, HeadState
from neural_plasticity.record import open_run
from neural_plasticity.views import palette, story
from neural_plasticity.views.headgrid import grid_at
from neural_plasticity.views.overview import overview
from neural_plasticity.views.results import results_table, verdicts
from neural_plasticity.views.timeline import timeline
from tests.sample_run import SampleRun, model_figures, write_events


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_events(tmp_path_factory.mktemp("views") / "run", SampleRun().events())


def test_overview_of_a_finished_run(sample: Path) -> None:
    view = overview(open_run(sample))
    assert (view.name, view.state, view.simulated) == ("sample-run", "finished", True)
    shown = {figure.label: (figure.value, figure.note) for figure in view.figures}
    assert shown["perplexity"] == ("6.58", "no measurable difference · baseline 6.51 · control 6.31")
    assert shown["heads removed"] == ("25 %", "12 of 48, 1 regrown")
    assert shown["measured speed, prefill"] == ("1.06×", "decode 1.01×")


def test_overview_of_a_running_run_compares_with_validation_before_pruning(tmp_path: Path) -> None:
    def at(step: int, loss: float) -> ev.StepMetrics:
        return ev.StepMetrics(step=step, phase="warmup", metrics={"validation_loss": loss})

    pruned = ev.HeadsPruned(step=10, heads=(HeadId(0, 0),), strategy="gradient")
    started = ev.RunStarted(name="r", shape=(2, 2), config={})
    progress = ev.Progress(step=20, phase="fine-tuning", done=1, planned=9, run_fraction=0.5, seconds_left=130.0)
    run = open_run(
        write_events(tmp_path / "r", [started, at(0, 3.0), at(10, 2.0), pruned, at(20, 2.0 + math.log(1.1)), progress])
    )
    view = overview(run)
    assert view.state == "running"
    assert "about 2 min 10 s left" in view.sentence
    assert view.figures[0].note == "+10.0 % · before pruning 7.39, validation text"
    assert view.figures[2].note == "not measured yet"


def test_overview_of_a_run_that_has_said_nothing(tmp_path: Path) -> None:
    view = overview(open_run(write_events(tmp_path / "quiet", [])))
    assert view.name == "quiet"
    assert [figure.value for figure in view.figures] == ["–"] * 4


def test_timeline_has_every_phase_and_decision(sample: Path) -> None:
    view = timeline(open_run(sample))
    one_cycle = ["analysis", "pruning", "fine-tuning"]
    assert [span.phase for span in view.spans] == ["warmup", *one_cycle, *one_cycle, "evaluation"]
    assert [mark.kind for mark in view.marks] == ["stable", "pruned", "pruned", "regrown"]
    assert [(one.name, one.total) for one in view.series] == [("loss", 280), ("validation_loss", 28)]
    assert (view.first, view.last) == (0, 285)


def test_timeline_reaches_over_all_that_was_measured(tmp_path: Path) -> None:
    events = [
        ev.StepMetrics(step=100, metrics={"accuracy": 0.5}),
        ev.HeadsPruned(step=110, heads=(HeadId(0, 0),), strategy="x"),
        ev.StepMetrics(step=130, metrics={"accuracy": 0.6}),
        ev.HeadScores(step=140, scores={"entropy": np.ones((1, 1))}),
    ]
    view = timeline(open_run(write_events(tmp_path / "r", events)))
    assert (view.first, view.last) == (100, 140)


def test_timeline_of_nothing_is_empty(tmp_path: Path) -> None:
    assert timeline(open_run(write_events(tmp_path / "r", []))).empty


def test_grid_at_a_step_knows_only_what_was_known_then(sample: Path) -> None:
    run = open_run(sample)
    first = run.decisions()[0]
    before, after, last = (grid_at(run, step) for step in (first.step - 1, first.step, None))
    assert before is not None
    assert after is not None
    assert last is not None
    assert before.counts == {HeadState.ACTIVE: 48}
    assert after.counts == {HeadState.ACTIVE: 41, HeadState.PRUNED: 7}
    assert last.counts == {HeadState.ACTIVE: 35, HeadState.PRUNED: 12, HeadState.REGROWN: 1}
    assert last.criterion == "gradient"
    assert np.isnan(last.importance[last.states == HeadState.PRUNED]).all()
    warm_up = grid_at(run, 5)
    assert warm_up is not None
    assert warm_up.criterion == ""


def test_grid_before_the_shape_is_known(tmp_path: Path) -> None:
    assert grid_at(open_run(write_events(tmp_path / "r", []))) is None


def test_decisions_have_a_row_per_head_with_its_reason(sample: Path) -> None:
    told = story.decisions(open_run(sample))
    assert [(one.outcome, len(one.rows)) for one in told] == [("pruned", 7), ("pruned", 6), ("regrown", 1)]
    assert told[0].rows[0].rank == "1"
    assert told[0].rows[0].reason.endswith("rank 1 of 48, up to threshold 0.0053")
    assert told[0].title == "7 heads pruned by gradient at level 0.15, loss 1.860 → 1.970 (+0.110)"


def test_samples_line_up_by_prompt_and_keep_gaps(tmp_path: Path) -> None:
    said = [
        ev.TextSample(prompt="a", text="old", model="pruned"),
        ev.TextSample(prompt="a", text="new", model="pruned"),
        ev.TextSample(prompt="a", text="base", model="baseline"),
        ev.TextSample(prompt="b", text="mine", model="other"),
    ]
    view = story.samples(open_run(write_events(tmp_path / "r", said)))
    assert view.models == ("baseline", "pruned", "other")
    assert [(row.prompt, row.texts) for row in view.rows] == [("a", ("base", "new", None)), ("b", (None, None, "mine"))]


def compared(**comparison: float) -> dict[str, dict[str, float]]:
    return {"baseline": model_figures(1.9, 0.0), "pruned": model_figures(1.9, 0.2), "comparison": comparison}


@pytest.mark.parametrize(
    ("difference", "low", "high", "begins"),
    [
        (0.004, -0.006, 0.013, "No measurable difference in loss to the baseline"),
        (0.020, 0.010, 0.030, "Measurably worse: higher loss than the baseline"),
        (-0.020, -0.030, -0.010, "Measurably better: lower loss than the baseline"),
        (math.nan, math.nan, math.nan, "Loss against the baseline: NaN; no comparison is possible"),
    ],
)
def test_the_verdict_follows_the_interval(difference: float, low: float, high: float, begins: str) -> None:
    said = verdicts(compared(loss_difference=difference, loss_difference_low=low, loss_difference_high=high))
    assert said[0].startswith(begins)


def test_a_difference_without_an_interval_is_no_evidence() -> None:
    assert verdicts(compared(loss_difference=0.5))[0].endswith("without an interval: no evidence of a difference.")


def test_an_improvement_without_a_control_is_not_credited_to_pruning() -> None:
    better = {"loss_difference": -0.1, "loss_difference_low": -0.2, "loss_difference_high": -0.05}
    assert any("No control ran" in sentence for sentence in verdicts(compared(**better)))
    with_control = verdicts(compared(**better, loss_difference_to_control=0.0))
    assert not any("No control ran" in sentence for sentence in with_control)


def test_speed_is_claimed_only_when_it_is_measurable() -> None:
    (said,) = verdicts(compared(prefill_speedup=1.30, decode_speedup=1.005))
    assert said == "Measured speed of the compacted model: prefill 1.30×, decode 1.00× (no measurable difference)."
    (said,) = verdicts(compared(prefill_speedup=1.30, prefill_speedup_low=0.9, prefill_speedup_high=1.7))
    assert "prefill 1.30× (no measurable difference)" in said


def test_a_speed_up_inside_the_spread_of_its_repeats_is_none() -> None:
    results = compared(prefill_speedup=1.10)
    results["baseline"] |= {"prefill_ms": 40.0, "prefill_ms_spread": 8.0}
    assert "no measurable difference" in verdicts(results)[0]
    results["baseline"] |= {"prefill_ms_spread": 1.0}
    assert "no measurable difference" not in verdicts(results)[0]


def test_figures_of_a_users_own_evaluation_get_a_row() -> None:
    results = {"baseline": {"loss": 1.0, "my_score": 0.5}, "pruned": {"loss": 1.0, "my_score": 0.25}}
    row = results_table(ev.Evaluation(results=results)).rows[-1]
    assert (row.label, [cell.text for cell in row.cells], row.change) == ("my score", ["0.500", "0.250"], "−0.250")


def test_the_table_leaves_out_what_no_model_has_and_marks_what_one_lacks() -> None:
    results = {"baseline": {"loss": 1.0, "loss_low": 0.9, "loss_high": 1.1}, "pruned": {"loss": 2.0, "perplexity": 7.4}}
    table = results_table(ev.Evaluation(results=results))
    assert [row.key for row in table.rows] == ["loss", "perplexity"]
    assert table.rows[0].cells[0].interval == "0.900–1.100"
    assert [cell.text for cell in table.rows[1].cells] == ["–", "7.40"]
    assert table.rows[0].change == "+1.000"
    assert results_table(None).empty


def test_the_palette_knows_every_phase_and_stays_readable() -> None:
    assert set(palette.PHASE_COLOURS) == set(ev.PHASES)
    assert len(set(palette.PHASE_COLOURS.values())) == len(ev.PHASES)
    lightness = [int(c[1:3], 16) * 0.2126 + int(c[3:5], 16) * 0.7152 + int(c[5:], 16) * 0.0722 for c in palette.CIVIDIS]
    assert lightness == sorted(lightness)
    assert palette.importance_colour(0.0) == palette.CIVIDIS[0]
    assert palette.importance_colour(2.0) == palette.CIVIDIS[-1]
    assert palette.ink_on("#FFFFFF") == "#000000"
    assert palette.ink_on("#00224E") == "#FFFFFF"
