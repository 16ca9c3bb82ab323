"""A dashboard in the process of a script: how scripts end, forks, threads, the console, and trackers that break."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import neural_plasticity as npl
from neural_plasticity.dashboard import wandb_dashboard
from neural_plasticity.dashboard.multi_phase import MultiPhaseDashboard
from neural_plasticity.errors import RecordError
from neural_plasticity.events import Event
from neural_plasticity.record import open_run
from neural_plasticity.trackers import connection


@pytest.fixture
def dashboard(tmp_path: Path) -> Iterator[MultiPhaseDashboard]:
    with MultiPhaseDashboard(output_dir=tmp_path / "run", mode="disabled") as made:
        yield made


@pytest.mark.parametrize(
    ("error", "state", "reason"),
    [(ValueError("no\nluck"), "failed", "ValueError: no luck"), (KeyboardInterrupt(), "stopped", "KeyboardInterrupt")],
)
def test_a_with_block_says_how_it_ended(error: BaseException, state: str, reason: str, tmp_path: Path) -> None:
    with pytest.raises(type(error)), MultiPhaseDashboard(output_dir=tmp_path, mode="disabled"):
        raise error
    summary = open_run(tmp_path).summary()
    assert (summary.state, summary.reason) == (state, reason)


def test_finish_twice_is_harmless_and_ends_it(dashboard: MultiPhaseDashboard) -> None:
    dashboard.record_step({"loss": 1.0, "phase": "warmup"}, 3)
    dashboard.finish()
    size = dashboard.run.last_seq
    dashboard.finish()
    assert dashboard.run.last_seq == size
    assert (dashboard.output_dir / "dashboard.html").stat().st_size > 5_000
    with pytest.raises(RecordError, match=r"finish\(\) has ended"):
        dashboard.record_step({"loss": 1.0}, 4)
    assert dashboard.all_steps == [3]


def in_a_script(code: str, directory: Path) -> subprocess.CompletedProcess[str]:
    begin = "import neural_plasticity as npl\nd = npl.MultiPhaseDashboard(output_dir='run', mode='disabled')\n"
    return subprocess.run(
        [sys.executable, "-c", begin + code], cwd=directory, capture_output=True, text=True, timeout=120
    )


@pytest.mark.parametrize(
    ("code", "state", "reason"),
    [
        ("d.record_step({'loss': 1}, 5)", "finished", ""),
        ("d.record_step({'loss': 1}, 5)\n1/0", "failed", "ZeroDivisionError: division by zero"),
        ("d.record_step({'loss': 1}, 5)\nraise KeyboardInterrupt", "stopped", "KeyboardInterrupt"),
        ("d.record_step({'loss': 1}, 5)\nimport sys; sys.ps1 = '>'\n1/0", "finished", ""),  # at a prompt
        ("def f():\n  npl.WandbDashboard(output_dir='2', mode='disabled')\nf()\nd.set_phase('x', 5)", "finished", ""),
    ],
)  # fmt: skip
def test_a_script_that_never_finishes_its_run(code: str, state: str, reason: str, tmp_path: Path) -> None:
    done = in_a_script(code, tmp_path)
    with open_run(tmp_path / "run") as run:
        assert (run.summary().state, run.summary().reason, run.summary().step) == (state, reason, 5), done.stderr
    assert (tmp_path / "run/dashboard.html").exists()
    assert f"run {state}" in done.stdout


def test_it_loads_nothing_heavy(tmp_path: Path) -> None:
    code = """
import sys
d.record_step({"loss": 1.0}, 1)
d.finish()
print("loaded", *(set(sys.modules) & {"torch", "transformers", "matplotlib", "pandas", "wandb"}))
"""
    done = in_a_script(code, tmp_path)
    assert done.stdout.rstrip().endswith("loaded"), done.stdout + done.stderr


FORK = """
import logging, os, sys
logging.basicConfig(level="WARNING")
callback = d.get_metrics_callback()
callback(0, {"loss": 1.0})
child = os.fork()
if child == 0:
    for step in range(100):
        callback(step, {"loss": -1.0})
    d.annotate(note="from the child")
    d.finish()
    print("child saw", d.all_loss, flush=True)
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
callback(1, {"loss": 2.0})
"""
WORKERS = """
import torch
callback = d.get_metrics_callback()
class Data(torch.utils.data.Dataset):
    def __len__(self): return 8
    def __getitem__(self, place):
        callback(place, {"loss": -1.0})
        return place
