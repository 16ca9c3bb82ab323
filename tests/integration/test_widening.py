"""New heads beyond the original number: nothing changes at birth, and the wider model is a model like the others."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoConfig, AutoModelForCausalLM

from neural_plasticity.errors import HeadError, ModelError, UnsupportedModelError
from neural_plasticity.heads import HeadId, heads_of
from neural_plasticity.importance import CRITERIA, score_heads
from neural_plasticity.models.attach import Heads, attach
from neural_plasticity.models.compaction import compact
from neural_plasticity.models.layouts import layer_layouts
from neural_plasticity.models.saving import export_dense, load_pruned, save_pruned
from neural_plasticity.models.seam import seam_of
from neural_plasticity.models.size import model_size
from neural_plasticity.models.speed import measure_speed
from neural_plasticity.models.widening import set_added
from tests.architectures import ARCHITECTURES, DECODERS, HEADS, LAYERS, build, random_batch
from tests.integration.test_compaction import GROUPED, assert_close, cached_logits, logits

BORN = {0: 1, 2: 3}  # layer 1 stays as it is
WIDTH = HEADS + 3
Mask = npt.NDArray[np.bool_]

masks = st.lists(st.booleans(), min_size=LAYERS * WIDTH, max_size=LAYERS * WIDTH).map(
    lambda bits: np.array(bits).reshape(LAYERS, WIDTH)
)


def widened(name: str, *, awake: bool = True, **options: Any) -> Heads:
    """A model with four new heads; ``awake``: they write something, as after some training."""
    heads = attach(build(name, **options))
    heads.add(BORN, seed=3)
    if awake:
        with torch.no_grad():
            for layout in heads.layouts:
                layout.output_weight()[layout.original :] = 0.3 * torch.randn(
                    layout.heads - layout.original, layout.head_dim, 32, generator=torch.Generator().manual_seed(7)
                )
    return heads


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
def test_the_function_is_unchanged_at_birth(name: str, dtype: torch.dtype) -> None:
    model = build(name, dtype=dtype)
    heads, batch = attach(model), random_batch(3, 11, padding="left")
    heads.prune([(0, 1), (1, 2)])
    before = logits(model, **batch)
    ids, padding = batch["input_ids"], batch["attention_mask"]
    steps = cached_logits(model, ids, padding, prompt=7) if name in DECODERS else []
    assert heads.add({0: 1, 2: 3}, seed=1) == (HeadId(0, 4), HeadId(2, 4), HeadId(2, 5), HeadId(2, 6))
    assert heads.shape == (3, 7)
    assert heads.mask.tolist() == [
        [True, False, True, True, True, False, False],
        [True, True, False, True, False, False, False],
        [True] * 7,
    ]
    bound = (1e-6 if dtype == torch.float32 else 1e-15) * max(1.0, before.abs().max().item())
    assert (logits(model, **batch) - before).abs().max().item() <= bound
    for got, expected in zip(cached_logits(model, ids, padding, prompt=7) if steps else [], steps, strict=True):
        assert (got - expected).abs().max().item() <= bound


@pytest.mark.parametrize("name", ARCHITECTURES)
@settings(max_examples=6)
@given(mask=masks, padding=st.sampled_from([None, "left"]), dtype=st.sampled_from([torch.float32, torch.float64]))
def test_a_widened_model_compacts_to_the_gated_models_logits(
    name: str, mask: Mask, padding: str | None, dtype: torch.dtype
) -> None:
    heads = widened(name, dtype=dtype)
    heads.set_mask(mask & heads.present)
    batch = random_batch(3, 10, padding=padding)
    expected = logits(heads.model, **batch)
    small = compact(heads.model)
    assert_close(logits(small, **batch), expected)
    again = attach(small)
    assert again.present.tolist() == heads.mask.tolist()
    assert again.shape == heads.shape
    assert again.kv_groups.tolist() == heads.kv_groups.tolist()
    assert_close(logits(small, **batch), expected)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_new_heads_write_exactly_their_slice(name: str) -> None:
    """The slow obvious reference: gating a new head off is zeroing its part of the output projection."""
    heads, batch = widened(name, dtype=torch.float64), random_batch(padding="left")
    whole = logits(heads.model, **batch)
    reference = copy.deepcopy(heads.model)
    layer_layouts(reference)[2].output_weight().data[5] = 0.0
    heads.prune([(2, 5)])
    expected = logits(reference, **batch)
    assert (whole - expected).abs().max() > 1e-3
    assert_close(logits(heads.model, **batch), expected)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_added_and_pruned_again_is_the_original(name: str) -> None:
    model, batch = build(name, dtype=torch.float64), random_batch(padding="left")
    before = logits(model, **batch)
    heads = widened(name, dtype=torch.float64)
    heads.prune(heads_of(heads.present & ~heads.original))
    assert_close(logits(heads.model, **batch), before)
    small = compact(heads.model)
    assert_close(logits(small, **batch), before)
    assert {key: value.shape for key, value in small.state_dict().items()} == {
        key: value.shape for key, value in model.state_dict().items()
    }


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_saved_opened_and_widened_again(name: str, tmp_path: Path) -> None:
    heads, batch = widened(name), random_batch(3, 10, padding="left")
    save_pruned(heads.model, tmp_path / "wide")
    opened = load_pruned(tmp_path / "wide")
    assert torch.equal(logits(opened, **batch), logits(compact(heads.model), **batch))
    heads.prune([(0, 1), (1, 0), (1, 1), (1, 2), (1, 3), (2, 5)])
    small = compact(heads.model)
    opened = load_pruned(save_pruned(heads.model, tmp_path / "small"))
    assert torch.equal(logits(opened, **batch), logits(small, **batch))
    again = attach(opened)
    assert again.present.tolist() == heads.mask.tolist()
    expected = logits(opened, **batch)
    # Numbers are never used twice: L2H5 is gone for good, and the next one of layer 2 is its seventh.
    assert again.add([2, 0]) == (HeadId(0, 5), HeadId(2, 7))
    assert_close(logits(opened, **batch), expected)
    reopened = attach(load_pruned(save_pruned(opened, tmp_path / "again")))
    assert reopened.present.tolist() == again.present.tolist()
    assert torch.equal(logits(reopened.model, **batch), logits(opened, **batch))
    with pytest.raises(HeadError, match="compaction took all"):
        again.add([1])


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_dense_export_is_a_stock_model_or_is_refused(name: str, tmp_path: Path) -> None:
    heads, batch = widened(name, dtype=torch.float64), random_batch(3, 10, padding="left")
    heads.prune([(0, 0), (2, 1)])
    if name not in ("llama", "mistral", "qwen2", "qwen3", "phi"):  # the others derive a head's width from their number
        with pytest.raises(UnsupportedModelError, match="after heads were added"):
            export_dense(heads.model, tmp_path)
        heads.prune([(0, 4), (2, 4), (2, 5), (2, 6)])
        export_dense(heads.model, tmp_path / "without")  # no new head is left: the original shape
        return
    export_dense(heads.model, tmp_path)
    config = AutoConfig.from_pretrained(tmp_path)
    assert config.num_attention_heads == (8 if name in GROUPED else WIDTH)  # two groups of four; or one group each
    stock = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert getattr(stock.config, "plasticity", None) is None
    torch.testing.assert_close(logits(stock, **batch), logits(heads.model, **batch), rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_old_heads_score_as_before_and_new_ones_are_scored(name: str) -> None:
    model, batch = build(name, dtype=torch.float64), random_batch(3, 10, padding="left")
    batches = [{**batch, "labels": batch["input_ids"]}]
    criteria = [one for one in CRITERIA if one not in ("random", "combined", "gradient_normalised")]
    before = score_heads(model, batches, criteria)
    heads = attach(model)
    heads.add(BORN)
    after = score_heads(model, batches, criteria)
    for one in criteria:
        np.testing.assert_allclose(after[one][:, :HEADS], before[one], rtol=1e-7, atol=1e-12, err_msg=one)
        assert np.isfinite(after[one][heads.present]).all()
        assert np.isnan(after[one][~heads.present]).all()
    assert np.abs(after["gradient"][heads.present & ~heads.original]).max() <= 1e-15  # what writes nothing has none


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_new_heads_learn_and_pruned_ones_stand_still(name: str) -> None:
    heads = attach(build(name))
    heads.add(BORN, seed=2)
    heads.prune([(2, 6), (0, 1)])
    model, batch = heads.model.train(), random_batch(4, 10)
    start = copy.deepcopy(model.state_dict())
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.1)
    protection = heads.protect(optimizer)
    output, query = (
        next(one for one in heads.layouts[2].slices() if one.kind == kind and one.parameter.endswith("weight"))
        for kind in ("output", "query")
    )

    def moved(part: Any, head: int) -> float:
        places = part.index[head]
        now = model.state_dict()[part.parameter].index_select(part.dim, places)
        return float((now - start[part.parameter].index_select(part.dim, places)).abs().max())

    for step in range(4):
        optimizer.zero_grad()
        model(**batch, labels=batch["input_ids"]).loss.backward()
        if step == 0:  # a head that writes nothing learns to write first
            gradient = model.get_parameter(query.parameter).grad.index_select(query.dim, query.index[4])
            assert gradient.abs().max() == 0
            gradient = model.get_parameter(output.parameter).grad.index_select(output.dim, output.index[4])
            assert gradient.abs().max() > 0
        optimizer.step()
    protection.remove()
    assert moved(output, 4) > 0
    assert moved(query, 4) > 0.005  # more than weight decay, which takes a thousandth per step
    assert moved(output, 6) == 0
    assert moved(query, 6) == 0


@pytest.mark.parametrize("name", GROUPED)
def test_new_heads_join_the_groups_with_the_fewest_readers(name: str) -> None:
    heads = attach(build(name))
    before = model_size(heads.model)
    heads.add({1: 3})
    assert heads.kv_groups[1].tolist() == [0, 0, 1, 1, 0, 1, 0]
    assert heads.kv_groups[0].tolist() == [0, 0, 1, 1, -1, -1, -1]
    after = model_size(heads.model)
    assert after.kv_cache_bytes_per_token == before.kv_cache_bytes_per_token
    assert after.parameters - before.parameters == 3 * 2 * heads.layouts[1].head_dim * 32 + 3 * heads.layouts[
        1
    ].head_dim * (name == "qwen2")
    assert not seam_of(heads.layouts[1].module).even_groups
    heads.add([1])
    assert seam_of(heads.layouts[1].module).even_groups is False  # 4 and 4, but not one group after the other


def test_the_same_seed_gives_the_same_heads_at_the_layers_own_scale() -> None:
    first, second, other = (attach(build("gpt2")) for _ in range(3))
    first.add([1], seed=5)
    second.add([1], seed=5)
    other.add([1], seed=6)
    assert all(torch.equal(one, two) for one, two in zip(*(h.model.parameters() for h in (first, second)), strict=True))
    assert not torch.equal(first.layouts[1].value_weight()[4], other.layouts[1].value_weight()[4])
    old, new = first.layouts[1].value_weight()[:4].std().item(), first.layouts[1].value_weight()[4].std().item()
    assert 0.8 < new / old < 1.25


def test_every_heads_of_a_model_sees_them_and_a_copy_has_its_own() -> None:
    model = build("llama")
    heads, same = attach(model), attach(model)
    control = attach(copy.deepcopy(model))
    heads.add([0])
    assert same.shape == heads.shape == (3, 5)
    assert repr(same) == "Heads(3 layers × 5 heads, 13 of 13 active)"
    assert control.shape == (3, 4)
    twin = attach(copy.deepcopy(model))
    assert twin.present.tolist() == heads.present.tolist()
    twin.prune([(0, 4)])
    assert heads.mask[0, 4]


def test_speed_and_generation_of_a_widened_model() -> None:
    heads, batch = widened("mistral", dtype=torch.float64), random_batch(2, 8, padding="left")
    small = compact(heads.model)
    assert measure_speed(small, prompt_tokens=8, new_tokens=2, repeats=2).prefill_ms > 0
    for options in ({"num_beams": 1}, {"num_beams": 2}, {"cache_implementation": "static"}):
        wanted = heads.model.generate(**batch, max_new_tokens=5, min_new_tokens=5, do_sample=False, **options)
        got = small.generate(**batch, max_new_tokens=5, min_new_tokens=5, do_sample=False, **options)
        assert torch.equal(got, wanted)


@pytest.mark.parametrize("name", ["gpt2", "llama", "gpt_neox"])
def test_a_shape_is_set_for_weights_that_are_loaded(name: str) -> None:
    """As resuming does: to the shape of the checkpoint, and back to a narrower one."""
    heads, fresh, batch = widened(name), attach(build(name, seed=1)), random_batch()
    set_added(fresh.model, heads.added)
    fresh.model.load_state_dict(heads.model.state_dict())
    fresh.set_mask(heads.mask)
    assert torch.equal(logits(fresh.model, **batch), logits(heads.model, **batch))
    fresh.prune([(1, 1)])
    set_added(fresh.model, [[]] * LAYERS)
    assert fresh.shape == (LAYERS, HEADS)
    assert getattr(fresh.model.config, "plasticity", None) is None  # a stock model again
    assert not fresh.mask[1, 1]
    fresh.model.load_state_dict(build(name).state_dict())
    fresh.set_mask(np.ones((LAYERS, HEADS), dtype=bool))
    assert_close(logits(fresh.model, **batch), logits(build(name), **batch))


def test_what_cannot_be_is_refused_and_changes_nothing() -> None:
    model, batch = build("gpt2"), random_batch()
    heads = attach(model)
    before, config = logits(model, **batch), model.config.to_dict()
    for where, message in (([3], "3 layers"), ([-1], "3 layers"), ({0: -1}, "from 0 on"), ({0: 5000}, "too many")):
        with pytest.raises(HeadError, match=message):
            heads.add(where)
    with pytest.raises(HeadError, match="a list for each"):
        set_added(model, [[]])
    assert heads.add({}) == heads.add({1: 0}) == ()
    assert model.config.to_dict() == config
    assert torch.equal(logits(model, **batch), before)
    heads.detach()
    with pytest.raises(HeadError, match="detached"):
        heads.add([0])


def test_an_architecture_whose_code_counts_for_itself_is_refused() -> None:
    """Phi-3 cuts its fused projection by the configuration's number of heads."""
    model = build(
        "phi3", vocab_size=97, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48,
        pad_token_id=0, bos_token_id=1, eos_token_id=2, max_position_embeddings=64,
    )  # fmt: skip
    heads, batch = attach(model), random_batch()
    before, weights = logits(model, **batch), dict(model.named_parameters())
    with pytest.raises(UnsupportedModelError, match="'phi3' is not supported: ") as caught:
        heads.add([1])
    assert "\n" not in str(caught.value)
    assert torch.equal(logits(model, **batch), before)
    assert all(one is weights[name] for name, one in model.named_parameters())
    assert getattr(model.config, "plasticity", None) is None


def test_a_record_of_heads_that_cannot_be_is_refused(tmp_path: Path) -> None:
    import json

    save_pruned(widened("llama").model, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    for added in ([[7], [], []], [[0]], [[0], [], "x"], 5, [[0], [], [0, 1]]):
        (tmp_path / "config.json").write_text(
            json.dumps(config | {"plasticity": config["plasticity"] | {"added": added}})
        )
        with pytest.raises(ModelError) as caught:
            load_pruned(tmp_path)
        assert "\n" not in str(caught.value)
