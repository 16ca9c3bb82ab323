"""Where a cell stands, by its record alone: nothing else is kept, so nothing can disagree with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from neural_plasticity.config import VIEWS, RunConfig, as_json
from neural_plasticity.errors import RecordError
from neural_plasticity.record import open_run
from neural_plasticity.record.schema import FILE_NAME
from neural_plasticity.sweep.cells import AXES

State = Literal["waiting", "unfinished", "finished", "failed"]


@dataclass(frozen=True)
class Standing:
    """``unfinished``: running, stopped or killed; it can go on. The rest is as far as it is known."""

    state: State
    reason: str = ""
    phase: str = ""
    cycle: int = 0
    run_fraction: float | None = None
    last_event: float = 0.0  # unix seconds
    config: Mapping[str, Any] | None = None


def standing(directory: Path) -> Standing:
    """Where the run in ``directory`` stands; ``waiting`` when there is none."""
    if not (directory / FILE_NAME).exists():
        return Standing("waiting")
    try:
        with open_run(directory) as run:
            summary, config = run.summary(), run.config
    except RecordError as error:
        return Standing("failed", str(error))
    state: State = "unfinished"
    if summary.state in ("finished", "failed"):
        state = "finished" if summary.state == "finished" else "failed"
    return Standing(
        state, summary.reason, summary.phase, summary.cycle, summary.run_fraction, summary.last_event, config
    )


def other_option(recorded: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """The first option in which two configurations differ, as ``--name 1 there, 2 asked for``; empty: none does.

    An option that one side has never heard of has its default there.
    """
    default = as_json(RunConfig())
    for name in sorted({*recorded, *wanted} - set(VIEWS)):
        there, asked = (side.get(name, default.get(name)) for side in (recorded, wanted))
        if there != asked:
            return f"--{name!s:.60} {there!s:.80} there, {asked!s:.80} asked for"
    return ""


def without_axes(options: Mapping[str, Any]) -> dict[str, Any]:
    """What all cells of one sweep have in common."""
    return {name: value for name, value in options.items() if name not in (*AXES, *VIEWS)}


def last_words(log: Path) -> str:
    """The last line of a log that says something, without the program's name before it; empty when there is none."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 4096))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return ""
    said = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return said.removeprefix("plasticity: ")
