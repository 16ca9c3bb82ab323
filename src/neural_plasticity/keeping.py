"""A run to its end, however it ends: checkpoints on the way, a clean stop when asked, always a last event."""

from __future__ import annotations

import contextlib
import shlex
import signal
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from neural_plasticity.errors import InputError, TrainingError, first_line
from neural_plasticity.events import Event, LogLine, PhaseEnded, RunEnded, RunState
from neural_plasticity.record import RecordWriter
from neural_plasticity.views import figures

if TYPE_CHECKING:
    from neural_plasticity.experiment import Experiment
    from neural_plasticity.models.devices import Devices

CHECKPOINTS = "checkpoints"


class Interrupts:
    """The first Ctrl-C or SIGTERM asks the run to stop where it can go on from; the second one stops it at once."""

    def __init__(self) -> None:
        self.requested = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Interrupts:
        with contextlib.suppress(ValueError):  # not the main thread: signals are somebody else's
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._ask)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _ask(self, _number: int, _frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True


class Keeper:
    """Writes the checkpoints of a run: after every phase, every so many training steps, and where it is asked to stop.

    ``stages_done`` counts the plan's stages. ``say`` is told once how large a checkpoint is.
    """

    def __init__(
        self, x: Experiment, record: RecordWriter, run_dir: Path, stages_done: int, say: Callable[[str], object]
    ) -> None:
        self.stages_done = stages_done
        self.last_seq = -1  # of the record when a checkpoint was last written, or tried
        self._x = x
        self._record = record
        self._directory = run_dir / CHECKPOINTS
        self._say = say
        self._said = False

    def after(self, event: Event, stopping: bool) -> LogLine | None:
        """What there is to do after ``event``, which the record has; a line where a checkpoint could not be written."""
        from neural_plasticity.experiment import checkpoints

        if not kept_after(self._x, event, stopping):
            return None
        self.stages_done += isinstance(event, PhaseEnded)
        self.last_seq = self._record.last_seq
        state = checkpoints.present(self._x)  # with the other processes, whatever comes now
        try:
            self._record.sync()
            position = checkpoints.Position(self.stages_done, self.last_seq)
            path = checkpoints.save(self._x, self._directory, position, state)
        # Disks refuse with OSError, memory and the libraries in ways of their own: whatever it is, it is no reason to
        # lose the run.
        except Exception as error:
            why = (
                error.strerror
                if isinstance(error, OSError) and error.strerror
                else f"{type(error).__name__}: {first_line(error)}"
            )
            return LogLine(
                message=f"no checkpoint could be written ({why}); the run goes on, but could only be resumed from the "
                "one before",
                level="error",
                **self._x.clock.at(),
            )
        every = self._x.config.checkpoint_every
        if not self._said:
            self._said = True
            often = f" and every {figures.plural(every, 'training step')}" if every else ""
            size = figures.scaled(path.stat().st_size, "B")
            self._say(f"checkpoints: {size} at present, after every phase{often}; the last {checkpoints.KEPT} are kept")
        return None

    @property
    def devices(self) -> Devices:
        """The processes of the run."""
        return self._x.devices

    @property
    def rests(self) -> bool:
        """Whether the run can stop after this event and lose no step: it is kept, or no training is under way.

        With --lora_rank steps are lost: those of the phase in hand, which begins again.
        """
        kept = self.last_seq == self._record.last_seq
        return self._x.training is None or kept or self._x.config.lora_rank is not None


def kept_after(x: Experiment, event: Event, stopping: bool) -> bool:
    """Whether a checkpoint follows ``event``: after each phase, after every so many steps, where the run is to stop."""
    from neural_plasticity.experiment import checkpoints

    if isinstance(event, PhaseEnded):
        return True
    every, steps = x.config.checkpoint_every, checkpoints.steps_at_rest(x, event)
    return steps > 0 and (stopping or (every > 0 and steps % every == 0))


def to_an_end(events: Iterable[Event], keeper: Keeper, interrupts: Interrupts, run_dir: Path) -> Iterator[Event]:
    """``events`` with checkpoints between them, and a ``RunEnded`` in every case but that of a second Ctrl-C."""
    last, devices = Event(), keeper.devices
    try:
        for event in events:
            last = event
            yield event
            stopping = asked_to_stop(devices, interrupts, event)
            failed = keeper.after(event, stopping)
            rests = keeper.rests  # before a line about the failure is on record behind it
            if failed:
                yield failed
            if stopping and devices.agreed(rests):
                yield stopped(last, run_dir)
                return
    except TrainingError as error:
        yield _ended(last, "failed", str(error))
    except InputError as error:  # a user's own strategy or evaluation, which can only fail when it is called
        yield _ended(last, "failed", str(error))
        raise
    except Exception as error:
        own = f"{type(error).__name__}: {error}"
        reason = devices.first_failure(own)
        yield _ended(last, "failed", reason)
        if reason == own:
            raise


def asked_to_stop(devices: Devices, interrupts: Interrupts, event: Event) -> bool:
    """Whether any process was, by the time that all of them have come to ``event``. Every process has to ask."""
    return not isinstance(event, RunEnded) and devices.anywhere(interrupts.requested)


def stopped(last: Event, run_dir: Path) -> RunEnded:
    """The end of a run that was interrupted after ``last``, with the command that goes on."""
    return _ended(last, "stopped", f"interrupted; go on with: plasticity run --resume {shlex.quote(str(run_dir))}")


def _ended(last: Event, state: RunState, reason: str) -> RunEnded:
    return RunEnded(
        state=state, reason=reason, step=last.step, phase=last.phase, cycle=last.cycle, phase_step=last.phase_step
    )
