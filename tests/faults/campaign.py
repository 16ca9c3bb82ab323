"""SIGKILL at random moments of whole runs, resumed each time: does the record end as if nothing had happened?

    python -m tests.faults.campaign --kills 200        # what `make faults` does: restartable, prints a table

A run of a two-layer model goes through every phase: once with growth, new heads and a control, once with
``--cycles auto``. A process that has imported torch forks one child per attempt, and the child calls the real
`start_run` or `resume_run`. It tells every event whose recording has *returned* through a pipe, with a digest of its
content; the parent picks a moment, kills it (SIGKILL), and then looks:

* every event that was told is in the file, its content unchanged (else it is *lost*),
* the file passes SQLite's own check, and the page exports from it,
* the run goes on with ``--resume``, is killed again where the trial says so, and in the end
* the run's history equals that of a run that nobody touched: all but clocks and attempt numbers.

Moments are of four kinds: a random event of a random phase, then a random time (1 µs to 30 ms) after it; a random time
of the whole run; a random time within the writing of a checkpoint, or within the recording of an event.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import dataclasses
import itertools
import json
import multiprocessing
import os
import random
import shutil
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from neural_plasticity.config import RunConfig
from neural_plasticity.errors import NeuralPlasticityError
from neural_plasticity.events import RunStarted
from neural_plasticity.record import Run, open_run
from tests.faults.killing import Kill, Moment, attempted, looked_at
from tests.small_runs import comparable, save_model, save_text, small_config

SMALL: dict[str, Any] = {
    **{"warmup_steps": 8, "fine_tuning_steps": 6, "sequence_length": 8, "batch_size": 2, "stabilisation_window": 8},
    **{"score_sequences": 4, "eval_sequences": 6, "no_visualize": True, "no_browser": True, "checkpoint_every": 3},
}
KINDS: dict[str, dict[str, Any]] = {
    "growth": {"control": True, "cycles": 2, "growth": True, "growth_budget": 0.9, "grow_new_heads": 1},
    "auto": {"cycles": "auto", "max_cycles": 2, "judge_sequences": 8, "max_perplexity_increase": 0.5},
}
MOST_KILLS = 12  # of one run


def history(run: Run) -> list[Any]:
    """What a resumed run has in common with one that nobody touched: later attempts introduce themselves again."""
    kept = [event for number, event in enumerate(run.events()) if number == 0 or not isinstance(event, RunStarted)]
    return list(comparable(kept))


@dataclasses.dataclass
class Reference:
    """The run that nobody touches: what it has on record, where its events are, and how long it took."""

    config: RunConfig
    history: list[Any]
    places: Counter[str]  # events of each phase and cycle, in their order
    seconds: float


def tiny_config(inputs: Path, **changes: Any) -> RunConfig:
    """A run of a second or two on what `save_inputs` made."""
    return small_config(inputs / "model", inputs / "text.txt", **{**SMALL, **changes})


def save_inputs(inputs: Path) -> Path:
    """A model of two layers and a text, in the directory ``inputs``."""
    save_model(inputs / "model", n_layer=2, n_positions=16)
    save_text(inputs / "text.txt", lines=150)
    return inputs


def reference(kind: str, inputs: Path, root: Path) -> Reference:
    """Play one whole run of this kind."""
    config = tiny_config(inputs, **KINDS[kind])
    run_dir = root / f"reference-{kind}"
    shutil.rmtree(run_dir, ignore_errors=True)
    began = time.perf_counter()
    found = attempted(config, run_dir, False, None)
    seconds = time.perf_counter() - began
    if found.code != 0:
        raise SystemExit(f"the run that nobody kills ended with {found.code}: see {run_dir.with_suffix('.log')}")
    with open_run(run_dir) as run:
        places = Counter(f"{event.phase} {event.cycle}" for event in run.events() if event.phase)
        return Reference(config, history(run), places, seconds)


def moments(kind: str, whole: Reference, seed: int) -> Iterator[Moment]:
    """Random moments for one run: the first anywhere in it, the later ones wherever its later attempts get to."""
    chance = random.Random(f"{kind} {seed}")

    def soon() -> float:
        return 10 ** chance.uniform(-6, -1.5)

    way = chance.random()
    if way < 0.25:
        yield Moment("open", 1, chance.uniform(0, whole.seconds))
    elif way < 0.45:
        yield Moment("saving", chance.randint(1, 8), chance.uniform(0, 0.012))
    else:
        place = chance.choice(sorted(whole.places))
        yield Moment(place, chance.randint(1, whole.places[place]), soon())
    while True:
        way = chance.random()
        if way < 0.2:
            yield Moment("saving", chance.randint(1, 3), chance.uniform(0, 0.012))
        elif way < 0.5:
            yield Moment("recording", chance.randint(1, 40), chance.uniform(0, 0.0005))
        else:
            yield Moment("event", chance.randint(1, 40), soon())


def tour(whole: Reference, seed: int) -> Iterator[Moment]:
    """A random moment in each phase when it first comes, and one within a checkpoint: for one run."""
    chance = random.Random(f"tour {seed}")
    phases: set[str] = set()
    yield Moment("open", 1, chance.uniform(0, 0.1))
    yield Moment("saving", 1, chance.uniform(0, 0.005))
    for place, events in whole.places.items():
        if place.split()[0] not in phases:
            phases.add(place.split()[0])
            yield Moment(place, chance.randint(1, events), 10 ** chance.uniform(-6, -1.5))


def trial(kind: str, whole: Reference, seed: int, root: Path, chosen: Iterable[Moment]) -> dict[str, Any]:
    """One run, killed at each of the ``chosen`` moments that comes, and brought to its end."""
    run_dir = root / f"{kind}-{seed}"
    shutil.rmtree(run_dir, ignore_errors=True)
    began = time.perf_counter()
    kills: list[Kill] = []
    told: dict[int, str] = {}
    codes: list[int | None] = []
    for moment in (*chosen, None):
        found = attempted(whole.config, run_dir, _has_begun(run_dir), moment)
        codes.append(found.code)
        if found.code != -9:
            break
        kills.append(looked_at(run_dir, found, told))
        if _has_finished(run_dir):  # it was killed after its last event: there is nothing left to do
            codes.append(0)
            break
    with open_run(run_dir) as run:
        equal = history(run) == whole.history
        attempts = len(run.attempts)
    result = {
        **{"kind": kind, "seed": seed, "codes": codes, "attempts": attempts, "equal": equal},
        **{"seconds": round(time.perf_counter() - began, 1), "kills": [dataclasses.asdict(kill) for kill in kills]},
    }
    if equal and codes[-1] == 0 and all(kill.exported and kill.intact and not kill.lost for kill in kills):
        for path in root.glob(f"{run_dir.name}*"):  # what went well leaves no trace but its line
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    return result


def _has_begun(run_dir: Path) -> bool:
    """Whether there is something to resume: a run that recorded nothing yet is simply started again."""
    with contextlib.suppress(NeuralPlasticityError), open_run(run_dir) as run:
        return run.last_seq > 0
    return False


def prepared(root: Path) -> Path:
    """A model and a text below ``root``, and a process that has imported everything and waits to be forked."""
    root.mkdir(parents=True, exist_ok=True)
    multiprocessing.get_context("forkserver").set_forkserver_preload(["tests.faults.warm"])
    inputs = root / "inputs"
    if not (inputs / "text.txt").exists():
        save_inputs(inputs)
    return inputs


def short(root: Path) -> list[dict[str, Any]]:
    """One run with growth, killed once in every phase."""
    whole = reference("growth", prepared(root), root)
    return [trial("growth", whole, 0, root, tour(whole, 0))]


def _has_finished(run_dir: Path) -> bool:
    with contextlib.suppress(NeuralPlasticityError), open_run(run_dir) as run:
        return run.summary().state == "finished"
    return False


def campaign(kills: int, root: Path, jobs: int) -> list[dict[str, Any]]:
    """At least ``kills`` kills: every other run is killed once, the others again and again."""
    inputs = prepared(root)
    journal = root / "trials.jsonl"
    done = [json.loads(line) for line in journal.read_text().splitlines()] if journal.exists() else []
    whole = {kind: reference(kind, inputs, root) for kind in KINDS}
    lock = threading.Lock()
    seeds = {one["seed"] for one in done}
    numbers = (number for number in itertools.count() if number not in seeds)

    def landed() -> int:
        return sum(len(one["kills"]) for one in done)

    def work() -> None:
        while True:
            with lock:
                if landed() >= kills:
                    return
                number = next(numbers)
            kind = list(KINDS)[number % 3 == 2]
            most = 1 if number % 2 else MOST_KILLS
            drawn = moments(kind, whole[kind], number)
            result = trial(kind, whole[kind], number, root, [next(drawn) for _ in range(most)])
            with lock, journal.open("a", encoding="utf-8") as file:
                done.append(result)
                file.write(json.dumps(result) + "\n")
                good = result["equal"] and result["codes"][-1] == 0
                print(
                    f"{landed():4} of {kills} kills · {kind} {number}: {len(result['kills'])} kills, "
                    f"{'history equal' if good else 'NOT EQUAL'}, {result['seconds']} s",
                    flush=True,
                )

    with ThreadPoolExecutor(jobs) as pool:
        for future in [pool.submit(work) for _ in range(jobs)]:
            future.result()
    return done


def table(done: list[dict[str, Any]]) -> list[list[Any]]:
    """Kills and what they cost, by phase and by what the process was doing."""
    rows: list[list[Any]] = [["phase", "doing", "kills", "events told", "lost", "damaged files", "failed exports"]]
    found: dict[tuple[str, str], list[int]] = {}
    for one in done:
        for kill in one["kills"]:
            phase = kill["place"].split()[0]
            counts = found.setdefault((phase, kill["where"]), [0] * 5)
            for place, more in enumerate((1, kill["told"], kill["lost"], not kill["intact"], not kill["exported"])):
                counts[place] += more
    rows += [[*key, *counts] for key, counts in sorted(found.items())]
    rows.append(["all", "", *(sum(column) for column in zip(*found.values(), strict=True))])
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--short", action="store_true", help="one run, killed once in every phase")
    parser.add_argument("--root", type=Path, default=Path("output/faults"), help="where runs are; go on there")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--csv", type=Path, default=None, help="where the table goes")
    asked = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    root = asked.root.absolute()
    done = short(root) if asked.short else campaign(asked.kills, root, asked.jobs)
    rows = table(done)
    for row in rows:
        print(f"{row[0]:<13}{row[1]:<22}" + "".join(f"{one!s:>15}" for one in row[2:]))
    unequal = [f"{one['kind']}-{one['seed']}" for one in done if not one["equal"] or one["codes"][-1] != 0]
    print(
        f"{len(done)} runs; {len(done) - len(unequal)} ended as the run that nobody touched."
        + "".join(f" NOT: {name}" for name in unequal)
    )
    if asked.csv is not None:
        with asked.csv.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows(rows)
    return int(bool(unequal) or any(rows[-1][4:]))


if __name__ == "__main__":
    sys.exit(main())
