"""Whole experiments on small models: phases, decisions, reproducibility, resuming, plug-ins."""

from __future__ import annotations

import gc
import math
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest
import torch

from neural_plasticity.config import RunConfig
from neural_plasticity.errors import ConfigError, ModelError, TrainingError
from neural_plasticity.events import (
    AttentionMaps,
    Embedding,
    Evaluation,
    Event,
    HeadScores,
    HeadsPruned,
    LogLine,
    PhaseEnded,
    PhaseStarted,
    Progress,
    RunEnded,
    RunStarted,
    StepMetrics,
    TextSample,
)
from neural_plasticity.experiment import checkpoints, open_experiment, play, run
from neural_plasticity.experiment.training_phases import training_steps
from neural_plasticity.record import RecordWriter, open_run
from neural_plasticity.record.sinks import fan_out
from tests.small_runs import comparable, save_model, small_config


@pytest.fixture(scope="module")
def two_cycles(gpt2: Path, text: Path) -> list[Event]:
    config = small_config(gpt2, text, pruning_strategy="entropy,gradient", pruning_level="0.2,0.3", control=True)
    return list(run(config))


E_ = TypeVar("E_", bound=Event)


def of(events: Iterable[Event], kind: type[E_]) -> list[E_]:
    return [event for event in events if isinstance(event, kind)]


def test_every_phase_happens_in_order_and_is_closed(two_cycles: list[Event]) -> None:
    started = [(e.phase, e.cycle) for e in of(two_cycles, PhaseStarted)]
    per_cycle = ["analysis", "pruning", "fine-tuning", "evaluation"]
    assert started == [("warmup", 0), ("evaluation", 0), *((p, c) for c in (1, 2) for p in per_cycle)]
    assert [(e.phase, e.cycle) for e in of(two_cycles, PhaseEnded)] == started
    assert isinstance(two_cycles[0], RunStarted)
    assert isinstance(two_cycles[-1], RunEnded)
    assert two_cycles[-1].state == "finished"
    steps = [e.step for e in two_cycles]
    assert steps == sorted(steps)


def test_training_steps_are_recorded_one_by_one(two_cycles: list[Event]) -> None:
    for phase, cycle, steps in (("warmup", 0, 12), ("fine-tuning", 1, 6), ("fine-tuning", 2, 6)):
        losses = [
            e.metrics
            for e in of(two_cycles, StepMetrics)
            if (e.phase, e.cycle) == (phase, cycle) and "loss" in e.metrics
        ]
        assert len(losses) == steps
        assert all(np.isfinite(m["loss"]) for m in losses)
        assert all(("control_loss" in m) == (phase == "fine-tuning") for m in losses)


def test_each_cycle_prunes_its_own_share_by_its_own_strategy(two_cycles: list[Event]) -> None:
    first, second = of(two_cycles, HeadsPruned)
    assert (first.strategy, second.strategy) == ("entropy", "gradient")
    assert len(first.heads) == round(0.2 * 12)
    assert len(second.heads) == round(0.3 * (12 - len(first.heads)))
    assert not set(first.heads) & set(second.heads)
    analyses = [one for one in of(two_cycles, HeadScores) if one.phase == "analysis"]
    for decision, scores in zip((first, second), analyses, strict=True):
        measured = scores.scores[decision.strategy]
        order = -measured if decision.strategy == "entropy" else measured
        gone = [order[head] for head in decision.heads]
        protected = decision.protected
        assert protected is not None
        others = [
            order[layer, head]
            for layer, head in np.argwhere(~np.isnan(decision.score) & ~protected)
            if (layer, head) not in decision.heads
        ]
        assert max(gone) <= min(others)
        assert all(decision.reasons[f"{h.layer}.{h.head}"] for h in decision.heads)
        assert np.isfinite([decision.loss_before, decision.loss_after]).all()


def test_evaluation_compares_with_baseline_and_control(two_cycles: list[Event]) -> None:
    baseline, first, second = of(two_cycles, Evaluation)
    assert set(baseline.results) == {"baseline"}
    for event in (first, second):
        assert set(event.results) == {"baseline", "pruned", "control", "comparison"}
        pruned, comparison = event.results["pruned"], event.results["comparison"]
        assert event.sequences == 12
        assert pruned["loss_low"] <= pruned["loss"] <= pruned["loss_high"]
        assert pruned["perplexity"] == pytest.approx(np.exp(pruned["loss"]))
        assert pruned["parameters"] < baseline.results["baseline"]["parameters"]
        assert comparison["loss_difference"] == pytest.approx(pruned["loss"] - event.results["baseline"]["loss"])
        assert comparison["loss_difference_low"] <= comparison["loss_difference"] <= comparison["loss_difference_high"]
        assert "loss_difference_to_control" in comparison
        assert 0 < comparison["size_reduction"] < 1
        assert comparison["prefill_speedup"] > 0
    assert second.results["pruned"]["sparsity"] > first.results["pruned"]["sparsity"] > 0
    assert second.results["baseline"]["loss"] == baseline.results["baseline"]["loss"]


