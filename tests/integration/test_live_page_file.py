"""The single file while a run goes on: when it is written, by whom, and what happens when it cannot be."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from neural_plasticity import events as ev
from neural_plasticity.record import RecordWriter, Run, fan_out, open_run
from neural_plasticity.render.page import page_sink
from neural_plasticity.render.page.page_sink import EVERY_SECONDS, PageSink

START = ev.RunStarted(name="live", shape=(2, 3), config={})
STEP = ev.StepMetrics(step=1, metrics={"loss": 1.0})


class Writing:
    """Stands where `write_page` does: notes who wrote, and can be held up."""

    def __init__(self) -> None:
        self.by: list[str] = []
        self.began = threading.Event()
        self.go = threading.Event()
        self.go.set()
        self.problem: Exception | None = None

    def __call__(self, _run: Run, path: Path) -> Path:
        self.by.append(threading.current_thread().name)
        self.began.set()
        assert self.go.wait(20)
        if self.problem is not None:
            raise self.problem
        return path


@pytest.fixture
def writing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Writing:
    with RecordWriter.create(tmp_path) as writer:
        writer.append(START)
    made = Writing()
    monkeypatch.setattr(page_sink, "write_page", made)
    return made


def test_phases_and_minutes_are_written_behind_the_run_and_its_end_before_it_goes_on(
    tmp_path: Path, writing: Writing
) -> None:
    now = [0.0]
    sink = PageSink(tmp_path, clock=lambda: now[0])
    sink.handle(STEP)
    assert writing.by == []
    sink.handle(ev.PhaseEnded(phase="warmup"))
    sink.close()
    assert writing.by == ["page-writer"]
    sink.handle(STEP)
    now[0] = EVERY_SECONDS - 1
    sink.handle(STEP)
    assert len(writing.by) == 1
    now[0] = EVERY_SECONDS
    sink.handle(STEP)
    sink.close()
    assert writing.by == ["page-writer"] * 2
    sink.handle(ev.RunEnded(state="finished"))
    assert writing.by[2:] == [threading.current_thread().name]


def test_the_run_does_not_wait_for_a_page_and_none_is_forgotten(tmp_path: Path, writing: Writing) -> None:
    sink = PageSink(tmp_path, clock=lambda: 0.0)
    writing.go.clear()
    sink.handle(ev.PhaseEnded(phase="warmup"))
    sink.handle(ev.PhaseEnded(phase="analysis"))  # returns although the first page is not written yet
    assert writing.began.wait(20)
    assert len(writing.by) == 1
    writing.go.set()
    sink.close()
    sink.handle(STEP)  # the second page's turn
    sink.close()
    assert len(writing.by) == 2


def test_a_page_that_takes_long_is_written_less_often(tmp_path: Path, writing: Writing) -> None:
    now = [0.0]
    sink = PageSink(tmp_path, clock=lambda: now[0])
    writing.go.clear()
    sink.handle(ev.PhaseEnded(phase="warmup"))
    now[0] = 30.0
    writing.go.set()
    sink.close()
    now[0] = 30.0 + 599
    sink.handle(STEP)
    sink.close()
    assert len(writing.by) == 1
    now[0] = 30.0 + 601
    sink.handle(STEP)
    sink.close()
    assert len(writing.by) == 2


def test_a_page_that_cannot_be_written_is_said_and_tried_again(tmp_path: Path, writing: Writing) -> None:
    said: list[str] = []
    sink = PageSink(tmp_path, said.append)
    writing.problem = OSError("no room")
    sink.handle(ev.PhaseEnded(phase="warmup"))
    sink.close()
    sink.handle(STEP)
    assert said == ["the page could not be written and will be tried again: OSError: no room"]
    writing.problem = None
    sink.handle(ev.PhaseEnded(phase="analysis"))
    sink.close()
    sink.handle(ev.RunEnded(state="finished"))
    assert (len(writing.by), len(said)) == (3, 1)


def test_a_last_page_that_cannot_be_written_is_on_record(tmp_path: Path, writing: Writing) -> None:
    writing.problem = OSError("no room")
    events = [START, ev.PhaseEnded(phase="warmup"), STEP, ev.RunEnded(state="finished")]
    run_dir = tmp_path / "run"
    with RecordWriter.create(run_dir) as writer:
        for _ in fan_out(events, writer, [PageSink(run_dir)]):
            pass
    with open_run(run_dir) as run:
        assert [line.message for line in run.log()] == ["PageSink failed and was switched off: OSError: no room"]
        assert run.summary().state == "finished"
