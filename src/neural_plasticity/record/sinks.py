"""Where events go besides the record: a sink is told of each one, and can neither stop nor falsify the run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

from neural_plasticity.events import Event, LogLine
from neural_plasticity.record.store import RecordWriter


class Sink(Protocol):
    """A view or a tracker that follows a run."""

    def handle(self, event: Event) -> None:
        """Show or send one event, which the record already holds."""

    def close(self) -> None:
        """No more events will come."""


def fan_out(events: Iterable[Event], record: RecordWriter, sinks: Sequence[Sink] = ()) -> Iterator[Event]:
    """Record each event, then show it to every sink, then yield it.

    A sink that raises is dropped, and one error line in the record (and in the other sinks) says so.
    The sinks are closed at the end, however it comes; the record is left open for its owner to close.
    """
    live = list(sinks)
    last = Event()
    try:
        for event in events:
            last = event
            record.append(event)
            show(event, record, live)
            yield event
    finally:
        close_all(live, last, record)


def close_all(live: list[Sink], last: Event, record: RecordWriter) -> None:
    """Close every sink of ``live`` and empty it; failures are reported as happening at event ``last``."""
    while live:
        sink = live.pop()
        try:
            sink.close()
        except Exception as error:  # whatever a sink does, the run goes on
            _report(sink, error, last, record, live)


def show(event: Event, record: RecordWriter, live: list[Sink]) -> None:
    """Show a recorded event to every sink of ``live``; one that raises leaves the list, and a line says so."""
    for sink in list(live):
        if sink not in live:
            continue  # dropped meanwhile, by the report of another one's failure
        try:
            sink.handle(event)
        except Exception as error:
            live.remove(sink)
            _report(sink, error, event, record, live)


def _report(sink: Sink, error: Exception, event: Event, record: RecordWriter, live: list[Sink]) -> None:
    message = f"{type(sink).__name__} failed and was switched off: {type(error).__name__}: {error}"
    line = LogLine(
        step=event.step,
        phase=event.phase,
        cycle=event.cycle,
        phase_step=event.phase_step,
        message=message,
        level="error",
    )
    record.append(line)
    show(line, record, live)
