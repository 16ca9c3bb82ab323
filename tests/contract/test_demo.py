"""The demo's documented commands, word for word from a checkout: every view is made, says so, and torch stays away."""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from matplotlib.text import Text

from neural_plasticity.dashboard import demo
from neural_plasticity.dashboard.demo import main
from neural_plasticity.record import RecordWriter, open_run
from neural_plasticity.render.figures import FIGURES, draw

CHECKOUT = Path(__file__).parents[2]
DEMO = "python -m utils.neural_plasticity.dashboard.dashboard_demo"
ONLINE = "WANDB_MODE=online python -m utils.neural_plasticity.dashboard.dashboard_demo --online"
HEAVY = ("torch", "transformers", "accelerate", "datasets")

# Python imports this by itself at its start: an import of torch fails, even a guarded one is written down.
SITECUSTOMIZE = f"""
import os, pathlib, sys
class NoTorch:
    def find_spec(self, name, path=None, target=None):
        if name in {HEAVY!r}:
            with open(os.environ["HEAVY_IMPORTS"], "a") as file:
                print(name, file=file)
            raise ImportError(name + " was asked for")
sys.meta_path.insert(0, NoTorch())
"""


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The parts of a checkout that the demo needs, so that ``output/`` lands in a directory of the test's."""
    root = tmp_path_factory.mktemp("checkout")
    for name in ("src", "utils"):
        (root / name).symlink_to(CHECKOUT / name)
    return root


