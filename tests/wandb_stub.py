"""As much of a W&B server as `wandb` needs to log a run online: GraphQL, the stream of history, file uploads.

It keeps what it was sent. The protocol was learnt by listening to wandb 0.31 and is not documented anywhere.
"""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "0123456789" * 4
ENTITY = "someone"


@dataclass
class WandbStub:
    """What arrived: ``operations`` by name, ``runs`` as upserted, ``history`` rows, ``files`` by path."""

    url: str = ""
    operations: list[str] = field(default_factory=list)
    runs: list[dict[str, Any]] = field(default_factory=list)
    history: list[dict[str, Any]] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)
    keys: set[str] = field(default_factory=set)

    def graphql(self, request: dict[str, Any]) -> dict[str, Any]:
        """The answer to one operation; unknown ones get an error, as a server without that feature gives."""
        words = request["query"].replace("(", " ").replace("{", " ").split()
        name = words[1] if words[0] in ("mutation", "query") else words[0]
        self.operations.append(name)
        answer = _ANSWERS.get(name)
        if answer is None:
            return {"data": None, "errors": [{"message": f"no such operation: {name}"}]}
        return {"data": answer(self, request.get("variables") or {})}

    def _upsert(self, given: dict[str, Any]) -> dict[str, Any]:
        self.runs.append(given)
        project = {"id": "P", "name": given.get("project"), "entity": {"id": "E", "name": ENTITY}}
        return {
            "upsertBucket": {
                "bucket": {
                    "id": "B", "name": given["name"], "displayName": given.get("displayName"), "description": None,
                    "config": given.get("config") or "{}", "sweepName": None, "project": project, "historyLineCount": 0,
                },
                "inserted": True,
            }
        }  # fmt: skip

    def _create_files(self, given: dict[str, Any]) -> dict[str, Any]:
        files = [{"name": name, "uploadUrl": f"{self.url}/upload/{name}"} for name in given["files"]]
        return {"createRunFiles": {"runID": "B", "uploadHeaders": [], "files": files}}

    def _viewer(self, _given: dict[str, Any]) -> dict[str, Any]:
        teams: dict[str, Any] = {"edges": []}
        who = {"id": "V", "username": ENTITY, "entity": ENTITY, "flags": "{}", "teams": teams}
        return {"viewer": who}

    def _artifact(self, _given: dict[str, Any]) -> dict[str, Any]:
        """Every artifact (each table makes one) is there already: nothing of it need be uploaded."""
        sequence = {"id": "S", "latestArtifact": {"id": "A", "versionIndex": 0}}
        return {"createArtifact": {"artifact": {"id": "A", "state": "COMMITTED", "artifactSequence": sequence}}}

    def stream(self, sent: dict[str, Any]) -> None:
        """Rows of history as they come."""
        part = (sent.get("files") or {}).get("wandb-history.jsonl")
        if part:
            self.history.extend(json.loads(line) for line in part["content"])


_ANSWERS: dict[str, Callable[[WandbStub, dict[str, Any]], dict[str, Any]]] = {
    "UpsertBucket": WandbStub._upsert,
    "CreateRunFiles": WandbStub._create_files,
    "Viewer": WandbStub._viewer,
    "CreateArtifact": WandbStub._artifact,
}


class _Quiet(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is no event."""


def _handler(stub: WandbStub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            pass

        def _body(self) -> bytes:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            return gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body

        def _answer(self, value: Any, status: int = 200) -> None:
            body = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            self._answer({}, 200 if self.path == "/healthz" else 404)

        def do_POST(self) -> None:
            body = self._body()
            stub.keys.add(self.headers.get("Authorization", ""))
            if self.path == "/graphql":
                self._answer(stub.graphql(json.loads(body)))
            elif self.path.endswith("/file_stream"):
                stub.stream(json.loads(body))
                self._answer({"exitcode": None, "limits": {}})
            else:
                self._answer({}, 404)

        def do_PUT(self) -> None:
            stub.files[self.path.removeprefix("/upload/")] = self._body()
            self._answer({})

    return Handler


@contextmanager
def serving(make: Callable[[WandbStub], type[BaseHTTPRequestHandler]] = _handler) -> Iterator[WandbStub]:
    """A stub on a port of this machine."""
    stub = WandbStub()
    server = _Quiet(("127.0.0.1", 0), make(stub))
    server.daemon_threads = True
    stub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield stub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
