"""The demo's evaluations: per-sequence losses and timings are drawn, and the figures are computed from them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from neural_plasticity.dashboard.demo_world import Size

SEQUENCES = 256
REPEATS = 15  # of a timing
PROMPT_TOKENS = 128
PREFILL_MS, DECODE_MS = 12.4, 5.1
PREFILL_SHARE, DECODE_SHARE = 0.42, 0.16  # of the time that goes with the heads

Values = npt.NDArray[np.float64]
Results = dict[str, dict[str, Any]]


def evaluate(
    rng: np.random.Generator,
    size: Size,
    losses: Mapping[str, float],
    missing: int,
    sparsity: float,
    baseline: Mapping[str, Any],
) -> Results:
    """Results as ``events.Evaluation`` has them: the baseline alone, or baseline, pruned, control and comparison.

    ``losses``: the true loss of each model; ``missing``: heads that the pruned model is short of; ``baseline``: what
    the first evaluation said of it.
    """
    fixed = np.random.default_rng(7)
    hardness = fixed.normal(0, 0.45, SEQUENCES)  # of the test sequences: the same for every model
    hardness -= hardness.mean()
    of_baseline = fixed.normal(0, 0.05, SEQUENCES)  # the baseline's own, the same in every comparison with it
    of_baseline += hardness - of_baseline.mean()

    def sequence_losses(mean: float) -> Values:
        return mean + hardness + rng.normal(0, 0.05, SEQUENCES)

    if "pruned" not in losses:
        drawn = losses["baseline"] + of_baseline
        _, prefill, decode = _timings(rng, 0.0)
        return {"baseline": {**_loss_figures(drawn), **_speed_figures(prefill, decode), **_size_figures(size, 0, 0.0)}}
    before, prefill, decode = _timings(rng, sparsity)
    samples = {name: sequence_losses(mean) for name, mean in losses.items()}
    results: Results = {
        "baseline": {**baseline, **_speed_figures(*before)},
        "pruned": {
            **_loss_figures(samples["pruned"]),
            **_speed_figures(prefill, decode),
            **_size_figures(size, missing, sparsity),
        },
        "control": _loss_figures(samples["control"]),
    }
    to_baseline = _mean("loss_difference", samples["pruned"] - baseline["loss"] - of_baseline)
    results["comparison"] = {
        **to_baseline,
        **{key.replace("loss_difference", "perplexity_ratio"): float(np.exp(v)) for key, v in to_baseline.items()},
        **_mean("loss_difference_to_control", samples["pruned"] - samples["control"]),
        "size_reduction": 1 - results["pruned"]["bytes"] / results["baseline"]["bytes"],
        "parameter_reduction": 1 - results["pruned"]["parameters"] / results["baseline"]["parameters"],
        "kv_cache_reduction": 1
        - results["pruned"]["kv_cache_bytes_per_token"] / results["baseline"]["kv_cache_bytes_per_token"],
        **_median("prefill_speedup", before[0] / prefill),
        **_median("decode_speedup", before[1] / decode),
    }
    return results


def _timings(rng: np.random.Generator, sparsity: float) -> tuple[tuple[Values, Values], Values, Values]:
    """Baseline's (prefill, decode) and the pruned model's prefill and decode, ms, paired repeats."""
    busy = rng.lognormal(0, 0.06, REPEATS)  # another job disturbs both of a pair

    def times(ms: float, share: float) -> Values:
        return ms * (1 - share * sparsity) * busy * rng.lognormal(0, 0.012, REPEATS)

    baseline = (
        PREFILL_MS * busy * rng.lognormal(0, 0.012, REPEATS),
        DECODE_MS * busy * rng.lognormal(0, 0.012, REPEATS),
    )
    return baseline, times(PREFILL_MS, PREFILL_SHARE), times(DECODE_MS, DECODE_SHARE)


def _mean(name: str, values: Values) -> dict[str, float]:
    """Mean with its 95 % interval."""
    mean, half = float(values.mean()), 1.96 * float(values.std(ddof=1)) / len(values) ** 0.5
    return {name: mean, f"{name}_low": mean - half, f"{name}_high": mean + half}


def _median(name: str, values: Values) -> dict[str, float]:
    """Median with its 95 % interval, from order statistics."""
    ordered = np.sort(values)
    return {name: float(np.median(ordered)), f"{name}_low": float(ordered[3]), f"{name}_high": float(ordered[-4])}


def _loss_figures(values: Values) -> dict[str, float]:
    loss = _mean("loss", values)
    return loss | {key.replace("loss", "perplexity"): float(np.exp(value)) for key, value in loss.items()}


def _speed_figures(prefill: Values, decode: Values) -> dict[str, float]:
    return {
        "prefill_ms": float(np.median(prefill)),
        "prefill_ms_spread": _spread(prefill),
        "prefill_tokens_per_second": PROMPT_TOKENS / float(np.median(prefill)) * 1e3,
        "decode_ms_per_token": float(np.median(decode)),
        "decode_ms_per_token_spread": _spread(decode),
        "decode_tokens_per_second": 1e3 / float(np.median(decode)),
    }


def _spread(values: Values) -> float:
    low, high = np.percentile(values, [25, 75])
    return float(high - low)


def _size_figures(size: Size, missing: int, sparsity: float) -> dict[str, Any]:
    parameters = size.parameters(missing)
    return {
        "parameters": parameters,
        "bytes": 4 * parameters,
        "kv_cache_bytes_per_token": size.kv_bytes(missing),
        "sparsity": sparsity,
    }
