"""The law that every target is held to, and what breaks it: another exception, a hang, memory."""

from __future__ import annotations

import contextlib
import resource
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType

from neural_plasticity.errors import NeuralPlasticityError

MOST_SECONDS = 30  # for one input, on a busy machine
MOST_BYTES = 2**30  # that one input may add to the most that the process ever took
MOST_SAID = 5_000  # characters of an error: a path may have 4,096


class Broken(AssertionError):
    """An input took too long or too much."""


@contextlib.contextmanager
def holds() -> Iterator[list[str]]:
    """Inside: a result, or one of our errors, which the list then names; in bounded time and memory."""
    errors: list[str] = []
    before = _most_ever()
    with _limited():
        try:
            yield errors
        except NeuralPlasticityError as error:
            message = str(error)
            if not message or not message.isprintable() or len(message) > MOST_SAID:
                raise Broken(f"not one line: {message!r}") from error
            errors.append(type(error).__name__)
    grown = _most_ever() - before
    if grown > MOST_BYTES:
        raise Broken(f"took {grown:,} bytes more")


@contextlib.contextmanager
def _limited() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def ring(_number: int, _frame: FrameType | None) -> None:
        raise Broken(f"took more than {MOST_SECONDS} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, MOST_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _most_ever() -> int:
    """Peak resident bytes of this process."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
