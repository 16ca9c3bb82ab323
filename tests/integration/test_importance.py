"""Head importance on real attention: every criterion against its slow reference, over architectures."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForMaskedLM, PreTrainedModel

from neural_plasticity.errors import ConfigError, InputError, ModelError
from neural_plasticity.importance import CRITERIA, Criterion, attention_maps, measure, reference, score_heads
from neural_plasticity.importance.criteria import combined_rank, layer_normalised, rank_fractions
from neural_plasticity.importance.forward import recomputed, sequence_losses
from neural_plasticity.importance.patterns import hidden_states, pattern_scores, repeated_tokens
from neural_plasticity.models.attach import Heads, attach
from neural_plasticity.models.seam import seam_of
from tests.architectures import CONFIGS, ENCODERS, HEADS, LAYERS, VOCABULARY, build, random_batch

NAMES = ("gpt2", "llama", "gpt_neox", "opt", "bert")
SHAPE = (LAYERS, HEADS)
DOUBLE: dict[str, Any] = {"dtype": torch.float64}


def causal(name: str) -> bool:
    return name not in ENCODERS


def sequences_of(batch: dict[str, Tensor]) -> list[Tensor]:
    """The batch's sequences without their padding."""
    return [ids[mask.bool()] for ids, mask in zip(batch["input_ids"], batch["attention_mask"], strict=True)]


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def heads(name: str) -> Heads:
    """An attached float64 model with two heads pruned."""
    found = attach(build(name, **DOUBLE))
    found.prune([(0, 1), (2, 3)])
    return found


@pytest.fixture
def batches() -> list[dict[str, Tensor]]:
    return [random_batch(3, 12, seed=1), random_batch(2, 9, seed=2)]


@pytest.fixture
def sequences(batches: list[dict[str, Tensor]]) -> list[Tensor]:
    return [ids for batch in batches for ids in sequences_of(batch)]


def close(value: np.ndarray, expected: np.ndarray, tolerance: float = 1e-9) -> None:
    np.testing.assert_allclose(value, expected, rtol=tolerance, atol=tolerance)


def test_gradient_family(heads: Heads, name: str, batches: list[dict[str, Tensor]], sequences: list[Tensor]) -> None:
    scores = score_heads(heads.model, batches, ("gradient", "gradient_normalised", "gradient_signed", "fisher"))
    expected = reference.gradients(heads, sequences, causal(name))
    assert np.abs(expected).min() > 1e-7  # pruned heads too: their gradient at gate 0 is what regrowth looks at
    close(scores["gradient"], np.abs(expected).mean(0))
    close(scores["gradient_signed"], -expected.mean(0))
    close(scores["fisher"], (expected**2).mean(0))
    # The norm is that of the layer's active heads: pruned ones must not set the scale of those that are left.
    rows = zip(np.abs(expected).mean(0), heads.mask, strict=True)
    normalised = [row / np.sqrt((row[active] ** 2).sum()) for row, active in rows]
    close(scores["gradient_normalised"], np.stack(normalised))


def test_output_norm(heads: Heads, name: str, batches: list[dict[str, Tensor]], sequences: list[Tensor]) -> None:
    scores = score_heads(heads.model, batches, ["output_norm"])
    close(scores["output_norm"], reference.output_norm(heads, sequences, causal(name)))


def test_entropy(name: str, batches: list[dict[str, Tensor]], sequences: list[Tensor]) -> None:
    scores = score_heads(build(name), batches, ["entropy"], entropy_rows=None)
    eager = build(name, attn_implementation="eager")
    with torch.no_grad():
        maps = [[one[0] for one in eager(ids[None], output_attentions=True).attentions] for ids in sequences]
    entropy, first = reference.entropy(maps, lambda i, length: i + 1 if causal(name) else length)
    assert np.ptp(entropy) > 0.02  # heads differ, so that a mix-up would show
    close(scores["entropy"], entropy, 1e-5)
    close(scores["first_token_mass"], first, 1e-5)


def test_ablation(heads: Heads, name: str, batches: list[dict[str, Tensor]], sequences: list[Tensor]) -> None:
    scores = score_heads(heads.model, batches, ["ablation"])
    close(scores["ablation"], reference.ablation(heads, sequences, causal(name)))
    assert np.abs(scores["ablation"]).min() > 1e-7


