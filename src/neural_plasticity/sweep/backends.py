"""Where the processes of a sweep run: here, or on a Ray cluster. Both start the same worker."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from neural_plasticity.sweep.tasks import Task, launch

Outcome = tuple[Task, int]  # and its exit code: that of a run, or minus the signal that ended it
POLL_SECONDS = 0.2


class Backend(Protocol):
    """Runs tasks, at most ``slots`` of them at once; each one given to ``start`` comes back once from ``wait``."""

    slots: int

    @property
    def place(self) -> str:
        """Where and how many at once, for people."""
        ...

    def start(self, task: Task) -> None:
        """Begin ``task``."""

    def wait(self, seconds: float) -> list[Outcome]:
        """What has ended since, waiting so long at most when nothing has."""

    def stop(self) -> None:
        """Ask everything to stop as after Ctrl-C: after the event in hand, on record."""

    def close(self) -> None:
        """End what still runs, at once."""


def default_jobs(device: str, threads: int, environment: Mapping[str, str] = os.environ) -> int:
    """Cores that this process may use over ``threads``; one where cells would share an accelerator."""
    accelerated = device not in ("auto", "cpu") or (device == "auto" and Path("/proc/driver/nvidia").exists())
    if accelerated and environment.get("CUDA_VISIBLE_DEVICES", "all") not in ("", "-1"):
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // threads)


class LocalBackend:
    """Processes of this machine, each with ``threads`` threads, so that results do not depend on how many there are."""

    def __init__(self, jobs: int, threads: int) -> None:
        self.slots = jobs
        self.threads = threads
        self._running: list[tuple[Task, subprocess.Popen[bytes]]] = []

    @property
    def place(self) -> str:
        processes = "1 process" if self.slots == 1 else f"{self.slots} processes"
        return f"{processes} at a time, {self.threads} thread{'s' if self.threads > 1 else ''} each"

    def start(self, task: Task) -> None:
        self._running.append((task, launch(task, self.threads)))

    def wait(self, seconds: float) -> list[Outcome]:
        last = time.monotonic() + seconds
        while True:
            ended = [one for one in self._running if one[1].poll() is not None]
            if ended or time.monotonic() >= last:
                self._running = [one for one in self._running if one not in ended]
                return [(task, _exit_code(process)) for task, process in ended]
            time.sleep(POLL_SECONDS)

    def stop(self) -> None:
        for _, process in self._running:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGINT)

    def close(self) -> None:
        for _, process in self._running:
            process.kill()
            process.wait()
            _exit_code(process)
        self._running = []


def _exit_code(process: subprocess.Popen[bytes]) -> int:
    """Of a process that has ended; nothing more can be said to it."""
    assert process.stdin is not None
    with contextlib.suppress(OSError):
        process.stdin.close()
    return process.returncode
