"""Does it help that heads come back? The same number of training steps and of heads, with growth and without.

On the built-in model, several cycles of pruning and fine-tuning, once pruned by gradient (the heads that matter least
go) and once at random (heads that matter go too, so that there is something to bring back); three ways for each seed:

    growth    as --growth does: heads come back where the evidence says so
    without   nothing comes back: each cycle prunes only so many that as many heads are left as in ``growth``
    random    as many heads come back as in ``growth``, drawn from those that could; pruned to the same numbers

All three train for the same steps on the same text in the same order, growth phases included, and have the same number
of heads after every cycle; they differ in which heads these are. What is compared is the loss on test text after the
last cycle, paired by sequence. The seeds differ in the order of the text and in dropout; the model before warm-up is
one and the same. Where nothing came back in ``growth``, the three are the same run, step by step: it is not repeated.

    nice python benchmarks/growth.py          # about 80 minutes on one quiet core; goes on where it was stopped
    python benchmarks/growth.py --quick       # a try, nothing written
    python benchmarks/growth.py --table       # the table again, from what is there
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import itertools
import json
import math
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import stats

from neural_plasticity.config import RunConfig
from neural_plasticity.events import HeadsGrown, HeadsPruned, PhaseEnded
from neural_plasticity.experiment import growth_phases, open_experiment, play
from neural_plasticity.experiment.training import held_out_losses
from neural_plasticity.heads import HeadId
from neural_plasticity.policies.growth import GrowthChoice
from neural_plasticity.policies.statistics import Interval, paired_bootstrap_difference

HERE = Path(__file__).parent
ROWS = HERE / "results" / "growth.csv"
DIFFERENCES = HERE / "results" / "growth_difference.csv"
WORK = HERE.parent / "output" / "benchmark_growth"  # one file per finished arm
ARMS = ("growth", "without", "random")
Key = tuple[str, int, str]  # what it is pruned by, seed, arm


@dataclass(frozen=True)
class Plan:
    """How much is trained and measured."""

    strategies: tuple[str, ...] = ("gradient", "random")
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    cycles: int = 3
    level: float = 0.25
    budget: float = 0.4
    fine_tuning_steps: int = 32
    growth_steps: int = 16
    warmup_steps: int = 24
    score_sequences: int = 96
    eval_sequences: int = 192

    def config(self, strategy: str, seed: int, levels: str) -> RunConfig:
        """Of one arm; ``levels`` are what it prunes, one for all cycles or one for each."""
        return RunConfig(
            cycles=self.cycles,
            pruning_strategy=strategy,
            pruning_level=levels,
            growth=True,
            growth_budget=self.budget,
            growth_steps=self.growth_steps,
            fine_tuning_steps=self.fine_tuning_steps,
            warmup_steps=self.warmup_steps,
            stabilisation_tolerance=1e-9,  # every arm warms up for as long
            sequence_length=128,
            score_sequences=self.score_sequences,
            eval_sequences=self.eval_sequences,
            seed=seed,
            device="cpu",
        ).checked()


QUICK = Plan(
    seeds=(0,), cycles=2, fine_tuning_steps=2, growth_steps=2, warmup_steps=2, score_sequences=8, eval_sequences=16
)


@dataclass(frozen=True)
class Cycle:
    """One line of the CSV: an arm after a cycle (0: after warm-up)."""

    strategy: str
    seed: int
    arm: str
    cycle: int
    pruned: int
    returned: int
    active: int
    steps: int
    loss: float
    perplexity: float


@dataclass(frozen=True)
class Arm:
    """What one arm came to; ``losses`` on test text, sequence by sequence, after the last cycle."""

    cycles: tuple[Cycle, ...]
    losses: tuple[float, ...]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a try on little text; writes nothing")
    parser.add_argument("--table", action="store_true", help="the table from the arms that are done, measure nothing")
    parser.add_argument("--seeds", type=int, default=None, help="so many seeds; default: 5")
    options = parser.parse_args()
    torch.set_num_threads(1)
    plan = QUICK if options.quick else Plan()
    if options.seeds is not None:
        plan = replace(plan, seeds=tuple(range(options.seeds)))
    with contextlib.ExitStack() as stack:
        folder = WORK
        if options.quick:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        check_plan(plan, folder)
        arms = measure(plan, folder, only_read=options.table)
    differences = compared(arms)
    print_table(arms, differences)
    if not options.quick:
        write(ROWS, [cycle for arm in arms.values() for cycle in arm.cycles])
        write(DIFFERENCES, differences)
    return 0


def keys(plan: Plan) -> list[Key]:
    """Seed by seed, so that what is there when it is stopped compares."""
    return [(strategy, seed, arm) for seed in plan.seeds for strategy in plan.strategies for arm in ARMS]


def check_plan(plan: Plan, folder: Path) -> None:
    """Arms of another plan do not compare: they have to be moved away first."""
    told = folder / "plan.json"
    own = json.dumps({name: value for name, value in asdict(plan).items() if name != "seeds"})
    if told.exists() and told.read_text() != own:
        raise SystemExit(f"{folder} holds arms of another plan; move it away first.")
    told.write_text(own)


# --- measuring --------------------------------------------------------------------------------------------------------


def measure(plan: Plan, folder: Path, only_read: bool) -> dict[Key, Arm]:
    """Every arm of every seed, those that are done already from their files; or those alone."""
    arms: dict[Key, Arm] = {}
    for key in keys(plan):
        strategy, seed, arm = key
        grown = arms.get((strategy, seed, "growth"))
        found = read(folder, key)
        if found is None and grown and not any(cycle.returned for cycle in grown.cycles):
            found = Arm(tuple(replace(cycle, arm=arm) for cycle in grown.cycles), grown.losses)
        elif found is None and only_read:
            continue
        elif found is None:
            began = time.perf_counter()
            found = played(plan, key, grown.cycles if grown else None)
            file = path_of(folder, key)
            file.with_suffix(".part").write_text(json.dumps(asdict(found)))
            file.with_suffix(".part").rename(file)
            say(f"{strategy}, seed {seed}, {arm}: {time.perf_counter() - began:.0f} s")
        arms[key] = found
    return arms


def played(plan: Plan, key: Key, like: Sequence[Cycle] | None) -> Arm:
    """One arm; ``like``: the growth arm's cycles, whose numbers of heads the others keep to."""
    strategy, seed, arm = key
    config = plan.config(strategy, seed, levels_like(like, plan, arm))
    x = open_experiment(config)
    x.plan = tuple(stage for stage in x.plan if stage.phase != "evaluation")
    cycles: list[Cycle] = []
    losses = np.empty(0)
    pruned = returned = 0
    with drawn_returns(like, seed, none=arm == "without") if like else contextlib.nullcontext():
        for event in play(x):
            if isinstance(event, HeadsPruned):
                pruned, returned = len(event.heads), 0
            elif isinstance(event, HeadsGrown):
                returned = len(event.heads)
            elif isinstance(event, PhaseEnded) and event.phase in ("warmup", "growth"):
                losses = held_out_losses(x.model, x.test, config.batch_size, x.device)
                loss = float(losses.mean())
                active = int(x.heads.mask.sum())
                row = Cycle(*key, event.cycle, pruned, returned, active, x.clock.step, loss, math.exp(loss))
                cycles.append(row)
                say(f"  {row}")
    return Arm(tuple(cycles), tuple(losses.tolist()))


