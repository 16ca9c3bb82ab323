"""Weights & Biases: what an offline run holds, read back with W&B's own inspector; online, refused, silent, missing."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neural_plasticity import events as ev
from neural_plasticity.errors import ConfigError, RecordError
from neural_plasticity.record import RecordWriter, fan_out, open_run
from neural_plasticity.render.page import read_page
from neural_plasticity.trackers import TrackedRun, chosen_mode, connection, open_trackers, sync, wandb_sink
from tests.sample_run import HOSTILE, SampleRun, write_events
from tests.wandb_stub import KEY, WandbStub, serving


@pytest.fixture(scope="module", autouse=True)
def own_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """wandb finds neither a key nor settings of the machine's owner, and stages its artifacts in here."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("WANDB_")]:
            patch.delenv(name)
        patch.setenv("HOME", str(home))
        patch.setenv("NETRC", str(home / "netrc"))
        for name in ("WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR"):
            patch.setenv(name, str(home))
        yield


class Lines:
    def __init__(self) -> None:
        self.said: list[str] = []

    def __call__(self, message: str, _level: str = "warning", /) -> None:
        self.said.append(message)


@dataclass
class Offline:
    """An offline run: every record in it, by W&B's own inspector."""

    directory: Path
    records: list[dict[str, Any]]

    def all(self, kind: str) -> list[dict[str, Any]]:
        return [record[kind] for record in self.records if record["type"] == kind]

    @property
    def history(self) -> list[dict[str, Any]]:
        return [record["item"] for record in self.all("history")]

    def rows_with(self, name: str) -> list[dict[str, Any]]:
        return [row for row in self.history if name in row]

    def table(self, name: str, which: int = -1) -> tuple[list[str], list[list[Any]]]:
        found = self.directory / "files" / self.rows_with(f"{name}.path")[which][f"{name}.path"]
        held = json.loads(found.read_text(encoding="utf-8"))
        return held["columns"], held["data"]