def test_ablation_in_groups_of_any_size(batches: list[dict[str, Tensor]], monkeypatch: pytest.MonkeyPatch) -> None:
    model = build("llama", **DOUBLE)
    together = score_heads(model, batches, ["ablation"])["ablation"]
    monkeypatch.setattr("neural_plasticity.importance.ablation.FORWARD_TOKENS", 1)
    close(score_heads(model, batches, ["ablation"])["ablation"], together)


def test_magnitude(name: str) -> None:
    model = build(name, **DOUBLE)
    scores = score_heads(model, [random_batch()], ["magnitude"])["magnitude"]
    value, output = projections(name, model)
    for layer, head in np.ndindex(SHAPE):
        width = output(layer).shape[0] // HEADS
        shared = value(layer).shape[0] // width  # key/value heads
        kv = head * shared // HEADS
        w_v = value(layer)[kv * width : (kv + 1) * width]
        w_o = output(layer)[head * width : (head + 1) * width]
        assert scores[layer, head] == pytest.approx((w_v.norm() * w_o.norm()).item(), rel=1e-9)


def projections(name: str, model: PreTrainedModel) -> tuple[Callable[[int], Tensor], Callable[[int], Tensor]]:
    """Per layer: value weight (rows = value dimensions) and output weight (rows = head dimensions), read by hand."""
    get = model.get_parameter
    width = 32 // HEADS
    if name == "gpt2":  # Conv1D: (in, out)
        block = "transformer.h.{}.attn."
        return (
            lambda n: get(block.format(n) + "c_attn.weight").T[64:],
            lambda n: get(block.format(n) + "c_proj.weight"),
        )
    if name == "gpt_neox":  # q, k, v of each head together
        block = "gpt_neox.layers.{}.attention."
        return (
            lambda n: get(block.format(n) + "query_key_value.weight").view(HEADS, 3, width, 32)[:, 2].reshape(32, 32),
            lambda n: get(block.format(n) + "dense.weight").T,
        )
    value, output = {
        "llama": ("model.layers.{}.self_attn.v_proj.weight", "model.layers.{}.self_attn.o_proj.weight"),
        "opt": ("model.decoder.layers.{}.self_attn.v_proj.weight", "model.decoder.layers.{}.self_attn.out_proj.weight"),
        "bert": (
            "bert.encoder.layer.{}.attention.self.value.weight",
            "bert.encoder.layer.{}.attention.output.dense.weight",
        ),
    }[name]
    return lambda n: get(value.format(n)), lambda n: get(output.format(n)).T


@pytest.mark.parametrize(
    ("name", "step", "tolerance"),
    # Llama-like models compute their norms in single precision whatever their type: a wider step rises above that.
    [("gpt2", 1e-4, 1e-6), ("bert", 1e-4, 1e-6), ("llama", 3e-3, 1e-3), ("qwen3", 3e-3, 1e-3)],
)
def test_gradient_against_central_differences(name: str, step: float, tolerance: float) -> None:
    """∂L/∂ξ by moving each gate a little, grouped-query attention included."""
    found = attach(build(name, **DOUBLE))
    batch = random_batch(1, 10, seed=5)
    signed = score_heads(found.model, [batch], ["gradient_signed"])["gradient_signed"]
    for layer, head in np.ndindex(SHAPE):
        loss = []
        for sign in (1, -1):
            gates = torch.ones(SHAPE, dtype=torch.float64)
            gates[layer, head] += sign * step
            with found.probing(reference.GateProbe(gates)), torch.no_grad():
                loss.append(float(reference.sequence_loss(found.model, batch["input_ids"][0], causal(name))))
        assert -signed[layer, head] == pytest.approx(
            (loss[0] - loss[1]) / (2 * step), rel=tolerance, abs=tolerance / 10
        )


@pytest.mark.parametrize("padding", ["left", "right"])
def test_padding_changes_nothing(name: str, padding: str) -> None:
    model = build(name, **DOUBLE)
    batch = random_batch(4, 12, seed=3, padding=padding)
    criteria = [one for one in CRITERIA if one not in ("random", "magnitude")]
    padded = score_heads(model, [batch], criteria, entropy_rows=None)
    bare = score_heads(model, [{"input_ids": ids[None]} for ids in sequences_of(batch)], criteria, entropy_rows=None)
    for one, scores in padded.items():
        np.testing.assert_allclose(scores, bare[one], rtol=1e-6, atol=1e-9, err_msg=one)


