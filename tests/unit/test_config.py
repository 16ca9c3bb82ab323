"""The options of a run: what is refused and how, and that the record's copy gives the same options back."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

import pytest

from neural_plasticity.cli import Export, Run, check_paths, default_run_dir, main, parse
from neural_plasticity.config import RunConfig, as_json, from_json
from neural_plasticity.errors import ConfigError

IMPOSSIBLE = {
    "level above one": ({"pruning_level": "1.5"}, "--pruning_level 1.5"),
    "level of one": ({"pruning_level": "1"}, "--pruning_level 1"),
    "level of zero": ({"pruning_level": "0"}, "--pruning_level 0"),
    "level that is no number": ({"pruning_level": "a lot"}, "--pruning_level a lot"),
    "level that is NaN": ({"pruning_level": "nan"}, "--pruning_level nan"),
    "second level impossible": ({"pruning_level": "0.2,-0.1"}, "--pruning_level -0.1"),
    "empty part": ({"pruning_strategy": "entropy,"}, "--pruning_strategy 'entropy,'"),
    "counts that differ": ({"pruning_strategy": "entropy,gradient", "cycles": 3}, "2 values for 3 cycles"),
    "no cycles": ({"cycles": 0}, "--cycles 0"),
    "cycles beyond memory": ({"cycles": 2**63 - 1}, "--cycles 9223372036854775807: expected at most 262,144"),
    "more cycles than a model has heads": ({"cycles": 262_145}, "--cycles 262145"),
    "no end of cycles": ({"cycles": "auto", "max_cycles": 2**63 - 1}, "--max_cycles 9223372036854775807"),
    "no batch": ({"batch_size": 0}, "--batch_size 0"),
    "no warm-up": ({"warmup_steps": 0}, "--warmup_steps 0"),
    "negative fine-tuning": ({"fine_tuning_steps": -1}, "--fine_tuning_steps -1"),
    "learning rate of zero": ({"learning_rate": 0.0}, "--learning_rate 0.0"),
    "learning rate NaN": ({"learning_rate": float("nan")}, "--learning_rate nan"),
    "seed beyond 64 bits": ({"seed": 10**23}, "--seed 1000"),
    "weight decay NaN": ({"weight_decay": float("nan")}, "--weight_decay nan"),
    "negative seed": ({"seed": -1}, "--seed -1"),
    "no model": ({"model_name": ""}, "--model_name ''"),
    "no text": ({"dataset": " "}, "--dataset ''"),
    "one evaluated sequence": ({"eval_sequences": 1}, "--eval_sequences 1"),
}


@pytest.mark.parametrize("case", IMPOSSIBLE)
def test_impossible_options_are_refused_by_name(case: str) -> None:
    options, expected = IMPOSSIBLE[case]
    with pytest.raises(ConfigError) as caught:
        RunConfig(**options).checked()
    message = str(caught.value)
    assert expected in message
    assert "\n" not in message


def test_cycles_follow_from_what_is_given_per_cycle() -> None:
    config = RunConfig(pruning_strategy="entropy,gradient", pruning_level="0.1,0.2").checked()
    assert config.cycle_count == 2
    assert config.strategies == ("entropy", "gradient")
    assert config.levels == (0.1, 0.2)
    assert RunConfig(cycles=3).checked().levels == (0.2, 0.2, 0.2)
    assert RunConfig(pruning_level="0.1,0.2,0.3").checked().strategies == ("gradient",) * 3


def test_the_record_gives_the_same_options_back() -> None:
    config = RunConfig(output_dir=Path("somewhere"), cycles=2, control=True)
    assert from_json(as_json(config)) == config
    with pytest.raises(ConfigError, match="frobnicate"):
        from_json({**as_json(config), "frobnicate": 1})


@pytest.mark.parametrize("flag", ["--model_name", "--model-name"])
def test_flags_take_underscores_and_dashes(flag: str) -> None:
    command = parse(["run", flag, "gpt2"])
    assert isinstance(command, Run)
    assert command.config == RunConfig(model_name="gpt2")


def test_what_is_given_beside_quick_test_counts_even_when_it_is_the_default() -> None:
    command = parse(["run", "--quick_test", "--eval_sequences", "256"])
    assert isinstance(command, Run)
    assert command.config.quick_test
    assert command.config.eval_sequences == RunConfig().eval_sequences == 256
    assert command.config.warmup_steps == RunConfig.quick().warmup_steps < RunConfig().warmup_steps
    assert command.config.sequence_length == RunConfig.quick().sequence_length


def test_quick_runs_have_the_steps_that_make_them_real() -> None:
    quick = RunConfig.quick()
    assert quick.warmup_steps >= 20
    assert quick.fine_tuning_steps >= 20
    assert quick.eval_sequences >= 64


def test_export_takes_a_directory_and_a_file() -> None:
    assert parse(["export", "runs/a", "-o", "page.html"]) == Export(Path("runs/a"), Path("page.html"))


@pytest.mark.parametrize("arguments", [["run", "--cycles", "many"], ["run", "--no_such_flag"], ["frobnicate"], []])
def test_a_command_line_that_cannot_be_read_exits_with_2(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        parse(arguments)
    assert caught.value.code == 2
    assert capsys.readouterr().err


def test_the_run_directory_carries_the_time_and_belongs_to_one_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    now = datetime(2026, 1, 2, 3, 4, 5)
    name = "output/neural_plasticity_20260102-030405"
    with ThreadPoolExecutor(8) as several:
        made = set(several.map(default_run_dir, [now] * 8))
    assert made == {Path(name), *(Path(f"{name}-{number}") for number in range(2, 9))}
    assert all(path.is_dir() for path in made)


def test_where_no_run_directory_can_be_made_one_line_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "output").write_text("a file")
    assert main(["run"]) == 2
    assert "output" in capsys.readouterr().err


def test_a_run_that_is_refused_leaves_no_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["run", "--track", "abacus"]) == 2
    assert main(["sweep", "--jobs", "0"]) == 2
    assert not list((tmp_path / "output").iterdir())


@pytest.mark.parametrize(
    ("arguments", "flag"),
    [
        (["run", "--output_dir", ""], "--output_dir"),
        (["run", "--output-dir="], "--output-dir"),
        (["run", "--resume", ""], "--resume"),
        (["export", "run", "-o", ""], "-o"),
        (["recover", ""], "recover"),
    ],
)
def test_an_empty_path_is_not_the_current_directory(
    arguments: list[str], flag: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert (
        capsys.readouterr().err == f"plasticity: {flag} '': expected a path, got nothing; . is the current directory.\n"
    )


def test_an_empty_value_of_what_is_no_path_is_left_alone() -> None:
    check_paths(["run", "--tags", "", "--track=", "--output_dir", "."])


@pytest.mark.parametrize(
    ("options", "environment", "expected"),
    [
        ([], {}, ()),
        (["--wandb"], {}, ("wandb",)),
        (["--online"], {}, ("wandb",)),
        ([], {"WANDB_MODE": "offline"}, ("wandb",)),
        (["--track", "tensorboard, trackio"], {}, ("tensorboard", "trackio")),
        (["--track", "wandb", "--wandb"], {}, ("wandb",)),
    ],
)
def test_trackers_are_off_unless_asked_for(
    options: list[str], environment: dict[str, str], expected: tuple[str, ...]
) -> None:
    command = parse(["run", *options])
    assert isinstance(command, Run)
    assert command.config.trackers(environment) == expected


def test_every_command_explains_itself(capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("run", "demo", "export", "sync"):
        with pytest.raises(SystemExit) as caught:
            parse([name, "--help"])
        assert caught.value.code == 0
        assert name in capsys.readouterr().out