def levels_like(like: Sequence[Cycle] | None, plan: Plan, arm: str) -> str:
    """One level per cycle, so that the numbers of heads are the growth arm's."""
    if like is None:
        return str(plan.level)
    levels = []
    for before, after in itertools.pairwise(like):
        goes = after.pruned if arm == "random" else before.active - after.active
        levels.append(f"{goes / before.active:.9f}")
    return ",".join(levels)


@contextlib.contextmanager
def drawn_returns(like: Sequence[Cycle], seed: int, none: bool) -> Iterator[None]:
    """Inside, the growth phase brings back as many heads as ``like`` had, drawn from those that could; or ``none``."""
    left = iter([cycle.returned for cycle in like if cycle.cycle > 1])  # nothing can come back in the first
    generator = np.random.default_rng([seed, 99])

    def drawn(screened: Mapping[HeadId, Interval], *rest: Any, **_: Any) -> GrowthChoice:
        order = generator.permutation(len(screened))[: 0 if none else next(left)]
        heads = tuple(sorted(list(screened)[place] for place in order))
        unknown = np.full(rest[3], np.nan)  # of the grid's shape
        return GrowthChoice(heads, "drawn by the seed", {}, unknown, unknown, unknown)

    ours = growth_phases.choose_heads_to_grow
    growth_phases.choose_heads_to_grow = drawn
    try:
        yield
    finally:
        growth_phases.choose_heads_to_grow = ours


