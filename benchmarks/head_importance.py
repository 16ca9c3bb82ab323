"""Does pruning by importance mean something? Perplexity without the heads that each criterion would remove first.

On the built-in model. Heads are scored on validation text and judged on test text, from other files; every row that is
fine-tuned takes as many steps on the same batches as the unpruned control. Beside each criterion stand ten random
choices and its own inverse order, with intervals from a paired bootstrap over test sequences.

    python benchmarks/head_importance.py            # about 20 minutes on one core
    python benchmarks/head_importance.py --quick    # a try, nothing written
    python benchmarks/head_importance.py --draw     # the figure again, from the committed CSV
"""

from __future__ import annotations

import argparse
import copy
import csv
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from neural_plasticity.config import RunConfig
from neural_plasticity.data.corpus import Document, load_corpus
from neural_plasticity.data.tokens import IntBlocks, shuffled_batches, token_blocks
from neural_plasticity.experiment.training import Trainee, held_out_losses
from neural_plasticity.heads import BoolGrid, FloatGrid, grid_of
from neural_plasticity.importance import score_heads
from neural_plasticity.models.attach import Heads, attach
from neural_plasticity.models.compaction import compact
from neural_plasticity.models.loading import load_model
from neural_plasticity.policies.selection import choose_heads_to_prune
from neural_plasticity.policies.statistics import (
    Interval,
    bootstrap_mean_interval,
    paired_bootstrap_difference,
    perplexity,
    perplexity_ratio,
    spearman,
    through_exp,
)
from neural_plasticity.policies.strategies import STRATEGIES

HERE = Path(__file__).parent
ROWS = HERE / "results" / "head_importance.csv"
CORRELATIONS = HERE / "results" / "head_importance_correlation.csv"
FIGURE = HERE.parent / "docs" / "images" / "head_importance.png"

MEASURED = ("gradient", "gradient_normalised", "fisher", "output_norm", "entropy", "magnitude", "combined")
CRITERIA = (*MEASURED, "ablation")
TUNED_INVERSE = "gradient"  # the one inverse order that is fine-tuned too
TOKENS, BATCH, SEED = 128, 8, 0
CPU = torch.device("cpu")

Losses = np.ndarray  # (test sequences,), mean token loss in nats


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    levels: tuple[float, ...] = (0.1, 0.2, 0.3, 0.5)
    scoring_sequences: int = 128
    test_sequences: int = 128
    steps: int = 40
    random_choices: int = 10
    tuned_random_choices: int = 3


QUICK = Plan(
    levels=(0.2, 0.5), scoring_sequences=2 * BATCH, test_sequences=16, steps=3, random_choices=3, tuned_random_choices=1
)


@dataclass(frozen=True)
class Choice:
    """Heads that go: by ``criterion`` in ``order`` "first" (as the strategy prunes) or "inverse", or by random seed."""

    level: float
    criterion: str
    order: str
    seed: int | None
    mask: BoolGrid  # (layers, heads), True = kept


@dataclass(frozen=True)
class Row:
    """One line of the CSV. Ratios: to the unpruned model before fine-tuning, to the unpruned control after."""

    stage: str
    steps: int
    level: float
    removed: int
    criterion: str
    order: str
    seed: int | None
    perplexity: float
    perplexity_low: float
    perplexity_high: float
    ratio: float
    ratio_low: float
    ratio_high: float
    over_random: float = math.nan  # perplexity over that of the mean random choice, paired
    over_random_low: float = math.nan
    over_random_high: float = math.nan


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a try on little text; writes nothing")
    parser.add_argument("--draw", action="store_true", help="draw the figure from the CSV, measure nothing")
    parser.add_argument("--model_name", default="builtin")
    options = parser.parse_args()
    if not options.draw:
        rows, correlations = measure(options.model_name, QUICK if options.quick else Plan())
        print_tables(rows, correlations)
        if options.quick:
            return 0
        write(ROWS, rows)
        write(CORRELATIONS, correlations)
    draw(read(ROWS), read(CORRELATIONS))
    return 0


# --- measuring --------------------------------------------------------------------------------------------------------


