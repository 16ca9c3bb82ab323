"""What recording costs: events per second against W&B offline, its share of a training step, and reading a long run.

Everything in one process, in interleaved rounds with a pause after each; medians and ratios, since absolute rates are
the machine's. "With array" is the four numbers plus one fresh 12 × 12 float64 grid per step. What W&B users do with
such a grid: 144 scalar keys, or a Histogram (which keeps counts, not the heads). A nested list is W&B's fastest form
that keeps every value; nothing displays it. The bound is held against the fastest of the three.
Before timing stops, both sides have returned from every call; ours are committed then, W&B's queued.

    python benchmarks/record.py            # writes benchmarks/results/record.csv, exits 1 when a figure misses
"""

from __future__ import annotations

import csv
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from neural_plasticity.events import HeadScores, Progress, StepMetrics
from neural_plasticity.record import RecordWriter, open_run

RESULTS = Path(__file__).parent / "results" / "record.csv"
ROUNDS, PER_ROUND = 5, 1500
SETTLE_S = 0.4  # after each round: what W&B's own process still works off must not be timed with anybody's calls
RATE_BOUND, SHARE_BOUND, READ_STEPS = 5.0, 0.01, 1_000_000
GRID = (12, 12)
KEYS = [f"entropy/L{layer}H{head}" for layer in range(GRID[0]) for head in range(GRID[1])]


def numbers(step: int) -> dict[str, float]:
    """Four metrics of a step."""
    return {"loss": 2.0 + step * 1e-3, "perplexity": 7.0 + step, "sparsity": 0.1, "learning_rate": 1e-3 / (step + 1)}


def our_ways(writer: RecordWriter, random: np.random.Generator) -> dict[str, Callable[[int], object]]:
    def plain(step: int) -> object:
        return writer.append(StepMetrics(step=step, phase="warmup", phase_step=step, metrics=numbers(step)))

    def with_array(step: int) -> object:
        return writer.append_many(
            (
                StepMetrics(step=step, phase="warmup", phase_step=step, metrics=numbers(step)),
                HeadScores(step=step, phase="warmup", phase_step=step, scores={"entropy": random.random(GRID)}),
            )
        )

    return {"ours: 4 numbers": plain, "ours: with array": with_array}


def wandb_ways(run: Any, random: np.random.Generator) -> dict[str, Callable[[int], object]]:
    import wandb

    def plain(step: int) -> object:
        return run.log({**numbers(step), "global_step": step})

    def keys(step: int) -> object:
        grid = random.random(GRID).ravel().tolist()
        return run.log({**numbers(step), "global_step": step, **dict(zip(KEYS, grid, strict=True))})

    def histogram(step: int) -> object:
        return run.log({**numbers(step), "global_step": step, "entropy": wandb.Histogram(random.random(GRID).ravel())})

    def nested(step: int) -> object:
        return run.log({**numbers(step), "global_step": step, "entropy": random.random(GRID).tolist()})

    return {
        "wandb: 4 numbers": plain,
        "wandb: array as 144 keys": keys,
        "wandb: array as Histogram": histogram,
        "wandb: array as nested list": nested,
    }


def rates(folder: Path) -> dict[str, float]:
    """Median events (calls) per second of each way."""
    os.environ.update(WANDB_MODE="offline", WANDB_SILENT="true")
    import wandb

    settings = wandb.Settings(silent=True, console="off", x_disable_stats=True)
    run = wandb.init(dir=str(folder), project="benchmark", settings=settings)
    random = np.random.default_rng(0)
    seen: dict[str, list[float]] = {}
    with RecordWriter.create(folder / "rates") as writer:
        ways = our_ways(writer, random) | wandb_ways(run, random)
        for number in range(-1, ROUNDS):  # the first round warms up
            for name, call in ways.items():
                first = (number + 1) * PER_ROUND
                start = time.perf_counter()
                for step in range(first, first + PER_ROUND):
                    call(step)
                rate = PER_ROUND / (time.perf_counter() - start)
                if number >= 0:
                    seen.setdefault(name, []).append(rate)
                time.sleep(SETTLE_S)
    run.finish()
    return {name: statistics.median(values) for name, values in seen.items()}


