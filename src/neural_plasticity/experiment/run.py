"""The experiment as a stream of events: it knows neither the record nor any view."""

from __future__ import annotations

import itertools
import math
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch
import transformers

from neural_plasticity.config import RunConfig, as_json
from neural_plasticity.data.prompts import PROBE_PROMPTS_VERSION
from neural_plasticity.errors import TrainingError
from neural_plasticity.events import Event, PhaseEnded, PhaseStarted, RunEnded, RunStarted
from neural_plasticity.experiment import checkpoints
from neural_plasticity.experiment.clock import Stage
from neural_plasticity.experiment.evaluation import evaluation
from neural_plasticity.experiment.growth_phases import growth
from neural_plasticity.experiment.judging import followed, judging
from neural_plasticity.experiment.memory import out_of_memory
from neural_plasticity.experiment.pruning_phases import analysis, pruning
from neural_plasticity.experiment.state import Experiment, open_experiment
from neural_plasticity.experiment.training_phases import fine_tuning, warmup
from neural_plasticity.models.size import model_size

PHASES: Mapping[str, Callable[[Experiment], Iterator[Event]]] = {
    "warmup": warmup,
    "analysis": analysis,
    "pruning": pruning,
    "fine-tuning": fine_tuning,
    "growth": growth,
    "evaluation": evaluation,
}


def run(config: RunConfig) -> Iterator[Event]:
    """Open the experiment and play it: every phase of every cycle, as events.

    Raises:
        InputError: something given cannot be used; raised by this call, before the first event.
        TrainingError: the loss is no longer a finite number; raised while iterating.
    """
    return play(open_experiment(config))


def play(x: Experiment, stages_done: int = 0) -> Iterator[Event]:
    """The events of an opened experiment, without the stages that a restored checkpoint has done.

    After each ``PhaseEnded`` the experiment is at rest, and ``checkpoints.save`` keeps it as it is.
    """
    began = time.perf_counter()
    yield started(x)
    for number in itertools.count():
        if number >= len(x.plan):  # which may have become shorter
            break
        stage = x.plan[number]
        work = x.work_of(stage)
        if number < stages_done:
            x.clock.skip(work)
            continue
        if x.config.auto and x.kept is None and stage.cycle:
            checkpoints.keep(x)  # where a first cycle outside the budget leads back to
        planned, unit = _planned(x, stage)
        x.clock.enter(stage, work, planned, unit)
        if x.training is not None and x.training.within is not None:
            x.clock.rejoin(x.training.within)
        else:
            yield PhaseStarted(planned=planned, unit=unit, **x.clock.at())
        try:
            for event in judging(x) if stage.judges else PHASES[stage.phase](x):
                followed(x, event)
                if isinstance(event, PhaseEnded):
                    x.training = None
                yield event
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            raise TrainingError(
                f"out of memory during {stage.phase}; give a lower --batch_size or --sequence_length, and go on with "
                "--resume or start again."
            ) from error
    if stages_done >= len(x.plan):  # an earlier attempt did it all, and was ended before it could say so
        last = x.plan[-1]
        planned, unit = _planned(x, last)
        x.clock.enter(last, 0.0, planned, unit)
        x.clock.phase_step = planned + last.judges  # a judgement is the end only where it led back, which is a step
    summary = {"seconds": time.perf_counter() - began, **x.closing}
    yield RunEnded(state="finished", reason=x.stopped or "", summary=summary, **x.clock.at())


def started(x: Experiment) -> RunStarted:
    """Everything needed to repeat the run."""
    size = model_size(x.model)
    splits = {"train": x.train, "validation": x.validation, "test": x.test}
    if x.judged is not None:
        splits["judged"] = x.judged.blocks  # of the validation text
    return RunStarted(
        name=f"{Path(x.config.model_name).name} · {x.config.pruning_strategy} {x.config.pruning_level}",
        shape=x.shape_before,
        absent=x.absent_before,
        config=as_json(x.config),
        model={
            "name": x.config.model_name,
            "architecture": x.heads.model.config.model_type,
            "parameters": size.parameters,
            "bytes": size.bytes,
            "dtype": str(next(x.model.parameters()).dtype).removeprefix("torch."),
        },
        data={
            "name": x.corpus.name,
            "sha256": x.corpus.sha256,
            "sequence_length": int(x.train.shape[1]),
            "sequences": {name: len(blocks) for name, blocks in splits.items()},
            "probe_prompts": PROBE_PROMPTS_VERSION,
        },
        environment={
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "platform": platform.platform(),
            "device": str(x.device),
            "processes": x.devices.size,
            "parameters": "whole" if x.devices.mesh is None else "in parts",
            "threads": torch.get_num_threads(),
            "cores": os.cpu_count() or 0,
            "command": sys.argv,
        },
        **x.clock.at(),
    )


def _planned(x: Experiment, stage: Stage) -> tuple[int, str]:
    match stage.phase:
        case "warmup":
            return x.config.warmup_steps, "steps"
        case "fine-tuning":
            return x.config.fine_tuning_steps, "steps"
        case "growth":
            return x.config.steps_of_growth, "steps"
        case "evaluation" if stage.judges and x.judged is not None:
            return 2 * math.ceil(len(x.judged.blocks) / x.config.sequences_at_once), "validation batches"
        case "evaluation":
            batches = math.ceil(len(x.test) / x.config.sequences_at_once)
            return batches * (2 if x.control is not None and stage.cycle else 1), "batches"
        case "analysis":
            return len(x.scoring_batches()), "batches"
        case _:
            return 1, "decision"
