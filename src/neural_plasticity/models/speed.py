"""How fast a model is, as it physically is: prefill and cached decoding, models interleaved in one process.

A gate multiplies a head's output after the work is done, so a mask is never credited with anything here: what is timed
is what runs. Compact the model first (`neural_plasticity.compact`) to see what pruning is worth.
"""

from __future__ import annotations

import inspect
import math
import statistics
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from neural_plasticity.errors import ConfigError
from neural_plasticity.models.sharding import mesh_of

DEFAULT_PROMPT_TOKENS = 512


@dataclass(frozen=True)
class Speed:
    """Median and spread (interquartile range) of one model's repeats, in ms of wall time (or another clock's).

    ``prefill_ms`` is one forward over the whole prompt (batch × prompt_tokens) that fills the cache and computes the
    last position's logits, ``decode_ms_per_token`` one cached step for the whole batch. Tokens per second count the
    batch. An encoder has no decoding: those figures are NaN. The samples are in the order they were taken, so those of
    two models of one `compare_speed` call are pairs.
    """

    prefill_ms: float
    prefill_ms_spread: float
    prefill_tokens_per_second: float
    decode_ms_per_token: float
    decode_ms_per_token_spread: float
    decode_tokens_per_second: float
    batch: int
    prompt_tokens: int
    new_tokens: int
    prefill_samples_ms: tuple[float, ...]
    decode_samples_ms: tuple[float, ...]  # per token


def measure_speed(
    model: Any, prompt_tokens: int | None = None, new_tokens: int = 32, repeats: int = 5, batch: int = 1
) -> Speed:
    """Time one model; see `compare_speed`, which is the honest way to compare two."""
    return compare_speed({"model": model}, prompt_tokens, new_tokens, repeats, batch)["model"]


def compare_speed(
    models: Mapping[str, Any],
    prompt_tokens: int | None = None,
    new_tokens: int = 32,
    repeats: int = 5,
    batch: int = 1,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Speed]:
    """Time several models, each repeat visiting all of them in turn, so that a busy machine disturbs them alike.

    Each model is warmed up once, runs in ``eval`` mode under ``torch.inference_mode`` (one that FSDP divides:
    ``no_grad``) and gets its own training mode back. ``prompt_tokens``: 512 by default, or what the shortest context
    among the models leaves beside ``new_tokens``.
    ``clock`` returns seconds: wall time, or ``time.thread_time`` for one thread on a machine that others keep busy.

    Raises:
        ConfigError: a count is below 1, or the prompt and the new tokens do not fit into a model's context.
    """
    for name, count in (("new_tokens", new_tokens), ("repeats", repeats), ("batch", batch)):
        if count < 1:
            raise ConfigError(f"{name}: expected at least 1, got {count}.")
    prompt_tokens = _fitting_prompt(models, prompt_tokens, new_tokens)
    training = {name: model.training for name, model in models.items()}
    prefill: dict[str, list[float]] = {name: [] for name in models}
    decode: dict[str, list[float]] = {name: [] for name in models}
    try:
        for model in models.values():
            model.eval()
            with _without_gradients(model):
                _time_once(model, prompt_tokens, min(new_tokens, 2), batch, clock)
        for _ in range(repeats):
            for name, model in models.items():
                with _without_gradients(model):
                    prefill_s, decode_s = _time_once(model, prompt_tokens, new_tokens, batch, clock)
                prefill[name].append(prefill_s * 1e3)
                decode[name].append(decode_s * 1e3)
    finally:
        for name, model in models.items():
            model.train(training[name])
    return {name: _speed(prefill[name], decode[name], batch, prompt_tokens, new_tokens) for name in models}


def paired_ratio(before_ms: tuple[float, ...], after_ms: tuple[float, ...]) -> float:
    """Speed-up as the median of the ratios before / after within each repeat: above 1 means that ``after`` is faster.

    Pairing removes what disturbed both members of a pair, such as another job that ran during one repeat.
    """
    return statistics.median(before / after for before, after in zip(before_ms, after_ms, strict=True))


