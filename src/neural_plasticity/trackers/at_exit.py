"""Calls made when the main thread is over, while other threads and child processes still work.

``atexit`` would be too late: wandb's own hook there, registered later and so called first, takes its service down.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable

_waiting: list[Callable[[], object]] = []
_lock = threading.Lock()
_watcher: threading.Thread | None = None  # one for all; a fork's copy of it is not alive


def when_main_is_over(call: Callable[[], object]) -> None:
    """Have ``call`` made once, in a thread of its own, which the process waits for."""
    # What wandb imports would be refused once the main thread is over, as it registers a hook of its own.
    import concurrent.futures.thread  # noqa: F401

    global _watcher
    with _lock:
        _waiting.append(call)
        if _watcher is None or not _watcher.is_alive():
            _watcher = threading.Thread(target=_wait, name="tracker-exit", daemon=False)
            _watcher.start()


def _wait() -> None:
    threading.main_thread().join()
    for call in tuple(_waiting):
        try:
            call()
        except Exception:  # one run's trouble is not the next one's
            sys.excepthook(*sys.exc_info())
