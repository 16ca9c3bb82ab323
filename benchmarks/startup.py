"""How long a person waits for help: whole processes, from the shell's fork to their exit. Bound: half a second."""

from __future__ import annotations

import csv
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
    "import torch": ([sys.executable, "-c", "import torch"], None),
}


def seconds(command: list[str]) -> float:
    """Wall time of one process that has to succeed."""
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> int:
    """Measure, print and write the table; 1 if a bounded command's median is over its bound."""
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for name in COMMANDS:
        seconds(COMMANDS[name][0])  # byte code written, files in the page cache
    for _ in range(REPEATS):  # interleaved: a busy moment hits all of them
        for name, (command, _bound) in COMMANDS.items():
            times[name].append(seconds(command))

    rows = []
    for name, (_command, bound) in COMMANDS.items():
        median = statistics.median(times[name])
        verdict = "" if bound is None else "ok" if median <= bound else "MISSED"
        rows.append([name, f"{median:.3f}", f"{min(times[name]):.3f}", f"{max(times[name]):.3f}", bound or "", verdict])

    print(f"{'process':26} median    min    max  bound (s), {REPEATS} each")
    for name, median, low, high, bound, verdict in rows:
        print(f"{name:26}  {median}  {low}  {high}  {bound!s:>5} {verdict}")
    RESULTS.parent.mkdir(exist_ok=True)
    with RESULTS.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["process", "median_s", "min_s", "max_s", "bound_s", "verdict"])
        writer.writerows(rows)
    return int(any(row[-1] == "MISSED" for row in rows))


if __name__ == "__main__":
    sys.exit(main())
