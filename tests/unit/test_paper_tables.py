"""The public table's arithmetic: which rows are compared with which control, and how seeds are averaged."""

from __future__ import annotations

import csv
import math
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parents[2] / "scripts"))

import make_paper
import paper_contrasts
import paper_results
import publish_paper

ARMS = (make_paper.Arm("one-shot", 1), make_paper.Arm("iterative", 3))


def save_sweep(home: Path, arm: str, share: float, control: bool, rows: list[tuple[str, int, float, object]]) -> None:
    directory = paper_results.sweep_dir(home, arm, share, control)
    directory.mkdir(parents=True)
    names = ("strategy", "seed", "state", "perplexity", "perplexity_ratio", "control_perplexity", "sparsity")
    with (directory / "sweep.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(names)
        for strategy, seed, perplexity, other in rows:
            writer.writerow((strategy, seed, "finished", perplexity, perplexity / 10, other, share))
        writer.writerow(("gradient", 9, "failed", "", "", "", ""))


def test_every_run_is_held_against_the_control_of_its_own_way_and_seed(tmp_path: Path) -> None:
    save_sweep(tmp_path, "one-shot", 0.5, True, [("gradient", 0, 22, 20), ("gradient", 1, 36, 30)])
    save_sweep(tmp_path, "one-shot", 0.3, False, [("gradient", 0, 21, ""), ("gradient", 1, 31.5, "")])
    save_sweep(tmp_path, "iterative", 0.5, False, [("random", 0, 40, "")])
    rows = {(row["share"], row["arm"]): row for row in paper_results.tuned_table(tmp_path, ARMS)}
    first = rows[0.5, "one-shot"]
    assert first["ratio_to_control"] == pytest.approx(math.sqrt(1.1 * 1.2))
    # Two seeds: Student's quantile for one degree of freedom is 12.7062, the logarithms' standard error |a − b| / 2.
    half = 12.7062 * (math.log(1.2) - math.log(1.1)) / 2
    assert first["ratio_to_control_high"] == pytest.approx(first["ratio_to_control"] * math.exp(half), rel=1e-5)
    assert rows[0.3, "one-shot"]["ratio_to_control"] == pytest.approx(1.05)
    assert rows[0.3, "one-shot"]["seeds"] == 2
    assert math.isnan(rows[0.5, "iterative"]["ratio_to_control"])  # its own control is not there yet
    assert rows[0.5, "iterative"]["ratio_to_baseline"] == pytest.approx(4)


def test_every_cell_is_run_once_and_every_way_has_one_control_per_seed(tmp_path: Path) -> None:
    plan = make_paper.FULL
    sweeps = list(make_paper.sweeps(plan, tmp_path, 1))
    assert len({one.directory for one in sweeps}) == len(sweeps)
    cells = [(one.base.cycles, one.base.growth, cell) for one in sweeps for cell in one.cells]
    assert len(set(cells)) == len(cells)
    shares = sum(len(arm.levels(plan)) for arm in make_paper.ARMS)
    assert len(cells) == shares * len(plan.strategies) * len(plan.seeds)
    controls = [
        (one.base.cycles, one.base.growth, cell.seed) for one in sweeps if one.base.control for cell in one.cells
    ]
    assert sorted(controls) == sorted((a.cycles, a.growth, seed) for a in make_paper.ARMS for seed in plan.seeds)


def test_ratios_are_taken_within_a_seed_and_then_averaged() -> None:
    held = {
        (0.5, "one-shot", "gradient"): {"0": 20.0, "1": 60.0, "2": 7.0},
        (0.5, "one-shot", "random"): {"0": 40.0, "1": 120.0},  # seeds differ by a factor of 3, the ratio does not
        (0.5, "iterative", "gradient"): {"0": 10.0, "1": 15.0},
        (0.3, "one-shot", "gradient"): {"0": 5.0},  # nothing to hold it against
    }
    (chance,) = paper_contrasts.against_chance(held)
    assert (chance["way"], chance["strategy"], chance["replicates"]) == ("one-shot", "gradient", 2)
    assert [chance[name] for name in ("ratio", "ratio_low", "ratio_high")] == pytest.approx([0.5, 0.5, 0.5])
    (way,) = paper_contrasts.between_ways(held, "iterative", "one-shot")
    assert (way["way"], way["against"], way["share"]) == ("iterative", "one-shot", 0.5)
    assert way["ratio"] == pytest.approx(math.sqrt(10 / 20 * 15 / 60))
    assert "**0.500 (0.500–0.500)**" in paper_contrasts.chance_markdown([chance], "title")  # all of it below 1
    assert "| 50% | gradient | 0.354 (" in paper_contrasts.ways_markdown([way])  # on both sides of 1


def test_the_findings_show_the_tables_that_their_csvs_give() -> None:
    page = publish_paper.PAGE.read_text(encoding="utf-8")
    assert publish_paper.filled(page) == page
    shown = [name for name in paper_results.tables(publish_paper.KEPT, make_paper.ARMS) if f"<!-- {name} -->" in page]
    assert "untuned" in shown
    assert "untuned-chance" in shown
