"""The public table: perplexity against the share of heads removed, with everything that decides about it held apart.

    python scripts/make_paper.py --dry_run      # what there is to do, and how long it takes on this machine
    python scripts/make_paper.py                # do it; the same command goes on where it was stopped
    python scripts/make_paper.py --tiny         # every step on almost nothing, in minutes: to try it, never to publish

Three parts, one after the other (--part NAME for one of them):
  bases    base models trained from different seeds, beside the built-in one
  untuned  on each base model: every strategy at every level, heads switched off and nothing trained
  tuned    four strategies with fine-tuning on the built-in model, as sweeps over seeds, against the equally trained
           unpruned control: all heads at once, over three cycles, and over three cycles with growth. The control of a
           seed never sees what is pruned: it is one and the same in all runs of one way, and trained once
and then tables and figures from whatever is done. Everything lies in --output_dir.
"""

from __future__ import annotations

import argparse
import csv
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import paper_results

from neural_plasticity.config import RunConfig
from neural_plasticity.experiment.clock import Stage, planned_work, stages
from neural_plasticity.sweep.cells import product
from neural_plasticity.sweep.command import run_sweep
from neural_plasticity.sweep.options import SweepOptions, Ways
from neural_plasticity.views import figures

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("bases", "untuned", "tuned")
CYCLES = 3


@dataclass(frozen=True)
class Plan:
    """How much is done. ``levels`` of ``tuned`` are final shares of the heads; its steps are of all cycles together."""

    base_seeds: tuple[int, ...] = (1, 2)
    base_steps: int = 1400
    untuned_levels: tuple[float, ...] = (0.1, 0.2, 0.3, 0.4, 0.5)
    untuned_sequences: int = 128
    random_choices: int = 10
    # Chosen before anything was measured: two first-order measures of what a head does to the loss and how it attends,
    # one that needs no data, and chance.
    strategies: tuple[str, ...] = ("gradient", "entropy", "magnitude", "random")
    levels: tuple[float, ...] = (0.5,)
    growth_levels: tuple[float, ...] = (0.5,)  # its evidence costs more than the training
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    steps: int = 150
    warmup_steps: int = 100
    sequences: int = 256


FULL = Plan()
TINY = Plan(
    base_seeds=(1,),
    base_steps=3,
    untuned_levels=(0.2, 0.5),
    untuned_sequences=16,
    random_choices=3,
    strategies=("gradient", "random"),
    levels=(0.3, 0.2),
    growth_levels=(0.3,),
    seeds=(0, 1),
    steps=6,
    warmup_steps=8,
    sequences=16,
)


@dataclass(frozen=True)
class Arm:
    """One way to remove the same share of the heads with the same number of training steps."""

    name: str
    cycles: int
    growth: bool = False

    def levels(self, plan: Plan) -> tuple[float, ...]:
        """The final shares that this way is measured at; the control is trained at the first."""
        return plan.growth_levels if self.growth else plan.levels


ARMS = (Arm("one-shot", 1), Arm("iterative", CYCLES), Arm("growth", CYCLES, growth=True))


def arm_config(arm: Arm, plan: Plan) -> RunConfig:
    """The options of an arm's runs: in every arm a cycle's training steps are a share of the same total."""
    each = plan.steps // arm.cycles
    grown = max(1, each // 4) if arm.growth else 0
    config = RunConfig(
        cycles=arm.cycles,
        fine_tuning_steps=each - grown,
        warmup_steps=plan.warmup_steps,
        sequence_length=128,
        score_sequences=min(128, plan.sequences),
        eval_sequences=plan.sequences,
        device="cpu",
    )
    return replace(config, growth=True, growth_steps=grown) if arm.growth else config


def cycle_level(share: float, cycles: int) -> float:
    """The level of each of ``cycles`` cycles that together remove ``share`` of the heads."""
    return 1 - (1 - share) ** (1 / cycles)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=PARTS, help="one part only; tables and figures are made all the same")
    parser.add_argument("--dry_run", action="store_true", help="say what there is to do, and do nothing")
    parser.add_argument("--tiny", action="store_true", help="almost nothing of everything: to try it")
    parser.add_argument("--jobs", type=int, help="runs at the same time (default: one per core)")
    parser.add_argument("--output_dir", type=Path, help="default: output/paper, with --tiny output/paper-tiny")
    asked = parser.parse_args()
    plan = TINY if asked.tiny else FULL
    home: Path = asked.output_dir or ROOT / "output" / ("paper-tiny" if asked.tiny else "paper")
    parts = (asked.part,) if asked.part else PARTS
    if asked.dry_run:
        estimate(plan, home, parts)
        return 0
    for part in parts:
        say(f"part {part}")
        code = {"bases": train_bases, "untuned": measure_untuned, "tuned": run_tuned}[part](plan, home, asked.jobs)
        if code:
            return code
    for path in paper_results.write_results(home, ARMS, "trained for seconds: no results" if asked.tiny else ""):
        say(f"wrote {path}")
    return 0


