"""The command line: the only place that wires experiment, record and views together."""

from __future__ import annotations

import contextlib
import itertools
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from pathlib import Path
from typing import Annotated

import tyro

from neural_plasticity.config import RunConfig
from neural_plasticity.dashboard.demo_options import Demo
from neural_plasticity.errors import ConfigError, InputError, PeerError
from neural_plasticity.launch import is_main, launched
from neural_plasticity.sweep.cells import FLAGS, SENSIBLE, Cell, product
from neural_plasticity.sweep.options import SweepOptions, Ways

DESCRIPTION = "Prune, heal and regrow the attention heads of a language model, and see what happens while it happens."

_FLAGS = (
    tyro.conf.FlagCreatePairsOff,
    tyro.conf.DisallowNone,
    tyro.conf.OmitArgPrefixes,
    tyro.conf.OmitSubcommandPrefixes,
)


@dataclass(frozen=True)
class Run:
    """Train, analyse, prune, fine-tune and evaluate a language model, on record.

    Nothing needs to be given: the built-in model and the text that every Python installation carries are the defaults.
    Flags can be written with _ or -. Ctrl-C stops a run cleanly; --resume goes on where it stopped.
    """

    config: RunConfig = field(default_factory=RunConfig)
    resume: Path | None = None
    """Go on with the run in this directory, with the options it was started with."""
    compare_strategies: tuple[str, ...] | None = None
    """Run several strategies, at every level of --pruning_level and with every seed of --seeds, and compare them: a
    sweep (plasticity sweep has more options). Names with commas between; without names: entropy, gradient, magnitude,
    random, combined."""
    seeds: str | None = None
    """With --compare_strategies: seeds, with commas between. Default: --seed alone."""


@dataclass(frozen=True)
class Sweep:
    """Run every strategy at every level with every seed, and compare what comes out, in one table and one page.

    Warm-up and baseline are run once per seed. The same command goes on where it was stopped: what has finished is not
    run again. Every cell is an ordinary run below --output_dir, for plasticity serve, export and compare.
    """

    strategies: str = ",".join(SENSIBLE)
    """Pruning strategies, with commas between."""
    levels: str = "0.2"
    """Pruning levels, with commas between: the fraction of the heads still active that one cycle prunes."""
    seeds: str = "0,1,2"
    """Seeds, with commas between. Two are needed for an interval; more make it narrower."""
    ways: Ways = field(default_factory=Ways)
    config: RunConfig = field(default_factory=RunConfig)


@dataclass(frozen=True)
class Export:
    """Write the dashboard page of a recorded run as one self-contained file."""

    run_dir: tyro.conf.Positional[Path]
    """A run directory, or its run.sqlite."""
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """The file to write. Default: dashboard.html in the run directory."""


@dataclass(frozen=True)
class Recover:
    """Save what can be read of a damaged record (a bad disk, a copy cut short) as a run of its own; say what is lost.

    The damaged one is left as it is. Checkpoints come along, so that run --resume can go on with what was recovered,
    unless all of them are later than what can be read.
    """

    run_dir: tyro.conf.Positional[Path]
    """A run directory, or its run.sqlite."""
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """The run directory to make. Default: the damaged one's name and -recovered."""


@dataclass(frozen=True)
class Compare:
    """Hold runs against each other in one self-contained file: settings, curves, heads, trade-off, texts.

    Runs of different models or texts are compared where that means something; what cannot be read is named, and left
    out.
    """

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Two or more runs (directories, or their run.sqlite), or directories with runs below them."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("compare.html")
    """The file to write."""


@dataclass(frozen=True)
class Serve:
    """Show recorded runs in the browser, live while they go on. Ctrl-C ends it; nothing is ever written.

    Beyond this machine (--host) the page asks for a token, which is part of the address that is printed.
    """

    directory: tyro.conf.Positional[Path]
    """A run directory, or a directory with runs in it or below it; new ones appear by themselves."""
    host: str = "127.0.0.1"
    """Address to listen on: this machine only, or 0.0.0.0 for all who can reach it."""
    port: int = 8421
    """Port to listen on; 0 takes a free one."""
    token: str | None = None
    """What a browser has to show once. Default: none on this machine; elsewhere one is made."""
    no_browser: bool = False
    """Do not open the page in a browser."""


@dataclass(frozen=True)
class Sync:
    """Fill a tracker from the record of a run, as a new run there: after an offline run, or one that had none."""

    run_dir: tyro.conf.Positional[Path]
    """A run directory, or its run.sqlite."""
    to: str = "wandb"
    """The tracker: wandb, tensorboard, trackio, and what else Accelerate knows."""


