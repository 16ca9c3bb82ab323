"""Head states and score grids brought to one shape: what other people's scripts record need not fit together."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from neural_plasticity.events import StateRestored
from neural_plasticity.heads import StateGrid
from neural_plasticity.record import Run
from neural_plasticity.record.history import Change, head_states, restore_states

T = TypeVar("T", bound=np.generic)


def states_at(run: Run, step: int | None = None, up_to_cycle: int | None = None) -> StateGrid | None:
    """Head states after ``step``; with ``up_to_cycle``, as decisions of cycles up to that one left them.

    None: no shape, no heads. The grid is as large as the run's heads ever need. A return to an earlier state ends a
    cycle without being part of it: what the cycle tried is what it came to.
    """
    changes = run.changes()
    start = run.start if run.started is not None else (0, 0)
    kept = [
        one
        for one in changes
        if (step is None or one.step <= step)
        and (up_to_cycle is None or (one.cycle <= up_to_cycle and not isinstance(one, StateRestored)))
    ]
    largest = head_states(start, changes, None).shape
    grid = fitted(head_states(start, kept, None), largest, np.int8(-1))
    return grid if grid.size else None


def states_by_cycle(run: Run, cycles: Sequence[int]) -> dict[int, StateGrid | None]:
    """`states_at` the end of each cycle, in one pass where the record's cycles follow each other."""
    decisions = run.decisions()
    if any(later.cycle < earlier.cycle for earlier, later in itertools.pairwise(decisions)):
        return {cycle: states_at(run, up_to_cycle=cycle) for cycle in cycles}
    grid = states_at(run, up_to_cycle=-(2**63))
    found: dict[int, StateGrid | None] = {}
    left = deque(decisions)
    for cycle in sorted(cycles):
        while left and left[0].cycle <= cycle and grid is not None:
            grid = changed(grid, left.popleft())
        found[cycle] = grid
    return found


def changed(grid: StateGrid, change: Change) -> StateGrid:
    """``grid`` after one more change, whose heads it has room for."""
    after = grid.copy()
    if isinstance(change, StateRestored):
        restore_states(after, change.states)
        return after
    own = head_states((0, 0), [change], None)
    corner = after[: own.shape[0], : own.shape[1]]
    corner[own >= 0] = own[own >= 0]
    return after


def fitted(grid: npt.NDArray[T], shape: tuple[int, ...], missing: T) -> npt.NDArray[T]:
    """``grid`` (rows, columns) cut, or padded with ``missing``, to ``shape``."""
    found = np.full(shape, missing, dtype=grid.dtype)
    rows, columns = min(shape[0], grid.shape[0]), min(shape[1], grid.shape[1])
    found[:rows, :columns] = grid[:rows, :columns]
    return found
