"""Runs that give a model new heads: birth, training, the next pruning, the record, resuming, going back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

from neural_plasticity.config import RunConfig
from neural_plasticity.errors import ConfigError, UnsupportedModelError
from neural_plasticity.events import (
    Evaluation,
    Event,
    HeadScores,
    HeadsGrown,
    HeadsPruned,
    PhaseEnded,
    RunEnded,
    RunStarted,
    StateRestored,
)
from neural_plasticity.experiment import checkpoints, open_experiment, play
from neural_plasticity.experiment.state import Experiment
from neural_plasticity.heads import HeadState
from neural_plasticity.models import attach, compact, load_pruned, save_pruned
from neural_plasticity.policies.births import layers_at_random, layers_by_worth
from neural_plasticity.record import RecordWriter, Run, open_run
from neural_plasticity.record.sinks import fan_out
from neural_plasticity.record.snapshot import snapshot
from neural_plasticity.views.heads_history import heads_history
from tests.architectures import build
from tests.small_runs import comparable, save_model, small_config

PER_CYCLE = 5  # analysis, pruning, fine-tuning, growth, evaluation


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("llama"), "llama")


@pytest.fixture(scope="module")
def config(llama: Path, text: Path) -> RunConfig:
    return small_config(llama, text, cycles=2, pruning_level="0.3", grow_new_heads=3, growth_steps=4, control=True)


@pytest.fixture(scope="module")
def played(config: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Event], Experiment, Path]:
    """A run with its checkpoint after the birth of two heads; at the end it has a third."""
    x, folder = open_experiment(config), tmp_path_factory.mktemp("checkpoint")
    events: list[Event] = []
    done = 0
    for event in play(x):
        events.append(event)
        done += isinstance(event, PhaseEnded)
        if isinstance(event, PhaseEnded) and done == 2 + PER_CYCLE - 1:
            checkpoints.save(x, folder, checkpoints.Position(done, len(events)))
    return events, x, folder


@pytest.fixture(scope="module")
def recorded(played: tuple[list[Event], Experiment, Path], tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("record") / "run"
    with RecordWriter.create(folder) as record:
        for _ in fan_out(played[0], record):
            pass
    return open_run(folder)


def of(events: list[Event], kind: Any) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]


def test_heads_are_born_with_their_evidence_and_change_nothing(
    played: tuple[list[Event], Experiment, Path],
) -> None:
    events, x, _ = played
    births = of(events, HeadsGrown)
    assert [(one.origin, one.cycle, len(one.heads)) for one in births] == [("added", 1, 2), ("added", 2, 1)]
    for one in births:
        assert one.loss_after == pytest.approx(one.loss_before, abs=1e-6)
        assert set(one.reasons) == {f"{layer}.{head}" for layer, head in one.heads}
        assert all(head.head >= 4 for head in one.heads)
        assert "mean gradient importance" in one.rule
    assert x.heads.present.sum() == 12 + 3
    assert x.heads_before.sum() == 12
    first = births[0].heads
    later = of(events, HeadsPruned)[1]
    assert not set(first) & set(later.heads)
    assert "2 that came in the cycle before stay for now" in later.rule
    assert all("not up for pruning" in later.reasons[f"{layer}.{head}"] for layer, head in first)
    scores = [one for one in of(events, HeadScores) if one.phase == "analysis"][1].scores["gradient"]
    assert all(scores[head] > 0 for head in first)  # they have learned to write


def test_figures_are_those_of_the_heads_that_are_there(played: tuple[list[Event], Experiment, Path]) -> None:
    events, x, _ = played
    last = of(events, Evaluation)[-1].results
    assert last["pruned"]["sparsity"] == pytest.approx(1 - x.heads.mask.sum() / 15)
    assert last["baseline"]["parameters"] == of(events, Evaluation)[0].results["baseline"]["parameters"]
    assert last["pruned"]["parameters"] == sum(p.numel() for p in compact(x.model).parameters())
    assert attach(x.control).shape == (3, 4)


def test_the_record_tells_the_wider_grid_from_birth_on(
    played: tuple[list[Event], Experiment, Path], recorded: Run
) -> None:
    events, x, _ = played
    first, second = of(events, HeadsGrown)
    assert list(comparable(recorded.events())) == list(comparable(events))
    assert recorded.shape == (3, 4)
    width = x.heads.shape[1]
    start, end = recorded.heads(0), recorded.heads()
    assert start.shape == end.shape == (3, width)
    assert (start[:, 4:] == HeadState.ABSENT).all()
    assert (recorded.heads(first.step - 1)[:, 4:] == HeadState.ABSENT).all()
    for head in first.heads:
        assert recorded.heads(first.step)[head] == HeadState.ADDED
    assert np.array_equal(end >= 0, x.heads.present)
    assert np.array_equal(end > 0, x.heads.mask)
    assert np.array_equal(end, x.states)
    summary = recorded.summary()
    assert (summary.heads_present, summary.sparsity) == (15, pytest.approx(x.sparsity))
    history = heads_history(snapshot(recorded))
    assert history.shape == (3, width)
    gradient = next(one for one in history.criteria if one.name == "gradient")
    assert gradient.values.shape[1:] == (3, width)
    assert np.isnan(gradient.values[0, :, 4:]).all()
    assert second.heads[0] not in first.heads


def test_resuming_after_a_birth_gives_the_uninterrupted_run(
    config: RunConfig, played: tuple[list[Event], Experiment, Path]
) -> None:
    events, x, folder = played
    fresh = open_experiment(config)
    restored = checkpoints.restore(fresh, folder)
    assert restored is not None
    position = restored.position
    after = list(play(fresh, position.stages_done))
    assert isinstance(after[0], RunStarted)
    assert (after[0].shape, after[0].absent) == ((3, 4), ())  # the model's at the start, not the checkpoint's
    whole = events[position.last_seq : -1]
    assert list(comparable(after[1:-1])) == list(comparable(whole))
    assert isinstance(after[-1], RunEnded)
    assert fresh.heads.kv_groups.tolist() == x.heads.kv_groups.tolist()


def test_a_run_that_goes_back_before_a_birth_is_as_narrow_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, text: Path, tmp_path: Path
) -> None:
    gpt2 = save_model(tmp_path_factory.mktemp("gpt2"))
    auto = {"cycles": "auto", "fine_tuning_steps": 1, "max_perplexity_increase": 0.015, "pruning_level": "0.5"}
    x = open_experiment(small_config(gpt2, text, grow_new_heads=2, growth_steps=1, **auto))
    with RecordWriter.create(tmp_path / "run") as record:
        events = list(fan_out(play(x), record))
    (born,), (back,) = of(events, HeadsGrown), of(events, StateRestored)
    assert back.to_cycle == 0
    assert x.heads.shape == (3, 4)
    assert attach(x.model).mask.all()
    run = open_run(tmp_path / "run")
    assert all(run.heads(born.step)[head] == HeadState.ADDED for head in born.heads)
    assert all(run.heads()[head] == HeadState.ABSENT for head in born.heads)
    assert (run.summary().heads_present, run.summary().heads_pruned) == (12, 0)


def test_a_run_may_begin_with_a_widened_model(
    played: tuple[list[Event], Experiment, Path], text: Path, tmp_path: Path
) -> None:
    """Its added heads belong to that run's baseline; going back in memory takes only the run's own away."""
    x = played[1]
    save_pruned(x.model, tmp_path)
    x.tokenizer.save_pretrained(tmp_path)
    assert torch.equal(
        load_pruned(tmp_path)(input_ids=torch.tensor([[5, 6, 7]])).logits,
        compact(x.model)(input_ids=torch.tensor([[5, 6, 7]])).logits,
    )
    y = open_experiment(small_config(tmp_path, text, pruning_level="0.1", grow_new_heads=1))
    assert np.array_equal(y.heads.present, x.heads.mask)
    told = next(play(y))
    assert isinstance(told, RunStarted)
    assert told.shape == y.heads.shape
    assert {tuple(head) for head in told.absent} == {tuple(head) for head in np.argwhere(~y.heads.present).tolist()}
    with RecordWriter.create(tmp_path / "run") as record:
        record.append(told)
    run = open_run(tmp_path / "run")
    assert np.array_equal(run.heads(), y.states)
    assert (run.summary().heads_present, run.summary().heads_pruned) == (int(y.heads.present.sum()), 0)
    state = checkpoints.captured(y)
    y.heads.add([0])
    assert y.heads_before.sum() == y.heads.present.sum() - 1
    checkpoints.reinstate(y, {**state, "model": {name: value.clone() for name, value in state["model"].items()}})
    assert y.heads.added == y.added_before
    assert np.array_equal(y.heads.mask, x.heads.mask)


def test_what_cannot_work_is_refused_before_the_first_event(llama: Path, text: Path, tmp_path: Path) -> None:
    for changes, message in (
        ({"grow_new_heads": -1}, "--grow_new_heads -1"),
        ({"grow_new_heads": 13}, "--grow_new_heads 13: expected at most as many as the model has, 12"),
        ({"new_heads_rule": "random"}, "--new_heads_rule random: does nothing without --grow_new_heads"),
    ):
        with pytest.raises(ConfigError, match=message):
            open_experiment(small_config(llama, text, **changes))
    tokenizer = AutoTokenizer.from_pretrained(llama)
    tokens = {f"{name}_token_id": number for number, name in enumerate(("pad", "bos", "eos"))}
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
    build("phi3", vocab_size=len(tokenizer), **tokens, **sizes).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    for new_heads in (0, 1):  # fewer heads are out of reach, too: said now, and not by the evaluation after training
        with pytest.raises(
            UnsupportedModelError, match="'phi3' is not supported: its code counts heads in its own way"
        ):
            open_experiment(small_config(tmp_path, text, grow_new_heads=new_heads))


def test_births_are_spread_over_cycles_the_first_first() -> None:
    born = [RunConfig(cycles=3, grow_new_heads=4).heads_born_in(cycle) for cycle in (1, 2, 3)]
    assert born == [2, 1, 1]
    assert [RunConfig(cycles="auto", grow_new_heads=4).heads_born_in(cycle) for cycle in (1, 2, 30)] == [4, 0, 0]


def test_which_layers_get_new_heads() -> None:
    scores = np.array([[1.0, 1.0], [9.0, 3.0], [4.0, 8.0], [np.nan, np.nan]])
    active = np.array([[True, True], [True, True], [True, False], [False, False]])
    births = layers_by_worth(scores, active, 4, np.zeros(4, np.int64))
    assert births.layers == (1, 2, 1, 1)  # 6, 4, 6 / 2, then 6 / 3 = 4 / 2: the first
    assert births.reasons[0].startswith("layer 1: its 2 active heads are worth 6 each by gradient; the most")
    assert layers_by_worth(scores, active, 1, np.array([0, 2, 0, 0])).layers == (2,)
    drawn = layers_at_random(active, 100, seed=1)
    assert set(drawn.layers) == {0, 1, 2}
    assert drawn.layers == layers_at_random(active, 100, seed=1).layers


def test_layers_get_new_heads_in_turn_where_no_head_is_left() -> None:
    births = layers_by_worth(np.full((3, 2), np.nan), np.ones((3, 2), bool), 4, np.array([0, 1, 0]))
    assert births.layers == (0, 2, 0, 1)
    assert "no active head was measured" in births.reasons[0]


def test_a_model_without_any_head_left_gets_new_ones(llama: Path, text: Path) -> None:
    for rule in ("gradient", "random"):
        config = small_config(
            llama, text, pruning_level="0.99", min_heads_per_layer=0, grow_new_heads=2, new_heads_rule=rule
        )
        x = open_experiment(config)
        (born,) = of(list(play(x)), HeadsGrown)
        assert x.heads.mask.sum() == len(born.heads) == 2
