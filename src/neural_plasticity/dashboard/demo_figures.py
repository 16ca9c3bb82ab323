"""The demo's figures, drawn by two processes: they load Matplotlib while the experiment plays, then share the work."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from types import TracebackType

from neural_plasticity.record import open_run


class Draughtsmen:
    """Processes that draw. Use as a context manager; where none can be started, this process draws."""

    def __init__(self) -> None:
        count = min(2, os.cpu_count() or 1)
        # Spawned, not forked: the console's threads and an open database must not be carried over.
        self._pool = ProcessPoolExecutor(count, mp_context=get_context("spawn"), initializer=_get_ready)
        self._started = [self._pool.submit(_nothing) for _ in range(count)]

    def __enter__(self) -> Draughtsmen:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def save_figures(self, run_dir: Path) -> list[Path]:
        """Write every figure of the run in ``run_dir`` beside its record.

        Raises:
            InputError: the directory cannot be written.
        """
        try:
            names = self._pool.submit(_names, run_dir).result()
            drawn = [self._pool.submit(_draw, run_dir, [name]) for name in names]
            return [path for future in drawn for path in future.result()]
        except (BrokenProcessPool, OSError):  # no more processes here, or a script without a main guard
            return _draw(run_dir, None)


def _get_ready() -> None:
    """Begin a process: Ctrl-C is for the one that asked, and Matplotlib takes its time."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    import neural_plasticity.render.figures  # noqa: F401


def _nothing() -> None:
    """A task that makes the pool start a process."""


def _names(run_dir: Path) -> tuple[str, ...]:
    from neural_plasticity.render.figures import names_for

    with open_run(run_dir) as run:
        return names_for(run)


def _draw(run_dir: Path, names: Sequence[str] | None) -> list[Path]:
    from neural_plasticity.render.figures import save_figures

    with open_run(run_dir) as run:
        return save_figures(run, run_dir, names)