def test_the_same_prompts_are_sampled_and_mapped_before_and_after(two_cycles: list[Event]) -> None:
    samples = of(two_cycles, TextSample)
    assert {(s.model, s.cycle) for s in samples} == {
        ("baseline", 0), ("pruned", 1), ("control", 1), ("pruned", 2), ("control", 2),
    }  # fmt: skip
    by_model = {
        model: [s.prompt for s in samples if (s.model, s.cycle) == model]
        for model in {(s.model, s.cycle) for s in samples}
    }
    assert len({tuple(prompts) for prompts in by_model.values()}) == 1
    maps = of(two_cycles, AttentionMaps)
    gone = {head for event in of(two_cycles, HeadsPruned) for head in event.heads}
    last = [event for event in maps if event.model == "pruned"][-1]
    for layer in range(last.maps.shape[0]):
        for head in range(last.maps.shape[1]):
            assert np.isnan(last.maps[layer, head]).all() == ((layer, head) in gone)


def test_every_cycle_looks_at_the_same_places_of_both_models(two_cycles: list[Event]) -> None:
    hidden = of(two_cycles, Embedding)
    assert [(event.model, event.cycle) for event in hidden] == [
        ("baseline", 0), ("pruned", 1), ("control", 1), ("pruned", 2), ("control", 2),
    ]  # fmt: skip
    first = hidden[0]
    layers = of(two_cycles, RunStarted)[0].shape[0]
    assert first.layers == tuple(range(-1, layers))
    assert first.vectors.dtype == np.float16
    for event in hidden:
        assert (event.labels, event.groups, event.layers) == (first.labels, first.groups, first.layers)
        assert event.vectors.shape == (layers + 1, len(first.labels), first.vectors.shape[-1])
    assert not np.array_equal(hidden[-1].vectors[-1], hidden[-2].vectors[-1])
    maps = of(two_cycles, AttentionMaps)
    assert {(event.model, event.cycle) for event in maps} == {(event.model, event.cycle) for event in hidden}
    codes = maps[-1].maps.astype(np.float64) * 254
    np.testing.assert_allclose(codes, np.rint(codes), atol=254 * 2.0**-12)
    looks = [event for event in of(two_cycles, HeadScores) if event.phase == "evaluation"]
    assert [set(event.scores) for event in looks] == [{"first_token_mass", "previous_token", "induction"}] * 3
    gone = {head for event in of(two_cycles, HeadsPruned) for head in event.heads}
    for grid in looks[-1].scores.values():
        assert {(int(a), int(b)) for a, b in np.argwhere(np.isnan(grid))} == set(gone)
        assert ((np.nan_to_num(grid) >= 0) & (np.nan_to_num(grid) <= 1)).all()


def test_time_left_is_said_from_the_first_step_on_and_the_plan_is_used_up(two_cycles: list[Event]) -> None:
    progress = of(two_cycles, Progress)
    first_metrics = two_cycles.index(of(two_cycles, StepMetrics)[0])
    assert two_cycles.index(progress[0]) == first_metrics + 1
    assert all(p.seconds_left is not None for p in progress)
    fractions = [p.run_fraction for p in progress]
    assert all(later >= earlier - 1e-9 for earlier, later in pairwise(fractions))
    assert fractions[-1] > 0.9


def test_without_fine_tuning_the_control_is_the_baseline(gpt2: Path, text: Path) -> None:
    events = list(run(small_config(gpt2, text, control=True, fine_tuning_steps=0)))
    results = of(events, Evaluation)[-1].results
    assert results["control"]["loss"] == results["baseline"]["loss"]
    assert results["pruned"]["loss"] != results["baseline"]["loss"]


def test_the_control_changes_nothing_in_the_model_beside_it(gpt2: Path, text: Path) -> None:
    """Dropout is on in this model: both draw their masks from the same numbers, and neither from the other's."""
    alone = [e.metrics["loss"] for e in of(run(small_config(gpt2, text)), StepMetrics) if "loss" in e.metrics]
    config = small_config(gpt2, text, control=True)
    beside = [e.metrics["loss"] for e in of(run(config), StepMetrics) if "loss" in e.metrics]
    assert alone == beside


