"""What the live server keeps in memory against what the record says, whatever was recorded and in which portions."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neural_plasticity import events as ev
from neural_plasticity.record import RecordWriter, annotate, open_run
from neural_plasticity.record.snapshot import snapshot
from neural_plasticity.render.page.live.columns import Columns, LiveSnapshot
from neural_plasticity.render.page.live.updates import Place
from tests.live_client import recorded_points, same
from tests.sample_run import SampleRun, write_events

START = ev.RunStarted(name="live", shape=(2, 3), config={})
METRICS = st.dictionaries(
    st.sampled_from(["loss", "rate", "späte Größe"]), st.floats(allow_nan=True, allow_infinity=True), min_size=1
)
PORTION = st.lists(st.tuples(st.integers(0, 50), METRICS), max_size=6)
RESUMED = st.floats(0, 1)  # where in the record, as a share of it


@settings(max_examples=60)
@given(st.lists(st.one_of(PORTION, RESUMED), min_size=1, max_size=6))
def test_columns_read_on_are_those_read_at_once(portions: list[list[tuple[int, dict[str, float]]] | float]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        writer = RecordWriter.create(directory)
        writer.append(START)
        columns = Columns()
        with open_run(directory) as run:
            for portion in portions:
                if isinstance(portion, float):
                    writer.close()
                    writer = RecordWriter.reopen(directory, after_seq=int(portion * writer.last_seq))
                    writer.append(START)
                else:
                    writer.append_many(ev.StepMetrics(step=step, metrics=metrics) for step, metrics in portion)
                    writer.append(ev.HeadScores(step=len(portion), scores={"entropy": np.zeros((2, 3))}))
                now = LiveSnapshot(run, run.last_seq, columns)
                assert now.metrics() == run.metrics()
                assert same(recorded_points(now), recorded_points(run))
                assert now.count(attempt="all") == now.last_seq
                for kind in (ev.HeadScores, ev.RunStarted):
                    assert now.places(kind) == snapshot(run).places(kind)
        writer.close()


def test_a_snapshot_ends_where_it_is_told_to(tmp_path: Path) -> None:
    write_events(tmp_path, [START, *(ev.StepMetrics(step=step, metrics={"loss": 1.0}) for step in range(10))])
    columns = Columns()
    with open_run(tmp_path) as run:
        for until in (0, 1, 4, 11):
            now = LiveSnapshot(run, until, columns)
            assert now.last_seq == until
            assert len(now.columns(["loss"]).get("loss", ((),))[0]) == max(until - 1, 0)
            assert now.columns(["never"]) == {}


def test_what_was_read_stays_as_it_was(tmp_path: Path) -> None:
    columns = Columns()
    with RecordWriter.create(tmp_path) as writer, open_run(tmp_path) as run:
        writer.append_many([START, ev.StepMetrics(step=1, metrics={"loss": 1.0})])
        steps, values = LiveSnapshot(run, run.last_seq, columns).columns(["loss"])["loss"]
        writer.append_many(ev.StepMetrics(step=step, metrics={"loss": math.pi}) for step in range(2, 5000))
        assert len(LiveSnapshot(run, run.last_seq, columns).columns(["loss"])["loss"][0]) == 4999
        assert (steps.tolist(), values.tolist()) == ([1], [1.0])
        with pytest.raises(ValueError, match="read-only"):
            values[0] = 2.0


@pytest.mark.parametrize("ended", [False, True])
def test_the_place_after_every_event_is_what_the_summary_says(tmp_path: Path, ended: bool) -> None:
    events = list(SampleRun(cycles=1).events())
    write_events(tmp_path, events if ended else events[:-1])
    annotate(tmp_path, note="looked at later")
    with open_run(tmp_path) as run:
        place = Place(attempt=1)
        for one in run.tail():
            place = place.after(one)
        assert place == Place.of(run.summary())
        assert place.state(place.last_event + 1) == ("finished" if ended else "running")
        assert place.state(place.last_event + 1e6) == ("finished" if ended else "stale")
