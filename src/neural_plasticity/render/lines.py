"""Events as lines for people: pure functions from an event to styled text, shared by live and plain consoles.

Whatever came from outside (names, prompts, generated text, messages) enters as text and never as rich markup.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import singledispatch
from typing import Any

import numpy as np
from rich.text import Text

from neural_plasticity import events as ev
from neural_plasticity.heads import FloatGrid, HeadId, heads_of
from neural_plasticity.views import figures
from neural_plasticity.views.palette import ADDED, PRUNED, REGROWN, phase_colour, phase_label
from neural_plasticity.views.results import number, results_table
from neural_plasticity.views.story import decision_title, judged_title, restored_title

MOST_HEADS = 12  # heads of one decision that get a line of their own; the record has the rest
LONGEST_TEXT = 160
NO_REASON = "no reason recorded"
WORTH_SAYING_SECONDS = 5.0  # a shorter phase that has nothing to report ends without a line

_LEVEL_STYLES: Mapping[str, str] = {"debug": "dim", "info": "", "warning": "yellow", "error": "bold red"}
_STATE_STYLES: Mapping[str, str] = {"finished": "bold green", "stopped": "bold yellow", "failed": "bold red"}


@singledispatch
def lines(event: ev.Event) -> tuple[Text, ...]:  # noqa: ARG001 - dispatched on by the registered ones
    """What happened, one `rich.text.Text` per line; empty for events that only move the live display."""
    return ()


def where(event: ev.Event) -> Text:
    """``cycle 2 · `` or, outside cycles, nothing."""
    return Text.assemble((f"cycle {event.cycle} · ", "dim")) if event.cycle else Text()


def quoted(text: str, most: int = LONGEST_TEXT) -> str:
    """Text from outside in quotation marks, on one line, cut when long."""
    return f"“{figures.shorten(figures.clean(text), most)}”"


def outside(value: Any, most: int = LONGEST_TEXT) -> str:
    """Any value from outside as one safe line."""
    return figures.shorten(figures.clean(str(value)), most)


@lines.register
def _(event: ev.RunStarted) -> tuple[Text, ...]:
    layers, heads = event.shape
    model, data = event.model, event.data
    parts = [outside(model.get("name", "model"))] if "name" in model or layers else []
    parts += [f"{layers} layers × {heads} heads"] if layers else []  # a script may not have said it
    parameters = number(model, "parameters")
    if parameters is not None:
        parts.append(f"{figures.scaled(parameters)} parameters")
    if "name" in data:
        parts.append(f"data {outside(data['name'])}")
    if "seed" in event.config:
        parts.append(f"seed {outside(event.config['seed'])}")
    first = Text.assemble((outside(event.name), "bold"), f"  {' · '.join(parts)}" if parts else "")
    if not event.simulated:
        return (first,)
    return first, Text("Simulated: no model was trained; every figure is made up.", style="bold yellow")


@lines.register
def _(event: ev.RunEnded) -> tuple[Text, ...]:
    text = Text.assemble((f"run {event.state}", _STATE_STYLES.get(event.state, "bold")))
    if event.reason:
        text.append(f": {outside(event.reason, 400)}")
    return (text,)


@lines.register
def _(event: ev.PhaseStarted) -> tuple[Text, ...]:
    text = where(event).append_text(Text(outside(phase_label(event.phase)), style=f"bold {phase_colour(event.phase)}"))
    if event.planned is not None:
        text.append(f", {event.planned:,} {event.unit} planned", style="dim")
    return (text,)


@lines.register
def _(event: ev.PhaseEnded) -> tuple[Text, ...]:
    said = phase_summary(event.summary) if event.phase != "pruning" else ""  # the decision's own line has said it
    if not said and not event.reason and event.seconds < WORTH_SAYING_SECONDS:
        return ()
    text = where(event).append(f"{outside(phase_label(event.phase))} done in {figures.duration(event.seconds)}")
    if event.reason:
        text.append(f" ({outside(event.reason)})")
    return (text.append(f": {said}") if said else text,)


def phase_summary(summary: Mapping[str, Any]) -> str:
    """A phase's closing figures as a clause: recovery when there is one, else up to four named numbers."""
    before, pruned, after = (
        number(summary, key) for key in ("loss_before_pruning", "loss_after_pruning", "loss_after_fine_tuning")
    )
    if before is not None and pruned is not None and after is not None:
        said = f"loss {figures.plain(before)} before pruning, {figures.plain(pruned)} after, {figures.plain(after)} now"
        recovered = number(summary, "recovered_fraction")
        if recovered is not None and math.isfinite(recovered):
            said += f"; {figures.percent(recovered)} of the damage recovered"
        return said
    numbers = [(key, value) for key in summary if (value := number(summary, key)) is not None]
    written = {key: f"{v:,.0f}" if isinstance(summary[key], int) else figures.significant(v, 4) for key, v in numbers}
    return ", ".join(f"{outside(key, 40).replace('_', ' ')} {text}" for key, text in list(written.items())[:4])


