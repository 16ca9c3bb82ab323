"""Follows one run for everybody who watches it: the record is asked once per tick, each update is written out once.

Nobody watching: nothing is asked. Everything here runs on the server's event loop; what reads the file, in a thread.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncGenerator, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from neural_plasticity.errors import RecordError
from neural_plasticity.events import Event, RunEnded, StepMetrics
from neural_plasticity.record import Recorded, open_run
from neural_plasticity.render.page.live.client import Client
from neural_plasticity.render.page.live.updates import Place, Seen, Update, reset, seen, update
from neural_plasticity.render.page.live.waiting import to_its_end

POLL_SECONDS = 0.1
MOST_EVENTS = 5_000  # kept in memory, and told in one update: whoever is further behind starts afresh
MOST_POINTS = 100_000  # the same for the metric values in them: some scripts have thousands of names
_LEAST_PAUSE = 0.02  # however long a tick took: the other clients want their turn
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _News:
    """What a look at the record found: events in order, or that there were too many to tell (``place`` anew)."""

    last: int
    events: tuple[Recorded, ...] = ()
    place: Place | None = None
    names: tuple[str, ...] = ()


class Follower:
    """The run in ``path`` (its record's file). ``sections``: name -> kinds of events that change it."""

    def __init__(self, path: Path, sections: Mapping[str, Collection[str]]) -> None:
        self.path = path
        self.seq = 0  # everything up to here has been taken in
        self.place = Place()
        self.changed_at: dict[str, int] = {}  # kind of event -> its last number since following began
        self.began_at = 0  # kinds not in `changed_at` have not changed since
        self._run = open_run(path)
        self._file = _identity(path)
        self._sections = sections
        self._recent: deque[Seen] = deque()  # all events after `began_at`, or the last of them
        self._recent_after = 0
        self._recent_points = 0
        self._metrics: dict[str, int] = {}  # name -> number of the event that brought it
        self._attempt = 0
        self._attempt_starts: list[int] = []
        self._clients: set[Client] = set()
        self._turn = asyncio.Lock()
        self._looks = 0  # at the record, begun and not failed
        self._task: asyncio.Task[None] | None = None
        self._told = ""
        self._begun = False

    @property
    def state(self) -> str:
        """running, finished, stopped, failed or stale, by the clock of this machine."""
        return self.place.state(time.time())

    @property
    def watched(self) -> bool:
        """True while a stream is open."""
        return bool(self._clients)

    def replaced(self) -> bool:
        """True when another file lies where this run's record was: it was deleted, and maybe made anew."""
        return _identity(self.path) != self._file

    async def refresh(self) -> None:
        """Take in what has been recorded by now, and tell those who watch.

        Raises:
            RecordError: the record can no longer be read.
        """
        before = self._looks
        async with self._turn:
            if self._looks > before:
                return  # somebody's look has begun since then, and is over: one does for all who wait
            self._looks += 1
            try:
                self._take(await to_its_end(asyncio.to_thread(self._look)))
            except BaseException:
                self._looks -= 1
                raise

    def _look(self) -> _News:
        last = self._run.last_seq
        if self._begun and last == self.seq:
            return _News(last)
        if not self._begun or last - self.seq > MOST_EVENTS:
            return self._afresh(last)
        events = self._few_after(self.seq, last)
        if events is None:
            return self._afresh(last)
        return _News(last, tuple(events))

    def _afresh(self, last: int) -> _News:
        # The summary is of this moment or a later one; what comes after `last` is taken in again, to no effect.
        return _News(last, place=Place.of(self._run.summary()), names=self._run.metrics("all"))

    def _few_after(self, after: int, until: int) -> list[Recorded] | None:
        """The events after number ``after`` up to ``until``; None when they are too many to tell."""
        found: list[Recorded] = []
        points = 0
        for one in self._run.records(attempt="all", after_seq=after):
            if one.seq > until:
                break
            points += _points(one.event)
            if len(found) == MOST_EVENTS or points > MOST_POINTS:
                return None
            found.append(one)
        return found

    def _take(self, news: _News) -> None:
        before = self.seq
        if news.place is not None:
            self._start_at(news, news.place)
            self._publish(reset(self.place, self.seq, time.time()))
            return
        for one in news.events:
            self.place = self.place.after(one)
            if one.attempt > 1 and one.attempt != self._attempt:  # it takes back some of what came before, of any kind
                self._attempt_starts.append(one.seq)
                self.began_at = one.seq
                self.changed_at.clear()
            self._attempt = one.attempt
            self.changed_at[one.event.kind] = self.seq = one.seq
            kept = seen(one)
            self._recent.append(kept)
            self._recent_points += _points(one.event)
            for name in kept.metrics or ():
                self._metrics.setdefault(name, one.seq)
        while len(self._recent) > MOST_EVENTS or self._recent_points > MOST_POINTS:
            gone = self._recent.popleft()
            self._recent_after = gone.seq
            self._recent_points -= len(gone.metrics or ())
        if self.seq != before or self.state != self._told:
            self._publish(self._tell(before, [one for one in self._recent if one.seq > before]))

    def _start_at(self, news: _News, place: Place) -> None:
        self.place, self.seq, self.began_at, self._recent_after = place, news.last, news.last, news.last
        self._recent.clear()
        self._recent_points = 0
        self.changed_at.clear()
        self._metrics = dict.fromkeys(news.names, news.last)
        self._attempt = place.attempt
        self._attempt_starts = [one.first_seq for one in self._run.attempts if one.attempt > 1]
        self._begun = True

    def _tell(self, after: int, events: list[Seen]) -> Update:
        """The update over the events after number ``after``."""
        now = time.time()
        if any(after < start <= self.seq for start in self._attempt_starts):
            return reset(self.place, self.seq, now)  # a new attempt takes back part of what was told
        known = [name for name, seq in self._metrics.items() if seq <= after]
        told = update(events, self.place, self.seq, now, self._sections, known)
        if self._told and told.state != self._told:  # it fell silent, or was heard of again: no event says so
            told = told.with_changed(name for name, kinds in self._sections.items() if RunEnded.kind in kinds)
        return told

    def _publish(self, told: Update) -> None:
        self._told = told.state
        if self._clients:
            message = told.as_event()
            afresh = message if told.reset else reset(self.place, self.seq, told.time).as_event()
            for client in self._clients:
                client.push(message, afresh)

    async def since(self, after: int) -> Update:
        """The update that takes a client from event ``after`` to now.

        Raises:
            RecordError: the record cannot be read.
        """
        await self.refresh()
        older: list[Recorded] = []
        through = after
        while through < self._recent_after:  # again, where more has gone out of memory while the file was read
            through = self._recent_after
            close = through - after <= MOST_EVENTS
            found = await asyncio.to_thread(self._few_after, after, through) if close else None
            if found is None:
                return reset(self.place, self.seq, time.time())
            older = found
        if after > self.seq:
            return reset(self.place, self.seq, time.time())
        # From here on nothing is awaited, so that no event comes between this update and the next one published.
        return self._tell(after, [*map(seen, older), *(one for one in self._recent if one.seq > through)])

    async def stream(self, after: int) -> AsyncGenerator[bytes, None]:
        """Server-sent events from number ``after`` on, until the reader leaves or the server ends.

        Raises:
            RecordError: the record cannot be read.
        """
        first = await self.since(after)
        client = Client()
        self._clients.add(client)
        client.push(first.as_event(), first.as_event())
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._watch())
        try:
            async for message in client.messages():
                yield message
        finally:
            self._clients.discard(client)

    async def _watch(self) -> None:
        while self._clients:
            began = time.monotonic()
            try:
                await self.refresh()
            except Exception as error:  # whatever it is: a stream that goes on without news would be a lie
                if not self.replaced():  # else what was read was half the old file and half the new one
                    _log.warning("%s: %s", type(error).__name__, error, exc_info=not isinstance(error, RecordError))
                    self.close()
                    return
            if self.replaced():
                self._publish(reset(Place(), 0, time.time()))
                self.close()
                return
            await asyncio.sleep(max(_LEAST_PAUSE, POLL_SECONDS - (time.monotonic() - began)))

    def close(self) -> None:
        """End every stream once what waits in it is sent."""
        for client in self._clients:
            client.close()


def _points(event: Event) -> int:
    return len(event.metrics) if isinstance(event, StepMetrics) else 0


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
