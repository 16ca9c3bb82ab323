"""``--cycles auto`` on small models: it stops by its rule, returns exactly to where it was, and can be interrupted."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
import torch

from neural_plasticity.errors import ConfigError
from neural_plasticity.events import (
    AttentionMaps,
    CycleJudged,
    Evaluation,
    Event,
    HeadsPruned,
    PhaseEnded,
    PhaseStarted,
    Progress,
    RunEnded,
    StateRestored,
    StepMetrics,
)
from neural_plasticity.experiment import Experiment, checkpoints, open_experiment, play, run
from neural_plasticity.experiment.growth_phases import halves
from neural_plasticity.heads import HeadState
from neural_plasticity.record import Run, open_run
from neural_plasticity.render.closing import Closing
from neural_plasticity.render.lines import lines
from neural_plasticity.views.fine_tuning import fine_tuning
from neural_plasticity.views.heads_history import heads_history
from neural_plasticity.views.overview import overview
from neural_plasticity.views.timeline import timeline
from tests.sample_run import write_events
from tests.small_runs import comparable, small_config

SHORT = {"warmup_steps": 4, "fine_tuning_steps": 1, "cycles": "auto"}
E_ = TypeVar("E_", bound=Event)
Weights = dict[str, torch.Tensor]


def of(events: Iterable[Event], kind: type[E_]) -> list[E_]:
    return [event for event in events if isinstance(event, kind)]


def weights(model: Any) -> Weights:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def equal(one: Weights, other: Weights) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@dataclass
class Played:
    """A run with what the model and its control were at each judgement, and at the end."""

    x: Experiment
    events: list[Event]
    at_judgement: dict[int, tuple[Weights, Weights, np.ndarray]]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoints of the run below, one directory for each number of stages done."""
    return tmp_path_factory.mktemp("checkpoints")


@pytest.fixture(scope="module")
def played(gpt2: Path, text: Path, saved: Path) -> Played:
    """Cycles 1 and 2 are inside 5 %, cycle 3 is far outside."""
    x = open_experiment(small_config(gpt2, text, cycles="auto", max_perplexity_increase=0.05))
    found = Played(x, [], {})
    done = 0
    for event in play(x):
        found.events.append(event)
        if isinstance(event, CycleJudged):
            assert x.control is not None
            found.at_judgement[event.cycle] = weights(x.model), weights(x.control), x.heads.mask
        if isinstance(event, PhaseEnded):
            done += 1
            checkpoints.save(x, saved / str(done), checkpoints.Position(done, last_seq=len(found.events)))
    return found


@pytest.fixture(scope="module")
def recorded(played: Played, tmp_path_factory: pytest.TempPathFactory) -> Iterable[Run]:
    with open_run(write_events(tmp_path_factory.mktemp("record") / "run", played.events)) as run:
        yield run


def test_it_goes_on_while_inside_and_stops_at_the_first_cycle_outside(played: Played) -> None:
    judged = of(played.events, CycleJudged)
    assert [one.cycle for one in judged] == list(range(1, len(judged) + 1))
    assert [one.inside for one in judged] == [True] * (len(judged) - 1) + [False]
    for one in judged:
        assert one.inside == (one.log_ratio_high <= one.budget == pytest.approx(np.log(1.05)))
        assert one.log_ratio == pytest.approx(np.log(one.perplexity / one.control_perplexity))
        assert one.sequences > 100
    assert all(
        "control_loss" in e.metrics for e in played.events if e.kind == "metrics" and e.cycle and "loss" in e.metrics
    )


def test_it_returns_exactly_to_the_last_state_inside(played: Played) -> None:
    (back,) = of(played.events, StateRestored)
    last = of(played.events, CycleJudged)[-1]
    assert back.to_cycle == last.cycle - 1 >= 1
    model, control, mask = played.at_judgement[back.to_cycle]
    assert played.x.control is not None
    assert equal(weights(played.x.model), model)
    assert equal(weights(played.x.control), control)
    assert (played.x.heads.mask == mask).all()
    assert ((back.states > 0) == mask).all()
    assert not equal(played.at_judgement[last.cycle][0], model)
    assert f"cycle {last.cycle} was outside the budget" in back.reason


def test_test_text_is_looked_at_before_and_once_after(played: Played) -> None:
    before, after = of(played.events, Evaluation)
    (back,) = of(played.events, StateRestored)
    assert (before.cycle, after.cycle) == (0, back.to_cycle)
    assert after.results["pruned"]["sparsity"] == pytest.approx(1 - played.x.heads.mask.mean())
    assert "loss_difference_to_control" in after.results["comparison"]
    ended = played.events[-1]
    assert isinstance(ended, RunEnded)
    removed = f"{(back.states == 0).sum()} of {back.states.size} heads removed"
    assert ended.reason.endswith(f"returned to the last state inside, at the end of cycle {back.to_cycle}, {removed}")


def test_no_head_is_scored_on_what_cycles_are_judged_on(played: Played) -> None:
    judged = played.x.judged
    assert judged is not None
    assert not judged.scored_on
    assert not {one.tobytes() for one in judged.blocks} & {one.tobytes() for one in played.x.scoring}


def test_no_return_is_decided_on_what_cycles_are_judged_on(gpt2: Path, text: Path) -> None:
    x = open_experiment(small_config(gpt2, text, cycles="auto", max_perplexity_increase=0.05, growth=True))
    assert x.judged is not None
    assert not x.judged.scored_on
    judged = {one.tobytes() for one in x.judged.blocks}
    for decided_on in (x.scoring, *halves(x.validation, x.config.score_sequences)):
        assert len(decided_on)
        assert not judged & {one.tobytes() for one in decided_on}


