"""The record as its readers meet it: series, head states, scores, phases, resuming, live reading, tables, sinks."""

from __future__ import annotations

import contextlib
import math
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neural_plasticity.errors import RecordError
from neural_plasticity.events import (
    AttentionMaps,
    Evaluation,
    Event,
    HeadScores,
    HeadsGrown,
    HeadsPruned,
    LogLine,
    PhaseEnded,
    PhaseStarted,
    Progress,
    RunEnded,
    RunStarted,
    StepMetrics,
    TextSample,
)
from neural_plasticity.heads import HeadId, HeadState
from neural_plasticity.record import RecordWriter, Run, fan_out, open_run
from neural_plasticity.record.fork import fork_record
from neural_plasticity.record.schema import SCHEMA_VERSION
from neural_plasticity.render.page.live.updates import Place

START = RunStarted(name="test", shape=(2, 3), config={"level": 0.2, "cycles": (1, 2)})


def written(directory: Path, *events: Event) -> Run:
    with RecordWriter.create(directory) as writer:
        writer.append_many(events)
    return open_run(directory)


def losses(steps: Sequence[int], scale: float = 1.0) -> list[Event]:
    return [StepMetrics(step=step, phase="warmup", metrics={"loss": scale * step}) for step in steps]


# Metrics ---------------------------------------------------------------------------------------------------------


def test_series_keep_nan_and_infinities(tmp_path: Path) -> None:
    values = [1.5, math.nan, math.inf, -math.inf, -0.0, 5e-324]
    events = [StepMetrics(step=step, metrics={"loss": value}) for step, value in enumerate(values)]
    steps, read = written(tmp_path, *events).series("loss")
    assert steps.tolist() == list(range(6))
    assert read.tobytes() == np.array(values).tobytes()


# Each example writes a file and syncs it: few examples.
@settings(max_examples=20)
@given(st.lists(st.tuples(st.integers(0, 5), st.sets(st.sampled_from("abc"))), max_size=12))
def test_series_agree_with_the_events(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[int, set[str]]]
) -> None:
    """Whatever names come together, in whatever order of steps: the slow way is to look at every event."""
    events = [
        StepMetrics(step=step, metrics={name: float(number) for name in names})
        for number, (step, names) in enumerate(rows)
    ]
    run = written(tmp_path_factory.mktemp("run"), *events)
    assert set(run.metrics()) == {name for _, names in rows for name in names}
    for name in run.metrics():
        slow = sorted(
            ((one.step, one.metrics[name]) for one in events if name in one.metrics), key=lambda pair: pair[0]
        )
        steps, values = run.series(name)
        assert list(zip(steps.tolist(), values.tolist(), strict=True)) == slow


def test_an_unknown_metric_or_score_names_those_there_are(tmp_path: Path) -> None:
    run = written(tmp_path, START, *losses([1]), HeadScores(step=5, scores={"entropy": np.zeros((2, 3))}))
    with pytest.raises(RecordError, match=r"metric 'los': expected one of loss\."):
        run.series("los")
    with pytest.raises(RecordError, match=r"not measured by step 4; expected one of entropy\."):
        run.scores("entropy", step=4)


def test_more_events_than_one_query_fetches_come_in_order(tmp_path: Path) -> None:
    events = [event for step in range(2_500) for event in (*losses([step]), LogLine(step=step, message=str(step)))]
    run = written(tmp_path, *events)
    assert list(run.events()) == events
    assert [event.step for event in run.log()] == list(range(2_500))
    assert [one.seq for one in run.tail(4_990)] == list(range(4_991, 5_001))
    assert [one.seq for one in run.tail(0, limit=3)] == [1, 2, 3]
    assert run.tail(5_000) == []


