"""A client of the live server, for tests: plain HTTP with nothing made nicer on the way, and server-sent events."""

from __future__ import annotations

import http.client
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from neural_plasticity.record import Run
from neural_plasticity.render.page.live.server import LiveServer
from neural_plasticity.render.page.packing import unpack

WORDS = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


@dataclass
class Reply:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def packed(self) -> Any:
        return unpack(self.body)


def ask(server: LiveServer, path: str, method: str = "GET", host: str | None = None, **headers: str) -> Reply:
    """One request, its path sent as it is; ``headers`` with _ for -."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    try:
        connection.putrequest(method, path, skip_host=host is not None, skip_accept_encoding=True)
        if host is not None:
            connection.putheader("Host", host)
        for name, value in headers.items():
            connection.putheader(name.replace("_", "-"), value)
        connection.endheaders()
        response = connection.getresponse()
        return Reply(response.status, response.headers, response.read())
    finally:
        connection.close()


class Stream:
    """Server-sent events of one run, from number ``after`` on."""

    def __init__(self, server: LiveServer, run: str = "", after: int = 0, resume: bool = False) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
        last = {"Last-Event-ID": str(after)} if resume else {}
        query = "" if resume else f"?after={after}"
        self._connection.request("GET", f"/api/runs/{run}{'/' if run else ''}stream{query}", headers=last)
        self._response = self._connection.getresponse()
        assert self._response.status == 200, self._response.read()

    def updates(self) -> Iterator[dict[str, Any]]:
        """Updates as they come, until the stream ends."""
        message: dict[str, str] = {}
        for raw in self._response:
            line = raw.decode().rstrip("\n")
            if line:
                name, _, value = line.partition(":")
                message[name] = value.strip()
            elif "data" in message:
                update = json.loads(message["data"])
                assert message["event"] == "update"
                assert int(message["id"]) == update["seq"]
                yield update
                message = {}

    def close(self) -> None:
        self._response.close()
        self._connection.close()

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@dataclass
class Picture:
    """What a client knows: points and the last event number; resets are counted, the test fetches the document."""

    seq: int = 0
    state: str = ""
    points: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    changed: set[str] = field(default_factory=set)
    resets: int = 0

    def take(self, update: Mapping[str, Any]) -> None:
        assert update["seq"] >= self.seq
        self.seq, self.state = update["seq"], update["state"]
        self.changed |= set(update["changed"])
        self.resets += update["reset"]
        for name, points in update["points"].items():
            values = [WORDS.get(value, value) for value in points["values"]]
            self.points.setdefault(name, []).extend(zip(points["steps"], values, strict=True))

    def start_from(self, document: Mapping[str, Any]) -> None:
        """As a page does that opens, or that was told to start afresh."""
        self.seq = document["meta"]["seq"]
        series = document["curves"]["series"]
        self.points = {
            one["name"]: list(zip(one["steps"].tolist(), one["values"].tolist(), strict=True)) for one in series
        }


def recorded_points(run: Run, attempt: Any = "latest") -> dict[str, list[tuple[int, float]]]:
    """All points of a record, as a `Picture` has them."""
    return {
        name: list(zip(*(column.tolist() for column in run.series(name, attempt)), strict=True))
        for name in run.metrics(attempt)
    }


def same(one: Mapping[str, list[tuple[int, float]]], other: Mapping[str, list[tuple[int, float]]]) -> bool:
    """Equal to the bit, NaN included."""
    return {name: repr(points) for name, points in one.items()} == {
        name: repr(points) for name, points in other.items()
    }
