"""Stopping and going on: real processes, real signals in the middle of training."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from neural_plasticity.record import open_run
from tests.small_runs import save_model, save_text

OPTIONS = [
    *("--warmup_steps", "8", "--fine_tuning_steps", "500", "--batch_size", "2", "--sequence_length", "16"),
    *("--stabilisation_window", "8", "--score_sequences", "4", "--eval_sequences", "4", "--device", "cpu"),
]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    directory = tmp_path_factory.mktemp("inputs")
    model, text = save_model(directory / "model"), save_text(directory / "text.txt", lines=400)
    return ["--model_name", str(model), "--dataset", str(text)]


def start(arguments: list[str], directory: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "neural_plasticity", "run", *arguments],
        cwd=directory,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_run_stopped_in_the_middle_goes_on_from_its_last_phase(
    number: signal.Signals, inputs: list[str], tmp_path: Path
) -> None:
    process = start([*inputs, *OPTIONS, "--output_dir", "run"], tmp_path)
    assert process.stdout is not None
    for line in process.stdout:
        if "fine-tuning" in line and "loss" in line and "500" in line:
            break
    process.send_signal(number)
    output, _ = process.communicate(timeout=120)
    assert "Traceback" not in output
    with open_run(tmp_path / "run") as run:
        trained = sum(e.phase == "fine-tuning" for e in run.events("metrics"))
        assert 0 < trained < 500
        pruned = (run.heads() == 0).sum()
        assert pruned >= 1
        if number != signal.SIGKILL:  # a killed process says nothing; its record is there all the same
            assert process.returncode == 130, output
            assert "plasticity run --resume run" in output
            assert run.summary().state == "stopped"

    again = start(["--resume", "run"], tmp_path)
    output, _ = again.communicate(timeout=240)
    assert again.returncode == 0, output
    with open_run(tmp_path / "run") as run:
        assert run.summary().state == "finished"
        assert run.summary().attempt == 2
        assert (run.heads() == 0).sum() == pruned
        assert len(run.decisions()) == 1
        steps, _ = run.series("loss")
        assert len(set(steps.tolist())) == len(steps)  # the abandoned steps are not counted twice
        fine_tuning = [e for e in run.events("metrics") if e.phase == "fine-tuning" and "loss" in e.metrics]
        assert len(fine_tuning) == 500
        abandoned = [
            e for e in run.events("metrics", attempt="all") if e.phase == "fine-tuning" and "loss" in e.metrics
        ]
        assert len(abandoned) > 500  # and nothing was thrown away


def test_resuming_on_another_text_or_with_other_options_is_refused(inputs: list[str], tmp_path: Path) -> None:
    text = save_text(tmp_path / "mine.txt", lines=400)
    arguments = [*inputs[:2], "--dataset", str(text), *OPTIONS, "--output_dir", "run"]
    process = start(arguments, tmp_path)
    assert process.stdout is not None
    for line in process.stdout:
        if "fine-tuning" in line and "loss" in line and "500" in line:
            break
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=120)

    output, _ = (again := start(["--resume", "run", "--cycles", "7"], tmp_path)).communicate(timeout=120)
    assert again.returncode == 2
    assert "leave --cycles out" in output

    text.write_text(text.read_text().upper())
    output, _ = (again := start(["--resume", "run"], tmp_path)).communicate(timeout=120)
    assert again.returncode == 2
    assert "the text is not what this run was started with" in output
