"""Figures for print, drawn with Matplotlib from a run's record: one per view, each by its name in ``FIGURES``.

Importing this loads Matplotlib, never pyplot: no display is needed, and figures can be drawn in any thread.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType

import matplotlib
from matplotlib.figure import Figure

from neural_plasticity.errors import InputError
from neural_plasticity.events import AttentionMaps, Embedding, HeadsGrown
from neural_plasticity.record import Run
from neural_plasticity.record.snapshot import snapshot
from neural_plasticity.render.figures.cycles import multi_cycle_process
from neural_plasticity.render.figures.embeddings import embeddings_figure
from neural_plasticity.render.figures.evaluation import attention_figure, evaluation_figure
from neural_plasticity.render.figures.evolution import attention_evolution_figure
from neural_plasticity.render.figures.growth import growth_figure
from neural_plasticity.render.figures.heads import analysis_figure, pruning_figure
from neural_plasticity.render.figures.metrics import metrics_figure
from neural_plasticity.render.figures.process import complete_process
from neural_plasticity.render.figures.style import DPI
from neural_plasticity.render.figures.training import fine_tuning_figure, warmup_figure
from neural_plasticity.views.cycles import cycle_numbers

__all__ = ["FIGURES", "draw", "names_for", "save_figure", "save_figures"]

FIGURES: Mapping[str, Callable[[Run], Figure]] = MappingProxyType(
    {
        "complete_process": complete_process,
        "multi_cycle_process": multi_cycle_process,
        "metrics": metrics_figure,
        "warmup": warmup_figure,
        "analysis": analysis_figure,
        "pruning": pruning_figure,
        "fine_tuning": fine_tuning_figure,
        "evaluation": evaluation_figure,
        "attention": attention_figure,
        "attention_evolution": attention_evolution_figure,
        "growth": growth_figure,
        "embeddings": embeddings_figure,
    }
)
_VECTOR = {".pdf", ".svg", ".ps", ".eps"}
_SETTINGS = threading.Lock()  # Matplotlib's font settings for vector files are global


def draw(run: Run, name: str) -> Figure:
    """The figure of that name, with a canvas of its own; needs no display.

    Raises:
        InputError: there is no such figure.
    """
    if name not in FIGURES:
        raise InputError(f"figure {name!r}: expected one of {', '.join(FIGURES)}.")
    return FIGURES[name](run)


def names_for(run: Run) -> tuple[str, ...]:
    """The figures that this run has something to say in.

    The multi-cycle one from two cycles on, evolution where something was looked at more than once, growth where it was
    considered, and embeddings where there are some.
    """
    now = snapshot(run)
    looks = {(place.cycle, place.step) for place in now.places(AttentionMaps)}
    without = {
        "multi_cycle_process": len(cycle_numbers(now.decisions(), now.phases())) < 2,
        "attention_evolution": len(looks) < 2,
        "growth": not now.places(HeadsGrown),
        "embeddings": not now.places(Embedding),
    }
    return tuple(name for name in FIGURES if not without.get(name))


def save_figure(figure: Figure, path: Path | str) -> Path:
    """Write the figure as the file's suffix says (PNG, PDF, SVG); vector files keep text as text.

    The file appears complete or not at all, so that a page being reloaded never shows half a picture.

    Raises:
        InputError: the suffix is unknown, or the file cannot be written.
    """
    target = Path(path)
    known = figure.canvas.get_supported_filetypes()
    if target.suffix[1:].lower() not in known:
        raise InputError(f"{target}: expected a name ending in .png, .pdf or .svg, got {target.suffix or 'no suffix'}.")
    scratch: Path | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=".", suffix=target.suffix)
        os.close(handle)
        scratch = Path(name)
        if target.suffix.lower() in _VECTOR:
            with _SETTINGS, matplotlib.rc_context({"pdf.fonttype": 42, "ps.fonttype": 42, "svg.fonttype": "none"}):
                figure.savefig(scratch, dpi=DPI)
        else:
            figure.savefig(scratch, dpi=DPI)
        scratch.chmod(0o644)
        scratch.replace(target)
    except OSError as error:
        raise InputError(f"{target}: the figure cannot be written: {error.strerror or error}.") from error
    finally:
        if scratch is not None:
            with contextlib.suppress(OSError):
                scratch.unlink()
    return target


def save_figures(run: Run, directory: Path | str, names: Iterable[str] | None = None) -> list[Path]:
    """Write ``<name>.png`` for each figure (None: all that this run has something to say in); returns the paths.

    Raises:
        InputError: an unknown name, or a directory that cannot be written.
    """
    return [
        save_figure(draw(run, name), Path(directory) / f"{name}.png")
        for name in (names_for(run) if names is None else names)
    ]
