"""The peer: the same four curves as a Plotly page, every point of them, made the way Plotly's documentation does.

Four line charts under each other with linked steps (`make_subplots(shared_xaxes=True)`), the library inlined; no heads,
no decisions, no texts. SVG traces, which is the faster way here: the WebGL traces that Plotly Express takes beyond
1,000 points needed 109 s to their first paint on this machine, which has no graphics card.
"""

from __future__ import annotations

from pathlib import Path

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from neural_plasticity.record import open_run

DRAWN = "plotly-drawn"  # set once Plotly's own promise says that the plot is there


def write_plotly(run_dir: Path, path: Path) -> tuple[int, int]:
    """Write the page; returns the number of curves and of points in each."""
    with open_run(run_dir) as run:
        series = {name: run.series(name) for name in run.metrics()}
    figure = make_subplots(rows=len(series), cols=1, shared_xaxes=True, subplot_titles=list(series))
    for row, (name, (steps, values)) in enumerate(series.items(), start=1):
        figure.add_trace(go.Scatter(x=steps, y=values, name=name, mode="lines"), row=row, col=1)
    figure.update_layout(height=900, title="long-run")
    figure.write_html(path, include_plotlyjs=True, post_script=f"performance.mark('{DRAWN}')")
    return len(series), max(len(steps) for steps, _ in series.values())
