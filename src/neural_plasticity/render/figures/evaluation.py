"""Baseline against pruned: bars with intervals, the table, what the figures support, texts and attention patterns."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from neural_plasticity.record import Run
from neural_plasticity.render.figures import grids
from neural_plasticity.render.figures.style import (
    LABEL,
    SMALL,
    WIDTH,
    Sheet,
    empty,
    fitting,
    panel,
    tick,
    width_of,
    write,
)
from neural_plasticity.views import figures
from neural_plasticity.views.attention import Attention, HeadPatterns, attention
from neural_plasticity.views.evaluation import Bars, evaluation
from neural_plasticity.views.heading import heading
from neural_plasticity.views.palette import ATTENTION_SCALE, FAINT, INK, MODEL_COLOURS, MODEL_HATCHES, MUTED
from neural_plasticity.views.results import ResultsTable
from neural_plasticity.views.story import Samples

_PROMPTS, _MODELS, _LINES = 4, 3, 5  # texts shown: prompts, models, and lines of each text
_LINE = 0.15  # inches


def evaluation_figure(run: Run) -> Figure:
    """Perplexity, speed and size with intervals, the table of all figures, the verdict, and the texts."""
    sheet = Sheet(heading(run), "Evaluation")
    view = evaluation(run)
    if view.empty is not None:
        (axes,) = sheet.row(1.2)
        empty(axes, "Results", view.empty)
    else:
        row = sheet.row(1.5, [1.0] * len(view.bars), above=0.34, gap=0.62)
        tilted = [_bars(axes, bars) for axes, bars in zip(row, view.bars, strict=True)]
        _table(sheet, view.table, above=0.85 if any(tilted) else 0.6)
        _verdicts(sheet, view.table)
    _texts(sheet, view.texts)
    return sheet.finish()


def _bars(axes: Axes, view: Bars) -> bool:
    """One measure over the models; True where the models' names had to be tilted."""
    if view.empty is not None:
        empty(axes, view.title, view.empty)
        return False
    top = 0.0
    for place, bar in enumerate(view.bars):
        if not np.isfinite(bar.value):
            write(axes, place, 0, figures.plain(bar.value), SMALL, ha="center", va="bottom", color=INK)
            continue
        axes.bar(
            place, bar.value, width=0.68, facecolor=MODEL_COLOURS.get(bar.model, MUTED), edgecolor="white",
            hatch=MODEL_HATCHES.get(bar.model, ""), linewidth=0,
        )  # fmt: skip
        end = bar.value
        if bar.low is not None and bar.high is not None and np.isfinite([bar.low, bar.high]).all():
            around = [[max(bar.value - bar.low, 0)], [max(bar.high - bar.value, 0)]]
            axes.errorbar([place], [bar.value], yerr=around, fmt="none", ecolor=INK, capsize=3, linewidth=1.1,
                          gid=f"interval:{view.key}")  # fmt: skip
            end = max(end, bar.high)
        write(axes, place, end, figures.significant(bar.value), SMALL, ha="center", va="bottom")
        top = max(top, end)
    axes.set_ylim(0, top * 1.18 or 1.0)
    axes.set_xlim(-0.6, len(view.bars) - 0.4)
    axes.set_xticks(range(len(view.bars)))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=4))
    axes.yaxis.set_major_formatter(lambda value, _: tick(value))
    panel(axes, view.title, y=view.unit)
    room = axes.get_position().width * WIDTH / len(view.bars) * 0.98
    names = [bar.model for bar in view.bars]
    tilt = any(width_of(name, SMALL) > room for name in names)
    axes.set_xticklabels(names, rotation=28 if tilt else 0, ha="right" if tilt else "center", parse_math=False)
    return tilt


