"""One writer per run directory: a lock on the directory itself, gone with the process that holds it."""

from __future__ import annotations

import contextlib
import os
import sys
import weakref
from pathlib import Path

from neural_plasticity.errors import RecordError

if sys.platform != "win32":
    import fcntl


class DirectoryLock:
    """Held from creation to ``release()`` or the end of the process; ``note`` says when it could not be had.

    Raises:
        RecordError: another process, or another writer in this one, holds it.
    """

    def __init__(self, directory: Path) -> None:
        self.note: str | None = None
        self._descriptor: int | None = None
        if sys.platform == "win32":
            self.note = "Windows has no directory locks: do not write to one run from two processes."
            return
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(descriptor)
            raise RecordError(
                f"{directory}: another process is writing to this run; wait for it, or choose another directory."
            ) from error
        except OSError as error:
            os.close(descriptor)
            self.note = f"This file system has no locks ({error.strerror}): do not write from two processes."
            return
        self._descriptor = descriptor
        _HELD.add(self)

    def release(self) -> None:
        """Let go; harmless when repeated."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            with contextlib.suppress(OSError):
                os.close(descriptor)


_HELD: weakref.WeakSet[DirectoryLock] = weakref.WeakSet()


def _forget_in_child() -> None:
    # A forked child (a data loader's worker) shares the lock; without this it would outlive the writer in the child.
    for lock in list(_HELD):
        lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_in_child)
