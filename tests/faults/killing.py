"""One attempt at a run in a child that tells what it has on record, killed at a given moment; and what is left then."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import multiprocessing
import os
import sys
import threading
import time
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Literal

import numpy as np

from neural_plasticity.config import RunConfig
from neural_plasticity.errors import NeuralPlasticityError
from neural_plasticity.events import Event
from neural_plasticity.record import open_run
from neural_plasticity.render.page import read_page, write_page

SECONDS = 600.0  # no attempt takes so long; one that does hangs

# Starting a process asks all others whether they have ended; two threads at once would take each other's answers.
_PROCESSES = threading.Lock()

Where = Literal["opening", "recording", "writing a checkpoint", "computing"]


# In the child ----------------------------------------------------------------------------------------------------


def attempt(told: Connection, config: RunConfig, run_dir: Path, resume: bool) -> None:
    """One attempt at a run, in a process of its own, which tells what it does."""
    log = os.open(run_dir.with_suffix(".log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    import torch

    from neural_plasticity import session

    torch.set_num_threads(1)
    _watch(told)
    code = session.resume_run(run_dir) if resume else session.start_run(config, run_dir)
    sys.exit(code)


def _watch(told: Connection) -> None:
    """Have the record and the checkpoints say when they begin and when they are done: one write each."""
    from neural_plasticity.experiment import checkpoints
    from neural_plasticity.record import RecordWriter

    def say(line: str) -> None:
        os.write(told.fileno(), line.encode() + b"\n")  # shorter than a pipe's atomic write

    append, save = RecordWriter.append, checkpoints.save

    def appending(writer: RecordWriter, event: Event) -> int:
        say("recording")
        seq = append(writer, event)
        say(json.dumps([seq, event.phase, event.cycle, event.kind, digest(event)]))
        return seq

    def saving(*arguments: Any, **named: Any) -> Any:
        say("saving")
        saved = save(*arguments, **named)
        say("saved")
        return saved

    RecordWriter.append = appending  # type: ignore[method-assign]
    checkpoints.save = saving
    say("open")


def digest(event: Event) -> str:
    """A name for everything that an event says."""
    return hashlib.blake2b(repr((event.kind, _plain(vars(event)))).encode(), digest_size=12).hexdigest()


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return tuple(_plain(one) for one in value)
    return float(value) if isinstance(value, float) else value  # a NumPy float is the float that it is


# In the parent ---------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Moment:
    """When to kill: ``seconds`` after the ``number``-th line of its kind that the child says.

    ``what`` is "open", "saving", "recording", a phase and cycle ("fine-tuning 1"), or any "event".
    """

    what: str
    number: int
    seconds: float


@dataclasses.dataclass
class Kill:
    """What was found after one kill."""

    place: str  # phase and cycle of the last event told
    where: Where
    told: int
    lost: int
    intact: bool
    exported: bool


@dataclasses.dataclass
class Attempted:
    """What one child said, and how it ended."""

    code: int | None
    told: list[tuple[int, str]]  # number and digest
    place: str
    where: Where


def attempted(config: RunConfig, run_dir: Path, resume: bool, moment: Moment | None) -> Attempted:
    """Let a child play the run, until the ``moment`` comes or it is done."""
    context = multiprocessing.get_context("forkserver")
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=attempt, args=(theirs, config, run_dir, resume))
    with _PROCESSES:
        child.start()
    theirs.close()
    too_long = threading.Timer(SECONDS, child.kill)
    too_long.start()
    told: list[tuple[int, str]] = []
    place, where, seen = "opening", "opening", 0
    timer: threading.Timer | None = None
    with os.fdopen(os.dup(ours.fileno()), "rb") as lines:
        for raw in lines:
            if not raw.endswith(b"\n"):
                break
            line = raw.decode().strip()
            was = line
            if line.startswith("["):
                seq, phase, cycle, _kind, content = json.loads(line)
                told.append((seq, content))
                was = place = f"{phase} {cycle}" if phase else "opening"
                where = "computing"
            else:
                where = {"recording": "recording", "saving": "writing a checkpoint"}.get(line, where)
                where = "computing" if line == "saved" else where
            hit = moment is not None and moment.what in (was, "event" if line.startswith("[") else was)
            if moment is not None and hit and timer is None:
                seen += 1
                if seen == moment.number:
                    timer = _kill_in(child, moment.seconds)
    wait([child.sentinel])
    with _PROCESSES:
        child.join()
    ours.close()
    too_long.cancel()
    if timer is not None:
        timer.cancel()
    return Attempted(child.exitcode, told, place, where)  # type: ignore[arg-type]


def _kill_in(child: Any, seconds: float) -> threading.Timer | None:
    """Kill after ``seconds``: here, where they are few, since a timer's thread alone takes longer to begin."""
    if seconds > 0.05:
        timer = threading.Timer(seconds, child.kill)
        timer.start()
        return timer
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        pass
    child.kill()
    return None


def looked_at(run_dir: Path, found: Attempted, told_before: dict[int, str]) -> Kill:
    """The state of the run directory after a kill, everything told so far (``told_before`` too) looked up."""
    told_before.update(found.told)
    lost, intact, exported = len(told_before), False, False
    with contextlib.suppress(NeuralPlasticityError), open_run(run_dir) as run:
        held = {one.seq: digest(one.event) for one in run.records(attempt="all")}
        lost = sum(held.get(seq) != content for seq, content in told_before.items())
        intact = run._query("PRAGMA integrity_check") == [("ok",)]
        page = write_page(run, run_dir.with_suffix(".html"))
        exported = bool(read_page(page)["meta"])
    if not told_before:  # it had not begun: there is nothing to lose and nothing to show, and it can be started again
        lost, intact, exported = 0, True, True
    return Kill(found.place, found.where, len(found.told), lost, intact, exported)