def test_the_control_never_sees_what_is_pruned(gpt2: Path, text: Path) -> None:
    """So one control stands for all runs that train as long from the same seed: sweeps and `make paper` rely on it."""
    short = {"control": True, "warmup_steps": 2, "fine_tuning_steps": 3, "cycles": 2}
    runs = [
        list(run(small_config(gpt2, text, **short, pruning_strategy=strategy, pruning_level=level)))
        for strategy, level in (("random", "0.1"), ("gradient", "0.4"))
    ]
    told = [[e.results["control"] for e in events if isinstance(e, Evaluation) and e.cycle] for events in runs]
    gone = [[e.heads for e in events if isinstance(e, HeadsPruned)] for events in runs]
    assert gone[0] != gone[1]
    for one, other in zip(*told, strict=True):
        assert one["loss"] == other["loss"]
        assert one["perplexity"] == other["perplexity"]


def test_recovery_is_said_only_of_damage_that_is_more_than_noise(gpt2: Path, text: Path) -> None:
    events = list(run(small_config(gpt2, text, cycles=2)))
    ends = of(events, PhaseEnded)
    for cycle in (1, 2):
        (pruned,) = [e.summary for e in ends if (e.phase, e.cycle) == ("pruning", cycle)]
        (healed,) = [e.summary for e in ends if (e.phase, e.cycle) == ("fine-tuning", cycle)]
        damage = pruned["loss_after_pruning"] - pruned["loss_before_pruning"]
        assert pruned["damage_low"] <= damage <= pruned["damage_high"]
        assert np.isfinite(healed["recovered_fraction"]) == (pruned["damage_low"] > 0)


def test_a_phase_leaves_no_optimiser_behind(gpt2: Path, text: Path) -> None:
    """Its state is twice the model, and the collector of cycles may come much later."""
    x = open_experiment(small_config(gpt2, text))
    gc.collect()
    gc.disable()
    try:
        x.clock.enter(x.plan[0], 1.0, 1, "steps")
        for _ in training_steps(x, 2):
            pass
        left = [o for o in gc.get_objects() if type(o) is torch.optim.AdamW and o.state]
    finally:
        gc.enable()
    assert left == []


def test_a_users_evaluation_may_not_replace_what_was_measured(gpt2: Path, text: Path, tmp_path: Path) -> None:
    (tmp_path / "flattering.py").write_text("def figures(model, tokenizer):\n    return {'perplexity': 1.0}\n")
    with pytest.raises(ConfigError, match="'perplexity'"):
        list(run(small_config(gpt2, text, eval="flattering:figures")))


def test_a_users_figure_that_is_no_finite_number_is_said(gpt2: Path, text: Path, tmp_path: Path) -> None:
    """It may be true of a broken model, and a run of hours does not end for it."""
    (tmp_path / "unsure.py").write_text(
        "import math\n"
        "def figures(model, tokenizer):\n"
        "    return {'accuracy': math.nan, 'ratio': -math.inf, 'fine': 0.5}\n"
    )
    events = list(run(small_config(gpt2, text, eval="unsure:figures")))
    assert [line.message for line in of(events, LogLine) if line.level == "warning"] == [
        f"--eval unsure:figures: {figure} of the {model} model is {value}, no finite number"
        for model in ("baseline", "pruned")
        for figure, value in (("'accuracy'", "nan"), ("'ratio'", "-inf"))
    ]
    assert math.isnan(of(events, Evaluation)[-1].results["pruned"]["accuracy"])


def test_the_same_seed_gives_the_same_run_and_another_seed_another(gpt2: Path, text: Path) -> None:
    config = small_config(gpt2, text, pruning_strategy="random")
    first, second = list(comparable(run(config))), list(comparable(run(config)))
    assert first == second
    other = list(comparable(run(small_config(gpt2, text, pruning_strategy="random", seed=1))))
    assert first != other


def test_the_three_texts_share_no_block(gpt2: Path, text: Path) -> None:
    x = open_experiment(small_config(gpt2, text))
    splits = [{block.tobytes() for block in blocks} for blocks in (x.train, x.validation, x.test)]
    assert not splits[0] & splits[1]
    assert not splits[0] & splits[2]
    assert not splits[1] & splits[2]


def test_replaying_the_record_gives_the_run(two_cycles: list[Event], tmp_path: Path) -> None:
    with RecordWriter.create(tmp_path / "run") as record:
        for _ in fan_out(two_cycles, record):
            pass
    replayed = open_run(tmp_path / "run")
    assert list(comparable(replayed.events())) == list(comparable(two_cycles))
    gone = {head for event in of(two_cycles, HeadsPruned) for head in event.heads}
    assert {(int(a), int(b)) for a, b in np.argwhere(replayed.heads() == 0)} == gone


