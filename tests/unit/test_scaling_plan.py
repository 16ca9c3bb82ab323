"""docs/scaling.md: its tables are those of its script, and the script's formulas those of a real model."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

SCRIPT = Path(__file__).parents[2] / "scripts" / "scaling_plan.py"


@pytest.fixture(scope="module")
def plan() -> ModuleType:
    found = importlib.util.spec_from_file_location("scaling_plan", SCRIPT)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    sys.modules[found.name] = module  # its dataclasses look themselves up
    found.loader.exec_module(module)
    return module


def _llama(plan: ModuleType, layers: int, kv_heads: int = 2) -> tuple[LlamaForCausalLM, object]:
    shape = plan.Model("tiny", layers, 64, 8, kv_heads, 176, 96)
    config = LlamaConfig(
        vocab_size=96, hidden_size=64, intermediate_size=176, num_hidden_layers=layers, num_attention_heads=8,
        num_key_value_heads=kv_heads, tie_word_embeddings=False, attn_implementation="sdpa",
    )  # fmt: skip
    return LlamaForCausalLM(config), shape


def test_parameters_are_those_of_the_model(plan: ModuleType) -> None:
    model, shape = _llama(plan, 3)
    assert sum(one.numel() for one in model.parameters()) == shape.parameters  # type: ignore[attr-defined]
    assert plan.SMALL.parameters == pytest.approx(6.74e9, rel=1e-3)  # as published
    assert plan.LARGE.parameters == pytest.approx(68.98e9, rel=1e-3)


def test_activations_are_what_the_backward_keeps(plan: ModuleType) -> None:
    """Counted in a real model: what autograd saves for one more layer, weights left out."""
    tokens, kept = 256, []
    for layers in (1, 3):
        model, shape = _llama(plan, layers, 8)  # keys repeated for groups are a copy that fused kernels need not make
        weights = {one.untyped_storage().data_ptr() for one in model.parameters()}
        saved: dict[int, torch.Tensor] = {}  # the tensors, so that no storage is counted twice or given away

        def keep(one: torch.Tensor, saved: dict[int, torch.Tensor] = saved) -> torch.Tensor:
            saved[one.untyped_storage().data_ptr()] = one
            return one

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda one: one):
            model(input_ids=torch.arange(tokens)[None] % 96, use_cache=False).logits.sum()
        kept.append(sum(one.untyped_storage().nbytes() for at, one in saved.items() if at not in weights))
    per_layer = (kept[1] - kept[0]) / 2
    # In float32 the norms need no copy in float32; the gate on attention's output, counted by the plan, is not on here.
    expected = (shape.activation_bytes(4) - (8 + 4) * 64) * tokens  # type: ignore[attr-defined]
    assert per_layer == pytest.approx(expected, rel=0.02)


def test_the_page_holds_what_the_script_computes(plan: ModuleType) -> None:
    text = plan.PAGE.read_text(encoding="utf-8")
    assert plan.filled(text) == text


def test_sharding_divides_the_states_and_nothing_else(plan: ModuleType) -> None:
    few, many = (plan.memory(plan.LARGE, gpus, plan.WHOLE) for gpus in (8, 64))
    assert few.states == pytest.approx(8 * many.states)
    assert (few.gathered, few.activations, few.logits) == (many.gathered, many.activations, many.logits)
    assert few.states * 8 == pytest.approx(16 * plan.LARGE.parameters / 1e9)
    assert plan.traffic(plan.LARGE, 8, plan.WHOLE) == pytest.approx(3 * 2 * plan.LARGE.parameters * 7 / 8 / 1e9)
