"""What heads attend to: the first token, the token before, and what followed the same token earlier (induction).

These describe a head, they do not rank it: mean attention from certain positions to one key each, so no (T, T) map is
held. A head that sends its attention to the first token is often idle there; previous-token and induction heads work
in pairs (Olsson et al. 2022, "In-context Learning and Induction Heads").
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import torch
from torch import Tensor, nn

from neural_plasticity.heads import FloatGrid
from neural_plasticity.importance.entropy import BLOCK_ELEMENTS, expanded_keys, row_scores, visible_keys
from neural_plasticity.importance.forward import logits_of, on_device, undisturbed
from neural_plasticity.importance.onepass import in_order, numpy, on_grid
from neural_plasticity.importance.scoring import attached
from neural_plasticity.models.seam import AttentionCall

PATTERNS = ("first_token_mass", "previous_token", "induction")


class _KeyProbe:
    """Mean attention from query positions ``rows`` (R,) to keys (K, R), one mean per line of ``keys``."""

    def __init__(self, rows: Tensor, keys: Tensor) -> None:
        self.rows, self.keys = rows, keys
        self.means: dict[int, Tensor] = {}  # per layer (K, H)

    def observe(self, call: AttentionCall) -> Tensor:
        key = expanded_keys(call)
        batch, heads, length, _ = key.shape
        block = max(1, BLOCK_ELEMENTS // (batch * heads * length))
        sums = key.new_zeros(len(self.keys), heads)
        for start in range(0, len(self.rows), block):
            index = self.rows[start : start + block].expand(batch, -1)
            scores = row_scores(call, key, index, *visible_keys(call, index))  # (B, H, R, S)
            total = scores.logsumexp(-1)
            for place, keys in enumerate(self.keys[:, start : start + block]):
                chosen = scores.gather(-1, keys.view(1, 1, -1, 1).expand(batch, heads, -1, 1)).squeeze(-1)
                sums[place] += (chosen - total).exp().sum(dim=(0, 2))
        self.means[call.layer] = sums / (batch * len(self.rows))
        return call.output * call.gate.to(call.output.dtype)[:, None]


def pattern_scores(model: nn.Module, text: Tensor, repeated: Tensor) -> dict[str, FloatGrid]:
    """{name in ``PATTERNS``: (layers, heads) mean attention, 0 to 1}; NaN where a head is pruned or absent.

    Args:
        model: attached or not; left as it was found.
        text: token ids (B, T) without padding: first-token mass and previous-token score are means over its positions
            from the second on.
        repeated: token ids (B, 2 P), the second half the same as the first (``repeated_tokens``). The induction score
            is the mean attention, from each position of the second half, to the token that followed its first
            occurrence.

    Raises:
        UnsupportedModelError: the model's heads cannot be reached.
    """
    device = next(model.parameters()).device
    rows = torch.arange(1, text.shape[1], device=device)
    period = repeated.shape[1] // 2
    later = torch.arange(period, 2 * period, device=device)
    looks = ((text, rows, torch.stack([0 * rows, rows - 1])), (repeated, later, (later - period + 1)[None]))
    found: list[FloatGrid] = []
    with attached(model) as heads, undisturbed(model), torch.no_grad():
        for ids, positions, keys in looks:
            probe = _KeyProbe(positions, keys)
            with heads.probing(probe):
                logits_of(model, on_device({"input_ids": ids}, model))
            found.extend(on_grid(numpy(torch.cat(in_order(probe.means), dim=1)), heads.present))
        gone = ~heads.mask
    return {name: np.where(gone, np.nan, grid) for name, grid in zip(PATTERNS, found, strict=True)}


def repeated_tokens(vocabulary: int, excluded: Collection[int], sequences: int, period: int, seed: int) -> Tensor:
    """(sequences, 2 period) random token ids, the second half the same as the first, none twice within a half.

    A vocabulary smaller than ``period`` shortens it.
    """
    allowed = np.setdiff1d(np.arange(vocabulary), np.array(sorted(excluded), np.int64))
    rng = np.random.default_rng(seed)
    half = np.stack([rng.permutation(allowed)[:period] for _ in range(sequences)])
    return torch.from_numpy(np.concatenate([half, half], axis=1))


def hidden_states(model: nn.Module, input_ids: Tensor) -> Tensor | None:
    """(layers + 1, B, T, width): what enters the first layer, then what leaves each; None where a model shows none.

    As transformers give them: the last one has been through the final norm.
    """
    with undisturbed(model), torch.no_grad():
        batch = on_device({"input_ids": input_ids}, model)
        states = getattr(model(**batch, output_hidden_states=True, use_cache=False), "hidden_states", None)
    return torch.stack([state.detach() for state in states]) if states else None
