"""Those who come to the live server at once, in one process of their own: viewers, slow readers, those who leave.

python benchmarks/_server_crowd.py PORT CROWD.json SEEN.csv     # until a line on standard input
"""

from __future__ import annotations

import asyncio
import contextlib
import csv
import json
import socket
import struct
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass
from pathlib import Path

PATHS = ("/", "/api/runs/stream", "/api/runs/document", "/api/runs/updates", "/api/runs", "/", "/api/runs/stream",
         "/api/runs/export")  # fmt: skip
SECTIONS = "overview,timeline,curves"
MOST_LEAVING = 200  # at once
SLOW_BUFFER = 4_096  # bytes that a slow reader's own system takes for it
Seen = list[tuple[int, int, float]]


@dataclass(frozen=True)
class Crowd:
    """How many of each, at the same time; ``aborts`` a second, in four ways in turn; ``fetches`` a second, of all."""

    streams: int = 160
    polls: int = 40
    slow: int = 10
    aborts: float = 150.0
    fetches: float = 4.0

    def save(self, path: Path) -> Path:
        path.write_text(json.dumps(asdict(self)))
        return path

    @property
    def viewers(self) -> int:
        return self.streams + self.polls


def request(port: int, path: str, keep: bool = True) -> bytes:
    """A request as bytes."""
    connection = "keep-alive" if keep else "close"
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: {connection}\r\n\r\n".encode()


async def stream(port: int, number: int, after: int, seen: Seen) -> None:
    """One who follows by server-sent events, and comes back with the last number where the stream ends."""
    while True:
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**24)
            writer.write(request(port, f"/api/runs/stream?after={after}"))
            with contextlib.closing(writer):
                while line := await reader.readline():
                    if line.startswith(b"id: "):
                        after = int(line[4:])
                        seen.append((number, after, time.time()))
        await asyncio.sleep(0.2)


async def poll(port: int, number: int, after: int, seen: Seen) -> None:
    """One behind a proxy that holds streams up: asks each second, on one connection."""
    await asyncio.sleep(number % 40 / 40)
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**24)
    while True:
        writer.write(request(port, f"/api/runs/updates?after={after}"))
        length = 0
        while (line := await reader.readline()) not in (b"\r\n", b""):
            if line.lower().startswith(b"content-length:"):
                length = int(line.partition(b":")[2])
        after = json.loads(await reader.readexactly(length))["seq"]
        seen.append((number, after, time.time()))
        await asyncio.sleep(1)


async def slow(port: int) -> None:
    """One who takes a page at a byte a second; let go by the server, it comes again."""
    loop = asyncio.get_running_loop()
    while True:
        with socket.socket() as one, contextlib.suppress(OSError):
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SLOW_BUFFER)
            one.setblocking(False)
            await loop.sock_connect(one, ("127.0.0.1", port))
            await loop.sock_sendall(one, request(port, "/api/runs/export"))
            while await loop.sock_recv(one, 1):
                await asyncio.sleep(1)
        await asyncio.sleep(0.5)


async def each(a_second: float) -> AsyncIterator[int]:
    """Numbers, so many a second, without making up for what could not be done in time more than tenfold."""
    began, number = time.perf_counter(), 0
    while a_second:
        due = (time.perf_counter() - began) * a_second
        for _ in range(min(10, int(due) - number)):
            yield number
            number += 1
        await asyncio.sleep(0.02)


async def leave(port: int, a_second: float, count: list[int]) -> None:
    """Those who reset the connection, many at once."""
    tasks: set[asyncio.Task[None]] = set()
    async for number in each(a_second):
        tasks = {one for one in tasks if not one.done()}
        if len(tasks) < MOST_LEAVING:
            tasks.add(asyncio.create_task(reset(port, number, count)))


async def reset(port: int, number: int, count: list[int]) -> None:
    """One who resets the connection: in mid-request, right after it, in mid-answer, or without having said a thing."""
    loop = asyncio.get_running_loop()
    whole = request(port, PATHS[number // 4 % len(PATHS)])
    with socket.socket() as one, contextlib.suppress(OSError):
        one.setblocking(False)
        await loop.sock_connect(one, ("127.0.0.1", port))
        await loop.sock_sendall(one, (whole[: 20 + number % 40], whole, whole, b"")[number % 4])
        if number % 4 == 2:
            await loop.sock_recv(one, 100)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        count[0] += 1


async def fetch(port: int, a_second: float) -> None:
    """Pages that fetch again what changed."""
    async for _ in each(a_second):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**24)
        with contextlib.closing(writer):
            writer.write(request(port, f"/api/runs/document?sections={SECTIONS}", keep=False))
            await reader.read()


async def come(port: int, crowd: Crowd, path: Path) -> None:
    """All of them, until a line on standard input, after one of ours when all have come.

    What each viewer was told, and when, goes to ``path``.
    """
    seen: Seen = []
    left = [0]
    everyone = [
        *(stream(port, number, 0, seen) for number in range(crowd.streams)),
        *(poll(port, crowd.streams + number, 0, seen) for number in range(crowd.polls)),
        *(slow(port) for _ in range(crowd.slow)),
        leave(port, crowd.aborts, left),
        fetch(port, crowd.fetches),
    ]
    tasks = [asyncio.create_task(one) for one in everyone]
    while len({number for number, *_ in seen}) < crowd.viewers:
        await asyncio.sleep(0.1)
    print("here", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    broken = [task.exception() for task in tasks if task.done() and not task.cancelled()]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(seen)
    print(json.dumps({"left": left[0], "broken": [repr(one) for one in broken]}), flush=True)


if __name__ == "__main__":
    asyncio.run(come(int(sys.argv[1]), Crowd(**json.loads(Path(sys.argv[2]).read_text())), Path(sys.argv[3])))