@pytest.mark.parametrize("padding", ["left", "right"])
def test_padding_changes_nothing_where_it_has_a_position_of_its_own(padding: str) -> None:
    """RoBERTa counts positions from the one after its padding's."""
    model = AutoModelForMaskedLM.from_config(AutoConfig.for_model("roberta", **CONFIGS["bert"])).double().eval()
    batch = random_batch(4, 12, seed=3, padding=padding)
    padded = score_heads(model, [batch], ["gradient", "entropy"], entropy_rows=None)
    bare = [{"input_ids": ids[None]} for ids in sequences_of(batch)]
    for one, scores in score_heads(model, bare, ["gradient", "entropy"], entropy_rows=None).items():
        np.testing.assert_allclose(padded[one], scores, rtol=1e-6, atol=1e-9, err_msg=one)


def test_everything_is_left_as_it_was(name: str, batches: list[dict[str, Tensor]]) -> None:
    model = build(name)
    next(model.modules()).train()
    next(module for module in model.modules() if "Norm" in type(module).__name__).eval()
    parameters = list(model.parameters())
    parameters[0].requires_grad_(False)
    parameters[1].grad = torch.ones_like(parameters[1])
    found = attach(model)
    found.prune([(1, 2)])
    before = state(model), found.mask, torch.get_rng_state(), np.random.get_state()[1]  # noqa: NPY002
    kept = [batch["input_ids"].clone() for batch in batches]
    score_heads(model, batches, list(CRITERIA))
    attention_maps(model, batches[0]["input_ids"][0])
    after = state(model), found.mask, torch.get_rng_state(), np.random.get_state()[1]  # noqa: NPY002
    assert before[0] == after[0]
    for one, other in zip(before[1:], after[1:], strict=True):
        assert np.array_equal(one, other)
    assert all(torch.equal(batch["input_ids"], ids) for batch, ids in zip(batches, kept, strict=True))


def state(model: nn.Module) -> list[Any]:
    """Values, gradients and flags of a model, comparable with ==."""

    def total(tensor: Tensor | None) -> float | None:
        return None if tensor is None else tensor.sum().item()

    values = [(total(p), p.requires_grad, total(p.grad)) for p in model.parameters()]
    return [values, [module.training for module in model.modules()], [b.sum().item() for b in model.buffers()]]


def test_a_model_that_was_not_attached_is_not_attached_afterwards(batches: list[dict[str, Tensor]]) -> None:
    model = build("gpt2")
    implementation = model.config._attn_implementation
    modules = len(list(model.modules()))
    score_heads(model, batches)
    assert len(list(model.modules())) == modules
    assert model.config._attn_implementation == implementation


def test_recomputing_activations_changes_no_bit(name: str) -> None:
    model = build(name)
    ids = random_batch()["input_ids"]
    own = [module.__dict__.get("forward") for module in model.modules()]

    def gradients() -> list[Tensor]:
        return list(torch.autograd.grad(model(input_ids=ids).logits.square().sum(), list(model.parameters())))

    expected = gradients()
    with recomputed(model):
        found = gradients()
        touched = any("forward" in module.__dict__ for module in model.modules())
    assert touched == (name != "opt")  # OPT's ReLU is torch's own, and keeps one tensor anyway
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
    assert [module.__dict__.get("forward") for module in model.modules()] == own


def test_an_error_on_the_way_restores_too() -> None:
    model = build("gpt2").train()
    with pytest.raises(IndexError):
        score_heads(model, [{"input_ids": torch.full((1, 4), VOCABULARY + 5)}])
    assert model.training
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_value_heads_shared_by_a_group() -> None:
    """In grouped-query attention, zeroing one value head leaves exactly its query heads without output."""
    model = build("llama", **DOUBLE)
    with torch.no_grad():
        model.get_parameter("model.layers.1.self_attn.v_proj.weight")[8:] = 0
    scores = score_heads(model, [random_batch()], ["output_norm", "magnitude", "gradient"])
    for one in scores.values():
        assert (one[1] == 0).tolist() == [False, False, True, True]
        assert (one[[0, 2]] > 0).all()


