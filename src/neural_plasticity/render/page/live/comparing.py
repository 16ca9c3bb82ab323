"""Comparisons that are being looked at: a run is read again only when something has been recorded in it."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote

from neural_plasticity.errors import InputError, RecordError
from neural_plasticity.record import open_run
from neural_plasticity.render.page.comparison import FEWEST, MOST, document_of, points_each, render_comparison
from neural_plasticity.render.page.live.runs import HERE, Signature, find_runs, record_of, signature
from neural_plasticity.render.page.live.waiting import to_its_end
from neural_plasticity.render.page.packing import pack
from neural_plasticity.views import figures
from neural_plasticity.views.comparison import Comparison, LeftOut, comparison
from neural_plasticity.views.comparison_run import Digest, digest

SHARE = 0.2  # of one processor that comparing may take, at most, while runs go on
_KEPT = 4  # comparisons
_KEPT_DIGESTS = 2 * MOST
_GZIP_LEVEL = 4
_UNFINISHED = ("running", "stale")


@dataclass(frozen=True)
class Compared:
    """A comparison as it is sent: ``tag`` changes whenever its content may have."""

    tag: str
    found: Comparison
    plain: bytes
    gzipped: bytes


class Comparisons:
    """What was compared of the runs in one directory."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._digests: dict[tuple[str, int], tuple[Signature | None, Digest | LeftOut]] = {}
        self._made: dict[tuple[str, ...], Compared] = {}
        self._next: dict[tuple[str, ...], float] = {}
        self._page: tuple[Compared, bytes] | None = None
        self._turn = asyncio.Lock()

    async def of(self, ids: Sequence[str]) -> Compared:
        """The comparison of these runs (none named: of all) as they are now; of late, where they are written to fast.

        Raises:
            InputError: fewer than two of them can be compared, or too many were named.
        """
        async with self._turn:  # one at a time: all of them read the same records
            return await to_its_end(asyncio.to_thread(self._of, ids))

    async def page(self, ids: Sequence[str]) -> bytes:
        """That comparison as a file of its own.

        Raises:
            InputError: as `of`.
        """
        async with self._turn:
            return await to_its_end(asyncio.to_thread(self._page_of, ids))

    def _page_of(self, ids: Sequence[str]) -> bytes:
        compared = self._of(ids)
        if self._page is None or self._page[0] is not compared:
            self._page = compared, page_of_comparison(compared).encode()
        return self._page[1]

    def _of(self, ids: Sequence[str]) -> Compared:
        key = tuple(dict.fromkeys(ids)) or tuple(find_runs(self._root))
        if len(key) > MOST:
            raise InputError(f"{len(key):,} runs: at most {MOST} can be compared.")
        made = self._made.get(key)
        if made is not None and time.monotonic() < self._next.get(key, 0.0):
            return made
        began = time.monotonic()
        tag = self._tag(key, made)
        if made is None or made.tag != tag:
            made = self._make(key, tag)
            self._made.pop(key, None)
            self._made[key] = made
            while len(self._made) > _KEPT:
                old = next(iter(self._made))
                del self._made[old]
                self._next.pop(old, None)
        took = time.monotonic() - began
        self._next[key] = began + took / SHARE
        return made

    def _tag(self, ids: Iterable[str], before: Compared | None) -> str:
        signatures = [(one, self._signature(one)) for one in ids]
        # A run that falls silent becomes stale without anything being recorded.
        going = before is None or any(run.state in _UNFINISHED for run in before.found.runs)
        minute = int(time.time() // 60) if going else 0
        return hashlib.sha256(repr((signatures, minute)).encode()).hexdigest()[:24]

    def _signature(self, run_id: str) -> Signature | None:
        """None: no run of the served directory."""
        try:
            return signature(record_of(self._root, run_id).parent)
        except RecordError:
            return None

    def _make(self, ids: Sequence[str], tag: str) -> Compared:
        found: list[Digest] = []
        left_out: list[LeftOut] = []
        for run_id in ids:
            one = self._digest(run_id, points_each(len(ids)))
            if isinstance(one, LeftOut):
                left_out.append(one)
            else:
                found.append(one)
        if len(found) < FEWEST:
            why = "".join(f" {one.path}: {one.reason.rstrip('.')}." for one in left_out[:3])
            raise InputError(f"{figures.plural(len(found), 'run')} to compare: expected two or more.{why}")
        made = comparison(found, left_out)
        plain = pack(document_of(made))
        return Compared(tag, made, plain, gzip.compress(plain, _GZIP_LEVEL, mtime=0))

    def _digest(self, run_id: str, most: int) -> Digest | LeftOut:
        now = self._signature(run_id)
        known = self._digests.get((run_id, most))
        silent = known is not None and isinstance(known[1], Digest) and known[1].line.state in _UNFINISHED
        if known is not None and known[0] == now and not silent:
            return known[1]
        one = self._read(run_id, most)
        self._digests.pop((run_id, most), None)
        self._digests[run_id, most] = (now, one)
        while len(self._digests) > _KEPT_DIGESTS:
            del self._digests[next(iter(self._digests))]
        return one

    def _read(self, run_id: str, most: int) -> Digest | LeftOut:
        shown = figures.shorten(figures.clean(run_id), 200)
        try:
            with open_run(record_of(self._root, run_id)) as run:
                one = digest(run, run_id, most)
        except RecordError as error:
            return LeftOut(shown, figures.shorten(figures.clean(str(error)), 300))
        address = "./" if run_id == HERE else f"run/{quote(run_id)}"
        return replace(one, line=replace(one.line, address=address))


def page_of_comparison(compared: Compared) -> str:
    """The comparison as a file of its own, whose runs have no page to go to."""
    runs = tuple(replace(run, address="") for run in compared.found.runs)
    return render_comparison(replace(compared.found, runs=runs))
