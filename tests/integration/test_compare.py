"""``plasticity compare`` and the live page's comparison: what they take, what they refuse, and what they leave out."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from neural_plasticity.cli import main
from neural_plasticity.record import RecordWriter, annotate
from neural_plasticity.render.page import comparison as page
from neural_plasticity.render.page import read_page
from neural_plasticity.render.page.live import shell
from neural_plasticity.render.page.live.server import LiveServer, serve_in_thread
from neural_plasticity.render.page.packing import pack, unpack
from tests.live_client import ask
from tests.sample_run import HOSTILE, SampleRun, write_events

SMALL = {"warmup_steps": 12, "tuning_steps": 6, "layers": 3, "heads": 4, "cycles": 2}
TOKEN = "a-token-for-tests"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three runs in a directory, a fourth below it."""
    root = tmp_path_factory.mktemp("compared")
    for number, place in enumerate(("a", "b", "c", "below/d")):
        write_events(root / place, SampleRun(seed=number, name=f"run {place}", **SMALL).events())
    return root


@pytest.fixture
def runs(made: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(made, tmp_path / "runs"))


def names(file: Path) -> list[str]:
    return [run["name"] for run in read_page(file)["comparison"]["runs"]]


# The file --------------------------------------------------------------------------------------------------------


def test_compare_writes_one_file_with_everything_in_it(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "compare.html"
    assert main(["compare", str(runs / "b"), str(runs / "a" / "run.sqlite"), "-o", str(file)]) == 0
    assert capsys.readouterr().out.strip() == str(file)
    assert names(file) == ["run b", "run a"]
    text = file.read_text(encoding="utf-8")
    assert 'data-shows="comparison"' in text
    assert "connect-src 'none'" in text
    assert "http" not in text.split('id="npd-app"')[0].split("<body>")[1]
    # What the page was given is what the views made of the records.
    content = read_page(file)["comparison"]
    assert pack(content) == pack(unpack(pack(page.compare([runs / "b", runs / "a"]))))


def test_a_directory_stands_for_the_runs_below_it(runs: Path, tmp_path: Path) -> None:
    assert main(["compare", str(runs), "-o", str(tmp_path)]) == 0
    assert names(tmp_path / "compare.html") == ["run a", "run b", "run below/d", "run c"]


def test_what_cannot_be_compared_is_named_and_left_out(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(runs / "a", runs / "copy")
    (runs / "broken").mkdir()
    (runs / "broken" / "run.sqlite").write_text("no database")
    with RecordWriter.create(runs / "empty"):
        pass
    (runs / "nothing").mkdir()
    file = tmp_path / "compare.html"
    given = ["a", "b", "a", "copy", "broken", "empty", "missing", "nothing"]
    assert main(["compare", *(str(runs / one) for one in given), "-o", str(file)]) == 0
    assert names(file) == ["run a", "run b"]
    said = {Path(one["path"]).name: one["reason"] for one in read_page(file)["comparison"]["left_out"]}
    assert set(said) == {"a", "copy", "broken", "empty", "missing", "nothing"}
    assert said["a"] == "given twice: compared once"
    assert said["copy"] == f"a copy of {runs / 'a'}: the same run, compared once"
    assert "not begun" in said["empty"]
    assert "expected a run directory" in said["missing"]
    assert said["nothing"] == "no run in it, nor below it"
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 6
    assert all(line.startswith("plasticity: left out: ") for line in lines)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([], "0 runs to compare: expected two or more."),
        (["a"], "1 run to compare: expected two or more."),
        (["a", "a"], "given twice"),
        (["a", "missing"], "missing: expected a run directory with run.sqlite in it, found none."),
    ],
)
def test_fewer_than_two_runs_are_refused(
    given: list[str], said: str, made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "compare.html"
    assert main(["compare", *(str(made / one) for one in given), "-o", str(file)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("plasticity: ")
    assert said in line
    assert not file.exists()


def test_too_many_runs_are_refused(
    made: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(page, "MOST", 3)
    assert main(["compare", str(made)]) == 2
    assert "4 runs: expected at most 3" in capsys.readouterr().err


def test_a_record_is_not_overwritten(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", str(made), "-o", str(made / "a" / "run.sqlite")]) == 2
    assert "belongs to a record" in capsys.readouterr().err


def test_many_runs_make_a_page_of_bounded_size(made: Path) -> None:
    assert (page.points_each(2), page.points_each(100), page.points_each(200)) == (4_000, 300, 200)
    few = len(page.render_comparison(page.compare([made / "a", made / "b"])))
    all_ = len(page.render_comparison(page.compare([made])))
    assert all_ - few < 40_000


def test_text_from_outside_stays_text(runs: Path, tmp_path: Path) -> None:
    write_events(runs / "hostile", SampleRun(seed=9, name=HOSTILE, **SMALL).events())
    file, found = page.write_comparison([runs / "a", runs / "hostile"], tmp_path / "x.html")
    assert "\x1b" not in found.runs[1].name
    assert '<script>alert("x")' not in file.read_text(encoding="utf-8")


# Live ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def server(runs: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LiveServer]:
    monkeypatch.setattr(shell, "asset", lambda name: f"/* {name} */")
    shell.hashed.cache_clear()
    with serve_in_thread(runs) as server:
        yield server


def test_the_live_comparison_is_the_files(server: LiveServer, runs: Path) -> None:
    shown = ask(server, "/api/compare?run=a&run=below/d").packed["comparison"]
    assert [run["address"] for run in shown["runs"]] == ["run/a", "run/below/d"]
    expected = unpack(pack(page.compare([runs / "a", runs / "below" / "d"])))
    for one in (*shown["runs"], *expected["runs"]):
        one["path"] = one["address"] = ""
    assert pack(shown) == pack(expected)
    text = ask(server, "/compare?run=a&run=below/d").body.decode()
    assert 'data-shows="comparison"' in text
    assert len(ask(server, "/api/compare").packed["comparison"]["runs"]) == 4


def test_nothing_is_sent_again_until_something_was_recorded(server: LiveServer, runs: Path) -> None:
    path = "/api/compare?run=a&run=b"
    tag = ask(server, path).headers["ETag"]
    again = ask(server, path, If_None_Match=tag)
    assert (again.status, again.body) == (304, b"")
    annotate(runs / "b", tags=("worth a look",))
    found = ask(server, path, If_None_Match=tag)
    end = time.monotonic() + 20
    while found.status == 304 and time.monotonic() < end:  # comparing takes a fifth of the time at most
        time.sleep(0.05)
        found = ask(server, path, If_None_Match=tag)
    assert (found.status, found.headers["ETag"] != tag) == (200, True)
    assert found.packed["comparison"]["runs"][1]["tags"] == ["worth a look"]


def test_the_live_comparison_can_be_saved(server: LiveServer) -> None:
    saved = ask(server, "/api/compare/export?run=a&run=b")
    assert 'filename="compare.html"' in saved.headers["Content-Disposition"]
    assert b'id="npd-data"' in saved.body
    assert b"run/a" not in saved.body


@pytest.mark.parametrize(
    "query", ["run=a", "run=a&run=a", "run=a&run=../a", "run=a&run=/etc", "run=a&run=%00", "run=a&run=nowhere"]
)
def test_what_is_no_run_here_is_refused_in_one_line(server: LiveServer, query: str) -> None:
    reply = ask(server, f"/api/compare?{query}")
    assert reply.status == 400
    assert reply.json["error"].startswith("1 run to compare: expected two or more.")


def test_a_run_that_is_gone_is_left_out(server: LiveServer) -> None:
    found = ask(server, "/api/compare?run=a&run=b&run=nowhere").packed["comparison"]
    assert [one["path"] for one in found["left_out"]] == ["nowhere"]


def test_the_comparison_is_as_guarded_as_all_else(runs: Path) -> None:
    with serve_in_thread(runs, token=TOKEN) as server:
        for path in ("/compare?run=a&run=b", "/api/compare?run=a&run=b", "/api/compare/export?run=a&run=b"):
            assert ask(server, path).status == 401
            assert ask(server, path, host="elsewhere.example").status == 403
            reply = ask(server, path, Authorization=f"Bearer {TOKEN}")
            assert reply.status == 200
            assert "connect-src 'self'" in reply.headers["Content-Security-Policy"]
