"""Checkpoints: a run goes on from any of them as if it had never been stopped, bit for bit; and files that are bad."""

from __future__ import annotations

import errno
import json
import shutil
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from neural_plasticity.cli import main
from neural_plasticity.config import RunConfig
from neural_plasticity.data.tokens import shuffled_batches
from neural_plasticity.errors import RecordError
from neural_plasticity.events import Event, HeadsGrown, PhaseEnded, Progress, RunStarted, Stabilised, StateRestored
from neural_plasticity.experiment import (
    Experiment,
    checkpoint_file,
    checkpoints,
    growth_phases,
    judging,
    open_experiment,
    play,
)
from neural_plasticity.policies.growth import choose_heads_to_grow
from neural_plasticity.policies.stopping import Verdict, judge_cycle
from neural_plasticity.record import RecordWriter, open_run
from tests.sample_run import write_events
from tests.small_runs import comparable, plain, save_model, save_text, small_config


class Stop(NamedTuple):
    """A place where a run can be stopped: its checkpoint's directory, and where it stands."""

    directory: Path
    position: checkpoints.Position
    phase: str
    cycle: int
    steps: int  # done within the phase; 0: the phase has ended


class Played(NamedTuple):
    config: RunConfig
    events: list[Event]
    stops: list[Stop]


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> RunConfig:
    """Everything at once: control, growth with a ramp, a new head, a stable warm-up, cycles until one is too much."""
    directory = tmp_path_factory.mktemp("inputs")
    options: dict[str, Any] = {
        "cycles": "auto",
        "max_cycles": 3,
        "pruning_level": "0.25",
        "growth": True,
        "growth_steps": 2,
        "growth_ramp_steps": 2,
        "grow_new_heads": 1,
        "fine_tuning_steps": 2,
        "stabilisation_tolerance": 0.5,
        "judge_sequences": 64,
        "eval_sequences": 4,
        "score_sequences": 8,
    }
    return small_config(save_model(directory / "model"), save_text(directory / "text.txt", lines=1500), **options)


@pytest.fixture(scope="module", autouse=True)
def _decided() -> Iterator[None]:
    """Whatever the figures of so small a run say: a pruned head comes back, and the second cycle is one too many."""

    def choose(screened: Any, allowed: int, *rest: Any, **more: Any) -> Any:
        choice = choose_heads_to_grow(screened, allowed, *rest, **more)
        return replace(choice, heads=choice.heads or (min(screened),))

    def judge(pruned: Any, control: Any, budget: float, seed: int, documents: Any) -> Verdict:
        first = np.random.SeedSequence([0, 1, judging._BOOTSTRAP]).generate_state(1)[0]
        return replace(judge_cycle(pruned, control, budget, seed, documents), inside=seed == first)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(growth_phases, "choose_heads_to_grow", choose)
        patch.setattr(judging, "judge_cycle", judge)
        yield


