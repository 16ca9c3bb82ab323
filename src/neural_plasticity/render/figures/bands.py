"""Phases and events along the steps: coloured bands, cycle boundaries, and event labels that never overlap."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.patches import Patch

from neural_plasticity.events import PHASES
from neural_plasticity.record import PhaseSpan
from neural_plasticity.render.figures.style import (
    SMALL,
    fitting,
    legend,
    legend_columns,
    printable,
    step_limits,
    width_of,
    write,
)
from neural_plasticity.views.palette import INK, MARK_COLOURS, MUTED, ink_on, phase_colour, phase_label
from neural_plasticity.views.timeline import Boundary, Mark, Timeline, merged_label

LANES = 2
_LISTED = 7  # phases in the legend
LANE_HEIGHT = 0.15  # inches
GLYPHS = {"pruned": "v", "regrown": "^", "added": "P", "restored": "<", "stable": "D"}
# In grey the colours of these are alike; the two phases that are mostly wide differ in lightness and stay plain.
_HATCHES = {"analysis": "....", "pruning": "////", "evaluation": "xxxx"}
_OWN_HATCHES = ("", "////", "\\\\\\\\", "....", "xxxx", "----")
_SHORT = {
    "warmup": "warm",
    "analysis": "an.",
    "pruning": "pr.",
    "fine-tuning": "tune",
    "growth": "grow",
    "evaluation": "eval",
}
_GAP = 0.08  # inches between two labels


@dataclass
class _Label:
    """Events whose label stands in one place; ``lane`` counts from the bottom."""

    marks: list[Mark]
    left: float
    right: float
    lane: int


def phases_of(spans: Sequence[PhaseSpan]) -> tuple[str, ...]:
    """The phases that occur, ours first, a user's own in order of appearance."""
    seen = dict.fromkeys(span.phase for span in spans)
    return (*(phase for phase in PHASES if phase in seen), *(phase for phase in seen if phase not in PHASES))


def hatch_of(phase: str, spans: Sequence[PhaseSpan]) -> str:
    """What tells phases apart in grey, and a user's own ones, whose colour is grey, everywhere."""
    if phase in PHASES:
        return _HATCHES.get(phase, "")
    own = [one for one in phases_of(spans) if one not in PHASES]
    return _OWN_HATCHES[own.index(phase) % len(_OWN_HATCHES)]


def shade(axes: Axes, spans: Sequence[PhaseSpan], cycles: Sequence[Boundary], alpha: float = 0.13) -> None:
    """Phase regions behind a plot, and a dotted line where each cycle begins."""
    low, high = axes.get_xlim()
    for phase in phases_of(spans):
        bars = [(one.first_step, _wide(one, high - low)) for one in spans if one.phase == phase]
        axes.broken_barh(
            bars, (0, 1), facecolor=phase_colour(phase), alpha=alpha, linewidth=0, zorder=0.5,
            transform=axes.get_xaxis_transform(), gid=f"phase:{phase}",
        )  # fmt: skip
    if len(cycles) <= 60:
        axes.vlines(
            [one.step for one in cycles], 0, 1, colors=MUTED, linestyles=(0, (1, 2)), linewidth=0.7, zorder=1,
            transform=axes.get_xaxis_transform(),
        )  # fmt: skip
    axes.set_xlim(low, high)


def _wide(span: PhaseSpan, extent: float) -> float:
    """A phase without steps of its own is still to be seen."""
    return max(float(span.last_step - span.first_step), extent * 0.0022)


def strip(axes: Axes, spans: Sequence[PhaseSpan], inches: float) -> None:
    """The phases as one bar with their names on it where they fit, shortened where only that fits."""
    axes.set_axis_off()
    axes.set_ylim(0, 1)
    low, high = axes.get_xlim()
    for phase in phases_of(spans):
        bars = [(one.first_step, _wide(one, high - low)) for one in spans if one.phase == phase]
        axes.broken_barh(
            bars, (0, 1), facecolor=phase_colour(phase), hatch=hatch_of(phase, spans), edgecolor="white", linewidth=0.3,
        )  # fmt: skip
    taken = -1.0
    for span in sorted(spans, key=lambda one: one.first_step):
        left, right = ((step - low) / (high - low) * inches for step in (span.first_step, span.last_step))
        name = phase_label(span.phase)
        for text in (name, _SHORT.get(span.phase) or fitting(name, right - left - 0.08, SMALL)):
            wide = width_of(printable(text), SMALL)
            start = (left + right - wide) / 2
            if text and wide + 0.06 <= right - left and start > taken:
                write(axes, (span.first_step + span.last_step) / 2, 0.47, text, SMALL, ha="center", va="center",
                      color=ink_on(phase_colour(span.phase)), gid="label",
                      bbox={"facecolor": phase_colour(span.phase), "edgecolor": "none", "pad": 0.6})  # fmt: skip
                taken = start + wide
                break
    axes.set_xlim(low, high)


