"""Which heads come back: candidates, budget, screen, trial; and what the view makes of it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from neural_plasticity import events as ev
from neural_plasticity.config import RunConfig
from neural_plasticity.errors import ConfigError
from neural_plasticity.heads import HeadId, HeadState, named
from neural_plasticity.policies.growth import (
    GrowthChoice,
    choose_heads_to_grow,
    growth_allowance,
    growth_candidates,
    screen,
    shortlist,
    to_try,
    trial_confidence,
    weakest_of,
)
from neural_plasticity.policies.statistics import Interval
from neural_plasticity.record import Run, open_run
from neural_plasticity.views.growth import Growth, growth
from tests.sample_run import write_events

SHAPE = (2, 6)
A, B, C, D = HeadId(0, 1), HeadId(0, 4), HeadId(1, 0), HeadId(1, 5)


def test_no_head_returns_in_the_cycle_that_pruned_it() -> None:
    present = np.ones(SHAPE, dtype=bool)
    present[D] = False  # compaction took it
    active = present.copy()
    active[A] = active[B] = active[C] = False
    pruned_in = {A: 1, B: 2}  # C was off from the start
    assert growth_candidates(active, present, pruned_in, cycle=2) == (A, C)
    assert growth_candidates(active, present, pruned_in, cycle=3) == (A, B, C)
    assert growth_candidates(active, present, {A: 1, B: 1, C: 1}, cycle=1) == ()


@pytest.mark.parametrize(
    ("pruned", "budget", "allowed"),
    [(0, 0.5, 0), (1, 0.9, 0), (2, 0.1, 1), (10, 0.25, 2), (10, 0.3, 3), (10, 0.99, 9), (3, 0.99, 2)],
)
def test_every_cycle_leaves_fewer_heads_than_it_found(pruned: int, budget: float, allowed: int) -> None:
    assert growth_allowance(pruned, budget) == allowed < max(pruned, 1)


class World:
    """Losses of 48 sequences when heads are on: each has a true gain; ``pairs`` are worth together what one is."""

    def __init__(self, gains: Mapping[HeadId, float], pairs: tuple[HeadId, ...] = (), seed: int = 0) -> None:
        self.gains, self.pairs = gains, pairs
        noise = np.random.default_rng(seed)
        self.base = noise.normal(3.0, 0.4, 48)
        self.own = {head: noise.normal(0, 0.01, 48) for head in gains}

    def __call__(self, more: tuple[HeadId, ...]) -> np.ndarray:
        losses = self.base.copy()
        for place, head in enumerate(more):
            again = head in self.pairs and any(other in self.pairs for other in more[:place])
            losses -= (0.0 if again else self.gains[head]) + self.own[head]
        return losses

    def choose(self, allowed: int = 2, worth: float = 0.01, seed: int = 0) -> GrowthChoice:
        screened = {head: Interval(0.02, 0.01, 0.03) for head in self.gains}
        worths = {HeadId(0, 0): worth, HeadId(0, 2): worth}
        return choose_heads_to_grow(screened, allowed, self, worths, SHAPE, seed)


def test_a_useful_head_comes_back_and_a_harmful_one_never() -> None:
    for seed in range(5):
        choice = World({A: 0.05, B: -0.05, C: 0.03, D: 0.0}, seed=seed).choose()
        assert choice.heads == (A, C)
        assert "not surely a gain" in choice.reasons["0.4"]
        assert "not surely a gain" in choice.reasons["1.5"]
        assert all("comes back" in choice.reasons[key] for key in ("0.1", "1.0"))


def test_the_budget_goes_to_the_best_and_weak_gains_stay_out() -> None:
    choice = World({A: 0.05, B: 0.06, C: 0.04, D: 0.02}).choose(allowed=2, worth=0.03)
    assert choice.heads == (A, B)
    assert "the budget of 2 went to better ones" in choice.reasons["1.0"]
    assert "less than the weakest active heads are worth (0.0300)" in choice.reasons["1.5"]
    assert choice.details["gains"]["0.4"][0] == pytest.approx(0.06, abs=0.005)


def test_two_heads_that_do_the_same_do_not_both_come_back() -> None:
    choice = World({A: 0.05, B: 0.06, C: 0.03}, pairs=(A, B)).choose(allowed=3)
    assert choice.heads == (B, C)
    assert "beside 1 taken before: not surely a gain" in choice.reasons["0.1"]


def test_a_head_without_a_certain_benefit_is_not_even_tried() -> None:
    generator = np.random.default_rng(0)
    benefits = np.full((64, *SHAPE), np.nan)
    benefits[:, *A] = generator.normal(0.02, 0.01, 64)
    benefits[:, *B] = generator.normal(-0.02, 0.01, 64)
    benefits[:, *C] = generator.normal(0.0, 0.01, 64) - 0.001
    screened = screen(benefits, (A, B, C), seed=1)
    assert screened[A].low > 0 > screened[B].high
    assert to_try(screened, allowed=2) == (A,)
    choice = choose_heads_to_grow(screened, 2, World({A: 0.05}), {}, SHAPE, seed=1)
    assert choice.heads == (A,)
    assert "not surely above zero" in choice.reasons["0.4"]
    assert np.isnan(choice.score).sum() == 12 - 3


def test_without_room_or_an_interval_nothing_comes_back() -> None:
    world = World({A: 0.05})
    none = world.choose(allowed=0)
    assert none.heads == ()
    assert "no place in the budget" in none.reasons["0.1"]
    one_sequence = choose_heads_to_grow(
        {A: Interval(0.02, 0.01, 0.03)}, 1, lambda more: world(more)[:1], {}, SHAPE, seed=0
    )
    assert one_sequence.heads == ()


def test_every_considered_head_has_its_reason_and_the_same_seed_decides_the_same() -> None:
    many = {HeadId(layer, head): 0.01 * head for layer in range(2) for head in range(6)}
    first, again = World(many).choose(allowed=1), World(many).choose(allowed=1)
    assert first.reasons == again.reasons
    assert first.heads == again.heads
    assert len(first.reasons) == 12
    assert sum("of most certain benefit" in line for line in first.reasons.values()) == 6
    assert json.loads(json.dumps(first.details)) == first.details


def test_of_heads_that_bring_nothing_hardly_any_comes_back() -> None:
    """All of six useless heads together: 2.5 % of the decisions may err upwards."""
    wrong = 0
    for seed in range(25):
        world = World({HeadId(0, head): 0.0 for head in range(6)}, seed=seed)
        wrong += bool(world.choose(allowed=2, worth=0.0, seed=seed).heads)
    assert wrong <= 3
    assert trial_confidence(6) == pytest.approx(1 - 0.05 / 6)


def test_the_weakest_are_looked_for_among_those_of_least_importance() -> None:
    importance = np.arange(12.0).reshape(SHAPE)
    active = np.ones(SHAPE, dtype=bool)
    active[0, 0] = False
    listed = shortlist(importance, active, allowed=1)
    assert listed == (*(HeadId(0, head) for head in range(1, 6)), HeadId(1, 0))
    assert weakest_of({head: -float(head.head) for head in listed}, allowed=1) == (
        HeadId(0, 5), HeadId(0, 4), HeadId(0, 3),
    )  # fmt: skip


# Options ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"growth": True, "cycles": 1}, "--growth with one cycle: nothing could come back"),
        ({"growth": True, "cycles": 2, "prune_unit": "kv_group"}, "--growth with --prune_unit kv_group: heads come"),
        ({"growth_budget": 0.5}, "--growth_budget 0.5: does nothing without --growth"),
        ({"growth_steps": 5}, "--growth_steps 5: does nothing without"),
        ({"growth_ramp_steps": 5}, "--growth_ramp_steps 5: does nothing without"),
        ({"growth": True, "cycles": 2, "growth_budget": 1.0}, "--growth_budget 1: expected a fraction"),
        ({"growth": True, "cycles": 2, "growth_budget": 0.0}, "--growth_budget 0: expected a fraction"),
        ({"growth": True, "cycles": 2, "growth_budget": float("nan")}, "--growth_budget nan: expected a fraction"),
        ({"growth": True, "cycles": 2, "growth_steps": 0}, "--growth_steps 0: expected at least 1"),
        ({"growth": True, "cycles": 2, "growth_steps": 4, "growth_ramp_steps": 5}, "--growth_ramp_steps 5: the growth"),
    ],
)
def test_growth_that_cannot_be_is_refused_before_anything_starts(options: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        dataclasses.replace(RunConfig(), **options).checked()  # type: ignore[arg-type]
    assert str(refused.value).startswith(said)
    assert "\n" not in str(refused.value)


# View ------------------------------------------------------------------------------------------------------------


def life(tmp_path: Path) -> Run:
    """A head leaves, returns, leaves and returns again; another one returns and stays; a third one is refused."""
    gradient = np.full(SHAPE, 2.0)
    gradient[A], gradient[B] = 1.0, 6.0
    details = {"gains": {"0.1": [0.05, 0.04, 0.06]}, "tried": 2, "allowed": 1, "weakest_worth": 0.01}
    events = [
        ev.RunStarted(name="r", shape=SHAPE, config={}),
        ev.HeadsPruned(step=1, cycle=1, heads=(A, B, C), strategy="s"),
        ev.HeadsGrown(
            step=5, cycle=2, heads=(A, B), details=details, score=np.full(SHAPE, 0.02),
            reasons={"0.1": "yes", "0.4": "yes", "1.0": "no"},
        ),
        ev.HeadScores(step=6, cycle=3, scores={"gradient": gradient}),
        ev.HeadsPruned(step=7, cycle=3, heads=(A,), strategy="s"),
        ev.HeadsGrown(step=9, cycle=4, heads=(A,), reasons={"0.1": "again", "1.0": "no"}),
        ev.HeadsGrown(step=9, cycle=4, heads=(HeadId(1, 6),), origin="added"),
        ev.PhaseStarted(step=10, cycle=5, phase="analysis"),
    ]  # fmt: skip
    return open_run(write_events(tmp_path / "run", events))


def test_lives_are_counted_and_told_with_their_evidence(tmp_path: Path) -> None:
    view = growth(life(tmp_path))
    told = [(one.name, one.cycle, one.cycles, one.pruned_again_step) for one in view.returns]
    assert told == [("L0H1#2", 2, 1, 7), ("L0H4#2", 2, 3, None), ("L0H1#3", 4, 1, None), ("L1H6", 4, 1, None)]
    first = view.returns[0]
    assert (first.score, first.gain, first.gain_low, first.gain_high) == (0.02, 0.05, 0.04, 0.06)
    assert [(one.name, one.cycle, one.reason) for one in view.refused] == [("L1H0", 2, "no"), ("L1H0", 4, "no")]
    assert view.lasting == 3
    assert named(A, 1) == "L0H1"


def test_survival_and_churn_by_cycle(tmp_path: Path) -> None:
    view = growth(life(tmp_path))
    back, added = view.survival
    assert (back.origin, added.origin) == ("regrown", "added")
    assert [list(each) for each in (back.cycles, back.at_risk, back.alive)] == [
        [0, 1, 2, 3],
        [3, 3, 2, 2],
        [3, 2, 1, 1],
    ]
    assert [(one.cycle, one.pruned, one.gone_again, one.regrown, one.added, one.active) for one in view.rounds] == [
        (1, 3, 0, 0, 0, 9),
        (2, 0, 0, 2, 0, 11),
        (3, 1, 1, 0, 0, 10),
        (4, 0, 0, 1, 1, 12),
    ]
    assert view.rounds[1].churn == pytest.approx(2 / 12)
    assert (view.rounds[1].considered, view.rounds[1].tried, view.rounds[1].allowed) == (3, 2, 1)


def test_returned_heads_are_held_against_the_median_head_that_never_left(tmp_path: Path) -> None:
    view = growth(life(tmp_path))
    assert view.criterion == "gradient"
    assert [(one.name, list(one.since), list(one.ratio)) for one in view.standings] == [
        ("L0H1#2", [1], [0.5]),
        ("L0H4#2", [1], [3.0]),
    ]
    assert view.standings[0].rank[0] == pytest.approx(0.5 / 11)
    assert view.typical is not None
    assert list(view.typical.ratio) == [1.75]


def test_a_return_to_an_earlier_state_ends_what_came_after_it(tmp_path: Path) -> None:
    states = np.full(SHAPE, HeadState.ACTIVE, np.int8)
    states[A] = HeadState.PRUNED
    events = [
        ev.RunStarted(name="r", shape=SHAPE, config={}),
        ev.HeadsPruned(step=1, cycle=1, heads=(A,), strategy="s"),
        ev.HeadsGrown(step=5, cycle=2, heads=(A,)),
        ev.StateRestored(step=8, cycle=2, to_cycle=1, to_step=1, states=states, reason="too much"),
    ]
    view = growth(open_run(write_events(tmp_path / "run", events)))
    (one,) = view.returns
    assert one.pruned_again_step == 8
    assert view.survival == ()  # it was taken back with its cycle: that is no head that did not last


def test_survival_counts_cycles_that_were_kept(tmp_path: Path) -> None:
    """A head that the given-up cycle pruned is there again, and has lived no cycle longer for it."""
    states = np.full(SHAPE, HeadState.ACTIVE, np.int8)
    states[A] = HeadState.REGROWN
    events = [
        ev.RunStarted(name="r", shape=SHAPE, config={}),
        ev.HeadsPruned(step=1, cycle=1, heads=(A,), strategy="s"),
        ev.HeadsGrown(step=5, cycle=2, heads=(A,)),
        ev.HeadsPruned(step=7, cycle=3, heads=(A,), strategy="s"),
        ev.StateRestored(step=8, cycle=3, to_cycle=2, to_step=5, states=states, reason="too much"),
    ]
    view = growth(open_run(write_events(tmp_path / "run", events)))
    (one,), (survival,) = view.returns, view.survival
    assert (one.pruned_again_step, one.cycles) == (None, 0)
    assert (survival.at_risk.tolist(), survival.alive.tolist()) == ([1], [1])


def test_whatever_a_script_recorded_is_shown(tmp_path: Path) -> None:
    odd = {"gains": "many", "tried": "all", "allowed": float("nan"), "weakest_worth": None}
    event = ev.HeadsGrown(step=1, heads=(A,), reasons={"x": "?", "0.1": "y", "1.5": "z"}, details=odd, score=np.ones(3))
    start = ev.RunStarted(name="r", shape=(0, 0), config={})
    view: Growth = growth(open_run(write_events(tmp_path / "run", [start, event])))
    assert [one.name for one in view.returns] == ["L0H1#2"]
    assert [one.name for one in view.refused] == ["L1H5"]
    assert view.rounds[0].tried is None
