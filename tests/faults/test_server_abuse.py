"""The live server under abuse: many viewers, slow ones, aborted connections, and an hour of events in seconds."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import socket
import struct
import sys
import time
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar
from urllib.request import urlopen

import psutil
import pytest

from neural_plasticity.events import RunStarted, StepMetrics
from neural_plasticity.record import RecordWriter
from neural_plasticity.render.page.live import connection
from neural_plasticity.render.page.live.documents import Documents
from neural_plasticity.render.page.live.follower import Follower
from neural_plasticity.render.page.live.patience import PART_BYTES, Patience
from neural_plasticity.render.page.live.process import ServerProcess
from neural_plasticity.render.page.live.server import serve_in_thread
from neural_plasticity.render.page.live.waiting import to_its_end

T = TypeVar("T")
VIEWERS, ABORTED, BURSTS, EVENTS = 200, 1_500, 12, 300  # events of an hour: 3,600, one each second
MEMORY = 300_000 * VIEWERS  # bytes that the server may grow by; what it has freed, Python and C keep for the next
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="file descriptors and resets as POSIX has them")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[RecordWriter, int, psutil.Process]]:
    """A run that is written to, the port of a server of its own process, and that process."""
    addresses: list[str] = []
    with RecordWriter.create(tmp_path / "run") as writer:
        writer.append(RunStarted(name="x", shape=(2, 2), config={}))
        with ServerProcess(tmp_path / "run", addresses.append, pytest.fail) as process:
            for _ in range(1_200):
                if addresses:
                    break
                time.sleep(0.05)
            assert addresses, "the server did not start"
            yield writer, int(addresses[0].rsplit(":", 1)[1].strip("/")), psutil.Process(process._process.pid)


def played(coroutine: Coroutine[Any, Any, T]) -> T:
    """What it returns, in a thread of its own: the browser of other tests may have a loop going in this one."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, coroutine).result()


def request(port: int, path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode()


def answered(port: int) -> dict[str, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    with contextlib.closing(connection):
        connection.request("GET", "/api/runs/updates?after=0")
        return dict(json.loads(connection.getresponse().read()))


def test_viewers_slow_readers_and_those_who_leave_cost_no_memory(
    server: tuple[RecordWriter, int, psutil.Process],
) -> None:
    writer, port, process = server
    for path in ("/", "/api/runs/document", "/api/runs/export"):  # what a server loads at first use
        with urlopen(f"http://127.0.0.1:{port}{path}", timeout=120) as answer:
            answer.read()
    before = process.memory_info().rss
    seen = played(_watched_by_many(writer, port))
    assert len(seen) == VIEWERS
    assert set(seen) == {writer.last_seq}, "a viewer has not been told the last event"
    assert answered(port)["seq"] == writer.last_seq
    grown = process.memory_info().rss - before
    assert grown < MEMORY, f"the server grew by {grown / 1e6:.0f} MB"
    end = time.monotonic() + 20
    while (connections := process.num_fds()) > 60 and time.monotonic() < end:
        time.sleep(0.1)
    assert connections <= 60, "connections of those who left are still open"


async def _watched_by_many(writer: RecordWriter, port: int) -> list[int]:
    """The last event that each viewer was told, while an hour's events come, slow readers hang on and others abort."""
    streams = [await asyncio.open_connection("127.0.0.1", port) for _ in range(VIEWERS)]
    for _, sending in streams:
        sending.write(request(port, "/api/runs/stream?after=0"))
    slow = [socket.create_connection(("127.0.0.1", port)) for _ in range(10)]
    for one in slow:
        one.sendall(request(port, "/api/runs/export"))  # and never reads
    last = asyncio.get_running_loop().create_future()
    viewers = [asyncio.create_task(_told(reading, last)) for reading, _ in streams]
    for burst in range(BURSTS):
        steps = range(burst * EVENTS, (burst + 1) * EVENTS)
        writer.append_many(StepMetrics(step=step, metrics={"loss": 1.0 / (step + 1)}) for step in steps)
        await asyncio.to_thread(_abort, port, ABORTED // BURSTS)
    last.set_result(writer.last_seq)
    writer.append(StepMetrics(step=BURSTS * EVENTS, metrics={"loss": 0.0}))
    found = await asyncio.wait_for(asyncio.gather(*viewers), 120)
    for _, sending in streams:
        sending.close()
    for one in slow:
        one.close()
    return found


async def _told(reading: asyncio.StreamReader, last: asyncio.Future[int]) -> int:
    while True:
        line = await reading.readline()
        if not line:
            return -1
        if line.startswith(b"id: ") and last.done() and int(line[4:]) > last.result():
            return int(line[4:])


def _abort(port: int, count: int) -> None:
    """So many who ask and reset the connection before the answer."""
    for number in range(count):
        with socket.create_connection(("127.0.0.1", port)) as one:
            one.sendall(request(port, ("/", "/api/runs/stream", "/api/runs/document")[number % 3])[: 20 + number % 80])
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


# Who has left, and who says nothing -----------------------------------------------------------------------------


def test_who_asks_for_nothing_or_not_to_the_end_is_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "ASK_SECONDS", 0.3)
    with serve_in_thread(tmp_path) as server:
        for whole, rest in ((b"", b""), (b"", b"GET /"), (request(server.port, "/api/runs"), b"GET /")):
            with socket.create_connection(("127.0.0.1", server.port), timeout=20) as one:
                one.sendall(whole)
                while whole and b"[]" not in one.recv(4_096):
                    pass
                one.sendall(rest)
                with contextlib.suppress(ConnectionResetError):
                    while one.recv(4_096):
                        pass  # until the server closes it


def test_connections_that_say_nothing_leave_room_for_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "MOST_CONNECTIONS", 4)
    with serve_in_thread(tmp_path) as server, contextlib.ExitStack() as held:
        for _ in range(12):
            held.enter_context(socket.create_connection(("127.0.0.1", server.port)))
        for _ in range(20):  # one of those that have just come may have to go
            with contextlib.suppress(OSError):
                with urlopen(f"http://127.0.0.1:{server.port}/api/runs", timeout=20) as answer:
                    assert json.loads(answer.read()) == []
                return
    pytest.fail("nobody is answered while others hold connections")


def test_who_has_asked_stays_though_a_crowd_came_before_it_was_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = connection.PatientProtocol.connection_made

    def slowly(self: connection.PatientProtocol, transport: asyncio.Transport) -> None:
        time.sleep(0.03)  # as on a machine that does something else: many are there before the first one is read
        made(self, transport)

    monkeypatch.setattr(connection, "MOST_CONNECTIONS", 8)
    monkeypatch.setattr(connection.PatientProtocol, "connection_made", slowly)
    with serve_in_thread(tmp_path) as server, contextlib.ExitStack() as held:
        come = []
        for number in range(18):
            come.append(held.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=20)))
            if number < 6:
                come[-1].sendall(request(server.port, "/api/runs"))
        for one in come[:6]:
            answer = b""
            while not answer.endswith(b"[]") and (part := one.recv(4_096)):
                answer += part
            assert answer.endswith(b"[]"), "closed before it was answered"