def measure(model_name: str, plan: Plan) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The table's rows, and each criterion's rank correlation with ablation."""
    say(f"model {model_name}, {plan}")
    model, tokenizer = load_model(model_name)
    corpus = load_corpus()
    scoring = spread(token_blocks(corpus.validation, tokenizer, TOKENS), plan.scoring_sequences)
    test = spread(token_blocks(corpus.test, tokenizer, TOKENS), plan.test_sequences)
    train = token_blocks(some(corpus.train, 60), tokenizer, TOKENS)
    heads = attach(model)

    scores, halves = score(model, scoring)
    correlations = [
        {"criterion": name, "rank_correlation_with_ablation": spearman(scores[name], scores["ablation"])}
        for name in MEASURED
    ]
    correlations.append({"criterion": "ablation", "rank_correlation_with_ablation": spearman(*halves)})

    choices = all_choices(scores, heads, plan)
    unpruned = held_out_losses(model, test, BATCH, CPU)
    say(f"{len(choices)} choices of heads; unpruned perplexity {math.exp(unpruned.mean()):.3f}")
    before = [gated_losses(heads, choice.mask, test) for choice in choices]
    say("before fine-tuning: done")
    rows = stage_rows("before", 0, choices, before, unpruned)

    tuned = [choice for choice in choices if is_tuned(choice, plan)]
    control = tuned_losses(heads, np.ones(heads.shape, dtype=bool), train, test, plan.steps)
    seen: dict[bytes, Losses] = {}  # criteria often agree on a mask
    after = []
    for number, choice in enumerate(tuned):
        key = choice.mask.tobytes()
        if key not in seen:
            seen[key] = tuned_losses(heads, choice.mask, train, test, plan.steps)
        after.append(seen[key])
        say(f"fine-tuned {number + 1} of {len(tuned)}: {choice.criterion} {choice.order} at {choice.level:g}")
    rows += stage_rows("after", plan.steps, tuned, after, control)
    return [asdict(row) for row in rows], correlations


def score(model: Any, blocks: IntBlocks) -> tuple[dict[str, FloatGrid], tuple[FloatGrid, FloatGrid]]:
    """Every criterion on all scoring text, and ablation on either half of it (their mean is ablation on all)."""
    batches = [{"input_ids": torch.from_numpy(blocks[i : i + BATCH])} for i in range(0, len(blocks), BATCH)]
    scores = score_heads(model, batches, MEASURED, seed=SEED)
    say("scored by every criterion but ablation")
    halves = []
    for part in (batches[0::2], batches[1::2]):
        halves.append(score_heads(model, part, ("ablation",))["ablation"])
        say("ablation on half of the scoring text")
    scores["ablation"] = (halves[0] + halves[1]) / 2
    return scores, (halves[0], halves[1])


def all_choices(scores: dict[str, FloatGrid], heads: Heads, plan: Plan) -> list[Choice]:
    """Each criterion forwards and backwards, and random choices, at every level; each taken from the unpruned model."""
    active = heads.mask
    orders: list[tuple[str, str, int | None, FloatGrid]] = []
    for name in CRITERIA:
        importance = STRATEGIES[name].importance(scores, active, SEED)
        orders += [(name, "first", None, importance), (name, "inverse", None, -importance)]
    for seed in range(plan.random_choices):
        orders.append(("random", "first", seed, STRATEGIES["random"].importance({}, active, seed)))
    return [
        Choice(
            level, name, order, seed, active & ~grid_of(choose_heads_to_prune(values, active, level).heads, heads.shape)
        )
        for level in plan.levels
        for name, order, seed, values in orders
    ]


def is_tuned(choice: Choice, plan: Plan) -> bool:
    if choice.criterion == "random":
        return choice.seed is not None and choice.seed < plan.tuned_random_choices
    return choice.order == "first" or choice.criterion == TUNED_INVERSE


def gated_losses(heads: Heads, mask: BoolGrid, test: IntBlocks) -> Losses:
    with heads.gated(mask):
        return held_out_losses(heads.model, test, BATCH, CPU)


def tuned_losses(heads: Heads, mask: BoolGrid, train: IntBlocks, test: IntBlocks, steps: int) -> Losses:
    """Test losses after ``steps`` steps of the product's own fine-tuning, on a compacted copy: same batches for all."""
    with heads.gated(mask):
        model = compact(heads.model) if not mask.all() else copy.deepcopy(heads.model)
    trainee = Trainee.start(model, None, RunConfig(), steps)
    batches = shuffled_batches(train, BATCH, SEED)
    for _ in range(steps):
        trainee.step(next(batches))
    return held_out_losses(model, test, BATCH, CPU)