@pytest.mark.parametrize("stages_done", [0, 1, 2, 3, 4, 5, 6])
def test_resuming_after_any_phase_gives_the_uninterrupted_run(
    gpt2: Path, text: Path, tmp_path: Path, stages_done: int
) -> None:
    config = small_config(gpt2, text, control=True)
    whole = list(run(config))
    x = open_experiment(config)
    done = 0
    before: list[Event] = []
    events = play(x)
    while done < stages_done:
        event = next(events)
        before.append(event)
        if isinstance(event, PhaseEnded):
            done += 1
            checkpoints.save(x, tmp_path, checkpoints.Position(done, last_seq=len(before)))
    for _ in range(3):  # the interruption comes in the middle of a phase
        next(events, None)
    del x
    fresh = open_experiment(config)
    restored = checkpoints.restore(fresh, tmp_path)
    assert (restored and restored.position) == (None if stages_done == 0 else (stages_done, len(before)))
    after = list(play(fresh, stages_done))
    assert isinstance(after[0], RunStarted)
    resumed = before + (after[1:] if stages_done else after)
    assert list(comparable(resumed[:-1])) == list(comparable(whole[:-1]))
    for name in ("step", "phase", "cycle", "phase_step"):
        assert getattr(after[-1], name) == getattr(whole[-1], name)


def test_nan_loss_stops_the_run_before_the_model_is_updated(text: Path, tmp_path: Path) -> None:
    poisoned = save_model(tmp_path / "poisoned", poison=True)
    events = run(small_config(poisoned, text))
    with pytest.raises(TrainingError, match=r"loss became nan.*--learning_rate"):
        list(events)


def test_key_value_groups_free_cache_and_single_heads_do_not(text: Path, tmp_path: Path) -> None:
    llama = save_model(tmp_path / "llama", "llama")
    saved = {}
    for unit in ("head", "kv_group"):
        config = small_config(llama, text, prune_unit=unit, pruning_level="0.3", min_heads_per_layer=0)
        saved[unit] = of(run(config), Evaluation)[-1].results["comparison"]["kv_cache_reduction"]
    assert saved["kv_group"] > 0.1
    assert saved["kv_group"] > saved["head"]


def test_a_phase_of_one_step_trains(gpt2: Path, text: Path) -> None:
    config = small_config(gpt2, text, warmup_steps=1, fine_tuning_steps=1)
    steps = [event.metrics for event in run(config) if isinstance(event, StepMetrics)]
    rates = {one["learning_rate"] for one in steps if "learning_rate" in one}
    assert rates == {config.learning_rate}


def test_a_users_own_strategy_and_evaluation_are_called(gpt2: Path, text: Path, tmp_path: Path) -> None:
    # The working directory is searched for plug-ins; tests run in tmp_path.
    (tmp_path / "of_an_experiment.py").write_text(
        "import numpy as np\n"
        "def last_layer_first(context):\n"
        "    layers, heads = context.mask.shape\n"
        "    return -np.repeat(np.arange(layers)[:, None], heads, axis=1).astype(float)\n"
        "def count(model, tokenizer):\n"
        "    return {'vocabulary': len(tokenizer), 'numbers': sum(p.numel() for p in model.parameters())}\n"
    )
    config = small_config(
        gpt2, text, pruning_strategy="of_an_experiment:last_layer_first", eval="of_an_experiment:count"
    )
    events = list(run(config))
    assert {head.layer for head in of(events, HeadsPruned)[0].heads} == {2}
    results = of(events, Evaluation)[-1].results
    assert results["pruned"]["numbers"] < results["baseline"]["numbers"]


@pytest.mark.parametrize(
    ("changes", "error", "expected"),
    [
        ({"pruning_strategy": "entropie"}, ConfigError, "--pruning_strategy entropie"),
        ({"pruning_strategy": "no.such:thing"}, ConfigError, "--pruning_strategy no.such:thing"),
        ({"eval": "nonsense"}, ConfigError, "--eval nonsense"),
        ({"model_name": "no-such-model-anywhere"}, ModelError, "--model_name no-such-model-anywhere"),
        ({"sequence_length": 100_000}, ConfigError, "--sequence_length 100000"),
        ({"cycles": 60, "pruning_level": "0.5"}, ConfigError, "--cycles"),
        ({"device": "abacus"}, ConfigError, "--device abacus"),
        ({"batch_size": 1_000_000}, ConfigError, "--batch_size 1000000"),
    ],
)
def test_what_cannot_work_is_refused_before_the_first_event(
    gpt2: Path, text: Path, changes: dict[str, object], error: type[Exception], expected: str
) -> None:
    with pytest.raises(error) as caught:
        run(small_config(gpt2, text, **changes))
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_defaults_are_the_documented_ones() -> None:
    assert (RunConfig().model_name, RunConfig().dataset) == ("builtin", "python-stdlib")