def test_tables(tmp_path: Path) -> None:
    run = written(tmp_path, StepMetrics(step=1, phase='a,"b"', metrics={"x": 0.1, "y": math.nan}), *losses([2]))
    frame = run.to_pandas()
    assert list(frame.columns) == ["seq", "attempt", "time", "cycle", "phase", "phase_step", "step", "x", "y", "loss"]
    assert frame["x"].tolist()[0] == 0.1
    assert frame["loss"].isna().tolist() == [True, False]
    assert run.to_pandas("loss").to_dict("list") == {"step": [2], "loss": [2.0]}
    lines = run.to_csv(tmp_path / "metrics.csv").read_text(encoding="utf-8").splitlines()
    assert lines[1].startswith("1,1,")
    assert lines[1].endswith(',0,"a,""b""",0,1,0.1,nan,')
    with pytest.raises(RecordError, match="cannot be written"):
        run.to_csv(tmp_path / "missing" / "metrics.csv")


# Heads -----------------------------------------------------------------------------------------------------------

HEADS = st.builds(HeadId, st.integers(0, 3), st.integers(0, 3))
MOVES = st.lists(st.tuples(st.integers(0, 2), st.sampled_from(["pruned", "regrown", "added"]), st.lists(HEADS)))


# Each example writes a file and syncs it: few examples.
@settings(max_examples=20)
@given(MOVES)
def test_head_states_agree_with_a_replay(
    tmp_path_factory: pytest.TempPathFactory, moves: list[tuple[int, Any, list[HeadId]]]
) -> None:
    """At every step, each head is in the state of the last decision that named it."""
    events: list[Event] = [START]
    step = 0
    for gap, what, heads in moves:
        step += gap
        if what == "pruned":
            events.append(HeadsPruned(step=step, heads=tuple(heads), strategy="x"))
        else:
            events.append(HeadsGrown(step=step, heads=tuple(heads), origin=what))
    run = written(tmp_path_factory.mktemp("run"), *events)
    names = {"pruned": HeadState.PRUNED, "regrown": HeadState.REGROWN, "added": HeadState.ADDED}
    for at in range(-1, step + 2):
        grid = run.heads(step=at)
        for layer, head in np.ndindex(grid.shape):
            state = HeadState.ACTIVE if layer < 2 and head < 3 else HeadState.ABSENT
            when = 0
            for gap, what, heads in moves:
                when += gap
                if when <= at and HeadId(layer, head) in heads:
                    state = names[what]
            assert grid[layer, head] == state
    assert np.array_equal(run.heads(), run.heads(step=step))


def test_scores_are_the_latest_at_a_step(tmp_path: Path) -> None:
    grids = [np.full((2, 3), float(number)) for number in range(3)]
    grids[2][0, 0] = np.nan
    run = written(
        tmp_path, START, HeadScores(step=1, scores={"entropy": grids[0]}),
        HeadScores(step=5, scores={"entropy": grids[1], "gradient": grids[2]}),
        HeadScores(step=9, scores={"gradient": grids[0]}),
    )  # fmt: skip
    assert np.array_equal(run.scores("entropy"), grids[1])
    assert np.array_equal(run.scores("entropy", step=4), grids[0])
    assert np.array_equal(run.scores("gradient", step=8), grids[2], equal_nan=True)
    assert run.score_names() == ("entropy", "gradient")
    run.scores("entropy")[0, 0] = 7.0  # a fresh array
    assert run.scores("entropy")[0, 0] == 1.0


# What else is read -----------------------------------------------------------------------------------------------


def test_readers_of_single_kinds(tmp_path: Path) -> None:
    maps = np.zeros((2, 3, 4, 4), dtype=np.float16)
    events = [
        START, TextSample(prompt="p", text="</script>", model="baseline"),
        TextSample(prompt="p", text="t", model="pruned"),
        AttentionMaps(prompt="p", tokens=("a",), maps=maps, model="baseline"),
        AttentionMaps(prompt="q", tokens=("a",), maps=maps, model="pruned", cycle=2, step=3),
        Evaluation(results={"baseline": {"loss": 1.0}}), LogLine(message="hello"),
        HeadsGrown(heads=(HeadId(0, 0),), reasons={"0.0": "because"}),
    ]  # fmt: skip
    run = written(tmp_path, *events)
    assert [one.text for one in run.samples()] == ["</script>", "t"]
    assert [one.text for one in run.samples(model="pruned")] == ["t"]
    assert [one.prompt for one in run.attention()] == ["p", "q"]
    assert [one.prompt for one in run.attention(model="pruned", prompt="q", cycle=2, step=3)] == ["q"]
    assert run.attention(model="pruned", prompt="p") == []
    assert run.evaluations() == [events[5]]
    assert run.log() == [events[6]]
    assert run.decisions() == [events[7]]
    assert run.config == {"level": 0.2, "cycles": (1, 2)}
    assert (run.name, run.shape) == ("test", (2, 3))
    assert list(run.events("log")) == list(run.events(LogLine)) == [events[6]]