def stage_rows(stage: str, steps: int, choices: list[Choice], losses: list[Losses], reference: Losses) -> list[Row]:
    """One row per choice, one for the mean random choice of each level, and one for the reference itself."""

    def row(level: float, removed: int, name: str, order: str, seed: int | None, *figures: Interval) -> Row:
        return Row(stage, steps, level, removed, name, order, seed, *(x for figure in figures for x in figure))

    none = perplexity(reference, SEED)
    rows = [row(0.0, 0, "unpruned" if stage == "before" else "control", "", None, none, Interval(1.0, 1.0, 1.0))]
    for level in sorted({choice.level for choice in choices}):
        here = [(choice, loss) for choice, loss in zip(choices, losses, strict=True) if choice.level == level]
        chance = np.array([loss for choice, loss in here if choice.criterion == "random"])  # (choices, sequences)
        for choice, loss in here:
            figures = (perplexity(loss, SEED), perplexity_ratio(loss, reference, SEED))
            over = through_exp(paired_bootstrap_difference(loss, chance.mean(axis=0), SEED))
            removed = int((~choice.mask).sum())
            rows.append(row(level, removed, choice.criterion, choice.order, choice.seed, *figures, over))
        # The interval of the mean random choice is over the choices: which heads it hits is its uncertainty.
        means = chance.mean(axis=1)
        figures = (
            through_exp(bootstrap_mean_interval(means, SEED)),
            through_exp(bootstrap_mean_interval(means - reference.mean(), SEED)),
        )
        rows.append(row(level, removed, "random", "mean", None, *figures))
    return rows


def spread(blocks: IntBlocks, count: int) -> IntBlocks:
    """``count`` blocks at equal distances, so that every document has its share."""
    return blocks[np.linspace(0, len(blocks) - 1, min(count, len(blocks))).astype(int)]


