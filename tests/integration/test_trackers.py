"""Other trackers, through Accelerate: what TensorBoard and Trackio hold, read back with their own readers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from neural_plasticity import events as ev
from neural_plasticity.errors import ConfigError
from neural_plasticity.record import open_run
from neural_plasticity.trackers import TrackedRun, open_trackers, sync

# In a process of its own: Accelerate's state and Trackio's folder are set once per process.
LIVE = """
import sys
from pathlib import Path
from neural_plasticity.record import RecordWriter, fan_out
from neural_plasticity.trackers import TrackedRun, open_trackers
from tests.sample_run import SampleRun
run_dir = Path(sys.argv[1])
with RecordWriter.create(run_dir) as record:
    sinks = open_trackers(["tensorboard", " trackio"], TrackedRun(run_dir, project="pruning"))
    for _ in fan_out(SampleRun(warmup_steps=24, tuning_steps=10).events(), record, sinks):
        pass
"""
READ_TRACKIO = """
import json
import trackio
(run,) = trackio.Api().runs("pruning")
rows = trackio.SQLiteStorage.get_logs("pruning", run.name)
print("READ", json.dumps({"name": run.name, "config": run.config, "rows": rows}, default=str))
"""


def python(code: str, home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "TRACKIO_DIR": str(home), "PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=200, env=environment,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("live")
    done = python(LIVE, root / "trackio", str(root / "run"))
    assert done.returncode == 0, done.stderr[-3000:]
    assert "switched off" not in done.stderr
    assert "missed" not in done.stderr
    return root


def losses(run_dir: Path) -> list[tuple[int, float]]:
    with open_run(run_dir) as run:
        steps, values = run.series("loss")
    return list(zip(steps.tolist(), values.tolist(), strict=True))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tensorboard_holds_every_loss_at_its_step_and_the_reasons(live: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    read = EventAccumulator(
        str(live / "run" / "tensorboard" / "sample-run"), size_guidance={"scalars": 0, "tensors": 0}
    )
    read.Reload()
    found = [(one.step, one.value) for one in read.Scalars("process/loss")]
    assert found == [(step, pytest.approx(loss, rel=1e-6)) for step, loss in losses(live / "run")]
    assert {"warmup/loss", "fine-tuning/loss", "evaluation/pruned/perplexity"} <= set(read.Tags()["scalars"])
    (decision, _) = read.Tensors("pruning/decision/text_summary")
    text = decision.tensor_proto.string_val[0].decode()
    with open_run(live / "run") as run:
        event = next(one for one in run.decisions() if isinstance(one, ev.HeadsPruned))
    assert text.count("decision pruned") == len(event.heads)
    assert "score" in text
    assert "rank" in text


def test_trackio_holds_every_loss_at_its_step(live: Path) -> None:
    done = python(READ_TRACKIO, live / "trackio")
    assert done.returncode == 0, done.stderr[-3000:]
    held = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("READ "))[5:])
    assert held["name"] == "sample-run"
    found = [(row["step"], row["process/loss"]) for row in held["rows"] if "process/loss" in row]
    assert found == [(step, pytest.approx(loss)) for step, loss in losses(live / "run")]


def test_an_unknown_tracker_is_named_with_those_that_exist(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--track tensorbord: expected aim, .*tensorboard, trackio, wandb"):
        open_trackers(["tensorbord"], TrackedRun(tmp_path))


def test_sync_names_its_own_option(live: Path) -> None:
    with pytest.raises(ConfigError, match=r"^--to abacus: expected aim, .*trackio, wandb\.$"):
        sync(live / "run", "abacus")


def test_a_tracker_that_is_not_installed_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--track aim: aim is not installed: pip install aim"):
        open_trackers(["aim"], TrackedRun(tmp_path))


def test_without_accelerate_one_line_says_what_is_needed(tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
class Blocked:
    def find_spec(self, name, *_):
        if name.split(".")[0] in ("accelerate", "torch"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Blocked())
from neural_plasticity.errors import ConfigError
from neural_plasticity.trackers import TrackedRun, open_trackers
try:
    open_trackers(["tensorboard"], TrackedRun(Path(".")))
except ConfigError as error:
    print(error)
"""
    done = python(code, tmp_path)
    assert done.stdout.strip() == '--track tensorboard: needs Accelerate: pip install "neural-plasticity[trackers]"'
