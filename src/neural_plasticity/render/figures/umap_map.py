"""UMAP of one layer's points, drawn when somebody asks for it: needs the extra ``umap``.

Its picture shows who is near whom. Distances, sizes of clusters and empty space between them mean nothing, and another
seed gives another picture; the planes of `embeddings_figure`, which are linear, and the drift numbers come first.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from neural_plasticity.errors import InputError
from neural_plasticity.record import Run
from neural_plasticity.render.figures.embeddings import group_look, legend_in
from neural_plasticity.render.figures.style import SMALL, WIDTH, Sheet, panel, write
from neural_plasticity.views import figures
from neural_plasticity.views.embeddings import layer_points
from neural_plasticity.views.heading import heading
from neural_plasticity.views.palette import FAINT, INK, MUTED

_COLUMNS = 3


def umap_figure(run: Run, layer: int | None = None, *, neighbours: int = 15, seed: int = 0) -> Figure:
    """The layer's points by UMAP, those of all cycles in one map.

    Args:
        run: a record with embeddings.
        layer: which one (−1: what enters the first); None: the deepest recorded.
        neighbours: UMAP's ``n_neighbors``.
        seed: of the map.

    Raises:
        InputError: umap-learn is not installed, or there are no such points, or fewer than four.
    """
    points = layer_points(run, layer)
    if points is None or len(points.vectors[0]) < 4 or not all(np.isfinite(one).all() for one in points.vectors):
        wanted = "" if layer is None else f" at layer {layer}"
        raise InputError(f"{run.path}: expected the vectors of four points or more{wanted}, found none to map.")
    near = min(neighbours, len(points.vectors[0]) - 1)
    # All moments in one map: points put into a finished one land elsewhere, even those that it was made of.
    every = _umap(n_neighbors=near, random_state=seed, n_jobs=1).fit_transform(
        np.concatenate(points.vectors).astype(np.float32)
    )
    places = np.split(every, len(points.vectors))
    sheet = Sheet(heading(run), f"UMAP, {points.layer}")
    names = list(dict.fromkeys(points.groups))
    group = np.array([names.index(one) for one in points.groups] or [-1] * len(places[0]))
    size = (WIDTH - 0.85 - 0.3 * (_COLUMNS - 1)) / _COLUMNS
    low, high = np.concatenate(places).min(0), np.concatenate(places).max(0)
    for start in range(0, len(places), _COLUMNS):
        row = sheet.row(size, [1.0] * _COLUMNS, above=0.4, gap=0.3, left=0.6)
        for at, axes in enumerate(row, start=start):
            if at >= len(places):
                axes.set_axis_off()
                continue
            for one in np.unique(group):
                inside = group == one
                axes.scatter(
                    places[at][inside, 0], places[at][inside, 1], s=7, **group_look(int(one)), alpha=0.6, linewidths=0
                )
            cycle, step = points.moments[at]
            panel(axes, f"Cycle {cycle}" if cycle else "Baseline", f"step {step:,}", grid=False)
            axes.set(xticks=[], yticks=[], xlim=_wider(low[0], high[0]), ylim=_wider(low[1], high[1]))
            for spine in axes.spines.values():
                spine.set(visible=True, color=FAINT)
    _words(sheet, names)
    return sheet.finish()


def _wider(low: float, high: float) -> tuple[float, float]:
    room = 0.06 * (high - low) or 1.0
    return float(low - room), float(high + room)


def _words(sheet: Sheet, names: list[str]) -> None:
    (axes,) = sheet.row(0.3, above=0.2, left=0.6)
    axes.set_axis_off()
    if names:
        legend_in(axes, [figures.clean(name) for name in names])
    (axes,) = sheet.row(0.16, above=0.2, left=0.6)
    axes.set_axis_off()
    text = "Who is near whom; distances between clusters and their sizes mean nothing. One map of all cycles."
    write(axes, 0, 0.5, text, SMALL, color=MUTED if names else INK, va="center", transform=axes.transAxes)


def _umap(**options: Any) -> Any:
    try:
        return import_module("umap").UMAP(**options)
    except ImportError as error:
        raise InputError('UMAP is an extra: pip install "neural-plasticity[umap]".') from error
