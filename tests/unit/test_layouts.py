"""Layouts against the forward pass: every head's slice is the one that the model itself uses."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from neural_plasticity.errors import UnsupportedModelError
from neural_plasticity.models.layouts import LayerLayout, layer_layouts
from tests.architectures import ARCHITECTURES, HEADS, LAYERS, build, random_batch


def captured(model: Any, layout: LayerLayout) -> dict[str, Any]:
    """Inputs and outputs of a layer's projections during one forward pass."""
    seen: dict[str, Any] = {}
    hooks = []
    for kind in ("query", "key", "value", "output"):

        def keep(_: Any, args: Any, out: Any, kind: str = kind) -> None:
            seen[kind] = (args[0], out)

        hooks.append(layout.projection(kind).register_forward_hook(keep))
    with torch.no_grad():
        model(**random_batch())
    for hook in hooks:
        hook.remove()
    return seen


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_output_weight_sums_heads_to_the_module_output(name: str) -> None:
    model = build(name, dtype=torch.float64)
    layouts = layer_layouts(model)
    assert [one.layer for one in layouts] == list(range(LAYERS))
    for layout in layouts:
        joined, out = captured(model, layout)["output"]
        per_head = joined.unflatten(-1, (layout.heads, layout.head_dim))  # (B, T, H, D)
        total = torch.einsum("bthd,hdo->bto", per_head, layout.output_weight())
        bias = layout.projection("output").bias
        torch.testing.assert_close(total + (0 if bias is None else bias), out)
        assert layout.output_weight().data_ptr() == layout.projection("output").weight.data_ptr()


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_value_weight_gives_each_heads_values(name: str) -> None:
    model = build(name, dtype=torch.float64)
    for layout in layer_layouts(model):
        hidden, out = captured(model, layout)["value"]
        values = torch.einsum("bti,kdi->btkd", hidden, layout.value_weight())
        index = layout.head_index("value")
        bias = layout.projection("value").bias
        torch.testing.assert_close(values + (0 if bias is None else bias[index]), out[..., index])


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_slices_cover_every_head_row_once(name: str) -> None:
    model = build(name)
    grouped = 2 if name in ("llama", "mistral", "qwen2", "qwen3") else 1
    for layout in layer_layouts(model):
        assert (layout.heads, layout.kv_heads) == (HEADS, HEADS // grouped)
        assert layout.kv_of_query.tolist() == [head // grouped for head in range(HEADS)]
        assert layout.even_groups
        covered: dict[str, list[torch.Tensor]] = {}
        for one in layout.slices():
            rows = layout.heads if one.kind in ("query", "output") else layout.kv_heads
            assert one.index.shape == (rows, layout.head_dim)
            covered.setdefault(one.parameter, []).append(one.index.flatten())
            size = model.get_parameter(one.parameter).shape[one.dim]
            assert int(one.index.max()) < size
        for parameter, indices in covered.items():
            dims = {one.dim for one in layout.slices() if one.parameter == parameter}
            assert len(dims) == 1
            size = model.get_parameter(parameter).shape[dims.pop()]
            assert torch.cat(indices).sort().values.tolist() == list(range(size))


def test_a_heads_output_slice_moves_only_through_that_head() -> None:
    """Zeroing the output slice of one head changes the block's output by exactly that head's part."""
    model = build("gpt2", dtype=torch.float64)
    layout = layer_layouts(model)[1]
    (joined, before) = captured(model, layout)["output"]
    part = joined.unflatten(-1, (HEADS, layout.head_dim))[:, :, 2] @ layout.output_weight()[2]
    entry = next(one for one in layout.slices() if one.kind == "output")
    with torch.no_grad():
        model.get_parameter(entry.parameter).index_fill_(entry.dim, entry.index[2], 0.0)
    torch.testing.assert_close(captured(model, layout)["output"][1], before - part)


@pytest.mark.parametrize("name", ["falcon", "bloom", "gptj", "gpt_neo", "t5"])
def test_refusals_name_the_architecture(name: str) -> None:
    class Model(torch.nn.Module):
        config = type("Config", (), {"model_type": name, "is_encoder_decoder": name == "t5"})()

    with pytest.raises(UnsupportedModelError, match=rf"'{name}' is not supported: .+ gpt2"):
        layer_layouts(Model())
