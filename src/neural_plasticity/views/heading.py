"""What stands above every figure of a run: its name, what it was made of, and whether it really happened."""

from __future__ import annotations

from dataclasses import dataclass

from neural_plasticity.record import Run
from neural_plasticity.views import figures


@dataclass(frozen=True)
class Heading:
    """``name`` of the run, ``detail`` on its model and text, ``simulated``: nothing was computed, it was made up."""

    name: str
    detail: str
    simulated: bool


def heading(run: Run) -> Heading:
    """The heading of a run, whatever it has said about itself."""
    started = run.started
    if started is None:
        return Heading(figures.clean(run.name), "", False)
    told = [
        started.model.get("name") or started.config.get("model_name"),
        started.data.get("name") or started.config.get("dataset"),
    ]
    parts = [figures.shorten(figures.clean(str(one)), 48) for one in told if one]
    if min(started.shape) > 0:
        parts.append(f"{figures.plural(started.shape[0], 'layer')} × {figures.plural(started.shape[1], 'head')}")
    return Heading(figures.shorten(figures.clean(run.name), 60), " · ".join(parts), started.simulated)
