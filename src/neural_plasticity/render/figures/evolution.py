"""How attention changed from cycle to cycle: how far every head drifted, and the patterns of those that did most."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from neural_plasticity.heads import HeadId, HeadState
from neural_plasticity.record import Run
from neural_plasticity.render.figures import grids
from neural_plasticity.render.figures.style import LABEL, LEFT, SMALL, WIDTH, Sheet, empty, legend, panel, tick, write
from neural_plasticity.views import figures
from neural_plasticity.views.attention_evolution import (
    NO_PATTERN,
    AttentionEvolution,
    PromptTakes,
    Take,
    attention_evolution,
)
from neural_plasticity.views.drift import CONTROL, AttentionDrift
from neural_plasticity.views.heading import heading
from neural_plasticity.views.heads_at import fitted, states_at
from neural_plasticity.views.palette import (
    ATTENTION_SCALE,
    DIFFERENCE_SCALE,
    MEASURED,
    MUTED,
)
from neural_plasticity.views.palette import (
    CONTROL as CONTROL_COLOUR,
)

_GRIDS, _COLUMNS, _HEADS = 4, 5, 4  # moments with a grid, moments with patterns, heads with patterns


def attention_evolution_figure(run: Run) -> Figure:
    """Mean drift, drift of every head, and the patterns of the heads that moved most, cycle by cycle."""
    sheet = Sheet(heading(run), "Attention evolution")
    view = attention_evolution(run)
    own = next((one for one in view.drift if one.model != CONTROL), None)
    if view.empty is not None or own is None or len(own.steps) < 2:
        (axes,) = sheet.row(2.0)
        empty(axes, "Attention", view.empty or "The same prompt was looked at once: there is nothing to compare.")
        return sheet.finish()
    left, right = sheet.row(1.5, (1.25, 1), above=0.36, gap=0.9)
    _mean_drift(left, view.drift)
    _movers(right, view)
    _grids(sheet, run, own)
    _patterns(sheet, view)
    return sheet.finish()


def _moment(drift: AttentionDrift, place: int) -> str:
    """``cycle 2``, or the step where cycles do not tell moments apart."""
    return _when(int(drift.cycles[place]), int(drift.steps[place]), list(drift.cycles).count(drift.cycles[place]) > 1)


def _when(cycle: int, step: int, twice: bool) -> str:
    if twice:
        return f"step {step:,}"
    return f"cycle {cycle}" if cycle else "baseline"


def _mean_drift(axes: Axes, drift: Sequence[AttentionDrift]) -> None:
    for one in drift:
        control = one.model == CONTROL
        known = np.isfinite(one.to_baseline).any(axis=(1, 2))
        means = np.array([np.nanmean(grid) for grid in one.to_baseline[known]])
        label = "control" if control else "pruned model"
        colour = CONTROL_COLOUR if control else MEASURED
        axes.plot(one.steps[known], means, "--s" if control else "-o", color=colour, markersize=4, linewidth=1.1,
                  label=label)  # fmt: skip
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=4))
    axes.yaxis.set_major_formatter(lambda value, _: tick(value))
    panel(axes, "Mean drift", x="step", y="bits from baseline (0 to 1)")
    legend(axes)


def _movers(axes: Axes, view: AttentionEvolution) -> None:
    listed = view.movers[:8]
    if not listed:
        empty(axes, "Moved most", "No head's attention changed.")
        return
    places = np.arange(len(listed))
    axes.barh(places, [one.drift for one in listed], height=0.66, color=MEASURED)
    for place, one in enumerate(listed):
        if one.in_control is not None:
            axes.plot([one.in_control] * 2, [place - 0.33, place + 0.33], color=CONTROL_COLOUR, linewidth=2.2)
        write(axes, one.drift, place, f" {figures.plain(one.drift, 2)}", SMALL, va="center")
    axes.set_yticks(places, [str(HeadId(one.layer, one.head)) for one in listed])
    axes.set_ylim(len(listed) - 0.5, -0.5)
    axes.set_xlim(0, listed[0].drift * 1.18)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=4))
    note = "orange: the control’s" if any(one.in_control is not None for one in listed) else ""
    panel(axes, "Moved most", note, x="bits", grid=False)


def _grids(sheet: Sheet, run: Run, drift: AttentionDrift) -> None:
    """Layers × heads at each moment, on one scale."""
    moments = _even(list(range(1, len(drift.steps))), _GRIDS)
    shape = drift.to_baseline.shape[1:]
    norm = Normalize(0.0, float(np.nanmax(drift.to_baseline)) or 1.0)
    height = min(max(0.17 * shape[0], 0.8), 2.4)
    row = sheet.row(height, (*[1.0] * len(moments), 0.06), above=0.78, gap=0.24, right=0.75)
    for axes, place in zip(row, moments, strict=False):
        grids.heat(axes, drift.to_baseline[place], norm)
        states = states_at(run, int(drift.steps[place]))
        if states is not None:
            pruned = fitted(states, shape, states.dtype.type(HeadState.ABSENT)) == HeadState.PRUNED
            grids.states(axes, np.where(pruned, HeadState.PRUNED, HeadState.ACTIVE).astype(np.int8))
        first = place == moments[0]
        title, note = (f"Drift, {_moment(drift, place)}", "") if first else (_moment(drift, place), "")
        grids.frame(axes, shape, title, note, y=first)
        if not first:
            axes.tick_params(labelleft=False)
    grids.colour_bar(row[-1], norm, "bits", height)


def _even(values: list[int], most: int) -> list[int]:
    """The last one and evenly spread ones before it."""
    if len(values) <= most:
        return values
    return [values[round(at)] for at in np.linspace(0, len(values) - 1, most)]


def _patterns(sheet: Sheet, view: AttentionEvolution) -> None:
    """One row per head, one column per moment, and what changed in the end."""
    prompt, takes = _looked_at(view)
    heads = _chosen(view, takes)
    if len(takes) < 2 or not heads:
        return
    shown = [takes[place] for place in _even(list(range(len(takes))), _COLUMNS)]
    twice = len({one.cycle for one in shown}) < len(shown)
    widths = [1.0] * (len(shown) + 1)
    size = min(1.35, (WIDTH - 1.0) / len(widths) - 0.12)
    right = WIDTH - LEFT - len(widths) * size - (len(widths) - 1) * 0.12  # so that they are square
    for number, head in enumerate(heads):
        row = sheet.row(size, widths, above=0.85 if number == 0 else 0.12, gap=0.12, right=right)
        for place, (axes, take) in enumerate(zip(row, shown, strict=False)):
            title = _when(take.cycle, take.step, twice) if number == 0 else ""
            _map(axes, pattern_of(take, head), title, str(head) if place == 0 else "", ATTENTION_SCALE)
        first, last = (pattern_of(take, head) for take in (shown[0], shown[-1]))
        changed = None if first is None or last is None else last - first
        _map(row[-1], changed, "last − first" if number == 0 else "", "", DIFFERENCE_SCALE)
    _scales(sheet)
    (axes,) = sheet.row(0.16, above=0.5, left=0.35)
    axes.set_axis_off()
    text = (
        f"Prompt: {figures.shorten(figures.clean(prompt.prompt), 90)} · rows attend to columns, first token upper left"
    )
    write(axes, 0, 0.5, figures.shorten(text, 150), SMALL, color=MUTED, va="center", transform=axes.transAxes)


def _looked_at(view: AttentionEvolution) -> tuple[PromptTakes, list[Take]]:
    """The longest prompt that was looked at most often, and its looks at the run's own model."""
    found = [(prompt, [one for one in prompt.takes if one.model != CONTROL]) for prompt in view.prompts]
    return max(found, key=lambda one: (len(one[1]), len(one[0].tokens)))


