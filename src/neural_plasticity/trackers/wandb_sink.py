"""Weights & Biases: metrics in sections per phase, heatmaps with their numbers, texts, results, and the page itself.

`WandbSink` belongs into a `BackgroundSink`: wandb takes seconds to import and may wait for a server. No ``step=`` is
ever passed, since W&B drops what comes at a lower step than before; every row holds its own ``global_step``, and the
metrics are defined to be drawn over it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from neural_plasticity.events import (
    Annotation,
    Evaluation,
    Event,
    HeadScores,
    HeadsGrown,
    HeadsPruned,
    PhaseEnded,
    RunEnded,
    RunStarted,
    StateRestored,
    TextSample,
)
from neural_plasticity.heads import HeadId
from neural_plasticity.record import Run, open_run
from neural_plasticity.record.history import Change
from neural_plasticity.trackers import connection, images, rows
from neural_plasticity.trackers.background import Say
from neural_plasticity.views import figures, story
from neural_plasticity.views.heading import Heading, heading
from neural_plasticity.views.results import MODELS, number

if TYPE_CHECKING:
    from neural_plasticity.trackers.opening import TrackedRun

Panels = dict[str, Any]
_OVERVIEWS = ("complete_process", "multi_cycle_process")  # the rest is on the page


class WandbSink:
    """One run in W&B, begun at the first event. Offline runs lie in ``wandb/`` in the run's directory."""

    def __init__(self, tracked: TrackedRun, say: Say) -> None:
        self._tracked = tracked
        self._say = say
        self._mode = connection.chosen_mode(tracked.mode)
        self._run: Any = None
        self._sections: set[str] = set()
        self._left_out: set[str] = set()
        self._samples: list[TextSample] = []
        self._changes: list[Change] = []
        self._heading = Heading("", "", False)
        self._ended = False

    def handle(self, event: Event) -> None:
        """Send one event."""
        if self._run is None:
            self._begin(event)
        kind = next((kind for kind in _PANELS if isinstance(event, kind)), None)
        self._log(event, rows.numbers(event))
        if kind:
            self._panels(event, kind.kind.replace("_", " "), partial(_PANELS[kind], self, event))

    def close(self) -> None:
        """Send what is left, and finish the run."""
        if self._run is None:
            return
        if not self._ended:
            self._finals(Event())
        self._run.finish()
        if self._run.offline:
            self._say(f"Weights & Biases: to publish this run, wandb sync {self._directory}", "info")

    # The run -----------------------------------------------------------------------------------------------------

    def _begin(self, event: Event) -> None:
        tracked = self._tracked
        name = tracked.name or (event.name if isinstance(event, RunStarted) else tracked.run_dir.resolve().name)
        self._run = connection.init_run(
            self._mode,
            self._say,
            tracked.log_in,
            tracked.finish_seconds,
            project=tracked.project,
            name=name,
            group=name,  # the attempts of a resumed run stand together
            dir=str(tracked.run_dir),
            tags=list(tracked.tags) or None,
            notes=tracked.notes or None,
            config=_config(event) if isinstance(event, RunStarted) else None,
        )
        self._run.define_metric("global_step", hidden=True)
        for coordinate in ("cycle", "phase_step"):
            self._run.define_metric(coordinate, step_metric="global_step", hidden=True)
        if self._run.offline:
            self._say(f"Weights & Biases: offline, in {self._directory}", "info")
        elif self._run.url:
            self._say(f"Weights & Biases: {self._run.url}", "info")

    @property
    def _directory(self) -> Path:
        return Path(self._run.dir).parent

    def _log(self, event: Event, values: Mapping[str, Any]) -> None:
        """One row at the event's own step."""
        if not values:
            return
        for name in sorted({key.split("/")[0] for key in values} - self._sections):
            self._sections.add(name)
            self._run.define_metric(f"{name}/*", step_metric="global_step")
        place = {"global_step": event.step, "cycle": event.cycle, "phase_step": event.phase_step}
        self._run.log({**place, **values})

    def _panels(self, event: Event, what: str, make: Callable[[], Panels]) -> None:
        """What is more than numbers: one that cannot be made or sent costs itself alone."""
        try:
            self._log(event, make())
        except Exception as error:
            if what not in self._left_out:
                self._left_out.add(what)
                self._say(f"Weights & Biases: {what} left out: {connection.one_line(error)}")

    # What events become ------------------------------------------------------------------------------------------

    def _started(self, event: RunStarted) -> Panels:
        self._run.config.update(_config(event), allow_val_change=True)
        with open_run(self._tracked.run_dir) as run:
            self._heading = heading(run)
        if event.simulated:
            self._tag(("simulated",))
        return {}

    def _annotated(self, event: Annotation) -> Panels:
        if event.tags is not None:
            self._tag(event.tags)
        if event.note is not None:
            self._run.notes = event.note
        return {}

    def _tag(self, tags: Iterable[str]) -> None:
        """W&B takes tags of 1 to 64 characters."""
        fitting = [tag[:64] for tag in tags if tag.strip()]
        self._run.tags = tuple(dict.fromkeys((*(self._run.tags or ()), *fitting)))

    def _scored(self, event: HeadScores) -> Panels:
        here = rows.section(event.phase)
        note = f"step {event.step:,}; hatched: pruned by then"
        maps = {
            f"{here}/{figures.clean(name)} heatmap": self._heatmap(grid, f"Heads by {name}", name, note)
            for name, grid in event.scores.items()
        }
        return {f"{here}/head scores": _table(rows.scores_table(event)), **_there(maps)}

    def _changed(self, event: HeadsPruned | HeadsGrown) -> Panels:
        self._changes.append(event)
        here = rows.section(event.phase)
        ledger = {f"{here}/decision ledger": _table(rows.ledger(event))}
        if event.score is None:
            return ledger
        done = "pruned" if isinstance(event, HeadsPruned) else event.origin
        title = f"{figures.plural(len(event.heads), 'head')} {done}"
        note = f"step {event.step:,}; outlined: {done} now; hatched: pruned by then"
        picture = self._heatmap(event.score, title, event.strategy or "score", note, event.heads)
        return ledger | _there({f"{here}/decision": picture})

    def _restored(self, event: StateRestored) -> Panels:
        self._changes.append(event)
        return {}

    def _heatmap(self, grid: Any, title: str, unit: str, note: str, now: Sequence[HeadId] = ()) -> Any:
        if np.ndim(grid) != 2 or not np.size(grid):
            return None
        figure = images.grid_figure(self._heading, title, grid, unit, self._changes, note=note, now=now)
        return _image(figure, title)

    def _sampled(self, event: TextSample) -> Panels:
        self._samples.append(event)
        return {}

    def _phase_ended(self, event: PhaseEnded) -> Panels:
        here = rows.section(event.phase)
        found = {f"{here}/{name}_at_end": value for name in event.summary
                 if (value := number(event.summary, name)) is not None}  # fmt: skip
        return {**found, f"{here}/seconds": event.seconds, **self._pending_samples(here)}

    def _pending_samples(self, here: str) -> Panels:
        waiting, self._samples = self._samples, []
        return {f"{here}/text samples": _table(rows.samples_table(waiting))} if waiting else {}

    def _evaluated(self, event: Evaluation) -> Panels:
        import wandb

        models = [*(name for name in MODELS if name in event.results), *sorted(set(event.results) - {*MODELS})]
        bars = tuple(
            (name, value) for name in models if (value := number(event.results[name], "perplexity")) is not None
        )
        if not bars:
            return {}
        table = _table(rows.Table(("model", "perplexity"), bars))
        return {"evaluation/perplexity": wandb.plot.bar(table, "model", "perplexity", title="Perplexity on test text")}

    def _run_ended(self, event: RunEnded) -> Panels:
        self._finals(event)
        summary: Panels = {"state": event.state, "reason": event.reason, **rows.flat(rows.plain(event.summary))}
        self._run.summary.update({f"result/{name}": value for name, value in summary.items()})
        return {}

    # What is made of the whole record at the end --------------------------------------------------------------------

    def _finals(self, event: Event) -> None:
        self._ended = True
        self._log(event, self._pending_samples(rows.section(event.phase)))
        with open_run(self._tracked.run_dir) as run:
            for name, make in _FINALS.items():
                self._panels(event, name, partial(make, run))


