"""What a cell is told about a run, by the same follower and builders as the live server's, from a thread of its own.

While a cell computes, the kernel hears nothing: so nothing here waits for the page to ask. What is new is pushed as it
comes, with the sections that it changes; until a page says hello also a whole document at times, for one that opens.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Mapping
from contextvars import Context
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from neural_plasticity.errors import RecordError
from neural_plasticity.events import RunEnded
from neural_plasticity.record.schema import record_path
from neural_plasticity.render.page.document import META
from neural_plasticity.render.page.live.documents import Answer, Documents
from neural_plasticity.render.page.live.follower import Follower
from neural_plasticity.render.page.live.updates import Update
from neural_plasticity.render.page.notebook_answers import asked
from neural_plasticity.render.page.notebook_news import KINDS, Break, News
from neural_plasticity.render.page.packing import unpack

TICK_SECONDS = 0.5
BEAT_SECONDS = 10.0  # a sign of life at least this often; the page calls the kernel lost after two and a half
SNAPSHOT_SECONDS = 3.0  # between whole documents, for pages that cannot say yet that they are there,
SHARE = 20  # and this many times as long as one takes
COPY_SECONDS = 120.0  # between static copies while a run goes on
_ENDS = {name for name, kinds in KINDS.items() if RunEnded.kind in kinds}


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
        self._state = ""  # that the pages were told
        self._owed: set[str] = set()  # sections that have changed since they were sent
        self._pages: set[str] = set()  # those that said hello and not goodbye
        self._greeted = False
        self._wanted = False  # a page has missed something
        self._whole_seq = 0
        self._whole_next = 0.0
        self._beat_at = 0.0
        self._copied = (0, "")
        self._copied_at = time.monotonic()
        self._task: asyncio.Task[None] | None = None
        self._open()

    def _open(self) -> None:
        self._follower = Follower(self.path, KINDS)
        self._documents = Documents(self._follower)
        self._news = News(self.path)

    # Called from the kernel's thread ------------------------------------------------------------------------------

    def first(self) -> bytes:
        """The document with which the cell begins, gzipped."""
        packed = asyncio.run_coroutine_threadsafe(self._begin(), background()).result()
        self._copied = self._news.seq, self._state
        return packed

    def start(self, cell: Callable[[], Cell | None]) -> None:
        """Push news to ``cell()`` until that is None."""
        _spawn(self._follow(cell))

    def hello(self, page: str, after: int) -> None:
        """A page is there, and knows everything up to event ``after``."""
        self._pages.add(page)
        self._greeted = True
        self._beat_at = 0.0  # to say hello back
        self._wanted = self._wanted or after < self._news.seq

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
        while (there := cell()) is not None:
            try:
                spoke = await self._tick(there)
            except RecordError:  # deleted, or made anew a moment ago: the next look will tell
                spoke = False
            if not spoke and not self._unseen and time.monotonic() >= self._beat_at:
                there.tell({"type": "beat"})
                spoke = True
            if spoke:
                self._beat_at = time.monotonic() + BEAT_SECONDS
            del there  # a widget that nobody holds any more may go
            await asyncio.sleep(TICK_SECONDS)

    async def _tick(self, cell: Cell) -> bool:
        """Tell what is new; True when something was said."""
        before, state = self._news.seq, self._state
        try:
            if self._follower.replaced():
                if not self.path.is_file():
                    return False
                self._open()
                raise Break
            await self._follower.refresh()
            await self._read_to(self._follower.seq)
            if self._unseen:  # the copy is still kept
                self._news.take(self._follower.place, self._follower.seq)
                self._state = self._follower.state
            elif self._follower.seq != before or self._follower.state != state:
                await self._push(cell)
            late = self._whole_seq < self._news.seq and time.monotonic() > self._whole_next
            if self._wanted or (late and not self._greeted):
                await self._push_whole(cell)
        except Break:
            cell.tell({"type": "reset"})
            cell.snapshot(await self._begin())
        await self._copy(cell)
        return self._news.seq != before or self._state != state

    @property
    def _unseen(self) -> bool:
        """True once every page that said hello has gone."""
        return self._greeted and not self._pages

    async def _read_to(self, seq: int) -> None:
        await asyncio.to_thread(self._news.read_to, seq)

    async def _push(self, cell: Cell) -> None:
        """News with the sections that they change: both up to the same event, which may be later than the last look."""
        changed, seq, sections = self._news.changed | self._owed, self._follower.seq, None
        if self._follower.state != self._state:
            changed |= _ENDS
        if changed:
            answer = await self._documents.packed(sorted(changed))
            sections, seq = answer.gzipped, _seq_of(answer)
            await self._read_to(seq)
            self._owed = self._news.changed - changed
        self._state = self._follower.state
        self._tell(cell, *self._news.take(self._follower.place, seq, changed), sections)

    async def _push_whole(self, cell: Cell) -> None:
        answer = await self._whole()
        if self._whole_seq > self._news.seq:  # pages that begin with this document have to find an update from there on
            await self._read_to(self._whole_seq)
            self._owed |= self._news.changed
            self._tell(cell, *self._news.take(self._follower.place, self._whole_seq))
        cell.snapshot(answer.gzipped)

    @staticmethod
    def _tell(cell: Cell, after: int, told: Update, sections: bytes | None = None) -> None:
        cell.tell({"type": "update", "after": after, "update": {**vars(told), "changed": list(told.changed)}}, sections)

    async def _begin(self) -> bytes:
        """A whole document, and what follows starts there."""
        answer = await self._whole()
        self._news.start_at(unpack(answer.plain))
        self._owed, self._state = set(), self._follower.state
        return answer.gzipped

    async def _whole(self) -> Answer:
        began = time.monotonic()
        answer = await self._documents.packed(None)
        self._whole_seq = _seq_of(answer)
        self._whole_next = time.monotonic() + max(SNAPSHOT_SECONDS, SHARE * (time.monotonic() - began))
        self._wanted = False
        return answer

    async def _copy(self, cell: Cell) -> None:
        """What a saved notebook shows is as the run ended, or not much older than its end would be."""
        due = COPY_SECONDS if self._state == "running" else 0.0
        if (self._news.seq, self._state) != self._copied and time.monotonic() - self._copied_at >= due:
            self._copied, self._copied_at = (self._news.seq, self._state), time.monotonic()
            await asyncio.to_thread(cell.copy)

    async def _answer(self, cell: Cell, number: str, path: str, query: Mapping[str, Any]) -> None:
        try:
            packed = await asked(self._documents, path, query)
        except Exception as error:  # whatever it is, the page that asked waits for an answer
            cell.tell({"type": "answer", "id": number, "error": str(error) or type(error).__name__})
        else:
            cell.tell({"type": "answer", "id": number}, packed)


def _seq_of(answer: Answer) -> int:
    """The last event in a packed document: the follower may be further by now, for somebody's question."""
    return int(unpack(answer.plain)[META]["seq"])