def some(documents: tuple[Document, ...], count: int) -> tuple[Document, ...]:
    return documents[:: max(1, len(documents) // count)]


def say(message: str, started: float = time.perf_counter()) -> None:
    print(f"{time.perf_counter() - started:7.0f} s  {message}", flush=True)


# --- the table --------------------------------------------------------------------------------------------------------


def print_tables(rows: list[dict[str, Any]], correlations: list[dict[str, Any]]) -> None:
    for stage, reference in (("before", "unpruned"), ("after", "control")):
        base = find(rows, stage, 0.0, reference, "")
        print(f"\n{stage} fine-tuning, perplexity / {reference} ({float(base['perplexity']):.3f}), 95 % interval")
        levels = sorted({float(row["level"]) for row in rows if float(row["level"]) > 0})
        print(f"{'':30}" + "".join(f"{level:>22.0%}" for level in levels))
        for name, order in [(n, o) for o in ("first", "mean", "inverse") for n in (*CRITERIA, "random")]:
            found = [find(rows, stage, level, name, order) for level in levels]
            if any(found) and not (name == "random" and order == "first"):
                cells = (
                    f"{row['ratio']:.3f} [{row['ratio_low']:.3f}, {row['ratio_high']:.3f}]" for row in found if row
                )
                print(f"{name + ' ' + order:30}" + "".join(f"{cell:>22}" for cell in cells))
    print("\nrank correlation with ablation (ablation: one half of the scoring text with the other)")
    for row in correlations:
        print(f"{row['criterion']:30}{row['rank_correlation_with_ablation']:8.3f}")


def find(rows: list[dict[str, Any]], stage: str, level: float, criterion: str, order: str) -> dict[str, Any]:
    """The row of these coordinates, {} where there is none; for random choices the first seed's."""
    wanted = (stage, level, criterion, order)
    matching = (r for r in rows if (r["stage"], float(r["level"]), r["criterion"], r["order"]) == wanted)
    return next(matching, {})


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys(), lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({key: f"{value:.6g}" if isinstance(value, float) else value for key, value in row.items()})


def read(path: Path) -> list[dict[str, Any]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


# --- the figure -------------------------------------------------------------------------------------------------------

PLAIN = {"facecolor": "white", "edgecolor": "none", "pad": 0.8}
BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#6b6b6b"  # Okabe and Ito: told apart by everyone; shapes differ too


def draw(rows: list[dict[str, Any]], correlations: list[dict[str, Any]]) -> None:
    """One panel per level, criteria as rows in the order of agreement with ablation; their correlation on the right."""
    agreement = {row["criterion"]: float(row["rank_correlation_with_ablation"]) for row in correlations}
    names = [*sorted(MEASURED, key=lambda name: agreement[name]), "ablation", "random"]
    levels = sorted({float(row["level"]) for row in rows if float(row["level"]) > 0})
    figure = Figure(figsize=(3.0 * (len(levels) + 1) + 1, 4.4), layout="constrained")
    axes = figure.subplots(1, len(levels) + 1, sharey=True)
    for axis, level in zip(axes, levels, strict=False):
        draw_level(axis, rows, level, names)
    draw_agreement(axes[-1], agreement, names)
    axes[0].set_yticks(range(len(names)), [name.replace("_", " ") for name in names])
    handles, labels = axes[0].get_legend_handles_labels()
    order = sorted(
        range(len(labels)), key=lambda i: ("inverse" in labels[i], "random" in labels[i], "after" in labels[i])
    )
    handles, labels = [handles[i] for i in order], [labels[i] for i in order]
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    figure.suptitle("Perplexity without the heads that each criterion removes first, built-in model, test text")
    FIGURE.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(FIGURE, dpi=130)
    print(f"wrote {FIGURE}")


def draw_level(axis: Axes, rows: list[dict[str, Any]], level: float, names: list[str]) -> None:
    styles = (
        ("before", -0.16, BLUE, "o", "before fine-tuning / unpruned"),
        ("after", 0.16, ORANGE, "s", "after fine-tuning / fine-tuned unpruned control"),
    )
    for stage, shift, colour, marker, label in styles:
        mean = find(rows, stage, level, "random", "mean")
        note = "mean random choice (ticks: each one)" if stage == "before" else None
        axis.axvline(float(mean["ratio"]), color=colour, linewidth=0.9, linestyle=(0, (1, 2)), zorder=0, label=note)
        for place, name in enumerate(names):
            row = find(rows, stage, level, name, "mean" if name == "random" else "first")
            point(axis, row, place + shift, colour, marker, label if place == 0 else None)
            if name != "random" and (inverse := find(rows, stage, level, name, "inverse")):
                note = "inverse order" if place == 0 and stage == "before" else None
                axis.plot(
                    float(inverse["ratio"]), place + shift, "x", color=colour, markersize=5, alpha=0.75, label=note
                )
    seeds = [r for r in rows if r["criterion"] == "random" and r["order"] == "first" and float(r["level"]) == level]
    for row in seeds:
        shift, colour = (-0.16, BLUE) if row["stage"] == "before" else (0.16, ORANGE)
        axis.plot(float(row["ratio"]), len(names) - 1 + shift, "|", color=colour, markersize=7, alpha=0.6)
    axis.axvline(1.0, color=GREY, linewidth=0.8)
    axis.set_xscale("log")
    axis.set_title(f"{level:.0%} of heads removed", fontsize=10)
    axis.set_xlabel("perplexity ratio (log)", fontsize=9)
    low, high = axis.get_xlim()
    ticks = [t for t in (0.95, 1, 1.05, 1.1, 1.2, 1.3, 1.5, 2, 3, 5, 10, 20, 50, 100) if low <= t <= high]
    ticks = ticks if len(ticks) < 7 else [t for t in ticks if t not in (0.95, 1.05, 1.1, 1.2, 1.3)]
    axis.set_xticks(ticks, [f"{t:g}" for t in ticks], fontsize=8)
    axis.minorticks_off()
    axis.grid(axis="x", color="#e6e6e6", linewidth=0.6)
    axis.set_axisbelow(True)


def point(axis: Axes, row: dict[str, Any], place: float, colour: str, marker: str, label: str | None) -> None:
    ratio, low, high = (float(row[key]) for key in ("ratio", "ratio_low", "ratio_high"))
    axis.errorbar(
        ratio,
        place,
        xerr=[[ratio - low], [high - ratio]],
        fmt=marker,
        color=colour,
        markersize=5,
        linewidth=1.2,
        label=label,
    )


def draw_agreement(axis: Axes, agreement: dict[str, float], names: list[str]) -> None:
    ceiling = agreement["ablation"]
    known = [name for name in names if name in agreement and name != "ablation"]
    places = [names.index(name) for name in known]
    axis.barh(places, [agreement[name] for name in known], height=0.55, color="#7a7a7a")
    for place, name in zip(places, known, strict=True):
        value = agreement[name]
        axis.text(max(value, 0) + 0.02, place, f"{value:.2f}", va="center", fontsize=8, bbox=PLAIN)
    axis.axvline(ceiling, color=GREY, linestyle="--", linewidth=1)
    axis.text(ceiling - 0.02, names.index("ablation"), f"ceiling {ceiling:.2f}", va="center", ha="right", fontsize=8)
    axis.axvline(0, color=GREY, linewidth=0.8)
    axis.set_xlim(min(0.0, *agreement.values()) - 0.1, 1.1)
    axis.set_title("rank correlation with ablation", fontsize=10)
    axis.set_xlabel("Spearman (ceiling: ablation, half with half)", fontsize=9)


if __name__ == "__main__":
    raise SystemExit(main())
