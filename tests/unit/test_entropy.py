"""Attention entropy as a pure function: known distributions, laws, and which keys and rows count."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from torch import Tensor, nn

from neural_plasticity.importance.entropy import (
    HIDDEN,
    all_rows,
    entropy_sums,
    normalised_entropy,
    sampled_rows,
    visible_keys,
)
from neural_plasticity.models.seam import AttentionCall

few = hypothesis_settings(max_examples=40)
seeds = st.integers(0, 2**31)


def call_of(
    query: Tensor, key: Tensor, mask: Tensor | None = None, *, causal: bool = True, groups: list[int] | None = None
) -> AttentionCall:
    heads = query.shape[1]
    return AttentionCall(
        layer=0,
        module=nn.Identity(),
        query=query,
        key=key,
        value=key,
        mask=mask,
        scaling=0.5,
        is_causal=causal,
        output=query.transpose(1, 2),
        gate=torch.ones(heads),
        kv_of_query=torch.tensor(list(range(heads)) if groups is None else groups),
    )


def random_call(
    seed: int, batch: int = 2, length: int = 9, heads: int = 4, kv: int = 4, **kwargs: object
) -> AttentionCall:
    generator = torch.Generator().manual_seed(seed)
    query = 2 * torch.randn(batch, heads, length, 5, generator=generator)
    key = 2 * torch.randn(batch, kv, length, 5, generator=generator)
    return call_of(query, key, **kwargs)  # type: ignore[arg-type]


def entropy_of(call: AttentionCall, real: Tensor | None = None) -> Tensor:
    """Exact mean entropy per head."""
    real = torch.ones(call.query.shape[0], call.query.shape[2], dtype=torch.bool) if real is None else real
    sums = entropy_sums(call, all_rows(real))
    return sums[0] / sums[2]


def by_hand(call: AttentionCall, visible: Tensor) -> Tensor:
    """Mean entropy per head with loops; ``visible`` is (B, T, S)."""
    found: list[list[float]] = [[] for _ in range(call.query.shape[1])]
    for b, h, i in np.ndindex(*call.query.shape[:3]):
        keys = call.key[b, int(call.kv_of_query[h])][visible[b, i]].double()
        if len(keys) >= 2:
            p = (keys @ call.query[b, h, i].double() * call.scaling).softmax(0)
            found[h].append(float(-(p * p.log()).sum()) / np.log(len(keys)))
    return torch.tensor([np.mean(one) for one in found])


@given(st.integers(2, 50), st.floats(-30, 30))
@few
def test_uniform_is_one_and_one_hot_is_zero(keys: int, level: float) -> None:
    visible = torch.ones(keys, dtype=torch.bool)
    assert normalised_entropy(torch.full((keys,), level), visible).item() == pytest.approx(1, abs=1e-5)
    one_hot = torch.full((keys,), level)
    one_hot[keys // 2] += 200
    assert normalised_entropy(one_hot, visible).item() == pytest.approx(0, abs=1e-5)


def test_half_the_keys_share_the_mass() -> None:
    scores = torch.tensor([0.0, 0.0, -500.0, -500.0])
    assert normalised_entropy(scores, torch.ones(4, dtype=torch.bool)).item() == pytest.approx(0.5, abs=1e-6)


@given(seeds, st.integers(2, 30), st.floats(0.01, 100), st.integers(0, 10))
@few
def test_laws(seed: int, keys: int, spread: float, hidden: int) -> None:
    """In [0, 1]; the order of keys, a constant on all scores, and keys that cannot be seen change nothing."""
    generator = torch.Generator().manual_seed(seed)
    scores = spread * torch.randn(3, keys, generator=generator, dtype=torch.float64)
    everything = torch.ones(keys, dtype=torch.bool)
    entropy = normalised_entropy(scores.clone(), everything)
    assert ((entropy >= 0) & (entropy <= 1)).all()
    order = torch.randperm(keys, generator=generator)
    torch.testing.assert_close(normalised_entropy(scores[:, order], everything), entropy, atol=1e-9, rtol=0)
    torch.testing.assert_close(normalised_entropy(scores + 7.0, everything), entropy, atol=1e-9, rtol=0)
    padded = nn.functional.pad(scores, (0, hidden), value=HIDDEN)
    visible = nn.functional.pad(everything, (0, hidden), value=False)
    torch.testing.assert_close(normalised_entropy(padded, visible), entropy, atol=1e-9, rtol=0)


def test_rows_that_see_one_key_or_none_are_zero_and_finite() -> None:
    scores = torch.tensor([[1.0, HIDDEN], [HIDDEN, HIDDEN]])
    visible = torch.tensor([[True, False], [False, False]])
    assert normalised_entropy(scores, visible).tolist() == [0, 0]


@given(seeds, st.booleans(), st.sampled_from([[0, 1, 2, 3], [0, 0, 1, 1], [1, 0, 0, 1], [0, 0, 0, 0]]))
@few
def test_masks_of_every_kind_agree_with_loops(seed: int, causal: bool, groups: list[int]) -> None:
    call = random_call(seed, kv=max(groups) + 1, causal=causal, groups=groups)
    length = call.query.shape[2]
    visible = torch.ones(2, length, length, dtype=torch.bool)
    if causal:
        visible = visible.tril()
    expected = by_hand(call, visible)
    additive = torch.zeros(2, 1, length, length).masked_fill(~visible[:, None], torch.finfo(torch.float32).min)
    for mask in (None, visible[:, None], visible[:1, None], additive, additive.clamp_min(-torch.inf)):
        given_mask = call_of(call.query, call.key, mask, causal=causal, groups=groups)
        torch.testing.assert_close(entropy_of(given_mask).double(), expected, atol=1e-5, rtol=0)


def test_sliding_window_and_additive_bias() -> None:
    call = random_call(3)
    length = call.query.shape[2]
    window = torch.ones(2, length, length, dtype=torch.bool).tril().triu(-2)
    windowed = call_of(call.query, call.key, window[:, None])
    torch.testing.assert_close(entropy_of(windowed).double(), by_hand(call, window), atol=1e-5, rtol=0)
    steep = torch.where(window, torch.arange(length) * 300.0, -torch.inf)[:, None]  # ALiBi-like: all on the last key
    assert (entropy_of(call_of(call.query, call.key, steep)) < 1e-5).all()


def test_padding_mask_of_flash_attention() -> None:
    call = random_call(4)
    real = torch.ones(2, 9, dtype=torch.bool)
    real[0, 6:] = False
    visible = torch.ones(2, 9, 9, dtype=torch.bool).tril() & real[:, None]
    seen, bias = visible_keys(call_of(call.query, call.key, real.int()), torch.arange(9).expand(2, 9))
    assert bias is None
    assert torch.equal(seen, visible)


@given(seeds, st.integers(1, 5), st.sampled_from(["left", "right"]), st.booleans())
@few
def test_padding_changes_nothing(seed: int, padding: int, side: str, causal: bool) -> None:
    bare = random_call(seed, batch=1, causal=causal)
    length = 9
    at = (padding, 0) if side == "left" else (0, padding)
    grown = [nn.functional.pad(x, (0, 0, *at), value=3.0) for x in (bare.query, bare.key)]
    real = nn.functional.pad(torch.ones(1, length, dtype=torch.bool), at, value=False)
    visible = real[:, None, None].expand(1, 1, length + padding, -1)
    padded = call_of(grown[0], grown[1], visible.tril() if causal else visible, causal=causal)
    sums, expected = entropy_sums(padded, all_rows(real)), entropy_sums(bare, all_rows(torch.ones(1, length).bool()))
    torch.testing.assert_close(sums, expected, atol=1e-4, rtol=0)


def test_blocks_of_rows_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    call = random_call(5)
    whole = entropy_of(call)
    monkeypatch.setattr("neural_plasticity.importance.entropy.BLOCK_ELEMENTS", 200)
    torch.testing.assert_close(entropy_of(call), whole)


def test_inputs_are_left_alone() -> None:
    call = random_call(6)
    before = call.query.clone(), call.key.clone()
    entropy_of(call)
    assert torch.equal(call.query, before[0])
    assert torch.equal(call.key, before[1])


@given(seeds, st.integers(1, 12), st.integers(0, 6))
@few
def test_sampled_rows_are_real_stratified_and_seeded(seed: int, rows: int, padding: int) -> None:
    real = torch.ones(3, 16, dtype=torch.bool)
    real[0, :padding] = False
    real[1, 16 - padding :] = False
    drawn, again = (sampled_rows(real, rows, torch.Generator().manual_seed(seed)) for _ in range(2))
    assert torch.equal(drawn.index, again.index)
    assert real.gather(1, drawn.index).all()
    torch.testing.assert_close(drawn.weight.sum(1), real.sum(1).float())
    assert drawn.first.tolist() == [padding, 0, 0]
    for b, first in enumerate((padding, 0, 0)):  # row r lies in the r-th of `rows` equal parts
        part = (drawn.index[b] - first + 0.5) / int(real[b].sum()) * rows
        assert ((part - torch.arange(rows) - 0.5).abs() <= 0.5 + rows / int(real[b].sum())).all()


def test_sampling_is_unbiased() -> None:
    """The mean over many draws approaches the exact value: within four standard errors for every head."""
    call = random_call(7, length=24)
    real = torch.ones(2, 24, dtype=torch.bool)
    real[1, :7] = False
    exact = entropy_sums(call, all_rows(real))
    generator = torch.Generator().manual_seed(0)
    draws = torch.stack([entropy_sums(call, sampled_rows(real, 5, generator)) for _ in range(400)])
    error = (draws.mean(0) - exact).abs()
    assert (error <= 4 * draws.std(0) / 20 + 1e-4).all()
    assert draws.std(0)[0].min() > 0  # it does sample


def test_sampling_as_many_rows_as_there_are_is_exact() -> None:
    real = torch.ones(2, 6, dtype=torch.bool)
    rows = sampled_rows(real, 6, torch.Generator())
    assert torch.equal(rows.index, torch.arange(6).expand(2, 6))