def test_summary_and_phases_of_a_run_as_it_goes_on(tmp_path: Path) -> None:
    with RecordWriter.create(tmp_path / "run") as writer, open_run(tmp_path / "run") as run:
        empty = run.summary()
        assert (empty.state, empty.name, empty.events, empty.shape) == ("running", "run", 0, (0, 0))
        with pytest.raises(RecordError, match="not said its shape"):
            run.heads()
        writer.append_many([START, PhaseStarted(phase="warmup"), *losses([0, 1])])
        writer.append(Progress(step=1, done=2, planned=4, run_fraction=0.25, seconds_left=9.0, phase="warmup"))
        now = run.summary()
        assert (now.state, now.stale, now.step, now.phase, now.metrics) == (
            "running",
            False,
            1,
            "warmup",
            {"loss": 1.0},
        )
        assert (now.run_fraction, now.seconds_left, now.events) == (0.25, 9.0, 5)
        assert run.summary(stale_after=-1.0).stale
        (span,) = run.phases()
        assert (span.phase, span.first_step, span.last_step, span.open) == ("warmup", 0, 1, True)
        writer.append(PhaseEnded(step=2, phase="warmup", seconds=3.5, reason="stable"))
        writer.append(PhaseStarted(step=2, phase="pruning", cycle=1))
        writer.append(HeadsPruned(step=2, phase="pruning", cycle=1, heads=(HeadId(0, 0),), strategy="x"))
        writer.append(RunEnded(step=3, state="failed", reason="NaN loss", summary={"loss": math.nan}))
        over = run.summary(stale_after=-1.0)
        assert (over.state, over.stale, over.reason, over.heads_pruned, over.heads_present) == (
            "failed",
            False,
            "NaN loss",
            1,
            6,
        )
        assert over.sparsity == pytest.approx(1 / 6)
        first, second = run.phases()
        assert (first.seconds, first.reason, first.open, first.last_step) == (3.5, "stable", False, 2)
        assert (second.phase, second.cycle, second.first_step, second.last_step) == ("pruning", 1, 2, 3)
        assert over.run_fraction == 0.25


def test_a_finished_run_is_done(tmp_path: Path) -> None:
    """The last estimate was made a moment before the end, and stays below 1."""
    with RecordWriter.create(tmp_path / "run") as writer, open_run(tmp_path / "run") as run:
        estimate = Progress(done=9, planned=9, run_fraction=0.73, seconds_left=9.0)
        writer.append_many([START, estimate])
        before = Place.of(run.summary())
        writer.append(RunEnded(state="finished"))
        (end,) = run.records(RunEnded)
        assert run.summary().run_fraction == before.after(end).run_fraction == 1.0


def test_a_finished_run_is_one_plain_file(tmp_path: Path) -> None:
    written(tmp_path, START, *losses(range(10))).close()
    assert [path.name for path in tmp_path.iterdir()] == ["run.sqlite"]
    moved = (tmp_path / "run.sqlite").rename(tmp_path / "other name #1?.sqlite")
    assert open_run(moved).summary().step == 9


