"""The console on a terminal (a real one, through a pty) and where there is none."""

from __future__ import annotations

import fcntl
import io
import logging
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyte
import pytest
from rich.console import Console

from neural_plasticity import events as ev
from neural_plasticity.heads import HeadId
from neural_plasticity.render.console import ConsoleView
from neural_plasticity.render.quiet import routed
from tests.sample_run import SampleRun

ROOT = Path(__file__).parents[2]
COLOUR = re.compile(rb"\x1b\[[0-9;]*[34][0-9][0-9;]*m")
CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")

# A run in another process, with what libraries do in the middle of it.
CHILD = """
import logging, sys, time, warnings
sys.path.insert(0, {root!r})
from neural_plasticity.render.console import ConsoleView
from tests.sample_run import SampleRun
with ConsoleView() as view:
    for number, event in enumerate(SampleRun(warmup_steps=30, tuning_steps=20).events()):
        view.handle(event)
        if number == 40:
            for _ in range(3):
                warnings.warn("library [warning]")
                logging.getLogger("transformers").warning("library %s", "record")
            print("a bare print")
        if number % 10 == 0:
            time.sleep(0.15)
        if number == {stop}:
            raise KeyboardInterrupt
"""


def plain_output(events: list[ev.Event], step: float = 0.0, encoding: str = "utf-8") -> str:
    """What a file gets; every event takes ``step`` seconds of the view's clock."""
    raw = io.BytesIO()
    now = iter(step * number for number in range(1_000_000))
    console = Console(file=io.TextIOWrapper(raw, encoding=encoding, write_through=True))
    with ConsoleView(console, clock=lambda: next(now)) as view:
        for event in events:
            view.handle(event)
    return raw.getvalue().decode(encoding)


def test_a_file_gets_plain_lines_without_control_characters() -> None:
    text = plain_output(list(SampleRun().events()))
    assert not CONTROL.search(text)
    lines = text.splitlines()
    assert any(
        line.endswith("cycle 1 · pruned L0H6: gradient 0.0001, rank 1 of 48, up to threshold 0.0053") for line in lines
    )
    assert "[bold red]</script>" in text
    assert all(re.match(r"\[\d+:\d\d\] ", line) for line in lines[:20])


def test_the_closing_summary_can_be_pasted() -> None:
    summary = plain_output(list(SampleRun().events())).split("run finished\n", 1)[1]
    for said in (
        "sample-run finished after", "Simulated:", "1.874 (1.831–1.918)",
        "No measurable difference in loss to the baseline",
        "Measurably worse: higher loss than the equally trained control", "Heads removed (12 of 48, 25.0 %): L0H4",
        "Fine-tuning, cycle 2:", "decode 1.01× (no measurable difference)",
        "speed: medians of the repeats, as change the median ratio of paired ones",
    ):  # fmt: skip
        assert said in summary, said
    assert "The figures are those" not in summary


@pytest.mark.parametrize(("cycle", "when"), [(0, "before any pruning"), (1, "after cycle 1")])
def test_figures_of_another_state_than_the_heads_say_of_which(cycle: int, when: str) -> None:
    """A run that was stopped between a pruning and its evaluation has the figures of the evaluation before."""
    *events, _ = SampleRun().events()
    evaluated = [replace(event, cycle=cycle) if isinstance(event, ev.Evaluation) else event for event in events]
    pruned = ev.HeadsPruned(heads=(HeadId(0, 0),), strategy="gradient", cycle=cycle + 1)
    nothing, restored = (
        replace(pruned, heads=()),
        ev.StateRestored(to_cycle=0, to_step=0, states=np.ones((6, 8), np.int8)),
    )
    for later, said in ((nothing, False), (pruned, True), (restored, True)):
        text = plain_output([*evaluated, later, ev.RunEnded(state="stopped")])
        assert (f"The figures are those {when}; heads have come or gone since" in text) is said


def test_the_summary_names_the_files() -> None:
    console = Console(file=io.StringIO())
    view = ConsoleView(console)
    view.handle(ev.RunStarted(name="r", shape=(1, 1), config={}))
    view.note_files(record=Path("out/run.sqlite"))
    view.close()
    view.close()  # once is enough, twice is harmless
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert text.count("record: out/run.sqlite") == 1
    assert "was interrupted" in text
    assert "Not evaluated" in text


def test_a_resumed_run_keeps_its_pruned_heads() -> None:
    console = Console(file=io.StringIO())
    with ConsoleView(console) as view:
        history = [event for event in SampleRun().events() if not isinstance(event, ev.RunEnded)]
        view.catch_up(history)
        assert console.file.getvalue() == ""  # type: ignore[attr-defined]
        view.handle(history[0])  # the new attempt says again what it is
        view.handle(ev.RunEnded(state="finished"))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "Heads removed (12 of 48, 25.0 %)" in text


def test_the_reason_of_a_warm_up_is_given_once() -> None:
    text = plain_output(list(SampleRun().events()))
    assert text.count("slope inside the tolerance") == 1
    assert "warm-up done in 1 min 33 s (stable)" in text


def test_progress_lines_keep_their_distance() -> None:
    progress = [ev.Progress(phase="warmup", done=i, planned=1000, run_fraction=i / 1000) for i in range(1000)]
    started = ev.PhaseStarted(phase="warmup")
    at_once = plain_output([started, *progress], step=0.0)
    assert at_once.count("time left unknown") == 1
    slow = plain_output([started, *progress], step=0.01)  # about ten seconds in all
    assert 2 <= slow.count("time left unknown") <= 5