def test_same_seed_same_scores(batches: list[dict[str, Tensor]]) -> None:
    model = build("gpt2")
    both = ("entropy", "random")
    one, two, other = (score_heads(model, batches, both, entropy_rows=3, seed=seed) for seed in (4, 4, 5))
    for name in ("entropy", "random"):
        assert np.array_equal(one[name], two[name])
        assert not np.array_equal(one[name], other[name])


def test_sampled_entropy_is_close_to_exact() -> None:
    model = build("gpt2")
    many = [random_batch(16, 40, seed=seed) for seed in range(3)]
    exact = score_heads(model, many, ["entropy"], entropy_rows=None)["entropy"]
    sampled = score_heads(model, many, ["entropy"], entropy_rows=8)["entropy"]
    assert 0 < np.abs(sampled - exact).max() < 0.02


def test_batching_changes_nothing(sequences: list[Tensor], batches: list[dict[str, Tensor]]) -> None:
    """Gradients are per sequence, so the batch size does not matter (the gradient of a batch mean would)."""
    model = build("gpt2", **DOUBLE)
    single = [{"input_ids": ids[None]} for ids in sequences]
    one, other = (score_heads(model, x, ("gradient", "fisher", "output_norm")) for x in (batches, single))
    for name, scores in one.items():
        close(scores, other[name])


def test_combined_and_its_weights(batches: list[dict[str, Tensor]]) -> None:
    found = attach(build("llama"))
    found.prune([(0, 0)])
    parts = score_heads(found.model, batches, ("gradient", "fisher", "output_norm", "entropy"))
    combined = score_heads(found.model, batches, ["combined"])["combined"]
    active = found.mask
    ranks = []
    for name in ("gradient", "fisher", "output_norm", "entropy"):
        values = -parts[name] if name == "entropy" else parts[name]
        field = values[active]
        ranks.append([(np.sum(field < v) + np.sum(field <= v)) / 2 / len(field) for v in values.flat])
    close(combined, np.mean(ranks, axis=0).reshape(SHAPE))
    only = score_heads(found.model, batches, ["combined"], weights={"gradient": 2.0})["combined"]
    assert np.array_equal(np.argsort(only[active]), np.argsort(parts["gradient"][active]))
    with_ablation = score_heads(found.model, batches, ["combined", "ablation"], weights={"ablation": 1})
    assert np.array_equal(np.argsort(with_ablation["combined"][active]), np.argsort(with_ablation["ablation"][active]))


def test_ranks_share_ties_and_pruned_heads_move_nobody() -> None:
    scores = np.array([[3.0, 1.0, 1.0, 2.5], [2.0, np.nan, 0.0, 9.0]])
    among = np.array([[True, True, True, False], [True, True, False, True]])
    ranks = rank_fractions(scores, among)
    assert ranks[0].tolist() == pytest.approx([0.7, 0.2, 0.2, 0.6])
    assert ranks[1, 0] == pytest.approx(0.5)
    assert np.isnan(ranks[1, 1])
    assert ranks[1, 2] == 0
    assert ranks[1, 3] == pytest.approx(0.9)


def test_a_layer_of_zeros_stays_zero_when_normalised() -> None:
    scores = layer_normalised(np.array([[3.0, 4.0, np.nan], [0.0, 0.0, 0.0]]))
    np.testing.assert_allclose(scores, [[0.6, 0.8, np.nan], [0, 0, 0]])


@pytest.mark.parametrize("weights", [{}, {"gradient": 0.0}, {"gradient": -1.0}, {"gradient": np.nan}])
def test_combined_refuses_useless_weights(weights: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="at least one positive"):
        combined_rank({"gradient": np.ones(SHAPE)}, weights, np.ones(SHAPE, dtype=bool))


def test_attention_maps(name: str) -> None:
    found = attach(build(name))
    found.prune([(1, 2)])
    ids = random_batch(1, 7)["input_ids"][0]
    maps = attention_maps(found.model, ids)
    assert maps.shape == (*SHAPE, 7, 7)
    assert maps.dtype == np.float16
    assert np.isnan(maps[1, 2]).all()
    assert np.isnan(maps).sum() == 49
    with torch.no_grad():
        expected = build(name, attn_implementation="eager")(ids[None], output_attentions=True).attentions
    close(maps[:2][:, :2], torch.stack(expected)[:2, 0, :2].numpy(), 2e-3)


