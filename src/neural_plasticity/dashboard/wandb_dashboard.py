"""`WandbDashboard`: what a training script calls. Every call is on record before it is shown or sent anywhere."""

from __future__ import annotations

import platform
import sys
import weakref
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from neural_plasticity.dashboard import calls, values
from neural_plasticity.dashboard.console import ScriptConsole
from neural_plasticity.dashboard.draft import Draft
from neural_plasticity.dashboard.history import History
from neural_plasticity.dashboard.journal import Journal, end_at_exit, how, new_directory, shape_in
from neural_plasticity.errors import InputError, RecordError
from neural_plasticity.events import Annotation, RunStarted, RunState
from neural_plasticity.record import Run, annotate, open_run
from neural_plasticity.record.annotations import annotation
from neural_plasticity.render.page import PAGE_NAME, write_page
from neural_plasticity.trackers import TrackedRun, chosen_mode, open_trackers
from neural_plasticity.trackers.opening import WANDB

if TYPE_CHECKING:
    import pandas as pd


class WandbDashboard:
    """A run on record, in the console, in Weights & Biases and as a page, fed by a few calls from any script.

    Use it as a context manager, or call `finish` at the end; a script that does neither is finished when it exits.
    Steps may be left out (the one after the last), repeated, or go back; every call is kept. Numbers and arrays may
    be Python's, NumPy's or torch's. Safe from several threads; in a forked child its calls do nothing, said once.

    Args:
        project_name: the project in Weights & Biases.
        experiment_name: the run's name; by default its directory's.
        output_dir: where the record and the page go, by default ``output/neural_plasticity_[timestamp]``. A directory
            that already holds a run gets a new attempt in the same record; the earlier one stays in it.
        config: a dict, dataclass or Namespace, kept as it is. ``num_layers`` and ``num_heads`` in it (or GPT-2's and
            transformers' names for them) are the size of the head grid, which is else learnt from what is recorded.
        auto_login: let wandb log in with the key it finds; False: only if it is logged in already.
        mode: ``online``, ``offline`` or ``disabled``; None: ``WANDB_MODE``, else offline.
        tags: a list of text.

    Raises:
        InputError: an argument cannot be used (the message names it), or the directory cannot be written.
    """

    def __init__(
        self,
        project_name: str = "neural-plasticity",
        experiment_name: str | None = None,
        output_dir: str | Path | None = None,
        config: Mapping[str, Any] | None = None,
        auto_login: bool = True,
        mode: str | None = None,
        tags: list[str] | None = None,
    ) -> None:
        project = values.text(project_name, "project_name")
        name = None if experiment_name is None else values.text(experiment_name, "experiment_name")
        directory = None if output_dir is None else values.path(output_dir, "output_dir")
        if not isinstance(auto_login, bool):
            raise InputError(f"auto_login: expected True or False, got {values.shown(auto_login)}.")
        settings = values.plain(values.settings(config, "config"), "config")
        labels = values.tags(tags)
        sending = chosen_mode(None if mode is None else values.text(mode, "mode"))
        try:
            directory = new_directory(datetime.now()) if directory is None else directory
            self._journal = Journal(directory)
        except RecordError as error:
            raise RecordError(f"output_dir: {error}") from error
        self._history = History()
        started = RunStarted(
            name=name or directory.resolve().name,
            shape=shape_in(settings),
            config=settings,
            model={"name": settings["model_name"]} if isinstance(settings.get("model_name"), str) else {},
            environment={"project": project, "python": platform.python_version(), "script": Path(sys.argv[0]).name},
        )
        console = ScriptConsole()
        console.note_files(record=self._journal.record.path, page=directory / PAGE_NAME)
        at_exit = partial(end_at_exit, self._journal, _write_page)
        tracked = TrackedRun(
            run_dir=directory, project=project, name=name, mode=sending, tags=labels, log_in=auto_login, at_exit=at_exit
        )
        self._journal.begin(started, labels, [console, *open_trackers([WANDB], tracked, self._journal.say)])
        weakref.finalize(self, at_exit)

    # Reading ------------------------------------------------------------------------------------------------------

    @property
    def output_dir(self) -> Path:
        """Where the record is and the page will be."""
        return self._journal.directory

    @property
    def run(self) -> Run:
        """The record, opened anew: series, heads, decisions, everything. Its own connection; close it or let it go."""
        return open_run(self.output_dir)

    @property
    def experiment_name(self) -> str:
        """The run's name."""
        return self.run.name

    @property
    def config(self) -> dict[str, Any]:
        """The configuration as it was given."""
        return dict(self.run.config)

    @property
    def phases(self) -> list[str]:
        """Names of the phases in the order in which they were entered; `phase_transitions` holds the steps."""
        return list(self._seen.phases)

    @property
    def phase_transitions(self) -> list[int]:
        """Steps at which the phases in `phases` began."""
        return list(self._seen.transitions)

    @property
    def current_phase(self) -> str:
        """The phase entered last; empty before the first."""
        return self._seen.phases[-1] if self._seen.phases else ""

    @property
    def stabilization_points(self) -> list[int]:
        """Steps at which training was called stable."""
        return list(self._seen.stable)

    @property
    def all_steps(self) -> list[int]:
        """The step of everything measured, in the order in which it came; the lists beside it have its length."""
        return list(self._seen.steps)

    @property
    def all_loss(self) -> list[float]:
        """``loss`` at each of `all_steps`, NaN where there was none."""
        return list(self._seen.curves["loss"])

    @property
    def all_perplexity(self) -> list[float]:
        """``perplexity`` at each of `all_steps`, NaN where there was none."""
        return list(self._seen.curves["perplexity"])

    @property
    def all_sparsity(self) -> list[float]:
        """``sparsity`` at each of `all_steps`, NaN where there was none."""
        return list(self._seen.curves["sparsity"])

    @property
    def pruning_info(self) -> list[dict[str, Any]]:
        """Every pruning event as it was told, with ``cycle`` and ``step``; heads as (layer, head)."""
        return [dict(one) for one in self._seen.pruning]

    @property
    def _seen(self) -> History:
        with self._journal.alone():
            self._history.catch_up(self._journal.reader)
        return self._history

    def to_pandas(self, name: str | None = None) -> pd.DataFrame:
        """One metric as a frame (columns ``step`` and its name), or all of them: one row per call."""
        return self.run.to_pandas(name)

    def to_csv(self, path: str | Path) -> Path:
        """All metrics as a CSV file; returns its path."""
        return self.run.to_csv(values.path(path, "path"))

    # Writing ------------------------------------------------------------------------------------------------------

    def _tell(self, step: Any, *what: Callable[[Draft], None]) -> None:
        self._journal.tell(step, *what)

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Numbers under any names. A text ``phase`` among them is a transition, ``stabilized=True`` a stable point."""
        self._tell(step, lambda draft: calls.metrics(draft, metrics))

    def log_entropy_heatmap(self, entropy_values: Any, step: int | None = None) -> None:
        """Attention entropy, an array (layers, heads)."""
        self._tell(step, lambda draft: calls.head_scores(draft, {"entropy": (entropy_values, "entropy_values")}))

    def log_gradient_heatmap(self, gradient_values: Any, step: int | None = None) -> None:
        """Gradient importance, an array (layers, heads)."""
        self._tell(step, lambda draft: calls.head_scores(draft, {"gradient": (gradient_values, "gradient_values")}))

    def log_pruning_decision(self, decision: Mapping[str, Any], step: int | None = None) -> None:
        """Which heads were pruned and why: ``pruned_heads``, and what else is known under its name.

        Known are strategy, pruning_level, cycle, threshold, rule, seed, loss_before, loss_after, reasons (by head),
        and score, rank, protected as arrays (layers, heads). Anything else is kept as it came.
        """
        self._tell(step, lambda draft: calls.pruning(draft, decision, "decision"))

    def log_text_sample(
        self, prompt: str, generated_text: str, step: int | None = None, model_type: str = "current"
    ) -> None:
        """Text that a model wrote; ``model_type`` is baseline, current, pruned, control or a name of your own."""
        self._tell(step, lambda draft: calls.text_sample(draft, prompt, generated_text, model_type))

    def log_inference_comparison(
        self,
        prompt: str,
        baseline_text: str,
        pruned_text: str,
        step: int | None = None,
        metrics: Mapping[str, Any] | None = None,
    ) -> None:
        """Both models' text for one prompt. ``metrics``: the pruned one's, or ``{"baseline": {…}, "pruned": {…}}``."""
        self._tell(step, lambda draft: calls.text_comparison(draft, prompt, baseline_text, pruned_text, metrics))

    def log_perplexity_comparison(
        self, baseline_perplexity: Any, pruned_perplexity: Any, texts: list[str] | None = None, step: int | None = None
    ) -> None:
        """Perplexity of both models: numbers, or lists with one per text (shown as their geometric mean)."""
        self._tell(step, lambda draft: calls.perplexities(draft, baseline_perplexity, pruned_perplexity, texts))

    def log_attention_visualization(
        self,
        baseline_attention: Any,
        pruned_attention: Any,
        text: str | list[str],
        layer_idx: int,
        head_idx: int,
        step: int | None = None,
    ) -> None:
        """One head's attention in both models, arrays (T, T), None where the head is gone; ``text`` may be tokens."""
        self._tell(
            step,
            lambda draft: calls.attention_comparison(
                draft, baseline_attention, pruned_attention, text, layer_idx, head_idx
            ),
        )

    def log_inference_dashboard(
        self, perplexity_data: Mapping[str, Any], generation_samples: Any, attention_data: Any = None,
        step: int | None = None,
    ) -> None:  # fmt: skip
        """Perplexities, texts and attention at once.

        Args:
            perplexity_data: ``baseline`` and ``pruned``, as in `log_perplexity_comparison`; ``texts`` if there are.
            generation_samples: dicts of ``prompt``, ``baseline_text`` and ``pruned_text``, ``metrics`` if there are.
            attention_data: dicts with the arguments of `log_attention_visualization`, or one.
            step: as everywhere.
        """
        self._tell(step, lambda draft: calls.inference(draft, perplexity_data, generation_samples, attention_data))

    def set_phase(self, phase: str, step: int | None = None) -> None:
        """A phase begins; unknown names are kept, and the phase before it ends."""
        self._tell(step, lambda draft: draft.enter(phase))

    def annotate(self, tags: list[str] | None = None, note: str | None = None) -> None:
        """Replace the run's tags or its note, also after `finish`; None leaves that part as it is."""
        if self._journal.forked:
            return
        labels = None if tags is None else values.tags(tags)
        made = annotation(labels, None if note is None else values.text(note, "note"))
        if self._journal.closed:
            annotate(self.output_dir, made.tags, made.note)
        else:
            self._journal.note(made)

    @property
    def tags(self) -> tuple[str, ...]:
        """The run's tags as last edited."""
        return self._annotation.tags or ()

    @property
    def note(self) -> str:
        """The run's note as last edited."""
        return self._annotation.note or ""

    @property
    def _annotation(self) -> Annotation:
        return self.run.annotation

    # Callbacks ----------------------------------------------------------------------------------------------------

    def get_metrics_callback(self) -> Callable[..., None]:
        """``metrics_callback(step, metrics)``, or the other way round.

        Arrays under ``entropy_values`` and ``grad_norm_values`` are heatmaps; a text ``phase`` is a transition.
        """

        def metrics_callback(step: Any = None, metrics: Any = None) -> None:
            if isinstance(step, Mapping):
                step, metrics = metrics, step
            self._tell(step, lambda draft: calls.metrics(draft, metrics, arrays=calls.HEATMAPS))

        return metrics_callback

    def get_sample_callback(self) -> Callable[..., None]:
        """``sample_callback(step, sample)`` with a dict, or ``sample_callback(generated_text, prompt, model_type)``."""

        def sample_callback(
            step: Any = None, sample: Any = None, model_type: Any = "current", *, generated_text: Any = None,
            prompt: Any = None,
        ) -> None:  # fmt: skip
            if isinstance(sample, Mapping):
                self._tell(step, lambda draft: calls.sample(draft, sample))
                return
            text = step if generated_text is None else generated_text
            asked = sample if prompt is None else prompt
            at = None if generated_text is None else step
            self._tell(at, lambda draft: calls.text_sample(draft, asked, text, model_type))

        return sample_callback

    # The end ------------------------------------------------------------------------------------------------------

    def finish(self) -> None:
        """Record that the run is over, write its page into `output_dir`, let go of the file. Harmless when repeated."""
        self._end("finished")

    def _end(self, state: RunState, reason: str = "") -> None:
        self._journal.end(state, reason, _write_page)

    def __enter__(self) -> WandbDashboard:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self._end("finished")
        else:
            self._end("stopped" if isinstance(error, KeyboardInterrupt) else "failed", how(error))


def _write_page(run: Run) -> Path:
    return write_page(run, run.path.parent / PAGE_NAME)