@pytest.fixture(scope="module")
def played(config: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> Played:
    folder = tmp_path_factory.mktemp("stops")
    return _played(open_experiment(config), folder)


def _played(x: Experiment, folder: Path, stages_done: int = 0, before: int = 0, until: int = 10**9) -> Played:
    """The run (its rest, of which ``before`` events went ahead), with a checkpoint wherever there can be one."""
    found = Played(x.config, [], [])
    for event in play(x, stages_done):
        found.events.append(event)
        steps = checkpoints.steps_at_rest(x, event)
        stages_done += isinstance(event, PhaseEnded)
        if steps or isinstance(event, PhaseEnded):
            position = checkpoints.Position(stages_done, before + len(found.events))
            directory = folder / str(position.last_seq)
            checkpoints.save(x, directory, position)
            found.stops.append(Stop(directory, position, event.phase, event.cycle, steps))
        if before + len(found.events) >= until:
            break
    return found


def test_a_run_goes_on_from_every_checkpoint_as_if_nothing_had_happened(played: Played, tmp_path: Path) -> None:
    """From each stop to the next one: the same events, and at the next one the same checkpoint. So to the end."""
    assert any(isinstance(event, Stabilised) for event in played.events)
    assert any(isinstance(event, StateRestored) for event in played.events)
    assert {event.origin for event in played.events if isinstance(event, HeadsGrown)} == {"regrown", "added"}
    assert {stop.phase for stop in played.stops if stop.steps} == {"warmup", "fine-tuning", "growth"}
    for here, there in pairwise(played.stops):
        x = open_experiment(played.config)
        restored = _restored(x, here.directory)
        assert restored.position == here.position
        assert not restored.notes
        first, last = here.position.last_seq, there.position.last_seq
        # The new attempt's RunStarted comes instead of nothing: it is one event ahead.
        again = _played(x, tmp_path / str(first), here.position.stages_done, first - 1, last)
        assert list(comparable(again.events[1:])) == list(comparable(played.events[first:last])), here
        assert again.stops[-1].position == there.position
        assert _read(again.stops[-1].directory) == _read(there.directory), (here, there)
        assert [one.run_fraction for one in again.events if isinstance(one, Progress)] == sorted(
            one.run_fraction for one in again.events if isinstance(one, Progress)
        )


@pytest.mark.parametrize("back_to", ["the last state inside", "the unpruned model"])
def test_a_run_that_was_ended_before_it_could_say_so_ends_as_it_would_have(
    played: Played, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, back_to: str
) -> None:
    if back_to == "the unpruned model":  # no evaluation follows: the judgement that led back is the last phase
        options = {"max_cycles": 1, "growth": False, "growth_ramp_steps": None, "warmup_steps": 4}
        monkeypatch.setattr(
            judging, "judge_cycle", lambda *given: replace(judge_cycle(*given[:2], 10.0, *given[3:]), inside=False)
        )
        played = _played(open_experiment(replace(played.config, **options)), tmp_path)
    assert any(isinstance(event, StateRestored) and back_to in played.events[-1].reason for event in played.events)
    last = played.stops[-1]
    x = open_experiment(played.config)
    again = list(play(x, _restored(x, last.directory).position.stages_done))
    assert list(comparable(again[1:])) == list(comparable(played.events[last.position.last_seq :]))


def _read(directory: Path) -> Any:
    (path,) = checkpoints.found(directory)
    state = checkpoint_file.read(path, 2**30)
    if state["training"] is not None:  # how much work is left is reckoned from another beginning
        state["training"]["within"][3] = pytest.approx(state["training"]["within"][3])
    return plain(_arrays(state))


def _arrays(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _arrays(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_arrays(one) for one in value]
    return value.numpy() if isinstance(value, Tensor) else value


@pytest.fixture(scope="module")
def opened(config: RunConfig) -> Experiment:
    """An experiment into which one checkpoint after the other can be read."""
    return open_experiment(config)


def two_of(played: Played, directory: Path, last: int = -1) -> tuple[Path, Path]:
    """Two successive checkpoints of the run in ``directory``, the newer one first."""
    directory.mkdir(parents=True, exist_ok=True)
    for number in (last - 1, last):
        (path,) = checkpoints.found(played.stops[number].directory)
        shutil.copy2(path, directory)
    newer, older = checkpoints.found(directory)
    return newer, older


def _restored(x: Experiment, directory: Path, last_seq: int | None = None) -> checkpoints.Restored:
    restored = checkpoints.restore(x, directory, last_seq)
    assert restored is not None
    return restored


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def flipped(place: float) -> Callable[[bytes], bytes]:
    def flip(data: bytes) -> bytes:
        at = int(place * len(data))
        return data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :]

    return flip


@pytest.mark.parametrize(
    "damage", [cut, flipped(0.9), flipped(0.002), flipped(0), lambda _: b"", lambda _: b"no checkpoint at all"]
)
def test_a_damaged_checkpoint_is_passed_over_and_that_is_said(
    played: Played, opened: Experiment, tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    newer, older = two_of(played, tmp_path, 5)
    newer.write_bytes(damage(newer.read_bytes()))
    restored = _restored(opened, tmp_path)
    assert restored.path == older
    (note,) = restored.notes
    assert note.startswith(f"checkpoint {newer.name} cannot be used: ")
    assert note.endswith(f"; going on from {older.name}")
    assert "\n" not in note

    older.write_bytes(damage(older.read_bytes()))
    with pytest.raises(RecordError, match=r"^--resume: .*start a new run\.$") as caught:
        checkpoints.restore(opened, tmp_path)
    assert "\n" not in str(caught.value)


def test_a_checkpoint_from_after_the_end_of_the_record_is_passed_over(
    played: Played, opened: Experiment, tmp_path: Path
) -> None:
    """A disk may keep the checkpoint and lose the end of the record; or the record was recovered from a damaged one."""
    newer, older = two_of(played, tmp_path, 5)
    last_seq = played.stops[5].position.last_seq
    assert _restored(opened, tmp_path, last_seq).path == newer
    restored = _restored(opened, tmp_path, last_seq - 1)
    assert restored.path == older
    assert f"the record ends before it, at event {last_seq - 1}" in restored.notes[0]


def test_a_run_goes_on_from_the_older_one_and_its_record_says_so(
    played: Played, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_dir = write_events(tmp_path / "run", played.events[: played.stops[-1].position.last_seq])
    newer, older = two_of(played, run_dir / "checkpoints")
    newer.write_bytes(cut(newer.read_bytes()))
    assert main(["run", "--resume", str(run_dir), "--no_visualize"]) == 0
    said = f"checkpoint {newer.name} cannot be used: "
    assert said in capsys.readouterr().out
    with open_run(run_dir) as run:
        (note,) = run.notes
        assert note.startswith(said)
        ours = [event for event in run.events() if not isinstance(event, RunStarted)]
        assert list(comparable(ours)) == list(comparable(played.events[1:]))
        assert len(list(run.events(attempt="all"))) > len(played.events)  # what was given up can still be read
    assert newer.with_name(f"{newer.name}.unusable").exists()
    assert older in checkpoints.found(run_dir / "checkpoints")


def test_a_second_process_is_refused_before_the_model_is_opened(
    played: Played, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run_dir = write_events(tmp_path / "run", played.events[:3])
    monkeypatch.setattr("neural_plasticity.session._open", lambda *_: pytest.fail("the model was opened"))
    with RecordWriter.amend(run_dir):
        assert main(["run", "--resume", str(run_dir)]) == 2
    assert "another process is writing to this run" in capsys.readouterr().err


def test_a_checkpoint_of_an_earlier_version_is_one_line(opened: Experiment, tmp_path: Path) -> None:
    (tmp_path / "last.pt").write_bytes(b"PK\x03\x04")
    with pytest.raises(RecordError, match=r"--resume: .*last\.pt was made by an earlier version") as caught:
        checkpoints.restore(opened, tmp_path)
    assert "\n" not in str(caught.value)


def rewritten(path: Path, change: Callable[[dict[str, Any]], object], **metadata: str) -> None:
    """The file with another state, its checksum right: as somebody might write it who means harm."""
    with safe_open(path, framework="pt") as file:
        told = file.metadata()
    state = json.loads(told["state"])
    change(state)
    text = json.dumps(state).replace('"nested"', "[" * 50_000 + "]" * 50_000)
    tensors = load_file(path)
    save_file(tensors, path, {**told, "state": text, "crc32": f"{zlib.crc32(text.encode()):08x}", **metadata})


HOSTILE: dict[str, Callable[[dict[str, Any]], object]] = {
    "a part is missing": lambda state: state.pop("scores"),
    "a part too many": lambda state: state.update(more=1),
    "a number that is a text": lambda state: state.update(step="12"),
    "a number that is true": lambda state: state.update(step=True),
    "a negative number": lambda state: state.update(step=-1),
    "a number that no record holds": lambda state: state.update(step=10**30),
    "stages beyond the plan": lambda state: state["position"].__setitem__(0, 10**6),
    "a plan of its own": lambda state: state.update(plan=[["growth", 10**9, False]]),
    "very many heads": lambda state: state.update(added=[[0] * 10**5 for _ in state["added"]]),
    "heads that are not": lambda state: state.update(born_in=[[0, 10**6, 1]]),
    "another tensor in place": lambda state: state.update(mask=state["states"]),
    "states that are none": lambda state: state.update(states=state["mask"]),
    "a tensor that is missing": lambda state: state["mask"].update({"$tensor": "nowhere"}),
    "deep nesting": lambda state: state.update(baseline={"a": "nested"}),
    "more steps than there are": lambda state: state["training"]["within"].__setitem__(0, 10**9),
    "less than no work left": lambda state: state["training"]["within"].__setitem__(3, float("nan")),
    "an optimiser of nothing": lambda state: state["training"]["moments"].update(other={}),
    "moments of nothing": lambda state: state["training"]["moments"]["model"].update(other={}),
}


@pytest.mark.parametrize("change", HOSTILE.values(), ids=HOSTILE)
def test_what_no_run_has_written_is_refused(
    played: Played, opened: Experiment, tmp_path: Path, change: Callable[[dict[str, Any]], object]
) -> None:
    (source,) = checkpoints.found(played.stops[3].directory)
    path = shutil.copy2(source, tmp_path)
    rewritten(path, change)
    with pytest.raises(RecordError, match=r"^--resume: checkpoint event-.* cannot be used: ") as caught:
        checkpoints.restore(opened, tmp_path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (OSError(errno.EIO, "Input/output error"), "cannot be read at present (Input/output error)"),
        (PermissionError(errno.EACCES, "Permission denied"), "cannot be read at present (Permission denied)"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "not enough memory"),
        (MemoryError("Cannot allocate memory (os error 12)"), "not enough memory"),  # these three as the reader says it
        (RuntimeError("unable to mmap 9 bytes from file </x>: Cannot allocate memory (12)"), "not enough memory"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), "not enough memory"),
    ],
)
def test_what_the_machine_refuses_is_no_damage(
    played: Played, opened: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, says: str
) -> None:
    """The newest checkpoint may be good: neither it nor the one before is used, renamed or called damaged."""
    run_dir = write_events(tmp_path / "run", played.events[: played.stops[5].position.last_seq])
    both = two_of(played, run_dir / "checkpoints", 5)

    def refuses(*_: object, **__: object) -> Any:
        raise error

    # Read, or put where the model is: no memory is for either to meet.
    for place in (checkpoint_file, "safe_open"), (checkpoints, "reinstate"):
        if place[0] is checkpoints and isinstance(error, OSError):
            continue
        with monkeypatch.context() as patch:
            patch.setattr(*place, refuses)
            with pytest.raises(RecordError, match=r"^--resume: ") as caught:
                checkpoints.restore(opened, run_dir / "checkpoints")
        assert says in str(caught.value)
        assert both[0].name in str(caught.value)
        assert "\n" not in str(caught.value)
        assert sorted((run_dir / "checkpoints").iterdir()) == sorted(both)


def test_a_checkpoint_that_is_a_directory_is_no_damage(opened: Experiment, tmp_path: Path) -> None:
    (tmp_path / "event-0000000003.safetensors").mkdir()
    with pytest.raises(RecordError, match=r"cannot be read at present \(Is a directory\)"):
        checkpoints.restore(opened, tmp_path)


def test_a_later_format_is_no_damage(played: Played, opened: Experiment, tmp_path: Path) -> None:
    newer, _ = two_of(played, tmp_path, 5)
    rewritten(newer, lambda _: None, version="2")
    with pytest.raises(RecordError, match="checkpoint format '2', and this version"):
        checkpoints.restore(opened, tmp_path)


def test_a_file_larger_than_any_checkpoint_is_not_read(played: Played, tmp_path: Path) -> None:
    (path,) = checkpoints.found(played.stops[0].directory)
    with pytest.raises(checkpoint_file.DamagedCheckpoint, match="more than a checkpoint of this model can have"):
        checkpoint_file.read(path, path.stat().st_size - 1)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -0.0, 0.1 + 0.2, 5e-324])