# --- comparing --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Difference:
    """Test loss of ``growth`` minus that of another arm after the last cycle: paired by sequence within a seed, and
    (seed empty) the mean over the seeds with its t interval. Below 0, growth is better."""

    strategy: str
    against: str
    seed: int | None
    returned: int  # over all cycles; for all seeds their sum
    difference: float
    low: float
    high: float


def compared(arms: Mapping[Key, Arm]) -> list[Difference]:
    found: list[Difference] = []
    for strategy, other in itertools.product(dict.fromkeys(key[0] for key in arms), ARMS[1:]):
        each: list[Difference] = []
        for key in [key for key in arms if key[0] == strategy and key[2] == other]:
            seed = key[1]
            ours, theirs = arms[strategy, seed, "growth"], arms[key]
            assert ours.cycles[-1].active == theirs.cycles[-1].active, key
            assert ours.cycles[-1].steps == theirs.cycles[-1].steps, key
            interval = paired_bootstrap_difference(ours.losses, theirs.losses, seed)
            each.append(Difference(strategy, other, seed, sum(cycle.returned for cycle in ours.cycles), *interval))
        found += each
        if len(each) > 1:
            values = np.array([one.difference for one in each])
            half = stats.sem(values) * stats.t.ppf(0.975, len(values) - 1)
            mean = float(values.mean())
            total = sum(one.returned for one in each)
            found.append(Difference(strategy, other, None, total, mean, mean - float(half), mean + float(half)))
    return found


# --- telling ----------------------------------------------------------------------------------------------------------


def print_table(arms: Mapping[Key, Arm], differences: Sequence[Difference]) -> None:
    columns = f"{'pruned by':<9} {'seed':>5} {'arm':<8} {'active after each cycle':<28} {'returned':<14}"
    say(f"{columns} {'loss':>7} {'perplexity':>11}")
    for (strategy, seed, name), arm in arms.items():
        active = " ".join(str(cycle.active) for cycle in arm.cycles)
        returned = " ".join(str(cycle.returned) for cycle in arm.cycles[1:])
        last = arm.cycles[-1]
        say(f"{strategy:<9} {seed:>5} {name:<8} {active:<28} {returned:<14} {last.loss:7.4f} {last.perplexity:11.3f}")
    for one in differences:
        who = "all seeds" if one.seed is None else f"seed {one.seed}"
        what = f"{one.strategy:<9} growth − {one.against:<8} {who:<10}"
        say(f"{what} {one.difference:+.4f} [{one.low:+.4f}, {one.high:+.4f}] nats")


def path_of(folder: Path, key: Key) -> Path:
    return folder / ("-".join(map(str, key)) + ".json")


def read(folder: Path, key: Key) -> Arm | None:
    file = path_of(folder, key)
    if not file.exists():
        return None
    found = json.loads(file.read_text())
    return Arm(tuple(Cycle(**cycle) for cycle in found["cycles"]), tuple(found["losses"]))


def write(path: Path, rows: Sequence[Any]) -> None:
    if not rows:
        return
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(asdict(rows[0])))
        writer.writeheader()
        for row in rows:
            values = asdict(row)
            writer.writerow({k: f"{v:.6f}" if isinstance(v, float) else v for k, v in values.items()})


def say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
