"""Bad input as a table: one line that names the flag and says what to do, exit code 2, nothing left behind."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from neural_plasticity.cli import main
from neural_plasticity.record import RecordWriter, open_run
from tests.small_runs import save_model, save_text

SMALL = [
    *("--warmup_steps", "8", "--fine_tuning_steps", "2", "--batch_size", "2", "--sequence_length", "16"),
    *("--stabilisation_window", "8", "--score_sequences", "4", "--eval_sequences", "4", "--device", "cpu"),
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_text(tmp_path_factory.mktemp("text") / "text.txt", lines=400)


def empty_file(directory: Path) -> None:
    (directory / "empty.txt").touch()


def binary_file(directory: Path) -> None:
    (directory / "binary.txt").write_bytes(bytes(range(256)))


def short_file(directory: Path) -> None:
    (directory / "short.txt").write_text("a\n" * 12)


def another_run(directory: Path) -> None:
    from neural_plasticity.events import LogLine

    with RecordWriter.create(directory / "taken") as record:
        record.append(LogLine(message="an earlier run"))


def newer_record(directory: Path) -> None:
    another_run(directory)
    with sqlite3.connect(directory / "taken" / "run.sqlite") as connection:
        connection.execute("UPDATE meta SET value = 999 WHERE key = 'schema_version'")
    connection.close()


def file_in_the_way(directory: Path) -> None:
    (directory / "file").write_text("not a directory")


def not_a_model(directory: Path) -> None:
    (directory / "folder").mkdir()


def nothing(directory: Path) -> None:
    """The case needs no preparation."""


# what is wrong: (preparation, arguments after ``run``, what the line must say)
CASES: dict[str, tuple[Callable[[Path], None], list[str], list[str]]] = {
    "budget without auto": (
        nothing,
        ["--max_perplexity_increase", "0.1"],
        ["--max_perplexity_increase 0.1", "--cycles auto"],
    ),
    "budget of zero": (
        nothing,
        ["--cycles", "auto", "--max_perplexity_increase", "0"],
        ["--max_perplexity_increase 0"],
    ),
    "budget below zero": (
        nothing,
        ["--cycles", "auto", "--max_perplexity_increase", "-0.1"],
        ["--max_perplexity_increase -0.1"],
    ),
    "budget below the noise": (
        nothing,
        ["--cycles", "auto", "--max_perplexity_increase", "1e-9"],
        ["--max_perplexity_increase 1e-09", "validation sequences", "--judge_sequences"],
    ),
    "levels for cycles that are not counted": (
        nothing,
        ["--cycles", "auto", "--pruning_level", "0.1,0.2"],
        ["--pruning_level 0.1,0.2", "--cycles auto"],
    ),
    "no cycles": (nothing, ["--cycles", "0"], ["--cycles 0"]),
    "level above one": (nothing, ["--pruning_level", "1.2"], ["--pruning_level 1.2", "between 0 and 1"]),
    "level of zero": (nothing, ["--pruning_level", "0"], ["--pruning_level 0"]),
    "level that is no number": (nothing, ["--pruning_level", "some"], ["--pruning_level some"]),
    "unknown strategy": (nothing, ["--pruning_strategy", "entropie"], ["--pruning_strategy entropie", "entropy"]),
    "strategy plug-in that is nowhere": (
        nothing,
        ["--pruning_strategy", "no.where:f"],
        ["--pruning_strategy no.where:f"],
    ),
    "evaluation that is nowhere": (nothing, ["--eval", "no.where:f"], ["--eval no.where:f"]),
    "model that is nowhere": (nothing, ["--model_name", "no-such-model"], ["--model_name no-such-model", "builtin"]),
    "directory without a model": (not_a_model, ["--model_name", "folder"], ["--model_name folder"]),
    "data set that is nowhere": (nothing, ["--dataset", "no-such-set"], ["--dataset no-such-set", "python-stdlib"]),
    "empty text": (empty_file, ["--dataset", "empty.txt"], ["--dataset empty.txt", "empty"]),
    "binary text": (binary_file, ["--dataset", "binary.txt"], ["--dataset binary.txt", "UTF-8"]),
    "too little text": (short_file, ["--dataset", "short.txt"], ["--dataset", "tokens"]),
    "directory of another run": (another_run, ["--output_dir", "taken"], ["taken", "already holds a run"]),
    "record of a newer version": (newer_record, ["--resume", "taken"], ["999"]),
    "file where the directory should be": (file_in_the_way, ["--output_dir", "file"], ["file"]),
    "directory that cannot be made": (nothing, ["--output_dir", "/proc/no/run"], ["/proc/no"]),
    "sequences longer than the model's": (nothing, ["--sequence_length", "4096"], ["--sequence_length 4096", "64"]),
    "more cycles than heads": (nothing, ["--cycles", "40", "--pruning_level", "0.5"], ["--cycles 40"]),
    "counts that differ": (nothing, ["--pruning_level", "0.1,0.2", "--cycles", "3"], ["--pruning_level 0.1,0.2", "3"]),
    "no such device": (nothing, ["--device", "abacus"], ["--device abacus", "cpu"]),
    "no such tracker": (nothing, ["--track", "abacus"], ["--track", "abacus", "tensorboard"]),
    "nothing to resume": (nothing, ["--resume", "nowhere"], ["nowhere"]),
    "a file to resume": (short_file, ["--resume", "short.txt"], ["--resume short.txt", "run.sqlite"]),
    "more heads per layer than there are": (nothing, ["--min_heads_per_layer", "9"], ["--min_heads_per_layer 9"]),
}


@pytest.mark.parametrize("case", CASES)
def test_one_line_and_exit_code_2(
    case: str, model: Path, text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare, arguments, expected = CASES[case]
    prepare(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    base = ["--model_name", str(model), "--dataset", str(text), *SMALL]
    capsys.readouterr()
    code = main(["run", *base, *arguments])
    error = capsys.readouterr().err
    assert code == 2
    assert error.startswith("plasticity: ")
    assert error.count("\n") == 1, error
    assert all(part in error for part in expected), error
    assert "Traceback" not in error
    left = [path for path in sorted(tmp_path.rglob("*")) if path not in before and path.name != "output"]
    assert left == []


def test_nan_loss_stops_the_run_and_the_record_says_so(
    text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    poisoned = save_model(tmp_path / "poisoned", poison=True)
    code = main(["run", "--model_name", str(poisoned), "--dataset", str(text), *SMALL, "--output_dir", "run"])
    assert code == 2
    assert "loss became nan" in capsys.readouterr().out
    run = open_run(tmp_path / "run")
    summary = run.summary()
    assert summary.state == "failed"
    assert "--learning_rate" in summary.reason
    assert run.config["model_name"] == str(poisoned)


def test_a_finished_run_is_not_resumed(
    model: Path, text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--model_name", str(model), "--dataset", str(text), *SMALL, "--no_visualize", "--output_dir", "run"]
    assert main(["run", *arguments]) == 0
    capsys.readouterr()
    assert main(["run", "--resume", "run"]) == 2
    assert "has finished" in capsys.readouterr().err


def test_a_sweep_of_parts_is_refused_before_anything_is_opened(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sweep", "--fsdp", "--output_dir", str(tmp_path / "sweep")]) == 2
    assert capsys.readouterr().err == (
        "plasticity: --fsdp: each run of a sweep is a process of its own, with nobody to share parameters with.\n"
    )
    assert not (tmp_path / "sweep").exists()
