"""``score_heads``: from a model and batches to one (layers, heads) array per criterion."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import numpy as np
from torch import nn

from neural_plasticity.errors import ConfigError
from neural_plasticity.heads import FloatGrid
from neural_plasticity.importance.ablation import ablation
from neural_plasticity.importance.criteria import ALL_PARTS, COMBINED_WEIGHTS, Part, combined_rank, criterion
from neural_plasticity.importance.forward import Batch
from neural_plasticity.importance.onepass import Measurements, Progress, measure, numpy, on_grid
from neural_plasticity.models.attach import Heads, attach, is_attached
from neural_plasticity.models.devices import ALONE, Devices


class Evidence:
    """What criteria are computed from, each measured when first asked for. A user's own criterion gets one of these."""

    heads: Heads
    seed: int

    def __init__(
        self,
        heads: Heads,
        batches: Sequence[Batch],
        parts: frozenset[Part] = ALL_PARTS,
        *,
        entropy_rows: int | None = 64,
        weights: Mapping[str, float] = COMBINED_WEIGHTS,
        seed: int = 0,
        progress: Progress | None = None,
        devices: Devices = ALONE,
    ) -> None:
        self.heads = heads
        self.model = heads.model
        self.batches = batches
        self.parts = parts
        self.entropy_rows = entropy_rows
        self.weights = weights
        self.seed = seed
        self.progress = progress
        self.devices = devices

    @cached_property
    def measured(self) -> Measurements:
        """The one pass over the batches."""
        return measure(
            self.heads,
            self.batches,
            self.parts,
            entropy_rows=self.entropy_rows,
            seed=self.seed,
            progress=self.progress,
            devices=self.devices,
        )

    @cached_property
    def magnitude(self) -> FloatGrid:
        """‖W_v‖·‖W_o‖ (Frobenius) of each head's slices; query heads that share a value head share its ‖W_v‖."""
        return magnitudes(self.heads)

    @cached_property
    def ablation(self) -> FloatGrid:
        """Exact loss change of each head, one forward per head and batch."""
        return ablation(self.heads, self.batches, progress=self.progress, devices=self.devices)

    @cached_property
    def combined(self) -> FloatGrid:
        """Weighted mean rank among the active heads, by ``weights``."""
        scores = {name: criterion(name).score(self) for name in self.weights}
        return combined_rank(scores, self.weights, self.heads.mask)


def magnitudes(heads: Heads) -> FloatGrid:
    """‖W_v‖·‖W_o‖ per head, from the weights alone, (layers, heads)."""
    flat = []
    for layout in heads.layouts:
        value = numpy(layout.value_weight().flatten(1))
        output = numpy(layout.output_weight().flatten(1))
        shared = np.linalg.norm(value, axis=1)[layout.kv_of_query.numpy()]
        flat.append(shared * np.linalg.norm(output, axis=1))
    return on_grid(np.concatenate(flat), heads.present)


def score_heads(
    model: nn.Module,
    batches: Iterable[Batch],
    criteria: Sequence[str] = ("entropy", "gradient"),
    *,
    entropy_rows: int | None = 64,
    weights: Mapping[str, float] = COMBINED_WEIGHTS,
    seed: int = 0,
    progress: Progress | None = None,
    devices: Devices = ALONE,
) -> dict[str, FloatGrid]:
    """Score every attention head: {criterion: float64 array (layers, heads)}, the raw measurement.

    The model may be attached already (its gates count: what is pruned stays pruned); otherwise it is attached for the
    while. Gates, gradients, ``requires_grad``, training modes and random states are left as they were found. All
    criteria but "ablation" and "magnitude" come from one forward and backward per batch. "entropy" brings
    "first_token_mass" with it, since a focused head may be an idle one.

    A pruned head is scored too, at its gate of 0: "gradient_signed" there is the first-order benefit of growing it
    back, "ablation" the exact one; its entropy and output norm are those of the output before the gate. Heads that are
    not present (removed by compaction) are NaN.

    Args:
        model: a supported transformers model with a language-model (or classification) head.
        batches: dicts of ``input_ids`` (B, T), with ``attention_mask`` where there is padding (left or right), and
            ``labels`` unless the input itself is the target; −100 is ignored. More model inputs are passed on.
        criteria: names in ``CRITERIA``, or ``package.module:function`` taking an ``Evidence``.
        entropy_rows: query positions sampled per sequence for entropy; None for all of them (exact).
        weights: of the criteria in "combined".
        seed: of sampled positions and of "random".
        progress: called with (done, planned) after each batch of the pass, and each group of ablated heads.
        devices: the processes that share the work, and the precision. Each calls this with the same batches, takes its
            part of each, and gets the scores of all. A user's own criterion is called on every process.

    Raises:
        ConfigError: an unknown criterion.
        InputError: no batches, or one that is not as described.
        UnsupportedModelError: the model's heads cannot be reached.
    """
    if isinstance(criteria, str):
        criteria = (criteria,)
    chosen = {name: criterion(name) for name in criteria}
    parts = frozenset[Part]().union(*(one.parts for one in chosen.values()))
    if "combined" in chosen:
        parts = parts.union(*(criterion(name).parts for name in weights))
    for name in [beside for one in chosen.values() for beside in one.beside]:
        chosen.setdefault(name, criterion(name))
    with attached(model) as heads:
        evidence = Evidence(
            heads,
            list(batches),
            parts,
            entropy_rows=entropy_rows,
            weights=weights,
            seed=seed,
            progress=progress,
            devices=devices,
        )
        return {name: _checked(name, one.score(evidence), heads) for name, one in chosen.items()}


@contextmanager
def attached(model: nn.Module) -> Iterator[Heads]:
    """The model's heads; attached for the while when it was not."""
    was_attached = is_attached(model)
    heads = attach(model)
    try:
        yield heads
    finally:
        if not was_attached:
            heads.detach()


def _checked(name: str, scores: Any, heads: Heads) -> FloatGrid:
    """A fresh float64 array of the model's shape, which a user's own function may have failed to return."""
    grid = np.array(scores, dtype=np.float64)
    if grid.shape != heads.shape:
        raise ConfigError(f"criterion {name!r}: expected an array of shape {heads.shape}, got {grid.shape}.")
    return grid
