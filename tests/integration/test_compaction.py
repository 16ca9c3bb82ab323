"""A compacted model has the gated model's logits, for any mask, architecture, cache and padding."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import DynamicCache

from neural_plasticity.errors import UnsupportedModelError
from neural_plasticity.models import compaction
from neural_plasticity.models.attach import attach
from neural_plasticity.models.compaction import check_compaction, compact
from neural_plasticity.models.layouts import layer_layouts
from neural_plasticity.models.seam import seam_of
from tests.architectures import ARCHITECTURES, CONFIGS, DECODERS, HEADS, LAYERS, build, random_batch

Mask = npt.NDArray[np.bool_]
GROUPED = ("llama", "mistral", "qwen2", "qwen3")  # 4 query heads on 2 key/value heads


def mask_of(rows: str) -> Mask:
    """``"0110 1111 0000"``: one word per layer, 1 = active."""
    return np.array([[digit == "1" for digit in row] for row in rows.split()])


MASKS: dict[str, Mask] = {
    "uneven layers": mask_of("0110 1000 1101"),
    "first layer gone": mask_of("0000 1011 0111"),
    "last layer gone": mask_of("1110 1011 0000"),
    "all layers gone": mask_of("0000 0000 0000"),
    "uneven query heads per key/value head": mask_of("1101 0111 0100"),
    "whole key/value groups": mask_of("1100 0011 1111"),
    "one query head per group": mask_of("1010 0101 0110"),
}
masks = st.lists(st.booleans(), min_size=LAYERS * HEADS, max_size=LAYERS * HEADS).map(
    lambda bits: np.array(bits).reshape(LAYERS, HEADS)
)
every_mask = pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS.keys())


def gated(name: str, mask: Mask, **options: Any) -> Any:
    model = build(name, **options)
    attach(model).set_mask(mask)
    return model


def assert_close(got: Tensor, expected: Tensor) -> None:
    """The law: 1e-5 of the largest logit (at least of 1) in float32, 1e-10 in float64."""
    bound = 1e-10 if expected.dtype == torch.float64 else 1e-5
    assert got.dtype == expected.dtype
    assert (got - expected).abs().max().item() <= bound * max(1.0, expected.abs().max().item())


OWN_COUNTS: dict[str, dict[str, Any]] = {
    "phi3": dict(CONFIGS["phi"]),
    "gpt_bigcode": {**CONFIGS["gpt2"], "multi_query": True},
}


@pytest.mark.parametrize("name", OWN_COUNTS)
def test_a_model_whose_code_counts_for_itself_is_refused_and_left_as_it_was(name: str) -> None:
    """Both cut their fused projection by the configuration's number of heads."""
    model, batch = build(name, **OWN_COUNTS[name]), random_batch()
    heads = attach(model)
    heads.prune([(0, 1)])
    before, weights, mask = logits(model, **batch), dict(model.named_parameters()), heads.mask
    for refused in (check_compaction, compact):
        with pytest.raises(UnsupportedModelError, match=f"'{name}' is not supported: its code counts heads"):
            refused(model)
        assert torch.equal(logits(model, **batch), before)
        assert all(one is weights[path] for path, one in model.named_parameters())
        assert (heads.mask == mask).all()


def test_a_module_per_head_is_refused() -> None:
    """StableLM's norms: once heads are gone, others would stand in their places."""
    with pytest.raises(UnsupportedModelError, match=r"q_layernorm.norms spans several heads"):
        attach(build("stablelm", **CONFIGS["llama"], qk_layernorm=True))


def test_a_copy_that_computes_something_else_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """What no rule foresees is found by its outputs: here heads change places on the way."""
    heads = attach(build("gpt2"))
    check_compaction(heads.model)
    right = compaction.plan_surgery

    def wrong(*given: Any) -> Any:
        plan = right(*given)
        with torch.no_grad():
            for path, parameter in plan.parameters.items():
                if path.endswith("c_proj.weight"):
                    parameter.copy_(parameter.roll(8, 0))  # a head's width
        return plan

    monkeypatch.setattr(compaction, "plan_surgery", wrong)
    heads.prune([(0, 1)])
    for refused in (check_compaction, compact):
        with pytest.raises(UnsupportedModelError, match="something else than with the same heads gated off"):
            refused(heads.model)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_check_leaves_the_model_as_it_was(name: str) -> None:
    model, batch = gated(name, MASKS["uneven layers"]), random_batch()
    before, weights, record = logits(model, **batch), dict(model.named_parameters()), vars(model.config).copy()
    check_compaction(model)
    assert torch.equal(logits(model, **batch), before)
    assert all(one is weights[path] for path, one in model.named_parameters())
    assert vars(model.config) == record


@torch.no_grad()
def logits(model: Any, **inputs: Any) -> Tensor:
    return model(**inputs).logits


