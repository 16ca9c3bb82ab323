"""Attached models: same outputs, working gates, honest refusals, and pruned heads that stand still in training."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

from neural_plasticity.errors import HeadError, UnsupportedModelError
from neural_plasticity.heads import heads_of
from neural_plasticity.models.attach import Heads, attach
from neural_plasticity.models.layouts import layer_layouts
from neural_plasticity.models.protection import still_heads
from neural_plasticity.models.seam import AttentionCall
from tests.architectures import ARCHITECTURES, DECODERS, HEADS, LAYERS, VOCABULARY, build, random_batch

SHAPE = (LAYERS, HEADS)
masks = hnp.arrays(bool, SHAPE, elements=st.booleans())


def logits(model: Any, batch: dict[str, torch.Tensor] | None = None) -> torch.Tensor:
    with torch.no_grad():
        return model(**(batch or random_batch())).logits


def some_mask(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random(SHAPE) < 0.6


# --- attaching changes nothing ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["sdpa", "eager"])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_outputs_are_the_same_bit_for_bit(name: str, backend: str) -> None:
    model = build(name, attn_implementation=backend)
    batches = [random_batch(), random_batch(3, 9, padding="left", seed=1)]
    before = [logits(model, batch) for batch in batches]
    heads = attach(model)
    assert heads.shape == SHAPE
    assert heads.mask.all()
    assert heads.present.all()
    for batch, expected in zip(batches, before, strict=True):
        assert torch.equal(logits(model, batch), expected)
    heads.set_mask(some_mask())
    assert not torch.equal(logits(model), before[0])
    heads.detach()
    assert model.config._attn_implementation == backend
    assert torch.equal(logits(model), before[0])
    assert not [name for name, _ in model.named_modules() if "plasticity" in name]


def test_attaching_leaves_training_mode_randomness_and_buffers_alone() -> None:
    model = build("gpt2").train()
    model.transformer.h[1].eval()
    modes = [module.training for module in model.modules()]
    keys = list(model.state_dict())
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    attach(model)
    assert torch.equal(torch.rand(3), expected)
    assert [module.training for module in model.modules() if type(module).__name__ != "LayerSeam"] == modes
    assert list(model.state_dict()) == keys
    assert all(parameter.grad is None for parameter in model.parameters())


def test_attaching_twice_keeps_the_mask() -> None:
    model = build("llama")
    attach(model).prune([(0, 1)])
    again = attach(model)
    assert heads_of(~again.mask) == ((0, 1),)
    again.prune(["L2H3"])
    assert heads_of(~attach(model).mask) == ((0, 1), (2, 3))


# --- the gate is the head --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_closed_gate_equals_zeroed_output_rows(name: str) -> None:
    """Slow reference: zero the pruned heads' slices of the output projection in a plain model."""
    mask = some_mask(3)
    mask[1] = False
    reference = build(name, dtype=torch.float64)
    for layout in layer_layouts(reference):
        entry = next(one for one in layout.slices() if one.kind == "output")
        places = entry.index[torch.from_numpy(~mask[layout.layer])].flatten()
        with torch.no_grad():
            reference.get_parameter(entry.parameter).index_fill_(entry.dim, places, 0.0)
    model = build(name, dtype=torch.float64)
    attach(model).set_mask(mask)
    batch = random_batch(padding="left")
    torch.testing.assert_close(logits(model, batch), logits(reference, batch), rtol=0, atol=1e-12)


@pytest.fixture(scope="module")
def attached() -> dict[str, tuple[Any, Heads, torch.Tensor, dict[str, torch.Tensor]]]:
    found = {}
    for name in ("gpt2", "llama", "gpt_neox", "bert"):
        model = build(name)
        state = {key: value.clone() for key, value in model.state_dict().items()}
        found[name] = (model, attach(model), logits(model), state)
    return found


@settings(max_examples=30)
@given(name=st.sampled_from(["gpt2", "llama", "gpt_neox", "bert"]), first=masks, second=masks)
def test_prune_then_regrow_is_the_original_bit_for_bit(attached: Any, name: str, first: Any, second: Any) -> None:
    model, heads, expected, state = attached[name]
    heads.prune(heads_of(~first))
    logits(model)
    heads.prune(heads_of(~second))
    np.testing.assert_array_equal(heads.mask, first & second)
    heads.regrow(heads_of(~heads.mask))
    assert torch.equal(logits(model), expected)
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())


