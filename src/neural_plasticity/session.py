"""One recorded run from start to finish: experiment, record, console and page together. The cli's ``run`` command."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import webbrowser
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from neural_plasticity.config import RunConfig, from_json
from neural_plasticity.errors import RecordError, TrainingError
from neural_plasticity.events import Event, PhaseEnded, RunEnded, RunState
from neural_plasticity.record import RecordWriter, open_run
from neural_plasticity.record.sinks import Sink, fan_out
from neural_plasticity.render.console import ConsoleView
from neural_plasticity.render.page import write_page

if TYPE_CHECKING:
    from neural_plasticity.experiment import Experiment

CHECKPOINTS = "checkpoints"
PAGE = "dashboard.html"


class PageSink:
    """Rewrites the run's page at the end of every phase and of the run."""

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir

    def handle(self, event: Event) -> None:
        if isinstance(event, PhaseEnded | RunEnded):
            write_page(open_run(self.run_dir), self.run_dir / PAGE)

    def close(self) -> None:
        """The page is complete after every write."""


def start_run(config: RunConfig, run_dir: Path) -> int:
    """Run ``config`` on record in ``run_dir``; returns the exit code.

    Raises:
        InputError: something given cannot be used; nothing slow has started and no record was made.
    """
    RecordWriter.check(run_dir)
    with ConsoleView() as console:
        experiment = _open(config, console)
        with RecordWriter.create(run_dir) as record:
            return _play(experiment, record, console, run_dir, stages_done=0)


def resume_run(run_dir: Path) -> int:
    """Go on with the run in ``run_dir`` after its last finished phase, as a new attempt; returns the exit code.

    Raises:
        InputError: there is no run, or it has finished.
    """
    from neural_plasticity.experiment import checkpoints

    run = open_run(run_dir)
    if run.summary()["state"] == "finished":
        raise RecordError(f"--resume {run_dir}: this run has finished; start a new one in another directory.")
    config = from_json(run.config)
    with ConsoleView() as console:
        experiment = _open(config, console)
        position = checkpoints.restore(experiment, run_dir / CHECKPOINTS)
        stages_done, last_seq = position or (0, 0)
        with RecordWriter.reopen(run_dir, after_seq=last_seq) as record:
            return _play(experiment, record, console, run_dir, stages_done)


def _open(config: RunConfig, console: ConsoleView) -> Experiment:
    with console.status(f"opening {config.model_name} and {config.dataset}"):
        from neural_plasticity.experiment import open_experiment  # imports torch

        return open_experiment(config)


def _play(x: Experiment, record: RecordWriter, console: ConsoleView, run_dir: Path, stages_done: int) -> int:
    from neural_plasticity.experiment import checkpoints, play

    sinks: list[Sink] = [console]
    if x.config.use_dashboard:
        sinks.append(PageSink(run_dir))
    last = Event()
    ending: RunEnded | None = None
    events = fan_out(play(x, stages_done), record, sinks)
    with _interruptible():
        try:
            for event in events:
                last = event
                if isinstance(event, PhaseEnded):
                    stages_done += 1
                    checkpoints.save(x, run_dir / CHECKPOINTS, checkpoints.Position(stages_done, record.last_seq))
        except KeyboardInterrupt:
            ending = _ended(last, "stopped", f"interrupted; go on with: plasticity run --resume {run_dir}")
        except TrainingError as error:
            ending = _ended(last, "failed", str(error))
        except Exception as error:
            ending = _ended(last, "failed", f"{type(error).__name__}: {error}")
            raise
        finally:
            if ending is not None:
                record.append(ending)
                for sink in sinks:
                    sink.handle(ending)
    if x.config.use_dashboard and not x.config.no_browser:
        _open_browser(run_dir / PAGE)
    if ending is None:
        return 0
    return 130 if ending.state == "stopped" else 2


def _ended(last: Event, state: RunState, reason: str) -> RunEnded:
    return RunEnded(
        state=state, reason=reason, step=last.step, phase=last.phase, cycle=last.cycle, phase_step=last.phase_step
    )


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """A request to terminate (a batch system's time limit) ends the run as Ctrl-C does: recorded and resumable."""

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    try:
        previous = signal.signal(signal.SIGTERM, interrupt)
    except ValueError:  # not the main thread: signals are somebody else's
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def _open_browser(page: Path) -> None:
    """Open the page where there is a person with a browser; a missing one is no error."""
    has_display = sys.platform in ("darwin", "win32") or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if has_display and sys.stdout.isatty():
        with contextlib.suppress(webbrowser.Error):
            webbrowser.open(page.resolve().as_uri())
