"""Records as somebody might send them: a valid one, changed in its bytes, its rows, its JSON or its schema."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from hypothesis import strategies as st

from neural_plasticity import events as ev
from neural_plasticity.dashboard.demo_events import simulate
from neural_plasticity.heads import HeadId, HeadState
from neural_plasticity.record import RecordWriter, Run, open_run
from neural_plasticity.record.fork import fork_record
from neural_plasticity.render.console import ConsoleView
from neural_plasticity.render.page import render_page
from neural_plasticity.render.page.document import LIVE, document
from neural_plasticity.render.page.live.runs import entry_of
from neural_plasticity.render.page.live.updates import Place, reset, seen, update
from neural_plasticity.render.page.packing import pack
from neural_plasticity.trackers.rows import numbers
from neural_plasticity.views.comparison_run import digest
from tests.fuzz.law import holds
from tests.sample_run import SampleRun, write_events

NUMBERS = (0, 1, -1, 2, 5, 7.5, 2**31, 2**62, 2**63 - 1, -(2**63), 1e300, -1e300)
JSON_NUMBERS = (*NUMBERS, 10**400, float("nan"), float("inf"), {"$float": "nan"}, {"$float": "-inf"}, {"$float": "x"})
TEXTS = (
    "",
    "x",
    "</script>",
    "\x00",
    "\u202e",
    "é" * 50,
    "0.1",
    "1.5",
    "[1, 2",
    "finished",
    "9" * 5_000,
    "long " * 3_000,
)
ARRAYS = (
    {"$array": ["<f8", "[2, 3]", 0, 48]}, {"$array": ["<f8", "[1000000, 1000000]", 0, 0]}, {"$array": "00" * 16},
    {"$array": ["<f8", "[0, 1000000000000]", 0, 0]}, {"$array": ["|O", "[1]", 0, 8]},
    {"$array": ["<U9999999", "[0]", 0, 0]},
    {"$array": ["<f4", "[3]", 0, 12]}, {"$array": ["<M8[s]", "[]", 0, 8]}, {"$array": ["[('a', '<i2')]", "[4]", 0, 8]},
    {"$array": ["[" * 500, "[0]", 0, 0]}, {"$array": ["<f8", "[-1]", 0, 8]}, {"$array": ["<f8", "[true]", 0, 8]},
    {"$array": ["?", "[2, 3]", 0, 6]}, {"$array": None}, {"$array": ["<f8", "[2, 3]", -48, 48]},
    {"$scalar": ["<M8[s]", "[]", 0, 8]},
)  # fmt: skip
ODD_JSON = (
    None, True, False, [], {}, [[]], {"": 1}, [1, 2], [[0, 1]], [[0, -1]], [[4_000, 4_000]], [[10**9, 0]], [0.5],
    {"$tuple": [1]}, {"$set": [[]]}, {"$bytes": "!"}, {"$map": [[1, 2]]}, {"$map": 3}, {"$complex": [1]}, [None],
    {"comparison": 3}, {"baseline": [1]}, {"pruned": {"loss": "high"}}, {"x": {"y": {"z": []}}}, ["a", "b"],
)  # fmt: skip
DEEP = "[" * 5_000 + "]" * 5_000

COLUMNS = {
    "recorded": (
        "attempt", "cycle", "phase", "phase_step", "step", "time", "kind", "version", "layout", "payload", "data",
    ),
    "attempts": ("attempt", "first_seq", "kept_seq", "resumed_step", "started", "notes"),
    "layouts": ("id", "names"),
    "blobs": ("hash", "dtype", "shape", "codec", "data"),
    "meta": ("key", "value"),
}  # fmt: skip
SCHEMA = (
    "CREATE TRIGGER t AFTER INSERT ON recorded BEGIN DELETE FROM recorded; END",
    ("DROP VIEW metrics; CREATE VIEW metrics AS WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n)"
    " SELECT x AS seq, 1 AS attempt, 0 AS cycle, '' AS phase, 0 AS phase_step, x AS step, 0 AS time, 1 AS layout,"
    " zeroblob(8) AS data FROM n"),
    "ALTER TABLE recorded RENAME TO kept; CREATE VIEW recorded AS SELECT * FROM kept, kept AS k",
    "ALTER TABLE recorded ADD COLUMN extra INTEGER",
    "ALTER TABLE recorded ADD COLUMN made TEXT AS (printf('%.*c', 1000, 'x'))",
    "DROP TABLE attempts", "DROP TABLE blobs", "DELETE FROM attempts", "DELETE FROM layouts", "DELETE FROM recorded",
    "DROP INDEX events_by_kind", "CREATE TABLE theirs (x)", "PRAGMA application_id=1", "PRAGMA user_version=7",
    "CREATE INDEX theirs ON recorded (abs(step))", "CREATE VIEW theirs AS SELECT load_extension('x')",
    "INSERT INTO attempts VALUES (2, 5, 4, NULL, 1.0, '[]')", "INSERT INTO attempts VALUES (2, 1, 900, 3, 1.0, '[1]')",
    ("INSERT INTO recorded SELECT seq + 1000000, attempt, cycle, phase, phase_step, step, time, kind, version, layout,"
    " payload, data FROM recorded"),
    "UPDATE recorded SET seq = 9223372036854775807 WHERE seq = (SELECT max(seq) FROM recorded)",
    "UPDATE recorded SET seq = -5 WHERE seq = 3", "UPDATE recorded SET data = zeroblob(1000000) WHERE seq % 3 = 0",
    "UPDATE recorded SET step = -step", "UPDATE recorded SET time = 1e10 - time", "UPDATE recorded SET attempt = 9",
    "UPDATE recorded SET cycle = 1000000000", "UPDATE recorded SET kind = 'heads_pruned' WHERE layout IS NULL",
    "UPDATE blobs SET data = zeroblob(length(data))", "UPDATE blobs SET codec = 'steps'",
    "UPDATE blobs SET codec = 'zlib'",
    "UPDATE blobs SET shape = '[100000, 100000]'", "UPDATE blobs SET dtype = '<f2'", "UPDATE blobs SET data = x'78da'",
)  # fmt: skip


def _more(sample: SampleRun) -> list[ev.Event]:
    """Kinds of events that the sample lacks, so that every view has something to show."""
    rng = np.random.default_rng(1)
    grid = rng.random((2, 3))
    states = np.full((2, 3), HeadState.ACTIVE, np.int8)
    return [
        ev.HeadsGrown(step=30, cycle=2, phase="growth", heads=(HeadId(0, 3),), origin="added", score=grid, low=grid,
                      high=grid, reasons={"0.3": "new"}, loss_before=1.9, loss_after=1.8),
        ev.CycleJudged(step=31, cycle=2, log_ratio=0.1, log_ratio_low=0.0, log_ratio_high=0.2, budget=0.05,
                       inside=False, sparsity=0.2, perplexity=8.0, control_perplexity=7.0, sequences=9),
        ev.StateRestored(step=32, cycle=2, to_cycle=1, to_step=20, states=states, reason="too much"),
        ev.AttentionMaps(step=33, cycle=1, prompt="a b c", tokens=("a", "b", "c"), maps=rng.random((2, 3, 3, 3))),
        ev.AttentionMaps(step=33, cycle=2, prompt="a b c", tokens=("a", "b", "c"), maps=rng.random((2, 3, 3, 3))),
        ev.AttentionMaps(step=33, cycle=2, prompt="one", tokens=("a", "b"), heads=(HeadId(0, 1),),
                         maps=rng.random((1, 2, 2))),
        ev.AttentionMaps(step=33, cycle=2, prompt="long", tokens=tuple("x" * 40),
                         maps=np.tril(np.ones((2, 3, 40, 40)))),
        *(ev.Embedding(step=34, cycle=cycle, name="hidden states", vectors=rng.random((3, 4, 6)), labels=tuple("abcd"),
                       layers=(-1, 0, 1), groups=tuple("xxyy")) for cycle in (0, 1, 2)),
        ev.Embedding(step=34, name="words", vectors=rng.random((4, 5)), labels=tuple("abcd")),
        ev.LogLine(step=35, message="careful", level="warning"),
        ev.Annotation(step=35, tags=("a", "b"), note="said"),
    ]  # fmt: skip


@cache
def template(which: int = 0) -> bytes:
    """A whole record of a few kilobytes: 0 is a sample of everything; then several attempts, a run that is still going
    on, and a simulated experiment with growth."""
    with TemporaryDirectory() as folder:
        run_dir = Path(folder) / "run"
        sample = SampleRun(layers=2, heads=3, warmup_steps=8, tuning_steps=6)
        *events, end = sample.events()
        if which == 0:
            write_events(run_dir, [*events, *_more(sample), end])
        elif which == 1:
            write_events(run_dir, events[:50])
            for kept in (40, 30):
                with RecordWriter.reopen(run_dir, after_seq=kept, notes=("went on",)) as writer:
                    writer.append_many([events[0], *events[kept : kept + 25]])
        elif which == 2:
            write_events(run_dir, [*events[: len(events) // 2], *_more(sample)])
        else:
            write_events(run_dir, simulate(cycles=2, layers=2, heads=4, fine_tuning_steps=4))
        return (run_dir / "run.sqlite").read_bytes()


# Changes ---------------------------------------------------------------------------------------------------------

VALUES: st.SearchStrategy[Any] = st.one_of(
    st.sampled_from(NUMBERS), st.sampled_from(TEXTS), st.none(), st.binary(max_size=40),
    st.just(b"\xff" * 9_000), st.integers(-(2**63), 2**63 - 1), st.floats(), st.text(max_size=6),
)  # fmt: skip
LEAVES: st.SearchStrategy[Any] = st.one_of(
    st.sampled_from(JSON_NUMBERS), st.sampled_from(TEXTS), st.sampled_from(ARRAYS), st.sampled_from(ODD_JSON)
)
PLACE = st.integers(0, 10_000)


@dataclass(frozen=True)
class Bytes:
    """Bytes overwritten, at shares of the file; and where it ends."""

    at: Sequence[tuple[int, int]]
    length: int
    which: int = 0

    def apply(self, path: Path) -> None:
        data = bytearray(template(self.which))
        for place, value in self.at:
            data[place % len(data)] = value
        path.write_bytes(bytes(data[: len(data) * self.length // 10_000]))


@dataclass(frozen=True)
class Rows:
    """Changes inside SQLite, one after the other."""

    steps: Sequence[tuple[Any, ...]]
    which: int = 0

    def apply(self, path: Path) -> None:
        path.write_bytes(template(self.which))
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
            connection.executescript(
                "PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA ignore_check_constraints=ON"
            )
            for what, *arguments in self.steps:
                with contextlib.suppress(
                    sqlite3.Error, ValueError, OverflowError, RecursionError, TypeError
                ):  # a change that cannot be made
                    _CHANGES[what](connection, *arguments)


def _column(connection: sqlite3.Connection, which: int, row: int, value: Any) -> None:
    pairs = [(table, column) for table, columns in COLUMNS.items() for column in columns]
    table, column = pairs[which % len(pairs)]
    key = {"recorded": "seq", "blobs": "rowid", "meta": "key", "layouts": "id", "attempts": "attempt"}[table]
    keys = [one[0] for one in connection.execute(f"SELECT {key} FROM {table}")]
    if keys:
        connection.execute(f"UPDATE {table} SET {column} = ? WHERE {key} = ?", (value, keys[row % len(keys)]))


def _json(connection: sqlite3.Connection, row: int, node: int, leaf: Any, key: str | None) -> None:
    rows = connection.execute(
        "SELECT seq, payload FROM recorded WHERE payload IS NOT NULL AND kind <> 'progress'"
    ).fetchall()
    if not rows:
        return
    seq, payload = rows[row % len(rows)]
    plain = json.loads(payload)
    at_all = list(places(plain))
    if not at_all:
        return
    holder, at = at_all[node % len(at_all)]
    if key is None:
        holder[at] = leaf
    elif isinstance(holder, dict):
        holder[key] = holder.pop(at)
    else:
        holder.append(leaf)
    connection.execute("UPDATE recorded SET payload = ? WHERE seq = ?", (json.dumps(plain), seq))


def places(value: Any) -> Any:
    """Every place of a JSON value that something else can be put into."""
    if isinstance(value, dict | list):
        for key in list(value) if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from places(value[key])


def _deep(connection: sqlite3.Connection, row: int) -> None:
    connection.execute("UPDATE recorded SET payload = ? WHERE seq = ?", (f'{{"message": {DEEP}}}', 1 + row % 60))


_CHANGES: dict[str, Callable[..., None]] = {
    "column": _column,
    "json": _json,
    "deep": _deep,
    "schema": lambda connection, which: connection.executescript(SCHEMA[which]) and None,
}
KEYS = st.sampled_from((None, None, None, "score", "heads", "$array", "loss", "", "shape"))
STEPS = st.one_of(
    st.tuples(st.just("column"), PLACE, PLACE, VALUES),
    st.tuples(st.just("json"), PLACE, PLACE, LEAVES, KEYS),
    st.tuples(st.just("json"), PLACE, PLACE, LEAVES, KEYS),
    st.tuples(st.just("schema"), st.integers(0, len(SCHEMA) - 1)),
    st.tuples(st.just("deep"), PLACE),
)
WHICH = st.sampled_from((0, 0, 1, 2, 3))
ROWS = st.builds(Rows, st.lists(STEPS, min_size=1, max_size=4), WHICH)
BYTES = st.builds(
    Bytes,
    st.lists(st.tuples(st.integers(0, 2**20), st.integers(0, 255)), max_size=12),
    st.one_of(st.just(10_000), st.just(10_000), st.integers(0, 10_000)),
    WHICH,
)
CHANGED = st.one_of(ROWS, ROWS, BYTES)
USES = st.sampled_from(
    ("read", "document", "document", "document", "list", "follow", "write", "fork", "compare", "page")
)


# What people do with a record ------------------------------------------------------------------------------------


def use(how: str, directory: Path) -> None:
    """Open the record in ``directory`` and do with it what commands and the page do."""
    if how == "list":
        entry_of(directory.parent, directory.name)
    elif how == "write":
        with RecordWriter.reopen(directory) as writer:
            writer.append(ev.LogLine(message="on"))
    elif how == "fork":
        fork_record(directory, directory.with_name("copy"), 12)
    else:
        with open_run(directory) as run:
            _WAYS[how](run) if how in _WAYS else pack(document(run, [how], LIVE))


def _read(run: Run) -> None:
    run.summary()
    for name in run.metrics():
        run.series(name)
    list(run.records(attempt="all"))
    run.heads(), run.decisions(), run.log(), run.samples(), run.phases(), run.score_names()


def _follow(run: Run) -> None:
    console = ConsoleView()
    console.catch_up(run.events())
    place = Place()
    events = []
    for one in run.records(attempt="all"):
        place = place.after(one)
        events.append(seen(one))
        numbers(one.event)
    update(events, place, run.last_seq, 1e9, {}).as_event()
    reset(place, run.last_seq, 1e9).as_event()


_WAYS: dict[str, Callable[[Run], Any]] = {
    "read": _read,
    "document": lambda run: pack(document(run, budget=LIVE)),
    "page": render_page,
    "compare": lambda run: pack(digest(run, "a", 500)),
    "follow": _follow,
}


def one_record(change: Bytes | Rows, how: str) -> list[str]:
    """The law, for one changed record used in one way."""
    with TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        directory = Path(folder) / "run"
        directory.mkdir()
        change.apply(directory / "run.sqlite")
        with holds() as errors:
            use(how, directory)
    return errors
