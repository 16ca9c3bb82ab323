"""What a run leaves behind, as its options ask: figures, page, trackers; and a record sent to a tracker afterwards."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from neural_plasticity.cli import main
from tests.small_runs import save_model, save_text

OPTIONS = [
    *("--warmup_steps", "8", "--fine_tuning_steps", "4", "--batch_size", "2", "--sequence_length", "16"),
    *("--stabilisation_window", "8", "--score_sequences", "4", "--eval_sequences", "4", "--device", "cpu"),
]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    directory = tmp_path_factory.mktemp("inputs")
    model, text = save_model(directory / "model"), save_text(directory / "text.txt", lines=400)
    return ["--model_name", str(model), "--dataset", str(text)]


def plasticity(*arguments: str, directory: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "neural_plasticity", *arguments],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=400,
        env={**os.environ, "WANDB_SILENT": "true", "PYTHONUNBUFFERED": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    return done.stdout


def test_figures_and_trackers_come_with_a_run_and_a_record_can_be_sent_later(
    inputs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["--cycles", "2", "--track", "tensorboard", "--wandb", "--tags", "small, test"]
    output = plasticity("run", *inputs, *OPTIONS, *asked, "--output_dir", "run", directory=tmp_path)
    pictures = {path.name for path in (tmp_path / "run").glob("*.png")}
    assert {"complete_process.png", "multi_cycle_process.png"} <= pictures
    assert re.search(r"run finished\n\[.*\] drawing the figures …\n", output)
    assert not (tmp_path / "run" / "dashboard.html").exists()
    assert list((tmp_path / "run").rglob("events.out.tfevents.*"))
    offline = list(tmp_path.rglob("offline-run-*"))
    assert len([path for path in offline if path.is_dir() and not path.is_symlink()]) == 1, output
    assert main(["sync", "run", "--to", "tensorboard"]) == 0
    assert "events sent" in capsys.readouterr().out


def test_no_visualize_draws_nothing_and_the_page_is_written_all_the_same(
    inputs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["--no_visualize", "--use_dashboard", "--no_browser"]
    assert main(["run", *inputs, *OPTIONS, *asked, "--output_dir", "run"]) == 0
    assert "] writing the page …\n" in capsys.readouterr().out
    assert not list(tmp_path.rglob("*.png"))
    assert (tmp_path / "run" / "dashboard.html").is_file()
