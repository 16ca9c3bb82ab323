"""A run's metrics as tables: a pandas frame, a CSV file."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neural_plasticity.errors import RecordError
from neural_plasticity.events import StepMetrics

if TYPE_CHECKING:
    import pandas as pd

    from neural_plasticity.record.run import Run
    from neural_plasticity.record.spans import AttemptChoice

_PLACE = ("seq", "attempt", "time", "cycle", "phase", "phase_step", "step")


def _rows(run: Run, attempt: AttemptChoice) -> Iterator[dict[str, Any]]:
    for one in run.records(StepMetrics, attempt):
        event = one.event
        if isinstance(event, StepMetrics):
            place = (one.seq, one.attempt, one.time, event.cycle, event.phase, event.phase_step, event.step)
            yield {
                **dict(zip(_PLACE, place, strict=True)),
                **{f"{name}": value for name, value in event.metrics.items()},
            }


def _pandas() -> Any:
    try:
        import pandas
    except ImportError as error:
        raise RecordError("to_pandas: expected pandas to be installed; run `pip install pandas`.") from error
    return pandas


def series_frame(run: Run, name: str, attempt: AttemptChoice) -> pd.DataFrame:
    """Columns ``step`` and ``name``."""
    steps, values = run.series(name, attempt)
    return _pandas().DataFrame({"step": steps, name: values})


def metrics_frame(run: Run, attempt: AttemptChoice) -> pd.DataFrame:
    """One row per metrics event: where it is, then one column per metric (NaN where it has none)."""
    columns = [*_PLACE, *(name for name in run.metrics(attempt) if name not in _PLACE)]
    return _pandas().DataFrame(list(_rows(run, attempt)), columns=columns)


def write_csv(run: Run, path: Path, attempt: AttemptChoice) -> Path:
    """The same rows as text; returns the path."""
    columns = [*_PLACE, *(name for name in run.metrics(attempt) if name not in _PLACE)]
    try:
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(_rows(run, attempt))
    except OSError as error:
        raise RecordError(f"{path}: cannot be written: {error.strerror}.") from error
    return path