def test_masks_come_back_after_errors_and_nesting() -> None:
    heads = attach(build("qwen3"))
    heads.prune([(1, 1)])
    before = heads.mask
    with heads.gated(np.zeros(SHAPE, dtype=bool)):
        assert not heads.mask.any()
        with pytest.raises(RuntimeError, match="inside"), heads.gated(np.ones(SHAPE, dtype=bool)):
            raise RuntimeError("inside")
        assert not heads.mask.any()
    np.testing.assert_array_equal(heads.mask, before)
    heads.mask[0, 0] = False
    np.testing.assert_array_equal(heads.mask, before)


def test_backward_may_come_after_the_gates_moved() -> None:
    model = build("gpt2")
    heads = attach(model)
    batch = random_batch()
    with heads.gated(some_mask()):
        loss = model(**batch, labels=batch["input_ids"]).loss
    heads.prune([(0, 0)])
    loss.backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())


@pytest.mark.parametrize(
    "heads", [[(LAYERS, 0)], [(0, HEADS)], [(-1, 0)], ["x"], [(0,)]], ids=["layer", "head", "negative", "word", "one"]
)
def test_heads_outside_the_grid_are_refused(heads: list[Any]) -> None:
    grid = attach(build("gpt2"))
    for act in (grid.prune, grid.regrow):
        with pytest.raises(HeadError):
            act(heads)
    assert grid.mask.all()


@pytest.mark.parametrize("mask", [np.ones((2, 2), bool), np.ones(SHAPE), np.ones(SHAPE, int)])
def test_masks_of_wrong_shape_or_type_are_refused(mask: np.ndarray) -> None:
    with pytest.raises(HeadError, match=r"expected bool \(3, 4\)"):
        attach(build("gpt2")).set_mask(mask)


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_kv_groups(name: str) -> None:
    expected = [0, 0, 1, 1] if name == "llama" else [0, 1, 2, 3]
    assert attach(build(name)).kv_groups.tolist() == [expected] * LAYERS


class Doubled:
    """A probe that sees every layer and doubles what goes on."""

    def __init__(self) -> None:
        self.seen: list[AttentionCall] = []

    def observe(self, call: AttentionCall) -> torch.Tensor:
        self.seen.append(call)
        return call.output * call.gate[:, None] * 2


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_probes_see_every_layer_and_decide_what_goes_on(name: str) -> None:
    model = build(name)
    heads = attach(model)
    plain = logits(model)
    probe = Doubled()
    with heads.probing(probe):
        doubled = logits(model)
    assert [call.layer for call in probe.seen] == list(range(LAYERS))
    assert all(call.output.shape[2] == HEADS == len(call.kv_of_query) for call in probe.seen)
    assert not torch.equal(doubled, plain)
    assert torch.equal(logits(model), plain)
    assert {call.is_causal for call in probe.seen} == {name != "bert"}


# --- everything else that is done with models ------------------------------------------------------------------------


