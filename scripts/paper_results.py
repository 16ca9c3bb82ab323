"""Tables and figures of ``make_paper.py``, from whatever it has measured so far. Nothing here measures anything."""

from __future__ import annotations

import csv
import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from matplotlib.figure import Figure
from paper_contrasts import CHANCE, Key, Values, against_chance, between_ways, chance_markdown, ways_markdown

from neural_plasticity.record.schema import FILE_NAME
from neural_plasticity.render.figures.style import DPI, LABEL, PANEL, WIDTH
from neural_plasticity.sweep.standing import standing
from neural_plasticity.sweep.table import Mean, ratio_interval, t_interval, write_csv

Row = dict[str, Any]
# Okabe and Ito; markers differ too, so that no colour stands alone.
STYLES = {
    "ablation": ("#000000", "*"),
    "combined": ("#0072B2", "o"),
    "gradient": ("#D55E00", "s"),
    "gradient_normalised": ("#E69F00", "D"),
    "fisher": ("#009E73", "^"),
    "output_norm": ("#56B4E9", "v"),
    "entropy": ("#CC79A7", "P"),
    "magnitude": ("#8C6D00", "X"),
    "random": ("#6B6B6B", "d"),
}


class Arm(Protocol):
    """What is needed of an arm of the part ``tuned``."""

    @property
    def name(self) -> str: ...


def untuned_csv(home: Path, base: str) -> Path:
    """What was measured on one base model without tuning."""
    return home / "untuned" / f"{base}.csv"


def sweep_dir(home: Path, arm: str, share: float, control: bool) -> Path:
    """The sweep of one arm at one final share; another one of those cells that train the arm's control, too."""
    return home / "tuned" / (f"{arm}-{share:g}" + ("+control" if control else ""))


def finished(run_dir: Path) -> bool:
    """Whether a run is there and has finished."""
    return (run_dir / FILE_NAME).exists() and standing(run_dir).state == "finished"


def write_results(home: Path, arms: Sequence[Arm], warning: str) -> list[Path]:
    """Write CSVs, figures and a page of tables below ``home``/results, each where there is something to show."""
    target = home / "results"
    target.mkdir(parents=True, exist_ok=True)
    found = {"untuned": untuned_table(home), "tuned": tuned_table(home, arms), "contrasts": contrasts(home, arms)}
    written = [write_csv(target / f"{name}.csv", rows) for name, rows in found.items() if rows]
    page = target / "tables.md"
    page.write_text("\n".join([f"> {warning}\n"] * bool(warning) + list(tables(home, arms).values())), encoding="utf-8")
    return [*written, *draw(target, home, arms, warning), page]


def contrasts(home: Path, arms: Sequence[Arm]) -> list[Row]:
    """What is held against what, nothing trained first."""
    held = tuned_perplexities(home)
    return [*against_chance(untuned_ratios(home)), *against_chance(held), *_ways(held, arms)]


def _ways(held: Values, arms: Sequence[Arm]) -> list[Row]:
    """Each arm against the one before it."""
    pairs = itertools.pairwise(arm.name for arm in arms)
    return [row for before, way in pairs for row in between_ways(held, way, before)]


def tables(home: Path, arms: Sequence[Arm]) -> dict[str, str]:
    """Markdown by name, of what there is."""
    untuned, tuned = untuned_table(home), tuned_table(home, arms)
    held = tuned_perplexities(home)
    found: dict[str, str] = {}
    if untuned:
        title = "Perplexity / that of as many heads at random, same base model, nothing trained."
        found |= {
            "untuned": untuned_markdown(untuned),
            "untuned-chance": chance_markdown(against_chance(untuned_ratios(home)), title),
        }
    if tuned:
        title = "Test perplexity / that of as many heads at random, same way and seed, after training."
        found["tuned"] = tuned_markdown(tuned)
        if chance := against_chance(held):
            found["tuned-chance"] = chance_markdown(chance, title)
        if ways := _ways(held, arms):
            found["ways"] = ways_markdown(ways)
    return found


def draw(target: Path, home: Path, arms: Sequence[Arm], warning: str = "") -> list[Path]:
    """The figures, where there is something to show."""
    untuned, tuned = untuned_table(home), tuned_table(home, arms)
    written = [draw_untuned(target / "untuned.png", untuned, warning)] if untuned else []
    return written + ([draw_tuned(target / "tuned.png", tuned, warning)] if tuned else [])


# --- without tuning ---------------------------------------------------------------------------------------------------


def untuned_table(home: Path) -> list[Row]:
    """Per strategy, order and level: the perplexity ratio over base models, whose t-interval says how it varies."""
    rows = []
    for (level, order, criterion), ratios in sorted(untuned_ratios(home).items()):
        mean = ratio_interval(list(ratios.values()))
        rows.append({"level": level, "strategy": criterion, "order": order, **_mean("ratio", mean, "bases")})
    return rows


