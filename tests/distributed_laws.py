"""What two processes that compute together find, as figures: run alone, and run by a launcher, to be held side by side.

``python tests/distributed_laws.py MODEL TEXT OUT [--fsdp]``: process r writes OUT/<processes>-<r>.npz, and the main one
a checkpoint; several processes go on from the one that a process alone has left there before.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.distributed.tensor import DTensor

from neural_plasticity.errors import PeerError, UnsupportedModelError
from neural_plasticity.events import Event, HeadsGrown, HeadsPruned, StepMetrics
from neural_plasticity.experiment import checkpoints, open_experiment
from neural_plasticity.experiment.clock import Stage
from neural_plasticity.experiment.growth_phases import growth
from neural_plasticity.experiment.judging import followed
from neural_plasticity.experiment.pruning_phases import analysis, pruning
from neural_plasticity.experiment.state import Experiment
from neural_plasticity.experiment.training import Trainee, continuation, held_out_losses
from neural_plasticity.experiment.training_phases import fine_tuning, warmup
from neural_plasticity.importance import score_heads
from neural_plasticity.importance.benefit import benefits
from neural_plasticity.models.adapters import Adapters
from neural_plasticity.models.compaction import compact
from neural_plasticity.models.parts import whole
from neural_plasticity.models.saving import export_dense, save_pruned
from neural_plasticity.models.size import model_size
from tests.small_runs import small_config

CRITERIA = ("entropy", "gradient", "fisher", "output_norm", "combined", "ablation", "gradient_signed", "magnitude")
LOSSES = ("loss", "control_loss", "validation_loss", "gradient_norm")
PHASES = (("warmup", 0, warmup), ("analysis", 1, analysis), ("pruning", 1, pruning), ("fine-tuning", 1, fine_tuning))
LATER = (("analysis", 2, analysis), ("pruning", 2, pruning), ("growth", 2, growth))


def events_of(x: Experiment, phases: Any) -> Iterator[Event]:
    for phase, cycle, play in phases:
        x.clock.enter(Stage(phase, cycle), 1.0, 1, "steps")
        for event in play(x):
            followed(x, event)
            yield event
        x.training = None


def figures_of(x: Experiment) -> dict[str, Any]:
    """Scores of batches that do not come out even, then a short experiment with every decision it took."""
    found: dict[str, Any] = {}
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(3, 900, (5, 20), generator=generator)
    mask = torch.ones_like(ids)
    mask[1, :7] = 0  # left padding
    batches = [{"input_ids": ids, "attention_mask": mask}, {"input_ids": ids[:1] + 1}]
    with x.heads.gated(x.heads.mask & ~np.eye(*x.heads.shape, dtype=bool)):
        scores = score_heads(x.model, batches, CRITERIA, entropy_rows=6, seed=3, devices=x.devices)
        found |= {f"score {name}": grid for name, grid in scores.items()}
        found["benefits"] = benefits(x.heads, batches, devices=x.devices).off
    found["losses"] = x.losses_of(x.test[:7])
    pruned, losses = [], []
    for event in events_of(x, (*PHASES, *LATER)):
        if isinstance(event, HeadsPruned | HeadsGrown):
            pruned.append(np.array([[event.cycle, *head] for head in event.heads]).reshape(-1, 3))
        elif isinstance(event, StepMetrics):
            losses.append([event.metrics.get(name, np.nan) for name in LOSSES])
    found["heads"], found["steps"] = np.concatenate(pruned), np.array(losses)
    found["weights"] = torch.cat([whole(one.detach()).flatten() for one in x.model.parameters()]).numpy()
    small = compact(x.model)
    found["gated"] = x.losses_of(x.test[:7])
    found["compacted"] = held_out_losses(small, x.test[:7], 4, x.device, x.devices)
    found["compacted size"] = np.array([one.numel() for one in small.parameters()])
    found["text"] = np.array(continuation(small, torch.from_numpy(x.test[:1, :8]), 4, 0))
    return found


def refused(x: Experiment, directory: Path) -> bool:
    """GPT-2's configuration cannot speak of new heads, which only the process that writes finds out."""
    try:
        export_dense(x.model, directory)
    except (UnsupportedModelError, PeerError) as error:
        return isinstance(error, UnsupportedModelError) == (x.devices.main or x.devices.mesh is None)
    return False


