"""How long a person waits for help: whole processes, from the shell's fork to their exit. Bound: half a second.

The bound is on the wall clock, as that is what a person waits. The processor time beside it tells a slow program (both
are high) from a busy machine (only the wall clock is).
"""

from __future__ import annotations

import csv
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

RESULTS = Path(__file__).parent / "results" / "startup.csv"
REPEATS = 5
BOUND_S = 0.5

PLASTICITY = str(Path(sys.executable).with_name("plasticity"))
# name -> command, and its bound in seconds; without one it only stands beside the others.
COMMANDS: dict[str, tuple[list[str], float | None]] = {
    "python -c pass": ([sys.executable, "-c", "pass"], None),
    "import neural_plasticity": ([sys.executable, "-c", "import neural_plasticity"], None),
    "plasticity --help": ([PLASTICITY, "--help"], BOUND_S),
    "plasticity run --help": ([PLASTICITY, "run", "--help"], BOUND_S),
}


def seconds(command: list[str]) -> tuple[float, float]:
    """Wall and processor time of one process that has to succeed."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    wall = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> int:
    """Measure, print and write the table; 1 if a bounded command's median is over its bound."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in COMMANDS}
    for command, _bound in COMMANDS.values():
        seconds(command)  # byte code written, files in the page cache
    for _ in range(REPEATS):  # interleaved: a busy moment hits all of them
        for name, (command, _bound) in COMMANDS.items():
            times[name].append(seconds(command))

    rows = []
    for name, (_command, bound) in COMMANDS.items():
        walls, processor = zip(*times[name], strict=True)
        median = statistics.median(walls)
        figures = (median, min(walls), max(walls), statistics.median(processor))
        verdict = "" if bound is None else "ok" if median <= bound else "MISSED"
        rows.append([name, *(f"{figure:.3f}" for figure in figures), bound or "", verdict])

    print(f"{f'seconds, {REPEATS} processes each':28} median    min    max  processor  bound")
    for name, median_s, low, high, processor_s, bound_s, verdict in rows:
        print(f"{name:29} {median_s}  {low}  {high}      {processor_s}  {bound_s!s:>5} {verdict}")
    RESULTS.parent.mkdir(exist_ok=True)
    with RESULTS.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["process", "median_s", "min_s", "max_s", "processor_median_s", "bound_s", "verdict"])
        writer.writerows(rows)
    return int(any(row[-1] == "MISSED" for row in rows))


if __name__ == "__main__":
    sys.exit(main())