def test_scores_under_a_soft_cap() -> None:
    """Gemma 2 presses q·k together before the softmax; a cap as low as this one shows."""
    sizes = {**CONFIGS["llama"], "head_dim": 8, "attn_implementation": "eager", "attn_logit_softcapping": 0.5}
    model = build("gemma2", dtype=torch.float64, **sizes)
    ids = random_batch(1, 7)["input_ids"]
    with torch.no_grad():
        maps = torch.stack(model(ids, output_attentions=True).attentions)[:, 0]  # (layers, heads, tokens, tokens)
    close(attention_maps(model, ids[0]), maps.numpy(), 2e-3)
    rows = torch.special.entr(maps[:, :, 1:]).sum(-1) / torch.arange(2, 8).log()
    scores = score_heads(model, [{"input_ids": ids}], ["entropy"], entropy_rows=None)
    close(scores["entropy"], rows.mean(-1).numpy(), 1e-6)


def test_attention_maps_of_a_padded_prompt() -> None:
    model = build("gpt2")
    ids = random_batch(1, 6)["input_ids"][0]
    padded = attention_maps(model, torch.cat([ids.new_zeros(3), ids]), torch.tensor([0] * 3 + [1] * 6))
    close(padded[..., 3:, 3:], attention_maps(model, ids), 2e-3)
    assert (padded[..., :3, :3] == np.triu(padded[..., :3, :3]) * 0).all() or np.isfinite(padded).all()


def own_criterion(evidence: Any) -> np.ndarray:
    return evidence.measured.output_norm * evidence.magnitude


def test_a_users_own_criterion(batches: list[dict[str, Tensor]], monkeypatch: pytest.MonkeyPatch) -> None:
    module = SimpleNamespace(
        own=own_criterion,
        wrong=lambda _evidence: np.zeros(3),
        flat=Criterion(own_criterion, "highest", frozenset({"output_norm"})),
        text="x",
    )
    monkeypatch.setitem(__import__("sys").modules, "my_criteria", module)
    model = build("gpt2")
    scores = score_heads(model, batches, ["my_criteria:own", "my_criteria:flat", "output_norm", "magnitude"])
    close(scores["my_criteria:own"], scores["output_norm"] * scores["magnitude"])
    close(scores["my_criteria:flat"], scores["my_criteria:own"])
    for bad in ("my_criteria:wrong", "my_criteria:absent", "no_such_module:own", "my_criteria:text", "gradiant"):
        with pytest.raises(ConfigError, match=r"^criterion '[^\n]*expected[^\n]*$"):
            score_heads(model, batches, [bad])


@pytest.mark.parametrize(
    "batches",
    [
        [],
        [{}],
        [{"input_ids": torch.ones(4, dtype=torch.long)}],
        [{"input_ids": torch.ones(2, 4, dtype=torch.long), "labels": torch.ones(2, 3, dtype=torch.long)}],
        [{"input_ids": torch.ones(2, 4, dtype=torch.long), "attention_mask": torch.ones(1, 4)}],
    ],
)
def test_bad_batches_are_refused_in_one_line(batches: list[dict[str, Tensor]]) -> None:
    with pytest.raises(InputError, match=r"^batch[^\n]*expected[^\n]*$"):
        score_heads(build("gpt2"), batches, ["gradient"])


def test_a_model_without_logits_is_refused() -> None:
    with pytest.raises(ModelError, match="returns logits"):
        score_heads(build("gpt2").transformer, [random_batch()], ["gradient"])


def test_labels_choose_what_counts() -> None:
    """−100 is ignored; a sequence without any label does not dilute the mean."""
    model = build("gpt2", **DOUBLE)
    batch = random_batch(2, 10)
    labels = batch["input_ids"].clone()
    labels[0, :6] = -100
    labels[1] = -100
    found = attach(model)
    result = measure(found, [{**batch, "labels": labels}])
    assert result.sequences == 1
    logits = model(batch["input_ids"][:1]).logits
    expected = nn.functional.cross_entropy(logits[0, 5:-1], batch["input_ids"][0, 6:])
    assert result.losses[0] == pytest.approx(expected.item())