# --- base models ------------------------------------------------------------------------------------------------------


def base_models(plan: Plan, home: Path) -> dict[str, Path | None]:
    """Base models by name; None is the built-in one, which is the training with seed 0."""
    return {"builtin": None, **{f"base-{seed}": home / f"base-{seed}" for seed in plan.base_seeds}}


def trained(directory: Path | None) -> bool:
    return directory is None or (directory / "config.json").exists()


def train_bases(plan: Plan, home: Path, _jobs: int | None) -> int:
    """Train what is not trained yet, one after the other; a training that was stopped goes on."""
    for seed in plan.base_seeds:
        directory = home / f"base-{seed}"
        if trained(directory):
            continue
        say(f"training {directory}")
        command = [sys.executable, str(ROOT / "scripts" / "train_builtin_model.py"), "--seed", str(seed)]
        command += ["--steps", str(plan.base_steps), "--output_dir", str(directory)]
        code = subprocess.run(command, check=False).returncode
        if code:
            return code
    return 0


# --- without tuning ---------------------------------------------------------------------------------------------------


def measure_untuned(plan: Plan, home: Path, _jobs: int | None) -> int:
    """A CSV per base model: the test perplexity without the heads that each strategy would remove, nothing trained."""
    for name, directory in base_models(plan, home).items():
        target = paper_results.untuned_csv(home, name)
        if target.exists():
            continue
        if not trained(directory):
            say(f"{name} is not trained yet: make it with --part bases")
            return 2
        say(f"{name}: scoring heads, and {len(plan.untuned_levels)} levels")
        rows = untuned_rows("builtin" if directory is None else str(directory), plan)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_suffix(".part")
        with temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0], lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        temporary.replace(target)
    return 0


def untuned_rows(model_name: str, plan: Plan) -> list[dict[str, Any]]:
    """As ``benchmarks/head_importance.py`` measures before fine-tuning, with its own parts."""
    sys.path.append(str(ROOT / "benchmarks"))
    import head_importance as parts

    from neural_plasticity.data.corpus import load_corpus
    from neural_plasticity.data.tokens import token_blocks
    from neural_plasticity.models.attach import attach
    from neural_plasticity.models.loading import load_model

    size = parts.Plan(
        levels=plan.untuned_levels,
        scoring_sequences=plan.untuned_sequences,
        test_sequences=plan.untuned_sequences,
        random_choices=plan.random_choices,
    )
    model, tokenizer = load_model(model_name)
    corpus = load_corpus()
    scoring = parts.spread(token_blocks(corpus.validation, tokenizer, parts.TOKENS), size.scoring_sequences)
    test = parts.spread(token_blocks(corpus.test, tokenizer, parts.TOKENS), size.test_sequences)
    heads = attach(model)
    scores, _ = parts.score(model, scoring)
    choices = parts.all_choices(scores, heads, size)
    unpruned = parts.held_out_losses(model, test, parts.BATCH, parts.CPU)
    losses = [parts.gated_losses(heads, choice.mask, test) for choice in choices]
    rows = parts.stage_rows("before", 0, choices, losses, unpruned)
    kept = ("level", "removed", "criterion", "order", "seed", "perplexity", "ratio", "ratio_low", "ratio_high")
    return [{name: getattr(row, name) for name in kept} for row in rows]


# --- with tuning ------------------------------------------------------------------------------------------------------


