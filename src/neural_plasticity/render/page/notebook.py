"""A run in a notebook: live in its cell, with a static copy that a saved notebook keeps.

`show` displays both. What needs anywidget is imported when it is used; without it the static copy is what there is.
"""

from __future__ import annotations

import html
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neural_plasticity.errors import InputError
from neural_plasticity.record import Run, open_run
from neural_plasticity.render.page.packing import shown
from neural_plasticity.render.page.single_file import render_page
from neural_plasticity.views import figures
from neural_plasticity.views.overview import Overview, overview

if TYPE_CHECKING:
    from neural_plasticity.render.page.notebook_widget import DashboardWidget

HEIGHT = 800  # pixels
INSTALL = "pip install 'neural-plasticity[notebook]'"

__all__ = ["HEIGHT", "INSTALL", "StaticPage", "live_widget", "publish", "show"]


class StaticPage:
    """A run as it is now, as a frame with the whole page inside: no kernel, no server, no file beside it.

    Args:
        run: the run; it is read here and not again.
        height: of the frame, in pixels.
        mark: a name by which a live page finds this copy and hides it.
    """

    def __init__(self, run: Run, height: int = HEIGHT, mark: str = "") -> None:
        view = overview(run)
        self.text = _summary(view)
        # The frame's page is not to be trusted with the notebook: scripts run, and reach nothing but the frame.
        self._html = (
            f'<div data-npd-twin="{html.escape(mark)}">'
            f'<iframe title="Dashboard of {_attribute(view.name)}" sandbox="allow-scripts allow-downloads" '
            f'loading="lazy" allowfullscreen style="width:100%;height:{int(height)}px;display:block;'
            'box-sizing:border-box;border:1px solid rgba(128,128,128,.35);border-radius:6px" '
            f'srcdoc="{html.escape(render_page(run))}"></iframe>'
            f'<p style="margin:.25em 0;opacity:.75">{html.escape(self.text)}</p></div>'
        )

    def __repr__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        return self._html

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        return {"text/html": self._html, "text/plain": self.text}


def show(run: Run | Path | str, height: int = HEIGHT) -> None:
    """Display a run, or a run directory, in the cell that runs now: live where anywidget is installed, else as it is.

    Raises:
        RecordError: there is no record, or it cannot be read.
    """
    if find_spec("anywidget") is None:
        with open_run(run.path if isinstance(run, Run) else run) as opened:
            publish(StaticPage(opened, height)._repr_mimebundle_(), {})
        print(f"This is the run as it was just now; to follow it live: {INSTALL}", file=sys.stderr)  # noqa: T201
        return
    live_widget(run, height)._ipython_display_()


def live_widget(run: Run | Path | str, height: int = HEIGHT) -> DashboardWidget:
    """The live page of a run as a widget, for a layout of your own; as a cell's last value it displays itself.

    Raises:
        InputError: anywidget is not installed, or there is no record that can be read.
    """
    if find_spec("anywidget") is None:
        raise InputError(f"a live page in a notebook needs anywidget: {INSTALL}")
    from neural_plasticity.render.page.notebook_widget import DashboardWidget

    return DashboardWidget(run, height)


def publish(data: dict[str, Any], metadata: dict[str, Any], display_id: str = "", update: bool = False) -> None:
    """Send an output to the notebook, or put it in the place of an earlier one; from any thread."""
    from IPython.display import publish_display_data

    transient = {"display_id": display_id} if display_id else None
    publish_display_data(data, metadata, transient=transient, update=update)  # type: ignore[no-untyped-call]


def _summary(view: Overview) -> str:
    """What remains where frames are not shown: name, state, key figures."""
    said = [f"{one.label} {one.value}" for one in view.figures if one.value != figures.MISSING]
    simulated = ["simulated"] if view.simulated else []
    parts = [figures.shorten(shown(view.name), 120), *simulated, view.state, view.sentence, *said]
    return " · ".join(part for part in parts if part)


def _attribute(text: str) -> str:
    return html.escape(figures.shorten(shown(text), 120))
