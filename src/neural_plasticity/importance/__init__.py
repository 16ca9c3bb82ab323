"""How much each head matters: criteria as pure functions of measurements, and the one pass that measures.

The criteria's names and arithmetic need only NumPy; torch is loaded when something is measured.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from neural_plasticity.importance.criteria import CRITERIA, Criterion
    from neural_plasticity.importance.maps import attention_maps
    from neural_plasticity.importance.onepass import Measurements, measure
    from neural_plasticity.importance.scoring import Evidence, score_heads

__all__ = ["CRITERIA", "Criterion", "Evidence", "Measurements", "attention_maps", "measure", "score_heads"]

_HOME = {
    "CRITERIA": "criteria",
    "Criterion": "criteria",
    "Evidence": "scoring",
    "Measurements": "onepass",
    "attention_maps": "maps",
    "measure": "onepass",
    "score_heads": "scoring",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
