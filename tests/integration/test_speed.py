"""Speed is measured as described: what runs, in which order, under which conditions. Never how long it took."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from neural_plasticity.errors import ConfigError
from neural_plasticity.models.speed import Speed, compare_speed, measure_speed, paired_ratio
from tests.architectures import build


class Watched:
    """Notes each forward of a model: (name, tokens, cached tokens)."""

    def __init__(self, name: str, model: Any, log: list[tuple[str, int, int]]) -> None:
        def note(module: Any, args: Any, kwargs: Any) -> None:
            cache = kwargs.get("past_key_values")
            log.append((name, kwargs["input_ids"].shape[1], 0 if cache is None else cache.get_seq_length()))
            assert torch.is_inference_mode_enabled()
            assert not module.training

        model.register_forward_pre_hook(note, with_kwargs=True)


def test_models_take_turns_after_a_warm_up_and_decode_from_the_cache() -> None:
    log: list[tuple[str, int, int]] = []
    models = {"a": build("gpt2"), "b": build("llama")}
    for name, model in models.items():
        Watched(name, model, log)
    speeds = compare_speed(models, prompt_tokens=8, new_tokens=3, repeats=2)
    assert list(speeds) == ["a", "b"]
    warm_up = [entry for name in "ab" for entry in [(name, 8, 0), (name, 1, 8), (name, 1, 9)]]
    repeat = [entry for name in "ab" for entry in [(name, 8, 0), (name, 1, 8), (name, 1, 9), (name, 1, 10)]]
    assert log == warm_up + 2 * repeat


def test_the_figures_belong_together() -> None:
    speed = measure_speed(build("llama"), prompt_tokens=8, new_tokens=2, repeats=3, batch=4)
    assert isinstance(speed, Speed)
    assert (speed.batch, speed.prompt_tokens, speed.new_tokens) == (4, 8, 2)
    assert len(speed.prefill_samples_ms) == len(speed.decode_samples_ms) == 3
    assert speed.prefill_ms == sorted(speed.prefill_samples_ms)[1] > 0
    assert speed.decode_ms_per_token == sorted(speed.decode_samples_ms)[1] > 0
    assert speed.prefill_tokens_per_second == pytest.approx(4 * 8 / speed.prefill_ms * 1e3)
    assert speed.decode_tokens_per_second == pytest.approx(4 / speed.decode_ms_per_token * 1e3)
    assert 0 <= speed.prefill_ms_spread <= max(speed.prefill_samples_ms) - min(speed.prefill_samples_ms)


def test_training_mode_comes_back() -> None:
    training, evaluating = build("gpt2").train(), build("gpt2")
    compare_speed({"training": training, "evaluating": evaluating}, prompt_tokens=4, new_tokens=1, repeats=1)
    assert training.training
    assert not evaluating.training


def test_an_encoder_has_no_decoding() -> None:
    speed = measure_speed(build("bert"), prompt_tokens=8, new_tokens=2, repeats=2)
    assert speed.prefill_ms > 0
    assert math.isnan(speed.decode_ms_per_token)
    assert math.isnan(speed.decode_tokens_per_second)


def test_the_prompt_fits_beside_the_new_tokens() -> None:
    model = build("gpt2")  # 64 positions
    assert measure_speed(model, new_tokens=4, repeats=1).prompt_tokens == 60
    with pytest.raises(ConfigError, match="prompt_tokens: expected 1 to 60"):
        measure_speed(model, prompt_tokens=61, new_tokens=4)
    for wrong in ({"new_tokens": 0}, {"repeats": 0}, {"batch": 0}):
        with pytest.raises(ConfigError, match="expected at least 1, got 0"):
            measure_speed(model, **{"prompt_tokens": 4, **wrong})


def test_the_ratio_is_taken_within_pairs() -> None:
    """Twice as fast in every repeat, although the machine became ten times slower on the way."""
    assert paired_ratio((2.0, 4.0, 40.0), (1.0, 2.0, 20.0)) == 2.0
