"""The live region of the console: what is known so far, and how it looks at a given size. No terminal in here.

`advance` folds events into an immutable `LiveState`, so that a refresh thread may draw one while the next is made.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import singledispatch

import numpy as np
from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from neural_plasticity import events as ev
from neural_plasticity.heads import FloatGrid, HeadState, StateGrid, with_state
from neural_plasticity.render.headgrid import grid_text
from neural_plasticity.views import figures
from neural_plasticity.views.headgrid import HeadGridView, blank_states, head_grid
from neural_plasticity.views.palette import PHASE_COLOURS, phase_colour, phase_label

SPARK = "▁▂▃▄▅▆▇█"
KEPT_LOSSES = 240
MOST_GRID_ROWS = 32  # taller says no more, and pushes the log off the screen
CHROME_ROWS = 13  # rows that are not grid: the region's other lines, and a few of the log above it


@dataclass(frozen=True)
class LiveState:
    """All that the live region shows."""

    name: str = ""
    simulated: bool = False
    phase: str = ""
    cycle: int = 0
    cycles: int | None = None
    open_end: bool = False  # the run finds out itself when to stop: the plan is the most that it can take
    seen_phases: tuple[str, ...] = ()
    progress: ev.Progress | None = None
    latest: Mapping[str, float] = field(default_factory=dict)
    losses: tuple[float, ...] = ()  # of the latest phase that trained, ``losses_of``
    losses_of: tuple[str, int] = ("", 0)
    states: StateGrid | None = None
    scores: Mapping[str, FloatGrid] = field(default_factory=dict)

    @property
    def grid(self) -> HeadGridView | None:
        """The head grid, once the model's shape is known."""
        return None if self.states is None else head_grid(self.states, self.scores)


@singledispatch
def _fold(_event: ev.Event, state: LiveState) -> LiveState:
    return state


def advance(state: LiveState, event: ev.Event) -> LiveState:
    """The state after ``event``."""
    return _fold(event, state)


@_fold.register
def _(event: ev.RunStarted, state: LiveState) -> LiveState:
    cycles = event.config.get("cycles")
    known = state.states is not None and state.states.shape >= tuple(event.shape)  # a resumed run keeps its heads
    return LiveState(
        name=event.name,
        simulated=event.simulated,
        cycles=cycles if isinstance(cycles, int) else None,
        open_end=cycles == "auto",
        states=state.states if known else blank_states(event.shape, event.absent),
        scores=state.scores if known else {},
    )


@_fold.register
def _(event: ev.PhaseStarted, state: LiveState) -> LiveState:
    seen = state.seen_phases if event.cycle == state.cycle else tuple(p for p in state.seen_phases if p == "warmup")
    seen = tuple(p for p in seen if p != event.phase)
    return replace(state, phase=event.phase, cycle=event.cycle, seen_phases=(*seen, event.phase), progress=None)


@_fold.register
def _(event: ev.StepMetrics, state: LiveState) -> LiveState:
    latest = {**state.latest, **event.metrics}
    if "loss" not in event.metrics:
        return replace(state, latest=latest)
    place = (event.phase, event.cycle)
    before = state.losses[-KEPT_LOSSES + 1 :] if place == state.losses_of else ()
    return replace(state, latest=latest, losses=(*before, float(event.metrics["loss"])), losses_of=place)


@_fold.register
def _(event: ev.Progress, state: LiveState) -> LiveState:
    return replace(state, progress=event)


@_fold.register
def _(event: ev.HeadScores, state: LiveState) -> LiveState:
    return replace(state, scores={**state.scores, **event.scores})  # what is looked at later ranks no head


@_fold.register
def _(event: ev.HeadsPruned, state: LiveState) -> LiveState:
    return _with_heads(state, event.heads, HeadState.PRUNED)


@_fold.register
def _(event: ev.HeadsGrown, state: LiveState) -> LiveState:
    return _with_heads(state, event.heads, HeadState.REGROWN if event.origin == "regrown" else HeadState.ADDED)


@_fold.register
def _(event: ev.StateRestored, state: LiveState) -> LiveState:
    return replace(state, states=event.states, open_end=False)


def _with_heads(state: LiveState, heads: Iterable[tuple[int, int]], new: HeadState) -> LiveState:
    """``heads`` in their new state; heads outside the grid (added ones) make it larger."""
    old = state.states if state.states is not None else np.zeros((0, 0), dtype=np.int8)
    return replace(state, states=with_state(old, heads, new))


def sparkline(values: Iterable[float], width: int) -> str:
    """``values`` in at most ``width`` characters, each the mean of its stretch; ``!`` marks a NaN or infinity in it."""
    numbers = np.asarray(tuple(values), dtype=np.float64)
    if not numbers.size or width < 1:
        return ""
    stretches = np.array_split(numbers, min(width, numbers.size))
    finite = numbers[np.isfinite(numbers)]
    if not finite.size:
        return "!" * len(stretches)
    means = np.array([part.mean() if np.isfinite(part).all() else np.nan for part in stretches])
    low, high = np.nanmin(means, initial=np.inf), np.nanmax(means, initial=-np.inf)
    span = high - low if high > low else 1.0
    return "".join("!" if math.isnan(m) else SPARK[min(int((m - low) / span * 8), 7)] for m in means)