Command = Run | Sweep | Export | Demo | Sync | Serve | Compare | Recover


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code: 0 done, 2 bad input or a run that had to stop, 130 interrupted."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        check_paths(arguments)
        command = parse(arguments)
        _check_launched(command)
        match command:
            case Run():
                return _run(command, arguments)
            case Sweep():
                return _sweep(command)
            case Export():
                return _export(command)
            case Demo():
                from neural_plasticity.dashboard.demo import play

                return play(command)
            case Sync():
                return _sync(command)
            case Serve():
                return _serve(command)
            case Compare():
                return _compare(command)
            case Recover():
                return _recover(command)
    except InputError as error:
        _leave(f"plasticity: {error}")
        return 2
    except PeerError:  # which says itself why it had to stop
        return 2
    except KeyboardInterrupt:  # while opening: a run in progress ends in its own way
        _leave("plasticity: interrupted")
        return 130
    except Exception as error:
        if launched()[1] > 1:
            _tell_the_others(f"{type(error).__name__}: {error}")
        raise


def _leave(line: str) -> None:
    """Say why, once: input errors are the same on every process, or have been brought together."""
    if launched()[1] > 1:
        _tell_the_others(line)
    if is_main():
        print(line, file=sys.stderr)  # noqa: T201 the one place that talks to the shell


def _tell_the_others(why: str) -> None:
    """Leave word for the processes that only see this one break off."""
    from neural_plasticity.models.devices import first_failure

    first_failure(why)


def _check_launched(command: Command) -> None:
    processes = launched()[1]
    alone = not isinstance(command, Run) or command.compare_strategies is not None
    if processes > 1 and alone:
        raise ConfigError(
            f"{processes} processes were launched: only a single run computes on several; start this without "
            "accelerate launch or torchrun."
        )


def parse(arguments: Sequence[str]) -> Command:
    """The command that ``arguments`` ask for; tyro prints help and its own errors, and exits with 0 or 2."""
    # The quick defaults have to be in place before parsing, so that what the user gives beside --quick_test counts.
    quick = "quick_test" in _given(arguments)
    defaults = replace(RunConfig.quick(), quick_test=False) if quick else RunConfig()
    run = tyro.conf.subcommand("run", default=Run(defaults))
    return tyro.cli(
        Annotated[Run, run]
        | Annotated[Sweep, tyro.conf.subcommand("sweep", default=Sweep(config=defaults))]
        | Annotated[Demo, tyro.conf.subcommand("demo")]
        | Annotated[Export, tyro.conf.subcommand("export")]
        | Annotated[Sync, tyro.conf.subcommand("sync")]
        | Annotated[Serve, tyro.conf.subcommand("serve")]
        | Annotated[Compare, tyro.conf.subcommand("compare")]
        | Annotated[Recover, tyro.conf.subcommand("recover")],
        prog="plasticity",
        description=DESCRIPTION,
        args=arguments,
        use_underscores=True,
        config=_FLAGS,
    )


def _given(arguments: Sequence[str]) -> tuple[str, ...]:
    """The options of a run that ``arguments`` name, whatever their values: the default, too, can be given."""
    named = {word.removeprefix("--").partition("=")[0].replace("-", "_") for word in arguments if word[:2] == "--"}
    return tuple(option.name for option in fields(RunConfig) if option.name in named)


_PATHS = ("output_dir", "output", "resume", "o", "export", "sync", "serve", "compare", "recover")


def check_paths(arguments: Sequence[str]) -> None:
    """Refuse an empty path, such as that of a shell variable without a value: it would mean the current directory.

    Raises:
        ConfigError: names the option, or the command.
    """
    for before, word in itertools.pairwise(["", *arguments]):
        flag, _, value = word.partition("=") if word.startswith("--") and "=" in word else (before, "", word)
        if not value and flag.lstrip("-").replace("-", "_") in _PATHS:
            raise ConfigError(f"{flag} '': expected a path, got nothing; . is the current directory.")


def _sweep(command: Sweep) -> int:
    cells = product(command.strategies, command.levels, command.seeds)
    return _run_sweep(cells, command.config, command.ways)


def _run_sweep(cells: tuple[Cell, ...], base: RunConfig, ways: Ways, flag: str = FLAGS[0]) -> int:
    from neural_plasticity.sweep.command import run_sweep

    with _directory(base, "sweep") as directory:
        return run_sweep(SweepOptions(cells, base, directory, ways, flag))


