"""Sizes count what is physically there: parameters once, bytes by dtype, the cache as a real one holds it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from neural_plasticity.models.attach import attach
from neural_plasticity.models.compaction import compact
from neural_plasticity.models.size import model_size
from tests.architectures import ARCHITECTURES, DECODERS, HEADS, LAYERS, build, random_batch

TOKENS = 10


def cache_bytes_per_token(model: Any, batch: int = 2) -> float:
    """The slow reference: fill a real cache and weigh its tensors."""
    with torch.no_grad():
        cache = model(input_ids=random_batch(batch, TOKENS)["input_ids"], use_cache=True).past_key_values
    return sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers) / (batch * TOKENS)


def compacted(name: str, gone: list[tuple[int, int]], **options: Any) -> Any:
    model = build(name, **options)
    attach(model).prune(gone)
    return compact(model)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_parameter_is_counted_once(name: str) -> None:
    model = build(name)
    distinct = {parameter.data_ptr(): parameter.numel() for parameter in model.parameters()}
    size = model_size(model)
    assert size.parameters == sum(distinct.values())
    assert size.bytes == 4 * size.parameters
    assert model_size(build(name, dtype=torch.float16)).bytes == 2 * size.parameters


def test_tied_weights_count_once() -> None:
    tied, untied = model_size(build("gpt2")), model_size(build("gpt2", tie_word_embeddings=False))
    assert untied.parameters - tied.parameters == 97 * 32


@pytest.mark.parametrize("name", DECODERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def test_the_cache_is_what_a_real_cache_holds(name: str, dtype: torch.dtype) -> None:
    whole_layer = [(0, head) for head in range(HEADS)]
    for gone in (
        [],
        [(1, 0), (1, 1)],
        whole_layer,
        [(layer, head) for layer in range(LAYERS) for head in range(HEADS)],
    ):
        model = compacted(name, gone, dtype=dtype)
        assert model_size(model).kv_cache_bytes_per_token == cache_bytes_per_token(model)


def test_an_encoder_keeps_no_cache() -> None:
    assert model_size(build("bert")).kv_cache_bytes_per_token == 0


@pytest.mark.parametrize("name", ["llama", "qwen3"])
def test_whole_groups_free_cache_and_single_query_heads_do_not(name: str) -> None:
    """4 query heads on 2 key/value heads: heads 0 and 1 share the first."""
    before = model_size(build(name)).kv_cache_bytes_per_token
    single = compacted(name, [(layer, head) for layer in range(LAYERS) for head in (0, 2)])
    assert model_size(single).kv_cache_bytes_per_token == cache_bytes_per_token(single) == before
    assert model_size(single).parameters < model_size(build(name)).parameters
    group = compacted(name, [(layer, head) for layer in range(LAYERS) for head in (0, 1)])
    assert model_size(group).kv_cache_bytes_per_token == cache_bytes_per_token(group) == before / 2


def test_a_gated_head_is_still_there() -> None:
    model = build("llama")
    before = model_size(model)
    attach(model).set_mask(np.zeros((LAYERS, HEADS), dtype=bool))
    assert model_size(model) == before
