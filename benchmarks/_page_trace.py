"""What the browser's own trace says about one page: how long its main thread worked for every frame."""

from __future__ import annotations

import json
from bisect import bisect_left, bisect_right
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from playwright.async_api import Page

CATEGORIES = (
    "devtools.timeline", "disabled-by-default-devtools.timeline", "disabled-by-default-devtools.timeline.frame",
)  # fmt: skip
FRAME = "BeginMainThreadFrame"
WORK_MS = 4.0
INPUT = {"pointermove", "mousemove", "wheel"}


@dataclass(frozen=True)
class Frame:
    """Milliseconds that the main thread worked for one frame: on the wall, and of the processor."""

    wall: float
    processor: float


@dataclass
class Trace:
    """Filled when `traced` ends."""

    events: list[dict[str, Any]] = field(default_factory=list)

    def frames(self) -> list[Frame]:
        """The frames that handled input, and those of the others that worked for 4 ms or more.

        A frame's work is every task of the thread after the one that drew the frame before it, up to the one that
        draws this frame: input, scripts, style, layout, painting, garbage collection, whoever asked for them. What a
        page puts off is counted with the frame that does it; frames in which it only waits would flatter the median.
        """
        own = self._own()
        tasks = sorted((one for one in own if _is_task(one)), key=lambda one: one["ts"])
        starts = [one["ts"] for one in tasks]
        drawing = sorted({bisect_right(starts, one["ts"]) - 1 for one in own if one["name"] == FRAME})
        inputs = sorted(one["ts"] for one in own if _is_input(one))
        found = []
        for before, this in zip([-1, *drawing], drawing, strict=False):
            work = tasks[before + 1 : this + 1]
            begin, end = work[0]["ts"], work[-1]["ts"] + work[-1]["dur"]
            if end < inputs[0] or begin > inputs[-1] + 300_000:  # 0.3 s: what the last input has left to be done
                continue
            wall, processor = (sum(one[clock] for one in work) / 1e3 for clock in ("dur", "tdur"))
            if wall >= WORK_MS or bisect_left(inputs, end) > bisect_left(inputs, begin):
                found.append(Frame(wall, processor))
        return found

    def _own(self) -> list[dict[str, Any]]:
        """Events of the renderer's main thread that handled the input (Chromium keeps a spare renderer)."""
        for one in self.events:
            if _is_input(one):
                thread = one["pid"], one["tid"]
                return [one for one in self.events if (one.get("pid"), one.get("tid")) == thread]
        raise SystemExit("the trace has no input event: the page was not touched")


def _is_task(one: dict[str, Any]) -> bool:
    return one["name"] == "RunTask" and one.get("ph") == "X"


def _is_input(one: dict[str, Any]) -> bool:
    return one["name"] == "EventDispatch" and one.get("args", {}).get("data", {}).get("type") in INPUT


@asynccontextmanager
async def traced(page: Page) -> AsyncIterator[Trace]:
    """Trace whatever is done to ``page`` inside the block."""
    browser, trace = page.context.browser, Trace()
    assert browser is not None
    await browser.start_tracing(page=page, categories=list(CATEGORIES))
    try:
        yield trace
    finally:
        trace.events = json.loads(await browser.stop_tracing())["traceEvents"]
