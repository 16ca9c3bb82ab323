"""Runs and dashboards display themselves in notebooks, although neither knows how to.

The record may not import what shows it, and a dashboard's module should not load a page before there is one. So the
package, when it is imported in a kernel, tells IPython which types are shown by whom: by name, nothing is loaded yet.
"""

from __future__ import annotations

import sys
from typing import Any

_SHOWN = (
    ("neural_plasticity.record.run", "Run", "path"),
    ("neural_plasticity.dashboard.wandb_dashboard", "WandbDashboard", "output_dir"),
)


def register() -> bool:
    """Tell the kernel that this runs in, if it is one, how to display runs and dashboards; True when it was told."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if getattr(shell, "kernel", None) is None:  # a terminal: it shows text
        return False
    formatter: Any = shell.display_formatter.ipython_display_formatter  # type: ignore[union-attr]
    for module, name, place in _SHOWN:
        formatter.for_type_by_name(module, name, _Shown(place))
    return True


class _Shown:
    """Displays an object by the run that its attribute ``place`` leads to."""

    def __init__(self, place: str) -> None:
        self.place = place

    def __call__(self, shown: Any) -> None:
        from neural_plasticity.render.page.notebook import show

        show(getattr(shown, self.place))
