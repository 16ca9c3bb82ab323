"""Trackers by name, each behind a queue of its own: what ``--wandb`` and ``--track`` open, and what ``sync`` fills."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from neural_plasticity.errors import ConfigError
from neural_plasticity.events import AttentionMaps, Embedding, Event, LogLine, Progress
from neural_plasticity.record import Sink, open_run
from neural_plasticity.trackers import connection
from neural_plasticity.trackers.at_exit import when_main_is_over
from neural_plasticity.trackers.background import BackgroundSink, Say, SinkFactory, to_stderr
from neural_plasticity.trackers.wandb_sink import WandbSink

PROJECT = "neural-plasticity"
WANDB = "wandb"
SYNC_SECONDS = 600.0  # for the upload, when somebody waits for nothing else
# Large, or of no use later; the page that W&B gets shows the first two.
IGNORED: tuple[type[Event], ...] = (AttentionMaps, Embedding, Progress, LogLine)


@dataclass(frozen=True)
class TrackedRun:
    """What a tracker needs to know about a run beside its events.

    ``mode`` is W&B's: online, offline or disabled; None: ``WANDB_MODE``, else offline. ``log_in`` False: online only
    when this process is logged in already. ``at_exit`` ends the run of a script that exits without doing so: it is
    called, in a thread of its own, when the main thread is over and trackers can still work.
    """

    run_dir: Path
    project: str = PROJECT
    name: str | None = None  # None: the name that the run gives itself
    mode: str | None = None
    tags: tuple[str, ...] = ()
    notes: str = ""
    log_in: bool = True
    finish_seconds: float = 45.0  # for W&B's last upload; less than a sink has to close
    at_exit: Callable[[], object] | None = None


def open_trackers(names: Sequence[str], tracked: TrackedRun, say: Say = to_stderr) -> list[Sink]:
    """A sink for each tracker in ``names``, which cannot block, slow or stop the experiment.

    ``wandb`` is left out, and that is said, where it is not installed or disabled.

    Raises:
        ConfigError: no such tracker, or (other than ``wandb``) its package is not installed.
    """
    wanted = dict.fromkeys(one.strip() for one in names if one.strip())
    makers = {name: make for name in wanted if (make := _factory(name, tracked, say)) is not None}
    sinks: list[Sink] = [
        BackgroundSink(make, name, fill_in=f"plasticity sync {tracked.run_dir} --to {name}", say=say, ignored=IGNORED)
        for name, make in makers.items()
    ]
    if sinks and tracked.at_exit is not None:
        when_main_is_over(tracked.at_exit)
    return sinks


def check_names(names: Sequence[str]) -> None:
    """Refuse what `open_trackers` would refuse, before anything slow starts.

    Raises:
        ConfigError: no such tracker, or (other than ``wandb``) its package is not installed.
    """
    for name in names:
        if name != WANDB:
            from neural_plasticity.trackers.accelerate_trackers import checked_name

            checked_name(name)


def _factory(name: str, tracked: TrackedRun, say: Say, flag: str = "--track") -> SinkFactory | None:
    if name != WANDB:
        from neural_plasticity.trackers.accelerate_trackers import AccelerateSink, checked_name

        known = checked_name(name, flag)
        return lambda tell: AccelerateSink(known, tracked, tell)
    if connection.chosen_mode(tracked.mode) == "disabled":
        return None
    if not connection.wandb_installed():
        say(f"Weights & Biases is not installed, so nothing goes there: {connection.GET_WANDB}")
        return None
    return lambda tell: WandbSink(tracked, tell)


def sync(run_dir: Path | str, to: str = WANDB, *, tracked: TrackedRun | None = None, say: Say = to_stderr) -> int:
    """Fill a tracker from the record of a run, as a new run there; returns how many events it was sent.

    Raises:
        RecordError: there is no record.
        ConfigError: no such tracker, or its package is not installed.
    """
    info = replace(tracked, run_dir=Path(run_dir)) if tracked else TrackedRun(Path(run_dir))
    if to == WANDB and not connection.wandb_installed():
        raise ConfigError(f"--to {to}: Weights & Biases is not installed: {connection.GET_WANDB}")
    with open_run(run_dir) as run:
        info = replace(info, run_dir=run.path.resolve().parent, finish_seconds=SYNC_SECONDS)
        make = _factory(to, info, say, "--to")
        if make is None:
            raise ConfigError(f"--to {to}: WANDB_MODE is disabled; expected online or offline.")
        sink = make(say)
        sent = 0
        try:
            for event in run.events():
                if not isinstance(event, IGNORED):
                    sink.handle(event)
                    sent += 1
        finally:
            sink.close()
    return sent
