"""The live server of a run in a process of its own, which ends with the process that trains.

A thread would share the interpreter with the training: while a long run's document is built, steps would wait. The
process costs the training nothing but its start, and reads the record as any other process does.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

MODULE = "neural_plasticity.render.page.live"


class ServerProcess:
    """Serves the run in ``directory`` until `close`, or until this process is gone, however it went.

    ``ready`` is called with the page's address once it can be opened, ``failed`` with one line if it never can;
    both from a thread.
    """

    def __init__(self, directory: Path, ready: Callable[[str], None], failed: Callable[[str], None]) -> None:
        self._process = subprocess.Popen(
            # Without the present directory on the path: a file there must not pass for a module.
            [sys.executable, "-P", "-m", MODULE, str(directory.resolve())],
            stdin=subprocess.PIPE,  # never written to: its end is how the server learns that we are gone
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=_environment(),
            start_new_session=True,  # Ctrl-C is the run's own affair
        )
        self._closing = False
        self._reader = threading.Thread(target=self._attend, args=(ready, failed), name="live-page", daemon=True)
        self._reader.start()

    def _attend(self, ready: Callable[[str], None], failed: Callable[[str], None]) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as stdout:
            said = _understood(stdout.readline())
            if self._closing:
                pass  # the run was over before the page could be opened
            elif "url" in said:
                ready(str(said["url"]))
            else:
                failed(str(said.get("error") or "it ended while starting"))
            self._process.wait()

    def close(self) -> None:
        """Let the server go: it tells its readers how the run ended, and leaves as soon as they have read it."""
        self._closing = True
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()

    def wait(self, seconds: float | None = None) -> bool:
        """Until the server has left, at most ``seconds``; True when it has."""
        self._reader.join(seconds)
        return not self._reader.is_alive()

    def __enter__(self) -> ServerProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _environment() -> dict[str, str]:
    """Ours, with this package where it can be imported from, also when it runs from a checkout."""
    source = str(Path(__file__).resolve().parents[4])
    path = os.pathsep.join(filter(None, [source, os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": path}


def _understood(line: bytes) -> dict[str, Any]:
    try:
        said = json.loads(line)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}
