"""What is left when a run is killed (SIGKILL, with all its processes) one second after its last ``log`` returned.

A script logs a row every 50 ms and says when the last call has returned; a second later it and everything that it
started is killed, as a batch system or the kernel's out-of-memory killer does it. Then each store is read back by its
own reader: our record with `open_run`, W&B's offline runs with ``wandb leet inspect``, Trackio's database with its
storage class, TensorBoard's files with its event accumulator. "Plain" is what each one's own documentation has: open a
run, log, nothing set.

    python benchmarks/sink_kill.py         # writes benchmarks/results/sink_kill.csv, exits 1 if our record lost a row
"""

from __future__ import annotations

import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

from neural_plasticity.events import StepMetrics
from neural_plasticity.record import open_run

RESULTS = Path(__file__).parent / "results" / "sink_kill.csv"
ROUNDS, ROWS, PAUSE = 5, 100, 0.05

OURS = f"""
import sys, time
from pathlib import Path
from neural_plasticity.events import RunStarted, StepMetrics
from neural_plasticity.record import RecordWriter
from neural_plasticity.trackers import TrackedRun, open_trackers
directory = Path(sys.argv[1])
record = RecordWriter.create(directory)
(sink,) = open_trackers(["wandb"], TrackedRun(directory, mode="offline"))
def log(event):
    record.append(event)
    sink.handle(event)
log(RunStarted(name="killed", shape=(2, 2), config={{}}))
while not sink.handled:  # wandb is up; the plain script waits for that as well
    time.sleep(0.01)
for step in range({ROWS}):
    log(StepMetrics(step=step, phase="warmup", metrics={{"loss": 2.0}}))
    time.sleep({PAUSE})
print("logged", flush=True)
time.sleep(600)
"""
PLAIN = f"""
import sys, time
import wandb
run = wandb.init(project="killed", mode="offline", dir=sys.argv[1])
for step in range({ROWS}):
    run.log({{"warmup/loss": 2.0, "global_step": step}})
    time.sleep({PAUSE})
print("logged", flush=True)
time.sleep(600)
"""
TRACKIO = f"""
import os, sys, time
os.environ["TRACKIO_DIR"] = sys.argv[1]
import trackio
trackio.init(project="killed", name="one", embed=False, auto_log_cpu=False, auto_log_gpu=False)
for step in range({ROWS}):
    trackio.log({{"loss": 2.0}}, step=step)
    time.sleep({PAUSE})
print("logged", flush=True)
time.sleep(600)
"""
TENSORBOARD = f"""
import sys, time
from torch.utils.tensorboard import SummaryWriter
writer = SummaryWriter(sys.argv[1])
for step in range({ROWS}):
    writer.add_scalar("loss", 2.0, step)
    time.sleep({PAUSE})
print("logged", flush=True)
time.sleep(600)
"""


@dataclass(frozen=True)
class Store:
    """Something that keeps rows: the script that fills it, and how many rows are read back."""

    name: str
    script: str
    kept: Callable[[Path], int]


def in_record(directory: Path) -> int:
    """Step metrics in our record."""
    with open_run(directory) as run:
        return sum(1 for _ in run.events(StepMetrics))


def in_wandb(directory: Path) -> int:
    """Rows of history in the offline run, by W&B's own inspector."""
    found = next((directory / "wandb").glob("offline-run-*"))
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(found)]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    records = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return sum(1 for one in records if one["type"] == "history" and "warmup/loss" in one["history"]["item"])


def in_trackio(directory: Path) -> int:
    """Rows of its database, read by a process of its own: the folder is chosen when the package is imported."""
    read = (
        "from trackio.sqlite_storage import SQLiteStorage as storage\n"
        "print(sum('loss' in row for row in storage.get_logs('killed', 'one')))"
    )
    environment = {**os.environ, "TRACKIO_DIR": str(directory)}
    done = subprocess.run([sys.executable, "-c", read], capture_output=True, text=True, check=True, env=environment)
    return int(done.stdout.split()[-1])


def in_tensorboard(directory: Path) -> int:
    """Scalars in its event files."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(directory), size_guidance={"scalars": 0})
    found.Reload()
    return len(found.Scalars("loss")) if "loss" in found.Tags()["scalars"] else 0


STORES = (
    Store("our record", OURS, in_record),
    Store("our W&B sink, offline", OURS, in_wandb),
    Store("plain W&B, offline", PLAIN, in_wandb),
    Store("plain Trackio", TRACKIO, in_trackio),
    Store("plain TensorBoard", TENSORBOARD, in_tensorboard),
)
SCRIPTS = {"ours": OURS, "wandb": PLAIN, "trackio": TRACKIO, "tensorboard": TENSORBOARD}


def kill_after_log(script: str, directory: Path) -> None:
    """Run ``script`` until it has logged everything, and kill it with all its processes a second later."""
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(directory)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert process.stdout is not None
    for line in process.stdout:
        if line.strip() == "logged":
            break
    time.sleep(1.0)
    family = [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]
    for one in family:
        one.suspend()  # so that nobody sees another one die and saves something
    for one in family:
        one.kill()
    process.wait()
    process.stdout.close()


def measured(root: Path) -> dict[str, list[int]]:
    """Rows kept, per store and round."""
    kept: dict[str, list[int]] = {store.name: [] for store in STORES}
    for number in range(ROUNDS):
        for name, script in SCRIPTS.items():
            directory = root / f"{number}-{name}"
            directory.mkdir()
            if script is OURS:  # a record makes its own
                directory = directory / "run"
            kill_after_log(script, directory)
            for store in STORES:
                if store.script is script:
                    kept[store.name].append(store.kept(directory))
    return kept


def main() -> int:
    with tempfile.TemporaryDirectory() as root:
        kept = measured(Path(root))
    print(f"Killed 1 s after the last of {ROWS} rows, one every {1000 * PAUSE:.0f} ms; {ROUNDS} kills each")
    rows = [
        (name, ROWS, min(counts), statistics.median(counts), max(counts), ROWS - min(counts))
        for name, counts in kept.items()
    ]
    header = ("store", "rows logged", "kept, fewest", "kept, median", "kept, most", "lost at worst")
    for row in (header, *rows):
        print(f"{row[0]:<24}" + "".join(f"{one!s:>15}" for one in row[1:]))
    RESULTS.parent.mkdir(exist_ok=True)
    with RESULTS.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows((header, *rows))
    lost = ROWS - min(kept["our record"])
    print("Our record lost nothing." if not lost else f"MISSED: our record lost {lost} rows.")
    return int(lost > 0)


if __name__ == "__main__":
    sys.exit(main())
