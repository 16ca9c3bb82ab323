"""A sweep on disk: its directory, what it says it is, and the task for each part. Checked before anything slow."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from neural_plasticity.config import RunConfig, as_json
from neural_plasticity.errors import ConfigError, RecordError
from neural_plasticity.policies.strategies import FLAG as STRATEGY_FLAG
from neural_plasticity.policies.strategies import resolve_strategy
from neural_plasticity.record.lock import DirectoryLock
from neural_plasticity.record.schema import FILE_NAME
from neural_plasticity.sweep.cells import FLAGS, Cell, beginning_key, checked_base, common_options, recorded_cell
from neural_plasticity.sweep.standing import Standing, other_option, standing, without_axes
from neural_plasticity.sweep.tasks import Task

MANIFEST = "sweep.json"
CELLS = "cells"
LOGS = "logs"
_MOST_BYTES = 1_000_000  # of a manifest
SHARED = ".shared"  # hidden: what cells begin with is no run to look at or to compare


@dataclass(frozen=True)
class Plan:
    """The cells of a sweep in ``directory``, which share the options ``base``. ``shared_dir``: where beginnings lie."""

    directory: Path
    cells: tuple[Cell, ...]
    base: RunConfig
    shared_dir: Path | None = None
    keep_checkpoints: bool = False

    def cell_dir(self, cell: Cell) -> Path:
        """The run directory of ``cell``."""
        return self.directory / CELLS / cell.name

    def log(self, name: str) -> Path:
        """What the console of a cell or a beginning said."""
        return self.directory / LOGS / f"{name}.log"

    def config(self, cell: Cell) -> RunConfig:
        """The options of ``cell``'s run."""
        return cell.config(self.base, self.cell_dir(cell))

    def beginning(self, cell: Cell) -> str:
        """The name of what ``cell`` begins with."""
        return beginning_key(self.config(cell))

    def beginning_dir(self, name: str) -> Path:
        """The run directory of a beginning."""
        return (self.shared_dir or self.directory / SHARED) / name

    def standing(self, cell: Cell) -> Standing:
        """Where ``cell`` stands by its record.

        Raises:
            ConfigError: its directory holds a run with other options.
        """
        now = standing(self.cell_dir(cell))
        # A process that was killed between copying a beginning and going on leaves that run's options, which may be
        # another sweep's.
        if now.config and Path(str(now.config.get("output_dir"))).name == cell.name:
            difference = other_option(without_axes(now.config), common_options(self.base))
            if difference:
                raise ConfigError(f"{self.cell_dir(cell)}: holds a run with other options ({difference}).")
        return now

    def others(self) -> tuple[Cell, ...]:
        """Cells that the directory holds beside those asked for, of this sweep by the options on record."""
        asked, common = {cell.name for cell in self.cells}, common_options(self.base)
        found = []
        for directory in (self.directory / CELLS).iterdir():
            options = None if directory.name in asked else standing(directory).config
            cell = recorded_cell(options or {})
            if options and cell and cell.name == directory.name and not other_option(without_axes(options), common):
                found.append(cell)
        return tuple(sorted(found))

    def task(self, cell: Cell) -> Task:
        """What a worker does for ``cell``."""
        config, beginning = self.config(cell), self.beginning(cell)
        return Task(
            kind="cell",
            name=cell.name,
            config=as_json(_untracked(config)),
            directory=str(self.cell_dir(cell).absolute()),
            log=str(self.log(cell.name).absolute()),
            work_dir=str(Path.cwd()),
            origin=str(self.beginning_dir(beginning).absolute()),
            cells=self._alike(beginning),
            trackers=self.base.trackers(os.environ),
            tracker_mode="online" if self.base.online else None,
            keep_checkpoints=self.keep_checkpoints,
        )

    def beginning_task(self, name: str) -> Task:
        """What a worker does for the beginning ``name``, which all cells named by ``beginning`` share."""
        first = next(cell for cell in self.cells if self.beginning(cell) == name)
        directory = self.beginning_dir(name)
        return Task(
            kind="beginning",
            name=name,
            config=as_json(_untracked(first.config(self.base, directory))),
            directory=str(directory.absolute()),
            log=str(self.log(f"shared-{name}").absolute()),
            work_dir=str(Path.cwd()),
            levels=tuple(dict.fromkeys(cell.level for cell in self.cells)),
            cells=self._alike(name),
        )

    def _alike(self, beginning: str) -> int:
        return sum(self.beginning(cell) == beginning for cell in self.cells)


def _untracked(config: RunConfig) -> RunConfig:
    """Trackers are filled from the record when a cell is done, or they would miss its beginning."""
    return replace(config, wandb=False, online=False, track=None)


def checked_plan(plan: Plan, flag: str = FLAGS[0]) -> Plan:
    """``plan`` with what its options imply, if every cell is possible as far as they tell.

    ``flag`` is the option that the strategies were given by.

    Raises:
        InputError: an option or a strategy is impossible.
    """
    plan = replace(plan, base=checked_base(plan.base))
    for strategy in dict.fromkeys(cell.strategy for cell in plan.cells):
        try:
            resolve_strategy(strategy)
        except ConfigError as error:
            raise ConfigError(str(error).replace(STRATEGY_FLAG, flag, 1)) from error
    for cell in plan.cells:
        plan.config(cell).checked()
    if names := plan.base.trackers(os.environ):
        from neural_plasticity.trackers import check_names

        check_names(names)
    return plan


def left_to_do(plan: Plan, retry_failed: bool) -> bool:
    """Whether any cell is to be run, by what is on disk."""
    done = ("finished",) if retry_failed else ("finished", "failed")
    return any(standing(plan.cell_dir(cell)).state not in done for cell in plan.cells)


def claim(plan: Plan) -> DirectoryLock:
    """Make the sweep's directory, or go on with it; nobody else works on it until the lock is released.

    Raises:
        RecordError: the directory holds a run, another sweep, or a sweep that runs at this moment.
    """
    directory, manifest = plan.directory, plan.directory / MANIFEST
    if (directory / FILE_NAME).exists():
        raise RecordError(f"{directory}: holds a single run; give the sweep another --output_dir.")
    try:
        (directory / CELLS).mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise RecordError(f"{directory}: expected a directory for the sweep, but a file is in the way.") from error
    except OSError as error:
        raise RecordError(f"{directory}: cannot be used as a sweep's directory: {error.strerror}.") from error
    try:
        lock = DirectoryLock(directory)
    except RecordError as error:
        raise RecordError(f"{directory}: a sweep is running there; wait for it, or stop it with Ctrl-C.") from error
    try:
        if manifest.exists():
            difference = other_option(_read(manifest), common_options(plan.base))
            if difference:
                raise RecordError(
                    f"{directory}: holds another sweep ({difference}); give the same options to go on with it, "
                    "or another --output_dir."
                )
        else:
            written = {"version": 1, "created": time.time(), "options": common_options(plan.base)}
            temporary = manifest.with_name(f".{MANIFEST}.part")
            temporary.write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")
            temporary.replace(manifest)
    except BaseException:
        lock.release()
        raise
    return lock


def _read(manifest: Path) -> Mapping[str, Any]:
    try:
        # A pipe would be waited for without end.
        if manifest.is_file() and manifest.stat().st_size <= _MOST_BYTES:
            options = json.loads(manifest.read_text(encoding="utf-8"))["options"]
            if isinstance(options, dict):
                return options
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        pass
    raise RecordError(f"{manifest}: cannot be read; it says what the sweep in this directory is. Give another one.")