def test_the_log_is_folded_in_while_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neural_plasticity.record.schema.CHECKPOINT_PAGES", 200)
    log = tmp_path / "run.sqlite-wal"
    with RecordWriter.create(tmp_path) as writer, open_run(tmp_path) as run:
        for step in range(1_500):
            writer.append(HeadScores(step=step, scores={"entropy": np.full((12, 12), float(step))}))
            if step % 100 == 0:
                assert run.last_seq == step + 1
        for step in range(20):
            maps = np.random.default_rng(step).random((1, 1, 200, 200))
            writer.append(AttentionMaps(prompt="p", tokens=(), maps=maps))
        assert (tmp_path / "run.sqlite").stat().st_size > 6_000_000  # of about 8 MB
        assert log.stat().st_size < 2_500_000


# Attempts --------------------------------------------------------------------------------------------------------


def test_a_resumed_run_goes_on_from_where_it_was_resumed(tmp_path: Path) -> None:
    with RecordWriter.create(tmp_path) as writer:
        writer.append_many([START, *losses(range(4))])
        checkpoint = writer.last_seq
        writer.append_many([HeadsPruned(step=4, heads=(HeadId(0, 0),), strategy="x"), *losses([4, 5])])
    with RecordWriter.reopen(tmp_path, after_seq=checkpoint) as writer:
        assert writer.attempt == 2
        writer.append_many([START, HeadsPruned(step=4, heads=(HeadId(1, 1),), strategy="y"), *losses([4], scale=10.0)])
    run = open_run(tmp_path)
    assert [value.tolist() for value in run.series("loss")] == [[0, 1, 2, 3, 4], [0.0, 1.0, 2.0, 3.0, 40.0]]
    assert run.series("loss", attempt="all")[1].tolist() == [0.0, 1.0, 2.0, 3.0, 4.0, 40.0, 5.0]
    assert run.series("loss", attempt=1)[1].tolist() == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    assert run.series("loss", attempt=2)[1].tolist() == [40.0]
    assert run.heads().tolist() == [[1, 1, 1], [1, 0, 1]]
    assert run.heads(attempt="all").tolist() == [[0, 1, 1], [1, 0, 1]]
    assert [one.attempt for one in run.tail(checkpoint)] == [1, 1, 1, 2, 2, 2]
    assert run.summary().attempt == 2
    with pytest.raises(RecordError, match="attempt 3: expected 'latest', 'all' or a number from 1 to 2"):
        list(run.events(attempt=3))


def test_resuming_at_a_step_keeps_what_came_before_it(tmp_path: Path) -> None:
    with RecordWriter.create(tmp_path) as writer:
        writer.append_many([START, *losses(range(6))])
    for step, kept in ((4, [0, 1, 2, 3]), (2, [0, 1]), (9, [0, 1])):
        with RecordWriter.reopen(tmp_path, step=step):
            assert open_run(tmp_path).series("loss")[0].tolist() == kept
    assert open_run(tmp_path).series("loss", attempt="all")[0].tolist() == list(range(6))
    with RecordWriter.reopen(tmp_path):  # no point given: all of the history
        assert open_run(tmp_path).series("loss")[0].tolist() == [0, 1]


# Each example writes a file and syncs it: few examples.
@settings(max_examples=20)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 100)), min_size=1, max_size=6))
def test_history_agrees_with_a_list_cut_and_extended(
    tmp_path_factory: pytest.TempPathFactory, attempts: list[tuple[int, int]]
) -> None:
    """The slow reference: cut the list of event numbers at each resume point, then extend it."""
    directory = tmp_path_factory.mktemp("run")
    history: list[int] = []
    last = 0
    for number, (count, cut) in enumerate(attempts):
        if number == 0:
            writer = RecordWriter.create(directory)
        else:
            kept = cut % (last + 1)
            writer = RecordWriter.reopen(directory, after_seq=kept)
            history = [seq for seq in history if seq <= kept]
        with writer:
            history += writer.append_many(LogLine(message=str(one)) for one in range(count))
            last = writer.last_seq
    run = open_run(directory)
    assert [one.seq for one in run.records()] == history
    assert [one.seq for one in run.records(attempt="all")] == list(range(1, last + 1))
    own = [[one.seq for one in run.records(attempt=number + 1)] for number in range(len(attempts))]
    assert [len(seqs) for seqs in own] == [count for count, _ in attempts]