def test_a_phase_shows_progress_at_once() -> None:
    events: list[ev.Event] = []
    for phase in ("warmup", "fine-tuning"):
        events += [ev.PhaseStarted(phase=phase), ev.Progress(phase=phase, done=0, planned=9, run_fraction=0.0)]
    assert plain_output(events).count("0/9 steps") == 2


def test_an_encoding_without_these_characters_gets_ascii() -> None:
    text = plain_output(list(SampleRun().events()), encoding="ascii")
    assert "cycle 1 | pruned L0H6" in text
    assert "6 layers x 8 heads" in text


@pytest.mark.parametrize("settings", [{"TERM": "dumb"}, {"NO_COLOR": "1", "TERM": "xterm-256color"}])
def test_terminal_settings_are_respected(settings: dict[str, str]) -> None:
    raw = on_terminal(settings)
    assert not COLOUR.search(raw)
    assert b"run finished" in raw
    if settings["TERM"] == "dumb":
        assert b"\x1b" not in raw


def on_terminal(settings: dict[str, str], size: tuple[int, int] = (80, 30), stop: int = -1) -> bytes:
    """Everything that the child writes to a terminal of (columns, lines)."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", size[1], size[0], 0, 0))
    kept = {name: value for name, value in os.environ.items() if name not in {"NO_COLOR", "COLUMNS", "LINES", "TERM"}}
    child = subprocess.Popen(
        [sys.executable, "-W", "always", "-c", CHILD.format(root=str(ROOT), stop=stop)],
        stdin=theirs, stdout=theirs, stderr=theirs, env={**kept, "PYTHONUTF8": "1", **settings}, close_fds=True,
    )  # fmt: skip
    os.close(theirs)
    written = b""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        ready, _, _ = select.select([ours], [], [], 0.5)
        if not ready and child.poll() is not None:
            break
        try:
            chunk = os.read(ours, 65536) if ready else b""
        except OSError:  # the other end is closed
            break
        written += chunk
    os.close(ours)
    child.wait(timeout=30)
    return written


def screen_of(written: bytes, size: tuple[int, int]) -> list[str]:
    """The scroll-back and the screen, as a terminal ends up with them."""
    screen = pyte.HistoryScreen(size[0], size[1], history=5000, ratio=0.5)
    pyte.ByteStream(screen).feed(written)
    above = ["".join(line[column].data for column in range(size[0])).rstrip() for line in screen.history.top]
    return above + [line.rstrip() for line in screen.display]


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
def test_a_terminal_gets_a_live_region_that_leaves_no_trace(size: tuple[int, int]) -> None:
    written = on_terminal({"TERM": "xterm-256color"}, size)
    assert b"\x1b[?25l" in written  # hidden while live,
    assert written.rfind(b"\x1b[?25h") > written.rfind(b"\x1b[?25l")  # and back at the end
    assert "validation loss" in written.decode()  # the region was drawn,
    assert COLOUR.search(written)  # in colour
    rows = screen_of(written, size)
    text = "\n".join(rows)
    assert "validation loss" not in text  # and is gone
    assert "run finished" in text
    assert "Heads removed (" in text
    flowing = re.sub(r"\s+", " ", text)
    # What libraries wrote came out whole, above the region, each line once.
    assert flowing.count("warning: UserWarning: library [warning]") == 1
    assert flowing.count("warning: transformers: library record") == 1
    assert "a bare print" in [row.strip() for row in rows]
    assert "4 repeated warnings not shown again" in flowing
    assert "Traceback" not in text


def test_an_interrupted_run_gives_the_terminal_back() -> None:
    written = on_terminal({"TERM": "xterm-256color"}, stop=60)
    assert written.rfind(b"\x1b[?25h") > written.rfind(b"\x1b[?25l")
    rows = screen_of(written, (80, 30))
    assert any("was interrupted" in row for row in rows)


def test_warnings_and_logging_are_given_back() -> None:
    root, library = logging.getLogger(), logging.getLogger("transformers")
    before = (warnings.showwarning, list(root.handlers), list(library.handlers), library.propagate, dict(os.environ))
    got: list[str] = []

    def emit(line: ev.LogLine) -> None:
        got.append(f"{line.level} {line.message}")

    def a_run_that_fails() -> None:
        with routed(emit):
            warnings.showwarning("old", DeprecationWarning, "file.py", 1)
            for _ in range(2):
                logging.getLogger("some.library").error("it %s", "broke")
            logging.getLogger("some.library").info("not worth a line")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        a_run_that_fails()
    assert got == ["warning DeprecationWarning: old", "error some.library: it broke"]
    assert before == (
        warnings.showwarning, list(root.handlers), list(library.handlers), library.propagate, dict(os.environ)
    )  # fmt: skip


def test_log_files_of_the_user_keep_getting_their_records(tmp_path: Path) -> None:
    handler = logging.FileHandler(tmp_path / "my.log")
    logging.getLogger().addHandler(handler)
    try:
        got: list[ev.LogLine] = []
        with routed(got.append):
            logging.getLogger("mine").warning("kept")
        assert [line.message for line in got] == ["mine: kept"]
    finally:
        logging.getLogger().removeHandler(handler)
        handler.close()
    assert (tmp_path / "my.log").read_text() == "kept\n"
