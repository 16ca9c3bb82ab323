"""The chain of updates that a cell is told: each begins at the very event where the one before it ended."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from neural_plasticity.record import open_run
from neural_plasticity.render.page.document import SECTIONS
from neural_plasticity.render.page.live.updates import Place, Seen, Update, seen, update

MOST_EVENTS = 5_000  # told in one update: whoever is further behind starts afresh
KINDS = {name: section.kinds for name, section in SECTIONS.items()}


class Break(Exception):
    """What was told so far is no longer so (a new attempt), or there is too much to tell."""


class News:
    """What happened in one run since event ``seq``; `read_to` reads on, `take` makes an update of what was read."""

    def __init__(self, path: Path) -> None:
        self.seq = 0
        self._run = open_run(path)
        self._events: list[Seen] = []  # read, and not told yet
        self._attempt = 0
        self._metrics: set[str] = set()

    def start_at(self, document: Mapping[str, Any]) -> None:
        """Begin behind the last event of a whole ``document``, which the pages get."""
        self.seq = int(document["meta"]["seq"])
        self._events = []
        self._attempt = self._run.attempts[-1].attempt
        self._metrics = {one["name"] for one in document["curves"]["series"]}
        if document["curves"]["left_out"]:  # these come to no page, however often they are asked for
            self._metrics |= set(self._run.metrics("all"))

    def read_to(self, seq: int) -> None:
        """Read on, to event ``seq`` and no further.

        Raises:
            Break: the pages have to start afresh.
            RecordError: the record cannot be read.
        """
        last = self._events[-1].seq if self._events else self.seq
        if seq <= last:
            return
        found = self._run.tail(last, MOST_EVENTS + 1)
        if len(found) > MOST_EVENTS or any(one.attempt != self._attempt for one in found):
            raise Break
        self._events += [seen(one) for one in found if one.seq <= seq]

    @property
    def changed(self) -> set[str]:
        """Sections that what was read changes; curves only for a new metric, as pages add points themselves."""
        return set(self._update(Place(), self.seq).changed)

    def take(self, place: Place, seq: int, changed: Collection[str] = ()) -> tuple[int, Update]:
        """The update over everything read, which is up to event ``seq``, and the event that it begins behind."""
        told, before = self._update(place, seq), self.seq
        self._metrics |= told.points.keys()
        self._events, self.seq = [], max(seq, before)
        return before, replace(told, changed=tuple(sorted(changed)))

    def _update(self, place: Place, seq: int) -> Update:
        return update(self._events, place, seq, time.time(), KINDS, self._metrics)