def _table(sheet: Sheet, view: ResultsTable, above: float) -> None:
    rows = view.rows
    (axes,) = sheet.row(0.19 * (len(rows) + 1) + 0.05, above=above, left=0.35)
    width, height = sheet.inches(axes)
    axes.set_axis_off()
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    counted = f"on {view.sequences:,} test sequences, {view.tokens:,} tokens"
    panel(
        axes,
        "All figures",
        f"{counted}; 95 % intervals (speed: medians, spread of repeats; change: paired repeats)",
        grid=False,
    )
    axes.set_axis_off()
    columns = (*view.models, "change")
    name_room, change_room = 1.6, 0.75
    room = (width - name_room - change_room) / max(len(view.models), 1)
    ends = [name_room + room * (number + 1) for number in range(len(view.models))] + [width]
    for end, name in zip(ends, columns, strict=True):
        write(axes, end, 0.09, name, SMALL, ha="right", va="center", color=MUTED)
    for number, row in enumerate(rows):
        y = 0.19 * number + 0.31
        write(axes, 0, y, fitting(row.label, name_room, LABEL), LABEL, va="center")
        texts = [f"{cell.text}  [{cell.interval}]" if cell.interval else cell.text for cell in row.cells]
        for end, text, space in zip(ends, (*texts, row.change), (*[room] * len(texts), change_room), strict=True):
            write(axes, end, y, fitting(text, space - 0.08, SMALL + 0.5), SMALL + 0.5, ha="right", va="center")
    axes.hlines([0.2], 0, width, colors=MUTED, linewidth=0.6)
    axes.hlines(0.19 * np.arange(1, len(rows)) + 0.215, 0, width, colors=FAINT, linewidth=0.5)


def _verdicts(sheet: Sheet, view: ResultsTable) -> None:
    lines = [line for said in view.verdicts for line in _wrapped(said, WIDTH - 0.6, LABEL, mono=False)]
    if not lines:
        return
    _paragraph(sheet, lines, 0.15)


def _paragraph(sheet: Sheet, lines: list[str], above: float) -> None:
    (axes,) = sheet.row(_LINE * len(lines), above=above, left=0.35)
    axes.set_axis_off()
    axes.set_ylim(len(lines), 0)
    axes.set_xlim(0, 1)
    for number, line in enumerate(lines):
        write(axes, 0, number + 0.5, line, LABEL, va="center")


def _wrapped(text: str, inches: float, size: float, *, mono: bool) -> list[str]:
    """Lines no wider than ``inches``, line breaks kept; a number stays with its per cent sign."""
    sample = "n" if mono else "a measurable loss of 1.234 to the model, 5.6 %; "
    letter = width_of(sample * 8, size, mono=mono) / (8 * len(sample))
    lines = [
        part
        for line in text.replace("\t", "    ").replace(" %", "\u00a0%").split("\n")
        for part in (textwrap.wrap(line, max(int(inches / letter), 8)) or [""])
    ]
    return [line.rstrip().replace("\u00a0%", " %") for line in lines]


def _texts(sheet: Sheet, view: Samples) -> None:
    """What each model made of each prompt, side by side."""
    if not view.rows:
        (axes,) = sheet.row(0.8, above=0.6)
        empty(axes, "Texts", "No text was generated.")
        return
    columns = _columns(view.models)
    models = [view.models[place] for place in columns]
    for number, row in enumerate(view.rows[:_PROMPTS]):
        room = (WIDTH - 0.6 - 0.2 * (len(models) - 1)) / len(models)
        texts = [_cut(row.texts[place], room - 0.16) for place in columns]
        height = _LINE * max(len(lines) for lines in texts) + 0.1
        cells = sheet.row(height, [1.0] * len(models), above=0.5 if number == 0 else 0.38, gap=0.2, left=0.35)
        for place, (axes, model, lines) in enumerate(zip(cells, models, texts, strict=True)):
            _text(axes, model, lines, f"after “{figures.clean(row.prompt)}”" if place == 0 else "")
    left = ((len(view.rows) - _PROMPTS, "more prompt"), (len(view.models) - len(models), "more model"))
    told = ", ".join(figures.plural(count, noun) for count, noun in left if count > 0)
    if told:
        _paragraph(sheet, [f"Not shown: {told}."], 0.2)


def _columns(models: Sequence[str]) -> list[int]:
    """Places of the models that are shown; what was sampled during the warm-up ("current") gives way first."""
    return sorted(sorted(range(len(models)), key=lambda place: models[place] == "current")[:_MODELS])


def _cut(text: str | None, inches: float) -> list[str]:
    if text is None:
        return ["(not asked)"]
    lines = _wrapped(text, inches, SMALL, mono=True)
    return lines if len(lines) <= _LINES else [*lines[: _LINES - 1], lines[_LINES - 1][:-1] + "…"]


