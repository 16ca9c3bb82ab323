"""One process of a sweep: ``python -m neural_plasticity.sweep.worker``, its task the first line of standard input."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from neural_plasticity.config import RunConfig, from_json
from neural_plasticity.errors import InputError, RecordError
from neural_plasticity.events import Event, LogLine, PhaseEnded, RunEnded, RunStarted
from neural_plasticity.keeping import CHECKPOINTS
from neural_plasticity.record import open_run
from neural_plasticity.record.lock import DirectoryLock
from neural_plasticity.record.schema import FILE_NAME
from neural_plasticity.session import go_on, start_run
from neural_plasticity.sweep.tasks import Task

if TYPE_CHECKING:
    from neural_plasticity.experiment import Experiment

BEGINNING = 2
"""Stages that cells with the same seed have in common: warm-up, and the baseline's evaluation."""

LOCK_SECONDS = 60.0


def main() -> int:
    """Work on the task that standard input names; returns the exit code of a run: 0, 2 or 130."""
    _listen()
    try:
        task = Task.from_line(sys.stdin.readline())
        threading.Thread(target=_stop_with_parent, name="parent", daemon=True).start()
        return perform(task)
    except InputError as error:
        print(f"plasticity: {error}", file=sys.stderr)  # noqa: T201 the log's last line, which the sweep quotes
        return 2
    except KeyboardInterrupt:  # while opening: a run in progress ends in its own way
        print("plasticity: interrupted", file=sys.stderr)  # noqa: T201
        return 130


def _listen() -> None:
    """Take signals as a program from a shell does: whoever started this one may have blocked or ignored them."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})


def _stop_with_parent() -> None:
    sys.stdin.read()
    os.kill(os.getpid(), signal.SIGINT)


def perform(task: Task) -> int:
    """Begin or go on with the run that ``task`` describes; returns its exit code.

    Raises:
        InputError: something given cannot be used, or another process is at this run.
    """
    config, directory = from_json(task.config), Path(task.directory)
    mode = os.environ.pop("WANDB_MODE", None)  # trackers are filled when the cell is done: its record begins elsewhere
    _wait_for(directory)
    begun = (directory / FILE_NAME).exists()
    if task.kind == "beginning":
        player = partial(beginning, levels=task.levels, cells=task.cells)
        return go_on(config, directory, player) if _has_events(directory) else start_run(config, directory, player)
    origin = None if begun or task.origin is None else Path(task.origin)
    code = go_on(config, directory, partial(cell, shared_by=task.cells, directory=directory), origin)
    if code == 0:
        for name in task.trackers:
            _fill(name, directory, config, task.tracker_mode or mode)
        if not task.keep_checkpoints:
            shutil.rmtree(directory / CHECKPOINTS, ignore_errors=True)
    return code


def _has_events(directory: Path) -> bool:
    """Whether there is anything to go on with; a run that was killed while it opened has recorded nothing."""
    with contextlib.suppress(RecordError), open_run(directory) as run:
        return run.last_seq > 0
    return False


def _fill(name: str, directory: Path, config: RunConfig, mode: str | None) -> None:
    from neural_plasticity.trackers import TrackedRun, sync

    try:
        sent = sync(directory, name, tracked=TrackedRun(directory, mode=mode, tags=config.tag_list))
    except InputError as error:  # the run itself is done; plasticity sync can try again
        print(f"{name}: {error}", file=sys.stderr)  # noqa: T201
    else:
        print(f"{name}: {sent:,} events sent")  # noqa: T201


def _wait_for(directory: Path) -> None:
    """Until the process that was at this run before, and has been asked to stop, has let go of it."""
    last = time.monotonic() + LOCK_SECONDS
    while directory.is_dir():
        try:
            DirectoryLock(directory).release()
            return
        except RecordError:
            if time.monotonic() > last:
                raise
            time.sleep(0.5)


def beginning(x: Experiment, stages_done: int, levels: tuple[float, ...], cells: int) -> Iterator[Event]:
    """Warm-up and the baseline's evaluation, and then the end: what ``cells`` runs begin with."""
    from neural_plasticity.experiment import play
    from neural_plasticity.experiment.clock import planned_work
    from neural_plasticity.experiment.run import started
    from neural_plasticity.policies.selection import check_plan

    for level in levels:  # what each cell would find out for itself, but only after the warm-up
        plan = replace(x.config, pruning_level=f"{level:.6g}").levels
        check_plan(
            plan,
            x.heads.mask,
            min_heads_per_layer=x.config.min_heads_per_layer,
            unit=x.config.prune_unit,
            kv_groups=x.heads.kv_groups,
        )
    x.clock.total_work = sum(planned_work(stage, x.config, 0) for stage in x.plan[:BEGINNING])
    for event in play(x, stages_done) if stages_done < BEGINNING else [started(x)]:
        if isinstance(event, RunStarted):
            event = replace(
                event, name=f"{Path(x.config.model_name).name} · warm-up and baseline, seed {x.config.seed}"
            )
        yield event
        stages_done += isinstance(event, PhaseEnded)
        if stages_done == BEGINNING and isinstance(event, PhaseEnded):
            break
    reason = f"warm-up and baseline, from which {cells} runs of a sweep go on"
    yield RunEnded(state="finished", reason=reason, **x.clock.at())


def cell(x: Experiment, stages_done: int, shared_by: int, directory: Path) -> Iterator[Event]:
    """The rest of a run in ``directory``; where its beginning was shared, it says so."""
    from neural_plasticity.experiment import play

    shared = _shared_stages(directory)
    what = "warm-up and baseline were" if shared == BEGINNING else "warm-up was"
    said = f"{what} run once for {shared_by} cells of this sweep with seed {x.config.seed}; this run goes on from there"
    for event in play(x, stages_done):
        if isinstance(event, RunStarted):
            environment = {**event.environment, **({"shared_beginning": said} if shared else {})}
            yield replace(event, name=f"{event.name} · seed {x.config.seed}", environment=environment)
            if shared and stages_done == shared:
                yield LogLine(message=said, **x.clock.at())
        else:
            yield event


def _shared_stages(directory: Path) -> int:
    """The stages in the history of the cell in ``directory`` that were played elsewhere, before it was copied."""
    stages = 0
    with open_run(directory) as run:
        for event in run.events():
            if isinstance(event, RunStarted) and Path(str(event.config.get("output_dir"))).name == directory.name:
                break
            stages += isinstance(event, PhaseEnded)
    return stages


if __name__ == "__main__":
    raise SystemExit(main())
