"""What one process of a sweep is asked to do, and how such a process is started: the same here and on a cluster."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

WORKER = "neural_plasticity.sweep.worker"


@dataclass(frozen=True)
class Task:
    """A beginning that cells share, or a cell. Paths are absolute; ``config`` is as the record keeps it."""

    kind: Literal["beginning", "cell"]
    name: str
    config: dict[str, Any]
    directory: str
    log: str
    work_dir: str  # plugins and relative paths are looked for there
    origin: str | None = None  # cell: the run that it begins with
    levels: tuple[float, ...] = ()  # beginning: what its cells will prune, checked before anything slow
    cells: int = 1  # that begin alike
    trackers: tuple[str, ...] = ()  # filled from the record when the cell is done
    tracker_mode: str | None = None
    keep_checkpoints: bool = False

    def as_line(self) -> str:
        """This task on one line."""
        return json.dumps(dataclasses.asdict(self)) + "\n"

    @classmethod
    def from_line(cls, line: str) -> Task:
        """What ``as_line`` wrote."""
        told = json.loads(line)
        return cls(**{**told, "levels": tuple(told["levels"]), "trackers": tuple(told["trackers"])})


def launch(task: Task, threads: int) -> subprocess.Popen[bytes]:
    """A process that works on ``task``, its console in the task's log file.

    It stops, as after Ctrl-C, when its standard input ends: with this process at the latest, however that goes.
    """
    log = Path(task.log)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        process = subprocess.Popen(
            # Without the present directory on the path: a file there must not pass for a module.
            [sys.executable, "-P", "-m", WORKER],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=task.work_dir,
            env=_environment(threads),
            start_new_session=True,  # Ctrl-C reaches the sweep, which passes it on
        )
    assert process.stdin is not None
    try:
        process.stdin.write(task.as_line().encode())
        process.stdin.flush()
    except BrokenPipeError:
        pass  # it is gone already; its exit code says why
    return process


def _environment(threads: int) -> dict[str, str]:
    """Ours, with so many threads to compute with, and this package where a checkout has it."""
    path = os.pathsep.join(filter(None, [str(Path(__file__).resolve().parents[2]), os.environ.get("PYTHONPATH")]))
    count = str(threads)
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": count, "MKL_NUM_THREADS": count}