def sweeps(plan: Plan, home: Path, jobs: int | None) -> Iterator[SweepOptions]:
    """Every arm at every share, the first strategy at the first share with the control, which stands for the others'.

    What runs of one seed begin with is shared by all of them.
    """
    seeds = ",".join(map(str, plan.seeds))
    ways = Ways(jobs=jobs, shared_dir=home / "tuned" / ".shared", retry_failed=True)
    for share in dict.fromkeys((*plan.growth_levels, *plan.levels)):
        for arm in ARMS:
            with_control = plan.strategies[:1] if share == arm.levels(plan)[0] else ()
            others = plan.strategies[len(with_control) :] if share in arm.levels(plan) else ()
            for control, strategies in ((True, with_control), (False, others)):
                if strategies:
                    cells = product(",".join(strategies), f"{cycle_level(share, arm.cycles):.6g}", seeds)
                    directory = paper_results.sweep_dir(home, arm.name, share, control)
                    yield SweepOptions(cells, replace(arm_config(arm, plan), control=control), directory, ways)


def run_tuned(plan: Plan, home: Path, jobs: int | None) -> int:
    """One sweep after the other; failed cells are tried again when the command is."""
    for options in sweeps(plan, home, jobs):
        say(options.directory.name)
        if run_sweep(options) == 130:
            return 130
    return 0


# --- how long ---------------------------------------------------------------------------------------------------------

START_WORK = 700.0  # what opening model and text costs a process, in forwards of one sequence


def work_of(config: RunConfig, first: int) -> float:
    """Forwards of one sequence that the stages of a run from number ``first`` on take."""
    plan = stages(config.cycle_count, config.grows)
    return START_WORK + sum(planned_work(stage, config, 0) for stage in plan[first:])


def estimate(plan: Plan, home: Path, parts: tuple[str, ...]) -> None:
    """Say what is done, what is not, and how long that takes at the speed that this machine has at this moment."""
    from neural_plasticity.sweep.backends import default_jobs

    speed, jobs = sequences_per_second(), default_jobs("cpu", 1)
    print(f"{speed:.0f} sequences of 128 tokens forward per second and core just now; {jobs} cores")
    hours = 0.0
    if "bases" in parts:
        left = sum(not trained(home / f"base-{seed}") for seed in plan.base_seeds)
        # 16 sequences of 256 tokens a step, forward and backward, on all cores at about four fifths of their sum.
        seconds = left * plan.base_steps * 16 * 2 * 3 / (speed * (1 + 0.8 * (jobs - 1)))
        hours += tell("bases", left, len(plan.base_seeds), "models to train", seconds)
    if "untuned" in parts:
        left = sum(not paper_results.untuned_csv(home, name).exists() for name in base_models(plan, home))
        choices = (2 * 8 + plan.random_choices) * len(plan.untuned_levels)
        seconds = left * plan.untuned_sequences * (choices + 48 + 8) / speed
        hours += tell("untuned", left, 1 + len(plan.base_seeds), "models to measure", seconds)
    if "tuned" in parts:
        work, left, total, beginnings = 0.0, 0, 0, 0
        for options in sweeps(plan, home, None):
            total += len(options.cells)
            missing = [c for c in options.cells if not paper_results.finished(options.directory / "cells" / c.name)]
            left += len(missing)
            work += len(missing) * work_of(options.base, first=2)
        if left and not (home / "tuned" / ".shared").exists():
            beginnings = 2 * len(plan.seeds)  # those that go on with a control have their own
            begin = (Stage("warmup", 0), Stage("evaluation", 0))
            work += beginnings * sum(planned_work(stage, arm_config(ARMS[0], plan), 0) for stage in begin)
        hours += tell("tuned", left, total, "runs to make", work / (speed * jobs))
    print(f"about {hours:.1f} h in all; the more the machine does beside it, the longer")


def tell(part: str, left: int, total: int, what: str, seconds: float) -> float:
    print(f"{part:8} {left} of {total} {what}: about {figures.duration(seconds)}")
    return seconds / 3600


def sequences_per_second() -> float:
    """Forward passes of one sequence of 128 tokens per second with one thread, from a second's training steps."""
    import torch

    from neural_plasticity.experiment.training import Trainee
    from neural_plasticity.models.loading import load_model

    torch.set_num_threads(1)
    model, _ = load_model("builtin")
    trainee = Trainee.start(model, None, RunConfig(), 10)
    batch = torch.zeros((8, 128), dtype=torch.long)
    trainee.step(batch, 0)
    began, steps = time.perf_counter(), 0
    while time.perf_counter() - began < 2:
        trainee.step(batch, 0)
        steps += 1
    return steps * 8 * 3 / (time.perf_counter() - began)


def say(message: str, started: float = time.perf_counter()) -> None:
    print(f"{figures.clock(time.perf_counter() - started):>8}  {message}", flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