def step_share(folder: Path, rounds: int = 9) -> tuple[float, float]:
    """Seconds of one training step (6 layers × 8 heads, width 192, 8 × 128 tokens, AdamW), and of recording it."""
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    config = GPT2Config(n_layer=6, n_head=8, n_embd=192, vocab_size=2048, n_positions=256)
    model = GPT2LMHeadModel(config)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-3)
    batch = torch.randint(0, 2048, (8, 128))
    training, recording = [], []
    with RecordWriter.create(folder / "share") as writer:
        for step in range(rounds + 2):
            start = time.perf_counter()
            loss = model(input_ids=batch, labels=batch).loss
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            middle = time.perf_counter()
            writer.append(StepMetrics(step=step, phase="warmup", phase_step=step, metrics=numbers(step)))
            writer.append(
                Progress(step=step, phase="warmup", done=step, planned=rounds, run_fraction=0.1, seconds_left=9.0)
            )
            end = time.perf_counter()
            if step >= 2:  # the first two warm up
                training.append(middle - start)
                recording.append(end - middle)
    return statistics.median(training), statistics.median(recording)


def long_series(folder: Path) -> tuple[float, float]:
    """Seconds to read one of four metrics over a million steps, and the file's size in MB."""
    with RecordWriter.create(folder / "long") as writer:
        for first in range(0, READ_STEPS, 10_000):
            steps = range(first, first + 10_000)
            writer.append_many(StepMetrics(step=step, phase="warmup", metrics=numbers(step)) for step in steps)
    taken = []
    with open_run(folder / "long") as run:
        for _ in range(3):
            start = time.perf_counter()
            steps, values = run.series("loss")
            taken.append(time.perf_counter() - start)
    if len(steps) != READ_STEPS or values[-1] != numbers(READ_STEPS - 1)["loss"]:
        raise SystemExit("the series read is not the one written")
    return statistics.median(taken), (folder / "long" / "run.sqlite").stat().st_size / 1e6


def main() -> int:
    """Measure, print, write the CSV; 1 when a bound is missed."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        per_second = rates(folder)
        training, recording = step_share(folder)
        reading, megabytes = long_series(folder)
    theirs = max(rate for way, rate in per_second.items() if way.startswith("wandb: array"))
    plain = per_second["ours: 4 numbers"] / per_second["wandb: 4 numbers"]
    arrays = per_second["ours: with array"] / theirs
    rows: list[tuple[str, float, str, str, bool]] = [
        *((way, rate, "calls/s", "", True) for way, rate in per_second.items()),
        ("ratio: 4 numbers", plain, "x", f">= {RATE_BOUND:g}", plain >= RATE_BOUND),
        ("ratio: with array, to W&B's fastest form", arrays, "x", f">= {RATE_BOUND:g}", arrays >= RATE_BOUND),
        ("ratio: with array, to 144 keys",
         per_second["ours: with array"] / per_second["wandb: array as 144 keys"], "x", "", True),
        ("ratio: with array, to a Histogram",
         per_second["ours: with array"] / per_second["wandb: array as Histogram"], "x", "", True),
        ("training step", training * 1e3, "ms", "", True),
        ("recording it (metrics + progress)", recording * 1e3, "ms", "", True),
        ("recording's share of a step", 100 * recording / training, "%", "<= 1", recording / training <= SHARE_BOUND),
        (f"series of {READ_STEPS:,} steps", reading, "s", "", True),
        (f"size per step of 4 metrics ({READ_STEPS:,} steps)", megabytes * 1e6 / READ_STEPS, "bytes", "", True),
    ]  # fmt: skip
    for what, value, unit, bound, held in rows:
        print(f"{what:<46} {value:>12,.3f} {unit:<8} {bound:<6} {'' if held else 'MISSED'}")
    RESULTS.parent.mkdir(exist_ok=True)
    with RESULTS.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["figure", "value", "unit", "bound", "held"])
        writer.writerows((what, f"{value:.4g}", unit, bound, held) for what, value, unit, bound, held in rows)
    return 0 if all(row[-1] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
