"""Scores -> which heads to prune, and when to stop: numpy and scipy only, no torch."""

from neural_plasticity.policies.plugins import load_plugin
from neural_plasticity.policies.selection import (
    PruningChoice,
    check_plan,
    choose_heads_to_prune,
    choose_listed_heads,
    decide_pruning,
)
from neural_plasticity.policies.stabilisation import Stability, stabilisation
from neural_plasticity.policies.strategies import STRATEGIES, Strategy, StrategyContext, resolve_strategy

__all__ = [
    "STRATEGIES",
    "PruningChoice",
    "Stability",
    "Strategy",
    "StrategyContext",
    "check_plan",
    "choose_heads_to_prune",
    "choose_listed_heads",
    "decide_pruning",
    "load_plugin",
    "resolve_strategy",
    "stabilisation",
]
