"""Evaluation on test text: loss with intervals, measured speed of the compacted model, size, samples and maps."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn

from neural_plasticity.data.prompts import PROBE_PROMPTS
from neural_plasticity.errors import ConfigError
from neural_plasticity.events import Evaluation, Event, LogLine, PhaseEnded, TextSample
from neural_plasticity.experiment.observing import observe
from neural_plasticity.experiment.state import Experiment
from neural_plasticity.experiment.training import Losses, batches_of, continuation, sequence_losses
from neural_plasticity.models.compaction import compact
from neural_plasticity.models.size import model_size
from neural_plasticity.models.speed import Speed, compare_speed
from neural_plasticity.policies.statistics import (
    Interval,
    bootstrap_mean_interval,
    median_paired_ratio,
    paired_bootstrap_difference,
    through_exp,
)

_BOOTSTRAP = 4  # purpose number of Experiment.seed_for
_NEW_TOKENS = 48
TAKEN = frozenset(
    f"{name}{end}"
    for name in (
        "loss",
        "perplexity",
        "prefill_ms",
        "decode_ms_per_token",
        "prefill_tokens_per_second",
        "decode_tokens_per_second",
        "parameters",
        "bytes",
        "kv_cache_bytes_per_token",
        "sparsity",
    )
    for end in ("", "_low", "_high", "_spread")
)
_SPEED_REPEATS = 15  # pairs; fewer give no interval worth the name


def evaluation(x: Experiment) -> Iterator[Event]:
    """Evaluate the model as it would be shipped: compacted. Cycle 0 is the baseline that later cycles compare with."""
    name = "pruned" if x.clock.cycle else "baseline"
    # Without gates: their small cost must not make the pruned model look faster than it is.
    with x.heads.gated(x.heads_before):  # the baseline has none that were added
        dense = compact(x.model)
    small = compact(x.model) if x.clock.cycle else dense
    yield from _measure_losses(x, name, small)
    if x.control is not None and x.clock.cycle:
        yield from _measure_losses(x, "control", x.control)
    # On one process while the others wait: what they computed beside it would be measured too.
    speeds = x.devices.once(
        lambda: compare_speed(
            {"baseline": dense, name: small},
            prompt_tokens=x.test.shape[1] // 2,
            new_tokens=min(16, x.test.shape[1] // 4),
            repeats=_SPEED_REPEATS,
        )
    )
    results: dict[str, dict[str, Any]] = {}
    if not x.clock.cycle:
        x.baseline = _figures(x, name, small, speeds[name])
        results["baseline"] = x.baseline
    else:
        # Speed is the only figure of the baseline that must be measured in the same minute as the pruned model's.
        results["baseline"] = {**x.baseline, **_speed_figures(speeds["baseline"])}
        results["pruned"] = _figures(x, name, small, speeds[name])
        if x.control is not None:
            results["control"] = _loss_figures(x, "control") | _own_figures(x, x.control)
        results["comparison"] = _comparison(x, results) | _speed_up(x, speeds["baseline"], speeds[name])
    yield from _no_numbers(x, name, results)
    yield from _samples(x, name, small)
    x.closing = results.get("comparison", {})
    yield Evaluation(results=results, sequences=len(x.test), tokens=x.test.size, **x.clock.at())
    yield PhaseEnded(seconds=x.clock.leave(), **x.clock.at())


def _measure_losses(x: Experiment, name: str, model: nn.Module) -> Iterator[Event]:
    parts: list[Losses] = []
    for batch in batches_of(x.test, x.config.sequences_at_once, x.device):
        parts.append(sequence_losses(model, batch, x.devices))
        x.clock.tick(steps=0, share=x.test_share)
        yield x.clock.progress()
    x.losses[name] = np.concatenate(parts)


def _loss_figures(x: Experiment, name: str) -> dict[str, Any]:
    loss = bootstrap_mean_interval(x.losses[name], x.seed_for(_BOOTSTRAP))
    return _with_interval("loss", loss) | _with_interval("perplexity", through_exp(loss))


def _with_interval(name: str, interval: Interval) -> dict[str, float]:
    return {name: interval.estimate, f"{name}_low": interval.low, f"{name}_high": interval.high}


def _speed_figures(speed: Speed) -> dict[str, Any]:
    return {
        "prefill_ms": speed.prefill_ms,
        "prefill_ms_spread": speed.prefill_ms_spread,
        "prefill_tokens_per_second": speed.prefill_tokens_per_second,
        "decode_ms_per_token": speed.decode_ms_per_token,
        "decode_ms_per_token_spread": speed.decode_ms_per_token_spread,
        "decode_tokens_per_second": speed.decode_tokens_per_second,
    }


def _speed_up(x: Experiment, before: Speed, after: Speed) -> dict[str, float]:
    seed = x.seed_for(_BOOTSTRAP)
    prefill = median_paired_ratio(before.prefill_samples_ms, after.prefill_samples_ms, seed)
    decode = median_paired_ratio(before.decode_samples_ms, after.decode_samples_ms, seed)
    return _with_interval("prefill_speedup", prefill) | _with_interval("decode_speedup", decode)


def _figures(x: Experiment, name: str, model: nn.Module, speed: Speed) -> dict[str, Any]:
    size = model_size(model)
    return {
        **_loss_figures(x, name),
        **_speed_figures(speed),
        "parameters": size.parameters,
        "bytes": size.bytes,
        "kv_cache_bytes_per_token": size.kv_cache_bytes_per_token,
        "sparsity": x.sparsity,
        **_own_figures(x, model),
    }


def _own_figures(x: Experiment, model: nn.Module) -> dict[str, float]:
    """What the user's own evaluation says of ``model``.

    Raises:
        ConfigError: it returns a figure under a name that is taken.
    """
    evaluator = x.evaluator
    figures = x.devices.once(lambda: dict(evaluator(model))) if evaluator else {}
    if taken := sorted(TAKEN.intersection(figures)):
        raise ConfigError(f"--eval {x.config.eval}: returned {taken[0]!r}, which is measured already; rename it.")
    return figures


def _no_numbers(x: Experiment, name: str, results: Mapping[str, Mapping[str, Any]]) -> Iterator[LogLine]:
    """A warning for every figure of the user's own that is NaN or infinite. It may be true of a broken model, so that
    the run goes on, with the figure as it is on record."""
    for model in (name, "control"):
        for key, value in results.get(model, {}).items():
            if key not in TAKEN and not math.isfinite(value):
                said = f"--eval {x.config.eval}: {key!r} of the {model} model is {value}, no finite number"
                yield LogLine(message=said, level="warning", **x.clock.at())


def _comparison(x: Experiment, results: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    before, after = results["baseline"], results["pruned"]
    seed = x.seed_for(_BOOTSTRAP)
    difference = paired_bootstrap_difference(x.losses["pruned"], x.losses["baseline"], seed)
    figures: dict[str, Any] = {
        **_with_interval("loss_difference", difference),
        **_with_interval("perplexity_ratio", through_exp(difference)),
        "size_reduction": _reduction(before["bytes"], after["bytes"]),
        "parameter_reduction": _reduction(before["parameters"], after["parameters"]),
        "kv_cache_reduction": _reduction(before["kv_cache_bytes_per_token"], after["kv_cache_bytes_per_token"]),
    }
    if "control" in x.losses:
        to_control = paired_bootstrap_difference(x.losses["pruned"], x.losses["control"], seed)
        figures |= _with_interval("loss_difference_to_control", to_control)
    return figures


def _reduction(before: int, after: int) -> float:
    return 1 - after / before if before else math.nan


def _samples(x: Experiment, name: str, model: nn.Module) -> Iterator[Event]:
    """Text generated from the probe prompts by the model just evaluated, and what is looked at in every cycle."""
    limit = x.test.shape[1]
    for prompt in PROBE_PROMPTS:
        ids = x.tokenizer(prompt, add_special_tokens=False)["input_ids"][: limit // 2]
        prompt_ids = torch.tensor([ids], device=x.device)
        new_tokens = min(_NEW_TOKENS, limit - len(ids))
        text = x.tokenizer.decode(continuation(model, prompt_ids, new_tokens, x.pad_token_id))
        yield TextSample(prompt=prompt, text=text, model=name, **x.clock.at())
        if x.control is not None and x.clock.cycle:
            text = x.tokenizer.decode(continuation(x.control, prompt_ids, new_tokens, x.pad_token_id))
            yield TextSample(prompt=prompt, text=text, model="control", **x.clock.at())
    if x.kept is None or x.kept.step != x.clock.step:  # else the cycle's judgement has just looked at this very model
        yield from observe(x, name)