@lines.register
def _(event: ev.Stabilised) -> tuple[Text, ...]:
    text = Text.assemble(where(event), ("stable", "bold green"), f" at step {event.step:,}: ")
    return (text.append(outside(event.reason, 300) or _slope(event)),)


def _slope(event: ev.Stabilised) -> str:
    low, high = (figures.significant(value, 2) for value in (event.slope_low, event.slope_high))
    return (
        f"loss {figures.plain(event.loss)}, slope {figures.significant(event.slope, 2)} per step "
        f"(interval {low} to {high}), inside ±{figures.significant(event.tolerance, 2)} "
        f"over {figures.plural(event.window, 'step')}"
    )


@lines.register
def _(event: ev.HeadScores) -> tuple[Text, ...]:
    measured = max((int(np.isfinite(grid).sum()) for grid in event.scores.values()), default=0)
    text = where(event).append(f"measured {figures.plural(measured, 'head')}")
    if event.sequences:
        text.append(f" on {figures.plural(event.sequences, 'sequence')}")
    if event.seconds:
        text.append(f" in {figures.duration(event.seconds)}")
    bounds = {f"{name}{end}" for name in event.scores for end in ("_low", "_high")}
    named = [(name, grid) for name, grid in event.scores.items() if name not in bounds]
    ranges = [f"{outside(name, 40)} {_range(grid)}" for name, grid in named[:4]]
    return (text.append(f": {', '.join(ranges)}") if ranges else text,)


def _range(grid: FloatGrid) -> str:
    finite = grid[np.isfinite(grid)]
    if not finite.size:
        return "not finite"
    low, high = (figures.significant(float(value), 2) for value in (finite.min(), finite.max()))
    return low if low == high else f"{low} to {high}"


@lines.register
def _(event: ev.HeadsPruned) -> tuple[Text, ...]:
    reasons = [(head, why_pruned(event, head)) for head in event.heads[:MOST_HEADS]]
    told = [
        Text.assemble(where(event), ("pruned ", f"bold {PRUNED}"), (str(head), "bold"), f": {why}")
        for head, why in _unless_unknown(reasons)
    ]
    if told and len(event.heads) > MOST_HEADS:
        told.append(where(event).append(f"… and {len(event.heads) - MOST_HEADS:,} more heads", style="dim"))
    told += _kept(event)
    text = where(event).append(f"{figures.plural(len(event.heads), 'head')} pruned")
    if event.strategy:
        text.append(f" by {outside(event.strategy)}")
    if event.level is not None:
        text.append(f" at level {figures.significant(event.level, 2)}")
    text.append("" if _unless_unknown(reasons) else _named(event.heads))
    return *told, text.append(_loss_step(event.loss_before, event.loss_after))


@lines.register
def _(event: ev.HeadsGrown) -> tuple[Text, ...]:
    style = f"bold {REGROWN if event.origin == 'regrown' else ADDED}"
    reasons = [
        (
            HeadId(*head),
            _reason(event.reasons, head) or _score_of(event.score, head) or outside(event.rule) or NO_REASON,
        )
        for head in event.heads[:MOST_HEADS]
    ]
    told = [
        Text.assemble(where(event), (f"{event.origin} ", style), (str(head), "bold"), f": {why}")
        for head, why in _unless_unknown(reasons)
    ]
    if told and len(event.heads) > MOST_HEADS:
        told.append(where(event).append(f"… and {len(event.heads) - MOST_HEADS:,} more heads", style="dim"))
    if not event.heads:
        return (where(event).append(decision_title(event)).append(f"; {outside(event.rule)}" if event.rule else ""),)
    text = where(event).append(f"{figures.plural(len(event.heads), 'head')} {event.origin}")
    if event.strategy:
        text.append(f" by {outside(event.strategy)}")
    text.append("" if told else _named(event.heads))
    return *told, text.append(_loss_step(event.loss_before, event.loss_after))


