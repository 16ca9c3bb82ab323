"""Trackers: Weights & Biases, and any that Accelerate knows. Each follows a run, or is filled from its record later."""

from neural_plasticity.trackers.background import BackgroundSink
from neural_plasticity.trackers.connection import chosen_mode, wandb_installed
from neural_plasticity.trackers.opening import PROJECT, TrackedRun, check_names, open_trackers, sync
from neural_plasticity.trackers.wandb_sink import WandbSink

__all__ = [
    "PROJECT",
    "BackgroundSink",
    "TrackedRun",
    "WandbSink",
    "check_names",
    "chosen_mode",
    "open_trackers",
    "sync",
    "wandb_installed",
]
