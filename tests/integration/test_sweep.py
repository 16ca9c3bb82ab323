"""Sweeps: a shared beginning changes nothing, what is done stays done, and one failure costs one cell."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from neural_plasticity.cli import main
from neural_plasticity.config import RunConfig
from neural_plasticity.errors import ConfigError, RecordError
from neural_plasticity.experiment import open_experiment
from neural_plasticity.experiment.run import started
from neural_plasticity.record import open_run
from neural_plasticity.record.fork import fork_record
from neural_plasticity.session import start_run
from neural_plasticity.sweep import command
from neural_plasticity.sweep.board import Board
from neural_plasticity.sweep.cells import AFTER_THE_BASELINE, product
from neural_plasticity.sweep.options import SweepOptions, Ways
from neural_plasticity.sweep.plan import Plan
from neural_plasticity.sweep.worker import perform
from tests.small_runs import comparable, save_model, save_text, small_config
from tests.sweep_helpers import Here

PICTURES = Path(__file__).parents[1] / "ui" / "pictures"
BROKEN = "tests.sweep_helpers:breaks"


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    directory = tmp_path_factory.mktemp("inputs")
    model, text = save_model(directory / "model"), save_text(directory / "text.txt", lines=600)
    return small_config(model, text, fine_tuning_steps=3, warmup_steps=8, cycles=2, control=True)


def sweep(options: SweepOptions, backend: Here, monkeypatch: pytest.MonkeyPatch) -> tuple[int, str]:
    """The command with its tasks in this process: its exit code, and what the console said."""
    monkeypatch.setattr(command, "_backend", lambda *_: backend)
    output = io.StringIO()
    return command.run_sweep(options, Board(Console(file=output, width=200))), output.getvalue()


def history(directory: Path) -> list[Any]:
    """What happened in a run, without what says where and how it was run."""
    with open_run(directory) as run:
        kept = [one for one in run.events() if one.kind not in ("run_started", "log")]
    return list(comparable(kept))


def test_a_shared_beginning_changes_nothing_and_what_is_done_stays_done(
    base: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells = product(f"gradient,random,{BROKEN}", "0.25", "0")
    options = SweepOptions(cells, base, tmp_path / "sweep")
    backend = Here({"random-0.25-seed0": (-9,)})
    code, said = sweep(options, backend, monkeypatch)

    # One beginning for three cells; the one that was killed came again; the broken one cost nobody else anything.
    assert code == 2
    gradient, random, broken = (cell.name for cell in cells)
    assert backend.started[0].startswith("seed0-")
    assert backend.started[1:] == [gradient, random, random, broken]
    assert "signal 9; it is tried again" in said
    assert "tests.sweep_helpers:breaks 0.25 seed 0: failed: " in said
    assert said.count("IndexError") == 1  # one cell failed, and why has been said
    assert "2 of 3 cells finished, 1 failed" in said

    # A cell by way of a shared beginning is the same run as the cell alone, bit for bit.
    for cell in cells[:2]:
        alone = tmp_path / f"alone-{cell.name}"
        start_run(cell.config(base, alone), alone)
        forked = tmp_path / "sweep" / "cells" / cell.name
        assert history(forked) == history(alone)
        with open_run(forked) as one, open_run(alone) as other:
            differing = {key for key in one.config if one.config[key] != other.config[key]}
            assert differing <= {"output_dir"}
            assert [s.phase for s in one.phases()] == [s.phase for s in other.phases()]
            assert "run once for 3 cells of this sweep with seed 0" in one.log()[0].message
            assert one.name.endswith("seed 0")
        assert not (forked / "checkpoints").exists()

    with (tmp_path / "sweep" / "sweep.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["state"] for row in rows] == ["finished", "finished", "failed"]
    with open_run(tmp_path / "sweep" / "cells" / cells[0].name) as run:
        result = run.evaluations()[-1].results
    assert float(rows[0]["perplexity"]) == pytest.approx(result["pruned"]["perplexity"], rel=1e-6)
    assert float(rows[0]["ratio_to_control_low"]) <= float(rows[0]["ratio_to_control"])
    assert rows[0]["fine_tuning_steps"] == "3"

    # The same command again has nothing to do; a failed cell is tried when asked; a new seed joins.
    again = Here()
    code, said = sweep(options, again, monkeypatch)
    assert code == 2
    assert again.started == []
    assert "\nfailed: tests.sweep_helpers:breaks 0.25 seed 0: " in said  # nobody has said it this time
    retried = Here()
    sweep(SweepOptions(cells, base, options.directory, Ways(retry_failed=True)), retried, monkeypatch)
    assert retried.started == [broken]
    more = Here()
    code, said = sweep(SweepOptions(product("gradient", "0.25", "0,1"), base, options.directory), more, monkeypatch)
    assert code == 0
    assert [re.sub("-[0-9a-f]{8}$", "", name) for name in more.started] == ["seed1", "gradient-0.25-seed1"]
    assert "95 % t-intervals over seeds" in said
    assert (options.directory / "compare.html").stat().st_size > 10_000

    # The tables are of everything here, whatever this command asked for; what is no cell of this sweep is left out.
    assert "2 of 2 cells finished; with 2 more from before in the tables" in said
    assert "no intervals" not in said
    cells_dir = options.directory / "cells"
    shutil.copytree(cells_dir / gradient, cells_dir / "gradient-0.25-seed7")
    code, said = sweep(SweepOptions(product("random", "0.25", "0"), base, options.directory), Here(), monkeypatch)
    assert code == 0
    assert "1 of 1 cell finished; with 3 more from before" in said
    with (options.directory / "sweep.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["strategy"], row["seed"], row["state"]) for row in rows] == [
        ("random", "0", "finished"), ("gradient", "0", "finished"), ("gradient", "1", "finished"),
        (BROKEN, "0", "failed"),
    ]  # fmt: skip
    assert "IndexError" in rows[-1]["reason"]
    with (options.directory / "summary.csv").open(newline="") as file:
        assert [(row["strategy"], row["seeds"]) for row in csv.DictReader(file)] == [
            ("random", "1"), ("gradient", "2"), (BROKEN, "0")
        ]  # fmt: skip


def test_a_beginning_is_the_same_whatever_comes_after_it(base: RunConfig, tmp_path: Path) -> None:
    one = replace(base, prune_unit="kv_group")
    other = replace(
        base, cycles=3, min_heads_per_layer=0, fine_tuning_steps=9, growth=True,
        growth_budget=0.7, growth_steps=2, growth_ramp_steps=1, control=False,
    )  # fmt: skip
    changed = {name for name in vars(one) if getattr(one, name) != getattr(other, name)}
    assert changed | {"pruning_strategy", "pruning_level"} == set(AFTER_THE_BASELINE)
    histories = []
    for cells, config in ((product("gradient", "0.25", "0"), one), (product("ablation", "0.1", "0"), other)):
        plan = Plan(tmp_path / cells[0].name, cells, config.checked())
        name = plan.beginning(cells[0])
        assert perform(plan.beginning_task(name)) == 0
        histories.append(history(plan.beginning_dir(name)))
    assert histories[0] == histories[1]
    assert [kind for kind, _ in histories[0]].count("evaluation") == 1

    # Killed between copying another sweep's beginning and going on: no cell with other options, but one to go on with.
    with open_run(plan.beginning_dir(name)) as run:
        kept = max(ended.seq for ended in run.records("phase_ended"))
    theirs = Plan(tmp_path / "theirs", product("gradient", "0.25", "0"), base.checked())
    fork_record(plan.beginning_dir(name), theirs.cell_dir(theirs.cells[0]), kept)
    assert theirs.standing(theirs.cells[0]).state == "unfinished"


def test_a_beginning_is_shared_only_with_those_that_judge_the_same_text(base: RunConfig, tmp_path: Path) -> None:
    """Growth tries returns on validation text of its own, so that ``--cycles auto`` judges on other sequences."""
    auto = replace(base, control=False, cycles="auto", max_perplexity_increase=0.5)
    plans = [
        Plan(tmp_path, product("random", "0.25", "0"), replace(auto, growth=growth).checked())
        for growth in (False, True)
    ]
    names = [plan.beginning(plan.cells[0]) for plan in plans]
    judged = [started(open_experiment(plan.config(plan.cells[0]))).data["sequences"]["judged"] for plan in plans]
    assert judged[0] != judged[1]  # with one beginning for both, the second would be refused: not the same text
    assert names[0] != names[1]


@pytest.mark.parametrize("stages", [0, 1])
def test_what_a_cell_says_it_shares_is_what_it_shares(base: RunConfig, tmp_path: Path, stages: int) -> None:
    """The beginning's checkpoints could not be written (0), or only the one after the warm-up."""
    plan = Plan(tmp_path, product("random", "0.25", "0"), replace(base, cycles=1, control=False).checked())
    (cell,) = plan.cells
    directory = plan.beginning_dir(plan.beginning(cell))
    assert perform(plan.beginning_task(directory.name)) == 0
    older, newest = sorted((directory / "checkpoints").glob("event-*"))
    newest.unlink()
    if not stages:
        older.unlink()
    assert perform(plan.task(cell)) == 0
    with open_run(plan.cell_dir(cell)) as run:
        assert run.summary().state == "finished"
        *_, mine = run.events("run_started")
        said = [line.message for line in run.log() if "run once" in line.message]
        assert said == [line for line in [mine.environment.get("shared_beginning")] if line]  # type: ignore[attr-defined]
        assert [line[: len("warm-up was run once")] for line in said] == ["warm-up was run once"] * stages