def _unless_unknown(reasons: list[tuple[HeadId, str]]) -> list[tuple[HeadId, str]]:
    """Each head with its reason; none at all where a script gave no reason for any."""
    return reasons if any(why != NO_REASON for _, why in reasons) else []


def _named(heads: tuple[HeadId, ...]) -> str:
    return f": {figures.head_list(heads)}" if heads else ""


def _kept(event: ev.HeadsPruned) -> list[Text]:
    """Heads that a protection kept although their rank would have taken them."""
    if event.protected is None:
        return []
    kept = [head for head in heads_of(event.protected) if _reason(event.reasons, head)]
    return [
        Text.assemble(where(event), "kept ", (str(head), "bold"), f": {_reason(event.reasons, head)}")
        for head in kept[:MOST_HEADS]
    ]


def why_pruned(event: ev.HeadsPruned, head: HeadId) -> str:
    """The reason recorded for ``head``, or else what its score, rank and threshold say."""
    recorded = _reason(event.reasons, head)
    if recorded:
        return recorded
    parts = [_score_of(event.score, head)]
    if event.rank is not None:
        eligible = int((event.rank >= 0).sum())
        parts.append(f"rank {int(event.rank[head[0], head[1]]) + 1} of {eligible}")
    if event.threshold is not None:
        parts.append(f"threshold {figures.significant(event.threshold)}")
    return ", ".join(part for part in parts if part) or outside(event.rule) or NO_REASON


def _reason(reasons: Mapping[str, str], head: HeadId) -> str:
    return outside(reasons.get(f"{head[0]}.{head[1]}", ""))


def _score_of(score: FloatGrid | None, head: HeadId) -> str:
    return "" if score is None else f"score {figures.significant(float(score[head[0], head[1]]))}"


def _loss_step(before: float | None, after: float | None) -> str:
    if before is None or after is None:
        return ""
    return f"; loss {figures.plain(before)} → {figures.plain(after)} ({figures.signed(after - before)})"


@lines.register
def _(event: ev.CycleJudged) -> tuple[Text, ...]:
    text = Text.assemble((judged_title(event), "bold green" if event.inside else "bold yellow"))
    return (text.append(f": {outside(event.reason, 400)}" if event.reason else ""),)


@lines.register
def _(event: ev.StateRestored) -> tuple[Text, ...]:
    text = Text.assemble((restored_title(event), "bold"))
    return (text.append(f": {outside(event.reason, 400)}" if event.reason else ""),)


@lines.register
def _(event: ev.TextSample) -> tuple[Text, ...]:
    text = where(event).append(f"{outside(event.model)}: {quoted(event.prompt, 60)} → ")
    return (text.append(quoted(event.text), style="italic"),)


@lines.register
def _(event: ev.Embedding) -> tuple[Text, ...]:
    points = figures.plural(int(np.prod(event.vectors.shape[-2:-1])), "point")
    depths = f" at {figures.plural(len(event.layers), 'depth')}" if event.layers else ""
    return (where(event).append(f"{outside(event.model)}: {outside(event.name)} kept: {points}{depths}", style="dim"),)


@lines.register
def _(event: ev.Evaluation) -> tuple[Text, ...]:
    table = results_table(event)
    text = where(event).append("evaluated")
    if event.sequences:
        text.append(f" on {figures.plural(event.sequences, 'test sequence')}")
    perplexities = next((row for row in table.rows if row.key == "perplexity"), None)
    if perplexities is not None:
        pairs = zip(table.models, perplexities.cells, strict=True)
        text.append(": perplexity " + ", ".join(f"{name} {cell.text}" for name, cell in pairs))
    return text, *(Text(sentence) for sentence in table.verdicts[:1])


@lines.register
def _(event: ev.LogLine) -> tuple[Text, ...]:
    if event.level == "debug":
        return ()
    style = _LEVEL_STYLES.get(event.level, "")
    prefix = "" if event.level == "info" else f"{event.level}: "
    return (Text(prefix + outside(event.message, 600), style=style),)