@pytest.mark.parametrize("name", DECODERS)
def test_generation_with_left_padding_and_cache(name: str) -> None:
    model = build(name)
    batch = random_batch(3, 8, padding="left")
    settings = {"max_new_tokens": 6, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    expected = model.generate(**batch, **settings)
    heads = attach(model)
    assert torch.equal(model.generate(**batch, **settings), expected)
    heads.set_mask(some_mask(1))
    cached = model.generate(**batch, **settings)
    assert torch.equal(model.generate(**batch, **settings, use_cache=False), cached)
    heads.detach()
    assert torch.equal(model.generate(**batch, **settings), expected)


@pytest.mark.parametrize("name", DECODERS)
def test_cached_decoding_of_a_gated_model_equals_one_pass(name: str) -> None:
    model = build(name, dtype=torch.float64)
    attach(model).set_mask(some_mask(2))
    ids = random_batch(2, 10)["input_ids"]
    with torch.no_grad():
        whole = model(input_ids=ids).logits
        first = model(input_ids=ids[:, :6], use_cache=True)
        rest = model(input_ids=ids[:, 6:], past_key_values=first.past_key_values, use_cache=True).logits
    torch.testing.assert_close(torch.cat([first.logits, rest], 1), whole, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_deep_copy_has_its_own_gates(name: str) -> None:
    model = build(name)
    heads = attach(model)
    heads.prune([(0, 0)])
    twin = copy.deepcopy(model)
    assert torch.equal(logits(twin), logits(model))
    attach(twin).prune([(1, 1)])
    assert heads_of(~heads.mask) == ((0, 0),)
    assert not torch.equal(logits(twin), logits(model))


def test_gates_follow_the_model_to_other_types() -> None:
    model = build("llama")
    attach(model).prune([(0, 0)])
    expected = logits(model)
    model.to(torch.float64)
    torch.testing.assert_close(logits(model), expected.double(), rtol=1e-4, atol=1e-4)
    assert not attach(model.to(torch.bfloat16)).mask[0, 0]
    assert logits(model).dtype == torch.bfloat16


@pytest.mark.parametrize("name", ["gpt2", "llama", "bert"])
def test_saving_an_attached_model_writes_a_stock_model(name: str, tmp_path: Any) -> None:
    model = build(name)
    expected = logits(model)
    attach(model).prune([(0, 0)])
    model.save_pretrained(tmp_path)
    assert "plasticity" not in (tmp_path / "config.json").read_text()
    assert torch.equal(logits(type(model).from_pretrained(tmp_path)), expected)


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_switching_the_backend_keeps_the_gates(name: str) -> None:
    model = build(name)
    heads = attach(model)
    heads.prune([(0, 0), (2, 1)])
    expected = logits(model)
    model.set_attn_implementation("eager")
    torch.testing.assert_close(logits(model), expected)
    heads.detach()
    assert model.config._attn_implementation == "eager"
    assert not torch.allclose(logits(model), expected)


def test_gradient_checkpointing() -> None:
    grads = []
    for checkpointing in (False, True):
        model = build("llama").train()
        attach(model).set_mask(some_mask())
        if checkpointing:
            model.activation_checkpointing_enable({"use_reentrant": False})
        batch = random_batch()
        model(**batch, labels=batch["input_ids"], use_cache=False).loss.backward()
        grads.append([parameter.grad for parameter in model.parameters()])
    for plain, again in zip(*grads, strict=True):
        torch.testing.assert_close(plain, again)


def test_compiled_models_follow_the_mask() -> None:
    """In one graph, and without compiling again when the mask changes."""
    model = build("gpt2", n_layer=1)
    heads = attach(model)
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    for pruned in ([], [(0, 1)], [(0, 2)]):
        heads.prune(pruned)
        with torch.no_grad(), torch.compiler.set_stance("default" if not pruned else "fail_on_recompile"):
            torch.testing.assert_close(compiled(**random_batch()).logits, logits(model))
    assert heads_of(~attach(compiled).mask) == ((0, 1), (0, 2))


def test_flash_backends_see_their_own_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Flash functions load their kernel by the configuration's name; a stand-in on the CPU shows that it arrives."""
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    seen = []

    def flash(module: Any, *args: Any, **kwargs: Any) -> Any:
        seen.append((module.config._attn_implementation, module.layer_idx, module.is_causal))
        return ALL_ATTENTION_FUNCTIONS["sdpa"](module, *args, **kwargs)

    ALL_ATTENTION_FUNCTIONS.register("flash_stand_in", flash)
    ALL_MASK_ATTENTION_FUNCTIONS.register("flash_stand_in", ALL_MASK_ATTENTION_FUNCTIONS["sdpa"])
    model = build("gpt2")
    expected = logits(model)
    model.config._attn_implementation = "flash_stand_in"
    attach(model)
    seen.clear()
    assert torch.equal(logits(model), expected)
    assert seen == [("flash_stand_in", layer, True) for layer in range(LAYERS)]


# --- refusals --------------------------------------------------------------------------------------------------------

_SMALL = {"vocab_size": VOCABULARY, "hidden_size": 32, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "falcon": ({**_SMALL, "num_hidden_layers": 2, "num_attention_heads": 4}, "does not call"),
    "bloom": ({**_SMALL, "n_layer": 2, "n_head": 4}, "does not call"),
    "gptj": ({**_SMALL, "n_layer": 2, "n_head": 4, "n_embd": 32, "n_positions": 64, "rotary_dim": 4}, "does not call"),
    "gpt_neo": ({**_SMALL, "num_layers": 2, "num_heads": 4, "attention_types": [[["global"], 2]]}, "does not call"),
    "t5": (
        {"vocab_size": VOCABULARY, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4},
        "encoder-decoder",
    ),
    "olmo2": (
        {**_SMALL, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48},
        "q_norm.weight spans several heads",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_models_that_cannot_work_are_refused_with_the_reason(name: str) -> None:
    config, reason = REFUSED[name]
    model = AutoModel.from_config(AutoConfig.for_model(name, **config)).eval()
    with pytest.raises(UnsupportedModelError) as refusal:
        attach(model)
    line = str(refusal.value)
    assert f"'{name}'" in line
    assert reason in line
    assert "gpt2" in line
    assert "\n" not in line


@pytest.mark.parametrize("backend", ["eager", "sdpa"])
@pytest.mark.parametrize("name", ["gptj", "gpt_neo"])
def test_a_silent_bypass_is_found_out_even_without_the_list(
    name: str, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """These have the structure of a supported model, accept another attention function, and ignore it."""
    monkeypatch.setattr("neural_plasticity.models.layouts.REFUSED", {})
    config = AutoConfig.for_model(name, **REFUSED[name][0])
    model = AutoModelForCausalLM.from_config(config).eval()
    model.config._attn_implementation = backend
    before = logits(model)
    with pytest.raises(UnsupportedModelError, match="does not call"):
        attach(model)
    assert model.config._attn_implementation == backend
    assert not [name for name, _ in model.named_modules() if "plasticity" in name]
    assert torch.equal(logits(model), before)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, of what transformers calls here
@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile:UserWarning")
def test_a_backend_whose_masks_are_no_tensors_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)  # needs a compiler, and takes seconds
    model = build("llama")
    model.set_attn_implementation("flex_attention")
    with pytest.raises(
        UnsupportedModelError, match="mask is a BlockMask, not a tensor; load it with 'sdpa' or 'eager'"
    ):
        attach(model)


# --- models that are wired like the tested ones ----------------------------------------------------------------------

_ENCODER = {**_SMALL, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
_DECODER = {**_ENCODER, "num_key_value_heads": 2}
ALSO: dict[str, dict[str, Any]] = {
    "gemma": {**_DECODER, "head_dim": 8},
    "gemma2": {**_DECODER, "head_dim": 8, "attn_implementation": "eager"},
    "olmo": _DECODER,
    "granite": _DECODER,
    "cohere": _DECODER,
    "starcoder2": _DECODER,
    "smollm3": _DECODER,
    "stablelm": _DECODER,
    "phi3": _DECODER,
    "mixtral": {**_DECODER, "num_local_experts": 2},
    "roberta": _ENCODER,
    "distilbert": {"vocab_size": VOCABULARY, "dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 48},
}


@pytest.mark.parametrize("name", ALSO)
def test_relatives_work_without_being_listed(name: str) -> None:
    torch.manual_seed(0)
    model = AutoModel.from_config(AutoConfig.for_model(name, **ALSO[name])).eval()
    ids = random_batch()["input_ids"]
    with torch.no_grad():
        before = model(input_ids=ids)[0]
        heads = attach(model)
        assert heads.shape == (2, 4)
        assert torch.equal(model(input_ids=ids)[0], before)
        heads.prune([(0, 1)])
        assert not torch.equal(model(input_ids=ids)[0], before)


# --- pruned heads stand still ----------------------------------------------------------------------------------------

OPTIMIZERS: dict[str, Any] = {
    "adamw": lambda p: torch.optim.AdamW(p, lr=1e-2, weight_decay=0.1),
    "adamw-foreach": lambda p: torch.optim.AdamW(p, lr=1e-2, weight_decay=0.1, foreach=True),
    "adamw-fused": lambda p: torch.optim.AdamW(p, lr=1e-2, weight_decay=0.1, fused=True, amsgrad=True),
    "adam-l2": lambda p: torch.optim.Adam(p, lr=1e-2, weight_decay=0.1),
    "sgd-momentum": lambda p: torch.optim.SGD(p, lr=1e-2, momentum=0.9, weight_decay=0.1, nesterov=True),
    "rprop": lambda p: torch.optim.Rprop(p, lr=1e-3),
}


def train(model: Any, optimizer: torch.optim.Optimizer, steps: int, seed: int) -> None:
    for step in range(steps):
        batch = random_batch(seed=seed + step)
        optimizer.zero_grad()
        model(**batch, labels=batch["input_ids"]).loss.backward()
        optimizer.step()


def pieces(heads: Heads, optimizer: torch.optim.Optimizer, still: bool) -> dict[str, torch.Tensor]:
    """Copies of every slice, of parameters and optimiser state, that belongs to pruned heads (or, else, to active)."""
    found: dict[str, torch.Tensor] = {}
    for layout in heads.layouts:
        pruned = still_heads(layout, heads.mask[layout.layer])
        for one in layout.slices():
            chosen = set(pruned[one.kind in ("key", "value")].tolist())
            rows = [row for row in range(len(one.index)) if (row in chosen) == still]
            if not rows:
                continue
            parameter = heads.model.get_parameter(one.parameter)
            tensors = {"weight": parameter.detach(), **optimizer.state.get(parameter, {})}
            for key, tensor in tensors.items():
                if isinstance(tensor, torch.Tensor) and tensor.shape == parameter.shape:
                    where = f"{one.parameter} {one.kind} {key}"
                    found[where] = tensor.index_select(one.dim, one.index[rows].flatten()).clone()
    return found


@pytest.mark.parametrize(
    ("name", "kind"),
    [(name, "adamw") for name in ARCHITECTURES] + [("llama", kind) for kind in OPTIMIZERS] + [("gpt2", "sgd-momentum")],
)
def test_pruned_heads_stand_still_while_others_train(name: str, kind: str) -> None:
    model = build(name).train()
    optimizer = OPTIMIZERS[kind](model.parameters())
    heads = attach(model)
    protection = heads.protect(optimizer)
    train(model, optimizer, 3, seed=0)  # momentum is built up, nothing is pruned yet
    heads.prune([(0, 0), (0, 1), (1, 2), *((2, head) for head in range(HEADS))])
    before, active = pieces(heads, optimizer, True), pieces(heads, optimizer, False)
    train(model, optimizer, 3, seed=10)
    after = pieces(heads, optimizer, True)
    assert before.keys() == after.keys()
    assert any("key" in where for where in before)
    for where, value in before.items():
        assert torch.equal(after[where], value), where
    # Key biases have no gradient but rounding (softmax ignores a constant), so they may stay.
    moved = {where: not torch.equal(value, active[where]) for where, value in pieces(heads, optimizer, False).items()}
    assert all(did for where, did in moved.items() if "bias" not in where)
    heads.regrow([(0, 0)])
    train(model, optimizer, 1, seed=20)
    assert not torch.equal(pieces(heads, optimizer, False)[next(iter(active))], active[next(iter(active))])
    protection.remove()
    train(model, optimizer, 1, seed=30)
    if kind != "rprop":  # which moves nothing that has no gradient
        assert any(not torch.equal(value, before[where]) for where, value in pieces(heads, optimizer, True).items())


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_heads_pruned_before_the_first_step_get_untouched_state(kind: str) -> None:
    model = build("gpt2").train()
    heads = attach(model)
    heads.prune([(0, 0), (2, 3)])
    optimizer = OPTIMIZERS[kind](model.parameters())
    heads.protect(optimizer)
    before = pieces(heads, optimizer, True)
    train(model, optimizer, 2, seed=0)
    for where, value in pieces(heads, optimizer, True).items():
        if where.endswith(" weight"):
            assert torch.equal(value, before[where]), where
        else:
            assert len(value.unique()) == 1, where  # zero moments; Rprop's step size as it began


def test_a_step_that_raises_does_not_lose_pruned_weights() -> None:
    model = build("gpt2").train()
    heads = attach(model)
    heads.prune([(0, 0)])
    optimizer = OPTIMIZERS["adamw"](model.parameters())
    heads.protect(optimizer)
    before = pieces(heads, optimizer, True)

    def closure() -> float:
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="memory"):
        optimizer.step(closure)
    train(model, optimizer, 1, seed=0)
    after = pieces(heads, optimizer, True)
    assert all(torch.equal(after[where], value) for where, value in before.items())


def test_the_output_bias_and_shared_norms_train_on() -> None:
    model = build("qwen3").train()
    heads = attach(model)
    heads.set_mask(np.zeros(SHAPE, dtype=bool) | (np.arange(HEADS) == 0))
    optimizer = OPTIMIZERS["adamw"](model.parameters())
    heads.protect(optimizer)
    norm = model.model.layers[0].self_attn.q_norm.weight
    before = norm.detach().clone()
    train(model, optimizer, 1, seed=0)
    assert not torch.equal(norm, before)
    gpt2 = build("gpt2").train()
    heads = attach(gpt2)
    heads.set_mask(np.zeros(SHAPE, dtype=bool))
    optimizer = OPTIMIZERS["adamw"](gpt2.parameters())
    heads.protect(optimizer)
    bias = gpt2.transformer.h[0].attn.c_proj.bias
    before = bias.detach().clone()
    train(gpt2, optimizer, 1, seed=0)
    assert not torch.equal(bias, before)
