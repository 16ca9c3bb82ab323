"""The commands of the documentation, run word for word from a checkout, in processes of their own."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from neural_plasticity.record import Run, open_run
from tests.hub_cache import build_hub_cache
from tests.small_runs import save_text

CHECKOUT = Path(__file__).parents[2]

QUICK = "python scripts/run_neural_plasticity.py --model_name distilgpt2 --quick_test --use_dashboard"
LEVEL = (
    "python scripts/run_neural_plasticity.py --model_name distilgpt2 --pruning_strategy entropy "
    "--pruning_level 0.2 --use_dashboard"
)
CYCLES = (
    "python scripts/run_neural_plasticity.py --model_name gpt2 --pruning_strategy entropy --pruning_level 0.2 "
    "--cycles 3 --use_dashboard"
)


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A hub cache that holds a small model under the name that the documentation uses."""
    root = tmp_path_factory.mktemp("hub")
    build_hub_cache(root, "distilgpt2", layers=2, context=128)  # what --quick_test asks for
    return root


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One layer and a short context, so that the commands' full number of steps is affordable: 650 for three cycles."""
    root = tmp_path_factory.mktemp("short")
    for name in ("distilgpt2", "gpt2"):
        build_hub_cache(root, name, layers=1, context=32)
    return root


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The parts of a checkout that the commands need, so that ``output/`` lands in a directory of the test's."""
    for name in ("src", "scripts", "utils"):
        (tmp_path / name).symlink_to(CHECKOUT / name)
    return tmp_path


def shell(command: str, directory: Path, hub: Path) -> subprocess.CompletedProcess[str]:
    """Run ``command`` as written; ``python`` is this one, no hub but the cache, no terminal."""
    words = shlex.split(command)
    words[0] = {"python": sys.executable, "plasticity": str(Path(sys.executable).with_name("plasticity"))}[words[0]]
    environment = {**os.environ, "HF_HOME": str(hub), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        words, cwd=directory, env=environment, capture_output=True, text=True, timeout=500, check=False
    )


def leaves_a_record_and_a_page(command: str, cycles: int, checkout: Path, hub: Path) -> Run:
    finished = shell(command, checkout, hub)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    (directory,) = (checkout / "output").glob("neural_plasticity_*")
    page = (directory / "dashboard.html").read_text()
    assert "<html" in page
    run = open_run(directory)
    assert run.summary().state == "finished"
    assert len(list(run.events("heads_pruned"))) == cycles
    for name in ("warmup", "analysis", "pruning", "fine-tuning", "evaluation"):
        assert any(event.phase == name for event in run.events("phase_started"))
    assert (run.heads() == 0).sum() >= cycles
    assert "\x1b" not in finished.stdout  # not a terminal: plain lines
    assert str(directory.name) in finished.stdout
    return run


@pytest.mark.parametrize(("command", "cycles"), [(LEVEL, 1), (CYCLES, 3)], ids=["one cycle", "three cycles"])
def test_documented_commands_leave_a_record_and_a_page(command: str, cycles: int, checkout: Path, short: Path) -> None:
    leaves_a_record_and_a_page(command, cycles, checkout, short)


def test_quick_test_shows_every_phase_for_real(checkout: Path, hub: Path) -> None:
    run = leaves_a_record_and_a_page(QUICK, 1, checkout, hub)
    training = [e for e in run.events("metrics") if "loss" in e.metrics]
    assert sum(e.phase == "warmup" for e in training) >= 20
    assert sum(e.phase == "fine-tuning" for e in training) >= 20
    evaluations = list(run.events("evaluation"))
    assert all(e.sequences >= 64 for e in evaluations)
    steps, losses = run.series("loss")
    assert len(steps) == len(training)
    assert np.isfinite(losses).all()


def test_the_installed_command_does_the_same(checkout: Path, hub: Path) -> None:
    text = save_text(checkout / "text.txt")
    command = f"plasticity run --model_name distilgpt2 --dataset {text} --quick_test --cycles 2 --no_visualize"
    command += " --warmup_steps 8 --stabilisation_window 8 --fine_tuning_steps 2 --eval_sequences 4 --score_sequences 4"
    finished = shell(command + " --output_dir mine", checkout, hub)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert not (checkout / "mine" / "dashboard.html").exists()  # nobody asked for it
    exported = shell("plasticity export mine -o page.html", checkout, hub)
    assert exported.returncode == 0, exported.stderr
    assert (checkout / "page.html").stat().st_size > 5_000
