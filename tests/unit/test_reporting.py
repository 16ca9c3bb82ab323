"""Long work as a generator of its reports."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from neural_plasticity.experiment.reporting import reported


def test_reports_come_in_order_and_the_result_is_returned() -> None:
    def work(report: Callable[[int, int], None]) -> str:
        for done in range(1, 4):
            report(done, 3)
        return "done"

    reports = reported(work)
    assert [next(reports) for _ in range(3)] == [(1, 3), (2, 3), (3, 3)]
    with pytest.raises(StopIteration) as finished:
        next(reports)
    assert finished.value.value == "done"


def test_an_exception_of_the_work_is_raised_to_who_waits() -> None:
    def work(report: Callable[[int, int], None]) -> None:
        report(1, 2)
        raise LookupError("lost")

    with pytest.raises(LookupError, match="lost"):
        list(reported(work))


def test_stepwise_the_work_stands_still_while_a_report_is_looked_at() -> None:
    doing: list[int] = []

    def work(report: Callable[[int, int], None]) -> str:
        for done in range(1, 50):
            doing.append(done)
            report(done, 49)
        return "done"

    reports = reported(work, stepwise=True)
    for done, _ in reports:
        assert doing[-1] == done
        time.sleep(0.0005)
        assert doing[-1] == done
    early = reported(work, stepwise=True)
    next(early)
    early.close()
    assert doing[-1] == 1


def test_closing_ends_the_work_at_its_next_report() -> None:
    closed, calls = threading.Event(), []

    def work(report: Callable[[int, int], None]) -> None:
        report(1, 1_000_000)
        closed.wait(10)
        for done in range(2, 1_000_000):
            calls.append(done)
            report(done, 1_000_000)

    reports = reported(work)
    next(reports)
    threading.Timer(0.2, closed.set).start()
    reports.close()  # returns when the work has ended
    assert len(calls) <= 1


def test_the_thread_computes_where_this_process_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """A new thread's GPU is the first one, and not the one that this process took."""
    taken: list[tuple[int, int]] = []
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.current_device", lambda: 3)
    monkeypatch.setattr("torch.cuda.set_device", lambda device: taken.append((device, threading.get_ident())))
    worked: list[int] = []
    assert list(reported(lambda report: report(1, 1) or worked.append(threading.get_ident()))) == [(1, 1)]
    assert taken == [(3, worked[0])]