def inspected(run_dir: Path) -> Offline:
    directory = next((run_dir / "wandb").glob("offline-run-*"))
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(directory)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr[-2000:]
    return Offline(directory, [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")])


def sample() -> SampleRun:
    return SampleRun(warmup_steps=24, tuning_steps=10)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_events(tmp_path_factory.mktemp("recorded") / "run", sample().events())


@pytest.fixture(scope="module")
def offline(recorded: Path) -> Offline:
    sync(recorded, tracked=TrackedRun(recorded, mode="offline", tags=("first",), notes="as it was"), say=Lines())
    return inspected(recorded)


def test_the_run_is_there_with_project_name_tags_notes_and_configuration(offline: Offline) -> None:
    first, last = offline.all("run")[0], offline.all("run")[-1]
    assert (first["project"], first["display_name"], first["notes"]) == ("neural-plasticity", "sample-run", "as it was")
    assert last["tags"] == ["first", "simulated"]
    config = first["config"]["update"]
    assert (config["pruning_strategy"], config["run/shape"], config["run/simulated"]) == ("gradient", [6, 8], True)
    assert config["run/model"]["architecture"] == "gpt2"


def test_every_step_of_the_record_is_in_the_history_under_its_phase(offline: Offline, recorded: Path) -> None:
    with open_run(recorded) as run:
        told = [event for event in run.events(ev.StepMetrics) if isinstance(event, ev.StepMetrics)]
    sent = [row for row in offline.history if "process/loss" in row or "process/validation_loss" in row]
    assert len(sent) == len([one for one in told if {"loss", "validation_loss"} & set(one.metrics)]) > 40
    losses = {(one.phase, one.step): one.metrics["loss"] for one in told if "loss" in one.metrics}
    for phase in ("warmup", "fine-tuning"):
        rows = offline.rows_with(f"{phase}/loss")
        assert {(phase, row["global_step"]): row[f"{phase}/loss"] for row in rows} == {
            place: loss for place, loss in losses.items() if place[0] == phase
        }
    assert [row["_step"] for row in offline.history] == list(range(len(offline.history)))


def test_every_section_is_drawn_over_our_own_step(offline: Offline) -> None:
    defined = {one["glob_name"]: one["step_metric"] for one in offline.all("metric") if "glob_name" in one}
    used = {name.split("/")[0] for row in offline.history for name in row if "/" in name}
    assert used >= {"warmup", "analysis", "pruning", "fine-tuning", "evaluation", "process"}
    assert defined == {f"{section}/*": "global_step" for section in used}


def test_the_decision_ledger_holds_every_head_with_score_rank_and_reason(offline: Offline, recorded: Path) -> None:
    with open_run(recorded) as run:
        event = next(one for one in run.decisions() if isinstance(one, ev.HeadsPruned))
    columns, rows = offline.table("pruning/decision ledger", which=0)
    assert columns == ["step", "cycle", "layer", "head", "score", "rank", "threshold", "decision", "reason"]
    assert len(rows) == 48
    assert {(row[2], row[3]) for row in rows if row[7] == "pruned"} == set(event.heads)
    assert event.score is not None
    for row in rows:
        score = event.score[row[2], row[3]]
        assert row[4] == (pytest.approx(score) if np.isfinite(score) else "nan")
    assert all(row[8] for row in rows if row[7] == "pruned")


def test_the_ledger_of_the_run_has_every_change_of_every_cycle(offline: Offline, recorded: Path) -> None:
    with open_run(recorded) as run:
        changed = [(one.cycle, *head) for one in run.decisions() for head in one.heads]
    _, rows = offline.table("decisions/ledger of the run")
    assert sorted((row[1], row[2], row[3]) for row in rows if row[7] != "protected") == sorted(changed)


def test_heatmaps_are_images_with_their_numbers_beside_them(offline: Offline) -> None:
    for name in ("analysis/entropy heatmap", "analysis/gradient heatmap", "pruning/decision"):
        for row in offline.rows_with(f"{name}.path"):
            data = (offline.directory / "files" / row[f"{name}.path"]).read_bytes()
            assert data.startswith(b"\x89PNG")
            assert len(data) > 5_000  # more than an empty sheet
    columns, rows = offline.table("analysis/head scores")
    assert columns[:2] == ["layer", "head"]
    assert {"entropy", "gradient"} <= set(columns)
    assert len(rows) == 48


def test_texts_stand_side_by_side_and_perplexity_has_bars(offline: Offline) -> None:
    columns, rows = offline.table("evaluation/text comparison")
    assert columns[:2] == ["prompt", "baseline"]
    assert "pruned" in columns
    assert len(rows) == 3
    _, bars = offline.table("evaluation/perplexity_table")
    assert [bar[0] for bar in bars] == ["baseline", "pruned", "control"]
    panels = [one["update"] for one in offline.all("config")]
    assert any("wandb/bar/v0" in json.dumps(panel) for panel in panels)


def test_the_page_is_there_whole_and_escaped(offline: Offline) -> None:
    row = offline.rows_with("page/dashboard.path")[-1]
    file = offline.directory / "files" / row["page/dashboard.path"]
    page = file.read_text(encoding="utf-8")
    assert page.lstrip().lower().startswith("<!doctype html>")
    assert "</script><script>alert" not in page
    assert HOSTILE[:10] in {one["prompt"][:10] for one in read_page(file)["samples"]["rows"]}


def test_the_summary_says_how_it_ended(offline: Offline) -> None:
    summary: dict[str, Any] = {}
    for one in offline.all("summary"):
        summary |= one["update"]
    assert summary["result/state"] == "finished"
    assert summary["evaluation/pruned/perplexity"] > 1


@pytest.fixture
def page_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures and heatmaps are looked at above; here they would only take time."""
    monkeypatch.setattr(wandb_sink, "_FINALS", {"the page": wandb_sink._page})
    monkeypatch.setattr(wandb_sink, "_image", lambda *_: None)


def played(run_dir: Path, say: Lines, **told: Any) -> int:
    """A whole experiment, live, with W&B beside it; how many events it yielded."""
    with RecordWriter.create(run_dir) as record:
        sinks = open_trackers(["wandb"], TrackedRun(run_dir, **told), say)
        return sum(1 for _ in fan_out(sample().events(), record, sinks))


def in_record(run_dir: Path) -> int:
    with open_run(run_dir) as run:
        return sum(1 for _ in run.events())


@pytest.mark.usefixtures("page_only")
def test_steps_that_go_back_and_values_that_are_no_numbers_are_kept(tmp_path: Path) -> None:
    events = [
        ev.RunStarted(name="odd", shape=(2, 2), config={"path": Path("x"), "array": np.arange(2)}),
        ev.StepMetrics(step=9, phase="my */phase", metrics={"loss": 1.0}),
        ev.StepMetrics(step=3, phase="my */phase", metrics={"loss": float("nan"), "other": float("inf")}),
        ev.HeadScores(step=3, phase="analysis", scores={"entropy": np.array([[1.0, np.nan], [np.inf, 0.0]])}),
        ev.HeadsPruned(step=3, heads=((0, 1),), strategy="mine"),  # type: ignore[arg-type]
    ]
    run_dir = write_events(tmp_path / "run", events)
    lines = Lines()
    sync(run_dir, tracked=TrackedRun(run_dir, mode="offline"), say=lines)
    assert [line for line in lines.said if "left out" in line] == []
    found = inspected(run_dir)
    rows = found.rows_with("my __phase/loss")
    assert [(row["global_step"], row["my __phase/loss"]) for row in rows] == [(9, 1.0), (3, "NaN")]
    assert found.table("analysis/head scores")[1] == [[0, 0, 1.0], [0, 1, "nan"], [1, 0, "inf"], [1, 1, 0.0]]
    assert found.rows_with("page/dashboard.path")  # there although the run never said that it ended


@pytest.mark.usefixtures("page_only")
def test_without_a_key_it_goes_on_offline_and_says_so_once(tmp_path: Path) -> None:
    lines = Lines()
    sent = played(tmp_path / "run", lines, mode="online")
    assert [line for line in lines.said if "no API key" in line and "Offline instead" in line] == lines.said[:1]
    assert in_record(tmp_path / "run") == sent
    assert len(inspected(tmp_path / "run").rows_with("process/loss")) > 40


@pytest.fixture
def with_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)


def pointed_at(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """wandb reads WANDB_BASE_URL once per process."""
    import wandb

    monkeypatch.setenv("WANDB_BASE_URL", url)
    wandb.teardown()


@pytest.mark.usefixtures("page_only", "with_key")
def test_a_server_that_refuses_means_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        pointed_at(f"http://127.0.0.1:{closed.getsockname()[1]}", monkeypatch)
        lines = Lines()
        sent = played(tmp_path / "run", lines, mode="online")
    assert "cannot be reached" in lines.said[0]
    assert "Offline instead" in lines.said[0]
    assert in_record(tmp_path / "run") == sent
    assert inspected(tmp_path / "run").rows_with("process/loss")


@pytest.mark.usefixtures("page_only", "with_key")
def test_a_server_that_accepts_and_never_answers_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "PROBE_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        pointed_at(f"http://127.0.0.1:{silent.getsockname()[1]}", monkeypatch)
        lines = Lines()
        sent = played(tmp_path / "run", lines, mode="online")
    assert "Offline instead" in lines.said[0]
    assert in_record(tmp_path / "run") == sent


def only_alive(stub: WandbStub) -> type[BaseHTTPRequestHandler]:
    """A server that answers the probe and then nothing more."""
    never = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def do_POST(self) -> None:
            stub.operations.append(self.path)
            never.wait()

    return Handler


@pytest.mark.usefixtures("page_only", "with_key")
def test_a_server_that_falls_silent_after_the_probe_is_given_up_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "INIT_SECONDS", 0.5)
    with serving(only_alive) as stub:
        pointed_at(stub.url, monkeypatch)
        lines = Lines()
        sent = played(tmp_path / "run", lines, mode="online")
    assert stub.operations
    assert "Offline instead" in lines.said[0]
    assert in_record(tmp_path / "run") == sent
    assert inspected(tmp_path / "run").rows_with("process/loss")


@pytest.mark.usefixtures("page_only", "with_key")
def test_online_sends_history_tables_and_the_page_and_gives_the_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving() as stub:
        pointed_at(stub.url, monkeypatch)
        lines = Lines()
        played(tmp_path / "run", lines, mode="online", tags=("live",))
        import wandb

        wandb.teardown()
    assert stub.runs[0]["project"] == "neural-plasticity"
    link = f"{stub.url}/someone/neural-plasticity/runs/{stub.runs[0]['name']}"
    assert lines.said == [f"Weights & Biases: {link}"]
    steps = [row["global_step"] for row in stub.history if "process/loss" in row]
    assert steps == sorted(steps)
    assert len(steps) == 24 + 2 * 10
    kinds = {name.split("/")[1] for name in stub.files if name.startswith("media/")}
    assert kinds == {"table", "html"}


def test_disabled_opens_nothing_and_says_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = Lines()
    assert open_trackers(["wandb"], TrackedRun(tmp_path, mode="disabled"), lines) == []
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert open_trackers(["wandb"], TrackedRun(tmp_path), lines) == []
    assert lines.said == []


@pytest.mark.parametrize(
    ("mode", "environment", "expected"),
    [
        (None, {}, "offline"), (None, {"WANDB_MODE": ""}, "offline"), (None, {"WANDB_MODE": "dryrun"}, "offline"),
        (None, {"WANDB_MODE": "run"}, "online"), (None, {"WANDB_MODE": "Online"}, "online"),
        ("disabled", {"WANDB_MODE": "online"}, "disabled"), ("offline", {"WANDB_MODE": "online"}, "offline"),
    ],
)  # fmt: skip
def test_the_mode_asked_for_wins_over_the_environment(
    mode: str | None, environment: dict[str, str], expected: str
) -> None:
    assert chosen_mode(mode, environment) == expected


def test_an_unknown_mode_is_said_in_one_line() -> None:
    with pytest.raises(ConfigError, match="WANDB_MODE: expected online, offline or disabled, got 'on'"):
        chosen_mode(None, {"WANDB_MODE": "on"})


def test_sync_without_a_record_says_so(tmp_path: Path) -> None:
    with pytest.raises(RecordError):
        sync(tmp_path / "nothing", tracked=TrackedRun(tmp_path, mode="offline"))


WITHOUT = """
import sys
from pathlib import Path
class Blocked:
    def find_spec(self, name, *_):
        if name.split(".")[0] == "wandb":
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Blocked())
from neural_plasticity.errors import ConfigError
from neural_plasticity.trackers import TrackedRun, open_trackers, sync
print(open_trackers(["wandb"], TrackedRun(Path(sys.argv[1]))))
try:
    sync(sys.argv[1], tracked=TrackedRun(Path(sys.argv[1]), mode="offline"))
except ConfigError as error:
    print(error)
"""


def test_where_wandb_is_missing_one_line_says_how_to_get_it(tmp_path: Path, recorded: Path) -> None:
    command = [sys.executable, "-c", WITHOUT, str(recorded)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert done.stderr.count("\n") == 1
    assert 'pip install "neural-plasticity[wandb]"' in done.stderr
    assert done.stdout.splitlines()[0] == "[]"
    assert 'pip install "neural-plasticity[wandb]"' in done.stdout.splitlines()[1]


def test_a_directory_of_runs_named_wandb_is_not_taken_for_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "wandb" / "offline-run-1").mkdir(parents=True)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    assert not connection.wandb_installed()


UNFINISHED = """
import sys, time
from pathlib import Path
from neural_plasticity import events as ev
from neural_plasticity.record import RecordWriter
from neural_plasticity.trackers import TrackedRun, open_trackers
run_dir = Path(sys.argv[1])
record = RecordWriter.create(run_dir)
def tell(event):
    record.append(event)
    sink.handle(event)
def end():
    tell(ev.RunEnded(state="failed", reason="forgot to finish"))
    sink.close()
    record.close()
(sink,) = open_trackers(["wandb"], TrackedRun(run_dir, mode="offline", at_exit=end))
tell(ev.RunStarted(name="short", shape=(2, 2), config={}))
tell(ev.StepMetrics(step=1, phase="warmup", metrics={"loss": 2.0}))
while sys.argv[2] == "later" and not sink.handled:
    time.sleep(0.05)
sys.exit(3)
"""


@pytest.mark.parametrize("when", ["at once", "later"])
def test_a_script_that_ends_without_saying_so_has_its_run_completed(tmp_path: Path, when: str) -> None:
    """At once: before wandb was even imported. Later: wandb's own exit hook must not come first."""
    command = [sys.executable, "-c", UNFINISHED, str(tmp_path / "run"), when]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, stdin=subprocess.DEVNULL)
    assert done.returncode == 3
    assert "switched off" not in done.stderr
    assert "left out" not in done.stderr
    found = inspected(tmp_path / "run")
    assert found.rows_with("page/dashboard.path")
    assert any("forgot to finish" in str(one) for one in found.all("summary"))
