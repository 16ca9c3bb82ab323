"""What the README shows works: its Python runs, its options and targets exist, its links lead somewhere."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCUMENTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "benchmarks/README.md", *(ROOT / "docs").glob("*.md")]


def _blocks(language: str) -> list[str]:
    found = re.findall(r"^```(\w*)\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)
    return [text for name, text in found if name == language]


def _commands() -> list[list[str]]:
    """Every command line of the README as words, comments dropped."""
    lines = [line for block in _blocks("") for line in block.splitlines()]
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def _help(*arguments: str) -> str:
    code = "import sys; from neural_plasticity.cli import main; sys.exit(main(sys.argv[1:]))"
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments, "--help"], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_python_block_runs_as_printed() -> None:
    (code,) = _blocks("python")
    shown: dict[str, object] = {}
    exec(compile(code, "README.md", "exec"), shown)

    # Imported only now: the block has to bring what it needs itself.
    from neural_plasticity.models.size import model_size

    model, small, again = shown["model"], shown["small"], shown["again"]
    assert shown["heads"].mask.sum() == shown["heads"].mask.size - 10  # type: ignore[attr-defined]
    assert model_size(small).parameters < model_size(model).parameters
    assert model_size(again).parameters == model_size(small).parameters
    assert Path("small-model/config.json").is_file()


def test_every_option_shown_exists() -> None:
    known = set(re.findall(r"--[a-z][a-z_-]*", _help("run").replace("-", "_").replace("__", "--")))
    runs = [words for words in _commands() if words[:2] == ["plasticity", "run"] or "run_neural_plasticity" in words[1]]
    shown = {word.replace("-", "_").replace("__", "--") for words in runs for word in words if word.startswith("--")}
    assert len(runs) >= 5
    assert shown <= known


def test_every_program_shown_exists() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
    for words in _commands():
        match words:
            case ["make", target, *_]:
                assert target in targets
            case ["plasticity", command, *_]:
                assert command in _help()
            case ["python", script, *_] | ["accelerate", "launch", "--num_processes", _, script, *_]:
                assert (ROOT / script).is_file()
            case _:
                pytest.fail(f"the README shows a command that nothing here checks: {shlex.join(words)}")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", document.read_text(encoding="utf-8"))
    local = [link for link in links if not link.startswith(("http://", "https://"))]
    assert [link for link in local if not (document.parent / link).exists()] == []


def test_the_specification_status_has_every_row_once_and_names_what_exists() -> None:
    table = (ROOT / "docs/spec-status.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([A-E]\d*) \|", table, flags=re.MULTILINE)
    counts = {"A": 9, "B": 2, "C": 13, "D": 7}
    assert rows == [f"{letter}{n}" for letter, count in counts.items() for n in range(1, count + 1)] + ["E"]
    named = re.findall(r"`([\w/]+(?:/|\.py))(?:::\w+)?`", table)
    package = ROOT / "src/neural_plasticity"
    assert [name for name in named if not ((package / name).exists() or (ROOT / name).exists())] == []
