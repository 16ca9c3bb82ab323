"""Prune, heal and regrow the attention heads of a transformer, on record. Names load what they need when first used."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from neural_plasticity.dashboard.multi_phase import MultiPhaseDashboard
    from neural_plasticity.dashboard.trainer_callback import PlasticityCallback
    from neural_plasticity.dashboard.wandb_dashboard import WandbDashboard
    from neural_plasticity.importance import score_heads
    from neural_plasticity.models.attach import attach
    from neural_plasticity.models.compaction import compact
    from neural_plasticity.models.saving import export_dense, load_pruned, save_pruned
    from neural_plasticity.record import annotate, open_run

__version__ = "0.1.0"

__all__ = [
    "MultiPhaseDashboard",
    "PlasticityCallback",
    "WandbDashboard",
    "__version__",
    "annotate",
    "attach",
    "compact",
    "export_dense",
    "load_pruned",
    "open_run",
    "save_pruned",
    "score_heads",
]

_HOME = {
    "MultiPhaseDashboard": "dashboard.multi_phase",
    "PlasticityCallback": "dashboard.trainer_callback",
    "WandbDashboard": "dashboard.wandb_dashboard",
    "annotate": "record",
    "attach": "models.attach",
    "compact": "models.compaction",
    "export_dense": "models.saving",
    "load_pruned": "models.saving",
    "open_run": "record",
    "save_pruned": "models.saving",
    "score_heads": "importance",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


if "IPython" in sys.modules:  # in a notebook a run is shown as its page
    import_module(f"{__name__}.render.cells").register()
