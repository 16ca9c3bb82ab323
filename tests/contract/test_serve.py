"""``plasticity serve``, and the live page of a run: as a person uses them, in processes of their own."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from neural_plasticity import events as ev
from neural_plasticity.cli import main
from neural_plasticity.config import RunConfig
from neural_plasticity.record import RecordWriter
from neural_plasticity.render.console import ConsoleView
from neural_plasticity.render.page.live.process import ServerProcess
from neural_plasticity.session import LivePage
from tests.sample_run import SampleRun, write_events

START = ev.RunStarted(name="live", shape=(2, 3), config={})


def fetch(url: str, path: str = "") -> Any:
    with urllib.request.urlopen(f"{url.split('?')[0]}{path}", timeout=20) as reply:
        return json.loads(reply.read())


def _hears_ctrl_c() -> None:
    """A shell that runs the tests in the background has them ignore it, and what they start inherits that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextmanager
def serving(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """``plasticity serve`` as a process, and the address that it printed."""
    command = [sys.executable, "-m", "neural_plasticity", "serve", *arguments, "--no_browser"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=_hears_ctrl_c
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        line = process.stdout.readline()
        found = re.search(r"http://\S+", line)
        assert found, process.stderr.read()
        yield process, found.group()
    finally:
        process.kill()
        process.communicate()


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_serve_shows_a_directory_until_ctrl_c(tmp_path: Path) -> None:
    write_events(tmp_path / "one", SampleRun().events())
    with serving(str(tmp_path), "--port", "0") as (process, url):
        assert url.startswith("http://127.0.0.1:")
        assert [one["id"] for one in fetch(url, "api/runs")] == ["one"]
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0


def test_serve_prints_an_address_with_the_token_in_it(tmp_path: Path) -> None:
    with serving(str(tmp_path), "--port", "0", "--token", "a token & more") as (_, url):
        assert url.endswith("?token=a%20token%20%26%20more")
        with pytest.raises(urllib.error.HTTPError, match="401"):
            fetch(url, "api/runs")


def test_serve_says_in_one_line_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", str(tmp_path / "nowhere"), "--no_browser"]) == 2
    with serving(str(tmp_path), "--port", "0") as (_, url):
        port = url.rsplit(":", 1)[1].strip("/")
        assert main(["serve", str(tmp_path), "--port", port, "--no_browser"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(":")[0] for line in lines] == ["plasticity", "plasticity"]
    assert "nowhere" in lines[0]
    assert f"--port {port}" in lines[1]


# The live page of a run ----------------------------------------------------------------------------------------


class Told:
    """What `ServerProcess` says, waited for."""

    def __init__(self) -> None:
        self.urls: list[str] = []
        self.problems: list[str] = []

    def url(self) -> str:
        end = time.monotonic() + 60
        while not self.urls and not self.problems and time.monotonic() < end:
            time.sleep(0.02)
        assert not self.problems
        return self.urls[0]


def test_the_servers_process_ends_with_the_run(tmp_path: Path) -> None:
    told = Told()
    with (
        RecordWriter.create(tmp_path) as writer,
        ServerProcess(tmp_path, told.urls.append, told.problems.append) as live,
    ):
        writer.append(START)
        assert fetch(told.url(), "api/runs/updates?after=0")["state"] == "running"
        writer.append(ev.RunEnded(state="finished"))
    assert live.wait(30)
    assert told.problems == []


def test_who_watches_sees_the_end_and_can_still_fetch_what_changed(tmp_path: Path) -> None:
    told = Told()
    with (
        RecordWriter.create(tmp_path) as writer,
        ServerProcess(tmp_path, told.urls.append, told.problems.append) as live,
    ):
        writer.append(START)
        with urllib.request.urlopen(f"{told.url()}api/runs/stream?after=1", timeout=30) as stream:
            stream.readline()
            writer.append(ev.RunEnded(state="finished"))
            live.close()
            lines = iter(stream.readline, b"")
            ended = next(line for line in lines if b'"finished"' in line)
            assert b"overview" in ended
            assert fetch(told.url(), "api/runs/updates?after=1")["seq"] == 2
    assert live.wait(60)


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_the_server_does_not_outlive_a_killed_run(tmp_path: Path) -> None:
    code = f"""
import sys, time
from pathlib import Path
from neural_plasticity.record import RecordWriter
from neural_plasticity.render.page.live.process import ServerProcess
writer = RecordWriter.create({str(tmp_path / "run")!r})
live = ServerProcess(Path({str(tmp_path / "run")!r}), lambda url: print(live._process.pid, flush=True), print)
time.sleep(300)
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    server = int(process.stdout.readline())
    process.kill()
    process.communicate()
    end = time.monotonic() + 30
    while _exists(server) and time.monotonic() < end:
        time.sleep(0.05)
    assert not _exists(server)


def _exists(pid: int) -> bool:
    """Alive, and not merely unburied: here nobody may be there to do that."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    except OSError:
        os.kill(pid, 0)
        return True
    return state != "Z"


def page_of(config: RunConfig, run_dir: Path) -> tuple[LivePage, ConsoleView, list[str]]:
    lines: list[str] = []
    console = ConsoleView(live=False, route=False)
    console.handle = lambda event: lines.append(getattr(event, "message", ""))  # type: ignore[method-assign]
    return LivePage(config, run_dir, console), console, lines


def test_use_dashboard_says_where_the_page_is_and_opens_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[object] = []
    monkeypatch.setattr("neural_plasticity.session.open_in_browser", lambda page: opened.append(page) or True)
    with RecordWriter.create(tmp_path) as writer:
        writer.append(START)
        page, _, lines = page_of(RunConfig(use_dashboard=True), tmp_path)
        with page:
            end = time.monotonic() + 60
            while not page.opened and time.monotonic() < end:
                time.sleep(0.02)
            (url,) = opened
            assert lines == [f"live page: {url}"]
            assert fetch(str(url), "api/runs")[0]["name"] == "live"


def test_no_page_is_served_unless_asked_for(tmp_path: Path) -> None:
    page, _, lines = page_of(RunConfig(), tmp_path)
    with page:
        assert (page._server, lines) == (None, [])


def test_without_what_it_needs_the_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neural_plasticity.render.page.live.server.find_spec", lambda _: None)
    page, _, lines = page_of(RunConfig(use_dashboard=True), tmp_path)
    with page:
        (line,) = lines
        assert line.startswith("no live page, dashboard.html instead: the live page needs starlette and uvicorn: pip")
