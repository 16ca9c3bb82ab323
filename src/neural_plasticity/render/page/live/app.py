"""The live server's addresses. Every answer is made of records that are only ever read."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from neural_plasticity.errors import InputError, NeuralPlasticityError, RecordError
from neural_plasticity.render.page.document import META, SECTIONS
from neural_plasticity.render.page.live.comparing import Comparisons
from neural_plasticity.render.page.live.guard import refusal
from neural_plasticity.render.page.live.registry import Registry, Watched
from neural_plasticity.render.page.live.runs import HERE
from neural_plasticity.render.page.live.shell import asset_of, shell
from neural_plasticity.render.page.packing import pack
from neural_plasticity.views import figures
from neural_plasticity.views.curves import curve
from neural_plasticity.views.happenings import raw_events

MOST_POINTS = 200_000
MOST_ROWS = 2_000
_LARGEST = 2**63 - 1
_LONGEST = 1_000  # characters of a name in a query
_STREAM = "text/event-stream"
_FOR_GOOD = "public, max-age=31536000, immutable"
_log = logging.getLogger(__name__)
Answer = Callable[[Request, Watched], Awaitable[Response]]


class BadQueryError(ValueError):
    """A query parameter that cannot be used; the message is for the reader."""


def make_app(registry: Registry) -> Starlette:
    """The application that shows the runs of ``registry``. It lets everybody in: `Guard` goes around it."""
    app = Starlette(
        routes=[
            Route("/", _first_page),
            Route("/run/{id:path}", _run_page),
            Route("/compare", _compare_page),
            Route("/assets/{file}", _asset),
            Route("/api/runs", _runs),
            Route("/api/compare", _compare),
            Route("/api/compare/export", _compare),
            *_of_a_run("document", _document),
            *_of_a_run("curve", _curve),
            *_of_a_run("events", _events),
            *_of_a_run("updates", _updates),
            *_of_a_run("stream", _stream),
            *_of_a_run("export", _export),
        ],
        exception_handlers={HTTPException: _http_error, NeuralPlasticityError: _told, Exception: _unforeseen},
    )
    app.state.registry = registry
    app.state.comparisons = Comparisons(registry.root)
    return app


def _of_a_run(what: str, answer: Answer) -> list[Route]:
    """Routes below ``/api/runs/ID/``; without ID too, as browsers leave out the ``.`` of the directory itself."""

    async def answered(request: Request) -> Response:
        registry: Registry = request.app.state.registry
        try:
            watched = await registry.open(request.path_params.get("id") or HERE)
        except RecordError as error:
            return refusal(404, str(error))
        try:
            return await answer(request, watched)
        except BadQueryError as error:
            return refusal(400, str(error))

    return [Route(f"/api/runs/{what}", answered), Route(f"/api/runs/{{id:path}}/{what}", answered)]


# Pages -----------------------------------------------------------------------------------------------------------


async def _first_page(request: Request) -> Response:
    registry: Registry = request.app.state.registry
    if await registry.is_one_run():
        return HTMLResponse(shell("./", HERE, "Neural Plasticity Dashboard"))
    return HTMLResponse(shell("./", None, "Runs · Neural Plasticity Dashboard"))


async def _run_page(request: Request) -> Response:
    run_id = request.path_params["id"] or HERE
    # From the address as it was written: a slash in an id is one as %2F, or it is part of the path.
    depth = request.scope["raw_path"].decode("latin-1").count("/") - 1
    title = f"{figures.shorten(figures.clean(run_id), 80)} · Neural Plasticity Dashboard"
    return HTMLResponse(shell("../" * depth, run_id, title))


async def _compare_page(_request: Request) -> Response:
    return HTMLResponse(shell("./", None, "Comparison · Neural Plasticity Dashboard", shows="comparison"))


async def _asset(request: Request) -> Response:
    found = asset_of(request.path_params["file"])
    if found is None:
        return refusal(404, "there is no such file.")
    return Response(found[0], headers={"Content-Type": found[1], "Cache-Control": _FOR_GOOD})


# Data ------------------------------------------------------------------------------------------------------------


async def _runs(request: Request) -> Response:
    registry: Registry = request.app.state.registry
    return JSONResponse([vars(entry) for entry in await registry.entries()])


async def _compare(request: Request) -> Response:
    comparisons: Comparisons = request.app.state.comparisons
    runs = request.query_params.getlist("run")
    try:
        if request.url.path.endswith("/export"):
            headers = {"Content-Disposition": 'attachment; filename="compare.html"'}
            return Response(await comparisons.page(runs), headers=headers, media_type="text/html")
        compared = await comparisons.of(runs)
    except InputError as error:
        return refusal(400, str(error))
    tag = f'"{compared.tag}"'
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers={"ETag": tag})
    answer = _packed(request, compared.plain, compared.gzipped)
    answer.headers["ETag"] = tag
    return answer


async def _document(request: Request, watched: Watched) -> Response:
    names = _text(request, "sections")
    wanted = None if names is None else [name for name in names.split(",") if name and name != META]
    for name in wanted or ():
        if name not in SECTIONS:
            raise BadQueryError(f"sections: {figures.shorten(name, 40)!r} is none; expected {', '.join(SECTIONS)}.")
    answer = await watched.documents.packed(wanted)
    return _packed(request, answer.plain, answer.gzipped)


async def _curve(request: Request, watched: Watched) -> Response:
    name = _text(request, "name")
    if name is None:
        raise BadQueryError("name: expected a metric's name.")
    first, last = _number(request, "first", -_LARGEST), _number(request, "last", -_LARGEST)
    most = _number(request, "most", 1, MOST_POINTS)
    try:
        found = await watched.documents.query(lambda run: pack(curve(run, name, first, last, most or 4_000)))
    except RecordError as error:
        return refusal(404, str(error))
    return _packed(request, found)


async def _events(request: Request, watched: Watched) -> Response:
    before, most = _number(request, "before"), _number(request, "most", 1, MOST_ROWS)
    kind = _text(request, "kind") or None
    return _packed(request, await watched.documents.query(lambda run: pack(raw_events(run, most or 200, before, kind))))


async def _updates(request: Request, watched: Watched) -> Response:
    told = await watched.follower.since(_number(request, "after") or 0)
    return Response(told.as_json(), media_type="application/json")


async def _stream(request: Request, watched: Watched) -> Response:
    # The browser names the last event that it has seen when it connects again by itself.
    seen = request.headers.get("last-event-id")
    after = _number(request, "after") or 0
    if seen:
        after = _as_number("Last-Event-ID", seen, 0, _LARGEST)
    if request.method == "HEAD":  # its body would never end, nor be sent
        return Response(media_type=_STREAM)
    messages = watched.follower.stream(after)
    first = await anext(messages)  # a damaged record is said with a status, which comes before the body

    async def told() -> AsyncGenerator[bytes, None]:
        async with aclosing(messages):
            yield first
            async for message in messages:
                yield message

    return _Stream(told(), headers={"X-Accel-Buffering": "no"}, media_type=_STREAM)


class _Stream(StreamingResponse):
    """Without a task of its own that looks whether the reader has left: `Patience` ends it then."""

    body_iterator: AsyncGenerator[bytes, None]

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        async with aclosing(self.body_iterator):
            await self.stream_response(send)


async def _export(_request: Request, watched: Watched) -> Response:
    made = await watched.documents.file()
    name = figures.clean(made.name or "run")
    kept = "".join(one if one.isalnum() or one in "-_." else "-" for one in name)[:80].strip("-.")
    file = f"{kept or 'run'}.html"
    plain = file.encode("ascii", "replace").decode().replace("?", "-")
    disposition = f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(file)}"
    return Response(made.page, headers={"Content-Disposition": disposition}, media_type="text/html")


def _packed(request: Request, plain: bytes, gzipped: bytes | None = None) -> Response:
    headers = {"Vary": "Accept-Encoding"}
    if gzipped is not None and "gzip" in request.headers.get("accept-encoding", ""):
        return Response(gzipped, headers={**headers, "Content-Encoding": "gzip"}, media_type="application/octet-stream")
    return Response(plain, headers=headers, media_type="application/octet-stream")


# What was asked ---------------------------------------------------------------------------------------------------


def _text(request: Request, name: str) -> str | None:
    value = request.query_params.get(name)
    if value is not None and len(value) > _LONGEST:
        raise BadQueryError(f"{name}: expected at most {_LONGEST} characters, got {len(value)}.")
    return value


def _number(request: Request, name: str, least: int = 0, most: int = _LARGEST) -> int | None:
    value = _text(request, name)
    return None if not value else _as_number(name, value, least, most)


def _as_number(name: str, text: str, least: int, most: int) -> int:
    try:
        value = int(text) if len(text) <= 20 and text.isascii() else None
    except ValueError:
        value = None
    if value is None or not least <= value <= most:
        raise BadQueryError(f"{name}: expected a whole number from {least} to {most}, got {text[:40]!r}.")
    return value


async def _http_error(_request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    return refusal(status, "there is nothing at this address." if status == 404 else str(error))


async def _told(_request: Request, error: Exception) -> Response:
    return refusal(422 if isinstance(error, InputError) else 500, str(error))  # a damaged record is no fault of ours


async def _unforeseen(_request: Request, error: Exception) -> Response:
    _log.exception("the live page met an error", exc_info=error)
    return refusal(500, f"{type(error).__name__}: the server met an error that it did not expect.")
