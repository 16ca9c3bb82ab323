"""Events as lines, numbers as text, the grid in characters: what the console says, without a console."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from neural_plasticity import events as ev
from neural_plasticity.heads import HeadId, HeadState
from neural_plasticity.render.headgrid import fit, grid_text
from neural_plasticity.render.lines import MOST_HEADS, lines
from neural_plasticity.render.live import LiveState, advance, live_view, sparkline
from neural_plasticity.views import figures
from neural_plasticity.views.headgrid import blank_states, head_grid, rank_fraction
from tests.sample_run import HOSTILE, SampleRun


def said(event: ev.Event) -> list[str]:
    return [line.plain for line in lines(event)]


def test_a_pruned_head_is_one_line_with_its_reason() -> None:
    reason = "entropy 0.97, rank 1 of 39, above threshold 0.93"
    event = ev.HeadsPruned(
        cycle=2, heads=(HeadId(3, 7),), strategy="entropy", level=0.1, reasons={"3.7": reason},
        loss_before=1.9, loss_after=1.95,
    )  # fmt: skip
    assert said(event) == [
        f"cycle 2 · pruned L3H7: {reason}",
        "cycle 2 · 1 head pruned by entropy at level 0.10; loss 1.900 → 1.950 (+0.050)",
    ]


def test_without_a_recorded_reason_score_rank_and_threshold_speak() -> None:
    score = np.array([[0.5, 0.25]])
    event = ev.HeadsPruned(heads=(HeadId(0, 1),), strategy="mine", score=score, rank=np.array([[1, 0]]), threshold=0.25)
    assert said(event)[0] == "pruned L0H1: score 0.250, rank 1 of 2, threshold 0.250"


def test_heads_kept_by_a_protection_are_said_too() -> None:
    event = ev.HeadsPruned(
        heads=(HeadId(0, 0),), strategy="gradient", protected=np.array([[False, True]]),
        reasons={"0.0": "rank 1", "0.1": "rank 2; kept: layer 0 would fall under 1 active head(s)"},
    )  # fmt: skip
    assert "kept L0H1: rank 2; kept: layer 0 would fall under 1 active head(s)" in said(event)


def test_heads_without_any_reason_are_named_in_one_line() -> None:
    """A training script may say no more than which heads; nothing is made up, and no line repeats that."""
    heads = (HeadId(0, 2), HeadId(1, 3))
    assert said(ev.HeadsPruned(heads=heads, strategy="")) == ["2 heads pruned: L0H2, L1H3"]
    assert said(ev.HeadsGrown(heads=heads, loss_before=2.0, loss_after=1.5)) == [
        "2 heads regrown: L0H2, L1H3; loss 2.000 → 1.500 (−0.500)"
    ]
    assert said(ev.HeadsPruned(heads=(), strategy="entropy")) == ["0 heads pruned by entropy"]
    some = said(ev.HeadsPruned(heads=heads, strategy="entropy", reasons={"0.2": "weak"}))
    assert some == ["pruned L0H2: weak", "pruned L1H3: no reason recorded", "2 heads pruned by entropy"]


def test_a_script_that_does_not_know_its_model_says_nothing_about_it() -> None:
    assert said(ev.RunStarted(name="mine", shape=(0, 0), config={})) == ["mine"]


def test_a_large_decision_is_cut_and_counts_what_it_leaves_out() -> None:
    heads = tuple(HeadId(0, head) for head in range(40))
    told = said(ev.HeadsPruned(heads=heads, strategy="random", rule="drawn at random"))
    assert len(told) == MOST_HEADS + 2
    assert told[-2:] == ["… and 28 more heads", "40 heads pruned by random"]


def test_a_heads_growth_says_its_evidence() -> None:
    event = ev.HeadsGrown(
        cycle=1, heads=(HeadId(1, 1),), strategy="benefit", reasons={"1.1": "interval 0.1 to 0.2 above 0"}
    )
    assert said(event)[0] == "cycle 1 · regrown L1H1: interval 0.1 to 0.2 above 0"


def test_recovery_is_said_at_the_end_of_fine_tuning() -> None:
    summary = {
        "loss_before_pruning": 1.8, "loss_after_pruning": 2.0, "loss_after_fine_tuning": 1.85,
        "recovered_fraction": 0.75,
    }  # fmt: skip
    (line,) = said(ev.PhaseEnded(phase="fine-tuning", cycle=1, seconds=12, summary=summary))
    assert line == (
        "cycle 1 · fine-tuning done in 12 s: "
        "loss 1.800 before pruning, 2.000 after, 1.850 now; 75 % of the damage recovered"
    )


def test_a_stable_loss_says_why() -> None:
    found = {"slope": -1e-4, "slope_low": -2e-4, "slope_high": 1e-4, "tolerance": 1e-3, "window": 40, "loss": 1.85}
    assert said(ev.Stabilised(step=60, **found, reason="it changes little")) == ["stable at step 60: it changes little"]
    (line,) = said(ev.Stabilised(step=60, **found))
    assert line.startswith("stable at step 60: loss 1.850, slope −0.00010 per step (interval −0.00020 to 0.00010), ")
    assert line.endswith("inside ±0.0010 over 40 steps")


def test_a_short_phase_with_nothing_to_report_ends_silently() -> None:
    assert said(ev.PhaseEnded(phase="pruning", seconds=0.4)) == []
    assert said(ev.PhaseEnded(phase="analysis", seconds=40)) == ["analysis done in 40 s"]


def test_a_simulated_run_says_so() -> None:
    assert any("Simulated" in line for line in said(next(SampleRun().events())))


def test_nan_losses_are_shown() -> None:
    event = ev.HeadsPruned(heads=(), strategy="x", loss_before=1.0, loss_after=math.nan)
    assert "1.000 → NaN" in said(event)[-1]


OUTSIDE = st.text(max_size=80) | st.sampled_from([HOSTILE, "[red]", "\x1b]0;x\x07", "\u202eabc", "\ud800", "a\r\nb"])


@given(OUTSIDE)
def test_outside_text_stays_one_line_of_text(text: str) -> None:
    told = [
        ev.RunStarted(name=text, shape=(1, 1), config={"seed": text}, model={"name": text}),
        ev.RunEnded(state="failed", reason=text),
        ev.PhaseStarted(phase=text, cycle=1),
        ev.TextSample(prompt=text, text=text, model=text),
        ev.LogLine(message=text, level="warning"),
        ev.HeadsPruned(heads=(HeadId(0, 0),), strategy=text, reasons={"0.0": text}, rule=text),
        ev.HeadScores(scores={text: np.ones((1, 1))}),
    ]
    for event in told:
        for line in lines(event):
            assert not any(char < " " or "\x7f" <= char <= "\x9f" for char in line.plain), line.plain
            assert "\u202e" not in line.plain
            line.plain.encode("utf-8")


def test_square_brackets_are_not_markup() -> None:
    (line,) = lines(ev.LogLine(message="[bold]not bold[/bold] [x]"))
    assert line.plain == "[bold]not bold[/bold] [x]"
    assert not line.spans


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (4.2, "4.2 s"), (9.99, "10 s"), (59.6, "1 min 00 s"), (130, "2 min 10 s"), (3900, "1 h 05 min"),
     (273_600, "3 d 4 h"), (None, "–"), (math.inf, "∞")],
)  # fmt: skip
def test_durations(seconds: float | None, text: str) -> None:
    assert figures.duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(8192, "8,192"), (12_582_912, "12.6 M"), (3_145_728, "3.15 M"), (999_960, "1.00 M"), (999_400, "999 k"),
     (70e9, "70.0 G"), (math.nan, "NaN"), (None, "–")],
)  # fmt: skip
def test_scaled_numbers(value: float | None, text: str) -> None:
    assert figures.scaled(value) == text


def test_signs_are_true_and_zero_has_none() -> None:
    assert figures.signed(-0.25) == "−0.250"
    assert figures.signed(0.25) == "+0.250"
    assert figures.plain(-0.0001) == "0.000"
    assert figures.change(-0.09) == "−9.0 %"
    assert figures.significant(7.74e-5) == "7.74e−05"


@given(st.floats(allow_nan=True, allow_infinity=True))
def test_every_number_can_be_written(value: float) -> None:
    for write in (figures.plain, figures.significant, figures.signed, figures.perplexity, figures.percent,
                  figures.change, figures.ratio, figures.scaled, figures.duration):  # fmt: skip
        assert write(value)


@given(st.lists(st.floats(), max_size=50), st.integers(0, 60))
def test_a_sparkline_never_outgrows_its_width_and_marks_what_is_not_finite(values: list[float], width: int) -> None:
    drawn = sparkline(values, width)
    assert len(drawn) == min(width, len(values))
    if width >= len(values):
        assert [char == "!" for char in drawn] == [not math.isfinite(value) for value in values]


def test_a_falling_loss_draws_a_falling_sparkline() -> None:
    assert sparkline([8, 7, 6, 5, 4, 3, 2, 1], 8) == "█▇▆▅▄▃▂▁"


@given(st.integers(1, 130), st.integers(1, 130), st.integers(30, 200), st.integers(3, 60))
def test_the_grid_fits_whatever_the_model(layers: int, heads: int, width: int, rows: int) -> None:
    layout = fit((layers, heads), width, rows)
    assert math.ceil(layers / layout.layers_per_cell) <= rows
    drawn = grid_text(head_grid(blank_states((layers, heads)), {}), width, rows)
    assert max(line.cell_len for line in drawn) <= width
    assert any("1 cell =" in line.plain for line in drawn) == layout.condensed


def test_states_are_told_apart_without_colour() -> None:
    states = np.array([[HeadState.ACTIVE, HeadState.PRUNED, HeadState.REGROWN, HeadState.ADDED, HeadState.ABSENT]])
    drawn = [line.plain for line in grid_text(head_grid(states.astype(np.int8), {}), 60, 10)]
    assert drawn[1].rstrip() == "L0 ██ ×× ◆◆ ✚✚"
    assert drawn[2] == "█ 1 active  × 1 pruned  ◆ 1 regrown  ✚ 1 added"


def test_importance_is_shaded_by_quarters_and_entropy_turned_round() -> None:
    scores = np.array([[0.1, 0.2, 0.3, 0.4]])
    by_gradient = grid_text(head_grid(blank_states((1, 4)), {"gradient": scores}), 60, 10)
    assert by_gradient[1].plain.split()[1:] == ["░░", "▒▒", "▓▓", "██"]
    by_entropy = grid_text(head_grid(blank_states((1, 4)), {"entropy": scores}), 60, 10)
    assert by_entropy[1].plain.split()[1:] == ["██", "▓▓", "▒▒", "░░"]


def test_a_condensed_cell_shows_the_share_that_is_active() -> None:
    states = blank_states((4, 40))
    states[:2, 1] = HeadState.PRUNED
    states[0, 2] = HeadState.PRUNED
    states[3, 3] = HeadState.REGROWN
    drawn = [line.plain for line in grid_text(head_grid(states, {}), 48, 2)]
    assert drawn[1].startswith("L0 █×▒█")
    assert drawn[2].startswith("L2 ███◆")
    assert "1 cell = 2 layers × 1 head" in drawn[3]


@given(st.lists(st.sampled_from([0.0, 1.0, 2.0, 3.0, math.nan]), min_size=1, max_size=12), st.data())
def test_rank_fraction_agrees_with_counting(values: list[float], data: st.DataObject) -> None:
    among = np.array([data.draw(st.lists(st.booleans(), min_size=len(values), max_size=len(values)))])
    fractions = rank_fraction(np.array([values]), among)[0]
    pool = [value for value, inside in zip(values, among[0], strict=True) if inside and not math.isnan(value)]
    for value, inside, fraction in zip(values, among[0], fractions, strict=True):
        if not inside or math.isnan(value):
            assert math.isnan(fraction)
        else:
            below, equal = sum(other < value for other in pool), sum(other == value for other in pool)
            assert fraction == pytest.approx((below + (equal - 1) / 2) / max(len(pool) - 1, 1))


@pytest.mark.parametrize(("width", "height"), [(80, 24), (120, 40), (40, 12), (200, 60)])
@pytest.mark.parametrize("shape", [(6, 8), (1, 1), (32, 32), (80, 64)])
def test_the_live_region_fits_the_terminal_at_every_moment(width: int, height: int, shape: tuple[int, int]) -> None:
    console = Console(width=width, height=height, force_terminal=True, color_system=None)
    state = LiveState()
    for number, event in enumerate(SampleRun(layers=shape[0], heads=shape[1], warmup_steps=8, tuning_steps=8).events()):
        state = advance(state, event)
        if number % 5 == 0:
            drawn = console.render_lines(live_view(state, width, height), pad=False)
            assert max(sum(segment.cell_length for segment in line) for line in drawn) <= width
            assert len(drawn) < max(height, 20)


def test_the_loss_of_a_new_phase_starts_a_new_sparkline() -> None:
    state = LiveState()
    for loss in (9.0, 8.0):
        state = advance(state, ev.StepMetrics(phase="warmup", metrics={"loss": loss}))
    state = advance(state, ev.StepMetrics(phase="fine-tuning", cycle=1, metrics={"loss": 2.0}))
    state = advance(state, ev.StepMetrics(phase="fine-tuning", cycle=1, metrics={"validation_loss": 3.0}))
    assert state.losses == (2.0,)
    assert state.latest == {"loss": 2.0, "validation_loss": 3.0}
