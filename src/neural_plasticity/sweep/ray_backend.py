"""A sweep's processes on a Ray cluster: each task is one worker process on whatever machine Ray chooses."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import time
from typing import Any

from neural_plasticity.errors import ConfigError
from neural_plasticity.sweep.backends import POLL_SECONDS, Outcome
from neural_plasticity.sweep.tasks import Task, launch

GET_RAY = "pip install 'neural-plasticity[ray]'"
MAX_RETRIES = 2  # of a task whose machine was lost; it goes on where its record ends
STOP_SECONDS = 60.0


class RayBackend:
    """Tasks on a cluster: a running one (``address``, or what RAY_ADDRESS says), else one started here for the sweep.

    Every machine needs this package, and the sweep's directory under the same path: a file system that they share.

    Raises:
        ConfigError: Ray is not installed, or there is no cluster at ``address``.
    """

    def __init__(self, jobs: int | None, threads: int, address: str | None = None) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # says nothing to anybody unless asked to
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        try:
            import ray
        except ImportError as error:
            raise ConfigError(f"--backend ray: Ray is not installed: {GET_RAY}") from error
        self._ray: Any = ray
        self._owned = not ray.is_initialized()
        if self._owned:
            try:
                ray.init(
                    address=address,
                    logging_level=logging.ERROR,
                    log_to_driver=False,
                    include_dashboard=None if address else False,
                )
            except (ConnectionError, ValueError, RuntimeError) as error:
                said = " ".join(str(error).split())
                raise ConfigError(f"--ray_address {address}: no Ray cluster there ({said}).") from error
        resources = self._ray.cluster_resources()
        self.cores, self.gpus = int(resources.get("CPU", 1)), int(resources.get("GPU", 0))
        self.threads = threads
        together = self.gpus or max(1, self.cores // threads)
        self.slots = jobs or together
        supervise = ray.remote(num_cpus=threads, num_gpus=1 if self.gpus else 0, max_retries=MAX_RETRIES)
        self._supervised = supervise(supervised)
        self._running: dict[Any, Task] = {}

    @property
    def place(self) -> str:
        gpus = f", {self.gpus} GPU{'s' if self.gpus > 1 else ''}" if self.gpus else ""
        machines = sum(node["Alive"] for node in self._ray.nodes())
        return (
            f"Ray, {machines} machine{'s' if machines > 1 else ''} with {self.cores} cores{gpus}: "
            f"{self.slots} at a time, {self.threads} thread{'s' if self.threads > 1 else ''} each"
        )

    def start(self, task: Task) -> None:
        self._running[self._supervised.remote(task.as_line(), self.threads)] = task

    def wait(self, seconds: float) -> list[Outcome]:
        if not self._running:
            return []
        ended, _ = self._ray.wait(list(self._running), num_returns=1, timeout=seconds)
        return [(self._running.pop(one), self._code(one)) for one in ended]

    def _code(self, ended: Any) -> int:
        try:
            return int(self._ray.get(ended))
        except self._ray.exceptions.TaskCancelledError:
            return 130
        except self._ray.exceptions.RayError:  # its machine was lost once too often
            return -signal.SIGKILL

    def stop(self) -> None:
        for one in self._running:
            self._ray.cancel(one)

    def close(self) -> None:
        for one in self._running:
            self._ray.cancel(one, force=True)
        self._running = {}
        if self._owned:
            self._ray.shutdown()


def supervised(line: str, threads: int) -> int:
    """On the cluster's side: the worker's exit code. Cancelled, the worker is asked to stop and waited for."""
    process = launch(Task.from_line(line), threads)
    try:
        # Ray's interrupt is no signal: it does not end a wait, and comes when Python next runs.
        while (code := process.poll()) is None:
            time.sleep(POLL_SECONDS)
        return code
    except KeyboardInterrupt:
        process.send_signal(signal.SIGINT)
        try:
            return process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()
