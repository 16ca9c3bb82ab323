"""A sweep from start to finish: what is done stays, what cells share comes first, a failure costs one cell."""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from neural_plasticity.keeping import Interrupts
from neural_plasticity.sweep.backends import Backend, Outcome
from neural_plasticity.sweep.board import Board, Overall, Running, outcome_line, seconds_left
from neural_plasticity.sweep.cells import Cell, in_order
from neural_plasticity.sweep.plan import Plan
from neural_plasticity.sweep.standing import last_words, standing
from neural_plasticity.sweep.table import Row, row
from neural_plasticity.sweep.tasks import Task
from neural_plasticity.views import figures

TRIES = 2  # of a cell whose process was killed
LOOK_SECONDS = 2.0  # between looks at the records of what runs
STOPPED = 130


@dataclass
class Result:
    """How a sweep ended: cells by how they stand, and why those failed that did."""

    finished: list[Cell] = field(default_factory=list)
    failed: dict[Cell, str] = field(default_factory=dict)
    said: set[Cell] = field(default_factory=set)  # of those: why has been said while the sweep ran
    interrupted: bool = False


class Runner:
    """Plays the cells of ``plan`` on ``backend``, telling ``board``; ``retry_failed``: those that failed, too."""

    def __init__(self, plan: Plan, backend: Backend, board: Board, retry_failed: bool = False) -> None:
        self.plan = plan
        self.backend = backend
        self.board = board
        self.result = Result()
        self._retry = retry_failed
        self._cells = {cell.name: cell for cell in plan.cells}
        self._waiting: list[Task] = []
        self._needs: dict[str, str] = {}  # cell -> the beginning that it waits for
        self._running: dict[str, tuple[Task, float]] = {}
        self._tries: dict[str, int] = {}
        self._durations: list[float] = []
        self._known: tuple[Running, ...] = ()
        self._next_look = 0.0

    def run(self) -> Result:
        """Until every cell has finished or failed, or somebody says stop.

        Raises:
            InputError: a cell's directory holds something else.
        """
        self._sort()
        with ExitStack() as stack:
            stack.callback(self.backend.close)
            interrupts = stack.enter_context(Interrupts())
            try:
                self._play(interrupts)
            except KeyboardInterrupt:  # the second Ctrl-C: everything ends at once, and the records hold
                self.result.interrupted = True
        return self.result

    def _sort(self) -> None:
        """What is done, what failed before, and what there is to do: first what several cells wait for."""
        begin: list[str] = []
        todo: list[Task] = []
        for cell in self.plan.cells:
            now = self.plan.standing(cell)
            if now.state == "finished":
                self.result.finished.append(cell)
            elif now.state == "failed" and not self._retry:
                self.result.failed[cell] = now.reason or "its record gives no reason"
            else:
                todo.append(self.plan.task(cell))
                if now.state == "waiting":
                    name = self.plan.beginning(cell)
                    if standing(self.plan.beginning_dir(name)).state != "finished":
                        self._needs[cell.name] = name
                        begin.append(name)
        self._waiting = [self.plan.beginning_task(name) for name in dict.fromkeys(begin)] + todo

    def _play(self, interrupts: Interrupts) -> None:
        asked = False
        while self._running or (self._waiting and not interrupts.requested):
            while not interrupts.requested and len(self._running) < self.backend.slots and self._start_next():
                pass
            for outcome in self.backend.wait(0.5):
                self._ended(outcome, interrupts.requested)
            if interrupts.requested and not asked:
                asked = True
                self.board.say("stopping: what runs ends at a point it can go on from (Ctrl-C again ends it at once)")
                self.backend.stop()
            self._look()
        self.result.interrupted = interrupts.requested and self._left() > 0

    def _left(self) -> int:
        return len(self.plan.cells) - len(self.result.finished) - len(self.result.failed)

    def _start_next(self) -> bool:
        ready = next((task for task in self._waiting if task.name not in self._needs), None)
        if ready is None:
            return False
        self._waiting.remove(ready)
        self._running[ready.name] = (ready, time.monotonic())
        self.backend.start(ready)
        return True

    def _ended(self, outcome: Outcome, stopping: bool) -> None:
        task, code = outcome
        _, began = self._running.pop(task.name)
        seconds = time.monotonic() - began
        now = standing(Path(task.directory))
        label = self._label(task)
        if now.state == "finished":
            self._finished(task, label, seconds)
        elif stopping or code == STOPPED:
            self.board.say(f"{label}: stopped")
        elif now.state == "failed":
            self._failed(task, now.reason)
        elif code < 0:
            self._killed(task, f"its process was ended by signal {-code}")
        elif code == 2:
            self._failed(task, last_words(Path(task.log)) or "its process gave no reason")
        else:
            self._killed(task, f"its process ended with exit code {code} ({last_words(Path(task.log))})")

    def _finished(self, task: Task, label: str, seconds: float) -> None:
        if task.kind == "beginning":
            self._needs = {cell: name for cell, name in self._needs.items() if name != task.name}
            cells = "1 cell goes on" if task.cells == 1 else f"{task.cells:,} cells go on"
            self.board.say(f"{label}: done in {figures.duration(seconds)}; {cells}")
            return
        cell = self._cells[task.name]
        self.result.finished.append(cell)
        self._durations.append(seconds)
        said = outcome_line(self.row(cell))
        self.board.say(f"{label}: {said} · {figures.duration(seconds)} · {self._count()}")

    def _killed(self, task: Task, reason: str) -> None:
        """Perhaps it was not the cell's fault: it goes on from its last checkpoint, once more."""
        tries = self._tries[task.name] = self._tries.get(task.name, 1) + 1
        if tries <= TRIES:
            self.board.say(f"{self._label(task)}: {reason}; it is tried again", "yellow")
            self._waiting.insert(0, task)
        else:
            self._failed(task, f"{reason}, {TRIES} times (out of memory? fewer --jobs need less)")

    def _failed(self, task: Task, reason: str) -> None:
        self.board.say(f"{self._label(task)}: failed: {reason}", "red")
        if task.kind == "cell":
            self.result.failed[self._cells[task.name]] = reason
            self.result.said.add(self._cells[task.name])
            return
        for name in [cell for cell, beginning in self._needs.items() if beginning == task.name]:
            del self._needs[name]
            self._waiting = [one for one in self._waiting if one.name != name]
            self.result.failed[self._cells[name]] = f"its warm-up and baseline failed: {reason}"
            self.result.said.add(self._cells[name])

    def _label(self, task: Task) -> str:
        seed = task.config["seed"]
        return self._cells[task.name].label if task.kind == "cell" else f"warm-up and baseline, seed {seed}"

    def _count(self) -> str:
        return f"{len(self.result.finished)} of {figures.plural(len(self.plan.cells), 'cell')} done"

    def _look(self) -> None:
        now = time.monotonic()
        if now >= self._next_look:
            self._next_look = now + LOOK_SECONDS
            self._known = tuple(self._seen(task, now - began) for task, began in self._running.values())
            self.board.show(self.overall())

    def _seen(self, task: Task, seconds: float) -> Running:
        found = standing(Path(task.directory))
        if found.state != "unfinished" or found.last_event < time.time() - seconds:  # of an earlier try
            return Running(self._label(task), seconds)
        return Running(self._label(task), seconds, found.phase, found.cycle, found.run_fraction)

    def overall(self) -> Overall:
        """Where the whole sweep is."""
        waiting = sum(task.kind == "cell" for task in self._waiting)
        done, failed = len(self.result.finished), len(self.result.failed)
        now = Overall(done, failed, waiting, len(self.plan.cells), self._known)
        left = seconds_left(now, self._durations, min(self.backend.slots, max(1, waiting + len(self._running))))
        return Overall(done, failed, waiting, len(self.plan.cells), self._known, left)

    def row(self, cell: Cell) -> Row:
        """The line of the table for ``cell``, as it stands now."""
        directory = self.plan.cell_dir(cell)
        now = standing(directory)
        failed = cell in self.result.failed or now.state == "failed"
        state = "finished" if cell in self.result.finished else "failed" if failed else now.state
        reason = self.result.failed.get(cell, now.reason) if state == "failed" else ""
        return row(cell, state, reason, directory, self.plan.directory)

    def rows(self) -> list[Row]:
        """The table: the cells asked for, and what the directory holds from before."""
        return [self.row(cell) for cell in in_order(self.plan.cells, self.plan.others())]


def failures(result: Result) -> Iterable[str]:
    """A line for each cell that failed, with its reason; none where the only one has just been said."""
    if len(result.failed) == 1 and result.failed.keys() == result.said:
        return ()
    return (f"{cell.label}: {reason}" for cell, reason in sorted(result.failed.items()))
