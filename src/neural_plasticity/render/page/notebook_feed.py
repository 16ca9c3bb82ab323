"""What a cell is told about a run, by the same follower and builders as the live server's, from a thread of its own.

While a cell computes, the kernel hears nothing: so nothing here waits for the page to ask. What is new is pushed as it
comes, with the sections that it changes; until a page says hello also a whole document at times, for one that opens.
"""

from __future__ import annotations

import asyncio
import gzip
import threading
import time
from collections.abc import Callable, Coroutine, Mapping
from contextvars import Context
from functools import cache, partial
from pathlib import Path
from typing import Any, Protocol

from neural_plasticity.errors import RecordError
from neural_plasticity.events import RunEnded
from neural_plasticity.record.schema import record_path
from neural_plasticity.render.page.document import META, SECTIONS
from neural_plasticity.render.page.live.columns import LiveSnapshot
from neural_plasticity.render.page.live.documents import Documents
from neural_plasticity.render.page.live.follower import Follower
from neural_plasticity.render.page.live.updates import Update
from neural_plasticity.render.page.packing import pack, unpack
from neural_plasticity.views.curves import curve
from neural_plasticity.views.happenings import raw_events

TICK_SECONDS = 0.5
BEAT_SECONDS = 10.0  # a sign of life at least this often; the page calls the kernel lost after two and a half
SNAPSHOT_SECONDS = 3.0  # between whole documents, for pages that cannot say yet that they are there,
SHARE = 20  # and this many times as long as one takes
COPY_SECONDS = 120.0  # between static copies while a run goes on
MOST_POINTS = 200_000
MOST_ROWS = 2_000
_ENDS = tuple(name for name, section in SECTIONS.items() if RunEnded.kind in section.kinds)


class Cell(Protocol):
    """Where news goes: the widget."""

    def snapshot(self, packed: bytes) -> None:
        """A whole document, gzipped."""

    def tell(self, message: dict[str, Any], buffer: bytes | None = None) -> None:
        """A message to every page that shows the widget."""

    def copy(self) -> None:
        """The static copy is to be made again; may take its time."""


