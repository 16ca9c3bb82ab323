"""Sections of one run's document, built when they are asked for, once for everybody, off the event loop.

A section is built again only when an event of its kinds has come. All sections of an answer, and ``meta.seq`` with
them, are as of one event, so that a client can go on from there with updates.
"""

from __future__ import annotations

import asyncio
import gzip
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from neural_plasticity.record import open_run
from neural_plasticity.render.page import document as pages
from neural_plasticity.render.page.live.columns import Columns, LiveSnapshot
from neural_plasticity.render.page.live.follower import Follower
from neural_plasticity.render.page.live.waiting import to_its_end
from neural_plasticity.render.page.packing import pack

SHARE = 0.2  # of one processor that building may take, at most, while a run goes on
MOST_PAUSE = 1.0  # seconds between two builds, at most: nobody waits longer than that
_KEPT_ANSWERS = 24
_GZIP_LEVEL = 4
T = TypeVar("T")

_builders = ThreadPoolExecutor(max_workers=4, thread_name_prefix="page-builder")


@dataclass(frozen=True)
class Answer:
    """A packed document, as it is and compressed."""

    plain: bytes
    gzipped: bytes


@dataclass(frozen=True)
class File:
    """The run as a single file, as of event ``seq``."""

    seq: int
    state: str
    name: str
    page: bytes


@dataclass(frozen=True)
class _Built:
    seq: int
    state: str
    value: Any


class Documents:
    """What is built of one run."""

    def __init__(self, follower: Follower) -> None:
        self._follower = follower
        self._run = open_run(follower.path)
        self._columns = Columns()
        self._built: dict[str, _Built] = {}
        self._answers: dict[tuple[tuple[str, ...], int, str], Answer] = {}
        self._file: File | None = None
        self._turn = asyncio.Lock()
        self._next = 0.0

    async def packed(self, names: Sequence[str] | None) -> Answer:
        """The document's sections ``names`` (None: all) as of now.

        Raises:
            RecordError: no such section, or the record cannot be read.
        """
        wanted = tuple(pages.SECTIONS) if names is None else tuple(dict.fromkeys(names))
        while True:
            await self._follower.refresh()
            async with self._turn:
                wait = self._next - time.monotonic()
                if wait <= 0 or self._fresh(wanted):
                    return await self._made(wanted)
            await asyncio.sleep(wait)

    async def _made(self, wanted: tuple[str, ...]) -> Answer:
        key = (wanted, self._follower.seq, self._follower.state)
        if key not in self._answers:
            began = time.monotonic()
            self._keep(key, await self._in_thread(self._answer, *key))
            took = time.monotonic() - began
            self._next = began + took + min(MOST_PAUSE, took * (1 / SHARE - 1))
        return self._answers[key]

    async def query(self, ask: Callable[[LiveSnapshot], T]) -> T:
        """What ``ask`` makes of the run as it is now.

        Raises:
            RecordError: the record cannot be read, or has not what is asked for.
        """
        await self._follower.refresh()
        async with self._turn:
            return await self._in_thread(lambda: ask(self._snapshot(self._follower.seq)))

    async def file(self) -> File:
        """The run as a single file, made once for all who asked before it was begun.

        Raises:
            RecordError: the record cannot be read.
        """
        await self._follower.refresh()
        seq, state = self._follower.seq, self._follower.state
        async with self._turn:
            if self._file is None or self._file.seq < seq or self._file.state != state:
                self._file = await self._in_thread(self._as_file, self._follower.seq, self._follower.state)
            return self._file

    def _as_file(self, seq: int, state: str) -> File:
        from neural_plasticity.render.page import render_page

        run = self._snapshot(seq)
        return File(seq, state, run.name, render_page(run).encode())

    def _fresh(self, wanted: Sequence[str]) -> bool:
        """True when nothing of this has to be built."""
        return all(self._current(name, self._follower.seq, self._follower.state) for name in wanted)

    def _current(self, name: str, seq: int, state: str) -> bool:
        built, section = self._built.get(name), pages.SECTIONS.get(name)
        if built is None or section is None or built.state != state:
            return False
        changed = [self._follower.changed_at.get(kind, self._follower.began_at) for kind in section.kinds]
        return built.seq == seq or max(changed, default=seq) <= built.seq

    def _keep(self, key: tuple[tuple[str, ...], int, str], answer: Answer) -> None:
        self._answers = {known: one for known, one in self._answers.items() if known[1:] == key[1:]}
        self._answers[key] = answer
        while len(self._answers) > _KEPT_ANSWERS:
            del self._answers[next(iter(self._answers))]

    def _snapshot(self, seq: int) -> LiveSnapshot:
        return LiveSnapshot(self._run, seq, self._columns)

    def _answer(self, wanted: tuple[str, ...], seq: int, state: str) -> Answer:
        missing = [name for name in wanted if not self._current(name, seq, state)]
        made = pages.document(self._snapshot(seq), missing, pages.LIVE)
        for name in missing:
            if name in made:
                self._built[name] = _Built(seq, state, made[name])
        whole = {
            pages.META: made[pages.META],
            **{name: self._built[name].value for name in wanted if name != pages.META},
        }
        plain = pack(whole)
        return Answer(plain, gzip.compress(plain, _GZIP_LEVEL, mtime=0))

    @staticmethod
    async def _in_thread(call: Callable[..., T], *arguments: Any) -> T:
        # To its end: what is built with is for one thread at a time, also where who asked has left.
        return await to_its_end(asyncio.get_running_loop().run_in_executor(_builders, call, *arguments))
