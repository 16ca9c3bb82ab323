"""One recorded run from start to finish: experiment, record, console and page together. The cli's ``run`` command."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

from neural_plasticity.company import accompany
from neural_plasticity.config import VIEWS, RunConfig, from_json
from neural_plasticity.errors import ConfigError, CorpusError, InputError, ModelError, RecordError
from neural_plasticity.events import Annotation, Event, LogLine, RunEnded, RunStarted
from neural_plasticity.keeping import CHECKPOINTS, Interrupts, Keeper, stopped, to_an_end
from neural_plasticity.launch import is_main, launched
from neural_plasticity.record import RecordWriter, open_run
from neural_plasticity.record.fork import fork_record
from neural_plasticity.record.lock import DirectoryLock
from neural_plasticity.record.recap import recap
from neural_plasticity.record.schema import FILE_NAME, record_path
from neural_plasticity.record.sinks import Sink, fan_out
from neural_plasticity.render.browser import open_in_browser
from neural_plasticity.render.console import ConsoleView
from neural_plasticity.render.page import PAGE_NAME
from neural_plasticity.render.page.live.process import ServerProcess
from neural_plasticity.render.page.live.server import check_installed
from neural_plasticity.render.page.page_sink import PageSink

if TYPE_CHECKING:
    from neural_plasticity.experiment import Experiment

    Player = Callable[[Experiment, int], Iterator[Event]]  # plays an experiment, without the stages that are done


class LivePage:
    """The live page that ``--use_dashboard`` asks for: served by a process of its own, opened, and its address said.

    Where it cannot be had, a line says why, and the run goes on: the single file is written all the same.
    """

    def __init__(self, config: RunConfig, run_dir: Path, console: ConsoleView) -> None:
        self.opened = False
        self._config = config
        self._console = console
        self._server: ServerProcess | None = None
        if config.use_dashboard:
            try:
                check_installed()
                self._server = ServerProcess(run_dir, self._ready, self._failed)
            except (InputError, OSError) as error:
                self._failed(str(error))

    def _ready(self, url: str) -> None:
        self._console.handle(LogLine(message=f"live page: {url}"))
        if not self._config.no_browser:
            self.opened = open_in_browser(url)

    def _failed(self, why: str) -> None:
        self._console.handle(LogLine(message=f"no live page, {PAGE_NAME} instead: {why}", level="warning"))

    def close(self) -> None:
        """The server may leave, once those who watch have seen the end."""
        if self._server is not None:
            self._server.close()

    def __enter__(self) -> LivePage:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class ClosingSink:
    """Says what is still to be made when the run has ended, which takes a while."""

    def __init__(self, makes: str, say: Callable[[str], object]) -> None:
        self._makes = makes
        self._say = say

    def handle(self, event: Event) -> None:
        if isinstance(event, RunEnded):
            self._say(f"{self._makes} …")

    def close(self) -> None:
        """It was said once."""


class FiguresSink:
    """Draws the PNG figures when the run has ended, however it did."""

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir

    def handle(self, event: Event) -> None:
        if isinstance(event, RunEnded):
            from neural_plasticity.render.figures import save_figures  # imports Matplotlib, which takes a while

            with open_run(self.run_dir) as run:
                save_figures(run, self.run_dir)

    def close(self) -> None:
        """The figures are drawn once."""


def start_run(config: RunConfig, run_dir: Path, player: Player | None = None) -> int:
    """Run ``config`` on record in ``run_dir``; returns the exit code. ``player``: the whole plan, where none is given.

    Raises:
        InputError: something given cannot be used; nothing slow has started and no record was made.
    """
    if not is_main():
        return accompany(config)
    _check_temporary()
    if names := config.trackers(os.environ):
        from neural_plasticity.trackers import check_names

        check_names(names)
    # The record comes first, so that a directory that cannot be written is known before the model is loaded.
    with RecordWriter.create(run_dir) as record, ConsoleView() as console, LivePage(config, run_dir, console) as page:
        try:
            experiment = _open(config, console)
        except BaseException:
            page.close()
            record.discard()
            raise
        from neural_plasticity.experiment import checkpoints

        checkpoints.set_aside(run_dir / CHECKPOINTS, None)  # of a run whose record is gone
        return _play(experiment, record, console, page, run_dir, 0, player, config.tag_list)


def resume_run(run_dir: Path, **given: Any) -> int:
    """Go on with the run in ``run_dir`` from its newest checkpoint, as a new attempt; returns the exit code.

    Of the options ``given`` for now, those about views count; the experiment's own are those it was started with.

    Raises:
        InputError: there is no run, it never began or has finished, another process is at it, or text or model are not
            what they were.
    """
    if run_dir.is_file() and run_dir.name != FILE_NAME:
        raise RecordError(f"--resume {run_dir}: expected a run directory, or its {FILE_NAME}; got another file.")
    run_dir = record_path(run_dir).parent
    open_run(run_dir).close()  # there is one, which can be read
    with ExitStack() as stack:
        lock = None
        if is_main():  # before it is asked how it stands, which another process may be about to change
            lock = DirectoryLock(run_dir)
            stack.callback(lock.release)
        config = _resumed(_started_with(run_dir), given)
        # How a model is held is no part of the experiment: what several processes held in parts goes on with one. Who
        # asks for parts there now hears that it cannot be.
        in_parts = config.fsdp and (launched()[1] > 1 or "fsdp" in given)
        tags = config.tag_list if "tags" in given else ()  # else they may have been edited since
        try:
            return go_on(replace(config, fsdp=in_parts), run_dir, lock=lock, tags=tags)
        except (CorpusError, ModelError) as error:
            raise _without_advice(error, config) from error


def _without_advice(error: InputError, config: RunConfig) -> InputError:
    """Where text or model is not found by a relative name: what to do, since the options cannot be given anew."""
    said = str(error)
    for option, value in (("--dataset", config.dataset), ("--model_name", config.model_name)):
        path = Path(value).expanduser()
        if said.startswith(f"{option} {value}:") and not path.is_absolute() and not path.exists():
            return type(error)(
                f"{said.partition('; ')[0].rstrip('.')}; a relative path is one from the directory where the run was "
                f"started, and this is {Path.cwd()}: go on from there. A name on the hub needs the hub, or its cache."
            )
    return error


def _started_with(run_dir: Path) -> RunConfig:
    """The options of a run that can be gone on with."""
    with open_run(run_dir) as run:
        if not run.last_seq:
            raise RecordError(
                f"--resume {run_dir}: this run was ended before it recorded anything; start it again there."
            )
        if run.summary().state == "finished":
            raise RecordError(f"--resume {run_dir}: this run has finished; start a new one in another directory.")
        # Of any attempt: the latest one may have been ended before it said anything.
        said = [event.config for event in run.events(RunStarted, "all") if isinstance(event, RunStarted)]
        if not said or not said[-1]:
            raise RecordError(f"--resume {run_dir}: its record does not say how this run was started; start a new one.")
        return from_json(said[-1])


def go_on(
    config: RunConfig,
    run_dir: Path,
    player: Player | None = None,
    origin: Path | None = None,
    lock: DirectoryLock | None = None,
    tags: tuple[str, ...] = (),
) -> int:
    """Go on under ``config`` from the newest checkpoint in ``run_dir``, as a new attempt; returns the exit code.

    With ``origin`` the run is new: it begins with a copy of that run's record and its checkpoint. ``lock``: of
    ``run_dir``, where it is held already. ``tags``: what the run has from now on; none leaves those that it has.

    Raises:
        InputError: there is no run, ``run_dir`` has one already, another process is at it, or text or model are not
            what they were.
    """
    if not is_main():
        return accompany(config, run_dir)
    _check_temporary()
    source = origin or run_dir
    with ExitStack() as stack:
        if origin is None and lock is None:  # before anything slow, and before the record is read
            lock = DirectoryLock(run_dir)
            stack.callback(lock.release)
        with open_run(source) as run:
            # The first one: a later attempt says how large the model was when it went on, new heads included.
            before = next((event for event in run.events(RunStarted, "all") if isinstance(event, RunStarted)), None)
            recorded = run.last_seq
        console = stack.enter_context(ConsoleView())
        from neural_plasticity.experiment import checkpoints  # imports torch, which takes a while

        experiment = _open(config, console)
        _check_same(before, experiment, source)
        restored = checkpoints.restore(experiment, source / CHECKPOINTS, recorded)
        stages_done, last_seq = restored.position if restored else (0, 0)
        notes = restored.notes if restored else ()
        if origin is not None:
            fork_record(origin, run_dir, last_seq, (f"{CHECKPOINTS}/{restored.path.name}",) if restored else ())
        elif restored is not None:
            checkpoints.set_aside(run_dir / CHECKPOINTS, restored)
        reopened = RecordWriter.reopen(run_dir, after_seq=last_seq, lock=lock, notes=notes)
        record, page = stack.enter_context(reopened), stack.enter_context(LivePage(config, run_dir, console))
        with open_run(run_dir) as run:
            console.catch_up(recap(run))
        where = f"{restored.path.name}, step {experiment.clock.step:,}" if restored else "the beginning: no checkpoint"
        console.handle(LogLine(message=f"going on from {where}"))
        experiment.devices.agreed((stages_done, last_seq))  # where the other processes go on, too
        tags = tags if origin is None else config.tag_list
        return _play(experiment, record, console, page, run_dir, stages_done, player, tags)


# What names code to be run: a record may be somebody else's, so that its word alone runs nothing.
_CODE_OPTIONS = ("pruning_strategy", "eval", "trust_remote_code")
# A resumed run stays where it is, and its sizes are set: what is left of the views can be given anew.
VIEW_OPTIONS = tuple(name for name in VIEWS if name not in ("output_dir", "quick_test"))
_HOLDING = ("fsdp",)  # how, not what


def _resumed(recorded: RunConfig, given: Mapping[str, Any]) -> RunConfig:
    for name, value in given.items():
        if name not in (*VIEW_OPTIONS, *_HOLDING) and not (name in _CODE_OPTIONS and value == getattr(recorded, name)):
            raise ConfigError(f"--resume: goes on with the options it was started with; leave --{name} out.")
    for name in _CODE_OPTIONS:
        value = getattr(recorded, name)
        runs = value is True or (isinstance(value, str) and ":" in value)
        if runs and given.get(name) != value:
            said = f"--{name}" if value is True else f"--{name} {value}"
            raise ConfigError(
                f"--resume: this run was started with {said}, which runs code; give it again to allow it."
            )
    return replace(recorded, **given)


def _check_same(before: RunStarted | None, x: Experiment, run_dir: Path) -> None:
    """A resumed run on other text or another model would compare what cannot be compared."""
    from neural_plasticity.experiment.run import started

    if before is None:
        return
    now = started(x)
    for what, then, today in (("text", before.data, now.data), ("model", before.model, now.model)):
        changed = [key for key in then if then[key] != today.get(key)]
        if changed:
            raise RecordError(
                f"--resume {run_dir}: the {what} is not what this run was started with ({changed[0]}: "
                f"{then[changed[0]]} then, {today.get(changed[0])} now); start a new run."
            )


def _check_temporary() -> None:
    """PyTorch cannot be imported where no directory takes a temporary file, and says so on forty lines."""
    try:
        tempfile.gettempdir()
    except FileNotFoundError as error:
        raise ConfigError(
            "TMPDIR: no directory for temporary files (/tmp, /var/tmp, the current one) can be written; give it one "
            "that can be written."
        ) from error


def _open(config: RunConfig, console: ConsoleView) -> Experiment:
    console.handle(LogLine(message=f"opening {config.model_name} and {config.dataset}"))
    from neural_plasticity.experiment import open_experiment  # imports torch, which takes a while

    return open_experiment(config)


def _play(
    x: Experiment,
    record: RecordWriter,
    console: ConsoleView,
    page: LivePage,
    run_dir: Path,
    stages_done: int,
    player: Player | None,
    tags: tuple[str, ...],
) -> int:
    from neural_plasticity.experiment import play

    sinks = [console, *_sinks(x.config, console, run_dir)]
    console.note_files(record=record.path)
    for note in record.notes:
        console.handle(LogLine(message=note, level="warning"))
    keeper = Keeper(x, record, run_dir, stages_done, lambda line: console.handle(LogLine(message=line)))
    last = Event()
    with Interrupts() as interrupts:
        try:
            events = to_an_end((player or play)(x, stages_done), keeper, interrupts, run_dir)
            for event in fan_out(_tagged(events, tags), record, sinks):
                last = event
        except KeyboardInterrupt:  # the second one: no figures, no page
            with open_run(run_dir) as run:  # its end may be there, and no figure drawn yet
                ends = list(run.events(RunEnded, record.attempt))
            if ends:
                last = ends[0]
            else:
                end = last = stopped(last, run_dir)
                record.append(end)
                console.handle(LogLine(message=end.reason))  # below its summary: it has closed already
    ending = last if isinstance(last, RunEnded) else None
    if ending is not None and ending.state == "finished":
        x.devices.close()
    if x.config.use_dashboard and not x.config.no_browser and not page.opened:
        open_in_browser(run_dir / PAGE_NAME)
    return {"finished": 0, "stopped": 130}.get(ending.state if ending else "failed", 2)


def _tagged(events: Iterable[Event], tags: tuple[str, ...]) -> Iterator[Event]:
    """``events``, and after the first one the run's ``tags``, which the list of runs shows and `annotate` replaces."""
    for number, event in enumerate(events):
        yield event
        if tags and not number:
            at = {name: getattr(event, name) for name in ("step", "phase", "cycle", "phase_step")}
            yield Annotation(tags=tags, **at)


def _sinks(config: RunConfig, console: ConsoleView, run_dir: Path) -> list[Sink]:
    """What follows the run beside the console: page, figures, trackers."""

    def say(message: str, level: Literal["info", "warning"] = "warning") -> None:
        console.handle(LogLine(message=message, level=level))

    made = ["writing the page"] if config.use_dashboard else []
    made += [] if config.no_visualize else ["drawing the figures"]
    sinks: list[Sink] = [ClosingSink(" and ".join(made), lambda line: say(line, "info"))] if made else []
    if config.use_dashboard:
        sinks.append(PageSink(run_dir, say))
        console.note_files(page=run_dir / PAGE_NAME)
    if not config.no_visualize:
        sinks.append(FiguresSink(run_dir))
        console.note_files(figures=run_dir / "complete_process.png")
    if names := config.trackers(os.environ):
        from neural_plasticity.trackers import TrackedRun, open_trackers

        mode = "online" if config.online else None
        sinks += open_trackers(names, TrackedRun(run_dir, mode=mode, tags=config.tag_list), say)
    return sinks
