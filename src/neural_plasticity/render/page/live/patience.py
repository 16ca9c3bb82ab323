"""How long, and with how much memory, the server waits for whoever reads slowly, or has left."""

from __future__ import annotations

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from neural_plasticity.render.page.live.guard import refusal

PART_BYTES = 65_536  # handed to a connection at once; the rest of an answer is shared by all who wait for it
SEND_SECONDS = 30.0  # for one part: whoever takes longer is let go, and may come again
MOST_AT_ONCE = 500  # requests, streams among them: each takes a connection, and a process has about 1,000


class Patience:
    """Middleware: answers go out in parts, none is waited for without end, and there are not too many at once.

    Nothing is done any more for whoever has left.
    """

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
                await asyncio.sleep(0)  # others have their turn, and who has left is noticed
            last = (len(body) - 1) // PART_BYTES * PART_BYTES if len(body) > PART_BYTES else 0
            await patiently({**message, "body": body[last:]} if last else message)

        try:
            await _while_they_wait(app, scope, receive, in_parts)
        except BaseException as error:
            # uvicorn closes the connection of an answer that was not finished, which is all there is to do.
            if not (given_up and _only_timeouts(error)):
                raise
        finally:
            self.answering -= 1


async def _while_they_wait(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Call ``app`` until it has answered, or until whoever asked has left. Requests here have no body that is read."""
    gone = asyncio.Event()

    async def left() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        gone.set()

    async def received() -> Message:
        await gone.wait()
        return {"type": "http.disconnect"}

    answering, leaving = asyncio.ensure_future(app(scope, received, send)), asyncio.ensure_future(left())
    try:
        await asyncio.wait((answering, leaving), return_when=asyncio.FIRST_COMPLETED)
    finally:
        leaving.cancel()
        if not answering.done():
            answering.cancel()
            await asyncio.wait([answering])
    if not answering.cancelled():
        await answering  # raises what it raised


def _only_timeouts(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return all(_only_timeouts(one) for one in error.exceptions)
    return isinstance(error, TimeoutError)