def bytes_held(model: torch.nn.Module) -> int:
    """What this process holds of the model's parameters."""
    local = [one.to_local() if isinstance(one, DTensor) else one for one in model.parameters()]
    return sum(one.untyped_storage().nbytes() for one in local)


def stop_within(x: Experiment, directory: Path) -> None:
    """Stop after the first step of a fine-tuning, and write the checkpoint there."""
    stage = Stage("fine-tuning", 2)
    x.clock.enter(stage, x.work_of(stage), x.config.fine_tuning_steps, "steps")
    steps = fine_tuning(x)
    assert isinstance(next(steps), StepMetrics)
    state = checkpoints.present(x)
    if x.devices.main:
        checkpoints.save(x, directory, checkpoints.Position(x.plan.index(stage), 1), state)
    steps.close()  # type: ignore[attr-defined]


@torch.no_grad()
def gone_on(x: Experiment, directory: Path) -> Any:
    """Losses (steps, LOSSES) of the rest of that fine-tuning, by an experiment that knows nothing of it any more."""
    for one in [*x.model.parameters()]:
        one.zero_()
    x.training = None
    if x.devices.mesh is None or x.devices.main:
        assert checkpoints.restore(x, directory) is not None
    else:
        checkpoints.restore_beside(x)
    stage = Stage("fine-tuning", 2)
    x.clock.enter(stage, x.work_of(stage), x.config.fine_tuning_steps, "steps")
    with torch.enable_grad():
        steps = [event.metrics for event in fine_tuning(x) if isinstance(event, StepMetrics)]
    return np.array([[one.get(name, np.nan) for name in LOSSES] for one in steps])


def adapted(x: Experiment) -> Any:
    """Losses after two steps of adapters, which are merged then."""
    adapters = Adapters(x.model, x.heads, 4, seed=1)
    with Trainee.start(x.model, x.heads, x.config, 20, devices=x.devices, adapters=adapters) as trainee:
        for number in range(2):
            trainee.step(torch.from_numpy(x.train[4 * number : 4 * number + 4]), number)
    return x.losses_of(x.test[:7])


def opened(model: Path, text: Path, fsdp: bool = False) -> Experiment:
    config = small_config(
        model,
        text,
        warmup_steps=3,
        fine_tuning_steps=3,
        growth=True,
        growth_steps=2,
        grow_new_heads=2,
        cycles=2,
        control=True,
        pruning_level="0.3",
        learning_rate=1e-3,
        eval_sequences=7,
        fsdp=fsdp,
        gradient_accumulation_steps=2 if fsdp else 1,
        gradient_checkpointing=fsdp,
    )
    x = open_experiment(config)
    for module in x.model.modules():  # masks of dropout are drawn by each process for its own part
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return x


def main(model: Path, text: Path, out: Path, fsdp: bool = False) -> None:
    x = opened(model, text, fsdp)
    held = [bytes_held(x.model), model_size(x.model).bytes]
    found = figures_of(x)
    stop_within(x, out / f"{x.devices.size}")
    found["refused"] = np.array(refused(x, out / "dense"))
    save_pruned(x.model, out / f"saved-{x.devices.size}")
    found["went on"] = gone_on(x, out / "1")
    found["adapted"] = adapted(x)
    np.savez(out / f"{x.devices.size}-{x.devices.rank}.npz", **found, held=np.array(held))
    x.devices.close()


if __name__ == "__main__":
    main(*(Path(one) for one in sys.argv[1:4]), fsdp="--fsdp" in sys.argv)