def shell(command: str, directory: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run ``command`` as written, where nobody is logged in anywhere and no server answers."""
    hooks = directory / "hooks"
    hooks.mkdir(exist_ok=True)
    (hooks / "sitecustomize.py").write_text(SITECUSTOMIZE)
    found = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    found |= {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "PYTHONPATH": str(hooks)}
    found |= {"HEAVY_IMPORTS": str(directory / "heavy.txt"), "WANDB_BASE_URL": "http://127.0.0.1:9"}
    found |= {"HOME": str(directory), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        ["sh", "-c", command], cwd=directory, env={**found, **environment}, capture_output=True, text=True, timeout=120
    )


@pytest.fixture(scope="module")
def played(checkout: Path) -> tuple[subprocess.CompletedProcess[str], Path]:
    """The first documented command: how it ended, and the run directory that it made."""
    done = shell(DEMO, checkout)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    (run_dir,) = (checkout / "output").glob("demo_*")
    return done, run_dir


def test_every_figure_and_the_page_are_made(played: tuple[Any, Path]) -> None:
    done, run_dir = played
    pictures = {path.stem for path in run_dir.glob("*.png")}
    assert pictures == set(FIGURES)
    assert {"complete_process", "multi_cycle_process"} <= pictures
    assert all((run_dir / f"{name}.png").read_bytes().startswith(b"\x89PNG") for name in pictures)
    assert (run_dir / "dashboard.html").stat().st_size > 10_000
    assert re.fullmatch(r"demo_\d{8}-\d{6}", run_dir.name)
    assert f"output/{run_dir.name}/dashboard.html" in done.stdout
    assert re.search(r"^Everything written in \d+\.\d s", done.stdout, re.MULTILINE)
    assert done.stderr == ""


def test_torch_is_not_even_asked_for(played: tuple[Any, Path], checkout: Path) -> None:
    assert not (checkout / "heavy.txt").exists(), (checkout / "heavy.txt").read_text()


def test_it_says_simulated_wherever_it_shows(played: tuple[Any, Path]) -> None:
    done, run_dir = played
    assert "Simulated: no model was trained; every figure is made up." in done.stdout
    assert "Simulated." in (run_dir / "dashboard.html").read_text(encoding="utf-8")
    with open_run(run_dir) as run:
        assert run.started is not None
        assert run.started.simulated
        for name in FIGURES:
            drawn = [text.get_text() for text in draw(run, name).findobj(Text) if text.get_visible()]
            assert any("simulated" in text.lower() for text in drawn), name


def test_the_hook_would_have_seen_torch(tmp_path: Path) -> None:
    done = shell("python -c 'import torch'", tmp_path)
    assert "torch was asked for" in done.stderr
    assert (tmp_path / "heavy.txt").read_text() == "torch\n"


def test_it_works_where_the_package_is_not_installed(checkout: Path, tmp_path: Path) -> None:
    """``-S`` leaves out what an editable installation adds to the path; the libraries are named instead."""
    libraries = Path(pytest.__file__).parents[1]
    command = DEMO.replace("python", "python -S", 1) + f" --output_dir {tmp_path / 'run'} --cycles 1"
    where = shell("python -S -c 'import neural_plasticity'", tmp_path, PYTHONPATH=str(libraries))
    assert "No module named 'neural_plasticity'" in where.stderr
    done = shell(command, checkout, PYTHONPATH=str(libraries))
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "run" / "complete_process.png").exists()
    assert not (tmp_path / "run" / "multi_cycle_process.png").exists()  # one cycle has nothing to compare


def test_publishing_without_a_key_says_what_is_missing_and_does_the_rest(checkout: Path, tmp_path: Path) -> None:
    before = set((checkout / "output").glob("demo_*"))
    done = shell(ONLINE + " --cycles 1 --no_browser", checkout)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    (run_dir,) = set((checkout / "output").glob("demo_*")) - before
    said = [line for line in done.stdout.splitlines() if line.startswith("Weights & Biases: ")]
    assert "no API key" in said[0]
    assert "WANDB_API_KEY" in said[0]
    assert list((run_dir / "wandb").glob("offline-run-*/*.wandb"))  # kept, to be sent when there is a key
    assert (run_dir / "complete_process.png").exists()
    assert not (checkout / "heavy.txt").exists(), (checkout / "heavy.txt").read_text()


@pytest.mark.parametrize(
    ("mode", "said"),
    [("disabled", "WANDB_MODE is disabled"), ("offline", "wandb sync")],
)
def test_wandb_mode_is_respected(
    mode: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WANDB_MODE", mode)
    monkeypatch.setattr(demo, "_write_views", lambda *_: None)  # shown above, and slow
    assert main(["--online", "--no_browser", "--output_dir", "run", "--cycles", "1"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("Weights & Biases: ")]
    assert any(said in line for line in lines), lines
    assert bool(list((tmp_path / "run").glob("wandb/offline-run-*"))) == (mode == "offline")


def test_without_wandb_one_line_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    monkeypatch.setattr(demo, "_write_views", lambda *_: None)
    assert main(["--online", "--no_browser", "--output_dir", "run", "--cycles", "1"]) == 0
    assert 'pip install "neural-plasticity[wandb]"' in capsys.readouterr().out


def contents(run_dir: Path) -> Iterator[tuple[Any, ...]]:
    """All that a record holds but the times of day."""
    connection = sqlite3.connect(run_dir / "run.sqlite")
    place = "seq, attempt, cycle, phase, phase_step, step"
    yield from connection.execute(f"SELECT {place}, kind, version, payload, arrays FROM events ORDER BY seq")
    yield from connection.execute(f"SELECT {place}, layout, data FROM metrics ORDER BY seq")
    yield from connection.execute("SELECT hash, dtype, shape, codec, data FROM blobs ORDER BY hash")
    connection.close()


def test_the_same_seed_gives_the_same_record(
    played: tuple[Any, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "_write_views", lambda *_: None)  # they are made from the record
    assert main(["--output_dir", "again", "--no_browser", "--seed", "0"]) == 0
    assert main(["--output-dir", "other", "--no-browser", "--seed", "1"]) == 0
    assert list(contents(tmp_path / "again")) == list(contents(played[1]))
    assert list(contents(tmp_path / "other")) != list(contents(played[1]))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--cycles", "0"], ["--cycles 0", "1 or more"]),
        (["--cycles", "40"], ["--cycles 40", "fewer cycles"]),
        (["--seed", "-1"], ["--seed -1"]),
        (["--pace", "-3"], ["--pace -3"]),
        (["--pruning_level", "2"], ["--pruning_level 2"]),
        (["--pruning_strategy", "luck"], ["--pruning_strategy luck", "gradient"]),
        (["--output_dir", "file"], ["file"]),
        (["--output_dir", "taken"], ["taken", "already holds a run"]),
        (["--output_dir", "/proc/no/run"], ["/proc/no"]),
    ],
    ids=lambda value: " ".join(value) if value[0].startswith("--") else "",
)
def test_bad_input_is_one_line_and_exit_code_2(
    arguments: list[str], said: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from neural_plasticity.events import LogLine

    (tmp_path / "file").write_text("not a directory")
    with RecordWriter.create(tmp_path / "taken") as record:
        record.append(LogLine(message="an earlier run"))
    before = sorted(tmp_path.rglob("*"))
    assert main([*arguments, "--no_browser"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("dashboard_demo: ")
    assert error.count("\n") == 1
    assert all(part in error for part in said), error
    assert sorted(tmp_path.rglob("*")) == before


def test_ctrl_c_leaves_a_record_of_a_stopped_run_and_its_views(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    waits = iter(range(400))

    def interrupted(_seconds: float) -> None:
        if next(waits, None) is None:
            raise KeyboardInterrupt

    monkeypatch.setattr("neural_plasticity.dashboard.demo.time.sleep", interrupted)
    assert main(["--pace", "3600", "--no_browser", "--output_dir", "run"]) == 130
    with open_run(tmp_path / "run") as run:
        assert run.summary().state == "stopped"
    assert (tmp_path / "run" / "dashboard.html").exists()
    assert (tmp_path / "run" / "complete_process.png").exists()
    assert "stopped early" in capsys.readouterr().out


def test_help_teaches_and_unknown_options_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    shown = capsys.readouterr().out
    assert "usage: dashboard_demo" in shown
    assert all(f"--{name}" in shown for name in ("seed", "cycles", "pace", "output_dir", "no_browser", "online"))
    assert "WANDB_MODE" in shown
    with pytest.raises(SystemExit, match="2"):
        main(["--sead", "1"])
