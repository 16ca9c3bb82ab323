"""Attention entropy from queries and keys, for some query rows at a time: pure functions on tensors.

H = −Σ p log p over the visible keys, divided by log(number of visible keys): 1 is uniform, 0 is one key only. No
(T, T) map of all heads is ever held: rows come in blocks of at most ``BLOCK_ELEMENTS`` scores.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from neural_plasticity.models.devices import Share
from neural_plasticity.models.seam import AttentionCall

BLOCK_ELEMENTS = 4_000_000  # scores held at once: 16 MB in float32
HIDDEN = -1e30  # score of a key that cannot be seen: finite, so that 0 · HIDDEN is 0 and not NaN


@dataclass(frozen=True)
class QueryRows:
    """Query positions at which entropy is measured. B: batch, R: rows per sequence."""

    index: Tensor  # (B, R) int64, positions
    weight: Tensor  # (B, R) float32: how many real positions the row stands for; 0 for padding
    first: Tensor  # (B,) int64: position of each sequence's first real token

    def of(self, share: Share) -> QueryRows:
        """Those of one process's sequences; one that only fills up counts for nothing."""
        places = share.places.to(self.index.device)
        weight = self.weight[places] * share.real[:, None].to(self.weight)
        return QueryRows(self.index[places], weight, self.first[places])


def all_rows(real: Tensor) -> QueryRows:
    """Every position, padding at weight 0. ``real``: (B, T) bool, False = padding."""
    batch, length = real.shape
    index = torch.arange(length, device=real.device).expand(batch, length)
    return QueryRows(index, real.float(), real.int().argmax(1))


def sampled_rows(real: Tensor, rows: int, generator: torch.Generator) -> QueryRows:
    """``rows`` positions per sequence, one drawn from each of as many equal strata of its real positions.

    Each stands for (real positions / ``rows``), so sums over rows estimate sums over positions without bias.
    ``real``: (B, T) bool. ``generator`` lives on the CPU, so that every device draws the same rows.
    """
    batch, length = real.shape
    if rows >= length:
        return all_rows(real)
    counts = real.sum(1, keepdim=True).cpu()  # (B, 1)
    strata = torch.arange(rows) + torch.rand(batch, rows, generator=generator)  # (B, R), in [0, rows)
    rank = (strata * counts / rows).long().clamp_max(counts - 1).clamp_min(0)  # which real position: 0, 1, …
    order = torch.argsort(real.cpu().int(), dim=1, descending=True, stable=True)  # real positions first, in order
    weight = (counts / rows).expand(batch, rows).float()
    return QueryRows(order.gather(1, rank).to(real.device), weight.to(real.device), real.int().argmax(1))


def visible_keys(call: AttentionCall, index: Tensor) -> tuple[Tensor, Tensor | None]:
    """Which keys the query rows ``index`` (B, R) see: bool (B, R, S), and what an additive mask adds to their scores.

    Understands bool masks (True = visible), additive float masks, 2-D padding masks (B, S) as flash attention takes
    them, and None (causal, or everything for an encoder). Sliding windows arrive as masks.
    """
    keys, queries = call.key.shape[2], call.query.shape[2]
    batch, rows = index.shape
    if call.mask is not None and call.mask.dim() == 4:
        mask = call.mask.expand(batch, -1, -1, -1)[torch.arange(batch, device=index.device)[:, None], 0, index]
        mask = mask[..., :keys]
        if mask.dtype == torch.bool:
            return mask, None
        visible = mask > torch.finfo(mask.dtype).min / 2
        return visible, torch.where(visible, mask, 0)
    if call.is_causal:  # query i is the (keys − queries + i)-th token
        visible = torch.arange(keys, device=index.device) <= index[..., None] + (keys - queries)
    else:
        visible = torch.ones(batch, rows, keys, dtype=torch.bool, device=index.device)
    if call.mask is not None:
        visible = visible & call.mask[:, None, :keys].bool()
    return visible, None


def row_scores(call: AttentionCall, key: Tensor, index: Tensor, visible: Tensor, bias: Tensor | None) -> Tensor:
    """Scores before the softmax, (B, H, R, S), ``HIDDEN`` where a key cannot be seen; ``key`` is (B, H, S, D)."""
    batch = len(index)
    heads = torch.arange(call.query.shape[1], device=index.device)[:, None]
    query = call.query[torch.arange(batch, device=index.device)[:, None, None], heads, index[:, None]]  # (B, H, R, D)
    scores = (query.to(key.dtype) * call.scaling) @ key.transpose(-1, -2)
    if call.softcap is not None:
        scores = call.softcap * (scores / call.softcap).tanh_()
    if bias is not None:
        scores = scores + bias[:, None]
    return scores.masked_fill_(~visible[:, None], HIDDEN)


def normalised_entropy(scores: Tensor, visible: Tensor) -> Tensor:
    """Entropy of softmax(scores) over the last axis, divided by log(visible keys); 0 where fewer than two are visible.

    ``scores`` has any leading shape; ``visible`` (bool) broadcasts to it, and hidden keys hold ``HIDDEN``.
    """
    shifted = scores - scores.amax(-1, keepdim=True)
    weights = shifted.exp()
    total = weights.sum(-1)
    entropy = total.log() - shifted.mul_(weights).sum(-1) / total  # log Z − Σ p s
    count = visible.sum(-1)
    return torch.where(count >= 2, entropy / count.clamp_min(2).to(entropy.dtype).log(), 0).clamp(0, 1)


def expanded_keys(call: AttentionCall) -> Tensor:
    """Keys (B, H, S, D), at least in float32, one per query head whatever the grouping."""
    key = call.key if call.key.shape[1] == call.query.shape[1] else call.key[:, call.kv_of_query]
    return key.to(torch.promote_types(key.dtype, torch.float32))


def entropy_sums(call: AttentionCall, rows: QueryRows) -> Tensor:
    """Sums over the rows with at least two visible keys: (3, H) of entropy, mass on the first token, and weight."""
    key = expanded_keys(call)
    batch, heads, keys, _ = key.shape
    sums = key.new_zeros(3, heads)
    block = max(1, BLOCK_ELEMENTS // max(1, batch * heads * keys))
    for start in range(0, rows.index.shape[1], block):
        index = rows.index[:, start : start + block]
        visible, bias = visible_keys(call, index)
        weight = rows.weight[:, start : start + block] * (visible.sum(-1) >= 2)  # (B, R)
        scores = row_scores(call, key, index, visible, bias)
        first = scores.gather(-1, rows.first.view(-1, 1, 1, 1).expand(-1, heads, index.shape[1], 1)).squeeze(-1)
        first_mass = (first - scores.logsumexp(-1)).exp()  # (B, H, R)
        per_row = torch.stack([normalised_entropy(scores, visible[:, None]), first_mass])
        sums[:2] += torch.einsum("cbhr,br->ch", per_row, weight.to(per_row.dtype))
        sums[2] += weight.sum()
    return sums
