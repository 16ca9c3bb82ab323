"""The runs below a directory: found again and again, opened when somebody looks, listed whatever state they are in."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from neural_plasticity.errors import RecordError
from neural_plasticity.events import Evaluation
from neural_plasticity.record import Run, RunSummary, open_run
from neural_plasticity.record.schema import FILE_NAME
from neural_plasticity.views import figures
from neural_plasticity.views.overview import planned_cycles
from neural_plasticity.views.results import number

HERE = "."  # the id of the served directory itself
_MOST_TAGS = 12  # of a line in the list; the run's own page has all
_LARGEST_LOSS = 700.0  # exp overflows a little above
MOST_DEPTH = 5
MOST_DIRECTORIES = 20_000
_NOT_LOOKED_INTO = frozenset({"node_modules", "__pycache__", "checkpoints", "wandb", "site-packages"})


@dataclass(frozen=True)
class RunEntry:
    """A line of the list of runs; ``error``: why this one cannot be read, None for all others."""

    id: str
    name: str
    state: str = "stopped"
    phase: str = ""
    cycle: int = 0
    cycles_planned: int | None = None
    step: int = 0
    started: float = 0.0
    last_event: float = 0.0
    figures: Mapping[str, float | None] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    simulated: bool = False
    error: str | None = None


def find_runs(root: Path) -> list[str]:
    """Ids of the runs in ``root`` and below: their paths relative to it. A run's own directory is not searched."""
    if (root / FILE_NAME).is_file():
        return [HERE]
    return sorted(_below(root, root.resolve()))


def _below(root: Path, real: Path) -> Iterator[str]:
    waiting, seen = [(root, 0)], 0
    while waiting and seen < MOST_DIRECTORIES:
        directory, depth = waiting.pop()
        seen += 1
        try:
            entries = [Path(entry.path) for entry in os.scandir(directory) if _is_directory(entry)]
        except OSError:
            continue  # not ours to read
        for entry in entries:
            if entry.name.startswith(".") or entry.name in _NOT_LOOKED_INTO or not _inside(entry, real):
                continue
            if (entry / FILE_NAME).is_file():
                yield entry.relative_to(root).as_posix()
            elif depth + 1 < MOST_DEPTH and not entry.is_symlink():  # a link may lead round in circles
                waiting.append((entry, depth + 1))


def _is_directory(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _inside(path: Path, real: Path) -> bool:
    try:
        return path.resolve().is_relative_to(real)
    except (OSError, RuntimeError):  # a link to itself
        return False


def record_of(root: Path, run_id: str) -> Path:
    """The record's file of the run with this id.

    Raises:
        RecordError: no such run in the served directory; what lies outside of it is no different.
    """
    missing = RecordError(f"run {figures.shorten(figures.clean(run_id), 80)!r}: there is no such run here.")
    parts = run_id.split("/")
    if "\0" in run_id or "\\" in run_id or (run_id != HERE and any(part in ("", ".", "..") for part in parts)):
        raise missing
    try:
        path = (root / run_id / FILE_NAME).resolve()
        if not path.is_relative_to(root.resolve()) or not path.is_file():
            raise missing
    except (OSError, RuntimeError, ValueError):
        raise missing from None
    return path


def entry_of(root: Path, run_id: str) -> RunEntry:
    """The run's line in the list."""
    if not _is_text(run_id):
        readable = figures.clean(run_id)
        return RunEntry(readable, readable, error="its path is not UTF-8, so that no address can name it; rename it.")
    try:
        with open_run(record_of(root, run_id)) as run:
            return _entry(run_id, run)
    except Exception as error:  # whatever is wrong with one record, the others are listed
        return RunEntry(run_id, run_id, error=figures.shorten(figures.clean(str(error) or type(error).__name__), 300))


def _is_text(path: str) -> bool:
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _entry(run_id: str, run: Run) -> RunEntry:
    summary = run.summary()
    config = run.config
    return RunEntry(
        id=run_id,
        name=figures.shorten(figures.clean(summary.name), 200),
        state="stale" if summary.stale else summary.state,
        phase=figures.shorten(figures.clean(summary.phase), 80),
        cycle=summary.cycle,
        cycles_planned=planned_cycles(config) if "cycles" in config else None,
        step=summary.step,
        started=summary.started,
        last_event=summary.last_event,
        figures=_figures(run, summary),
        tags=tuple(figures.clean(figures.shorten(tag, 80)) for tag in (run.annotation.tags or ())[:_MOST_TAGS]),
        simulated=summary.simulated,
    )


def _figures(run: Run, summary: RunSummary) -> dict[str, float | None]:
    """What runs are compared by: numbers, or None where there is none to show."""
    evaluation = next(reversed(run.evaluations()), None)
    pruned = _pruned(evaluation)
    metrics = summary.metrics
    found: dict[str, float | None] = {
        "perplexity": pruned.get("perplexity", _validated(metrics.get("validation_loss"))),
        "loss": pruned.get("loss", metrics.get("validation_loss", metrics.get("loss"))),
        "sparsity": summary.sparsity if summary.heads_present else None,
        "progress": summary.run_fraction,
    }
    for name in ("prefill_speedup", "size_reduction"):
        found[name] = number((evaluation.results.get("comparison") if evaluation else None) or {}, name)
    return {name: value if value is not None and math.isfinite(value) else None for name, value in found.items()}


def _validated(loss: float | None) -> float | None:
    """Perplexity on validation text, as the run's page has it before the first evaluation; never on training text."""
    return math.exp(loss) if loss is not None and loss < _LARGEST_LOSS else None


def _pruned(evaluation: Evaluation | None) -> dict[str, Any]:
    results = (evaluation.results.get("pruned") if evaluation else None) or {}
    return {name: value for name in ("perplexity", "loss") if (value := number(results, name)) is not None}


Signature = tuple[tuple[int, int] | None, ...]


def signature(directory: Path) -> Signature:
    """What changes whenever something is recorded in a run directory."""
    return tuple(_signature(directory / (FILE_NAME + suffix)) for suffix in ("", "-wal"))


def _signature(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size
