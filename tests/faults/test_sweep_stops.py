"""Sweeps with real processes: one is killed, all are stopped, and the same command goes on; here and on Ray."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from neural_plasticity.cli import Sweep, parse
from neural_plasticity.record import open_run
from neural_plasticity.sweep.cells import product
from neural_plasticity.sweep.plan import Plan
from neural_plasticity.sweep.worker import perform
from tests.small_runs import save_model, save_text
from tests.sweep_helpers import MARK

ROOT = Path(__file__).parents[2]
OPTIONS = [
    *("--warmup_steps", "8", "--fine_tuning_steps", "2", "--batch_size", "2", "--sequence_length", "16"),
    *("--stabilisation_window", "8", "--score_sequences", "4", "--eval_sequences", "4", "--device", "cpu"),
]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    directory = tmp_path_factory.mktemp("inputs")
    model, text = save_model(directory / "model"), save_text(directory / "text.txt", lines=400)
    options = ["--model_name", str(model), "--dataset", str(text), *OPTIONS, "--shared_dir", str(directory / "shared")]
    _begin_here(options, directory)
    return options


def _begin_here(options: list[str], directory: Path) -> None:
    """Warm-up and baseline of seed 0, in this process: the processes below then have less to do."""
    asked = parse(["sweep", *options])
    assert isinstance(asked, Sweep)
    plan = Plan(directory, product("random", "0.25", "0"), asked.config.checked(), asked.ways.shared_dir)
    assert perform(plan.beginning_task(plan.beginning(plan.cells[0]))) == 0


def start(arguments: list[str], mark: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "neural_plasticity", "sweep", "--levels", "0.25", "--seeds", "0", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1", MARK: str(mark)},
    )


def test_a_sweep_survives_what_kills_a_process_and_goes_on_after_ctrl_c(inputs: list[str], tmp_path: Path) -> None:
    directory = tmp_path / "sweep"
    arguments = ["--strategies", "tests.sweep_helpers:dies_once", "--output_dir", str(directory), *inputs]
    process = start(arguments, tmp_path / "mark")
    assert process.stdout is not None
    for line in process.stdout:
        if "0 of 1 cell done · 1 running" in line:
            break
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 130, output
    assert f"Stopped; the same command goes on, with --output_dir {directory}." in output
    assert "Traceback" not in output

    again = start(arguments, tmp_path / "mark")
    output, _ = again.communicate(timeout=240)
    assert again.returncode == 0, output
    assert "warm-up and baseline, seed 0" not in output  # shared with another sweep, and not run again
    assert "ended by signal 9; it is tried again" in output
    (run_dir,) = (directory / "cells").iterdir()
    with open_run(run_dir) as run:
        assert run.summary().state == "finished"
        steps, _ = run.series("loss")
        assert len(set(steps.tolist())) == len(steps)
        assert run.started is not None
        assert run.started.environment["threads"] == 1


def test_a_sweep_on_a_ray_cluster(inputs: list[str], tmp_path: Path) -> None:
    pytest.importorskip("ray")
    directory = tmp_path / "sweep"
    arguments = ["--strategies", "random", "--backend", "ray", "--jobs", "1", "--output_dir", str(directory), *inputs]
    output, _ = (process := start(arguments, tmp_path / "mark")).communicate(timeout=300)
    assert process.returncode == 0, output
    assert "Ray, 1 machine with" in output
    with (directory / "sweep.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["state"] == "finished"
    assert float(row["perplexity_ratio"]) > 0
