"""Views over a whole run: curves and their clock, heads, attention, growth, samples, events. Equal to the record."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from neural_plasticity import events as ev
from neural_plasticity.heads import HeadId, HeadState
from neural_plasticity.record import RecordWriter, Run, open_run
from neural_plasticity.record.snapshot import Snapshot, snapshot
from neural_plasticity.views.attention_evolution import NO_PATTERN, attention_evolution
from neural_plasticity.views.curves import clock, clock_set_back, curve, curves
from neural_plasticity.views.cycles import cycles
from neural_plasticity.views.growth import growth
from neural_plasticity.views.happenings import raw_events, recent
from neural_plasticity.views.heads_history import heads_history, moments
from neural_plasticity.views.pruning import pruning
from neural_plasticity.views.texts import all_samples, log, settings
from tests.sample_run import SampleRun, write_events


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return open_run(write_events(tmp_path_factory.mktemp("history") / "run", SampleRun().events()))


def run_of(tmp_path: Path, *events: ev.Event, shape: tuple[int, int] = (2, 3)) -> Run:
    return open_run(write_events(tmp_path / "run", [ev.RunStarted(name="r", shape=shape, config={}), *events]))


# Curves ----------------------------------------------------------------------------------------------------------


def test_every_metric_has_its_curve_with_label_and_chart(sample: Run) -> None:
    view = curves(sample)
    assert view.exact
    assert {one.name for one in view.series} == set(sample.metrics())
    assert [one.name for one in view.series][:3] == ["loss", "validation_loss", "perplexity"]
    assert (view.series[0].label, view.series[0].group, view.series[0].unit) == (
        "training loss",
        "Loss",
        "nats per token",
    )
    for one in view.series:
        steps, values = sample.series(one.name)
        np.testing.assert_array_equal(one.steps, steps)
        np.testing.assert_array_equal(one.values, values)


def test_a_window_is_exact_with_a_neighbour_on_either_side(tmp_path: Path) -> None:
    run = run_of(tmp_path, *(ev.StepMetrics(step=step, metrics={"loss": float(step)}) for step in range(0, 10_000, 2)))
    whole = curve(run, "loss", most=500)
    assert (len(whole.steps), whole.total) == (500, 5_000)
    zoomed = curve(run, "loss", 101, 201, most=500)
    assert zoomed.steps.tolist() == list(range(100, 204, 2))
    assert zoomed.total == len(zoomed.steps)
    assert not curves(run, 500).exact


def test_a_thinned_curve_has_the_means_of_what_was_recorded(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(5, 1, 10_007)
    values[[3, 7_000]] = math.nan, 1e308
    values[5_000:5_010] = math.inf
    run = run_of(tmp_path, *(ev.StepMetrics(step=2 * n, metrics={"loss": v}) for n, v in enumerate(values.tolist())))
    means = curves(run, 4_000).series[0].means
    assert means is not None
    assert means.width == 6
    for place, (step, mean) in enumerate(zip(means.steps, means.values, strict=True)):
        part = values[6 * place : 6 * place + 6]
        part = part[np.isfinite(part)]
        assert mean == pytest.approx(part.mean() if part.size else math.nan, nan_ok=True)
        assert 12 * place <= step < 12 * place + 12
    assert curves(run, 20_000).series[0].means is None


def timed(run_dir: Path, times: list[float]) -> Run:
    """A record whose events came at these times, one step each."""
    with RecordWriter.create(run_dir) as writer:
        writer.append_many(ev.StepMetrics(step=step, metrics={"loss": 1.0}) for step in range(len(times)))
    with sqlite3.connect(run_dir / "run.sqlite") as connection:
        connection.executemany("UPDATE recorded SET time = ? WHERE step = ?", [(t, n) for n, t in enumerate(times)])
    connection.close()
    return open_run(run_dir)


def test_the_clock_maps_steps_to_time_and_never_goes_back(tmp_path: Path) -> None:
    run = timed(tmp_path / "a", [100.0, 101.0, 50.0, 51.0, 60.0])
    view = clock(run)
    assert view.steps.tolist() == [0, 1, 2, 3, 4]
    assert view.seconds.tolist() == [100.0, 101.0, 101.0, 102.0, 111.0]
    assert clock_set_back(run) == 51.0


def test_a_long_clock_is_short_and_keeps_its_ends(tmp_path: Path) -> None:
    view = clock(timed(tmp_path / "a", [float(n) for n in range(9_000)]))
    assert len(view.steps) <= 4_100
    np.testing.assert_array_equal(view.steps, view.seconds)
    assert view.steps[[0, -1]].tolist() == [0, 8_999]


# Heads -----------------------------------------------------------------------------------------------------------


def test_heads_are_those_of_the_record_at_every_moment(sample: Run) -> None:
    view = heads_history(sample)
    assert view.shape == (6, 8)
    assert view.thinned is None
    assert [one.name for one in view.criteria] == ["entropy", "gradient"]
    for criterion in view.criteria:
        for step, grid in zip(criterion.steps, criterion.values, strict=True):
            np.testing.assert_array_equal(grid, sample.scores(criterion.name, int(step)).astype(np.float32))
        assert criterion.low == np.nanmin(criterion.values)
    for step, grid in zip(view.states.steps, view.states.grids, strict=True):
        np.testing.assert_array_equal(grid, sample.heads(int(step)))
    assert view.states.cycles.tolist() == [0, 1, 2, 2]
    assert [one.kind for one in view.decisions] == ["pruned", "pruned", "regrown"]
    first, event = view.decisions[0], sample.decisions()[0]
    assert isinstance(event, ev.HeadsPruned)
    assert [tuple(head) for head in first.heads.tolist()] == list(event.heads)
    assert (first.reasons, first.threshold, first.score_label) == (
        event.reasons,
        event.threshold,
        "Gradient importance",
    )
    np.testing.assert_array_equal(first.rank, event.rank)


def test_too_many_measurements_keep_ends_and_those_around_decisions(tmp_path: Path) -> None:
    def events() -> Iterator[ev.Event]:
        for step in range(200):
            if step == 77:
                yield ev.HeadsPruned(step=step, heads=(HeadId(0, 1),), strategy="gradient")
            yield ev.HeadScores(step=step, scores={"gradient": np.full((2, 3), float(step))})

    view = heads_history(run_of(tmp_path, *events()), most_scores=6 * 20)
    steps = view.criteria[0].steps.tolist()
    assert len(steps) == 20
    assert {0, 76, 77, 199} <= set(steps)
    assert view.thinned is not None
    assert "20 of 200 measurements" in view.thinned
    assert view.criteria[0].values[:, 0, 0].tolist() == steps


def test_moments_of_hardly_any_room_are_first_and_last(sample: Run) -> None:
    places = snapshot(sample).places(ev.StepMetrics)
    assert moments(places, [places[9].seq], 2) == [places[0], places[-1]]


def test_grids_of_other_shapes_and_added_heads_fit_one_shape(tmp_path: Path) -> None:
    run = run_of(
        tmp_path,
        ev.HeadScores(step=1, scores={"mine": np.ones((2, 3)), "flat": np.ones(4)}),
        ev.HeadsGrown(step=2, heads=(HeadId(1, 4),), origin="added"),
        ev.HeadScores(step=3, scores={"mine": np.ones((2, 5))}),
        ev.HeadsPruned(step=4, heads=(HeadId(1, 4),), strategy="x", score=np.ones((1, 1)), rank=np.zeros((2, 5), int)),
    )
    view = heads_history(run)
    assert view.shape == (2, 5)
    assert view.criteria[0].values.shape == (2, 2, 5)
    assert np.isnan(view.criteria[0].values[0, :, 3:]).all()
    assert view.states.grids[:, 1, 4].tolist() == [HeadState.ABSENT, HeadState.ADDED, HeadState.PRUNED]
    assert view.decisions[1].score is not None
    assert view.decisions[1].score.shape == (2, 5)


def test_many_decisions_keep_what_they_changed_and_the_latest_keep_everything(tmp_path: Path) -> None:
    reasons = {f"{layer}.{head}": "lowest" for layer in range(30) for head in range(30)}
    grid = np.ones((30, 30))
    events = [
        ev.HeadsPruned(step=step, heads=(HeadId(step, 0),), strategy="s", score=grid, reasons=reasons)
        for step in range(30)
    ]
    run = run_of(tmp_path, *events, shape=(30, 30))
    view = heads_history(run)
    assert [set(one.reasons) for one in view.decisions[:2]] == [{"0.0"}, {"1.0"}]
    assert view.decisions[0].score is None
    assert view.decisions[-1].reasons == reasons
    assert view.decisions[-1].score is not None
    assert view.thinned == "Score, rank and reason of every head: for the last 22 of 30 decisions."
    told = pruning(run, most_cells=900 * 4)
    assert [one.step for one in told.decisions] == [0, 27, 28, 29]
    assert told.left_out == 26
    for one in told.decisions:
        np.testing.assert_array_equal(one.states, run.heads(one.step - 1))
    assert len(pruning(run).decisions) == 30


@pytest.mark.parametrize("order", [(1, 2, 3), (2, 1, 3)])
def test_cycles_know_the_heads_at_their_end_in_any_order(order: tuple[int, ...], tmp_path: Path) -> None:
    events = [
        ev.HeadsPruned(step=step, cycle=cycle, heads=(HeadId(0, step),), strategy="s")
        for step, cycle in enumerate(order)
    ]
    assert [one.heads_left for one in cycles(run_of(tmp_path, *events)).cycles] == [5, 4, 3]


# Attention -------------------------------------------------------------------------------------------------------


def maps(seed: int, layers: int = 2, heads: int = 3, side: int = 4) -> np.ndarray:
    raw = np.tril(np.random.default_rng(seed).random((layers, heads, side, side))) + 1e-12
    return raw / raw.sum(-1, keepdims=True)


def look(step: int, patterns: np.ndarray, prompt: str = "p", **more: object) -> ev.AttentionMaps:
    tokens = tuple("abcdefgh"[: patterns.shape[-1]])
    return ev.AttentionMaps(step=step, prompt=prompt, tokens=tokens, maps=patterns, **more)  # type: ignore[arg-type]


def test_patterns_are_quantised_within_the_error_said_and_drift_is_measured(tmp_path: Path) -> None:
    second = maps(1)
    second[0, 0] = np.nan
    run = run_of(tmp_path, look(0, maps(0)), look(5, second), look(9, maps(0)))
    (prompt,) = attention_evolution(run).prompts
    assert [take.step for take in prompt.takes] == [0, 5, 9]
    for take, exact in zip(prompt.takes, (maps(0), second, maps(0)), strict=True):
        flat = exact.reshape(-1, 4, 4)
        assert ((take.maps == NO_PATTERN) == np.isnan(flat)).all()
        seen = ~np.isnan(flat)
        assert np.abs(take.maps[seen] / 254 - flat[seen]).max() <= take.error <= 0.5 / 254 + 1e-9
    np.testing.assert_allclose(prompt.takes[0].drift, 0, atol=1e-6)
    np.testing.assert_allclose(prompt.takes[2].drift, 0, atol=1e-6)
    assert math.isnan(prompt.takes[1].drift[0])
    before, after = maps(0)[1, 2], second[1, 2]
    middle = (before + after) / 2
    expected = 0.5 * sum((one * np.log2(one / middle)).sum(-1).mean() for one in (before, after))
    assert prompt.takes[1].drift[5] == pytest.approx(expected, abs=1e-6)


def test_attention_beyond_its_budget_keeps_every_layer_and_what_changed(tmp_path: Path) -> None:
    moved = maps(0)
    moved[1, 2] = maps(7)[1, 2]
    view = attention_evolution(run_of(tmp_path, look(0, maps(0)), look(1, moved)), most_bytes=2 * 2 * 16)
    assert view.prompts[0].takes[0].heads.tolist() in ([[0, 0], [1, 2]], [[0, 1], [1, 2]], [[0, 2], [1, 2]])
    assert view.thinned is not None
    assert "2 of 6 heads" in view.thinned


def test_single_heads_and_prompts_of_different_length(tmp_path: Path) -> None:
    run = run_of(
        tmp_path,
        look(0, maps(0)[0, :1], heads=(HeadId(0, 2),)),
        look(1, maps(1, side=6)),
        look(2, maps(3), prompt="q"),
        look(3, np.empty((0, 0, 4, 4)), prompt="nothing"),
    )
    view = attention_evolution(run)
    assert [(one.prompt, [take.maps.shape for take in one.takes]) for one in view.prompts] == [
        ("p", [(1, 4, 4), (6, 4, 4)]),
        ("q", [(6, 4, 4)]),
    ]
    assert attention_evolution(run_of(tmp_path / "none")).empty


# Growth and what is read -----------------------------------------------------------------------------------------


def test_growth_tells_when_a_head_had_gone_and_whether_it_lasted(tmp_path: Path) -> None:
    grid = np.full((2, 3), 0.25)
    run = run_of(
        tmp_path,
        ev.HeadsPruned(step=1, heads=(HeadId(0, 1), HeadId(1, 1)), strategy="s"),
        ev.HeadsGrown(step=5, heads=(HeadId(0, 1), HeadId(1, 1)), score=grid, reasons={"0.1": "benefit"}, cycle=1),
        ev.HeadsPruned(step=9, heads=(HeadId(0, 1),), strategy="s"),
        ev.HeadsGrown(step=12, heads=(HeadId(1, 3),), origin="added"),
    )
    view = growth(run)
    told = [(one.layer, one.head, one.pruned_step, one.pruned_again_step, one.score) for one in view.returns]
    assert told == [(0, 1, 1, 9, 0.25), (1, 1, 1, None, 0.25), (1, 3, None, None, None)]
    assert view.lasting == 2
    assert growth(run_of(tmp_path / "none")).empty


def test_samples_are_all_there_and_too_many_keep_the_first_and_the_latest(sample: Run, tmp_path: Path) -> None:
    assert [one.text for one in all_samples(sample).rows] == [one.text for one in sample.samples()]
    said = [ev.TextSample(step=step, prompt="p", text="x" * 9) for step in range(100)]
    view = all_samples(run_of(tmp_path, *said), most_characters=50)
    assert [one.step for one in view.rows] == [0, 96, 97, 98, 99]
    assert view.left_out == 95


def test_settings_and_log(sample: Run, tmp_path: Path) -> None:
    titles = {one.title: dict(one.pairs) for one in settings(sample)}
    assert titles["Configuration"]["pruning_strategy"] == "gradient"
    assert titles["Configuration"]["control"] == "yes"
    run = run_of(tmp_path, *(ev.LogLine(message=str(number)) for number in range(30)))
    assert [one.message for one in log(run, 3).lines] == ["27", "28", "29"]
    assert log(run, 3).total == 30


def test_raw_events_page_backwards_and_by_kind(sample: Run) -> None:
    last = sample.last_seq
    view = raw_events(sample, 10)
    assert [one.seq for one in view.rows] == list(range(last - 9, last + 1))
    assert view.total == last
    earlier = raw_events(sample, 10, before=view.rows[0].seq)
    assert earlier.rows[-1].seq == view.rows[0].seq - 1
    pruned = raw_events(sample, 10, kind="heads_pruned")
    assert [one.kind for one in pruned.rows] == ["heads_pruned"] * 2
    assert pruned.total == 2
    assert pruned.rows[0].text.startswith("7 heads pruned by gradient at level 0.15")
    metric = raw_events(sample, 1, kind="metrics").rows[0]
    assert metric.text == "loss 1.87282, tokens_per_second 11800, learning_rate 0.0003, sparsity 0.2775"


def test_every_kind_of_event_has_its_line(tmp_path: Path) -> None:
    events: list[ev.Event] = [
        ev.Progress(done=1, planned=9, run_fraction=0.5, seconds_left=60), ev.PhaseStarted(phase="x"),
        ev.PhaseEnded(phase="x", seconds=3, reason="so", summary={"loss": math.nan}), look(0, maps(0, 8, 8, 8)),
        ev.Embedding(name="e", vectors=np.ones((300, 64))), ev.TextSample(prompt="p\n", text="t" * 999),
        ev.LogLine(message="m"), ev.Annotation(tags=("a",), note="n"),
        ev.Evaluation(results={"baseline": {"perplexity": 2.0}}),
        ev.Stabilised(slope=0, slope_low=0, slope_high=0, tolerance=1, window=3, loss=2), ev.RunEnded(state="stopped"),
    ]  # fmt: skip
    lines = [one.text for one in raw_events(run_of(tmp_path, *events)).rows]
    assert lines[1] == "1 of 9 steps, run 50 %, about 1 min 00 s left"
    assert lines[3] == "3.0 s; so; loss NaN"
    assert lines[4] == "current: “p”, 8 × 8 × 8 × 8"
    assert lines[5] == "e, 300 × 64"
    assert lines[9] == "Evaluated; baseline perplexity 2.00"
    assert all(line and line.isprintable() for line in lines)


def test_recent_is_what_somebody_who_comes_back_wants_to_know(sample: Run, tmp_path: Path) -> None:
    told = recent(sample)
    assert len(told) == 8
    assert (told[-1].kind, told[-1].title) == ("run_ended", "Run finished")
    regrown = next(one for one in told if one.kind == "regrown")
    assert regrown.title.startswith("1 head regrown by signed benefit")
    assert regrown.detail.endswith("interval above 0")
    noisy = [ev.LogLine(message="careful", level="warning"), *(ev.LogLine(message="x") for _ in range(50))]
    assert [one.title for one in recent(run_of(tmp_path, *noisy))] == ["Run started", "warning: careful"]


# One moment ------------------------------------------------------------------------------------------------------


def test_a_snapshot_does_not_see_what_comes_later(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    with RecordWriter.create(run_dir) as writer:
        writer.append(ev.RunStarted(name="r", shape=(1, 2), config={}))
        writer.append(ev.StepMetrics(step=1, metrics={"loss": 1.0}))
        now = snapshot(open_run(run_dir))
        writer.append(ev.StepMetrics(step=2, metrics={"loss": 2.0, "new": 1.0}))
        writer.append(ev.HeadsPruned(step=2, heads=(HeadId(0, 0),), strategy="s"))
        assert (now.last_seq, now.metrics(), now.decisions()) == (2, ("loss",), [])
        assert now.series("loss")[0].tolist() == [1]
        assert now.last_value("loss") == 1.0
        assert now.summary().step == 1
        assert raw_events(now).total == 2
    assert isinstance(now, Snapshot)
    assert snapshot(now) is now


def test_a_resumed_run_shows_its_history_and_every_raw_event(tmp_path: Path) -> None:
    run_dir = write_events(
        tmp_path / "run",
        [
            ev.RunStarted(name="r", shape=(1, 2), config={}),
            *(ev.StepMetrics(step=n, metrics={"loss": 1.0}) for n in range(9)),
        ],
    )
    with RecordWriter.reopen(run_dir, step=5) as writer:
        writer.append_many(ev.StepMetrics(step=n, metrics={"loss": 2.0}) for n in range(5, 7))
    run = open_run(run_dir)
    (loss,) = curves(run).series
    assert list(zip(loss.steps, loss.values, strict=True)) == [*((n, 1.0) for n in range(5)), (5, 2.0), (6, 2.0)]
    assert [one.attempt for one in raw_events(run).rows] == [1] * 10 + [2] * 2
    assert clock(run).steps.tolist() == list(range(7)) or clock(run).steps.tolist() == [0, *range(7)]