def test_progress_never_goes_back_and_ends_at_the_end(played: Played) -> None:
    fractions = [one.run_fraction for one in of(played.events, Progress)]
    assert (np.diff(fractions) >= -1e-9).all()
    assert fractions[-1] > 0.9


def test_the_record_knows_of_the_return(played: Played, recorded: Run) -> None:
    (back,) = of(played.events, StateRestored)
    assert (recorded.heads() == back.states).all()
    tried = recorded.heads(step=back.step - 1)  # pruned in the cycle that was given up
    assert (tried == HeadState.PRUNED).sum() > (back.states == HeadState.PRUNED).sum()
    history = heads_history(recorded)
    assert (history.states.grids[-1] == back.states).all()
    assert [mark.short for mark in timeline(recorded).marks][-1] == f"back to cycle {back.to_cycle}"
    shown = overview(recorded)
    assert f"{(back.states == 0).sum()} of {back.states.size}" in next(
        one.note for one in shown.figures if one.label == "heads removed"
    )
    closing = Closing()
    for event in played.events:
        closing = closing.after(event)
    assert len(closing.pruned) == (back.states == 0).sum()
    said = "\n".join(line.plain for event in played.events for line in lines(event))
    assert "Cycle 1 inside the budget: perplexity" in said
    assert f"Back to cycle {back.to_cycle}: cycle" in said


def test_what_follows_a_return_is_no_part_of_the_fine_tuning_before_it(played: Played, recorded: Run) -> None:
    (back,) = of(played.events, StateRestored)
    followed = [one for one in of(played.events, StepMetrics) if "validation_loss" in one.metrics]
    before = [one for one in followed if one.phase == "fine-tuning"][-1]
    assert followed[-1].step == back.step > before.step
    curve = fine_tuning(recorded).recoveries[-1].validation
    assert curve is not None
    assert curve.values[-1] == before.metrics["validation_loss"]
    assert before.metrics["validation_loss"] != followed[-1].metrics["validation_loss"]


@pytest.mark.parametrize("where", ["before any pruning", "while going too far", "after the return"])
def test_an_interrupted_run_goes_on_as_if_nothing_had_happened(
    gpt2: Path, text: Path, played: Played, saved: Path, where: str
) -> None:
    ends = of(played.events, PhaseEnded)
    done = {"before any pruning": 2, "while going too far": len(ends) - 3, "after the return": len(ends) - 1}[where]
    x = open_experiment(small_config(gpt2, text, cycles="auto", max_perplexity_increase=0.05))
    restored = checkpoints.restore(x, saved / str(done))
    assert restored is not None
    position = restored.position
    assert position.stages_done == done
    resumed = [*played.events[: position.last_seq], *list(play(x, done))[1:]]
    assert list(comparable(resumed[:-1])) == list(comparable(played.events[:-1]))
    assert resumed[-1].step == played.events[-1].step
    assert equal(weights(x.model), weights(played.x.model))


def test_when_even_the_first_cycle_is_too_much_the_unpruned_model_is_back(gpt2: Path, text: Path) -> None:
    x = open_experiment(
        small_config(gpt2, text, **SHORT | {"warmup_steps": 12}, pruning_level="0.5", max_perplexity_increase=0.015)
    )
    events: list[Event] = []
    before: Weights = {}
    for event in play(x):
        events.append(event)
        if isinstance(event, PhaseStarted) and (event.phase, event.cycle) == ("analysis", 1):
            before = weights(x.model)
    (back,) = of(events, StateRestored)
    assert back.to_cycle == 0
    assert (back.states == HeadState.ACTIVE).all()
    assert equal(weights(x.model), before)
    assert [one.cycle for one in of(events, Evaluation)] == [0]
    assert "returned to the unpruned model, no head removed" in events[-1].reason  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("changes", "cycles", "why"),
    [
        ({"max_cycles": 2}, 2, "--max_cycles 2 is reached"),
        ({"pruning_level": "0.5"}, 2, "no further head may go"),  # 12 heads: 6, 3, and one stays in each layer
    ],
)
def test_it_ends_where_there_is_nothing_left_to_try(
    gpt2: Path, text: Path, changes: dict[str, Any], cycles: int, why: str
) -> None:
    events = list(run(small_config(gpt2, text, **SHORT, max_perplexity_increase=1e6, **changes)))
    assert [one.inside for one in of(events, CycleJudged)] == [True] * cycles
    assert not of(events, StateRestored)
    assert [one.cycle for one in of(events, Evaluation)] == [0, cycles]
    assert len(of(events, HeadsPruned)) == cycles
    assert why in events[-1].reason  # type: ignore[attr-defined]
    looks = [(one.cycle, one.model, one.prompt) for one in of(events, AttentionMaps)]
    assert len(set(looks)) == len(looks)
    assert {cycle for cycle, *_ in looks} == set(range(cycles + 1))


def test_a_budget_below_the_noise_is_refused_before_anything_slow(gpt2: Path, text: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"--max_perplexity_increase 1e-07: below what \d+ validation sequences can"
    ) as e:
        run(small_config(gpt2, text, cycles="auto", max_perplexity_increase=1e-7))
    assert "\n" not in str(e.value)


def test_a_budget_that_turns_out_to_lie_below_the_noise_says_what_to_do(gpt2: Path, text: Path) -> None:
    """One head off hardly moves this model, but training on does: known only when the first cycle is judged."""
    config = small_config(gpt2, text, cycles="auto", max_perplexity_increase=0.04, judge_sequences=8)
    with pytest.raises(ConfigError, match=r"below the noise.*give at least .* or --judge_sequences \d+"):
        list(run(config))
