"""The simulated experiment: seeded, complete, and true to itself in every event that the views are made of."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neural_plasticity import events as ev
from neural_plasticity.dashboard.demo_events import simulate
from neural_plasticity.errors import ConfigError
from neural_plasticity.events import EVENT_TYPES, PHASES, Event
from neural_plasticity.heads import HeadState
from neural_plasticity.record import RecordWriter, open_run
from tests.unit.test_events_roundtrip import same

SEEDS = (0, 1, 2)


def of(kind: type[Event], events: list[Event]) -> list[Event]:
    return [event for event in events if isinstance(event, kind)]


@pytest.fixture(scope="module", params=SEEDS)
def run(request: pytest.FixtureRequest) -> list[Event]:
    return list(simulate(request.param))


def test_the_same_seed_gives_the_same_events_and_another_one_others() -> None:
    first, again, other = (list(simulate(seed)) for seed in (0, 0, 1))
    assert len(first) == len(again)
    assert all(same(one, two) for one, two in zip(first, again, strict=True))
    assert not all(same(one, two) for one, two in zip(first, other, strict=False))


def test_every_kind_of_event_and_every_phase_comes_to_pass(run: list[Event]) -> None:
    # What a person adds afterwards, and what a run that finds its own end says.
    others = {"annotation", "cycle_judged", "state_restored"}
    assert {event.kind for event in run} == set(EVENT_TYPES) - others
    assert {event.phase for event in run if event.phase} == set(PHASES)
    assert [type(run[0]), type(run[-1])] == [ev.RunStarted, ev.RunEnded]
    assert {event.origin for event in of(ev.HeadsGrown, run)} == {"regrown", "added"}
    assert {event.model for event in of(ev.TextSample, run)} == {"baseline", "current", "pruned", "control"}


def test_it_says_that_it_is_simulated(run: list[Event]) -> None:
    started = run[0]
    assert isinstance(started, ev.RunStarted)
    assert started.simulated
    assert all("simulated" in name for name in (started.name, started.model["name"], started.data["name"]))


def test_coordinates_never_go_back_and_progress_ends_at_the_end(run: list[Event]) -> None:
    assert all(one.step <= two.step and one.cycle <= two.cycle for one, two in pairwise(run))
    progress = [(event.run_fraction, event.seconds_left) for event in of(ev.Progress, run)]
    assert progress == sorted(progress, key=lambda one: one[0])
    assert progress[-1] == pytest.approx((1.0, 0.0), abs=1e-6)


def test_the_heads_follow_from_the_decisions_and_each_has_its_reason(run: list[Event]) -> None:
    active = np.ones(run[0].shape, dtype=bool)
    for event in run:
        if isinstance(event, ev.HeadsPruned):
            places = [event.rank[head] for head in event.heads]
            assert all(active[head] for head in event.heads)
            assert max(event.score[head] for head in event.heads) == event.threshold
            assert max(places) < (event.rank >= 0).sum() + event.protected.sum()
            assert {f"{head.layer}.{head.head}" for head in event.heads} <= set(event.reasons)
            assert event.loss_after > event.loss_before
            for head in event.heads:
                active[head] = False
        elif isinstance(event, ev.HeadsGrown):
            if event.origin == "added":
                active = np.pad(active, ((0, 0), (0, 1)))
            assert not any(active[head] for head in event.heads)
            assert {f"{head.layer}.{head.head}" for head in event.heads} == set(event.reasons)
            for head in event.heads:
                active[head] = True
        elif isinstance(event, ev.HeadScores) and event.phase == "growth":
            assert not any((np.isfinite(scores) & active).any() for scores in event.scores.values())
        elif isinstance(event, ev.HeadScores):
            assert all((np.isfinite(scores) == active).all() for scores in event.scores.values())
        elif isinstance(event, ev.AttentionMaps):
            _check_maps(event, np.ones(run[0].shape, dtype=bool) if event.model == "control" else active)


def _check_maps(event: ev.AttentionMaps, active: np.ndarray) -> None:
    length = len(event.tokens)
    assert "".join(event.tokens) == event.prompt
    assert event.maps.shape == (*active.shape, length, length)
    assert np.isnan(event.maps[~active]).all()
    shown = event.maps[active].astype(float)
    np.testing.assert_allclose(shown.sum(-1), 1.0, atol=event.error * length)
    assert (shown[:, ~np.tri(length, dtype=bool)] == 0).all()


def test_the_record_agrees_about_the_heads(tmp_path: Path) -> None:
    events = list(simulate(0))
    with RecordWriter.create(tmp_path) as record:
        record.append_many(events)
    with open_run(tmp_path) as run:
        states = run.heads()
    last = [event for event in of(ev.HeadScores, events) if event.phase == "analysis"][-1].scores["gradient"]
    assert states.shape == last.shape
    assert (states == HeadState.ADDED).sum() == 1
    assert (states == HeadState.REGROWN).sum() >= 1


def test_pruning_costs_training_heals_and_intervals_hold_their_figure(run: list[Event]) -> None:
    healed = [e.summary for e in of(ev.PhaseEnded, run) if e.phase == "fine-tuning"]
    assert all(one["loss_after_pruning"] > one["loss_after_fine_tuning"] for one in healed)
    for event in of(ev.Evaluation, run):
        for figures in event.results.values():
            for name, value in figures.items():
                if f"{name}_low" in figures:
                    assert figures[f"{name}_low"] < value < figures[f"{name}_high"]
    last = of(ev.Evaluation, run)[-1].results
    assert last["control"]["loss"] < last["pruned"]["loss"]
    difference = last["pruned"]["loss"] - last["baseline"]["loss"]
    assert last["comparison"]["loss_difference"] == pytest.approx(difference)
    assert last["pruned"]["sparsity"] == pytest.approx(of(ev.StepMetrics, run)[-2].metrics["sparsity"])


@given(
    seed=st.integers(0, 50),
    cycles=st.integers(1, 3),
    layers=st.integers(1, 4),
    heads=st.integers(1, 12),
    level=st.floats(0.05, 0.6),
    steps=st.integers(1, 4),
)
def test_any_size_plays_to_its_end_or_is_refused_at_once(
    seed: int, cycles: int, layers: int, heads: int, level: float, steps: int
) -> None:
    try:
        events = simulate(seed, cycles, layers, heads, level=level, fine_tuning_steps=steps)
    except ConfigError:
        assert cycles > 1 or heads == 1  # one cycle always finds something, unless a layer's only head has to stay
        return
    assert isinstance(list(events)[-1], ev.RunEnded)


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"seed": -1}, "--seed -1"),
        ({"cycles": 0}, "--cycles 0"),
        ({"cycles": 40}, "--cycles 40"),
        ({"level": 1.0}, "--pruning_level 1"),
        ({"strategy": "luck"}, "--pruning_strategy luck"),
    ],
)
def test_what_cannot_be_is_refused_by_the_call(wrong: dict[str, int], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        simulate(**wrong)
