"""The record of a run: one SQLite file that events go into and that every view is made of. No torch here."""

from neural_plasticity.record.annotations import annotate
from neural_plasticity.record.codec import UnknownEvent
from neural_plasticity.record.history import PhaseSpan, RunSummary
from neural_plasticity.record.reader import Recorded
from neural_plasticity.record.run import Run, open_run
from neural_plasticity.record.sinks import Sink, fan_out
from neural_plasticity.record.store import RecordWriter

__all__ = [
    "PhaseSpan",
    "RecordWriter",
    "Recorded",
    "Run",
    "RunSummary",
    "Sink",
    "UnknownEvent",
    "annotate",
    "fan_out",
    "open_run",
]