def _compare_strategies(command: Run, strategies: tuple[str, ...]) -> int:
    """``plasticity run --compare_strategies``: a sweep with the options of a run."""
    config, default = command.config, RunConfig()
    if command.resume is not None:
        raise ConfigError("--resume: goes on with a single run; a comparison goes on when the same command is given.")
    if config.pruning_strategy != default.pruning_strategy:
        raise ConfigError(
            f"--pruning_strategy {config.pruning_strategy}: --compare_strategies names the strategies; leave it out."
        )
    if command.seeds is not None and config.seed != default.seed:
        raise ConfigError(f"--seed {config.seed}: --seeds names the seeds; leave it out.")
    flags = ("--compare_strategies", "--pruning_level", "--seeds")
    seeds = str(config.seed) if command.seeds is None else command.seeds
    cells = product(",".join(strategies or SENSIBLE), config.pruning_level, seeds, flags)
    base = replace(config, pruning_level=default.pruning_level, seed=default.seed)
    return _run_sweep(cells, base, Ways(), flags[0])


def _run(command: Run, arguments: Sequence[str]) -> int:
    from neural_plasticity.session import resume_run, start_run

    if command.compare_strategies is not None:
        return _compare_strategies(command, command.compare_strategies)
    if command.seeds is not None:
        raise ConfigError(f"--seeds {command.seeds}: expected with --compare_strategies; a single run has one --seed.")
    if command.resume is not None:
        return resume_run(command.resume, **{name: getattr(command.config, name) for name in _given(arguments)})
    config = command.config.checked()
    with _directory(config) as directory:
        return start_run(config, directory)


def _export(command: Export) -> int:
    from neural_plasticity.record import open_run
    from neural_plasticity.render.page import write_page

    directory = command.run_dir if command.run_dir.is_dir() else command.run_dir.parent
    with open_run(command.run_dir) as run:
        print(write_page(run, command.output or directory / "dashboard.html"))  # noqa: T201
    return 0


def _recover(command: Recover) -> int:
    from neural_plasticity.record.recovery import recover

    found = recover(command.run_dir, command.output)
    print(found)  # noqa: T201
    print(found.path.parent)  # noqa: T201
    return 0


def _sync(command: Sync) -> int:
    from neural_plasticity.trackers import sync

    sent = sync(command.run_dir, command.to)
    print(f"{command.to}: {sent:,} events sent")  # noqa: T201
    return 0


def _compare(command: Compare) -> int:
    from neural_plasticity.render.page.comparison import write_comparison

    page, found = write_comparison(command.runs, command.output)
    for one in found.left_out:
        print(f"plasticity: left out: {one.path}: {one.reason}", file=sys.stderr)  # noqa: T201
    print(page)  # noqa: T201
    return 0


def _serve(command: Serve) -> int:
    from neural_plasticity.render.browser import open_in_browser
    from neural_plasticity.render.page.live.server import serve_in_thread, spare_memory

    spare_memory()
    with serve_in_thread(command.directory, command.host, command.port, command.token) as server:
        print(f"serving {command.directory} at {server.url} (Ctrl-C ends it)", flush=True)  # noqa: T201
        if not command.no_browser:
            open_in_browser(server.url)
        with contextlib.suppress(KeyboardInterrupt):  # the ordinary way to end it
            while not server.wait(0.5):  # in pieces: some platforms take no Ctrl-C while they wait
                pass
    return 0


@contextlib.contextmanager
def _directory(config: RunConfig, kind: str = "neural_plasticity") -> Iterator[Path]:
    """The directory that was asked for; else one of its own, which goes again where nothing came to be in it."""
    if config.output_dir is not None or not is_main():  # the main process alone writes
        yield config.output_dir or Path()
        return
    made = default_run_dir(datetime.now(), kind)
    try:
        yield made
    finally:
        with contextlib.suppress(OSError):  # not empty, or gone already
            made.rmdir()


def default_run_dir(now: datetime, kind: str = "neural_plasticity") -> Path:
    """Make output/neural_plasticity_[timestamp]; with -2, -3, … behind it where others began in that second."""
    first = Path("output") / f"{kind}_{now:%Y%m%d-%H%M%S}"
    with contextlib.suppress(OSError):  # who records there says what is wrong
        first.parent.mkdir(exist_ok=True)
        for number in itertools.count(1):
            path = first if number == 1 else first.with_name(f"{first.name}-{number}")
            with contextlib.suppress(FileExistsError):
                path.mkdir()  # which one process can: a name that is free may not be a moment later
                return path
    return first
