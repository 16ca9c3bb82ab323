"""The closing summary: what a person would paste into a message. Pure: events in, lines of text out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from rich.table import Table
from rich.text import Text

from neural_plasticity import events as ev
from neural_plasticity.heads import HeadId, HeadState, heads_of
from neural_plasticity.render.lines import outside, phase_summary
from neural_plasticity.views import figures
from neural_plasticity.views.results import SPEED, Cell, ResultsTable, results_table

_ENDED_AS = {"finished": "finished", "stopped": "stopped early", "failed": "failed", "running": "did not finish"}


@dataclass(frozen=True)
class Closing:
    """What the summary needs, gathered while events pass; ``pruned`` is what is pruned now."""

    started: ev.RunStarted | None = None
    ended: ev.RunEnded | None = None
    evaluation: ev.Evaluation | None = None
    changed: bool = False  # whether heads came or went after the evaluation
    recoveries: tuple[ev.PhaseEnded, ...] = ()
    outside: frozenset[int] = frozenset()  # cycles that were judged to have gone too far
    pruned: frozenset[HeadId] = frozenset()
    grown: frozenset[HeadId] = frozenset()
    seconds: float = 0.0
    files: Mapping[str, str] = field(default_factory=dict)

    def after(self, event: ev.Event) -> Closing:
        """With what ``event`` adds."""
        if isinstance(event, ev.RunStarted):
            return replace(self, started=event, ended=None)
        if isinstance(event, ev.RunEnded):
            return replace(self, ended=event)
        if isinstance(event, ev.Evaluation):
            return replace(self, evaluation=event, changed=False)
        if isinstance(event, ev.PhaseEnded) and event.phase == "fine-tuning":
            return replace(self, recoveries=(*self.recoveries, event))
        if isinstance(event, ev.CycleJudged) and not event.inside:
            return replace(self, outside=self.outside | {event.cycle})
        if isinstance(event, ev.HeadsPruned):
            heads = _ids(event.heads)
            return replace(self._changed(heads), pruned=self.pruned | heads, grown=self.grown - heads)
        if isinstance(event, ev.HeadsGrown):
            heads = _ids(event.heads)
            return replace(self._changed(heads), pruned=self.pruned - heads, grown=self.grown | heads)
        if isinstance(event, ev.StateRestored):
            pruned, grown = event.states == HeadState.PRUNED, event.states > HeadState.ACTIVE
            return replace(self, pruned=frozenset(heads_of(pruned)), grown=frozenset(heads_of(grown)), changed=True)
        return self

    def _changed(self, heads: frozenset[HeadId]) -> Closing:
        return replace(self, changed=self.changed or bool(heads))


def _ids(heads: Iterable[tuple[int, int]]) -> frozenset[HeadId]:
    return frozenset(HeadId(*head) for head in heads)


def closing_summary(closing: Closing, width: int) -> tuple[Text | Table, ...]:
    """The summary for ``width`` columns: how it ended, the figures with their intervals, heads, recovery, files."""
    table = results_table(closing.evaluation)
    parts: list[Text | Table] = [Text(), headline(closing)]
    if closing.ended is not None and closing.ended.reason:
        parts.append(Text(outside(closing.ended.reason, 400)))
    if closing.started is not None and closing.started.simulated:
        parts.append(Text("Simulated: no model was trained; every figure is made up.", style="bold yellow"))
    if table.empty:
        parts.append(Text("Not evaluated: there is no comparison with the baseline.", style="yellow"))
    else:
        parts += [Text(f"{_evaluated_when(table)}.", style="yellow")] if closing.changed else []
        parts += [Text(), figures_table(table, width), Text(_measured_on(table), style="dim"), Text()]
        parts += [Text(sentence) for sentence in table.verdicts]
    parts += [Text(line) for line in (*_heads_lines(closing), *_recovery_lines(closing))]
    parts += [Text(f"{label}: {outside(path, 400)}") for label, path in closing.files.items()]
    return tuple(parts)


def headline(closing: Closing) -> Text:
    """``NAME finished in 4 min 12 s · model, data, seed``, or how else it ended."""
    started, ended = closing.started, closing.ended
    name = outside(started.name) if started else "run"
    how = _ENDED_AS[ended.state] if ended else "was interrupted; what was recorded stays readable"
    text = Text.assemble((name, "bold"), f" {how} after {figures.duration(closing.seconds)}")
    if started:
        known = [outside(part["name"]) for part in (started.model, started.data) if "name" in part]
        known += [f"seed {outside(started.config['seed'])}"] if "seed" in started.config else []
        text.append(f" · {' · '.join(known)}" if known else "")
    return text


def _evaluated_when(table: ResultsTable) -> str:
    when = f"after cycle {table.cycle}" if table.cycle else "before any pruning"
    return f"The figures are those {when}; heads have come or gone since, as the list below says"


def _measured_on(table: ResultsTable) -> str:
    if not table.sequences:
        return "as reported; on how much text was not said"
    said = f"on {figures.plural(table.sequences, 'test sequence')}, {figures.plural(table.tokens, 'token')}"
    said += "; change: pruned against baseline" if "pruned" in table.models else ""
    if any(row.key in SPEED and row.change for row in table.rows):  # the two may disagree where they are close
        said += "; speed: medians of the repeats, as change the median ratio of paired ones"
    return f"{said}; in brackets: 95 % intervals" if any(cell.interval for cell in _cells(table)) else said


def _cells(table: ResultsTable) -> Iterable[Cell]:
    return (cell for row in table.rows for cell in row.cells)


def figures_table(table: ResultsTable, width: int) -> Table:
    """Measures by model, intervals beside the value where they fit, else under it."""
    beside = width >= 30 + 21 * len(table.models)
    grid = Table(box=None, padding=(0, 2, 0, 0), header_style="bold", pad_edge=False)
    grid.add_column("", no_wrap=True)
    for model in table.models:
        grid.add_column(model, justify="right", no_wrap=True)
    grid.add_column("change", justify="right", no_wrap=True)
    for row in table.rows:
        grid.add_row(row.label, *(_cell_text(cell, beside) for cell in row.cells), Text(row.change))
    return grid


def _cell_text(cell: Cell, beside: bool) -> Text:
    text = Text(cell.text)
    if cell.interval:
        text.append(f"{' ' if beside else chr(10)}({cell.interval})", style="dim")
    return text


def _heads_lines(closing: Closing) -> list[str]:
    if closing.started is None:
        return []
    layers, heads = closing.started.shape
    known = closing.pruned | closing.grown  # every head that was added is in one of them
    total = layers * heads - len(closing.started.absent)
    total += sum(head.layer >= layers or head.head >= heads for head in known)
    removed = len(closing.pruned)
    if not layers:  # a script that never said its model's shape
        said = [f"Heads removed ({removed:,}): {figures.head_list(closing.pruned)}."] if removed else []
    elif not removed:
        said = [f"Heads removed: none of {total:,}."]
    else:
        share = figures.percent(removed / total, 1)
        said = [f"Heads removed ({removed:,} of {total:,}, {share}): {figures.head_list(closing.pruned)}."]
    if closing.grown:
        said.append(f"Heads grown back or added ({len(closing.grown):,}): {figures.head_list(closing.grown)}.")
    return said


def _recovery_lines(closing: Closing) -> list[str]:
    return [
        f"Fine-tuning{f', cycle {end.cycle}' if end.cycle else ''}: {said}."
        + (" This cycle was outside the budget and was given up." if end.cycle in closing.outside else "")
        for end in closing.recoveries
        if (said := phase_summary(end.summary))
    ]
