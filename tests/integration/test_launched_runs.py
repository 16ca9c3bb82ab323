"""Whole runs under ``accelerate launch`` and ``torchrun``: one record, one message, ends and beginnings together."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from neural_plasticity.config import RunConfig
from neural_plasticity.errors import RecordError
from neural_plasticity.events import HeadsPruned, RunStarted
from neural_plasticity.record import open_run
from neural_plasticity.session import resume_run, start_run
from tests.small_runs import save_model, small_config

ROOT = Path(__file__).parents[2]
SCRIPT = "scripts/run_neural_plasticity.py"
ACCELERATE = ["accelerate.commands.launch", "--num_processes", "2", "--num_machines", "1", "--mixed_precision", "no"]
ACCELERATE += ["--dynamo_backend", "no", "--main_process_port", "0", "--use_fsdp", "--fsdp_version", "2"]
TORCHRUN = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """No dropout: two processes draw other masks than one."""
    return save_model(tmp_path_factory.mktemp("llama"), "llama")


def options(model: Path, text: Path) -> RunConfig:
    return small_config(model, text, warmup_steps=40, fine_tuning_steps=4, no_visualize=True, pruning_level="0.4")


def arguments(config: RunConfig) -> list[str]:
    default = RunConfig()
    given = {name: value for name, value in vars(config).items() if value != getattr(default, name)}
    return [part for name, value in given.items() for part in (f"--{name}", str(value))[: 1 if value is True else 2]]


def launch(launcher: list[str], *command: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    line = [sys.executable, "-m", *launcher, *command]
    pipe = subprocess.PIPE
    return subprocess.Popen(line, stdout=pipe, stderr=subprocess.STDOUT, text=True, cwd=ROOT, env=environment)


def rank(launcher: subprocess.Popen[str], number: int) -> psutil.Process:
    children = psutil.Process(launcher.pid).children(recursive=True)
    return next(one for one in children if one.environ().get("RANK") == str(number))


def wait_until(true: Callable[[], bool], launcher: subprocess.Popen[str], seconds: float = 240) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert launcher.poll() is None, launcher.communicate()[0][-3000:]
        assert time.monotonic() < end
        time.sleep(0.05)


def pruned_in(run_dir: Path) -> list[tuple[tuple[int, int], ...]]:
    with open_run(run_dir) as run:
        return [event.heads for event in run.events() if isinstance(event, HeadsPruned)]


def test_a_run_on_two_processes_stops_and_goes_on_with_as_many_or_alone(
    llama: Path, text: Path, tmp_path: Path
) -> None:
    """Begun with parameters in parts, as the launcher's FSDP asks for; going on, each process holds all of them."""
    config, run_dir = options(llama, text), tmp_path / "run"

    def trains() -> bool:
        try:
            with open_run(run_dir) as run:
                return len(run.series("loss")[0]) >= 3
        except RecordError:  # not there yet
            return False

    launcher = launch(ACCELERATE, SCRIPT, *arguments(config), "--output_dir", str(run_dir))
    wait_until(trains, launcher)
    rank(launcher, 1).send_signal(signal.SIGTERM)  # only the process that has no record
    said, _ = launcher.communicate(timeout=240)
    with open_run(run_dir) as run:
        assert run.summary().state == "stopped", said[-3000:]
        steps = len(run.series("loss")[0])
        first = next(event for event in run.events() if isinstance(event, RunStarted))
    assert 3 <= steps < 40
    assert first.environment["processes"] == 2
    assert said.count("plasticity run --resume") == said.count("interrupted; go on with") >= 1
    assert first.environment["parameters"] == "in parts"
    shutil.copytree(run_dir, tmp_path / "alone")

    launcher = launch(TORCHRUN, SCRIPT, "--resume", str(run_dir))
    said, _ = launcher.communicate(timeout=300)
    assert launcher.returncode == 0, said[-3000:]
    assert "Traceback" not in said
    assert said.count("run finished") == 1
    assert resume_run(tmp_path / "alone") == 0
    assert start_run(config, tmp_path / "whole") == 0
    assert pruned_in(run_dir) == pruned_in(tmp_path / "alone") == pruned_in(tmp_path / "whole")
    for resumed in (run_dir, tmp_path / "alone"):
        with open_run(resumed) as run, open_run(tmp_path / "whole") as whole:
            (at, losses), (expected_at, expected) = run.series("loss"), whole.series("loss")
            assert list(at) == list(expected_at)
            assert list(losses) == pytest.approx(list(expected), rel=2e-4)


def test_an_error_on_one_process_ends_all_and_is_said_by_the_record(
    llama: Path, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "breaking.py").write_text(
        "import os\n\n\ndef choose(context):\n"
        "    if os.environ['RANK'] == '1':\n        raise MemoryError('no room on this one')\n"
        "    return context.score('gradient')['gradient']\n"
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    config = options(llama, text)
    given = [*arguments(config), "--warmup_steps", "2", "--pruning_strategy", "breaking:choose"]
    launcher = launch(TORCHRUN, SCRIPT, *given, "--output_dir", str(tmp_path / "run"))
    said, _ = launcher.communicate(timeout=300)
    assert launcher.returncode != 0
    with open_run(tmp_path / "run") as run:
        summary = run.summary()
    assert summary.state == "failed", said[-3000:]
    assert "no room on this one" in (summary.reason or "")
    assert "Connection closed" not in said


def test_what_only_one_process_can_do_is_refused_before_anything_starts() -> None:
    environment = {**os.environ, "RANK": "0", "WORLD_SIZE": "2"}
    line = [sys.executable, "-m", "neural_plasticity", "sweep"]
    done = subprocess.run(line, capture_output=True, text=True, cwd=ROOT, env=environment, timeout=120)
    assert done.returncode == 2
    assert done.stderr.startswith("plasticity: 2 processes were launched: only a single run")
