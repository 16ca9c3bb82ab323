"""Checkpoints: a run goes on from any of them as if it had never been stopped, bit for bit; and files that are bad."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from torch import Tensor

from neural_plasticity.config import RunConfig
from neural_plasticity.events import Event, HeadsGrown, PhaseEnded, Progress, Stabilised, StateRestored
from neural_plasticity.experiment import (
    Experiment,
    checkpoint_file,
    checkpoints,
    growth_phases,
    judging,
    open_experiment,
    play,
)
from neural_plasticity.policies.growth import choose_heads_to_grow
from neural_plasticity.policies.stopping import Verdict, judge_cycle
from tests.small_runs import comparable, plain, save_model, save_text, small_config


class Stop(NamedTuple):
    """A place where a run can be stopped: its checkpoint's directory, and where it stands."""

    directory: Path
    position: checkpoints.Position
    phase: str
    cycle: int
    steps: int  # done within the phase; 0: the phase has ended


class Played(NamedTuple):
    config: RunConfig
    events: list[Event]
    stops: list[Stop]


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    """Everything at once: control, growth with a ramp, a new head, a stable warm-up, cycles until one is too much."""
    directory = tmp_path_factory.mktemp("inputs")
    options: dict[str, Any] = {
        "cycles": "auto",
        "max_cycles": 3,
        "pruning_level": "0.25",
        "growth": True,
        "growth_steps": 2,
        "growth_ramp_steps": 2,
        "grow_new_heads": 1,
        "fine_tuning_steps": 2,
        "stabilisation_tolerance": 0.5,
        "judge_sequences": 64,
        "eval_sequences": 4,
        "score_sequences": 8,
    }
    return small_config(save_model(directory / "model"), save_text(directory / "text.txt", lines=1500), **options)


@pytest.fixture(scope="module", autouse=True)
def _decided() -> Iterator[None]:
    """Whatever the figures of so small a run say: a pruned head comes back, and the second cycle is one too many."""

    def choose(screened: Any, allowed: int, *rest: Any, **more: Any) -> Any:
        choice = choose_heads_to_grow(screened, allowed, *rest, **more)
        return replace(choice, heads=choice.heads or (min(screened),))

    def judge(pruned: Any, control: Any, budget: float, seed: int, documents: Any) -> Verdict:
        first = np.random.SeedSequence([0, 1, judging._BOOTSTRAP]).generate_state(1)[0]
        return replace(judge_cycle(pruned, control, budget, seed, documents), inside=seed == first)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(growth_phases, "choose_heads_to_grow", choose)
        patch.setattr(judging, "judge_cycle", judge)
        yield


@pytest.fixture(scope="module")
def played(config: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> Played:
    folder = tmp_path_factory.mktemp("stops")
    return _played(open_experiment(config), folder)


def _played(x: Experiment, folder: Path, stages_done: int = 0, before: int = 0, until: int = 10**9) -> Played:
    """The run (its rest, of which ``before`` events went ahead), with a checkpoint wherever there can be one."""
    found = Played(x.config, [], [])
    for event in play(x, stages_done):
        found.events.append(event)
        steps = checkpoints.steps_at_rest(x, event)
        stages_done += isinstance(event, PhaseEnded)
        if steps or isinstance(event, PhaseEnded):
            position = checkpoints.Position(stages_done, before + len(found.events))
            directory = folder / str(position.last_seq)
            checkpoints.save(x, directory, position)
            found.stops.append(Stop(directory, position, event.phase, event.cycle, steps))
        if before + len(found.events) >= until:
            break
    return found


def test_a_run_goes_on_from_every_checkpoint_as_if_nothing_had_happened(played: Played, tmp_path: Path) -> None:
    """From each stop to the next one: the same events, and at the next one the same checkpoint. So to the end."""
    assert any(isinstance(event, Stabilised) for event in played.events)
    assert any(isinstance(event, StateRestored) for event in played.events)
    assert {event.origin for event in played.events if isinstance(event, HeadsGrown)} == {"regrown", "added"}
    assert {stop.phase for stop in played.stops if stop.steps} == {"warmup", "fine-tuning", "growth"}
    for here, there in pairwise(played.stops):
        x = open_experiment(played.config)
        restored = checkpoints.restore(x, here.directory)
        assert restored is not None
        assert restored.position == here.position
        assert not restored.notes
        first, last = here.position.last_seq, there.position.last_seq
        # The new attempt's RunStarted comes instead of nothing: it is one event ahead.
        again = _played(x, tmp_path / str(first), here.position.stages_done, first - 1, last)
        assert list(comparable(again.events[1:])) == list(comparable(played.events[first:last])), here
        assert again.stops[-1].position == there.position
        assert _read(again.stops[-1].directory) == _read(there.directory), (here, there)
        assert [one.run_fraction for one in again.events if isinstance(one, Progress)] == sorted(
            one.run_fraction for one in again.events if isinstance(one, Progress)
        )


def _read(directory: Path) -> Any:
    (path,) = checkpoints.found(directory)
    state = checkpoint_file.read(path, 2**30)
    if state["training"] is not None:  # how much work is left is reckoned from another beginning
        state["training"]["within"][3] = pytest.approx(state["training"]["within"][3])
    return plain(_arrays(state))


def _arrays(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _arrays(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_arrays(one) for one in value]
    return value.numpy() if isinstance(value, Tensor) else value
