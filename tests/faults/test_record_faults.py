"""What goes wrong around a record: kills, full disks, read-only places, foreign files, newer versions, two writers."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path

import numpy as np
import pytest

from neural_plasticity.errors import RecordError
from neural_plasticity.events import AttentionMaps, Event, HeadScores, LogLine, RunStarted, StepMetrics
from neural_plasticity.record import RecordWriter, open_run, schema
from neural_plasticity.record.schema import choose_journal, file_system
from neural_plasticity.session import resume_run

KILLS = 100

# For each directory that it is told, a forked child appends until it is killed, and says after each return what was
# acknowledged. Everything about event n follows from n.
WRITER = """
import os
import sys
import numpy as np
from neural_plasticity.events import AttentionMaps, HeadScores, PhaseStarted, StepMetrics
from neural_plasticity.record import RecordWriter

def event(n):
    if n % 50 == 0:
        return PhaseStarted(step=n, phase="warmup")
    if n % 20 == 0:
        maps = np.random.default_rng(n).random((2, 2, 48, 48)).astype(np.float32)
        return AttentionMaps(step=n, prompt=str(n), tokens=(), maps=maps)
    if n % 3 == 0:
        return HeadScores(step=n, scores={"entropy": np.full((12, 12), n / 7)})
    return StepMetrics(step=n, metrics={"loss": n / 3, f"rare{n % 10}": float("nan")})

def write(directory):
    writer = RecordWriter.create(directory)
    print("open", os.getpid(), flush=True)
    n = 0
    while True:
        n += 1
        assert writer.append(event(n)) == n
        os.write(1, b"%d\\n" % n)  # at once: a print may be killed between the number and the line's end