def cycle_row(axes: Axes, cycles: Sequence[Boundary], last: int, inches: float) -> None:
    """``cycle 1 │ cycle 2``: names where they fit, else numbers, else every few numbers."""
    axes.set_axis_off()
    axes.set_ylim(0, 1)
    low, high = axes.get_xlim()
    taken = -1.0
    for one, end in zip(cycles, [*(other.step for other in cycles[1:]), last], strict=False):
        left, right = ((step - low) / (high - low) * inches for step in (one.step, end))
        start = left + 0.05
        texts = (f"cycle {one.cycle}", str(one.cycle))
        text = next((text for text in texts if width_of(text, SMALL) + 0.08 <= right - left), "")
        if not text and start > taken + 0.1:
            text = str(one.cycle)
        if text and start > taken:
            axes.vlines([one.step], 0.1, 0.9, colors=MUTED, linewidth=0.7)
            write(axes, low + start / inches * (high - low), 0.45, text, SMALL, va="center", color=INK, gid="label")
            taken = start + width_of(text, SMALL)
    axes.set_xlim(low, high)


def arranged(marks: Sequence[Mark], low: float, high: float, inches: float) -> list[_Label]:
    """Labels in ``LANES`` lanes, none overlapping: what has no room is merged with its neighbour."""
    groups = [[mark] for mark in sorted(marks, key=lambda one: one.step)]
    while True:
        placed = _placed(groups, low, high, inches)
        crowded = next((number for number, label in enumerate(placed) if label.lane < 0), None)
        if crowded is None:
            return placed
        groups = [*groups[: crowded - 1], groups[crowded - 1] + groups[crowded], *groups[crowded + 1 :]]


def _placed(groups: Sequence[list[Mark]], low: float, high: float, inches: float) -> list[_Label]:
    """Where each group's label stands; the last one has lane −1 when it found no room."""
    ends = [-1.0] * LANES
    placed: list[_Label] = []
    for group in groups:
        wide = width_of(merged_label(group), SMALL) + 0.14
        steps = [mark.step for mark in group]
        middle = ((steps[0] + steps[-1]) / 2 - low) / (high - low) * inches
        left = min(max(middle - wide / 2, 0.0), max(inches - wide, 0.0))
        lane = next((number for number, end in enumerate(ends) if left >= end + _GAP), -1)
        placed.append(_Label(group, left, left + wide, lane))
        if lane < 0:
            return placed
        ends[lane] = left + wide
    return placed


def lanes_used(view: Timeline, inches: float) -> int:
    """How many lanes the labels of all events need; 0 without events."""
    low, high = step_limits(view.first, view.last)
    return max((label.lane + 1 for label in arranged(view.marks, low, high, inches)), default=0)


def event_lanes(axes: Axes, marks: Sequence[Mark], inches: float, lanes: int) -> None:
    """Every event's glyph on the lowest line, and above them the labels, merged where they would overlap."""
    axes.set_axis_off()
    low, high = axes.get_xlim()
    axes.set_ylim(0, lanes + 1)
    beside: Counter[int] = Counter()  # kinds drawn at a step so far: the next one stands beside them
    for kind in dict.fromkeys(mark.kind for mark in marks):
        steps = sorted({mark.step for mark in marks if mark.kind == kind})
        places = [step + beside[step] * _GAP / inches * (high - low) for step in steps]
        beside.update(steps)
        axes.plot(
            places, [0.42] * len(places), GLYPHS.get(kind, "o"), color=MARK_COLOURS.get(kind, INK), markersize=4.2,
            markeredgewidth=0, clip_on=False,
        )  # fmt: skip
    for label in arranged(marks, low, high, inches):
        kinds = {mark.kind for mark in label.marks}
        colour = MARK_COLOURS.get(next(iter(kinds)), INK) if len(kinds) == 1 else INK
        middle = low + (label.left + label.right) / 2 / inches * (high - low)
        write(axes, middle, 1.4 + label.lane, merged_label(label.marks), SMALL, ha="center", va="center",
              color=colour, gid="event")  # fmt: skip
    axes.set_xlim(low, high)


def mark_lines(axes: Axes, marks: Sequence[Mark]) -> None:
    """A thin line through a plot at every event."""
    for kind in dict.fromkeys(mark.kind for mark in marks):
        steps = sorted({mark.step for mark in marks if mark.kind == kind})
        axes.vlines(
            steps, 0, 1, colors=MARK_COLOURS.get(kind, INK), linewidth=0.7 if len(steps) < 60 else 0.25,
            linestyles="--" if kind == "stable" else "-", alpha=0.75, zorder=1.5,
            transform=axes.get_xaxis_transform(),
        )  # fmt: skip


def phase_legend(axes: Axes, view: Timeline) -> None:
    """Phases that occur, by colour and name."""
    phases = phases_of(view.spans)
    handles = [
        Patch(
            facecolor=phase_colour(one), hatch=hatch_of(one, view.spans), edgecolor="white", linewidth=0,
            label=label,
        )
        for one, label in zip(phases[:_LISTED], _legend_labels(view), strict=False)
    ]  # fmt: skip
    if len(phases) > len(handles):
        handles.append(Patch(facecolor="none", label=_legend_labels(view)[-1]))
    legend(axes, handles)


def _legend_labels(view: Timeline) -> list[str]:
    """Whole names of the first few phases (a line at most), and how many more there are."""
    phases = phases_of(view.spans)
    shown = [fitting(printable(phase_label(one)), 3.0, SMALL) or "?" for one in phases[:_LISTED]]
    return shown + ([f"and {len(phases) - _LISTED:,} more"] if len(phases) > _LISTED else [])


def legend_lines(view: Timeline, inches: float) -> int:
    """How many lines `phase_legend` takes in ``inches``."""
    labels = _legend_labels(view)
    return -(-len(labels) // legend_columns(labels, inches)) if labels else 0