def _config(event: RunStarted) -> dict[str, Any]:
    parts = {"model": event.model, "data": event.data, "environment": event.environment}
    found = {**event.config, **{f"run/{name}": values for name, values in parts.items() if values}}
    return rows.plain({**found, "run/shape": list(event.shape), "run/simulated": event.simulated})


def _table(table: rows.Table) -> Any:
    import wandb

    # Mixed columns: a score is a number, or the text "nan".
    return wandb.Table(columns=list(table.columns), data=[list(row) for row in table.rows], allow_mixed_types=True)


def _image(figure: Any, caption: str) -> Any:
    import wandb

    return wandb.Image(images.picture(figure), caption=caption)


def _there(panels: Panels) -> Panels:
    return {name: panel for name, panel in panels.items() if panel is not None}


def _comparison(run: Run) -> Panels:
    """Every model's last text for each prompt, side by side."""
    found = story.samples(run)
    if len(found.models) < 2:
        return {}
    texts = tuple((row.prompt, *row.texts) for row in found.rows)
    return {"evaluation/text comparison": _table(rows.Table(("prompt", *found.models), texts))}


def _whole_ledger(run: Run) -> Panels:
    """Every head that was ever pruned, grown or protected, over all cycles."""
    decisions = run.decisions()
    if not decisions:
        return {}
    return {
        "decisions/ledger of the run": _table(rows.joined([rows.ledger(one, every_head=False) for one in decisions]))
    }


def _figures(run: Run) -> Panels:
    from neural_plasticity.render.figures import draw, names_for

    wanted = [name for name in names_for(run) if name in _OVERVIEWS]
    return {f"figures/{name}": _image(draw(run, name), name.replace("_", " ")) for name in wanted}


def _page(run: Run) -> Panels:
    import wandb

    from neural_plasticity.render.page import render_page

    return {"page/dashboard": wandb.Html(render_page(run), inject=False)}


_FINALS: Mapping[str, Callable[[Run], Panels]] = {
    "the text comparison": _comparison,
    "the ledger": _whole_ledger,
    "the figures": _figures,
    "the page": _page,
}
_PANELS: Mapping[type[Event], Callable[[WandbSink, Any], Panels]] = {
    RunStarted: WandbSink._started,
    Annotation: WandbSink._annotated,
    HeadScores: WandbSink._scored,
    HeadsPruned: WandbSink._changed,
    HeadsGrown: WandbSink._changed,
    StateRestored: WandbSink._restored,
    TextSample: WandbSink._sampled,
    PhaseEnded: WandbSink._phase_ended,
    Evaluation: WandbSink._evaluated,
    RunEnded: WandbSink._run_ended,
}
