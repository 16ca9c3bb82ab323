"""Pruning: the scores with the decision on them, and the architecture before and after, layer by layer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from neural_plasticity.events import HeadsPruned
from neural_plasticity.heads import BoolGrid, FloatGrid, StateGrid, grid_of
from neural_plasticity.record import Run
from neural_plasticity.record.history import head_states
from neural_plasticity.views import figures
from neural_plasticity.views.analysis import label_of, unit_of
from neural_plasticity.views.heads_at import changed, fitted
from neural_plasticity.views.scores import as_known


@dataclass(frozen=True)
class PruningDecision:
    """One decision; all grids (layers, heads). ``states`` are those before it; ``chosen`` goes in it."""

    step: int
    cycle: int
    strategy: str
    level: float | None
    score: FloatGrid | None
    score_label: str
    score_unit: str
    threshold: float | None
    chosen: BoolGrid
    protected: BoolGrid
    states: StateGrid
    loss_before: float | None
    loss_after: float | None

    @property
    def before(self) -> npt.NDArray[np.int64]:
        """Active heads per layer before the decision."""
        return np.count_nonzero(self.states > 0, axis=1)

    @property
    def after(self) -> npt.NDArray[np.int64]:
        """Active heads per layer after it."""
        return np.count_nonzero((self.states > 0) & ~self.chosen, axis=1)


@dataclass(frozen=True)
class Pruning:
    """All prunings in order; ``present``: heads per layer at the start, ``now``: active ones at the end."""

    decisions: tuple[PruningDecision, ...]
    present: npt.NDArray[np.int64]
    now: npt.NDArray[np.int64]
    empty: str | None = None
    left_out: int = 0


def pruning(run: Run, most_cells: int | None = None) -> Pruning:
    """Every pruning decision with the heads that were there before it.

    Decisions whose grids go beyond ``most_cells`` in all are left out: the first and the latest ones stay.
    """
    started = run.started
    changes = run.changes()
    nothing = np.zeros(0, np.int64)
    if started is None or not any(isinstance(one, HeadsPruned) for one in changes):
        return Pruning((), nothing, nothing, "Nothing was pruned.")
    final = head_states(run.start, changes, None)
    start = fitted(head_states(run.start, [], None), final.shape, np.int8(-1))
    prunings = [number for number, one in enumerate(changes) if isinstance(one, HeadsPruned)]
    room = len(prunings) if most_cells is None else max(most_cells // max(final.size, 1), 2)
    kept = {*prunings[:1], *prunings[-(room - 1) :]} if room < len(prunings) else set(prunings)
    found, now = [], start
    for number, event in enumerate(changes):
        before, now = now, changed(now, event)
        if number in kept and isinstance(event, HeadsPruned):
            chosen = grid_of(event.heads, final.shape)
            # Heads that are pruned were there, whatever shape the record began with.
            before = np.where(chosen & (before < 0), np.int8(1), before)
            found.append(_decision(event, chosen, before))
    present = np.maximum(np.count_nonzero(start >= 0, axis=1), np.count_nonzero(final >= 0, axis=1))
    left_out = len(prunings) - len(kept)
    return Pruning(tuple(found), present, np.count_nonzero(final > 0, axis=1), None, left_out)


def _decision(event: HeadsPruned, chosen: BoolGrid, before: StateGrid) -> PruningDecision:
    shape = before.shape
    score, threshold = as_known(event)
    usable = score is not None and score.ndim == 2 and score.size > 0
    strategy = figures.shorten(figures.clean(event.strategy), 40)
    kept = event.protected
    return PruningDecision(
        step=event.step,
        cycle=event.cycle,
        strategy=strategy,
        level=event.level,
        score=fitted(score.astype(float), shape, np.float64(np.nan)) if usable and score is not None else None,
        score_label=label_of(event.strategy),
        score_unit=unit_of(event.strategy),
        threshold=threshold,
        chosen=chosen,
        protected=(
            fitted(kept.astype(bool), shape, np.bool_(False))
            if kept is not None and kept.ndim == 2
            else np.zeros(shape, bool)
        ),
        states=before,
        loss_before=event.loss_before,
        loss_after=event.loss_after,
    )
