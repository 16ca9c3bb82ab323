"""What a checkpoint costs: built-in model and control, in fine-tuning (``python -m benchmarks.checkpoints``)."""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

from neural_plasticity.config import RunConfig
from neural_plasticity.events import StepMetrics
from neural_plasticity.experiment import checkpoints, open_experiment
from neural_plasticity.experiment.training_phases import training_steps

REPEATS = 5


def main() -> None:
    config = RunConfig(control=True, device="cpu").checked()
    x = open_experiment(config)
    x.control = x.copy_of_model()
    x.clock.enter(x.plan[4], x.work_of(x.plan[4]), config.fine_tuning_steps, "steps")
    steps: list[float] = []
    events = training_steps(x, config.fine_tuning_steps)
    while len(steps) < REPEATS:
        began = time.perf_counter()
        if isinstance(next(events), StepMetrics):
            steps.append(time.perf_counter() - began)
    with tempfile.TemporaryDirectory() as name:
        directory, writing, reading = Path(name), [], []
        for number in range(1, REPEATS + 1):
            began = time.perf_counter()
            path = checkpoints.save(x, directory, checkpoints.Position(4, number))
            writing.append(time.perf_counter() - began)
        size = path.stat().st_size
        fresh = open_experiment(config)
        for _ in range(REPEATS):
            began = time.perf_counter()
            assert checkpoints.restore(fresh, directory) is not None
            reading.append(time.perf_counter() - began)
    print(f"{size / 1e6:.1f} MB; medians of {REPEATS}, in seconds:")
    for what, times in (("writing", writing), ("reading", reading), ("a training step", steps)):
        print(f"  {what}: {statistics.median(times):.3f} ({min(times):.3f} to {max(times):.3f})")


if __name__ == "__main__":
    main()
