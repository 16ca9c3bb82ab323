"""The command line: the only place that wires experiment, record and views together."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Annotated

import tyro

from neural_plasticity.config import RunConfig
from neural_plasticity.dashboard.demo_options import Demo
from neural_plasticity.errors import InputError

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
    Flags can be written with _ or -. Ctrl-C stops a run cleanly; --resume goes on after its last finished phase.
    """

    config: RunConfig = field(default_factory=RunConfig)
    resume: Path | None = None
    """Go on with the run in this directory, with the options it was started with."""


@dataclass(frozen=True)
class Export:
    """Write the dashboard page of a recorded run as one self-contained file."""

    run_dir: tyro.conf.Positional[Path]
    """A run directory, or its run.sqlite."""
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """The file to write. Default: dashboard.html in the run directory."""


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


Command = Run | Export | Demo | Sync | Serve | Compare


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code: 0 done, 2 bad input or a run that had to stop, 130 interrupted."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        command = parse(arguments)
        match command:
            case Run():
                return _run(command)
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
    except InputError as error:
        print(f"plasticity: {error}", file=sys.stderr)  # noqa: T201 the one place that talks to the shell
        return 2
    except KeyboardInterrupt:  # while opening: a run in progress ends in its own way
        print("plasticity: interrupted", file=sys.stderr)  # noqa: T201
        return 130


def parse(arguments: Sequence[str]) -> Command:
    """The command that ``arguments`` ask for; tyro prints help and its own errors, and exits with 0 or 2."""
    # The quick defaults have to be in place before parsing, so that what the user gives beside --quick_test counts.
    quick = any(argument in ("--quick_test", "--quick-test") for argument in arguments)
    defaults = replace(RunConfig.quick(), quick_test=False) if quick else RunConfig()
    run = tyro.conf.subcommand("run", default=Run(defaults))
    return tyro.cli(
        Annotated[Run, run]
        | Annotated[Demo, tyro.conf.subcommand("demo")]
        | Annotated[Export, tyro.conf.subcommand("export")]
        | Annotated[Sync, tyro.conf.subcommand("sync")]
        | Annotated[Serve, tyro.conf.subcommand("serve")]
        | Annotated[Compare, tyro.conf.subcommand("compare")],
        prog="plasticity",
        description=DESCRIPTION,
        args=arguments,
        use_underscores=True,
        config=_FLAGS,
    )


def _run(command: Run) -> int:
    from neural_plasticity.session import resume_run, start_run

    if command.resume is not None:
        return resume_run(command.resume, command.config)
    config = command.config.checked()
    return start_run(config, config.output_dir or default_run_dir(datetime.now()))


def _export(command: Export) -> int:
    from neural_plasticity.record import open_run
    from neural_plasticity.render.page import write_page

    directory = command.run_dir if command.run_dir.is_dir() else command.run_dir.parent
    with open_run(command.run_dir) as run:
        print(write_page(run, command.output or directory / "dashboard.html"))  # noqa: T201
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
    from neural_plasticity.render.page.live.server import serve_in_thread

    with serve_in_thread(command.directory, command.host, command.port, command.token) as server:
        print(f"serving {command.directory} at {server.url} (Ctrl-C ends it)", flush=True)  # noqa: T201
        if not command.no_browser:
            open_in_browser(server.url)
        with contextlib.suppress(KeyboardInterrupt):  # the ordinary way to end it
            while not server.wait(0.5):  # in pieces: some platforms take no Ctrl-C while they wait
                pass
    return 0


def default_run_dir(now: datetime) -> Path:
    """output/neural_plasticity_[timestamp]."""
    return Path("output") / f"neural_plasticity_{now:%Y%m%d-%H%M%S}"