def test_compact_model_leaves_absent_heads_unscored(batches: list[dict[str, Tensor]]) -> None:
    from neural_plasticity.models.compaction import compact

    found = attach(build("llama", **DOUBLE))
    found.prune([(0, 1), (2, 0), (2, 1)])
    gated = score_heads(found.model, batches, list(CRITERIA), entropy_rows=None)
    compacted = compact(found.model)
    seams = [seam_of(module) is not None for module in compacted.modules()]  # only where groups are uneven
    small = score_heads(compacted, batches, list(CRITERIA), entropy_rows=None)
    assert [seam_of(module) is not None for module in compacted.modules()] == seams
    for name in CRITERIA:
        assert np.array_equal(np.isnan(small[name]), ~found.mask), name
        close(small[name][found.mask], gated[name][found.mask], 1e-7)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_sequence_losses_against_cross_entropy(dtype: torch.dtype) -> None:
    """Values and gradients of the loss that overwrites its logits, more rows than one block included."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 70, 11, generator=generator, dtype=dtype) * 4
    targets = torch.randint(0, 11, (3, 70), generator=generator)
    targets[0, :50] = -100
    targets[2] = -100
    weights = torch.tensor([0.3, 2.0, 1.0], dtype=dtype)
    plain = logits.clone().requires_grad_()
    each = nn.functional.cross_entropy(plain.flatten(0, 1), targets.flatten(), reduction="none").view(3, 70)
    expected = each.sum(1) / (targets != -100).sum(1).clamp_min(1)
    (expected * weights).sum().backward()
    source = logits.clone().requires_grad_()
    losses, counts = sequence_losses(source * 1.0, targets)
    (losses * weights).sum().backward()
    assert counts.tolist() == [20, 70, 0]
    torch.testing.assert_close(losses, expected)
    torch.testing.assert_close(source.grad, plain.grad)


def test_loss_refuses_to_overwrite_what_another_needs() -> None:
    """A last operation that kept its output for its own backward must fail, not give wrong gradients."""
    source = torch.randn(2, 5, 7, requires_grad=True)
    losses, _ = sequence_losses(source.tanh(), torch.ones(2, 5, dtype=torch.long))
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        losses.sum().backward()


def test_what_heads_attend_to_is_read_off_their_maps(name: str) -> None:
    found = attach(build(name))
    found.prune([(1, 2)])
    text = random_batch(2, 11, seed=3)["input_ids"]
    repeated = repeated_tokens(VOCABULARY, {0, 1, 2}, sequences=2, period=6, seed=1)
    assert torch.equal(repeated[:, :6], repeated[:, 6:])
    assert all(len(set(row.tolist())) == 6 and not {0, 1, 2} & set(row.tolist()) for row in repeated)
    scores = pattern_scores(found.model, text, repeated)
    on_text = np.stack([attention_maps(found.model, ids).astype(float) for ids in text])
    on_repeated = np.stack([attention_maps(found.model, ids).astype(float) for ids in repeated])
    induction = [on_repeated[..., query, query - 6 + 1] for query in range(6, 12)]
    close(scores["first_token_mass"], on_text[..., 1:, 0].mean((0, -1)), 1e-3)
    close(scores["previous_token"], np.stack([on_text[..., t, t - 1] for t in range(1, 11)]).mean((0, 1)), 1e-3)
    close(scores["induction"], np.mean(induction, axis=(0, 1)), 1e-3)
    assert all(np.isnan(grid[1, 2]) and np.isfinite(grid).sum() == LAYERS * HEADS - 1 for grid in scores.values())


def test_hidden_states_are_those_that_the_next_layer_reads(name: str) -> None:
    model = build(name)
    ids = random_batch(2, 7)["input_ids"]
    with torch.no_grad():
        expected = model(input_ids=ids, output_hidden_states=True)
    states = hidden_states(model, ids)
    assert states is not None
    assert states.shape == (LAYERS + 1, 2, 7, 32)
    assert torch.equal(states[-1], expected.hidden_states[-1])
    head = model.get_output_embeddings()
    if name != "bert":  # whose head has a layer of its own before it
        torch.testing.assert_close(head(states[-1]), expected.logits)
