"""Going on with a run: what counts as given, what happened meanwhile, and checkpoints that cannot be written."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from safetensors import SafetensorError

from neural_plasticity import events as ev
from neural_plasticity import session
from neural_plasticity.cli import main
from neural_plasticity.config import RunConfig, as_json
from neural_plasticity.errors import TrainingError
from neural_plasticity.experiment import Experiment, checkpoints
from neural_plasticity.record import RecordWriter, annotate, open_run
from neural_plasticity.record.lock import DirectoryLock
from neural_plasticity.render.page.live.runs import entry_of
from tests.faults.campaign import save_inputs, tiny_config

STARTED = RunConfig(checkpoint_every=7, pruning_level="0.3", tags="mine")


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """A run that was stopped in its first steps."""
    with RecordWriter.create(tmp_path / "run") as record:
        record.append(ev.RunStarted(name="one", shape=(2, 2), config=as_json(STARTED)))
        record.append(ev.StepMetrics(metrics={"loss": 1.0}))
    return tmp_path / "run"


@pytest.fixture
def went_on(monkeypatch: pytest.MonkeyPatch) -> list[RunConfig]:
    """The options that runs were gone on with, instead of going on."""
    found: list[RunConfig] = []

    def noted(config: RunConfig, *_: object, **__: object) -> int:
        found.append(config)
        return 0

    monkeypatch.setattr(session, "go_on", noted)
    return found


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ((), {}),
        (("--checkpoint_every", "100"), {"checkpoint_every": 100}),  # the default, by hand
        (("--checkpoint-every=100", "--use-dashboard"), {"checkpoint_every": 100, "use_dashboard": True}),
        (("--pruning_strategy", "gradient"), {}),  # what it was started with
    ],
)
def test_an_option_counts_as_given_whatever_its_value(
    run_dir: Path, went_on: list[RunConfig], given: tuple[str, ...], expected: dict[str, Any]
) -> None:
    assert main(["run", "--resume", str(run_dir), *given]) == 0
    (config,) = went_on
    assert as_json(config) == {**as_json(STARTED), **expected}


@pytest.mark.parametrize(("begun", "given", "expected"), [(True, (), False), (False, ("--fsdp",), True)])
def test_one_process_goes_on_whole_but_does_not_take_back_what_was_asked_for(
    tmp_path: Path, went_on: list[RunConfig], begun: bool, given: tuple[str, ...], expected: bool
) -> None:
    with RecordWriter.create(tmp_path) as record:
        record.append(ev.RunStarted(name="one", shape=(2, 2), config=as_json(replace(STARTED, fsdp=begun))))
    assert main(["run", "--resume", str(tmp_path), *given]) == 0
    assert went_on[0].fsdp == expected  # which `open_devices` refuses in one line


@pytest.mark.parametrize("given", [("--seed", "0"), ("--pruning_level=0.2",), ("--quick-test",)])
def test_an_option_of_the_experiment_is_refused_though_its_value_be_the_default(
    run_dir: Path, went_on: list[RunConfig], given: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "--resume", str(run_dir), *given]) == 2
    assert not went_on
    name = given[0].partition("=")[0].replace("-", "_").replace("__", "--", 1)
    assert f"leave {name} out" in capsys.readouterr().err


def test_a_run_that_finished_before_we_had_the_lock_stays_finished(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The other process was at its last event when we asked, and lets go of the run at that moment."""

    def lock(directory: Path) -> DirectoryLock:
        with RecordWriter.amend(directory) as other:
            other.append(ev.RunEnded(state="finished"))
        return DirectoryLock(directory)

    monkeypatch.setattr(session, "DirectoryLock", lock)
    monkeypatch.setattr(session, "_open", lambda *_: pytest.fail("a model was opened"))
    assert main(["run", "--resume", str(run_dir)]) == 2
    assert "this run has finished" in capsys.readouterr().err
    with open_run(run_dir) as run:
        assert run.summary().state == "finished"


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_inputs(tmp_path_factory.mktemp("inputs"))


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("I/O error: No space left on device (os error 28)"),
        SafetensorError("I/O error: No space left on device (os error 28)"),
        MemoryError("Unable to allocate 48.0 MiB"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_checkpoint_that_cannot_be_written_never_ends_a_run(
    inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def refuses(*_: object) -> Path:
        raise error

    monkeypatch.setattr(checkpoints, "save", refuses)
    assert session.start_run(tiny_config(inputs, cycles=1, no_visualize=True), tmp_path / "run") == 0
    with open_run(tmp_path / "run") as run:
        assert run.summary().state == "finished"
        said = [line.message for line in run.log() if line.level == "error"]
    assert said
    assert all(
        f"no checkpoint could be written ({type(error).__name__}: {error}); the run goes on" in one for one in said
    )


def test_tags_are_the_records_from_the_start_and_stay_as_edited_until_given_anew(inputs: Path, tmp_path: Path) -> None:
    def tags() -> tuple[str, ...] | None:
        with open_run(tmp_path / "run") as run:
            return run.annotation.tags

    def stop(_: Experiment, stages_done: int) -> Iterator[ev.Event]:
        yield ev.RunStarted(name="one", shape=(2, 4), config=as_json(config))
        raise TrainingError("stopped")

    config = tiny_config(inputs, cycles=1, tags="a, b")
    assert session.start_run(config, tmp_path / "run", stop) == 2
    assert tags() == ("a", "b")
    assert entry_of(tmp_path, "run").tags == ("a", "b")
    annotate(tmp_path / "run", tags=["edited"])
    with open_run(tmp_path / "run") as run:
        assert [type(one) for one in run.events()] == [ev.RunStarted, ev.Annotation, ev.RunEnded, ev.Annotation]
    assert main(["run", "--resume", str(tmp_path / "run"), "--tags", "c"]) == 0
    assert tags() == ("c",)


def test_tags_that_were_edited_outlive_going_on_without_new_ones(inputs: Path, tmp_path: Path) -> None:
    with RecordWriter.create(tmp_path / "run") as record:
        record.append(ev.RunStarted(name="one", shape=(2, 4), config=as_json(tiny_config(inputs, cycles=1, tags="a"))))
    annotate(tmp_path / "run", tags=["edited"])
    assert main(["run", "--resume", str(tmp_path / "run")]) == 0
    with open_run(tmp_path / "run") as run:
        assert run.annotation.tags == ("edited",)


@pytest.mark.parametrize(("option", "name"), [("--dataset", "text.txt"), ("--model_name", "model")])
def test_a_relative_name_counts_from_where_the_run_was_started(
    inputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str, name: str
) -> None:
    config = replace(tiny_config(inputs), **{option.removeprefix("--"): name})
    with RecordWriter.create(tmp_path / "run") as record:
        record.append(ev.RunStarted(name="one", shape=(2, 4), config=as_json(config)))
    assert main(["run", "--resume", str(tmp_path / "run")]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"plasticity: {option} {name}: ")
    assert "the directory where the run was started" in said
    assert "give" not in said
    assert said.count("\n") == 1
