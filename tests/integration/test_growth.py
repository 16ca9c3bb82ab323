"""Growth on real attention: benefits against finite differences, the ramp, and whole phases with planted heads."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest
import torch

from neural_plasticity.errors import HeadError, ModelError
from neural_plasticity.events import (
    Event,
    HeadScores,
    HeadsGrown,
    HeadsPruned,
    PhaseEnded,
    PhaseStarted,
    Progress,
    StepMetrics,
)
from neural_plasticity.experiment import Experiment, checkpoints, open_experiment, play, run
from neural_plasticity.experiment.clock import Stage, planned_work
from neural_plasticity.experiment.growth_phases import growth, halves, ramp_gate
from neural_plasticity.experiment.new_heads import too_young
from neural_plasticity.experiment.training import batches_of
from neural_plasticity.heads import HeadId, heads_of
from neural_plasticity.importance import reference
from neural_plasticity.importance.benefit import benefits
from neural_plasticity.models.attach import attach
from neural_plasticity.models.compaction import compact
from neural_plasticity.models.seam import seam_of
from tests.architectures import ARCHITECTURES, ENCODERS, build, random_batch
from tests.small_runs import comparable, small_config

E_ = TypeVar("E_", bound=Event)
GONE = [(0, 0), (0, 1), (0, 2), (0, 3), (2, 1)]  # a whole layer, and one of another


def of(events: Iterable[Event], kind: type[E_]) -> list[E_]:
    return [event for event in events if isinstance(event, kind)]


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_benefit_is_what_finite_differences_say(name: str) -> None:
    heads = attach(build(name, dtype=torch.float64))
    heads.prune(GONE)
    batches = [random_batch(2, 8, seed=1), random_batch(1, 6, seed=2)]
    found = benefits(heads, batches)
    sequences = [ids for batch in batches for ids in batch["input_ids"]]
    causal = name not in ENCODERS
    assert np.isfinite(found.off).sum() == 3 * len(GONE)
    # transformers' RMS norms compute in float32 whatever the model's type: small steps drown in their rounding.
    rough = name in ("llama", "mistral", "qwen2", "qwen3")
    expected = reference.benefits(heads, sequences, causal, step=3e-3 if rough else 1e-5)
    np.testing.assert_allclose(found.off, expected, rtol=1e-6, atol=2e-3 if rough else 1e-6)
    exact = np.where(heads.mask, np.nan, -reference.gradients(heads, sequences, causal))
    np.testing.assert_allclose(found.off, exact, rtol=1e-9, atol=1e-9)
    assert (np.isfinite(found.on) == heads.mask).all()
    assert found.losses == pytest.approx(
        [float(reference.sequence_loss(heads.model, ids, causal).detach()) for ids in sequences]
    )


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_regrowing_everything_right_after_pruning_is_the_unpruned_model(name: str) -> None:
    model = build(name)
    heads = attach(model)
    batch = random_batch(2, 12, padding="left")
    with torch.no_grad():
        before = model(**batch).logits
        heads.prune(GONE)
        assert not torch.equal(model(**batch).logits, before)
        heads.regrow(GONE)
        assert torch.equal(model(**batch).logits, before)


def test_a_fading_head_counts_trains_and_cannot_be_compacted() -> None:
    model = build("gpt2")
    heads = attach(model)
    batch = random_batch(2, 12)
    heads.prune([(1, 2)])
    with torch.no_grad():
        off = model(**batch).logits
        heads.fade_in([(1, 2)], 0.25)
        quarter = model(**batch).logits
    assert heads.mask.all()
    assert not torch.equal(quarter, off)
    with pytest.raises(ModelError, match="its gate is not yet 1"):
        compact(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    protection = heads.protect(optimizer)
    weight = model.transformer.h[1].attn.c_proj.weight
    rows = slice(16, 24)  # head 2's of width 8
    before = weight.detach().clone()
    model(**batch, labels=batch["input_ids"]).loss.backward()
    optimizer.step()
    protection.remove()
    assert not torch.equal(weight[rows], before[rows])
    heads.prune([(0, 0)])  # others go and come without it
    heads.regrow([(0, 0)])
    seam = seam_of(model.transformer.h[1].attn)
    assert seam is not None
    assert seam.gate.tolist() == [1, 1, 0.25, 1]
    heads.fade_in([(1, 2)], 1.0)
    compact(model)
    for wrong in (0.0, 1.5, float("nan")):
        with pytest.raises(HeadError, match="above 0, at most 1"):
            heads.fade_in([(1, 2)], wrong)


@pytest.mark.parametrize("ramp", [1, 3, 7, 49])
def test_the_ramp_rises_from_the_first_step_and_ends_at_exactly_one(ramp: int) -> None:
    gates = [ramp_gate(number, ramp) for number in range(60)]
    assert 0 < gates[0] <= 1
    assert all(later > earlier for earlier, later in pairwise(gates[:ramp]))
    assert gates[ramp - 1 :] == [1.0] * (60 - ramp + 1)


# Whole phases ----------------------------------------------------------------------------------------------------


USEFUL, HARMFUL, WAITING = HeadId(1, 1), HeadId(0, 2), HeadId(2, 0)


def planted(gpt2: Path, text: Path) -> Experiment:
    """In the second cycle, with heads that lower the loss (two of them) or raise it when they are on, all pruned.

    What a head writes is its output slice; one step along or against its gradient from zero makes it useful or harmful.
    """
    config = small_config(gpt2, text, cycles=2, growth=True, growth_budget=0.5, growth_steps=5, score_sequences=16)
    x = open_experiment(config)
    model = x.heads.model
    width = model.config.n_embd // model.config.n_head
    for head, direction in ((USEFUL, -1.0), (HARMFUL, 1.0), (WAITING, -1.0)):
        weight = model.transformer.h[head.layer].attn.c_proj.weight
        rows = slice(head.head * width, (head.head + 1) * width)
        with torch.no_grad():
            weight[rows] = 0
        model.zero_grad()
        for batch in batches_of(x.validation[::4], 8, x.device):
            model(input_ids=batch, labels=batch).loss.backward()
        with torch.no_grad():
            gradient = weight.grad[rows]
            weight[rows] += direction * 0.5 * gradient / gradient.norm()
    model.zero_grad()
    x.heads.prune([USEFUL, HARMFUL, WAITING, (2, 1)])
    x.pruned_in = {USEFUL: 1, HARMFUL: 1, WAITING: 2, HeadId(2, 1): 2}
    stage = Stage("growth", 2)
    x.clock.enter(stage, planned_work(stage, x.config, 0), 5, "steps")
    return x


def test_a_head_planted_to_be_useful_comes_back_and_a_harmful_one_does_not(gpt2: Path, text: Path) -> None:
    x = planted(gpt2, text)
    events = list(growth(x))
    (decision,) = of(events, HeadsGrown)
    assert decision.heads == (USEFUL,)
    assert set(decision.reasons) == {"1.1", "0.2"}  # the other two wait
    assert "comes back" in decision.reasons["1.1"]
    assert "not surely above zero" in decision.reasons["0.2"]
    assert "2 pruned in this cycle wait" in decision.rule
    assert decision.loss_after < decision.loss_before
    (scores,) = of(events, HeadScores)
    assert set(scores.scores) == {"growth_benefit", "growth_benefit_low", "growth_benefit_high"}
    assert scores.scores["growth_benefit_low"][USEFUL] > 0 > scores.scores["growth_benefit_high"][HARMFUL]
    assert np.isfinite(scores.scores["growth_benefit"]).sum() == 2
    gates = [e.metrics["growth_gate"] for e in of(events, StepMetrics) if "growth_gate" in e.metrics]
    assert gates == [0.5, 1.0, 1.0, 1.0, 1.0]
    assert x.heads.mask[USEFUL]
    assert x.heads.mask.sum() == 12 - 3
    compact(x.model)  # the gate is all the way up
    assert x.pruned_in == {HARMFUL: 1, WAITING: 2, HeadId(2, 1): 2}
    assert x.returns == {USEFUL: 1}
    x.clock.cycle = 3
    x.config = dataclasses.replace(x.config, cycles=3)
    assert heads_of(too_young(x)) == (USEFUL,)
    fractions = [e.run_fraction for e in of(events, Progress)]
    assert fractions == sorted(fractions)
    assert [list(comparable(events))] == [list(comparable(growth(planted(gpt2, text))))]


def test_a_run_with_growth_trains_as_long_whatever_comes_back(gpt2: Path, text: Path, tmp_path: Path) -> None:
    """Two cycles, resumed after the first growth phase: the same events as in one go."""
    config = small_config(gpt2, text, cycles=2, growth=True, control=True, growth_steps=3)
    x = open_experiment(config)
    events: list[Event] = []
    done = 0
    for event in play(x):
        events.append(event)
        if isinstance(event, PhaseEnded):
            done += 1
            if (event.phase, event.cycle) == ("growth", 1):
                checkpoints.save(x, tmp_path, checkpoints.Position(done, len(events)))
    per_cycle = ["analysis", "pruning", "fine-tuning", "growth", "evaluation"]
    assert [(e.phase, e.cycle) for e in of(events, PhaseStarted)] == [
        ("warmup", 0), ("evaluation", 0), *((phase, cycle) for cycle in (1, 2) for phase in per_cycle),
    ]  # fmt: skip
    trained = [e for e in of(events, StepMetrics) if e.phase == "growth" and "loss" in e.metrics]
    assert [e.cycle for e in trained] == [1, 1, 1, 2, 2, 2]
    assert all("control_loss" in e.metrics for e in trained)
    first, second = [e for e in of(events, PhaseEnded) if e.phase == "growth"]
    assert "none was pruned before cycle 1" in first.reason
    (decision,) = of(events, HeadsGrown)
    gone = {head for e in of(events, HeadsPruned) if e.cycle == 1 for head in e.heads}
    assert {tuple(map(int, key.split("."))) for key in decision.reasons} == gone
    assert second.summary["heads_back"] == len(decision.heads)
    fresh = open_experiment(config)
    restored = checkpoints.restore(fresh, tmp_path)
    assert restored is not None
    position = restored.position
    assert fresh.pruned_in == dict.fromkeys(gone, 1)
    resumed = list(play(fresh, position.stages_done))
    assert list(comparable(resumed))[1:] == list(comparable(events[position.last_seq :]))


def test_the_sequences_of_screen_and_trial_are_not_the_same() -> None:
    blocks = np.arange(40).reshape(20, 2)
    first, second = halves(blocks, 8)
    assert len(first) == len(second) == 8
    assert not set(first[:, 0]) & set(second[:, 0])
    assert [len(each) for each in halves(blocks[:1], 8)] == [1, 1]


def test_one_cycle_less_of_nothing_is_no_trouble(gpt2: Path, text: Path) -> None:
    """A step of ramp, a step of training, heads that cannot all be spared."""
    config = small_config(gpt2, text, cycles=2, growth=True, growth_steps=1, fine_tuning_steps=0, pruning_level="0.5")
    assert of(run(config), PhaseEnded)[-1].phase == "evaluation"
