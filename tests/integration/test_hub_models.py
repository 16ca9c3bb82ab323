"""A model that the hub's cache has not: the real client against a hub of our own, on this machine."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

from tests.small_runs import save_model

REVISION = "0123456789" * 4
OPENED = """
import os, sys
from neural_plasticity.errors import ModelError
from neural_plasticity.models.loading import load_model
for name in sys.argv[1:]:
    try:
        print(name, type(load_model(name)[0]).__name__)
    except ModelError as error:
        print(error)
"""


def digest(body: bytes) -> str:
    return hashlib.sha1(body, usedforsecurity=False).hexdigest()


@contextmanager
def hub(repositories: dict[str, Path]) -> Iterator[tuple[str, list[str]]]:
    """The address of a hub with these models (name -> directory), and the files that were asked for."""
    asked: list[str] = []

    class Hub(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            path = unquote(self.path.partition("?")[0])
            name, what, file = re.fullmatch(r"/(?:api/models/)?([^/]*/[^/]*)?/?(\w*)/?\w*/?(.*)", path).groups()
            folder = repositories.get(name)
            if folder is None:
                self._answer(b"", 200 if path == "/" else 404)
            elif what == "resolve":
                asked.append(f"{self.command} {name}/{file}")
                self._answer((folder / file).read_bytes())
            elif what == "tree":
                files = [
                    {"type": "file", "path": one.name, "size": one.stat().st_size, "oid": digest(one.read_bytes())}
                    for one in folder.iterdir()
                ]
                self._answer(json.dumps(files).encode())
            else:
                files = [{"rfilename": one.name} for one in folder.iterdir()]
                self._answer(json.dumps({"id": name, "sha": REVISION, "siblings": files}).encode())

        def _answer(self, body: bytes, status: int = 200) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("ETag", f'"{digest(body)}"')
            self.send_header("X-Repo-Commit", REVISION)
            if status == 404:
                self.send_header("X-Error-Code", "RepoNotFound")
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()


def opened(home: Path, *names: str, **environment: str) -> list[str]:
    """What comes of opening each of these names, in a process of its own."""
    told = {**os.environ, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", "HF_HUB_OFFLINE": "0", **environment}
    told.pop("HF_HUB_CACHE", None)
    command = [sys.executable, "-c", OPENED, *names]
    done = subprocess.run(command, env=told, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_what_is_downloaded_is_looked_at_before_it_is_opened(tmp_path: Path) -> None:
    plain, evil = save_model(tmp_path / "plain"), save_model(tmp_path / "evil")
    for folder in (plain, evil):
        for name in ("evil.py", "pytorch_model.bin", "model.fp16.safetensors"):
            (folder / name).write_text("raise SystemExit('it ran')")
    configuration = json.loads((evil / "config.json").read_text())
    (evil / "config.json").write_text(json.dumps({**configuration, "n_embd": 2**16, "vocab_size": 2**22}))
    with hub({"some/plain": plain, "some/evil": evil}) as (address, asked):
        lines = opened(tmp_path / "home", "some/plain", "some/plain", "some/evil", "some/none", HF_ENDPOINT=address)
    assert lines[:2] == ["some/plain GPT2LMHeadModel"] * 2
    assert lines[2].startswith("--model_name some/evil: cannot be opened: config.json describes more than")
    assert lines[3].startswith("--model_name some/none: cannot be downloaded (")
    assert len(lines) == 4
    names = {Path(one).name for one in asked}
    assert {"config.json", "model.safetensors"} <= names
    assert not names & {"evil.py", "pytorch_model.bin", "model.fp16.safetensors"}
    assert asked.count("GET some/plain/model.safetensors") == 1, "what is in the cache was fetched again"


def test_a_download_that_was_broken_off_goes_on(tmp_path: Path) -> None:
    """Of a model in many parts the index may not have come yet, so that nothing says which are missing."""
    model = save_model(tmp_path / "model", parts="100KB")
    index = json.loads((model / "model.safetensors.index.json").read_text())
    here = tmp_path / "home" / "hub" / "models--some--model"
    (here / "refs").mkdir(parents=True)
    (here / "refs" / "main").write_text(REVISION)
    (here / "snapshots" / REVISION).mkdir(parents=True)
    for name in ("config.json", min(index["weight_map"].values())):
        shutil.copy(model / name, here / "snapshots" / REVISION)
    with hub({"some/model": model}) as (address, asked):
        assert opened(tmp_path / "home", "some/model", HF_ENDPOINT=address) == ["some/model GPT2LMHeadModel"]
    assert "GET some/model/model.safetensors.index.json" in asked