def _text(axes: Axes, model: str, lines: list[str], note: str) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_xlim(0, 1)
    axes.set_ylim(len(lines) + 0.35, -0.35)
    panel(axes, figures.shorten(figures.clean(model), 20), note, grid=False)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.spines["left"].set_visible(True)
    axes.spines["left"].set_color(MODEL_COLOURS.get(model, MUTED))
    axes.spines["left"].set_linewidth(2.0)
    for number, line in enumerate(lines):
        write(axes, 0.025, number + 0.5, line, SMALL, va="center", mono=True)


def attention_figure(run: Run) -> Figure:
    """The same heads in every model for one prompt; a pruned head shows no pattern."""
    sheet = Sheet(heading(run), "Attention patterns")
    view = attention(run)
    if view.empty is not None:
        (axes,) = sheet.row(2.0)
        empty(axes, "Attention", view.empty)
        return sheet.finish()
    columns = 4
    size = 1.3
    norm = Normalize(0.0, 1.0)
    for start in range(0, len(view.heads), columns):
        group = view.heads[start : start + columns]
        for number, model in enumerate(view.models):
            row = sheet.row(
                size, [1.0] * columns, above=(0.34 if start == 0 else 0.72) if number == 0 else 0.14, gap=0.45
            )
            for place, axes in enumerate(row):
                if place >= len(group):
                    axes.set_axis_off()
                    continue
                last = number == len(view.models) - 1
                _pattern(axes, group[place], number, model, view, norm, first=place == 0, last=last)
    (bar,) = sheet.row(0.09, above=0.62, left=0.75, right=4.6)
    _scale(bar, norm)
    lines = _wrapped(_words(view), WIDTH - 0.6, SMALL, mono=False)[:3]
    (axes,) = sheet.row(_LINE * len(lines), above=0.55, left=0.35)
    axes.set_axis_off()
    axes.set_ylim(len(lines), 0)
    for number, line in enumerate(lines):
        write(axes, 0, number + 0.5, line, SMALL, color=MUTED, va="center")
    return sheet.finish()


def _words(view: Attention) -> str:
    text = f"Prompt: {figures.shorten(view.prompt, 120)} · rows attend to columns, first token upper left"
    if len(view.models) > 1:
        text += " · drift: mean Jensen-Shannon divergence of the rows, in bits (0 the same, 1 nothing in common)"
    text += f" · {view.left_out:,} heads that changed less are not shown" if view.left_out else ""
    return text


def _pattern(
    axes: Axes, one: HeadPatterns, number: int, model: str, view: Attention, norm: Normalize, *, first: bool,
    last: bool,
) -> None:  # fmt: skip
    pattern = one.patterns[number]
    title, note = (str(one.head), "" if one.drift is None else f"drift {figures.plain(one.drift, 2)}")
    if number:
        title = note = ""
    length = len(view.tokens)
    if pattern is None:
        axes.set_xlim(-0.5, length - 0.5)
        axes.set_ylim(length - 0.5, -0.5)
        axes.patch.set(facecolor="#E4E4E4", edgecolor="#3C3C3C", hatch=grids.HATCH, gid="pruned")
        why = "pruned" if one.recorded[number] else "not recorded"
        write(axes, 0.5, 0.5, f"no pattern:\n{why}", SMALL, ha="center", va="center", transform=axes.transAxes,
              bbox={"facecolor": "white", "edgecolor": "none", "pad": 2})  # fmt: skip
    else:
        axes.imshow(pattern, cmap=ATTENTION_SCALE, norm=norm, aspect="auto", interpolation="nearest")
    panel(axes, title, note, x="to token" if last else "", y=figures.shorten(figures.clean(model), 16) if first else "",
          grid=False)  # fmt: skip
    for spine in axes.spines.values():
        spine.set_visible(True)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(nbins=4, integer=True, min_n_ticks=1))
    if not last:
        axes.tick_params(labelbottom=False)


def _scale(axes: Axes, norm: Normalize) -> None:
    figure = axes.figure
    assert figure is not None
    bar = figure.colorbar(ScalarMappable(norm, ATTENTION_SCALE), cax=axes, orientation="horizontal")
    bar.outline.set_linewidth(0.4)
    axes.tick_params(labelsize=SMALL, width=0.5, length=2)
    axes.set_xlabel("attention (share of a row)", fontsize=SMALL, labelpad=2)