def test_a_phase_entered_again_after_a_resume_is_one_span(tmp_path: Path) -> None:
    with RecordWriter.create(tmp_path) as writer:
        writer.append_many([PhaseStarted(phase="warmup"), *losses([0, 1])])
    with RecordWriter.reopen(tmp_path) as writer:
        writer.append_many([PhaseStarted(phase="warmup", step=2), *losses([2]), PhaseEnded(phase="warmup", step=3)])
    assert [(one.phase, one.first_step, one.last_step) for one in open_run(tmp_path).phases()] == [("warmup", 0, 3)]


# Records of before ------------------------------------------------------------------------------------------------

SCHEMA_1 = """
CREATE TABLE old_events (seq INTEGER PRIMARY KEY, attempt INTEGER NOT NULL, cycle INTEGER NOT NULL,
    phase TEXT NOT NULL, phase_step INTEGER NOT NULL, step INTEGER NOT NULL, time REAL NOT NULL,
    kind TEXT NOT NULL, version INTEGER NOT NULL, payload TEXT NOT NULL, arrays BLOB);
CREATE TABLE old_metrics (seq INTEGER PRIMARY KEY, attempt INTEGER NOT NULL, cycle INTEGER NOT NULL,
    phase TEXT NOT NULL, phase_step INTEGER NOT NULL, step INTEGER NOT NULL, time REAL NOT NULL,
    layout INTEGER NOT NULL, data BLOB NOT NULL);
INSERT INTO old_events SELECT * FROM events;
INSERT INTO old_metrics SELECT * FROM metrics;
DROP VIEW events; DROP VIEW metrics; DROP TABLE recorded;
ALTER TABLE old_events RENAME TO events; ALTER TABLE old_metrics RENAME TO metrics;
CREATE INDEX events_by_kind ON events (kind, seq);
UPDATE meta SET value = 1 WHERE key = 'schema_version';
"""


def test_a_record_of_schema_2_goes_on_as_the_present_one(tmp_path: Path) -> None:
    written(tmp_path, START).close()
    with contextlib.closing(sqlite3.connect(tmp_path / "run.sqlite")) as connection:
        connection.executescript("UPDATE meta SET value = 2 WHERE key = 'schema_version';")
        RecordWriter.reopen(tmp_path).close()
        assert connection.execute("SELECT value FROM meta WHERE key = 'schema_version'").fetchone() == (SCHEMA_VERSION,)
    with open_run(tmp_path) as run:
        assert len(list(run.events())) == 1