@torch.no_grad()
def cached_logits(model: Any, ids: Tensor, mask: Tensor, prompt: int, cache: Any = None) -> list[Tensor]:
    """Logits of the prompt, then of each further token fed alone with what is cached."""
    output = model(input_ids=ids[:, :prompt], attention_mask=mask[:, :prompt], past_key_values=cache, use_cache=True)
    steps = [output.logits]
    for position in range(prompt, ids.shape[1]):
        output = model(
            input_ids=ids[:, position : position + 1],
            attention_mask=mask[:, : position + 1],
            past_key_values=output.past_key_values,
            use_cache=True,
        )
        steps.append(output.logits)
    return steps


@pytest.mark.parametrize("name", ARCHITECTURES)
@settings(max_examples=8)
@given(mask=masks, padding=st.sampled_from([None, "left"]), dtype=st.sampled_from([torch.float32, torch.float64]))
def test_a_compacted_model_has_the_gated_models_logits(
    name: str, mask: Mask, padding: str | None, dtype: torch.dtype
) -> None:
    model = gated(name, mask, dtype=dtype)
    batch = random_batch(3, 10, padding=padding)
    assert_close(logits(compact(model), **batch), logits(model, **batch))


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_it_equals_a_stock_model_whose_heads_write_nothing(name: str) -> None:
    """The slow obvious reference, without gates: zero the output weights of the pruned heads."""
    mask = MASKS["uneven query heads per key/value head"]
    reference, batch = build(name, dtype=torch.float64), random_batch(padding="left")
    whole = logits(reference, **batch)
    for layout, row in zip(layer_layouts(reference), mask, strict=True):
        layout.output_weight().data[torch.as_tensor(~row)] = 0.0
    expected = logits(reference, **batch)
    assert (whole - expected).abs().max() > 0.01  # these heads mattered
    assert_close(logits(compact(gated(name, mask, dtype=torch.float64)), **batch), expected)


