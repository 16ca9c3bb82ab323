"""The short campaign: one run, killed in every phase, within a checkpoint and while it opens (long: `make faults`)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from neural_plasticity.record import open_run

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="children are forked from a process that has imported torch")
def test_a_run_killed_in_every_phase_ends_as_if_nobody_had_touched_it(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.faults.campaign", "--short", "--root", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 runs; 1 ended as the run that nobody touched." in done.stdout
    hit = {line.split()[0] for line in done.stdout.splitlines()[1:]}
    assert {"opening", "warmup", "evaluation", "analysis", "pruning", "fine-tuning", "growth"} <= hit
    with open_run(tmp_path / "reference-growth") as run:  # what it is compared with: new head and all
        assert run.summary().state == "finished"
        assert run.summary().heads_present == 9
