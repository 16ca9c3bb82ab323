"""Damaged records: whichever byte changes, wherever the file ends, what can be read is saved, and the rest is said."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neural_plasticity.cli import main
from neural_plasticity.errors import RecordError
from neural_plasticity.events import AttentionMaps, Event, HeadScores, LogLine, PhaseStarted, RunStarted, StepMetrics
from neural_plasticity.record import RecordWriter, open_run
from neural_plasticity.record.pages import log_is_damaged
from neural_plasticity.record.recovery import recover
from tests.faults.killing import digest

EVENTS = 240
# Rows on one page of 1 KB at the most: what one damaged byte may cost. The smallest event here takes 60 bytes.
PER_PAGE = 16


def event(number: int) -> Event:
    if number == 1:
        return RunStarted(name="damaged", shape=(12, 12), config={"note": "x" * 3000})  # on pages of its own
    if number % 60 == 0:
        return PhaseStarted(step=number, phase="warmup")
    if number % 45 == 0:
        maps = np.random.default_rng(number).random((2, 2, 40, 40))
        return AttentionMaps(step=number, prompt=str(number), tokens=(), maps=maps)
    if number % 7 == 0:
        return HeadScores(step=number, scores={"entropy": np.full((12, 12), number / 7)})
    return StepMetrics(step=number, phase="warmup", metrics={"loss": number / 3, "rare": float("nan")})


def write(directory: Path) -> RecordWriter:
    """A record of two attempts; its writer, which has not closed it."""
    with RecordWriter.create(directory) as writer:
        for number in range(1, EVENTS // 2):
            writer.append(event(number))
    writer = RecordWriter.reopen(directory)
    for number in range(EVENTS // 2, EVENTS + 1):
        writer.append(event(number))
    return writer


def held(directory: Path) -> dict[int, str]:
    with open_run(directory) as run:
        return {one.seq: digest(one.event) for one in run.records(attempt="all")}


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A record that was closed, and one whose process was killed: half of it lies in its log."""
    directory = tmp_path_factory.mktemp("records")
    writer = write(directory / "open")
    shutil.copytree(directory / "open", directory / "killed")
    writer.close()
    (directory / "open").rename(directory / "closed")
    (directory / "killed" / "run.sqlite-shm").unlink()
    return {name: directory / name for name in ("closed", "killed")}


@pytest.fixture(scope="module")
def whole(sources: dict[str, Path]) -> dict[int, str]:
    found = held(sources["closed"])
    assert len(found) == EVENTS
    return found


@contextlib.contextmanager
def damaged(source: Path, name: str, content: bytes) -> Iterator[tuple[Path, Path]]:
    """A copy of ``source`` whose file ``name`` has this content, and a place for what is recovered."""
    place = source.parent / "case"
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(source, place / "damaged")
    (place / "damaged" / name).write_bytes(content)
    yield place / "damaged", place / "recovered"
    shutil.rmtree(place)


@pytest.mark.parametrize("kind", ["closed", "killed"])
def test_an_intact_record_comes_back_whole(
    kind: str, sources: dict[str, Path], whole: dict[int, str], tmp_path: Path
) -> None:
    before = {path.name: path.read_bytes() for path in sources[kind].iterdir()}
    found = recover(sources[kind], tmp_path / "recovered")
    assert (found.events, found.missing) == (EVENTS, ())
    assert found.notes == (f"Recovered from {sources[kind]}, where no damage was found: {EVENTS} events.",)
    assert held(tmp_path / "recovered") == whole
    assert {path.name: path.read_bytes() for path in sources[kind].iterdir()} == before
    with open_run(tmp_path / "recovered") as run:
        assert [(one.first_seq, one.kept_seq) for one in run.attempts] == [(1, 0), (120, 119)]
        assert run._query("PRAGMA integrity_check") == [("ok",)]


@pytest.mark.parametrize(("kind", "name"), [("closed", "run.sqlite"), ("killed", "run.sqlite-wal")])
@settings(max_examples=20)
@given(where=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255))
def test_one_changed_byte_costs_no_more_than_its_page(
    kind: str, name: str, sources: dict[str, Path], whole: dict[int, str], where: float, flip: int
) -> None:
    content = bytearray((sources[kind] / name).read_bytes())
    content[int(where * len(content))] ^= flip
    with damaged(sources[kind], name, bytes(content)) as (place, target):
        found = recover(place, target)
        after = held(target)
        assert set(after) <= set(whole)
        assert sum(after.get(seq) != whole[seq] for seq in whole) <= PER_PAGE
        assert {seq for low, high in found.missing for seq in range(low, high + 1)} == {
            seq for seq in whole if seq not in after and seq < max(after)
        }
        with open_run(target) as run:
            assert any("Recovered from " in note for note in run.summary().notes)


@pytest.mark.parametrize(("kind", "name"), [("closed", "run.sqlite"), ("killed", "run.sqlite-wal")])
@settings(max_examples=10)
@given(left=st.floats(0, 1, exclude_max=True))
def test_a_file_that_ends_early_gives_what_lies_before(
    kind: str, name: str, sources: dict[str, Path], whole: dict[int, str], left: float
) -> None:
    content = (sources[kind] / name).read_bytes()
    with damaged(sources[kind], name, content[: int(left * len(content))]) as (place, target):
        if kind == "closed" and left * len(content) < 32_768:  # the tables' own pages, and what the first event says
            with contextlib.suppress(RecordError):
                recover(place, target)
            return
        recover(place, target)
        after = held(target)
        assert all(whole[seq] == content for seq, content in after.items())
        # A row of a full page that is there whole is there: nearly half of the pages hold nearly half of the events.
        assert len(after) >= left * EVENTS * 0.5 - PER_PAGE


