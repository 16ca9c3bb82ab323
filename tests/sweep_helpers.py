"""A place for a sweep's tasks within this process, and strategies that fail in ways that real ones do."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from neural_plasticity.errors import InputError
from neural_plasticity.sweep.backends import Outcome
from neural_plasticity.sweep.tasks import Task
from neural_plasticity.sweep.worker import perform

MARK = "NPL_TEST_MARK"  # names a file that remembers what happened in another process


class Here:
    """Runs each task where it stands, one after the other; ``codes``: exit codes to give instead of running."""

    slots = 1
    place = "this process"

    def __init__(self, codes: dict[str, Sequence[int]] | None = None) -> None:
        self.started: list[str] = []
        self._codes = {name: list(given) for name, given in (codes or {}).items()}
        self._waiting: list[Task] = []

    def start(self, task: Task) -> None:
        self.started.append(task.name)
        self._waiting.append(task)

    def wait(self, seconds: float) -> list[Outcome]:  # noqa: ARG002 the protocol's signature
        task = self._waiting.pop()
        if self._codes.get(task.name):
            return [(task, self._codes[task.name].pop(0))]
        log = Path(task.log)
        log.parent.mkdir(parents=True, exist_ok=True)
        try:
            return [(task, perform(task))]
        except InputError as error:
            log.write_text(f"plasticity: {error}\n")
            return [(task, 2)]
        except Exception:
            return [(task, 1)]

    def stop(self) -> None:
        """Nothing runs while somebody could ask."""

    def close(self) -> None:
        """Nothing is left."""


def breaks(context: Any) -> Any:
    """A strategy with a mistake in it."""
    return context.score("gradient")["gradient"][99]


def dies_once(context: Any) -> Any:
    """A strategy whose process is killed the first time, as for want of memory; afterwards the gradient's."""
    mark = Path(os.environ[MARK])
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return context.score("gradient")["gradient"]
