"""The live page as a Jupyter widget, in whatever speaks anywidget: JupyterLab, Notebook, VS Code, Colab, marimo."""

from __future__ import annotations

import json
import uuid
import weakref
from functools import cache
from pathlib import Path
from string import Template
from typing import Any

import anywidget
import traitlets

from neural_plasticity.record import Run, open_run
from neural_plasticity.render.page.assets import SCRIPT, STYLE, asset
from neural_plasticity.render.page.inlining import inlined_script, policy, template
from neural_plasticity.render.page.notebook import HEIGHT, StaticPage, publish
from neural_plasticity.render.page.notebook_feed import Feed


@cache
def module() -> str:
    """The widget's JavaScript module: the notebook's side, with the page that goes into its frame."""
    script, boot = asset(SCRIPT), template("boot.js")
    page = Template(template("cell.html")).substitute(
        policy=policy(boot, script),
        style=asset(STYLE),
        app=inlined_script(script),
        boot=boot,
    )
    return f"const PAGE = {json.dumps(page)}\n{template('cell.js')}"


class DashboardWidget(anywidget.AnyWidget):
    """A run, live in a cell: whatever is recorded from now on shows up in it, also while another cell computes.

    Args:
        run: a run, or its directory.
        height: of the cell, in pixels.

    Raises:
        RecordError: there is no record, or it cannot be read.
        InputError: the page's front end was not built.
    """

    _esm = traitlets.Unicode().tag(sync=True)
    document = traitlets.Bytes().tag(sync=True)  # packed, gzipped; a page that opens begins with it
    title = traitlets.Unicode().tag(sync=True)
    twin = traitlets.Unicode().tag(sync=True)  # what marks the static copy, which a live page hides
    height = traitlets.Int(HEIGHT).tag(sync=True)

    _feed: Feed | None = None

    def __init__(self, run: Run | Path | str, height: int = HEIGHT) -> None:
        self._path = run.path if isinstance(run, Run) else Path(run)
        feed = self._feed = Feed(self._path)
        self._shown = ""  # display id of the static copy
        with open_run(self._path) as opened:
            title = f"Dashboard of {opened.name}"
        super().__init__(_esm=module(), document=feed.first(), title=title, twin=uuid.uuid4().hex, height=height)
        self.on_msg(_heard)
        feed.start(weakref.ref(self))

    # What the feed calls, from its thread -------------------------------------------------------------------------

    def snapshot(self, packed: bytes) -> None:
        """A whole document for pages that open, and for those that missed something."""
        self.document = packed

    def tell(self, message: dict[str, Any], buffer: bytes | None = None) -> None:
        """A message to every page that shows this widget."""
        self.send(message, None if buffer is None else [buffer])

    def copy(self) -> None:
        """Make the static copy again that a saved notebook keeps."""
        if self._shown:
            self._show_twin(update=True)

    # Display ------------------------------------------------------------------------------------------------------

    def static(self) -> StaticPage:
        """The run as it is now, as a page that needs no kernel."""
        with open_run(self._path) as run:
            return StaticPage(run, self.height, self.twin)

    def _ipython_display_(self) -> None:
        # Two outputs: a notebook that is opened again without its kernel shows nothing of an output which also is a
        # widget, but it does show the copy.
        publish(*super()._repr_mimebundle_() or ({}, {}))
        self._shown = self._shown or uuid.uuid4().hex
        self._show_twin()

    def _show_twin(self, update: bool = False) -> None:
        publish(self.static()._repr_mimebundle_(), {}, self._shown, update)

    def close(self) -> None:
        """Let go of the run; what the cell shows stays."""
        if self._feed is not None:  # it could not be opened
            self._feed.close()
        super().close()


def _heard(widget: DashboardWidget, message: dict[str, Any], _buffers: list[memoryview]) -> None:
    """A page's message."""
    feed, kind, page = widget._feed, message.get("type"), str(message.get("name"))
    if feed is None:
        return
    if kind == "hello":
        after = message.get("after")
        feed.hello(page, after if isinstance(after, int) else -1)
    elif kind == "bye":
        feed.bye(page)
    elif kind == "ask":
        query = message.get("query")
        feed.ask(widget, str(message.get("id")), str(message.get("path")), query if isinstance(query, dict) else {})
