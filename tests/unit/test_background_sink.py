"""A tracker behind its queue: whatever it does, the experiment goes on, and what was missed is counted and said."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from neural_plasticity import events as ev
from neural_plasticity.record import RecordWriter, fan_out, open_run
from neural_plasticity.trackers import BackgroundSink
from tests.sample_run import SampleRun


class Lines:
    """What was said, and in which thread."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.threads: set[int] = set()

    def __call__(self, message: str, _level: str = "warning", /) -> None:
        self.said.append(message)
        self.threads.add(threading.get_ident())


class Held:
    """A sink that stops at its first event until it is let go."""

    def __init__(self) -> None:
        self.entered, self.released = threading.Event(), threading.Event()
        self.seen: list[ev.Event] = []
        self.closed = False

    def handle(self, event: ev.Event) -> None:
        self.entered.set()
        self.released.wait()
        self.seen.append(event)

    def close(self) -> None:
        self.closed = True


def steps(count: int, start: int = 0) -> list[ev.Event]:
    return [ev.StepMetrics(step=step, metrics={"loss": 1.0}) for step in range(start, start + count)]


@pytest.fixture
def held() -> Iterator[Held]:
    sink = Held()
    yield sink
    sink.released.set()


def play(tmp_path: Path, sink: BackgroundSink) -> int:
    """A whole run on record with this sink; how many events the record holds."""
    with RecordWriter.create(tmp_path / "run") as record:
        shown = sum(1 for _ in fan_out(SampleRun(warmup_steps=20, tuning_steps=8).events(), record, [sink]))
    with open_run(tmp_path / "run") as run:
        assert sum(1 for _ in run.events()) == shown
    return shown


def test_every_event_arrives_in_order_and_then_the_sink_is_closed(held: Held) -> None:
    held.released.set()
    lines = Lines()
    sink = BackgroundSink(lambda _say: held, "t", say=lines)
    sent = steps(300)
    for event in sent:
        sink.handle(event)
    sink.close()
    sink.close()
    assert held.seen == sent
    assert held.closed
    assert (sink.handled, sink.skipped, lines.said) == (300, 0, [])


def test_a_sink_that_blocks_for_ever_holds_up_nothing(tmp_path: Path, held: Held) -> None:
    lines = Lines()
    sink = BackgroundSink(
        lambda _say: held, "slow", say=lines, fill_in="plasticity sync RUN --to slow", close_seconds=0.05
    )
    sent = play(tmp_path, sink)  # returns although the sink never does
    assert held.entered.is_set()
    assert held.seen == []
    assert sink.skipped == sent - 1  # one is in its hands
    assert lines.said == [
        "slow did not finish within 0.05 s and is left behind.",
        f"slow missed {sent - 1:,} events; the record has them: plasticity sync RUN --to slow",
    ]


def test_a_factory_that_blocks_for_ever_holds_up_nothing(tmp_path: Path) -> None:
    let_go = threading.Event()

    def make(say: Any) -> Any:
        let_go.wait()
        raise SystemExit

    sink = BackgroundSink(make, "slow", say=Lines(), close_seconds=0.05)
    sent = play(tmp_path, sink)
    assert (sink.handled, sink.skipped) == (0, sent)
    let_go.set()


class Failing:
    """Raises at its ``at``-th event, or when closed."""

    def __init__(self, failure: Callable[[], BaseException], at: int | None) -> None:
        self.failure, self.at, self.count = failure, at, 0

    def handle(self, _event: ev.Event) -> None:
        self.count += 1
        if self.count == self.at:
            raise self.failure()

    def close(self) -> None:
        if self.at is None:
            raise self.failure()


@pytest.mark.parametrize("at", [1, 5, None])
@pytest.mark.parametrize("failure", [lambda: RuntimeError("no quota\nleft"), SystemExit, lambda: MemoryError()])
def test_a_sink_that_raises_or_dies_is_switched_off_and_that_is_said_once(
    tmp_path: Path, failure: Callable[[], BaseException], at: int | None
) -> None:
    lines = Lines()
    sink = BackgroundSink(lambda _say: Failing(failure, at), "odd", say=lines)
    sent = play(tmp_path, sink)
    off = [line for line in lines.said if "is switched off" in line]
    assert len(off) == 1
    assert off[0].startswith(f"odd is switched off: {type(failure()).__name__}")
    assert "\n" not in off[0]
    assert sink.handled == (sent if at is None else at - 1)
    assert sink.skipped == sent - sink.handled
    assert ("missed" in lines.said[-1]) is (at is not None)


def test_a_flood_of_steps_costs_steps_and_not_what_is_rare(held: Held) -> None:
    sink = BackgroundSink(lambda _say: held, "t", say=Lines(), capacity=20)
    sink.handle(ev.StepMetrics(metrics={}))
    assert held.entered.wait(10)
    for event in steps(1_000):
        sink.handle(event)
    rare = [ev.HeadsPruned(heads=(), strategy="entropy"), ev.RunEnded(state="finished")]
    for event in rare:
        sink.handle(event)
    assert sink.skipped == 990
    held.released.set()
    sink.close()
    assert held.seen[-2:] == rare
    assert len(held.seen) == 1 + 10 + 2


def test_rare_events_are_bounded_too(held: Held) -> None:
    sink = BackgroundSink(lambda _say: held, "t", say=Lines(), capacity=20)
    for _ in range(100):
        sink.handle(ev.PhaseStarted(phase="warmup"))
    assert 79 <= sink.skipped <= 80  # one may be in its hands already
    held.released.set()
    sink.close()
    assert len(held.seen) + sink.skipped == 100


def test_ignored_events_are_neither_queued_nor_counted(held: Held) -> None:
    held.released.set()
    sink = BackgroundSink(lambda _say: held, "t", say=Lines(), ignored=(ev.LogLine,))
    sink.handle(ev.LogLine(message="x"))
    sink.handle(ev.PhaseStarted())
    sink.close()
    assert held.seen == [ev.PhaseStarted()]
    assert sink.skipped == 0


def test_what_a_sink_says_is_passed_on_in_the_experiments_thread() -> None:
    lines = Lines()
    said = threading.Event()

    def make(say: Any) -> Held:
        say("hello", "info")
        said.set()
        sink = Held()
        sink.released.set()
        return sink

    sink = BackgroundSink(make, "t", say=lines)
    assert said.wait(10)
    assert lines.said == []
    sink.handle(ev.PhaseStarted())
    assert lines.said == ["hello"]
    sink.close()
    assert lines.threads == {threading.get_ident()}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_forked_child_does_nothing_and_the_parent_goes_on(held: Held) -> None:
    sink = BackgroundSink(lambda _say: held, "t", say=Lines())
    sink.handle(ev.StepMetrics(metrics={}))
    assert held.entered.wait(10)
    with sink._changed:  # as a fork may find it: a lock that nobody in the child will ever release
        child = os.fork()
        if child == 0:
            sink.handle(ev.StepMetrics(metrics={}))
            sink.close()
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    held.released.set()
    sink.handle(ev.PhaseStarted())
    sink.close()
    assert len(held.seen) == 2