def test_rounded_patterns_take_a_byte_each_and_come_back_to_the_last_bit(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    maps = np.rint(rng.random((6, 8, 20, 20)) * 254) / 254
    maps[2, 3] = np.nan
    odd = maps.copy()
    odd[0, 0, 0, 0] = -0.0  # not one of the 255 values, though it compares equal
    arrays = [maps.astype(kind) for kind in ("<f2", "<f4", "<f8", ">f4")] + [odd, maps + 1e-9]
    events = [AttentionMaps(prompt="x", tokens=(), maps=array, error=0.002) for array in arrays]
    written(tmp_path, *events).close()
    with open_run(tmp_path) as run:
        back = run.attention()
    for array, event in zip(arrays, back, strict=True):
        assert (event.maps.dtype, event.maps.tobytes(), event.error) == (array.dtype, array.tobytes(), 0.002)
        assert not event.maps.flags.writeable
    with contextlib.closing(sqlite3.connect(tmp_path / "run.sqlite")) as connection:
        kept = connection.execute("SELECT dtype, codec, length(data) FROM blobs ORDER BY rowid").fetchall()
    assert [codec == "steps" for _, codec, _ in kept] == [True] * 4 + [False] * 2
    assert all(size <= maps.size for _, codec, size in kept if codec == "steps")


def test_a_record_of_schema_1_is_read_as_it_is_and_goes_on_as_the_present_one(tmp_path: Path) -> None:
    scores = [HeadScores(step=step, scores={"entropy": np.full((2, 3), float(step))}) for step in range(3)]
    pruned = HeadsPruned(step=3, heads=(HeadId(0, 1),), strategy="entropy")
    events = [START, *losses([0]), *scores, *losses([1, 2], scale=math.inf), pruned, LogLine(message="x")]
    written(tmp_path, *events).close()
    with contextlib.closing(sqlite3.connect(tmp_path / "run.sqlite")) as connection:
        connection.executescript(SCHEMA_1)

    def look(run: Run) -> list[Any]:
        seen = [(one.seq, one.attempt, one.time, repr(one.event)) for one in run.records(attempt=1)]
        return [seen, run.series("loss")[0].tolist(), run.scores("entropy").tolist(), run.heads().tolist()]

    with open_run(tmp_path) as run:
        before = look(run)
        assert [one[3] for one in before[0]] == [repr(event) for event in events]
        assert (run.last_seq, run.summary().events, [one.seq for one in run.tail(7)]) == (9, 9, [8, 9])
        with RecordWriter.reopen(tmp_path) as writer:
            assert look(run) == before  # while it is open
            writer.append(LogLine(message="more"))
        assert [line.message for line in run.log()] == ["x", "more"]
        assert look(run) == before
    with contextlib.closing(sqlite3.connect(tmp_path / "run.sqlite")) as connection:
        assert connection.execute("SELECT value FROM meta WHERE key = 'schema_version'").fetchone() == (SCHEMA_VERSION,)
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


@pytest.mark.parametrize("older", [SCHEMA_1, "UPDATE meta SET value = 2 WHERE key = 'schema_version';"])
def test_a_run_begins_with_the_history_of_an_older_record(tmp_path: Path, older: str) -> None:
    written(tmp_path / "old", START, *losses([0, 1]), LogLine(message="x"), LogLine(message="taken out")).close()
    with contextlib.closing(sqlite3.connect(tmp_path / "old" / "run.sqlite")) as connection:
        connection.executescript(older)
    before = (tmp_path / "old" / "run.sqlite").read_bytes()
    copy = fork_record(tmp_path / "old", tmp_path / "new", 4)
    assert (tmp_path / "old" / "run.sqlite").read_bytes() == before
    assert b"taken out" not in copy.read_bytes()
    with open_run(tmp_path / "old") as old, open_run(tmp_path / "new") as new:
        kept = [(one.seq, one.time, repr(one.event)) for one in old.records()][:4]
        assert [(one.seq, one.time, repr(one.event)) for one in new.records()] == kept
    with RecordWriter.reopen(tmp_path / "new", after_seq=4) as writer:
        assert writer.append(LogLine(message="on")) == 5


# Writing and reading at once -------------------------------------------------------------------------------------


def test_two_processes_read_while_a_third_writes(tmp_path: Path) -> None:
    """Each reader follows the cursor to the end and must see every event once, in order, across both tables."""
    reader = """
import sys
from neural_plasticity.record import open_run
run, seen, total = open_run(sys.argv[1]), 0, int(sys.argv[2])
while seen < total:
    for one in run.tail(seen):
        assert one.seq == seen + 1, (one.seq, seen)
        assert one.event.step == one.seq - 1
        seen = one.seq
print("all", len(run.series("loss")[0]))
"""
    total = 2_000
    with RecordWriter.create(tmp_path) as writer:
        command = [sys.executable, "-c", reader, str(tmp_path), str(total)]
        readers = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
        for step in range(total):
            writer.append(losses([step])[0] if step % 2 else HeadScores(step=step, scores={"e": np.eye(3)}))
        answers = [process.communicate(timeout=60)[0] for process in readers]
    assert answers == ["all 1000\n"] * 2


def test_several_threads_write_one_record(tmp_path: Path) -> None:
    with RecordWriter.create(tmp_path) as writer:

        def work(name: str) -> None:
            for step in range(100):
                writer.append_many(
                    [StepMetrics(step=step, metrics={name: float(step)}), LogLine(message=name, step=step)]
                )

        threads = [threading.Thread(target=work, args=(name,)) for name in "abcd"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        run = open_run(tmp_path)
        assert [one.seq for one in run.records()] == list(range(1, 801))
        for name in "abcd":
            assert run.series(name)[1].tolist() == list(range(100))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")
def test_a_forked_child_is_refused_and_harms_nothing(tmp_path: Path) -> None:
    code = """
import os, sys
from neural_plasticity.errors import RecordError
from neural_plasticity.events import LogLine
from neural_plasticity.record import RecordWriter, open_run
writer = RecordWriter.create(sys.argv[1])
writer.append(LogLine(message="before"))
child = os.fork()
if not child:
    try:
        writer.append(LogLine(message="child"))
    except RecordError as error:
        writer.close()
        del writer  # and its connection
        sys.exit(7 if "forked child" in str(error) else 8)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
writer.append(LogLine(message="after"))
lives, tells = os.pipe()
sleeper = os.fork()  # a worker that lives on must not keep the lock
if not sleeper:
    import time
    os.write(tells, b"1")
    time.sleep(30)
    os._exit(0)
os.read(lives, 1)  # it lets go of the lock before it does anything else
writer.close()
with RecordWriter.reopen(sys.argv[1]) as writer:
    writer.append(LogLine(message="again"))
os.kill(sleeper, 9)
print([line.message for line in open_run(sys.argv[1]).log()], writer._connection is not None)
"""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, str(tmp_path)], capture_output=True, text=True, timeout=60
    )
    assert done.stdout.strip() == "['before', 'after', 'again'] True", done.stderr


