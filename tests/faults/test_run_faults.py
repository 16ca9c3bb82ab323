"""What goes wrong around a whole run: full and read-only disks, no memory, NaN, no /tmp, a clock that goes back."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neural_plasticity import events as ev
from neural_plasticity.cli import main
from neural_plasticity.config import RunConfig, as_json
from neural_plasticity.errors import RecordError
from neural_plasticity.record import RecordWriter, open_run
from neural_plasticity.render.page import read_page, write_page
from neural_plasticity.session import resume_run, start_run
from tests.faults.campaign import history, save_inputs, tiny_config
from tests.faults.test_record_faults import _mounted
from tests.sample_run import SampleRun
from tests.small_runs import save_model, save_text

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_inputs(tmp_path_factory.mktemp("inputs"))


@pytest.fixture(scope="module")
def untouched(inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """What a run has on record that nothing happens to, but for its log."""
    directory = tmp_path_factory.mktemp("untouched") / "run"
    assert start_run(tiny_config(inputs), directory) == 0
    with open_run(directory) as run:
        return without_log(history(run))


def flags(config: RunConfig) -> list[str]:
    """The options of a command that asks for this run."""
    default = vars(RunConfig())
    given = {name: value for name, value in vars(config).items() if value != default[name]}
    return [f"--{name}" if value is True else f"--{name}={value}" for name, value in given.items()]


def without_log(history: list[Any]) -> list[Any]:
    return [one for one in history if one[0] != ev.LogLine.kind]


def test_a_disk_that_fills_up_in_mid_run_costs_nothing_once_there_is_room(
    inputs: Path, untouched: list[Any], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "small"
    place.mkdir()
    with _mounted(place, "-t", "tmpfs", "-o", "size=12m", "tmpfs"):
        ballast = place / "ballast"
        ballast.write_bytes(bytes(12_430_000))
        assert main(["run", *flags(tiny_config(inputs)), f"--output_dir={place / 'run'}"]) == 2
        said = capfd.readouterr().err
        assert "cannot record (database or disk is full); free space" in said
        assert "Traceback" not in said
        with open_run(place / "run") as run:
            recorded = len(list(run.events()))
            assert 0 < recorded < len(untouched)
        ballast.unlink()
        assert main(["run", f"--resume={place / 'run'}", "--no_browser"]) == 0
        with open_run(place / "run") as run:
            assert without_log(history(run)) == untouched
            assert len(list(run.events(attempt=1))) == recorded


def _immutable(path: Path, on: bool) -> bool:
    chattr = shutil.which("chattr")
    if chattr is None:
        return False
    every = [str(path), *(str(one) for one in path.rglob("*") if one.is_dir())]
    return subprocess.run([chattr, "+i" if on else "-i", *every], capture_output=True).returncode == 0


class Freezing:
    """Makes the directories of a run immutable in mid-run: even root can make, rename and remove nothing there."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.frozen = False

    def handle(self, event: ev.Event) -> None:
        if event.phase == "fine-tuning" and event.phase_step == 2 and not self.frozen:
            self.frozen = _immutable(self.directory, True)

    def close(self) -> None:
        pass


@pytest.fixture
def freezing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Freezing]:
    (tmp_path / "try").mkdir()
    if not _immutable(tmp_path / "try", True):
        pytest.skip("no directory can be made read-only under a process that has files open: needs root and chattr +i")
    _immutable(tmp_path / "try", False)
    sink = Freezing(tmp_path / "run")
    monkeypatch.setattr("neural_plasticity.session._sinks", lambda *_: [sink])
    yield sink
    _immutable(sink.directory, False)


def test_a_directory_that_becomes_read_only_in_mid_run_costs_checkpoints_and_not_the_run(
    inputs: Path, untouched: list[Any], freezing: Freezing
) -> None:
    assert start_run(tiny_config(inputs), freezing.directory) == 0
    assert freezing.frozen
    with open_run(freezing.directory) as run:  # the record's files were open already
        assert without_log(history(run)) == untouched
        lines = [line.message for line in run.log() if line.level == "error"]
        assert lines
        assert all("no checkpoint could be written (Operation not permitted)" in line for line in lines)