for line in sys.stdin:
    child = os.fork()
    if not child:
        try:
            write(line.rstrip())
        finally:
            os._exit(1)
    print("ended", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


def _killed(runs: list[tuple[Path, float]]) -> list[int]:
    """For each directory the last event that a child acknowledged before SIGKILL, so many seconds after its first."""
    pipe = subprocess.PIPE
    acknowledged: list[int] = []
    with subprocess.Popen([sys.executable, "-c", WRITER], stdin=pipe, stdout=pipe, text=True) as parent:
        assert parent.stdin is not None
        assert parent.stdout is not None
        for directory, seconds in runs:
            parent.stdin.write(f"{directory}\n")
            parent.stdin.flush()
            word, child = parent.stdout.readline().split()
            assert word == "open"
            timer = threading.Timer(seconds, os.kill, (int(child), signal.SIGKILL))
            timer.start()
            last = 0
            while (said := parent.stdout.readline()) != f"ended {-signal.SIGKILL}\n":
                last = int(said)
            timer.join()
            acknowledged.append(last)
        parent.stdin.close()
    return acknowledged


def _check(directory: Path, acknowledged: int) -> None:
    with open_run(directory) as run:
        records = list(run.records())
        assert [one.seq for one in records] == list(range(1, len(records) + 1))
        assert len(records) >= acknowledged, "an acknowledged event is missing"
        for one in records:
            event, n = one.event, one.seq
            assert event.step == n
            if isinstance(event, StepMetrics):
                assert event.metrics["loss"] == n / 3
            elif isinstance(event, HeadScores):
                assert np.array_equal(event.scores["entropy"], np.full((12, 12), n / 7))
            elif isinstance(event, AttentionMaps):
                expected = np.random.default_rng(n).random((2, 2, 48, 48)).astype(np.float32)
                assert np.array_equal(event.maps, expected)
        assert run.summary().state == "running"
    with RecordWriter.reopen(directory) as writer:  # and it can go on
        assert writer.append(LogLine(message="resumed")) > acknowledged
    with contextlib.closing(sqlite3.connect(directory / "run.sqlite")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL and fork are of POSIX")
def test_a_hundred_kills_lose_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    moments = random.Random(0)
    runs = [(tmp_path / str(number), moments.uniform(0.0, 0.15)) for number in range(KILLS)]
    shares = [runs[place::4] for place in range(4)]
    with ThreadPoolExecutor(4) as pool:
        counts = list(chain.from_iterable(pool.map(_killed, shares)))
    for (directory, _), acknowledged in zip(chain.from_iterable(shares), counts, strict=True):
        _check(directory, acknowledged)
    assert sum(counts) > KILLS, "the children were killed before they wrote anything: the test showed nothing"


# Places that cannot be used --------------------------------------------------------------------------------------


def _one_line(caught: pytest.ExceptionInfo[RecordError], *parts: str) -> None:
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message


def test_a_directory_of_another_run_is_refused(tmp_path: Path) -> None:
    with RecordWriter.create(tmp_path) as writer:
        writer.append(LogLine(message="precious"))
    with pytest.raises(RecordError) as caught:
        RecordWriter.create(tmp_path)
    _one_line(caught, str(tmp_path), "already holds a run")
    assert [line.message for line in open_run(tmp_path).log()] == ["precious"]


def test_a_creation_that_was_cut_short_can_be_repeated(tmp_path: Path) -> None:
    (tmp_path / "run.sqlite").touch()
    with pytest.raises(RecordError, match="not one"):
        open_run(tmp_path)
    with RecordWriter.create(tmp_path) as writer:
        assert writer.append(LogLine(message="x")) == 1


def test_a_creation_that_was_cut_short_is_said_in_one_line(tmp_path: Path) -> None:
    schema.open_for_writing(tmp_path / "run.sqlite")[0].close()
    with open_run(tmp_path) as run, pytest.raises(RecordError) as caught:
        run.summary()
    _one_line(caught, str(tmp_path), "not begun")
    with RecordWriter.create(tmp_path) as writer:
        assert writer.append(LogLine(message="x")) == 1


def test_a_run_that_was_killed_before_its_first_event_is_begun_afresh(tmp_path: Path) -> None:
    code = "import os, sys; from neural_plasticity.record import RecordWriter; "
    code += "RecordWriter.create(sys.argv[1]); os.kill(os.getpid(), 9)"
    for _ in range(2):
        assert subprocess.run([sys.executable, "-c", code, str(tmp_path)]).returncode == -signal.SIGKILL
    with pytest.raises(RecordError) as caught:
        resume_run(tmp_path)
    _one_line(caught, str(tmp_path), "before it recorded anything", "start it again")
    with RecordWriter.create(tmp_path) as writer:
        assert (writer.append(LogLine(message="x")), writer.attempt) == (1, 1)
    _intact(tmp_path, 1)


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_a_file_in_the_way(place: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(RecordError) as caught:
        RecordWriter.create(tmp_path / place)
    _one_line(caught, "a file is in the way")


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a place where nobody may write: /proc")
def test_a_place_where_nothing_can_be_made() -> None:
    with pytest.raises(RecordError) as caught:
        RecordWriter.create("/proc/neural-plasticity/run")
    _one_line(caught, "cannot be used as a run directory")


def test_two_writers_of_one_run(tmp_path: Path) -> None:
    with RecordWriter.create(tmp_path):
        code = "import sys; from neural_plasticity.record import RecordWriter; RecordWriter.reopen(sys.argv[1])"
        other = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
        assert "another process is writing to this run" in other.stderr
        with pytest.raises(RecordError, match="another process"):
            RecordWriter.create(tmp_path)
    RecordWriter.reopen(tmp_path).close()


def test_a_closed_writer_says_so(tmp_path: Path) -> None:
    writer = RecordWriter.create(tmp_path)
    writer.close()
    writer.close()
    with pytest.raises(RecordError, match="closed"):
        writer.append(LogLine(message="x"))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [({"after_seq": 2}, "after event 2"), ({"after_seq": -1}, "after event -1"), ({"after_seq": 0, "step": 0}, "both")],
)
def test_a_resume_point_outside_the_record(arguments: dict[str, int], says: str, tmp_path: Path) -> None:
    with RecordWriter.create(tmp_path) as writer:
        writer.append(LogLine(message="x"))
    with pytest.raises(RecordError, match=says):
        RecordWriter.reopen(tmp_path, **arguments)
    assert len(open_run(tmp_path).attempts) == 1


# Files that are not records --------------------------------------------------------------------------------------


def test_nothing_there(tmp_path: Path) -> None:
    for opened in (open_run, RecordWriter.reopen):
        with pytest.raises(RecordError) as caught:
            opened(tmp_path)
        _one_line(caught, str(tmp_path), "run.sqlite")


def test_files_that_are_not_records(tmp_path: Path) -> None:
    path = tmp_path / "run.sqlite"
    path.write_text("not a database, but long enough to be looked at " * 50)
    for opened in (open_run, RecordWriter.reopen, RecordWriter.create):
        with pytest.raises(RecordError) as caught:
            opened(tmp_path)
        _one_line(caught, str(tmp_path), "not a database")
    path.unlink()
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE other (x)")
    for opened in (open_run, RecordWriter.reopen, RecordWriter.create):
        with pytest.raises(RecordError) as caught:
            opened(tmp_path)
        _one_line(caught, "expected the record of a run")


def test_another_programs_file_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "run.sqlite"
    with contextlib.closing(sqlite3.connect(path)) as connection:  # it happens to have a table like ours
        connection.execute("CREATE TABLE meta (key, value)")
        connection.execute("INSERT INTO meta VALUES ('schema_version', 1)")
        connection.commit()
    before = path.read_bytes()
    for opened in (open_run, RecordWriter.reopen, RecordWriter.create):
        with pytest.raises(RecordError) as caught:
            opened(tmp_path)
        _one_line(caught, "another program's")
    assert path.read_bytes() == before


def test_what_another_program_writes_meanwhile_costs_no_event(tmp_path: Path) -> None:
    with RecordWriter.create(tmp_path) as writer:
        for number in range(3):
            writer.append(LogLine(message=f"before {number}"))
            with contextlib.closing(sqlite3.connect(tmp_path / "run.sqlite", isolation_level=None)) as connection:
                connection.execute("INSERT INTO meta VALUES (?, 'a remark')", (f"theirs {number}",))
            assert writer.append(LogLine(message="after")) == 2 * number + 2
    _intact(tmp_path, 6)


def test_a_damaged_event_is_said_in_one_line(tmp_path: Path) -> None:
    with RecordWriter.create(tmp_path) as writer:
        writer.append_many([LogLine(message="fine"), LogLine(message="damaged")])
    with contextlib.closing(sqlite3.connect(tmp_path / "run.sqlite")) as connection:
        connection.execute("UPDATE recorded SET payload = '{\"message' WHERE seq = 2")
        connection.commit()
    with open_run(tmp_path) as run:
        with pytest.raises(RecordError) as caught:
            list(run.events())
        _one_line(caught, str(tmp_path), "event 2", "damaged")


def test_values_that_cannot_be_kept_are_refused_and_the_record_goes_on(tmp_path: Path) -> None:
    nested: dict[str, object] = {}
    for _ in range(3_000):
        nested = {"in": nested}
    with RecordWriter.create(tmp_path) as writer:
        for config in (nested, {"digits": 10**5_000}):
            with pytest.raises(RecordError) as caught:
                writer.append(RunStarted(name="x", shape=(1, 1), config=config))
            _one_line(caught, "run_started", "cannot be kept")
        assert writer.append(LogLine(message="x")) == 1  # numbers have no gaps
    _intact(tmp_path, 1)


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    RecordWriter.create(tmp_path).close()
    with contextlib.closing(sqlite3.connect(tmp_path / "run.sqlite")) as connection:
        connection.execute("UPDATE meta SET value = 4 WHERE key = 'schema_version'")
        connection.commit()
    for opened in (open_run, RecordWriter.reopen):
        with pytest.raises(RecordError) as caught:
            opened(tmp_path)
        _one_line(caught, "schema 4", "reads up to 3", "upgrade neural-plasticity")


# Disks -----------------------------------------------------------------------------------------------------------


def test_a_full_disk_is_said_and_leaves_the_record_intact(tmp_path: Path) -> None:
    """The limit of SQLite itself, which gives the same answer as a disk without room."""
    with RecordWriter.create(tmp_path) as writer:
        writer.append(RunStarted(name="x", shape=(2, 2), config={}))
        pages = writer._connection.execute("PRAGMA page_count").fetchone()[0]
        writer._connection.execute(f"PRAGMA max_page_count={pages + 20}")
        kept = _fill(writer)
        writer._connection.execute("PRAGMA max_page_count=1000000")
        writer.append(LogLine(message="room again"))
    _intact(tmp_path, kept + 2)


@contextlib.contextmanager
def _mounted(directory: Path, *options: str) -> Iterator[Path]:
    mount = shutil.which("mount")
    if mount is None or not hasattr(os, "geteuid") or os.geteuid() != 0:
        pytest.skip("mounting needs root and a mount command")
    done = subprocess.run([mount, *options, str(directory)], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"nothing can be mounted here: {done.stderr.strip()}")
    try:
        yield directory
    finally:
        subprocess.run(["umount", str(directory)], check=True)


def test_a_file_system_that_fills_up(tmp_path: Path) -> None:
    place = tmp_path / "small"
    place.mkdir()
    with _mounted(place, "-t", "tmpfs", "-o", "size=700k", "tmpfs"):
        with RecordWriter.create(place) as writer:
            writer.append(RunStarted(name="x", shape=(2, 2), config={}))
            kept = _fill(writer)
        _intact(place, kept + 1)
        run = open_run(place)
        assert [one.step for one in run.events("head_scores")] == list(range(kept))
        run.close()


def _fill(writer: RecordWriter) -> int:
    """Append until it fails; returns how many were acknowledged."""
    for step in range(10_000):
        event = HeadScores(step=step, scores={"entropy": np.random.default_rng(step).random((20, 20))})
        try:
            writer.append(event)
        except RecordError as error:
            message = str(error)
            break
    else:
        raise AssertionError("the disk never filled up")
    assert "cannot record" in message
    assert "\n" not in message
    assert step > 3
    return step


def _intact(directory: Path, events: int) -> None:
    with open_run(directory) as run:
        assert len(list(run.events())) == events
        assert run._query("PRAGMA integrity_check") == [("ok",)]


def test_a_read_only_place(tmp_path: Path) -> None:
    source, place = tmp_path / "source", tmp_path / "place"
    source.mkdir()
    place.mkdir()
    with RecordWriter.create(source / "closed") as writer:
        writer.append(LogLine(message="x"))
    killed = source / "killed"
    (acknowledged,) = _killed([(killed, 0.1)])
    # WAL mode left on, its log gone with a last checkpoint: as a copied file may be.
    shutil.copytree(source / "closed", source / "wal")
    with contextlib.closing(sqlite3.connect(source / "wal" / "run.sqlite")) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
    shutil.copytree(killed, source / "copied")
    (source / "copied" / "run.sqlite-shm").unlink()
    with _mounted(place, "--bind", "-o", "ro", str(source)):
        subprocess.run(["mount", "-o", "remount,bind,ro", str(place)], check=True)
        for name, least in (("closed", 1), ("wal", 1), ("killed", acknowledged), ("copied", acknowledged)):
            with open_run(place / name) as run:
                assert len(list(run.events())) >= least, name
        with pytest.raises(RecordError) as caught:
            RecordWriter.reopen(place / "closed")
        _one_line(caught, str(place / "closed"))
        with pytest.raises(RecordError) as caught:
            RecordWriter.create(place / "new")
        _one_line(caught, "Read-only file system")


def test_without_wal_there_is_a_rollback_journal_and_a_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neural_plasticity.record.schema.file_system", lambda _: "nfs4")
    with RecordWriter.create(tmp_path) as writer:
        (note,) = writer.notes
        assert "nfs4 is not a local file system" in note
        assert "rollback journal" in note
        events: list[Event] = [LogLine(step=step, message="x") for step in range(5)]
        for event in events:
            writer.append(event)
            with open_run(tmp_path) as run:
                assert run.last_seq == event.step + 1
        assert not (tmp_path / "run.sqlite-wal").exists()
    with open_run(tmp_path) as run:
        assert list(run.events()) == events
        assert run.notes == run.summary().notes == (note,)


def test_a_refusal_of_wal_by_sqlite_is_noted() -> None:
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:  # cannot have a log either
        note = choose_journal(connection, Path(tempfile.gettempdir()) / "run.sqlite")
    assert note is not None
    assert "'memory'" in note


def test_the_longest_mount_point_decides(tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text("/dev/a / ext4 rw 0 0\nhost:/x /data nfs4 rw 0 0\ntmpfs /data/a\\040b tmpfs rw 0 0\n")
    places = {"/data/run": "nfs4", "/data/a b/run": "tmpfs", "/database": "ext4", "/": "ext4"}
    assert {place: file_system(Path(place), mounts) for place in places} == places
    assert file_system(tmp_path, tmp_path / "none") == ""