@cache
def background() -> asyncio.AbstractEventLoop:
    """The event loop of this process's cells, in a thread that never keeps Python from exiting."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="notebook-cells", daemon=True).start()
    return loop


def _spawn(coroutine: Coroutine[Any, Any, None]) -> None:
    """Run something in the background, in no cell's name.

    A kernel notes in the context which cell it runs; what carries an earlier one's name is lost on some front ends.
    """

    def begin() -> None:
        task = loop.create_task(coroutine)
        _tasks.add(task)
        task.add_done_callback(_tasks.discard)

    loop = background()
    loop.call_soon_threadsafe(begin, context=Context())


_tasks: set[asyncio.Task[None]] = set()  # the loop alone would let them be collected


class Feed:
    """Follows one run for one cell, from `start` to `close`.

    Raises:
        RecordError: there is no record, or it cannot be read.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = record_path(path)
        self._seq = 0  # what the cell was told
        self._state = ""
        self._pages: set[str] = set()  # those that said hello and not goodbye
        self._greeted = False
        self._wanted = False  # a page has missed something
        self._whole_seq = 0
        self._whole_next = 0.0
        self._copied = (0, "")
        self._copied_at = time.monotonic()
        self._task: asyncio.Task[None] | None = None
        self._open()

    def _open(self) -> None:
        self._follower = Follower(self.path, {name: section.kinds for name, section in SECTIONS.items()})
        self._documents = Documents(self._follower)

    # Called from the kernel's thread ------------------------------------------------------------------------------

    def first(self) -> bytes:
        """The document with which the cell begins, gzipped."""
        packed, self._seq, self._state = asyncio.run_coroutine_threadsafe(self._whole(), background()).result()
        self._copied = self._seq, self._state
        return packed

    def start(self, cell: Callable[[], Cell | None]) -> None:
        """Push news to ``cell()`` until that is None."""
        _spawn(self._follow(cell))

    def hello(self, page: str, after: int) -> None:
        """A page is there, and knows everything up to event ``after``."""
        self._pages.add(page)
        self._greeted = True
        self._wanted = self._wanted or after < self._seq

    def bye(self, page: str) -> None:
        """A page has gone. Once all have, nothing is pushed until another one says hello."""
        self._pages.discard(page)

    def ask(self, cell: Cell, number: str, path: str, query: Mapping[str, Any]) -> None:
        """Answer a page's question as soon as it is worked out."""
        _spawn(self._answer(cell, number, path, query))

    def close(self) -> None:
        """Stop following."""
        background().call_soon_threadsafe(self._stop)

    def _stop(self) -> None:
        if self._task is not None:
            self._task.cancel()

    # In the background --------------------------------------------------------------------------------------------

    async def _follow(self, cell: Callable[[], Cell | None]) -> None:
        self._task = asyncio.current_task()
        beat = time.monotonic()
        while (there := cell()) is not None:
            try:
                spoke = await self._tick(there)
            except RecordError:  # deleted, or made anew a moment ago: the next look will tell
                spoke = False
            if spoke or time.monotonic() - beat >= BEAT_SECONDS:
                beat = time.monotonic()
                if not spoke:
                    there.tell({"type": "beat"})
            del there  # a widget that nobody holds any more may go
            await asyncio.sleep(TICK_SECONDS)

    async def _tick(self, cell: Cell) -> bool:
        """Tell what is new; True when something was said."""
        if self._follower.replaced():
            if not self.path.is_file():
                return False
            self._open()
            return await self._start_again(cell)
        before, state = self._seq, self._state
        told = await self._follower.since(before)
        if told.reset:
            return await self._start_again(cell)
        if self._greeted and not self._pages:
            self._seq, self._state = told.seq, told.state  # nobody looks; the copy is still kept
        elif told.seq != before or told.state != state:
            await self._push(cell, before, told if told.state == state else told.with_changed(_ENDS))
        if self._wanted or (not self._greeted and self._whole_seq < self._seq and time.monotonic() > self._whole_next):
            cell.snapshot((await self._whole())[0])
        await self._copy(cell)
        return self._seq != before or self._state != state

    async def _start_again(self, cell: Cell) -> bool:
        """What the pages have is no longer so: a new attempt, or another record in this one's place."""
        packed, self._seq, self._state = await self._whole()
        cell.tell({"type": "reset"})
        cell.snapshot(packed)
        return True

    async def _copy(self, cell: Cell) -> None:
        """What a saved notebook shows is as the run ended, or not much older than its end would be."""
        due = COPY_SECONDS if self._state == "running" else 0.0
        if (self._seq, self._state) != self._copied and time.monotonic() - self._copied_at >= due:
            self._copied, self._copied_at = (self._seq, self._state), time.monotonic()
            await asyncio.to_thread(cell.copy)

    async def _push(self, cell: Cell, after: int, told: Update) -> None:
        sections = (await self._documents.packed(told.changed)).gzipped if told.changed else None
        self._seq, self._state = told.seq, told.state
        cell.tell({"type": "update", "after": after, "update": _as_message(told)}, sections)

    async def _whole(self) -> tuple[bytes, int, str]:
        """The document, the number of the last event in it, and the run's state."""
        began = time.monotonic()
        answer = await self._documents.packed(None)
        # By now the follower may have gone on, for somebody's question: news go on from what is in the document.
        self._whole_seq = int(unpack(answer.plain)[META]["seq"])
        self._whole_next = time.monotonic() + max(SNAPSHOT_SECONDS, SHARE * (time.monotonic() - began))
        self._wanted = False
        return answer.gzipped, self._whole_seq, self._follower.state

    async def _answer(self, cell: Cell, number: str, path: str, query: Mapping[str, Any]) -> None:
        try:
            packed = await self._asked(path, query)
        except Exception as error:  # whatever it is, the page that asked waits for an answer
            cell.tell({"type": "answer", "id": number, "error": str(error) or type(error).__name__})
        else:
            cell.tell({"type": "answer", "id": number}, packed)

    async def _asked(self, path: str, query: Mapping[str, Any]) -> bytes:
        if path == "document":
            names = str(query.get("sections") or "")
            return (await self._documents.packed(names.split(",") if names else None)).gzipped
        if path == "curve":
            ask: Callable[[LiveSnapshot], Any] = partial(
                curve,
                name=str(query.get("name")),
                first=_number(query, "first"),
                last=_number(query, "last"),
                most=min(_number(query, "most") or 4_000, MOST_POINTS),
            )
        elif path == "events":
            kind = query.get("kind")
            ask = partial(
                raw_events,
                most=min(_number(query, "most") or 200, MOST_ROWS),
                before=_number(query, "before"),
                kind=str(kind) if kind else None,
            )
        else:
            raise RecordError(f"{path!r}: expected document, curve or events.")
        return gzip.compress(pack(await self._documents.query(ask)), 4, mtime=0)


def _number(query: Mapping[str, Any], name: str) -> int | None:
    value = query.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not -(2**53) < value < 2**53:
        raise RecordError(f"{name}: expected a whole number.")
    return int(value)


def _as_message(told: Update) -> dict[str, Any]:
    return {**vars(told), "changed": list(told.changed)}