def test_nothing_is_done_any_more_for_whoever_has_left() -> None:
    done: list[str] = []

    async def app(_scope: Any, _receive: Any, _send: Any) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            done.append("ended")

    async def leave() -> dict[str, str]:
        return {"type": "http.disconnect"}

    async def ask() -> None:
        async with asyncio.timeout(20):
            await Patience(app)(SCOPE, leave, leave)

    played(ask())
    assert done == ["ended"]


def test_a_lock_stays_shut_until_the_thread_behind_it_is_done() -> None:
    order: list[str] = []

    async def work(turn: asyncio.Lock, name: str) -> None:
        async with turn:
            await to_its_end(asyncio.to_thread(lambda: (time.sleep(0.1), order.append(name))))

    async def ask() -> None:
        turn = asyncio.Lock()
        first = asyncio.create_task(work(turn, "of who left"))
        await asyncio.sleep(0.02)
        second = asyncio.create_task(work(turn, "of who stayed"))
        first.cancel()
        await asyncio.wait([first, second])
        assert first.cancelled()

    played(ask())
    assert order == ["of who left", "of who stayed"]


def test_who_waits_shares_one_look_and_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    monkeypatch.setattr("neural_plasticity.render.page.render_page", lambda run: made.append(run.last_seq) or "page")
    looks: list[int] = []

    async def ask(writer: RecordWriter) -> None:
        follower = Follower(tmp_path / "run.sqlite", {})
        look = follower._look
        monkeypatch.setattr(follower, "_look", lambda: (time.sleep(0.05), looks.append(1), look())[2])
        documents = Documents(follower)

        async def one(after: float) -> None:
            await asyncio.sleep(after)
            told = writer.append(StepMetrics(step=1, metrics={"loss": 1.0}))
            assert (await documents.file()).seq >= told  # never older than the request

        await asyncio.gather(*(one(number / 500) for number in range(40)))

    with RecordWriter.create(tmp_path) as writer:
        writer.append(RunStarted(name="x", shape=(2, 2), config={}))
        played(ask(writer))
    assert len(looks) < 20
    assert len(made) < 20
    assert made == sorted(set(made))


SCOPE = {"type": "http", "method": "GET", "path": "/", "headers": []}


async def _nothing() -> Any:
    await asyncio.sleep(60)


def test_a_large_answer_goes_out_in_parts_and_nobody_is_waited_for_without_end() -> None:
    body = bytes(range(256)) * 1_000

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})

    async def ask(seconds: float) -> list[dict[str, Any]]:
        parts: list[dict[str, Any]] = []

        async def send(message: Any) -> None:
            if len(parts) > 1:
                await asyncio.sleep(seconds)
            parts.append(message)

        patience = Patience(app, seconds=0.2)
        await patience(SCOPE, _nothing, send)
        assert patience.answering == 0
        return parts[1:]

    whole = played(ask(0.0))
    assert b"".join(part["body"] for part in whole) == body
    assert [part.get("more_body", False) for part in whole] == [True, True, True, False]
    assert max(len(part["body"]) for part in whole) == PART_BYTES
    assert len(played(ask(5.0))) == 1, "a reader that takes no more was waited for"


def test_too_many_at_once_are_told_so() -> None:
    async def app(_scope: Any, _receive: Any, _send: Any) -> None:
        raise AssertionError("not reached")

    async def ask() -> list[Any]:
        said: list[Any] = []

        async def send(message: Any) -> None:
            said.append(message)

        await Patience(app, most=0)(SCOPE, _nothing, send)
        return said

    start, body = played(ask())
    assert start["status"] == 503
    assert "try again" in json.loads(body["body"])["error"]