@pytest.mark.parametrize(
    ("kept", "says"),
    [
        (
            (210, 230),
            "No checkpoint is from before that, so that --resume cannot go on with it; start a new run.",
        ),
        ((9, 230), "--resume goes on from the checkpoint after event 9."),
        ((5, 9), None),
        ((), None),
    ],
)
def test_a_lost_end_is_said(sources: dict[str, Path], tmp_path: Path, kept: tuple[int, ...], says: str | None) -> None:
    """Nothing after it is there to show that it is missing; the file's own header and checkpoints can."""
    shutil.copytree(sources["closed"], tmp_path / "cut")
    record = tmp_path / "cut" / "run.sqlite"
    whole = record.read_bytes()
    record.write_bytes(whole[: len(whole) * 2 // 3])
    (tmp_path / "cut" / "checkpoints").mkdir()
    for number in kept:
        (tmp_path / "cut" / "checkpoints" / f"event-{number:010d}.safetensors").touch()
    found = recover(tmp_path / "cut")
    last = max(held(tmp_path / "cut-recovered"))
    assert last < 210
    assert f"Its file ends early: {len(whole) * 2 // 3:,} of {len(whole):,} bytes are there." in found.notes
    expected = f"Events after {last} are lost: a checkpoint was written after event 230. {says}"
    assert [note for note in found.notes if note.startswith("Events after")] == ([expected] if says else [])
    with open_run(tmp_path / "cut-recovered") as run:
        assert set(found.notes) <= set(run.notes)


def test_the_record_is_named_in_any_way(
    sources: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(sources["closed"], tmp_path / "named")
    monkeypatch.chdir(tmp_path / "named")
    for word in (".", "run.sqlite", "../named"):
        assert main(["recover", word]) == 0
        assert capsys.readouterr().out.splitlines()[-1] == str(tmp_path / "named-recovered")
        shutil.rmtree(tmp_path / "named-recovered")
    (tmp_path / "named" / "t.txt").write_text("text\n" * 200)
    for word, says in (("nope", "nope: expected a run directory"), ("t.txt", "t.txt: nothing of it can be read")):
        assert main(["recover", word]) == 2
        assert says in capsys.readouterr().err


def test_names_of_metrics_that_are_lost_do_not_cost_their_values(sources: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(sources["closed"], tmp_path / "damaged")
    with contextlib.closing(sqlite3.connect(tmp_path / "damaged" / "run.sqlite")) as connection:
        connection.execute("DELETE FROM layouts")
        connection.execute("DELETE FROM attempts")
        connection.commit()
    found = recover(tmp_path / "damaged", tmp_path / "recovered")
    assert found.events == EVENTS
    assert "Where attempt 2 went on is lost" in str(found)
    with open_run(tmp_path / "recovered") as run:
        steps, values = run.series("lost name 1.0")
        assert values.tolist() == [step / 3 for step in steps.tolist()]


def test_the_command_says_what_is_missing_and_the_run_goes_on(
    sources: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "damaged"
    shutil.copytree(sources["closed"], source)
    (source / "checkpoints").mkdir()
    (source / "checkpoints" / "last").write_text("state")
    content = bytearray((source / "run.sqlite").read_bytes())
    for start in range(40 * 1024, 60 * 1024, 1024):  # twenty pages, their kinds and counts and pointers
        content[start : start + 64] = bytes(64)
    (source / "run.sqlite").write_bytes(bytes(content))
    assert main(["export", str(source)]) == 2
    assert f"plasticity recover {source}" in capsys.readouterr().err

    assert main(["recover", str(source)]) == 0
    said = capsys.readouterr().out
    assert "events recovered" in said
    assert "Missing: " in said
    assert (tmp_path / "damaged-recovered" / "checkpoints" / "last").read_text() == "state"
    assert main(["export", str(tmp_path / "damaged-recovered")]) == 0
    with RecordWriter.reopen(tmp_path / "damaged-recovered") as writer:
        assert writer.append(LogLine(message="on")) == EVENTS + 1

    capsys.readouterr()
    assert main(["recover", str(source)]) == 2
    assert "already exists" in capsys.readouterr().err


def test_a_log_damaged_in_the_middle_is_not_passed_over_in_silence(sources: dict[str, Path], tmp_path: Path) -> None:
    """SQLite ignores the damaged place and all after it; to go on from there would make the loss final."""
    source = tmp_path / "damaged"
    shutil.copytree(sources["killed"], source)
    assert not log_is_damaged(source / "run.sqlite")
    log = source / "run.sqlite-wal"
    content = bytearray(log.read_bytes())
    content[len(content) // 2] ^= 1
    log.write_bytes(bytes(content))
    assert log_is_damaged(source / "run.sqlite")
    with open_run(source) as run:
        assert run.last_seq < EVENTS
        assert any("plasticity recover" in note for note in run.notes)
    with pytest.raises(RecordError, match="plasticity recover"):
        RecordWriter.reopen(source)
    assert log.read_bytes() == bytes(content)
    assert recover(source, tmp_path / "recovered").events >= EVENTS - PER_PAGE


def test_what_cannot_be_recovered_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "run.sqlite").write_bytes(b"nothing of the kind " * 500)
    for source, says in ((tmp_path, "nothing of it can be read"), (tmp_path / "none", "found none")):
        with pytest.raises(RecordError, match=says) as caught:
            recover(source, tmp_path / "recovered")
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "recovered").exists()
