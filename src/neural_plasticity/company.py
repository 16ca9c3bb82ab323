"""What the processes beside the main one do: the same experiment, event by event, without record, console or page."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from neural_plasticity.config import RunConfig
from neural_plasticity.errors import InputError, PeerError, RecordError, TrainingError
from neural_plasticity.keeping import CHECKPOINTS, Interrupts, asked_to_stop, kept_after

if TYPE_CHECKING:
    from neural_plasticity.experiment import Experiment


def accompany(config: RunConfig, run_dir: Path | None = None) -> int:
    """Play ``config`` beside the main process; with ``run_dir``, from the checkpoint that it goes on from.

    Returns the exit code, which is the main process's unless this one fails alone.

    Raises:
        InputError: something given cannot be used, here or on another process.
    """
    from neural_plasticity.experiment import checkpoints, open_experiment, play  # imports torch, which takes a while
    from neural_plasticity.models.devices import first_failure

    x = open_experiment(config)
    name = f"process {x.devices.rank}"
    try:
        stages_done = 0 if run_dir is None else _joined(x, run_dir)
        with Interrupts() as interrupts:
            for event in play(x, stages_done):
                stopping = asked_to_stop(x.devices, interrupts, event)
                if x.devices.mesh is not None and kept_after(x, event, stopping):
                    checkpoints.present(x)  # parts of it are here
                if stopping and x.devices.agreed(False):
                    return 130
        x.devices.close()
        return 0
    except KeyboardInterrupt:
        return 130
    except TrainingError as error:
        if first_failure(f"{name}: {error}") == f"{name}: {error}" and error.__cause__ is not None:
            print(f"plasticity: {name}: {error}", file=sys.stderr)  # noqa: T201 not on all processes, as a NaN is
        return 2
    except (InputError, PeerError):
        raise
    except Exception as error:
        own = f"{name}: {type(error).__name__}: {error}"
        if first_failure(own) != own:
            return 2  # what it exchanged with another process broke off; that one has said why
        raise


def _joined(x: Experiment, run_dir: Path) -> int:
    """Go to where the main process goes on; the stages that are done.

    Raises:
        RecordError: its checkpoint cannot be seen from here.
    """
    from neural_plasticity.experiment import checkpoints

    if x.devices.mesh is not None:
        checkpoints.restore_beside(x)
        return checkpoints.Position(*x.devices.agreed((0, 0))).stages_done
    position = checkpoints.Position(*x.devices.agreed((0, 0)))
    if not position.last_seq:
        return 0
    restored = checkpoints.restore(x, run_dir / CHECKPOINTS, position.last_seq)
    if restored is None or restored.position != position:
        raise RecordError(
            f"--resume {run_dir}: process {x.devices.rank} does not see the checkpoint at event {position.last_seq}; "
            "the directory has to be the same on every machine."
        )
    return position.stages_done
