"""`colab_integration` as documented: outside of Colab all works as far as it can; inside, with a stand-in for it.

``google.colab`` exists in Colab only. Here a small module takes its place at that one boundary, and writes down what it
was asked for; programs that open tunnels are stood in for alike. Servers, pages, pip and kernels are the real ones.
"""

from __future__ import annotations

import inspect
import json
import os
import re
import stat
import sys
import types
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from neural_plasticity import MultiPhaseDashboard, open_run
from neural_plasticity.dashboard import colab, colab_environment
from neural_plasticity.errors import InputError, RecordError
from tests.sample_run import SampleRun, write_events

COLAB = """
import json, pathlib
class _widgets: _installed_url = "https://colab.example/manager.js"  # what anywidget tells Colab to load
def _said(*what):
    with pathlib.Path("colab.jsonl").open("a") as file:
        file.write(json.dumps(what) + "\\n")
def enable_custom_widget_manager(): _said("widgets")
def serve_kernel_port_as_iframe(port, path="/", width="100%", height="400", cache_in_notebook=False):
    _said("iframe", port, path, width, height)
def serve_kernel_port_as_window(port, path="/", anchor_text=None): _said("window", port, path, anchor_text)
"""


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_events(tmp_path_factory.mktemp("output") / "run", SampleRun(warmup_steps=30, tuning_steps=20).events())


@pytest.fixture(autouse=True)
def servers_end() -> Iterator[None]:
    yield
    for server in colab._servers.values():
        server.close()
    colab._servers.clear()


@pytest.fixture
def in_colab(monkeypatch: pytest.MonkeyPatch) -> None:
    output = types.ModuleType("google.colab.output")
    exec(COLAB, output.__dict__)
    for name in ("google", "google.colab"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, "google.colab.output", output)


def asked() -> list[list[object]]:
    """What Colab was asked for."""
    return [json.loads(line) for line in Path("colab.jsonl").read_text().splitlines()]


def status(url: str, **headers: str) -> int:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def test_the_documented_names_and_what_they_take() -> None:
    import utils.neural_plasticity.dashboard.colab_integration as documented

    first = {
        "setup_colab_environment": [],
        "display_dashboard": ["dashboard_or_run_dir", "height"],
        "serve_in_colab": ["port"],
        "open_tunnel": ["port"],
        "display_sharing_options": ["dashboard"],
        "create_colab_quickstart_notebook": ["path"],
    }
    assert set(first) == set(documented.__all__)
    for name, parameters in first.items():
        found = inspect.signature(getattr(documented, name)).parameters
        assert list(found)[: len(parameters)] == parameters
        required = [one for one in found.values() if one.default is inspect.Parameter.empty]
        assert len(required) <= 1


# Outside of Colab ------------------------------------------------------------------------------------------------


def test_the_environment_is_described_and_nothing_installed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = colab.setup_colab_environment()
    assert (found.colab, found.notebook, found.installed) == (False, False, ())
    assert found.packages["torch"]
    monkeypatch.setattr(colab_environment, "_requirements", lambda: iter(["numpy>=99", "npd-none>=1", "numpy>=1"]))
    found = colab.setup_colab_environment()
    assert found.missing == ("numpy>=99", "npd-none>=1")
    assert "Missing: pip install 'numpy>=99' 'npd-none>=1'" in capsys.readouterr().out


