"""Requests as anybody might send them to the live server: every route, parameter, method and header, odd ones too.

Routes and the names of parameters come from the application itself: none can be forgotten.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import re
import shutil
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any
from urllib.parse import quote, unquote

from hypothesis import strategies as st
from starlette.routing import Route

from neural_plasticity.render.page.assets import SCRIPT, STYLE
from neural_plasticity.render.page.document import SECTIONS
from neural_plasticity.render.page.live import app as app_module
from neural_plasticity.render.page.live.app import make_app
from neural_plasticity.render.page.live.guard import Access, Guard, names_of
from neural_plasticity.render.page.live.patience import Patience
from neural_plasticity.render.page.live.registry import Registry
from neural_plasticity.render.page.live.shell import hashed
from tests.fuzz import records
from tests.fuzz.law import Broken, holds

TOKEN = "a-token-of-tests"
PROMISED = ("content-security-policy", "x-content-type-options", "referrer-policy", "cross-origin-resource-policy",
            "cache-control")  # fmt: skip
IDS = (
    "", "one", "one", "hurt", "hurt", "damaged", "empty", ".", "..", "../one", "one/..", "%2e%2e", "/etc/passwd",
    "..%2f..%2fetc%2fpasswd", "one%00", "one\\two", "%ff", "link", "%C3%A9", "a" * 3_000, "one/", "//one",
    "run.sqlite", "one/run.sqlite",
)  # fmt: skip
ASSETS = (hashed(SCRIPT), hashed(STYLE), "page.js", "../page.js", "%2e%2e/app.py", "")
ID = st.one_of(st.sampled_from(IDS), st.text(max_size=6).map(lambda text: quote(text.encode("utf-8", "surrogatepass"))))
ROUTES = tuple(route for route in make_app(Registry(Path("nowhere"))).routes if isinstance(route, Route))
PARTS: Mapping[str, st.SearchStrategy[str]] = {"id": ID, "file": st.sampled_from(ASSETS)}  # of a route's path


def paths_of(route: Route) -> st.SearchStrategy[str]:
    """Addresses of a route, with all kinds of things in the places of its parameters."""
    fixed, names = re.split(r"\{\w+(?::\w+)?\}", route.path), re.findall(r"\{(\w+)", route.path)
    return st.tuples(*(PARTS[name] for name in names)).map(
        lambda parts: fixed[0] + "".join(part + after for part, after in zip(parts, fixed[1:], strict=True))
    )


PATHS = st.one_of(
    *map(paths_of, ROUTES),
    *(paths_of(route) for route in ROUTES if "{id:path}/" in route.path),
    st.sampled_from(("//", "/%", "/api", "*", "/api/runs/one/nothing", "/api/runs/nothing", "/api/runs/")),
)
WORDS = ("", "0", "-1", "1", "17", "9223372036854775807", "9223372036854775808", "1e9", "nan", "loss", "x" * 1_001, "٣",
         "\x00", "%ff", "a,b", ",", "one", "..", "overview", ",".join(SECTIONS))  # fmt: skip
ASKING = r'(?:_number|_text|getlist|query_params.get)\((?:request, )?"(\w+)"'
ASKED = re.findall(ASKING, inspect.getsource(app_module))
NAMES = (*sorted(set(ASKED)), "token", "x", "")
QUERY = st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(WORDS) | st.text(max_size=5)), max_size=4)
HEADERS = st.just([]) | st.lists(
    st.tuples(
        st.sampled_from((
            "host", "origin", "sec-fetch-site", "sec-fetch-mode", "sec-fetch-dest", "cookie", "authorization", "range",
            "accept-encoding", "if-none-match", "last-event-id", "content-length", "accept", "x-forwarded-host",
        )),
        st.sampled_from((
            "localhost", "evil.example", "localhost:80", "http://localhost", "null", "cross-site", "navigate",
            "document", f"Bearer {TOKEN}", "npd-token=x", 'npd-token="', "bytes=0-1", "gzip", "*", "-1", "5", "9" * 30,
            "[::1", "a@b", "text/event-stream", "\xff\xfe", "",
        )),
    ),
    max_size=4,
)  # fmt: skip
METHODS = st.sampled_from((*["GET"] * 14, "HEAD", "HEAD", "OPTIONS", "POST", "PUT", "DELETE", "TRACE", "get", "X"))


SERVED = st.sampled_from(("runs", "runs", "runs", "token", "one"))


@cache
def _served() -> tuple[asyncio.Runner, Mapping[str, Guard]]:
    """A loop that stays, and the server's application: over good and damaged runs, open and with a token; over one."""
    root = Path(mkdtemp())
    for name, data in (("one", records.template()), ("damaged", records.template()[:9_000]), ("empty", b"")):
        (root / name).mkdir()
        (root / name / "run.sqlite").write_bytes(data)
    (root / "hurt").mkdir()
    shutil.copytree(root / "one", root / "other")
    records.Rows([("deep", 20), ("column", 9, 0, "x")]).apply(root / "hurt" / "run.sqlite")
    (root / "link").symlink_to("/etc")
    app, alone = Patience(make_app(Registry(root))), Patience(make_app(Registry(root / "one")))
    hosts = names_of("127.0.0.1")
    return asyncio.Runner(), {
        "runs": Guard(app, Access(hosts)),
        "token": Guard(app, Access(hosts, TOKEN)),
        "one": Guard(alone, Access(hosts)),
    }


def one_request(
    method: str, path: str, query: Sequence[tuple[str, str]], headers: Sequence[tuple[str, str]], served: str
) -> list[str]:
    """The law for the server: never a 500, the promised headers on every answer, a refusal is one line of JSON."""
    runner, apps = _served()
    text = "&".join(f"{quote(name)}={quote(value.encode('utf-8', 'surrogatepass'))}" for name, value in query)
    with holds() as outcome:
        status, answered, body = runner.run(_answer(apps[served], method, path, text, headers))
        outcome.append(f"status {status}")
        if status >= 500:
            raise Broken(f"status {status}: {body[:200]!r}")
        if missing := [name for name in PROMISED if name not in answered]:
            raise Broken(f"status {status} without {', '.join(missing)}")
        if answered.get("content-type") == "application/json" and status >= 400 and method != "HEAD":
            message = json.loads(body)["error"]
            if not message or "\n" in message:
                raise Broken(f"not one line: {message!r}")
    return outcome


async def _answer(
    app: Guard, method: str, path: str, query: str, headers: Sequence[tuple[str, str]]
) -> tuple[int, dict[str, str], bytes]:
    """One request as uvicorn hands it on; who asked leaves after the first part of a stream."""
    given = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
    if not any(name == b"host" for name, _ in given):
        given.append((b"host", b"localhost"))
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http",
        "path": unquote(path), "raw_path": path.encode("ascii"), "query_string": query.encode("ascii"),
        "headers": given, "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80), "root_path": "",
    }  # fmt: skip
    gone = asyncio.Event()
    started: dict[str, Any] = {}
    body = bytearray()

    async def receive() -> dict[str, Any]:
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            started.update(message)
        elif len(body) < 100_000:
            body.extend(message.get("body", b""))
        streaming = any(
            value.startswith(b"text/event-stream") for name, value in started["headers"] if name == b"content-type"
        )
        if streaming and message["type"] == "http.response.body":
            gone.set()

    async with asyncio.timeout(20):
        await app(scope, receive, send)
    told = {name.decode().lower(): value.decode("latin-1") for name, value in started["headers"]}
    return started["status"], told, bytes(body)
