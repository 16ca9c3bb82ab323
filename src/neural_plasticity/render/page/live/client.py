"""One who watches: a short queue of updates. Whoever reads too slowly is told to start afresh, and costs no memory."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator

HEARTBEAT_SECONDS = 10.0
HEARTBEAT = b": still here\n\n"
MOST_WAITING = 64
MOST_BYTES = 1_000_000


class Client:
    """A stream's end in the server: `push` from the follower, `messages` to the connection."""

    def __init__(self) -> None:
        self._waiting: deque[bytes] = deque()
        self._bytes = 0
        self._news = asyncio.Event()
        self._closed = False

    def push(self, message: bytes, otherwise: bytes) -> None:
        """Queue ``message``; where too much waits already, all of it is dropped for ``otherwise``."""
        if len(self._waiting) >= MOST_WAITING or self._bytes + len(message) > MOST_BYTES:
            self._waiting.clear()
            self._bytes = 0
            message = otherwise
        self._waiting.append(message)
        self._bytes += len(message)
        self._news.set()

    def close(self) -> None:
        """Nothing more will come: what waits is sent, then the stream ends."""
        self._closed = True
        self._news.set()

    async def messages(self, heartbeat: float = HEARTBEAT_SECONDS) -> AsyncIterator[bytes]:
        """Messages as they come, several at once where they waited; a heartbeat when there is none for a while."""
        while True:
            if self._waiting:
                message = b"".join(self._waiting)
                self._waiting.clear()
                self._bytes = 0
                yield message
                continue
            if self._closed:
                return
            self._news.clear()
            try:
                async with asyncio.timeout(heartbeat):
                    await self._news.wait()
            except TimeoutError:
                yield HEARTBEAT