def test_another_sweep_or_another_run_in_the_directory_is_refused(base: RunConfig, tmp_path: Path) -> None:
    cells = product("random", "0.25", "0")
    with pytest.raises(ConfigError, match="--pruning_level"):
        command.run_sweep(SweepOptions(cells, RunConfig(pruning_level="0.5"), tmp_path))
    (tmp_path / "sweep.json").write_text(json.dumps({"options": {"fine_tuning_steps": 99}}))
    with pytest.raises(RecordError, match=r"holds another sweep \(--batch_size 8 there, 4 asked for\)"):
        command.run_sweep(SweepOptions(cells, base, tmp_path))
    (tmp_path / "sweep.json").write_text("no JSON")
    with pytest.raises(RecordError, match="cannot be read"):
        command.run_sweep(SweepOptions(cells, base, tmp_path))
    (tmp_path / "run.sqlite").touch()
    with pytest.raises(RecordError, match="holds a single run"):
        command.run_sweep(SweepOptions(cells, base, tmp_path))


def test_levels_that_cannot_be_are_found_before_the_warm_up(
    base: RunConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = Here()
    code, said = sweep(SweepOptions(product("random", "0.25,0.99", "0"), base, tmp_path), backend, monkeypatch)
    assert code == 2
    assert len(backend.started) == 1  # the beginning, which trained nothing
    assert said.count("its warm-up and baseline failed: --cycles 2: cycle 2 would find nothing to prune") == 2
    with open_run(next((tmp_path / ".shared").iterdir())) as run:
        assert not list(run.events("metrics"))


BAD = {
    "a strategy twice": (["sweep", "--strategies", "random,random"], "--strategies random,random: random is given"),
    "a level twice": (["sweep", "--levels", "0.2,0.20"], "--levels 0.2,0.20: 0.2 is given twice"),
    "a seed twice": (["sweep", "--seeds", "1,1"], "--seeds 1,1: 1 is given twice"),
    "no seeds": (["sweep", "--seeds", ""], "--seeds '': expected whole numbers"),
    "a level out of range": (["sweep", "--levels", "0.2,1"], "--levels '0.2,1': expected fractions"),
    "an unknown strategy": (["sweep", "--strategies", "gradiant"], "--strategies gradiant: no such strategy. Did you"),
    "the options of one run": (["sweep", "--seed", "3"], "--seed: a sweep takes --seeds"),
    "no jobs": (["sweep", "--jobs", "0"], "--jobs 0: expected at least 1"),
    "a cluster without Ray": (["sweep", "--ray_address", "x"], "--ray_address x: expected together with --backend"),
    "seeds of one run": (["run", "--seeds", "1,2"], "--seeds 1,2: expected with --compare_strategies"),
    "an unknown one to compare": (["run", "--compare_strategies", "random,x"], "--compare_strategies x: no such"),
    "levels to compare twice": (
        ["run", "--compare_strategies", "--pruning_level", "0.1,0.1"],
        "--pruning_level 0.1,0.1: 0.1 is given twice",
    ),
    "a model that is nowhere": (["sweep", "--model_name", "/no/such"], "--model_name /no/such: no such directory, and"),
    "a directory without a model": (
        ["run", "--compare_strategies", "--model_name", "/proc"],
        "/proc: the directory has no",
    ),
    "no text": (["sweep", "--dataset", str(PICTURES)], "found 0 text files"),
    "a configuration of no data set": (["sweep", "--dataset_config", "x"], "--dataset_config x: only a hub data set"),
    "no evaluation": (["sweep", "--eval", "no_such_module:f"], "--eval no_such_module:f: no module"),
    "both ways": (["run", "--compare_strategies", "random", "--pruning_strategy", "random"], "names the strategies"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_before_anything_slow(
    case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, expected = BAD[case]
    assert main([*arguments, "--output_dir", str(tmp_path / "sweep")]) == 2
    said = capsys.readouterr()
    assert expected in said.err
    assert said.err.count("\n") == 1
    assert not (tmp_path / "sweep").exists()