def untuned_ratios(home: Path) -> dict[Key, dict[str, float]]:
    """Perplexity / unpruned by level, order and strategy, of each base model."""
    found: dict[Key, dict[str, float]] = {}
    for path in sorted((home / "untuned").glob("*.csv")):
        for key, ratio in _of_one_base(read(path)):
            found.setdefault(key, {})[path.stem] = ratio
    return found


def _of_one_base(rows: list[Row]) -> Iterator[tuple[Key, float]]:
    """One ratio per level, order and strategy; of random choices the geometric mean."""
    chance: dict[float, list[float]] = {}
    for row in rows:
        level, ratio = float(row["level"]), float(row["ratio"])
        if not level or row["order"] == "mean":
            continue
        if row["criterion"] == "random":
            chance.setdefault(level, []).append(math.log(ratio))
        else:
            yield (level, row["order"], row["criterion"]), ratio
    for level, logs in chance.items():
        yield (level, "first", CHANCE), math.exp(sum(logs) / len(logs))


def untuned_markdown(rows: list[Row]) -> str:
    """Strategies as rows in the order of what they cost at the middle level, levels as columns."""
    first = [row for row in rows if row["order"] == "first"]
    levels = sorted({row["level"] for row in first})
    cells = {(row["strategy"], row["level"]): row for row in first}
    middle = levels[len(levels) // 2]
    names = sorted({row["strategy"] for row in first}, key=lambda name: cells[name, middle]["ratio"])
    bases = max(row["bases"] for row in first)
    lines = [
        f"Perplexity / unpruned, test text, nothing trained: geometric mean of {bases} base models, 95 % t-interval.\n",
        "| strategy | " + " | ".join(f"{level:.0%}" for level in levels) + " |",
        "|---|" + "---:|" * len(levels),
    ]
    lines += [
        f"| {name} | " + " | ".join(_cell(cells[name, level], "ratio") for level in levels) + " |" for name in names
    ]
    return "\n".join(lines) + "\n"


def draw_untuned(path: Path, rows: list[Row], warning: str) -> Path:
    """One line per strategy over the share removed."""
    figure = Figure(figsize=(WIDTH, 4.2), layout="constrained")
    axes = figure.subplots()
    names = [name for name in STYLES if any(row["strategy"] == name for row in rows)]
    for place, name in enumerate(names):
        line = [row for row in rows if row["strategy"] == name and row["order"] == "first"]
        _points(axes, [row["level"] + 0.003 * (place - len(names) / 2) for row in line], line, "ratio", name, "-")
    axes.set_xlabel("heads removed", fontsize=LABEL)
    axes.set_ylabel("perplexity / unpruned (log)", fontsize=LABEL)
    axes.set_title("Heads switched off, nothing trained: base models as replicates", fontsize=PANEL, loc="left")
    levels = sorted({row["level"] for row in rows})
    axes.set_xticks(levels, [f"{level:.0%}" for level in levels])
    return _save(figure, axes, path, warning)


# --- with tuning ------------------------------------------------------------------------------------------------------


def tuned_table(home: Path, arms: Sequence[Arm]) -> list[Row]:
    """Per arm, final share and strategy: means over seeds of the ratio to the control and of what was removed."""
    cells: dict[tuple[float, str, str], list[Row]] = {}
    control: dict[tuple[str, str], float] = {}  # perplexity by arm and seed
    for share, arm, row in _tuned_rows(home):
        cells.setdefault((share, arm, row["strategy"]), []).append(row)
        if row["control_perplexity"]:
            control[arm, row["seed"]] = float(row["control_perplexity"])
    rows = []
    for (share, arm, strategy), members in cells.items():
        pairs = [(float(row["perplexity"]), control.get((arm, row["seed"]), math.nan)) for row in members]
        to_control = ratio_interval([perplexity / other for perplexity, other in pairs])
        to_baseline = ratio_interval([float(row["perplexity_ratio"]) for row in members])
        removed = t_interval([float(row["sparsity"]) for row in members])
        rows.append(
            {
                "share": share,
                "arm": arm,
                "strategy": strategy,
                **_mean("ratio_to_control", to_control, "seeds"),
                **_mean("ratio_to_baseline", to_baseline, "seeds"),
                **_mean("removed", removed, "seeds"),
            }
        )
    order = [arm.name for arm in arms]
    return sorted(rows, key=lambda row: (row["share"], order.index(row["arm"]), list(STYLES).index(row["strategy"])))


def tuned_perplexities(home: Path) -> dict[Key, dict[str, float]]:
    """Test perplexities by share, way and strategy, of each seed."""
    found: dict[Key, dict[str, float]] = {}
    for share, arm, row in _tuned_rows(home):
        found.setdefault((share, arm, row["strategy"]), {})[row["seed"]] = float(row["perplexity"])
    return found


def _tuned_rows(home: Path) -> Iterator[tuple[float, str, Row]]:
    """Share, way and line of every run that has finished."""
    for path in sorted((home / "tuned").glob("*/sweep.csv")):
        arm, _, share = path.parent.name.removesuffix("+control").rpartition("-")
        yield from ((float(share), arm, row) for row in read(path) if row["state"] == "finished")


def tuned_markdown(rows: list[Row]) -> str:
    """One row per share, arm and strategy."""
    lines = [
        "Perplexity / equally trained unpruned control, test text: geometric mean of the seeds, 95 % t-interval.\n",
        "| asked | way | strategy | perplexity / control | heads removed | seeds |",
        "|---:|---|---|---:|---:|---:|",
    ]
    lines += [
        f"| {row['share']:.0%} | {row['arm']} | {row['strategy']} | {_cell(row, 'ratio_to_control')} | "
        f"{row['removed']:.1%} | {row['seeds']} |"
        for row in rows
    ]
    return "\n".join(lines) + "\n"


def draw_tuned(path: Path, rows: list[Row], warning: str) -> Path:
    """A panel per share: ways on the x axis, a point with its interval per strategy."""
    shares = sorted({row["share"] for row in rows})
    figure = Figure(figsize=(WIDTH, 3.8), layout="constrained")
    panels = figure.subplots(1, len(shares), sharey=True, squeeze=False)[0]
    for axes, share in zip(panels, shares, strict=True):
        here = [row for row in rows if row["share"] == share]
        arms = list(dict.fromkeys(row["arm"] for row in here))
        names = list(dict.fromkeys(row["strategy"] for row in here))
        for place, name in enumerate(names):
            line = [row for row in here if row["strategy"] == name]
            shift = 0.14 * (place - (len(names) - 1) / 2)
            _points(axes, [arms.index(row["arm"]) + shift for row in line], line, "ratio_to_control", name, "")
        axes.axhline(1, color="#6B6B6B", linewidth=0.8)
        axes.set_xticks(range(len(arms)), ["iterative\nwith growth" if arm == "growth" else arm for arm in arms])
        axes.set_xlim(-0.5, len(arms) - 0.5)
        axes.set_title(f"{share:.0%} of the heads to go", fontsize=PANEL, loc="left")
    panels[0].set_ylabel("perplexity / equally trained control (log)", fontsize=LABEL)
    return _save(figure, panels[0], path, warning)


# --- shared -----------------------------------------------------------------------------------------------------------


def read(path: Path) -> list[Row]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _mean(name: str, mean: Mean, count: str) -> Row:
    return {name: mean.mean, f"{name}_low": mean.low, f"{name}_high": mean.high, count: mean.seeds}


def _cell(row: Row, name: str) -> str:
    value, low, high = (row[f"{name}{end}"] for end in ("", "_low", "_high"))
    return f"{value:.3f}" if math.isnan(low) else f"{value:.3f} ({low:.3f}–{high:.3f})"


def _points(axes: Any, places: Iterable[float], rows: Sequence[Row], key: str, name: str, line: str) -> None:
    """Means with their intervals, which are left out where fewer than two replicates give none."""
    colour, marker = STYLES[name]
    values = [row[key] for row in rows]
    below = [max(0.0, row[key] - row[f"{key}_low"]) if not math.isnan(row[f"{key}_low"]) else 0.0 for row in rows]
    above = [max(0.0, row[f"{key}_high"] - row[key]) if not math.isnan(row[f"{key}_high"]) else 0.0 for row in rows]
    axes.errorbar(
        list(places),
        values,
        yerr=[below, above],
        fmt=marker + line,
        color=colour,
        markersize=5,
        linewidth=1.1,
        elinewidth=0.9,
        capsize=2,
        label=name.replace("_", " "),
    )


def _ticks(low: float, high: float) -> list[float]:
    """Round values between ``low`` and ``high`` whose labels keep off each other on a log axis; 1 before any other."""
    kept: list[float] = []
    for tick in (1, 10, 100, 2, 5, 20, 50, 300, 1.5, 3, 0.5, 1.2, 0.8, 1.1, 0.9, 1.3, 1.4, 1.05, 0.95):
        apart = all(abs(math.log(tick / other)) > math.log(high / low) / 14 for other in kept)
        if low <= tick <= high and apart:
            kept.append(tick)
    return sorted(kept)


def _save(figure: Figure, legend_of: Any, path: Path, warning: str) -> Path:
    for axes in figure.axes:
        axes.set_yscale("log")
        low, high = axes.get_ylim()
        ticks = _ticks(low, high)
        axes.set_yticks(ticks, [f"{t:g}" for t in ticks])
        axes.minorticks_off()
        axes.grid(axis="y", color="#E6E6E6", linewidth=0.6)
        axes.tick_params(labelsize=LABEL)
        axes.set_axisbelow(True)
    figure.legend(
        *legend_of.get_legend_handles_labels(), loc="outside lower center", ncols=5, frameon=False, fontsize=LABEL
    )
    if warning:
        figure.suptitle(warning, fontsize=LABEL, color="#B00020")
    figure.savefig(path, dpi=DPI)
    return path
