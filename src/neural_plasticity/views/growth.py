"""Growth: which heads came back or were added, when, why, and how long they lasted."""

from __future__ import annotations

from dataclasses import dataclass

from neural_plasticity.events import HeadsGrown, HeadsPruned
from neural_plasticity.heads import HeadId
from neural_plasticity.record import Run
from neural_plasticity.views import figures


@dataclass(frozen=True)
class Return:
    """One head that came: ``pruned_step`` is when it had gone, ``pruned_again_step`` when it went again."""

    step: int
    cycle: int
    origin: str
    layer: int
    head: int
    strategy: str
    reason: str
    score: float | None
    loss_before: float | None
    loss_after: float | None
    pruned_step: int | None
    pruned_again_step: int | None


@dataclass(frozen=True)
class Growth:
    """All returns in order; ``lasting``: how many of them are active at the end."""

    returns: tuple[Return, ...]
    lasting: int = 0
    empty: str | None = None


def growth(run: Run) -> Growth:
    """Every head that was regrown or added."""
    pruned: dict[HeadId, list[int]] = {}
    gone_at: dict[tuple[int, HeadId], int] = {}  # which return (by its place) ended at which step
    open_returns: dict[HeadId, int] = {}
    found: list[tuple[HeadsGrown, HeadId, int | None]] = []
    for event in run.decisions():
        for one in event.heads:
            head = HeadId(*one)
            if isinstance(event, HeadsPruned):
                pruned.setdefault(head, []).append(event.step)
                if head in open_returns:
                    gone_at[open_returns.pop(head), head] = event.step
            else:
                open_returns[head] = len(found)
                found.append((event, head, pruned[head][-1] if head in pruned else None))
    returns = tuple(
        _return(event, head, before, gone_at.get((place, head))) for place, (event, head, before) in enumerate(found)
    )
    lasting = sum(one.pruned_again_step is None for one in returns)
    return Growth(returns, lasting, None if returns else "No head came back and none was added.")


def _return(event: HeadsGrown, head: HeadId, pruned_step: int | None, again: int | None) -> Return:
    score = event.score
    inside = score is not None and score.ndim == 2 and head.layer < score.shape[0] and head.head < score.shape[1]
    return Return(
        event.step,
        event.cycle,
        event.origin,
        head.layer,
        head.head,
        figures.clean(event.strategy),
        figures.clean(str(event.reasons.get(f"{head.layer}.{head.head}", ""))),
        float(score[head]) if inside and score is not None else None,
        event.loss_before,
        event.loss_after,
        pruned_step,
        again,
    )
