"""Stopping and going on: real processes, real signals in the middle of training."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from neural_plasticity.cli import main
from neural_plasticity.events import RunStarted
from neural_plasticity.record import Run, open_run
from tests.small_runs import comparable, save_model, save_text

STEPS = 200
OPTIONS = [
    *("--warmup_steps", "8", "--fine_tuning_steps", str(STEPS), "--batch_size", "2", "--sequence_length", "16"),
    *("--stabilisation_window", "8", "--score_sequences", "4", "--eval_sequences", "4", "--device", "cpu"),
    *("--checkpoint_every", "10", "--no_visualize"),
]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    directory = tmp_path_factory.mktemp("inputs")
    model, text = save_model(directory / "model"), save_text(directory / "text.txt", lines=400)
    return ["--model_name", str(model), "--dataset", str(text)]


@pytest.fixture(scope="module")
def whole(inputs: list[str], tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The record of a run that nobody stopped."""
    directory = tmp_path_factory.mktemp("whole") / "run"
    assert main(["run", *inputs, *OPTIONS, "--output_dir", str(directory)]) == 0
    return open_run(directory)


def start(arguments: list[str], directory: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "neural_plasticity", "run", *arguments],
        cwd=directory,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # A shell's background jobs ignore Ctrl-C, and what they start does too.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        env={**os.environ, "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1"},
    )


def in_training(process: subprocess.Popen[str]) -> None:
    """Wait until the run is in the middle of its fine-tuning."""
    assert process.stdout is not None
    for line in process.stdout:
        if "fine-tuning" in line and "loss" in line and f"/{STEPS}" in line:
            return


def steps_in(run: Run, attempt: str) -> int:
    events = run.events("metrics", attempt=attempt)  # type: ignore[arg-type]
    return sum(event.phase == "fine-tuning" and "loss" in event.metrics for event in events)  # type: ignore[attr-defined]


def once(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGINT)


def twice(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGINT)  # another one: two of a kind at once are one


@pytest.mark.parametrize("stop", [once, twice, subprocess.Popen.kill])
def test_a_run_stopped_in_the_middle_of_a_phase_goes_on_there(
    stop: Callable[[subprocess.Popen[str]], None], inputs: list[str], whole: Run, tmp_path: Path
) -> None:
    process = start([*inputs, *OPTIONS, "--output_dir", "my run"], tmp_path)
    in_training(process)
    stop(process)
    output, _ = process.communicate(timeout=120)
    assert "Traceback" not in output
    with open_run(tmp_path / "my run") as run:
        trained = steps_in(run, "latest")
        assert 0 < trained < STEPS
        if stop in (once, twice):  # a killed process says nothing; its record is there all the same
            assert process.returncode == 130, output
            assert "plasticity run --resume 'my run'" in output
            assert run.summary().state == "stopped"

    again = start(["--resume", "my run"], tmp_path)
    output, _ = again.communicate(timeout=240)
    assert again.returncode == 0, output
    with open_run(tmp_path / "my run") as run:
        assert (run.summary().state, run.summary().attempt) == ("finished", 2)
        ours, reference = (
            [event for event in one.events() if not isinstance(event, RunStarted)] for one in (run, whole)
        )
        assert list(comparable(ours)) == list(comparable(reference))
        repeated = steps_in(run, "all") - STEPS
        assert repeated == 0 if stop is once else 0 <= repeated <= 10


def test_resuming_on_another_text_or_with_other_options_is_refused(inputs: list[str], tmp_path: Path) -> None:
    text = save_text(tmp_path / "mine.txt", lines=400)
    arguments = [*inputs[:2], "--dataset", str(text), *OPTIONS, "--output_dir", "run"]
    process = start(arguments, tmp_path)
    in_training(process)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=120)

    output, _ = (again := start(["--resume", "run", "--cycles", "7"], tmp_path)).communicate(timeout=120)
    assert again.returncode == 2
    assert "leave --cycles out" in output

    text.write_text(text.read_text().upper())
    output, _ = (again := start(["--resume", "run"], tmp_path)).communicate(timeout=120)
    assert again.returncode == 2
    assert "the text is not what this run was started with" in output
