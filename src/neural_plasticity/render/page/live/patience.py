"""How long, and with how much memory, the server waits for whoever reads slowly or not at all."""

from __future__ import annotations

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from neural_plasticity.render.page.live.guard import refusal

PART_BYTES = 65_536  # handed to a connection at once; the rest of an answer is shared by all who wait for it
SEND_SECONDS = 30.0  # for one part: whoever takes longer is let go, and may come again
MOST_AT_ONCE = 500  # requests, streams among them: each takes a connection, and a process has about 1,000


class Patience:
    """Middleware: answers go out in parts, none is waited for without end, and there are not too many at once."""

    def __init__(self, app: ASGIApp, seconds: float = SEND_SECONDS, most: int = MOST_AT_ONCE) -> None:
        self.app = app
        self.answering = 0
        self._seconds = seconds
        self._most = most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self.app
        if self.answering >= self._most and scope["type"] == "http":
            app = refusal(503, f"{self._most} requests are being answered; try again in a moment.")
        self.answering += 1
        given_up = False

        async def patiently(message: Message) -> None:
            nonlocal given_up
            try:
                async with asyncio.timeout(self._seconds):
                    await send(message)
            except TimeoutError:
                given_up = True
                raise

        async def in_parts(message: Message) -> None:
            body = message.get("body", b"")
            for start in range(0, max(len(body) - PART_BYTES, 0), PART_BYTES):
                part = {"type": message["type"], "body": body[start : start + PART_BYTES], "more_body": True}
                await patiently(part)
            last = (len(body) - 1) // PART_BYTES * PART_BYTES if len(body) > PART_BYTES else 0
            await patiently({**message, "body": body[last:]} if last else message)

        try:
            await app(scope, receive, in_parts)
        except BaseException as error:
            # uvicorn closes the connection of an answer that was not finished, which is all there is to do.
            if not (given_up and _only_timeouts(error)):
                raise
        finally:
            self.answering -= 1


def _only_timeouts(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return all(_only_timeouts(one) for one in error.exceptions)
    return isinstance(error, TimeoutError)