def test_a_loss_that_is_no_number_ends_the_run_with_a_reason(
    inputs: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    poisoned = save_model(tmp_path / "model", n_layer=2, n_positions=16, poison=True)
    assert start_run(tiny_config(inputs, model_name=str(poisoned)), tmp_path / "run") == 2
    assert "Traceback" not in "".join(capfd.readouterr())
    with open_run(tmp_path / "run") as run:
        found = run.summary()
        assert found.state == "failed"
        assert "loss became nan" in found.reason
        assert "--learning_rate" in found.reason
        assert read_page(write_page(run, tmp_path / "page.html"))["overview"]["state"] == "failed"


def test_no_memory_says_which_flag_to_lower(inputs: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A limit on this process's address space, a little above what it has: a real allocation fails."""
    text = save_text(tmp_path / "text.txt", lines=4000)
    asked = tiny_config(inputs, dataset=str(text), batch_size=400, sequence_length=16)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 90_000_000, before[1]))
    try:
        code = start_run(asked, tmp_path / "run")
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
    assert code == 2
    assert "Traceback" not in "".join(capfd.readouterr())
    with open_run(tmp_path / "run") as run:
        assert run.summary().state == "failed"
        assert "out of memory during warmup" in run.summary().reason
        assert "--batch_size" in run.summary().reason


HIDE_TMP = """set -e
mount -t tmpfs none /run
cp -r $INPUTS /run/inputs
for place in /tmp /var/tmp /usr/tmp /dev/shm; do
  test -d $place && mount --bind $place $place && mount -o remount,bind,ro $place
done
cd $START
exec "$@"
"""


def test_without_tmp(inputs: Path) -> None:
    """/tmp and its like are read-only and TMPDIR points nowhere, in a name space of its own: only the current directory
    is left for temporary files; and where that may not be written either, one line says what PyTorch needs."""
    unshare = shutil.which("unshare")
    if unshare is None or os.geteuid() != 0:
        pytest.skip("hiding /tmp from one process needs root and unshare")
    options = flags(tiny_config(Path("/run/inputs"), output_dir="/run/out", use_dashboard=True))
    command = [unshare, "-m", "sh", "-c", HIDE_TMP, "sh", sys.executable, "-m", "neural_plasticity", "run", *options]
    for start, code, says in (("/run", 0, "run finished"), ("/proc", 2, "that can be written.")):
        given = {"TMPDIR": "/nowhere", "INPUTS": str(inputs), "START": start}
        given["PYTHONPATH"] = os.pathsep.join([str(ROOT / "src"), *sys.path])
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("TORCHINDUCTOR")}
        done = subprocess.run(command, capture_output=True, text=True, env=inherited | given, timeout=300)
        said = done.stdout + done.stderr
        if "mount" in said or "unshare" in said:
            pytest.skip(f"nothing can be mounted here: {said}")
        assert done.returncode == code, said
        assert says in said
        assert "Traceback" not in said


HOLDING = """
import sys
from neural_plasticity.record import RecordWriter
writer = RecordWriter.reopen(sys.argv[1])
print("held", flush=True)
sys.stdin.read()
"""


