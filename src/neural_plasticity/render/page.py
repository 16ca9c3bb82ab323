"""The page: one self-contained HTML file made of a run's record. No network, no script, nothing beside it needed."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from neural_plasticity.errors import RecordError
from neural_plasticity.record import Run
from neural_plasticity.render.svg import draw_grid, draw_timeline
from neural_plasticity.views import figures, palette, story
from neural_plasticity.views.headgrid import grid_at
from neural_plasticity.views.overview import overview
from neural_plasticity.views.results import results_table
from neural_plasticity.views.timeline import timeline

PAGE_NAME = "dashboard.html"
WIDTHS = (
    ("wide", 1160),
    ("narrow", 350),
)  # the timeline is drawn for a desk and for a phone; the style sheet shows one of them
MOST_LOG_LINES = 200


def write_page(run: Run, path: Path | str) -> Path:
    """Write the page of ``run`` to ``path`` (a directory gets ``dashboard.html``); returns the file's path.

    The file is replaced in one step, so that a reader never meets half a page.

    Raises:
        RecordError: the file cannot be written.
    """
    target = Path(path)
    target = target / PAGE_NAME if target.is_dir() else target
    page = render_page(run)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=".page-", suffix=".html")
        try:
            with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
                file.write(page)
            os.chmod(temporary, 0o644)  # noqa: PTH101 - mkstemp makes it readable by its owner alone
            os.replace(temporary, target)  # noqa: PTH105 - the same
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise RecordError(f"{target}: the page cannot be written there: {error.strerror}.") from error
    return target


def render_page(run: Run) -> str:
    """The page as a string. Whatever is missing from the run is said to be missing."""
    evaluations = run.evaluations()
    whole = timeline(run)
    grid = grid_at(run)
    log = run.log()
    return _environment().get_template("page.html.j2").render(
        overview=overview(run),
        timeline=whole,
        drawings=[] if whole.empty else [(name, draw_timeline(whole, width)) for name, width in WIDTHS],
        grid=grid,
        grid_drawing=None if grid is None or not grid.total else draw_grid(grid),
        results=results_table(evaluations[-1] if evaluations else None),
        decisions=story.decisions(run),
        samples=story.samples(run),
        settings=_settings(run),
        log=[(line.level, figures.clean(line.message)) for line in log[-MOST_LOG_LINES:]],
        log_total=len(log),
        palette=palette,
        figures=figures,
        written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        record=figures.clean(str(run.path)),
    )  # fmt: skip


def _settings(run: Run) -> list[tuple[str, list[tuple[str, str]]]]:
    """Configuration, model, data and environment as titled lists of name and value."""
    started = run.started
    if started is None:
        return []
    parts = (
        ("Configuration", started.config),
        ("Model", started.model),
        ("Data", started.data),
        ("Environment", started.environment),
    )
    return [(title, _pairs(values)) for title, values in parts if values]


def _pairs(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(figures.clean(str(name)), figures.visible(_written(value))) for name, value in values.items()]


def _written(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: figures.MISSING}[value]
    return json.dumps(value, ensure_ascii=False, default=str)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["unbroken"] = lambda text: text.replace(" %", "\N{NO-BREAK SPACE}%")
    return environment
