"""Stopping and going on: real processes, real signals in the middle of training."""

from __future__ import annotations

import os
import shutil
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


Stop = Callable[[subprocess.Popen[str]], None]


def once(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGINT)


def twice(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGINT)  # another one: two of a kind at once are one


@pytest.fixture(scope="module")
def stopped(inputs: list[str], tmp_path_factory: pytest.TempPathFactory) -> Callable[[Stop, Path], int]:
    """Makes ``run`` in a directory: a run that was stopped so in its fine-tuning. Returns how many steps that had."""
    copies: dict[Stop, Path] = {}

    def make(stop: Stop, directory: Path) -> int:
        if stop not in copies:
            copies[stop] = tmp_path_factory.mktemp("stopped") / "my run"
            process = start([*inputs, *OPTIONS, "--output_dir", "my run"], copies[stop].parent)
            in_training(process)
            stop(process)
            output, _ = process.communicate(timeout=120)
            assert "Traceback" not in output
            if stop in (once, twice):  # a killed process says nothing; its record is there all the same
                assert process.returncode == 130, output
                assert "plasticity run --resume 'my run'" in output
        shutil.copytree(copies[stop], directory)
        with open_run(directory) as run:
            assert run.summary().state == "stopped" or stop not in (once, twice)
            return steps_in(run, "latest")

    return make


@pytest.mark.parametrize("stop", [once, twice, subprocess.Popen.kill])
def test_a_run_stopped_in_the_middle_of_a_phase_goes_on_there(
    stop: Stop, stopped: Callable[[Stop, Path], int], whole: Run, tmp_path: Path
) -> None:
    assert 0 < stopped(stop, tmp_path / "my run") < STEPS
    if stop is once:  # word for word; the others here, where everything is loaded already
        output, _ = (again := start(["--resume", "my run"], tmp_path)).communicate(timeout=240)
        assert again.returncode == 0, output
    else:
        assert main(["run", "--resume", str(tmp_path / "my run"), "--no_visualize"]) == 0
    with open_run(tmp_path / "my run") as run:
        assert (run.summary().state, run.summary().attempt) == ("finished", 2)
        ours, reference = (
            [event for event in one.events() if not isinstance(event, RunStarted)] for one in (run, whole)
        )
        assert list(comparable(ours)) == list(comparable(reference))
        repeated = steps_in(run, "all") - STEPS
        assert repeated == 0 if stop is once else 0 <= repeated <= 10


def test_resuming_on_another_text_or_with_other_options_is_refused(
    inputs: list[str], stopped: Callable[[Stop, Path], int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stopped(once, tmp_path / "run")
    assert main(["run", "--resume", str(tmp_path / "run"), "--cycles", "7"]) == 2
    assert "leave --cycles out" in capsys.readouterr().err

    text = Path(inputs[-1])
    as_it_was = text.read_text()
    text.write_text(as_it_was.upper())
    try:
        assert main(["run", "--resume", str(tmp_path / "run")]) == 2
    finally:
        text.write_text(as_it_was)
    assert "the text is not what this run was started with" in capsys.readouterr().err