def live_view(state: LiveState, width: int, height: int) -> RenderableType:
    """The region for a terminal of ``width`` × ``height`` characters."""
    grid = state.grid
    if grid is None:
        return Group(_rule(state, width), Text("waiting for the run to start", style="dim"))
    rows = min(max(height - CHROME_ROWS, 3), MOST_GRID_ROWS)
    head_lines = grid_text(grid, width // 2 - 2, rows)
    # Never narrower than the legend usually is, so that the numbers beside the grid stay where they are.
    grid_width = max(min(34, width // 2), *(line.cell_len for line in head_lines))
    body = Table.grid(padding=(0, 3))
    body.add_column(width=grid_width, no_wrap=True)
    body.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    body.add_row(Group(*head_lines), Group(*_numbers(state, width - grid_width - 3)))
    return Group(_rule(state, width), _phases(state), _bar(state, width), Text(), body)


def _rule(state: LiveState, width: int) -> Text:
    """Title line: the run's name left, what it is right."""
    name = figures.shorten(figures.clean(state.name or "neural plasticity"), max(width - 30, 10))
    title = Text.assemble(("── ", "dim"), (name, "bold"), " ")
    end = Text(" simulated ", style="bold yellow") if state.simulated else Text()
    line = Text("─" * max(width - title.cell_len - end.cell_len, 0), style="dim")
    return title.append_text(line).append_text(end)


def _phases(state: LiveState) -> Text:
    """All phases in order, those done, the one running and those to come told apart by mark and weight."""
    text = Text()
    known = [*PHASE_COLOURS, *([state.phase] if state.phase and state.phase not in PHASE_COLOURS else [])]
    for phase in known:
        if phase == state.phase:
            text.append(f"▶ {figures.clean(phase_label(phase))}", style=f"bold {phase_colour(phase)}")
        elif phase in state.seen_phases:
            text.append(f"✓ {phase_label(phase)}", style="dim")
        else:
            text.append(f"  {phase_label(phase)}", style="dim")
        text.append("   ")
    if state.cycle:
        text.append(f"cycle {state.cycle}" + (f"/{state.cycles}" if state.cycles else ""), style="bold")
    return text


def _bar(state: LiveState, width: int) -> RenderableType:
    """Progress of the phase, of the whole run, and the time left."""
    progress = state.progress
    if progress is None:
        return Text("starting this phase", style="dim")
    text = f"{progress.done:,}/{progress.planned:,} {figures.clean(progress.unit)}"
    text += f"   run {figures.percent(progress.run_fraction)}   {time_left(progress, state.open_end)}"
    row = Table.grid(padding=(0, 2))
    bar_width = max(min(width - len(text) - 2, 60), 8)
    colour = phase_colour(state.phase)
    bar = ProgressBar(
        max(progress.planned, 1), progress.done, width=bar_width, complete_style=colour, finished_style=colour
    )
    row.add_row(bar, text)
    return row


def time_left(progress: ev.Progress, at_most: bool = False) -> str:
    """The estimate for the whole run in words; ``at_most``: it may stop earlier."""
    if progress.seconds_left is None or not math.isfinite(progress.seconds_left):
        return "time left unknown"
    left = figures.duration(round(progress.seconds_left))
    return f"at most about {left} left" if at_most else f"about {left} left"


def _numbers(state: LiveState, width: int) -> list[Text]:
    """Live figures, labels in one column and values in the next; a dash until something is measured."""
    get = state.latest.get
    validation = get("validation_loss")  # its perplexity is shown, not that of the last batch
    perplexity = math.exp(validation) if validation is not None and validation < 700 else validation
    sparsity = get("sparsity")
    if sparsity is None and state.grid is not None and state.grid.total:
        sparsity = state.grid.counts.get(HeadState.PRUNED, 0) / state.grid.total
    rows = (
        ("loss", figures.plain(get("loss"))),
        ("validation loss", figures.plain(validation)),
        ("  as perplexity", figures.perplexity(perplexity)),
        ("heads removed", figures.percent(sparsity)),
        ("tokens/s", figures.scaled(get("tokens_per_second"))),
    )
    lines = [Text.assemble((f"{label:<16}", "dim"), (f"{value:>9}", "bold")) for label, value in rows]
    spark = sparkline(state.losses, max(min(width, 40), 0))
    if spark:
        low, high = min(state.losses), max(state.losses)
        said = f"loss, {figures.plural(len(state.losses), 'step')}: {figures.between(low, high)}"
        lines += [Text(spark, style="cyan"), Text(said, style="dim")]
    return lines
