"""The runs that are being looked at: opened on first request, let go of when nobody has asked for a while."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, replace
from pathlib import Path

from neural_plasticity.record.run import STALE_SECONDS
from neural_plasticity.record.schema import FILE_NAME
from neural_plasticity.render.page.document import SECTIONS
from neural_plasticity.render.page.live.documents import Documents
from neural_plasticity.render.page.live.follower import Follower
from neural_plasticity.render.page.live.runs import (
    RunEntry,
    Signature,
    entry_of,
    find_runs,
    record_of,
    signature,
)
from neural_plasticity.render.page.live.waiting import to_its_end

LIST_SECONDS = 1.0  # the directory is searched at most this often
LIST_SHARE = 0.2  # of one processor that searching may take, at most: long runs take long to sum up
KEPT_SECONDS = 600.0  # a run that nobody asked for so long lets go of its memory
MOST_KEPT = 8


@dataclass
class Watched:
    """A run that is open; ``asked``: when it last was of use."""

    follower: Follower
    documents: Documents
    asked: float


class Registry:
    """The runs in one directory."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._open: dict[str, Watched] = {}
        self._turn = asyncio.Lock()
        self._listing = asyncio.Lock()
        self._entries: dict[str, tuple[Signature | None, RunEntry]] = {}
        self._list_again = float("-inf")

    async def open(self, run_id: str) -> Watched:
        """The run with this id.

        Raises:
            RecordError: there is none, or it cannot be read.
        """
        record = await asyncio.to_thread(record_of, self.root, run_id)
        async with self._turn:
            known = self._open.get(run_id)
            if known is not None and known.follower.replaced():
                known.follower.close()
                known = None
            if known is None:
                known = await to_its_end(asyncio.to_thread(_watch, record))
                self._open[run_id] = known
            known.asked = time.monotonic()
            self._let_go(known)
            return known

    def _let_go(self, kept: Watched) -> None:
        idle = [
            (one.asked, run_id) for run_id, one in self._open.items() if one is not kept and not one.follower.watched
        ]
        for place, (asked, run_id) in enumerate(sorted(idle, reverse=True)):
            if place >= MOST_KEPT or time.monotonic() - asked > KEPT_SECONDS:
                del self._open[run_id]  # its files close with it

    async def is_one_run(self) -> bool:
        """True when the directory is itself a run."""
        return await asyncio.to_thread((self.root / FILE_NAME).is_file)

    async def entries(self) -> list[RunEntry]:
        """Every run, the one that was last active first."""
        async with self._listing:
            began = time.monotonic()
            if began >= self._list_again:
                self._entries = await to_its_end(asyncio.to_thread(_listed, self.root, self._entries))
                self._list_again = began + max(LIST_SECONDS, (time.monotonic() - began) / LIST_SHARE)
        entries = [_now(entry) for _, entry in self._entries.values()]
        return sorted(entries, key=lambda entry: (-entry.last_event, entry.id))

    def quiet_for(self) -> float:
        """Seconds since anything was asked of a run that is watched; infinite when none is. From any thread."""
        asked = [one.asked for one in list(self._open.values()) if one.follower.watched]
        return time.monotonic() - max(asked) if asked else float("inf")

    async def close(self) -> None:
        """Tell everybody who watches how things stand now, and end their streams."""
        watched = [one for one in self._open.values() if one.follower.watched]
        await asyncio.gather(*(one.follower.refresh() for one in watched), return_exceptions=True)
        for one in watched:
            one.follower.close()


def _watch(record: Path) -> Watched:
    follower = Follower(record, {name: section.kinds for name, section in SECTIONS.items()})
    return Watched(follower, Documents(follower), time.monotonic())


def _listed(
    root: Path, known: dict[str, tuple[Signature | None, RunEntry]]
) -> dict[str, tuple[Signature | None, RunEntry]]:
    """The runs of a directory; those whose record has not changed are not read again."""
    found = {}
    for run_id in find_runs(root):
        now = signature(root / run_id)
        before = known.get(run_id)
        found[run_id] = before if before is not None and before[0] == now else (now, entry_of(root, run_id))
    return found


def _now(entry: RunEntry) -> RunEntry:
    if entry.error is not None or entry.state not in ("running", "stale"):
        return entry
    return replace(entry, state="stale" if time.time() - entry.last_event > STALE_SECONDS else "running")
