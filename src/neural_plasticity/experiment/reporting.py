"""Long work that reports through a callback, as a generator of its reports: so that a run can show them as events."""

from __future__ import annotations

from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from threading import Event
from typing import TypeVar

import torch

T = TypeVar("T")
Report = tuple[int, int]  # done, planned


class _Abandoned(Exception):
    """Raised inside the work when nobody waits for it any more."""


def reported(work: Callable[[Callable[[int, int], None]], T], *, stepwise: bool = False) -> Generator[Report, None, T]:
    """Yield each ``(done, planned)`` that ``work(report)`` reports, and return what it returns.

    The work runs in a thread. Closing the generator ends it at its next report; its exceptions are raised here.
    ``stepwise``: it stands still while a report is looked at, so that processes which work together exchange what they
    exchange, in the work and between reports, in one order.
    """
    reports: SimpleQueue[Report | None] = SimpleQueue()
    looked_at: SimpleQueue[None] = SimpleQueue()
    abandoned = Event()

    def report(done: int, planned: int) -> None:
        if not abandoned.is_set():
            reports.put((done, planned))
            if stepwise:
                looked_at.get()
        if abandoned.is_set():
            raise _Abandoned

    # A new thread's GPU is the first one, whichever this process has taken.
    device = torch.cuda.current_device() if torch.cuda.is_available() else None

    def working() -> T:
        if device is not None:
            torch.cuda.set_device(device)
        return work(report)

    with ThreadPoolExecutor(max_workers=1) as pool:
        future = pool.submit(working)
        future.add_done_callback(lambda _: reports.put(None))
        try:
            while (one := reports.get()) is not None:
                yield one
                looked_at.put(None)
        finally:
            abandoned.set()
            looked_at.put(None)
        return future.result()
