"""The command ``plasticity sweep``: everything checked, every cell played, one table at the end."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from rich.text import Text

from neural_plasticity.errors import ConfigError, InputError
from neural_plasticity.render.browser import open_in_browser
from neural_plasticity.render.page.comparison import FEWEST, MOST, PAGE_NAME, write_comparison
from neural_plasticity.render.page.live.process import ServerProcess
from neural_plasticity.render.page.live.server import check_installed
from neural_plasticity.sweep.backends import Backend, LocalBackend, default_jobs
from neural_plasticity.sweep.board import Board, summary_table
from neural_plasticity.sweep.cells import seeds_of
from neural_plasticity.sweep.options import SweepOptions, Ways
from neural_plasticity.sweep.plan import CELLS, LOGS, Plan, checked_plan, claim, left_to_do
from neural_plasticity.sweep.runner import Runner, failures
from neural_plasticity.sweep.sources import check_sources
from neural_plasticity.sweep.table import Row, summary, write_csv
from neural_plasticity.views import figures

TABLE = "sweep.csv"
SUMMARY = "summary.csv"


def run_sweep(options: SweepOptions, board: Board | None = None) -> int:
    """Play a sweep, or go on with it; returns the exit code: 0 all cells finished, 2 some failed, 130 interrupted.

    Raises:
        InputError: something given cannot be used; nothing slow has started.
    """
    ways, directory = options.ways, options.directory
    for flag, value in (("jobs", ways.jobs), ("threads", ways.threads)):
        if value is not None and value < 1:
            raise ConfigError(f"--{flag} {value}: expected at least 1.")
    if ways.ray_address is not None and ways.backend != "ray":
        raise ConfigError(f"--ray_address {ways.ray_address}: expected together with --backend ray.")
    plan = Plan(directory, options.cells, options.base, ways.shared_dir, ways.keep_checkpoints)
    plan = checked_plan(plan, options.flag)
    # Machines of a cluster have hub caches of their own.
    if ways.backend == "local" and left_to_do(plan, ways.retry_failed):
        check_sources(plan.base)
    lock = claim(plan)
    with ExitStack() as stack:
        stack.callback(lock.release)
        runner = Runner(plan, _backend(ways, options.base.device), board or Board(), ways.retry_failed)
        with runner.board:
            _opening(runner, options)
            if options.base.use_dashboard:
                _serve(stack, options, runner.board)
            result = runner.run()
        return _closing(runner, result.interrupted)


def _backend(ways: Ways, device: str) -> Backend:
    if ways.backend == "ray":
        from neural_plasticity.sweep.ray_backend import RayBackend

        return RayBackend(ways.jobs, ways.threads, ways.ray_address)
    return LocalBackend(ways.jobs or default_jobs(device, ways.threads), ways.threads)


def _opening(runner: Runner, options: SweepOptions) -> None:
    cells = options.cells
    strategies, levels = ({getattr(cell, axis) for cell in cells} for axis in ("strategy", "level"))
    seeds = len(seeds_of(cells))
    shape = " × ".join(
        f"{count} {noun if count == 1 else plural}"
        for count, noun, plural in (
            (len(strategies), "strategy", "strategies"),
            (len(levels), "level", "levels"),
            (seeds, "seed", "seeds"),
        )
    )
    runner.board.say(f"{figures.plural(len(cells), 'cell')}: {shape}, in {options.directory}")
    runner.board.say(f"{runner.backend.place}; results do not depend on how many run at a time")
    if len(seeds_of((*cells, *runner.plan.others()))) < 2:
        runner.board.say("one seed: how results vary over seeds cannot be told, so there will be no intervals")


def _serve(stack: ExitStack, options: SweepOptions, board: Board) -> None:
    """The list of runs, live: cells appear in it as they begin."""

    def ready(url: str) -> None:
        board.say(f"live page: {url}")
        if not options.base.no_browser:
            open_in_browser(url)

    def failed(why: str) -> None:
        board.say(f"no live page: {why}", "yellow")

    try:
        check_installed()
        stack.enter_context(ServerProcess(options.directory, ready, failed))
    except (InputError, OSError) as error:
        failed(str(error))


def _closing(runner: Runner, interrupted: bool) -> int:
    """The table, on disk and in the console, and what failed."""
    result, board, directory = runner.result, runner.board, runner.plan.directory
    rows = runner.rows()
    means = summary(rows)
    print_ = board.console.print
    print_()
    if any(one["seeds"] for one in means):
        print_(summary_table(means, board.console.width))
        print_(Text(_measured_on(means), style="dim"), soft_wrap=True)
        print_()
    for line in failures(result):
        print_(Text(f"failed: {line}", style="red"), soft_wrap=True)
    asked = len(runner.plan.cells)
    said = f"{len(result.finished)} of {figures.plural(asked, 'cell')} finished"
    said += f", {len(result.failed)} failed" if result.failed else ""
    said += f"; with {len(rows) - asked} more from before in the tables" if len(rows) > asked else ""
    print_(Text(said, style="bold"), soft_wrap=True)
    if result.failed and not interrupted:
        print_(
            f"The same command with --retry_failed tries again; consoles are in {directory / LOGS}.",
            soft_wrap=True,
        )
    if interrupted:
        print_(f"Stopped; the same command goes on, with --output_dir {directory}.", soft_wrap=True)
    for label, path in _written(runner, rows, means).items():
        print_(f"{label}: {path}", soft_wrap=True, highlight=False)
    return 130 if interrupted else 2 if result.failed else 0


def _measured_on(means: list[Row]) -> str:
    said = "geometric means over seeds of each cell's perplexity and speed over those of its baseline"
    if any(one["seeds"] > 1 for one in means):
        return f"{said}; in brackets: 95 % t-intervals over seeds, on the logarithm"
    return f"{said}; no intervals, as fewer than two seeds have finished"


def _written(runner: Runner, rows: list[Row], means: list[Row]) -> dict[str, Path]:
    directory = runner.plan.directory
    written = {
        "every cell": write_csv(directory / TABLE, rows),
        "means": write_csv(directory / SUMMARY, means),
        "runs": directory / CELLS,
    }
    finished = [directory / one["directory"] for one in rows if one["state"] == "finished"]
    if FEWEST <= len(finished) <= MOST:
        written["compared"], _ = write_comparison(finished, directory / PAGE_NAME)
    else:
        (directory / PAGE_NAME).unlink(missing_ok=True)  # of fewer cells, from before: it would pass for all of them
    return written