# Sinks -----------------------------------------------------------------------------------------------------------


class Collector:
    def __init__(self, run_dir: Path, fails_at: int = -1) -> None:
        self.seen: list[Event] = []
        self.recorded: list[int] = []
        self.closed = 0
        self._run, self._fails_at = open_run(run_dir), fails_at

    def handle(self, event: Event) -> None:
        if len(self.seen) == self._fails_at:
            raise ValueError("no more paper")
        self.seen.append(event)
        self.recorded.append(self._run.last_seq)

    def close(self) -> None:
        self.closed += 1
        if self._fails_at == 99:
            raise OSError("cannot close")


def test_events_are_recorded_before_they_are_shown(tmp_path: Path) -> None:
    events = losses(range(3))
    with RecordWriter.create(tmp_path) as writer:
        sink = Collector(tmp_path)
        assert list(fan_out(iter(events), writer, [sink])) == events
        assert (sink.seen, sink.recorded, sink.closed) == (events, [1, 2, 3], 1)


def test_a_failing_sink_is_reported_once_and_dropped(tmp_path: Path) -> None:
    events = losses(range(5))
    with RecordWriter.create(tmp_path) as writer:
        good, bad, worse = Collector(tmp_path), Collector(tmp_path, fails_at=2), Collector(tmp_path, fails_at=2)
        assert list(fan_out(iter(events), writer, [bad, good, worse])) == events
    run = open_run(tmp_path)
    assert [line.message for line in run.log()] == [
        "Collector failed and was switched off: ValueError: no more paper"
    ] * 2
    assert list(run.events("metrics")) == events
    assert (len(bad.seen), len(worse.seen), len(good.seen), good.closed) == (2, 2, 7, 1)


def test_a_sink_that_cannot_close_is_reported(tmp_path: Path) -> None:
    with RecordWriter.create(tmp_path) as writer:
        list(fan_out(iter(losses([1])), writer, [Collector(tmp_path, fails_at=99)]))
    assert open_run(tmp_path).log()[0].level == "error"


def test_sinks_are_closed_when_the_events_fail(tmp_path: Path) -> None:
    def failing() -> Any:
        yield from losses([1])
        raise RuntimeError("the experiment's own error")

    with RecordWriter.create(tmp_path) as writer:
        sink = Collector(tmp_path)
        with pytest.raises(RuntimeError, match="own error"):
            list(fan_out(failing(), writer, [sink]))
        assert sink.closed == 1
