"""What a second process buys on a machine of several cores: whole runs, with one process and with two.

Each round runs each way once, so that a busy moment hits all of them; a way's figure is its ratio to one process with
one thread in the same round, and the median over rounds. The same experiment in each: the built-in model, warm-up,
analysis by gradient, pruning, fine-tuning and evaluation. Two processes talk by gloo, as they do without a GPU.

    python benchmarks/processes.py              # about 10 minutes on two quiet cores; writes results/processes.csv
    python benchmarks/processes.py --rounds 1   # a try, nothing written
"""

from __future__ import annotations

import argparse
import csv
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from neural_plasticity import open_run
from neural_plasticity.events import PhaseEnded, PhaseStarted, StepMetrics

RESULTS = Path(__file__).parent / "results" / "processes.csv"
STEPS, LEFT_OUT = 24, 4  # of each of two training phases; their first steps are left out
OPTIONS = (
    f"run --cycles 1 --warmup_steps {STEPS} --fine_tuning_steps {STEPS} --stabilisation_tolerance 1e-9 --batch_size 8"
    " --sequence_length 128 --score_sequences 64 --eval_sequences 16 --pruning_strategy gradient --pruning_level 0.25"
    " --device cpu"
).split()
LAUNCHED = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "neural_plasticity")
ALONE = "1 process, 1 thread"
# way -> threads of a process, how it is started, and what is said besides
WAYS: dict[str, tuple[int, Sequence[str], Sequence[str]]] = {
    ALONE: (1, ("-m", "neural_plasticity"), ()),
    "1 process, 2 threads": (2, ("-m", "neural_plasticity"), ()),
    "2 processes, 1 thread each": (1, LAUNCHED, ()),
    "2 processes, 1 thread each, --fsdp": (1, LAUNCHED, ("--fsdp",)),
}
SPEED = "tokens_per_second"
FIGURES = {"training": "tokens/s", "scoring": "s"}


def measured(way: str, home: Path) -> dict[str, float]:
    """One run: tokens a second in training (median of steps), and the seconds of the analysis."""
    threads, launcher, more = WAYS[way]
    directory = home / "run"
    command = [sys.executable, *launcher, *OPTIONS, *more, "--output_dir", str(directory)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "CUDA_VISIBLE_DEVICES": ""}
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    speeds, began, seconds = [], 0.0, 0.0
    with open_run(directory) as run:
        for recorded in run.records():
            event = recorded.event
            if isinstance(event, StepMetrics) and event.phase_step > LEFT_OUT and SPEED in event.metrics:
                speeds.append(event.metrics[SPEED])
            elif isinstance(event, PhaseStarted) and event.phase == "analysis":
                began = recorded.time
            elif isinstance(event, PhaseEnded) and event.phase == "analysis":
                seconds = recorded.time - began
    return {"training": statistics.median(speeds), "scoring": seconds}


def main() -> int:
    """Measure in turns, print the table, write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="each runs every way once (default: 3)")
    rounds: int = parser.parse_args().rounds
    found: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    for number in range(rounds):
        for way in WAYS:
            with tempfile.TemporaryDirectory() as home:
                found[way].append(measured(way, Path(home)))
            said = ", ".join(f"{name} {value:.4g} {FIGURES[name]}" for name, value in found[way][-1].items())
            print(f"round {number + 1}  {way:36} {said}", flush=True)
    rows = []
    for way, runs in found.items():
        for figure, unit in FIGURES.items():
            pairs = [(run[figure], alone[figure]) for run, alone in zip(runs, found[ALONE], strict=True)]
            # Of speeds more is better, of seconds less: times as fast as one process with one thread, in both.
            ratios = [ours / base if unit == "tokens/s" else base / ours for ours, base in pairs]
            value = statistics.median(run[figure] for run in runs)
            rows.append((way, figure, value, unit, statistics.median(ratios), min(ratios), max(ratios)))
    print(f"\n{'':36} {'':9} {'median':>8}          times as fast (least, most)")
    for way, figure, value, unit, ratio, low, high in rows:
        print(f"{way:36} {figure:9} {value:8.4g} {unit:8} {ratio:6.2f} ({low:.2f}, {high:.2f})")
    if rounds >= 3:
        with RESULTS.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(
                ("way", "figure", "median", "unit", "times_as_fast", "times_as_fast_min", "times_as_fast_max")
            )
            writer.writerows((*row[:2], f"{row[2]:.4g}", row[3], *(f"{part:.3f}" for part in row[4:])) for row in rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