def test_numbers_come_back_as_they_were(tmp_path: Path, number: float) -> None:
    weight, grid = torch.full((3, 2), number, dtype=torch.bfloat16), np.array([[number]])
    state = {
        "a": number,
        "b": [number, None, True, "ü"],
        "tied": {"x": weight, "y": weight},
        "part": weight[1:],
        "c": grid,
    }
    checkpoint_file.write(tmp_path / "one", state)
    found = checkpoint_file.read(tmp_path / "one", 10**6)
    assert repr(found["a"]) == repr(found["b"][0]) == repr(number)
    assert found["b"][1:] == [None, True, "ü"]
    assert found["tied"]["x"] is found["tied"]["y"]  # kept once
    for was, now in ((weight, found["tied"]["x"]), (weight[1:], found["part"]), (torch.from_numpy(grid), found["c"])):
        assert (was.dtype, was.shape) == (now.dtype, now.shape)
        assert was.clone().view(torch.uint8).equal(now.view(torch.uint8))


@pytest.mark.parametrize("blocks", [1, 5, 8])
@pytest.mark.parametrize("skip", [0, 1, 4, 17])
def test_training_text_goes_on_where_it_was(blocks: int, skip: int) -> None:
    text = np.arange(2 * blocks).reshape(blocks, 2)
    whole, rest = shuffled_batches(text, 3, 7), shuffled_batches(text, 3, 7, skip=skip)
    for _ in range(skip):
        next(whole)
    for _ in range(9):
        assert next(whole).equal(next(rest))
