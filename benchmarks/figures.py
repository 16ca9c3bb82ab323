"""What figures of a long run cost: a record of 1,000,000 steps, every figure drawn from it and saved as PNG.

Reading the record is part of it. The bound is on processor time of this process, so that other jobs on the machine do
not decide; the time on the wall is printed beside it.

    python benchmarks/figures.py [STEPS]       # exits 1 when a figure takes more than 3 seconds
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np

from neural_plasticity import events as ev
from neural_plasticity.heads import HeadId
from neural_plasticity.record import RecordWriter, Run, open_run
from neural_plasticity.render.figures import FIGURES, draw, save_figure

BOUND, STEPS, CHUNK, CYCLES = 3.0, 1_000_000, 20_000, 5
SHAPE = (12, 12)


def long_run(steps: int) -> Iterator[ev.Event]:
    """A warm-up and five cycles of the same length, with spikes, NaN, and a validation loss every hundred steps."""
    random = np.random.default_rng(0)
    noise = random.normal(0, 0.05, steps)
    per_part = steps // (CYCLES + 1)
    yield ev.RunStarted(name=f"{steps:,} steps", shape=SHAPE, config={}, simulated=True)
    for part in range(CYCLES + 1):
        at = {"cycle": part, "step": part * per_part}
        if part:
            scores = random.random(SHAPE)
            heads = tuple(HeadId(layer, part) for layer in range(SHAPE[0]))
            yield ev.PhaseStarted(phase="analysis", **at)
            yield ev.HeadScores(phase="analysis", scores={"entropy": scores, "gradient": scores}, **at)
            yield ev.PhaseStarted(phase="pruning", **at)
            yield ev.HeadsPruned(
                phase="pruning", heads=heads, strategy="gradient", score=scores, loss_before=2.0, loss_after=2.5, **at
            )
        phase = "fine-tuning" if part else "warmup"
        yield ev.PhaseStarted(phase=phase, **at)
        for number in range(per_part):
            step = part * per_part + number
            loss = 2.0 + np.exp(-number / (per_part / 8)) + noise[step]
            metrics = {"loss": float(loss), "perplexity": 8.0, "sparsity": part / 12, "learning_rate": 1e-4}
            if step % 100 == 0:
                metrics["validation_loss"] = float(loss) + 0.1
            if step % 250_001 == 250_000:
                metrics["loss"] = float("nan") if step % 2 else 9.0
            yield ev.StepMetrics(step=step, phase=phase, cycle=part, phase_step=number, metrics=metrics)
    yield ev.RunEnded(step=steps, state="finished", phase="fine-tuning", cycle=CYCLES)


def record(folder: Path, steps: int) -> Run:
    """The record of such a run."""
    events = long_run(steps)
    with RecordWriter.create(folder) as writer:
        while writer.append_many(islice(events, CHUNK)):
            pass
    return open_run(folder)


def main() -> int:
    """Draw every figure; returns the exit code."""
    steps = int(sys.argv[1]) if len(sys.argv) > 1 else STEPS
    slow = []
    with tempfile.TemporaryDirectory() as scratch:
        run = record(Path(scratch) / "run", steps)
        save_figure(draw(run, "attention"), Path(scratch) / "first.png")  # Matplotlib finds its fonts once
        print(f"{steps:,} steps{'':16}processor   wall")
        for name in FIGURES:
            wall, busy = time.perf_counter(), time.process_time()
            save_figure(draw(run, name), Path(scratch) / f"{name}.png")
            wall, busy = time.perf_counter() - wall, time.process_time() - busy
            print(f"  {name:22} {busy:7.2f} s {wall:7.2f} s{'   over the bound' if busy > BOUND else ''}")
            slow += [name] if busy > BOUND else []
        run.close()
    print(f"bound: {BOUND:g} s each; {f'missed by {slow}' if slow else 'kept'}")
    return 1 if slow else 0


if __name__ == "__main__":
    sys.exit(main())