def test_a_second_process_at_the_same_run_is_refused_before_anything_slow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with RecordWriter.create(tmp_path / "run") as writer:
        writer.append(ev.RunStarted(name="shared", shape=(2, 2), config=as_json(RunConfig())))
    monkeypatch.setattr("neural_plasticity.session._open", lambda *_: pytest.fail("a model was opened"))
    command = [sys.executable, "-c", HOLDING, str(tmp_path / "run")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(RecordError, match="another process is writing to this run"):
            resume_run(tmp_path / "run")
        other.kill()
    with open_run(tmp_path / "run") as run:
        assert len(run.attempts) == 2  # its creation, and the other process: the refused one left nothing


@pytest.mark.parametrize("fall", [3600.0, 1e9])
def test_a_clock_that_goes_back_breaks_no_view(fall: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Clock:
        now = 1.8e9

        @classmethod
        def time(cls) -> float:
            cls.now += 1.0
            return cls.now

    monkeypatch.setattr("neural_plasticity.record.store.time", Clock)
    events = list(SampleRun(warmup_steps=24, tuning_steps=10).events())
    with RecordWriter.create(tmp_path / "run") as writer:
        for number, event in enumerate(events):
            if number == len(events) // 2:
                Clock.now -= fall
            writer.append(event)
    with open_run(tmp_path / "run") as run:
        assert list(run.events())[-1].kind == events[-1].kind
        assert run.summary().state == "finished"
        assert run.summary().seconds >= 0
        assert all(span.seconds >= 0 for span in run.phases())
        shown = read_page(write_page(run, tmp_path / "page.html"))
        assert np.isfinite(shown["curves"]["clock"]["seconds"]).all()


class At:
    """Does something when an event comes that is wanted."""

    def __init__(self, wanted: Callable[[ev.Event], bool], do: Callable[[], object]) -> None:
        self.wanted, self.do = wanted, do

    def handle(self, event: ev.Event) -> None:
        if self.wanted(event):
            self.do()

    def close(self) -> None:
        pass


def _interrupt() -> None:
    signal.raise_signal(signal.SIGINT)


def _no_room(*_: object) -> Path:
    raise OSError(28, "No space left on device")


def _is_step(number: int) -> Callable[[ev.Event], bool]:
    return lambda event: isinstance(event, ev.StepMetrics) and event.phase_step == number


def test_a_run_that_can_write_no_checkpoint_stops_all_the_same_when_asked(
    inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("neural_plasticity.session._sinks", lambda *_: [At(_is_step(2), _interrupt)])
    monkeypatch.setattr("neural_plasticity.experiment.checkpoints.save", _no_room)
    assert start_run(tiny_config(inputs), tmp_path / "run") == 130
    with open_run(tmp_path / "run") as run:
        assert next(run.events(ev.RunEnded)).phase_step == 2
        assert sum(line.level == "error" for line in run.log()) == 1


def test_an_attempt_that_ends_before_it_says_anything_leaves_the_run_what_it_was(
    inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def twice() -> None:
        _interrupt()
        _interrupt()

    with monkeypatch.context() as patched:
        patched.setattr("neural_plasticity.session._sinks", lambda *_: [At(_is_step(1), twice)])
        assert start_run(tiny_config(inputs, checkpoint_every=0), tmp_path / "run") == 130
    RecordWriter.reopen(tmp_path / "run", after_seq=0).close()  # a second attempt, ended while it opened
    opened: list[RunConfig] = []

    def noted(config: RunConfig, *_: object, **__: object) -> int:
        opened.append(config)
        return 0

    monkeypatch.setattr("neural_plasticity.session.go_on", noted)
    assert resume_run(tmp_path / "run") == 0
    assert as_json(opened[0]) == as_json(tiny_config(inputs, checkpoint_every=0))


def test_a_record_that_does_not_say_how_it_began_is_not_gone_on_with_as_another_run(tmp_path: Path) -> None:
    with RecordWriter.create(tmp_path / "run") as record:
        record.append(ev.StepMetrics(metrics={"loss": 1.0}))
    with pytest.raises(RecordError, match="does not say how this run was started"):
        resume_run(tmp_path / "run")


def test_a_run_that_has_finished_stays_so_when_it_is_interrupted_at_its_figures(
    inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def player(*_: object) -> Iterator[ev.Event]:
        yield ev.RunEnded(state="finished")

    def interrupted() -> None:
        raise KeyboardInterrupt

    at_its_end = At(lambda event: isinstance(event, ev.RunEnded), interrupted)
    monkeypatch.setattr("neural_plasticity.session._sinks", lambda *_: [at_its_end])
    assert start_run(tiny_config(inputs), tmp_path / "run", player) == 0
    with open_run(tmp_path / "run") as run:
        assert [one.state for one in run.events(ev.RunEnded) if isinstance(one, ev.RunEnded)] == ["finished"]


def test_checkpoints_of_a_run_whose_record_is_gone_do_not_stand_in_the_way(
    inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tmp_path / "run" / "checkpoints"
    directory.mkdir(parents=True)
    for number in (5000, 5001):
        (directory / f"event-{number:010d}.safetensors").write_bytes(b"of another run")
    monkeypatch.setattr("neural_plasticity.session._sinks", lambda *_: [At(_is_step(2), _interrupt)])
    assert start_run(tiny_config(inputs), tmp_path / "run") == 130
    assert len(list(directory.glob("event-*.safetensors"))) == 1
    assert len(list(directory.glob("event-*.unusable"))) == 2