def _chosen(view: AttentionEvolution, takes: Sequence[Take]) -> list[HeadId]:
    """The heads that moved most among those with a pattern in the last look."""
    if not takes:
        return []
    last = {HeadId(*map(int, head)) for head, drift in zip(takes[-1].heads, takes[-1].drift, strict=True)
            if np.isfinite(drift)}  # fmt: skip
    ordered = [HeadId(one.layer, one.head) for one in view.movers]
    return [head for head in ordered if head in last][:_HEADS]


def pattern_of(take: Take, head: HeadId) -> npt.NDArray[np.float64] | None:
    """A head's pattern (T, T) in a look, NaN where there is none; None: nowhere."""
    place = np.flatnonzero((take.heads == np.array(head)).all(axis=1))
    if not len(place):
        return None
    codes = take.maps[place[0]]
    pattern = np.where(codes == NO_PATTERN, np.nan, codes / 254)
    return pattern if np.isfinite(pattern).any() else None


def _map(axes: Axes, pattern: npt.NDArray[np.float64] | None, title: str, label: str, scale: str) -> None:
    norm = Normalize(-1.0, 1.0) if scale == DIFFERENCE_SCALE else Normalize(0.0, 1.0)
    if pattern is None:
        axes.patch.set(facecolor="#E4E4E4", edgecolor="#3C3C3C", hatch=grids.HATCH, gid="pruned")
        write(axes, 0.5, 0.5, "no pattern", SMALL, ha="center", va="center", transform=axes.transAxes,
              bbox={"facecolor": "white", "edgecolor": "none", "pad": 2})  # fmt: skip
    else:
        axes.imshow(pattern, cmap=scale, norm=norm, aspect="auto", interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    panel(axes, title, grid=False, y=label)
    for spine in axes.spines.values():
        spine.set(visible=True, color=MUTED, linewidth=0.5)


def _scales(sheet: Sheet) -> None:
    left, right = sheet.row(0.08, (1, 1), above=0.22, gap=1.2, left=1.4, right=1.4)
    for axes, scale, norm, unit in (
        (left, ATTENTION_SCALE, Normalize(0.0, 1.0), "attention (share of a row)"),
        (right, DIFFERENCE_SCALE, Normalize(-1.0, 1.0), "difference"),
    ):
        figure = axes.figure
        assert figure is not None
        bar = figure.colorbar(ScalarMappable(norm, scale), cax=axes, orientation="horizontal")
        bar.outline.set_linewidth(0.4)
        bar.locator = MaxNLocator(nbins=4)
        bar.formatter = FuncFormatter(tick)
        bar.update_ticks()
        axes.tick_params(labelsize=SMALL, width=0.5, length=2)
        axes.set_xlabel(unit, fontsize=LABEL - 1, labelpad=1)