@every_mask
@pytest.mark.parametrize("name", DECODERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
def test_cached_steps_give_the_logits_of_the_gated_model_without_a_cache(
    name: str, mask: Mask, dtype: torch.dtype
) -> None:
    model = gated(name, mask, dtype=dtype)
    batch = random_batch(3, 11, padding="left")
    ids, padding = batch["input_ids"], batch["attention_mask"]
    small = compact(model)
    prompt, *steps = cached_logits(small, ids, padding, prompt=7)
    stepwise = cached_logits(model, ids, padding, prompt=7)
    for got, expected in zip([prompt, *steps], stepwise, strict=True):
        assert_close(got, expected)
    whole = logits(model, input_ids=ids, attention_mask=padding)
    for offset, step in enumerate(steps):
        assert_close(step[:, 0], whole[:, 7 + offset])


@every_mask
def test_a_sliding_window_that_is_full(mask: Mask) -> None:
    """Such a cache drops old tokens but goes on counting, and masks are made from its count."""
    model = gated("mistral", mask, dtype=torch.float64, sliding_window=5)
    batch = random_batch(2, 14)
    ids, padding = batch["input_ids"], batch["attention_mask"]
    whole = logits(model, input_ids=ids, attention_mask=padding)
    for offset, step in enumerate(cached_logits(compact(model), ids, padding, prompt=8)[1:]):
        assert_close(step[:, 0], whole[:, 8 + offset])


@every_mask
@pytest.mark.parametrize("name", DECODERS)
def test_generation_gives_the_same_tokens(name: str, mask: Mask) -> None:
    model = gated(name, mask, dtype=torch.float64)
    small, batch = compact(model), random_batch(3, 8, padding="left")
    for options in ({"num_beams": 1}, {"num_beams": 2}, {"num_beams": 1, "cache_implementation": "static"}):
        wanted = model.generate(**batch, max_new_tokens=6, min_new_tokens=6, do_sample=False, **options)
        assert torch.equal(
            small.generate(**batch, max_new_tokens=6, min_new_tokens=6, do_sample=False, **options), wanted
        )


def test_a_layer_without_heads_still_counts_tokens_in_the_cache() -> None:
    small = compact(gated("llama", MASKS["first layer gone"]))
    cache = DynamicCache()
    ids = random_batch(2, 9)["input_ids"]
    logits(small, input_ids=ids, past_key_values=cache)
    assert cache.get_seq_length() == 9
    assert cache.layers[0].keys.shape == (2, 1, 9, 1)
    cache.crop(-4)
    assert [cache.get_seq_length(layer) for layer in range(LAYERS)] == [5, 5, 5]
    again = logits(small, input_ids=ids[:, 5:], past_key_values=cache)
    assert_close(again, logits(small, input_ids=ids)[:, 5:])


@pytest.mark.parametrize("backend", ["eager", "sdpa"])
@pytest.mark.parametrize("name", ["gpt2", "llama", "bert"])
def test_every_backend_and_a_change_of_backend(name: str, backend: str) -> None:
    batch = random_batch(2, 9, padding="left")
    # In float32: transformers' own eager attention gives NaN for a padded row in float64.
    model = gated(name, MASKS["uneven query heads per key/value head"])
    model.set_attn_implementation(backend)
    small = compact(model)
    assert_close(logits(small, **batch), logits(model, **batch))
    for one in (model, small):
        one.set_attn_implementation("sdpa" if backend == "eager" else "eager")
    assert_close(logits(small, **batch), logits(model, **batch))


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_original_is_untouched_and_nothing_is_shared(name: str) -> None:
    model = gated(name, MASKS["first layer gone"])
    before, config, batch = copy.deepcopy(model.state_dict()), model.config.to_dict(), random_batch()
    gated_logits = logits(model, **batch)
    small = compact(model)
    with torch.no_grad():
        for parameter in small.parameters():
            parameter.fill_(0.5)
    assert model.config.to_dict() == config
    assert attach(model).mask.tolist() == MASKS["first layer gone"].tolist()
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert torch.equal(logits(model, **batch), gated_logits)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_compacting_a_compact_model_again(name: str) -> None:
    first, second = mask_of("1101 1111 0111"), mask_of("0101 0000 0110")
    twice = compact(gated(name, first, dtype=torch.float64))
    attach(twice).set_mask(second)
    batch = random_batch(padding="left")
    expected = logits(twice, **batch)
    small = compact(twice)
    assert_close(logits(small, **batch), expected)
    once = compact(gated(name, second, dtype=torch.float64))
    assert small.config.plasticity == once.config.plasticity
    assert_close(logits(small, **batch), logits(once, **batch))
    assert {key: value.shape for key, value in small.state_dict().items()} == {
        key: value.shape for key, value in once.state_dict().items()
    }


@pytest.mark.parametrize("name", ["gpt2", "llama", "bert"])
@pytest.mark.parametrize("attached", [False, True], ids=["stock", "attached"])
def test_a_model_without_pruned_heads_gives_an_equal_copy(name: str, attached: bool) -> None:
    model, batch = build(name), random_batch()
    implementation = model.config._attn_implementation
    if attached:
        attach(model)
    twin = compact(model)
    assert all(torch.equal(value, model.state_dict()[key]) for key, value in twin.state_dict().items())
    assert torch.equal(logits(twin, **batch), logits(model, **batch))
    assert getattr(twin.config, "plasticity", None) is None
    assert getattr(twin.config, "quantization_config", None) is None
    logits(twin, **batch)
    assert twin.config._attn_implementation == implementation  # and no hook brought the seam back


@pytest.mark.parametrize("name", GROUPED)
def test_key_value_heads_go_with_their_last_query_head(name: str) -> None:
    small = compact(gated(name, mask_of("1100 0010 1111")))
    assert small.config.plasticity == {
        "shape": [3, 4],
        "query_heads": [[0, 1], [2], [0, 1, 2, 3]],
        "kv_heads": [[0], [1], [0, 1]],
    }
    assert (small.config.num_attention_heads, small.config.num_key_value_heads) == (4, 2)
    rows = [layer.self_attn.k_proj.out_features // layer.self_attn.head_dim for layer in small.model.layers]
    assert rows == [1, 1, 2]


@pytest.mark.parametrize("name", GROUPED)
def test_the_seam_stays_only_where_groups_are_uneven(name: str) -> None:
    even, uneven = compact(gated(name, mask_of("1010 1100 1111"))), compact(gated(name, mask_of("1011 1100 1111")))
    assert [seam_of(layer.self_attn) is not None for layer in even.model.layers] == [False, False, False]
    assert even.config._attn_implementation == "sdpa"
    assert [layer.self_attn.num_key_value_groups for layer in even.model.layers] == [1, 2, 2]
    assert [seam_of(layer.self_attn) is not None for layer in uneven.model.layers] == [True, False, False]
    assert [layer.self_attn.num_key_value_groups for layer in uneven.model.layers] == [1, 2, 2]


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_gradients_are_those_of_the_gated_model(name: str) -> None:
    """So a compact model learns what the gated one would: compared on a parameter that pruning leaves whole."""
    model = gated(name, MASKS["first layer gone"], dtype=torch.float64)
    small, batch = compact(model), random_batch()
    for one in (model, small):
        one(**batch, labels=batch["input_ids"]).loss.backward()
    mine, theirs = small.get_input_embeddings().weight.grad, model.get_input_embeddings().weight.grad
    assert mine.abs().max() > 0
    torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-12)