for step, batch in enumerate(torch.utils.data.DataLoader(Data(), batch_size=4, num_workers=1)):
    callback(step, {"loss": 1.0})
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.parametrize(("code", "losses"), [(FORK, [1.0, 2.0]), (WORKERS, [1.0, 1.0])], ids=["fork", "workers"])
def test_a_fork_goes_on_and_its_calls_are_said_not_to_count(code: str, losses: list[float], tmp_path: Path) -> None:
    if code is WORKERS:
        pytest.importorskip("torch")
    done = in_a_script(code, tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("what it reports is not recorded") == 1, done.stderr
    with open_run(tmp_path / "run") as run:
        assert run.series("loss")[1].tolist() == losses
        assert (run.summary().state, run.annotation.note) == ("finished", "")
    if code is FORK:
        assert "child saw [1.0]" in done.stdout


def test_two_dashboards_at_once(tmp_path: Path) -> None:
    with npl.MultiPhaseDashboard(mode="disabled") as one, npl.WandbDashboard(mode="disabled") as two:
        assert one.output_dir != two.output_dir
        assert one.output_dir.parent == two.output_dir.parent == Path("output")
        one.record_step({"loss": 1.0}, 1)
        two.log_metrics({"loss": 2.0}, 2)
        assert (one.all_loss, two.all_loss) == ([1.0], [2.0])
        with pytest.raises(RecordError, match=r"output_dir: .*another process"):
            npl.WandbDashboard(output_dir=one.output_dir, mode="disabled")


def test_the_same_directory_again_is_a_new_attempt(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in (1.0, 2.0):
        with MultiPhaseDashboard(output_dir=tmp_path, mode="disabled") as dashboard:
            dashboard.record_step({"loss": number}, 1)
    assert "already holds a run: this is attempt 2" in capsys.readouterr().out
    assert dashboard.all_loss == [2.0]
    assert open_run(tmp_path).series("loss", attempt="all")[1].tolist() == [1.0, 2.0]


def test_threads_lose_nothing(dashboard: MultiPhaseDashboard) -> None:
    def write(number: int) -> None:
        for step in range(50):
            dashboard.record_step({f"metric{number}": step}, step)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number in range(4):
        assert dashboard.run.series(f"metric{number}")[1].tolist() == list(range(50))


# Console and Weights & Biases -----------------------------------------------------------------------------------------


def test_the_console_tells_phases_and_leaves_the_script_its_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    handlers, shown = list(logging.getLogger().handlers), warnings.showwarning
    with MultiPhaseDashboard(experiment_name="mine", output_dir=tmp_path, mode="disabled") as dashboard:
        assert (list(logging.getLogger().handlers), warnings.showwarning) == (handlers, shown)
        dashboard.record_step({"loss": 2.5, "[bold]": 1, "phase": "my phase"}, 10)
        dashboard.record_pruning_event({"pruned_heads": ["0.2"]}, 11)
        said = capsys.readouterr().out
    assert "mine" in said
    assert "my phase · step 10 · loss 2.500 · [bold] 1.000" in said
    assert "\x1b" not in said
    assert "1 head pruned: L0H2\n" in said  # neither strategy nor reason was named, and none is made up


class Broken:
    """A tracker that raises at everything."""

    def handle(self, _event: Event) -> None:
        raise RuntimeError("the server is on fire")

    def close(self) -> None:
        raise RuntimeError("still on fire")


def test_a_tracker_that_breaks_is_said_once_and_the_record_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wandb_dashboard, "open_trackers", lambda *_: [Broken()])
    with MultiPhaseDashboard(output_dir=tmp_path, mode="offline") as dashboard:
        for step in range(3):
            dashboard.record_step({"loss": step}, step)
    run = open_run(tmp_path)
    assert run.series("loss")[1].tolist() == [0.0, 1.0, 2.0]
    assert sum("on fire" in line.message for line in run.log()) == 1


@pytest.mark.parametrize(
    ("mode", "environment", "expected"),
    [
        (None, None, "offline"), (None, "disabled", "disabled"), (None, "online", "online"),
        ("offline", "online", "offline"), ("disabled", "online", "disabled"),
    ],
)  # fmt: skip
def test_the_mode_is_the_argument_else_the_environment_else_offline(
    mode: str | None, environment: str | None, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(
        wandb_dashboard, "open_trackers", lambda names, tracked, _say: asked.append((names, tracked)) or []
    )
    if environment is not None:
        monkeypatch.setenv("WANDB_MODE", environment)
    npl.WandbDashboard(
        project_name="p", experiment_name="e", output_dir=tmp_path, mode=mode, tags=["t"], auto_login=False
    ).finish()
    ((names, tracked),) = asked
    assert (names, tracked.mode, tracked.project, tracked.name) == (["wandb"], expected, "p", "e")
    assert (tracked.tags, tracked.log_in) == (("t",), False)


def test_without_wandb_one_line_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(connection, "wandb_installed", lambda: False)
    with MultiPhaseDashboard(output_dir=tmp_path) as dashboard:
        dashboard.record_step({"loss": 1.0}, 1)
    assert capsys.readouterr().out.count("pip install") == 1
    assert open_run(tmp_path).series("loss")[1].tolist() == [1.0]
    assert isinstance(next(open_run(tmp_path).events()), Event)