def context_length(model: Any) -> int | None:
    """The longest sequence the model's positions allow, None when its configuration names no limit."""
    limit = getattr(model.config, "max_position_embeddings", None)
    return int(limit) if limit else None


def _fitting_prompt(models: Mapping[str, Any], prompt_tokens: int | None, new_tokens: int) -> int:
    limits = [limit for model in models.values() if (limit := context_length(model)) is not None]
    room = min(limits) - new_tokens if limits else None
    if prompt_tokens is None:
        prompt_tokens = DEFAULT_PROMPT_TOKENS if room is None else min(DEFAULT_PROMPT_TOKENS, room)
    if prompt_tokens < 1 or (room is not None and prompt_tokens > room):
        raise ConfigError(
            f"prompt_tokens: expected 1 to {'any' if room is None else room} beside {new_tokens} new tokens, "
            f"got {prompt_tokens}; the model's context holds no more."
        )
    return prompt_tokens


def _without_gradients(model: Any) -> AbstractContextManager[Any]:
    """What FSDP gathers parameters into under inference_mode could not be trained with afterwards."""
    return torch.inference_mode() if mesh_of(model) is None else torch.no_grad()


def _time_once(
    model: Any, prompt_tokens: int, new_tokens: int, batch: int, clock: Callable[[], float]
) -> tuple[float, float]:
    """Seconds of one prefill, and seconds per token of cached decoding (NaN for a model that keeps no cache)."""
    generator = torch.Generator().manual_seed(0)  # every model and repeat gets the same tokens
    vocabulary = model.config.vocab_size
    prompt = torch.randint(vocabulary, (batch, prompt_tokens), generator=generator).to(model.device)  # (B, T)
    tokens = torch.randint(vocabulary, (batch, new_tokens), generator=generator).to(model.device)
    accepted = inspect.signature(model.forward).parameters
    keep: dict[str, Any] = {"logits_to_keep": 1} if "logits_to_keep" in accepted else {}
    decodes = bool(model.can_generate())
    options = {"use_cache": True, **keep} if decodes else keep

    started = _now(prompt, clock)
    output = model(input_ids=prompt, **options)
    prefilled = _now(prompt, clock)
    if not decodes:
        return prefilled - started, math.nan
    cache = output.past_key_values
    for step in range(new_tokens):
        model(input_ids=tokens[:, step : step + 1], past_key_values=cache, **options)
    return prefilled - started, (_now(prompt, clock) - prefilled) / new_tokens


def _now(tensor: Tensor, clock: Callable[[], float]) -> float:
    """The clock's seconds, after everything queued on the tensor's device has run."""
    if tensor.device.type == "cuda":
        torch.cuda.synchronize(tensor.device)
    return clock()


def _speed(prefill_ms: list[float], decode_ms: list[float], batch: int, prompt_tokens: int, new_tokens: int) -> Speed:
    prefill, decode = statistics.median(prefill_ms), statistics.median(decode_ms)
    return Speed(
        prefill_ms=prefill,
        prefill_ms_spread=_interquartile_range(prefill_ms),
        prefill_tokens_per_second=batch * prompt_tokens / prefill * 1e3,
        decode_ms_per_token=decode,
        decode_ms_per_token_spread=_interquartile_range(decode_ms),
        decode_tokens_per_second=batch / decode * 1e3,
        batch=batch,
        prompt_tokens=prompt_tokens,
        new_tokens=new_tokens,
        prefill_samples_ms=tuple(prefill_ms),
        decode_samples_ms=tuple(decode_ms),
    )


def _interquartile_range(samples: list[float]) -> float:
    """Third minus first quartile, interpolated between samples; 0 for a single sample."""
    if len(samples) < 2 or any(math.isnan(sample) for sample in samples):
        return math.nan if any(math.isnan(sample) for sample in samples) else 0.0
    first, _, third = statistics.quantiles(samples, n=4, method="inclusive")
    return third - first
