"""The layers × heads grid at one moment: state of every head, and how important it was last measured to be."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from neural_plasticity.events import HeadScores
from neural_plasticity.heads import BoolGrid, FloatGrid, HeadId, HeadState, StateGrid, with_state
from neural_plasticity.record import Run

# Which measured criterion shades the grid: the first of these that there is. Entropy prunes the highest first,
# so there a high value means a head that matters less.
_PREFERRED = ("combined", "gradient", "fisher", "output_norm", "ablation", "magnitude", "entropy")
_LOW_IS_IMPORTANT = frozenset({"entropy"})


@dataclass(frozen=True)
class HeadGridView:
    """``states`` (layers, heads) of `HeadState`; ``importance`` (layers, heads) in 0…1 by rank, NaN: not measured."""

    states: StateGrid
    importance: FloatGrid
    criterion: str = ""
    step: int | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """(layers, heads)."""
        return self.states.shape[0], self.states.shape[1]

    @property
    def counts(self) -> dict[HeadState, int]:
        """How many heads are in each state that occurs, `HeadState.ABSENT` left out."""
        order = (HeadState.ACTIVE, HeadState.PRUNED, HeadState.REGROWN, HeadState.ADDED)
        present = ((state, int((self.states == state).sum())) for state in order)
        return {state: count for state, count in present if count}

    @property
    def total(self) -> int:
        """Heads that the grid has, pruned ones included."""
        return int((self.states != HeadState.ABSENT).sum())


def head_grid(states: StateGrid, scores: Mapping[str, FloatGrid], step: int | None = None) -> HeadGridView:
    """The grid with importance by rank from the best criterion in ``scores`` (same shape); without any, unshaded."""
    fitting = {name: grid for name, grid in scores.items() if grid.shape == states.shape}
    criterion = next((name for name in _PREFERRED if name in fitting), next(iter(fitting), ""))
    unmeasured = np.full(states.shape, np.nan)
    if not criterion:
        return HeadGridView(states, unmeasured, step=step)
    importance = rank_fraction(fitting[criterion], states >= HeadState.ACTIVE)
    if criterion in _LOW_IS_IMPORTANT:
        importance = 1 - importance
    return HeadGridView(states, importance, criterion, step)


def rank_fraction(scores: FloatGrid, among: BoolGrid) -> FloatGrid:
    """Each score's place among those of ``among`` (bool grid): 0 lowest, 1 highest, equal scores alike, NaN elsewhere.

    Ranks rather than values: criteria are skewed, and one large head would leave all others the same colour.
    """
    fractions = np.full(scores.shape, np.nan)
    where = among & ~np.isnan(scores)
    values = np.sort(scores[where])
    if values.size:
        below = np.searchsorted(values, scores[where], side="left")
        upto = np.searchsorted(values, scores[where], side="right") - 1
        fractions[where] = (below + upto) / 2 / max(values.size - 1, 1)
    return fractions


def blank_states(shape: tuple[int, int], absent: Iterable[HeadId] = ()) -> StateGrid:
    """All heads active but those that are not there."""
    return with_state(np.full(shape, HeadState.ACTIVE, dtype=np.int8), absent, HeadState.ABSENT)


def grid_at(run: Run, step: int | None = None) -> HeadGridView | None:
    """The grid of a run after ``step`` (None: now); None while the run has not said its shape."""
    if run.started is None:
        return None
    scores: dict[str, FloatGrid] = {}
    for event in run.events(HeadScores):
        if isinstance(event, HeadScores) and (step is None or event.step <= step):
            scores |= event.scores
    return head_grid(run.heads(step), scores, step)
