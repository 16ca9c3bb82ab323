"""The demo: a simulated experiment played through the console, recorded, and every view made of the record."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path

import tyro

from neural_plasticity.dashboard.demo_events import simulate
from neural_plasticity.dashboard.demo_figures import Draughtsmen
from neural_plasticity.dashboard.demo_options import Demo
from neural_plasticity.errors import ConfigError, InputError
from neural_plasticity.events import Event, LogLine, RunEnded, RunState
from neural_plasticity.record import RecordWriter, open_run
from neural_plasticity.record.sinks import fan_out
from neural_plasticity.render.browser import open_in_browser
from neural_plasticity.render.console import ConsoleView
from neural_plasticity.render.page import PAGE_NAME, write_page

INTERRUPTED = 130  # exit code

__all__ = ["Demo", "main", "play", "simulate"]


def main(argv: Sequence[str] | None = None) -> int:
    """The demo's command line; returns the exit code: 0 done, 2 bad input (said in one line), 130 interrupted."""
    try:
        return play(parse(sys.argv[1:] if argv is None else argv))
    except InputError as error:
        print(f"dashboard_demo: {error}", file=sys.stderr)  # noqa: T201 a command talks to the shell
        return 2
    except KeyboardInterrupt:
        return INTERRUPTED


def parse(arguments: Sequence[str]) -> Demo:
    """The options that ``arguments`` give; tyro prints help and its own errors, and exits with 0 or 2."""
    return tyro.cli(
        Demo,
        prog="dashboard_demo",
        args=list(arguments),
        use_underscores=True,
        config=(tyro.conf.FlagCreatePairsOff, tyro.conf.DisallowNone),
    )


def play(demo: Demo) -> int:
    """Play the experiment, write everything, open the page; returns the exit code.

    Raises:
        InputError: an option cannot be, or the directory cannot be written or holds a run.
    """
    began = time.perf_counter()
    if not 0 <= demo.pace <= 3600:
        raise ConfigError(f"--pace {demo.pace:g}: expected seconds from 0 to 3600.")
    mode = _wandb_mode() if demo.online else None
    simulated = simulate(demo.seed, demo.cycles, level=demo.pruning_level, strategy=demo.pruning_strategy)
    run_dir = demo.output_dir or Path("output") / f"demo_{datetime.now():%Y%m%d-%H%M%S}"
    state: RunState = "running"
    with RecordWriter.create(run_dir) as record, Draughtsmen() as draughtsmen, ConsoleView() as console:
        console.note_files(record=record.path)
        for note in record.notes:
            console.handle(LogLine(message=note, level="warning"))
        events = list(simulated)
        for event in fan_out(_paced(events, demo.pace), record, [console]):
            if isinstance(event, RunEnded):
                state = event.state
                _write_views(run_dir, console, draughtsmen)
    if mode is not None:
        _publish(run_dir, mode)
    opened = not demo.no_browser and open_in_browser(run_dir / PAGE_NAME)
    where = "the page is open in the browser" if opened else f"open {run_dir / PAGE_NAME} in a browser"
    _say(f"Everything written in {time.perf_counter() - began:.1f} s; {where}.")
    return 0 if state == "finished" else INTERRUPTED


def _paced(events: Sequence[Event], seconds: float) -> Iterator[Event]:
    """``events``, spread evenly over ``seconds``; Ctrl-C ends them with a run that was stopped."""
    began = time.monotonic()
    last = Event()
    try:
        for number, last in enumerate(events):
            early = began + seconds * number / len(events) - time.monotonic()
            if early > 0:
                time.sleep(early)
            yield last
    except KeyboardInterrupt:
        yield RunEnded(
            state="stopped", reason="interrupted", step=last.step, phase=last.phase, cycle=last.cycle,
            phase_step=last.phase_step,
        )  # fmt: skip


def _write_views(run_dir: Path, console: ConsoleView, draughtsmen: Draughtsmen) -> None:
    """The page and the figures, from the record; the closing summary then names them."""
    with open_run(run_dir) as run:
        console.note_files(page=write_page(run, run_dir / PAGE_NAME))
    console.note_files(figures=_listed(draughtsmen.save_figures(run_dir), run_dir))


def _listed(paths: Iterable[Path], run_dir: Path) -> str:
    """``RUN_DIR (2 PNG files: complete_process.png, …)``."""
    names = sorted(path.name for path in paths)
    return f"{run_dir} ({len(names)} PNG files: {', '.join(names)})"


def _wandb_mode() -> str:
    """Online, unless ``WANDB_MODE`` says otherwise."""
    from neural_plasticity.trackers import chosen_mode

    return chosen_mode(None if os.environ.get("WANDB_MODE") else "online")


def _publish(run_dir: Path, mode: str) -> None:
    """Send the record to Weights & Biases; where that cannot be done, say what is missing."""
    from neural_plasticity.trackers import TrackedRun, sync, wandb_installed

    if mode == "disabled":
        _say("Weights & Biases: WANDB_MODE is disabled, so nothing was sent.")
        return
    if not wandb_installed():
        _say('Weights & Biases: not installed, so nothing was sent: pip install "neural-plasticity[wandb]"')
        return
    try:
        sync(run_dir, "wandb", tracked=TrackedRun(run_dir, mode=mode, tags=("demo", "simulated")), say=_say)
    except Exception as error:  # whatever a tracker does, everything else has been done
        _say(f"Weights & Biases: {type(error).__name__}: {error}")


def _say(line: str, _level: str = "info") -> None:
    print(line, flush=True)  # noqa: T201 a command talks to the shell


if __name__ == "__main__":
    sys.exit(main())