@pytest.mark.parametrize("how", ["directory", "text", "record", "run", "dashboard"])
def test_in_a_terminal_the_page_is_written_and_named(
    how: str, run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if how == "dashboard":
        run_dir = tmp_path / "mine"
        with MultiPhaseDashboard(output_dir=run_dir, mode="disabled") as board:
            colab.display_dashboard(board)
    else:
        ways = {"directory": run_dir, "text": str(run_dir), "record": run_dir / "run.sqlite", "run": open_run(run_dir)}
        colab.display_dashboard(ways[how])
    said = capsys.readouterr().out
    assert f"The page: {(run_dir / 'dashboard.html').resolve()}" in said
    assert f"Live: plasticity serve {run_dir}" in said
    assert (run_dir / "dashboard.html").is_file()


@pytest.mark.parametrize("wrong", ["no/such/run", 3, None])
def test_what_is_no_run_is_one_line(wrong: object) -> None:
    with pytest.raises((RecordError, InputError), match=r"run\.sqlite|expected a dashboard, a run, or a run directory"):
        colab.display_dashboard(wrong)  # type: ignore[arg-type]


def test_serving_says_where_and_a_port_can_be_taken_again(run_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = colab.serve_in_colab(directory=run_dir.parent)
    assert status(first.url) == 200
    assert first.url in capsys.readouterr().out
    second = colab.serve_in_colab(first.port, directory=run_dir)
    assert second.port == first.port
    assert status(second.url) == 200
    assert status(second.url, Host="evil.example") == 403, "a foreign name got in"
    with pytest.raises(InputError, match="no/such"):
        colab.serve_in_colab(directory="no/such")


def test_sharing_names_every_way(run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    colab.display_sharing_options(run_dir)
    said = capsys.readouterr().out
    assert f"One file: {(run_dir / 'dashboard.html').resolve()}" in said
    assert f"plasticity sync {run_dir} --to wandb" in said
    assert f"plasticity serve {run_dir}" in said
    assert "open_tunnel(server.port)" in said
    with MultiPhaseDashboard(output_dir=tmp_path / "sent", mode="disabled") as board:
        board._journal.say("Weights & Biases: https://wandb.example/team/run/1", "info")
        colab.display_sharing_options(board)
    assert "Weights & Biases: https://wandb.example/team/run/1\n    Whoever may see" in capsys.readouterr().out


@pytest.mark.parametrize("target", ["directory", "file"])
def test_the_quickstart_is_a_valid_notebook(target: str, tmp_path: Path) -> None:
    written = colab.create_colab_quickstart_notebook(tmp_path if target == "directory" else tmp_path / "a" / "b.ipynb")
    assert written.suffix == ".ipynb"
    nbformat.validate(nbformat.read(written, as_version=4))
    with pytest.raises(RecordError, match="the notebook cannot be written there"):
        colab.create_colab_quickstart_notebook(written / "below" / "a-file.ipynb")


# Tunnels ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def cloudflared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A program of that name which says what the real one says, and notes how it was called and that it ended."""
    program = tmp_path / "bin" / "cloudflared"
    program.parent.mkdir()
    program.write_text(
        f"#!{sys.executable}\n"
        "import pathlib, signal, sys, time\n"
        f"note = pathlib.Path({str(tmp_path / 'called')!r})\n"
        "note.write_text(' '.join(sys.argv[1:]))\n"
        "signal.signal(signal.SIGTERM, lambda *_: (note.write_text('ended'), sys.exit(0)))\n"
        "print('INF Requesting new quick Tunnel', file=sys.stderr, flush=True)\n"
        "print('INF |  https://four-plain-words-here.trycloudflare.com  |', file=sys.stderr, flush=True)\n"
        "time.sleep(60)\n"
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    return tmp_path / "called"


@pytest.fixture
def no_tunnel_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(colab.colab_tunnel.shutil, "which", lambda _: None)


def test_only_a_server_with_a_token_is_made_public(run_dir: Path, cloudflared: Path) -> None:
    server = colab.serve_in_colab(directory=run_dir)
    with pytest.raises(InputError, match="lets anyone in, so it is not made public"):
        colab.open_tunnel(server.port)
    server.close()
    with pytest.raises(InputError, match="no server listens there"):
        colab.open_tunnel(server.port)
    secret = colab.serve_in_colab(directory=run_dir, token=True)
    with pytest.raises(InputError, match="the token is not that server's"):
        colab.open_tunnel(secret.port, token="a guess")
    colab._servers.clear()  # as if another process had started it
    with pytest.raises(InputError, match=rf"give it as open_tunnel\({secret.port}, token="):
        colab.open_tunnel(secret.port)
    secret.close()
    assert not cloudflared.exists(), "the program was started although nothing may be public"


def test_a_tunnel_through_cloudflared(run_dir: Path, cloudflared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    server = colab.serve_in_colab(directory=run_dir, token=True)
    assert server.token
    assert len(server.token) >= 20
    tunnel = colab.open_tunnel(server.port)
    assert tunnel.url == f"https://four-plain-words-here.trycloudflare.com/?token={server.token}"
    assert tunnel.url in capsys.readouterr().out
    here = f"127.0.0.1:{server.port}"
    assert cloudflared.read_text() == f"tunnel --no-autoupdate --url http://{here} --http-host-header {here}"
    tunnel.close()
    tunnel.close()
    assert cloudflared.read_text() == "ended"


def test_a_tunnel_that_does_not_come_about_is_told(run_dir: Path, cloudflared: Path) -> None:
    program = cloudflared.parent / "bin" / "cloudflared"
    program.write_text("#!/bin/sh\necho 'ERR failed to request quick Tunnel: no such host' >&2\n")
    server = colab.serve_in_colab(directory=run_dir, token=True)
    with pytest.raises(InputError, match=r"cloudflared opened no tunnel .*: ERR failed to request quick Tunnel"):
        colab.open_tunnel(server.port)


@pytest.mark.usefixtures("no_tunnel_program")
def test_without_a_program_the_reader_is_told_which(run_dir: Path) -> None:
    server = colab.serve_in_colab(directory=run_dir, token=True)
    with pytest.raises(InputError, match=r"needs cloudflared on the path .* or pyngrok"):
        colab.open_tunnel(server.port)


@pytest.mark.usefixtures("no_tunnel_program")
def test_a_tunnel_through_pyngrok(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ngrok = types.ModuleType("pyngrok.ngrok")
    calls: list[tuple[str, ...]] = []

    def connect(address: str, protocol: str) -> types.SimpleNamespace:
        calls.append((address, protocol))
        return types.SimpleNamespace(public_url="https://abc.ngrok.example")

    ngrok.connect = connect  # type: ignore[attr-defined]
    ngrok.disconnect = lambda url: calls.append((url,))  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pyngrok", types.ModuleType("pyngrok"))
    monkeypatch.setitem(sys.modules, "pyngrok.ngrok", ngrok)
    monkeypatch.setattr(colab.colab_tunnel, "find_spec", lambda _: object())
    server = colab.serve_in_colab(directory=run_dir, token="a token of my own")
    assert status(server.address, Host="abc.ngrok.example") == 401
    assert status(server.url.replace(" ", "%20"), Host="abc.ngrok.example") in (200, 401), "the cookie is the browser's"
    tunnel = colab.open_tunnel(server.port)
    assert tunnel.url == "https://abc.ngrok.example/?token=a%20token%20of%20my%20own"
    tunnel.close()
    assert calls == [(str(server.port), "http"), ("https://abc.ngrok.example",)]


# In Colab, as far as that can be had here ------------------------------------------------------------------------


@pytest.mark.usefixtures("in_colab")
def test_in_colab_what_is_missing_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wheel = tmp_path / "wheels" / "npd_probe-1.2-py3-none-any.whl"
    wheel.parent.mkdir()
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("npd_probe.py", "")
        archive.writestr("npd_probe-1.2.dist-info/METADATA", "Metadata-Version: 2.1\nName: npd-probe\nVersion: 1.2\n")
        archive.writestr(
            "npd_probe-1.2.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr("npd_probe-1.2.dist-info/RECORD", "")
    for name, value in {"NO_INDEX": "1", "FIND_LINKS": str(wheel.parent), "TARGET": str(tmp_path / "site")}.items():
        monkeypatch.setenv(f"PIP_{name}", value)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.setattr(colab_environment, "_requirements", lambda: iter(["numpy>=1", "npd-probe>=1.0"]))
    found = colab.setup_colab_environment()
    assert found.colab
    assert (found.missing, found.installed) == ((), ("npd-probe>=1.0",))
    assert found.packages["npd-probe"] == "1.2"
    assert "Installed: npd-probe>=1.0" in capsys.readouterr().out
    monkeypatch.setattr(colab_environment, "_requirements", lambda: iter(["npd-nowhere>=1.0"]))
    with pytest.raises(InputError, match=r"pip install 'npd-nowhere>=1\.0': ERROR: No matching distribution"):
        colab.setup_colab_environment()


@pytest.mark.usefixtures("in_colab")
def test_in_colab_runs_are_served_in_a_frame_of_its_proxy(run_dir: Path) -> None:
    server = colab.serve_in_colab(directory=run_dir, height=640)
    assert asked() == [["iframe", server.port, "/", "100%", "640"]]
    with urllib.request.urlopen(
        urllib.request.Request(server.url, headers={"Host": "8000-gpu-xyz.a.prod.colab.dev"}), timeout=10
    ) as answer:
        policy = answer.headers["Content-Security-Policy"]
        assert answer.headers["X-Frame-Options"] is None
    assert re.search(r"frame-ancestors https://colab\.research\.google\.com https://\*\.googleusercontent\.com", policy)
    secret = colab.serve_in_colab(directory=run_dir, token=True)
    assert asked()[-1] == ["window", secret.port, f"/?token={secret.token}", "Open the runs in their own tab"]


def test_in_a_cell_of_colab_the_widget_is_enabled_and_a_link_given(run_dir: Path, tmp_path: Path) -> None:
    package = tmp_path / "google" / "colab"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "output.py").write_text(COLAB)
    code = f"""import sys
sys.path.insert(0, {str(tmp_path)!r})
import google.colab.output
from neural_plasticity.dashboard.colab import *
display_dashboard({str(run_dir)!r})
display_sharing_options({str(run_dir)!r})"""
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    NotebookClient(book, timeout=60, resources={"metadata": {"path": str(tmp_path)}}).execute()
    widget = "application/vnd.jupyter.widget-view+json"
    (live,) = (one for one in book.cells[0].outputs if widget in one.get("data", {}))
    assert live.metadata[widget]["colab"] == {"custom_widget_manager": {"url": "https://colab.example/manager.js"}}
    assert [one[0] for one in asked()] == ["widgets", "window"]
    assert asked()[1][2:] == ["/", "Open the dashboard in its own tab"]
    table = book.cells[0].outputs[-1].data["text/html"]
    assert "from google.colab import files; files.download(" in table
