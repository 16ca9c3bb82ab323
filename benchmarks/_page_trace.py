"""What the browser's own trace says about one page: how long its main thread worked for every frame."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from playwright.sync_api import CDPSession, Page

CATEGORIES = (
    "devtools.timeline", "disabled-by-default-devtools.timeline", "disabled-by-default-devtools.timeline.frame",
    "toplevel", "blink.user_timing",
)  # fmt: skip
FRAME = "BeginMainThreadFrame"
INPUT = {"pointermove", "mousemove", "wheel", "input", "keydown"}
WORKED_US = 1_000  # a frame without input counts when it did at least this much


@dataclass
class Trace:
    """Filled when `traced` ends."""

    events: list[dict[str, Any]] = field(default_factory=list)

    def frames(self) -> list[float]:
        """Milliseconds that the main thread worked for each frame, frames in which nothing happened left out.

        A frame's work is every task of the thread from the one that begins the frame up to the next such task:
        input, scripts, style, layout, painting and garbage collection, whoever asked for them. A frame counts when
        it handled input, or worked a millisecond or more without any (a delayed redraw, say).
        """
        thread = self._main_thread()
        own = [one for one in self.events if (one.get("pid"), one.get("tid")) == thread]
        tasks = sorted((one["ts"], one["dur"]) for one in own if _is_task(one))
        starts = [start for start, _ in tasks]
        begun = sorted({bisect_right(starts, one["ts"]) - 1 for one in own if one["name"] == FRAME})
        inputs = sorted(one["ts"] for one in own if _is_input(one))
        found = []
        for this, following in pairwise(begun):
            work = sum(length for _, length in tasks[this:following])
            handled = bisect_right(inputs, starts[following]) - bisect_right(inputs, starts[this])
            if handled or work >= WORKED_US:
                found.append(work / 1000)
        return found

    def inputs(self) -> int:
        """How many frames' worth of input events the page's own listeners were given."""
        return sum(1 for one in self.events if _is_input(one))

    def _main_thread(self) -> tuple[int, int]:
        """The renderer's main thread that handled the input (there is one per page, and Chromium keeps a spare)."""
        for one in self.events:
            if _is_input(one):
                return one["pid"], one["tid"]
        raise SystemExit("the trace has no input event: the page was not touched")


def _is_task(one: dict[str, Any]) -> bool:
    return one["name"] == "RunTask" and one.get("ph") == "X"


def _is_input(one: dict[str, Any]) -> bool:
    return one["name"] == "EventDispatch" and one.get("args", {}).get("data", {}).get("type") in INPUT


@contextmanager
def traced(page: Page) -> Iterator[Trace]:
    """Trace whatever is done to ``page`` inside the block."""
    session = page.context.new_cdp_session(page)
    trace = Trace()
    session.send(
        "Tracing.start",
        {"transferMode": "ReturnAsStream", "traceConfig": {"includedCategories": list(CATEGORIES)}},
    )
    try:
        yield trace
    finally:
        done: list[dict[str, Any]] = []
        session.on("Tracing.tracingComplete", done.append)
        session.send("Tracing.end")
        while not done:
            page.wait_for_timeout(50)
        trace.events = json.loads(_read(session, done[0]["stream"]))["traceEvents"]
        session.detach()


def _read(session: CDPSession, stream: str) -> str:
    parts = []
    while True:
        chunk = session.send("IO.read", {"handle": stream, "size": 1 << 20})
        parts.append(chunk["data"])
        if chunk["eof"]:
            session.send("IO.close", {"handle": stream})
            return "".join(parts)
