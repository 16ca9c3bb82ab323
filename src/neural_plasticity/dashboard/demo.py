"""The demo: a simulated experiment, and every view of it."""

from __future__ import annotations

from neural_plasticity.dashboard.demo_events import simulate

__all__ = ["simulate"]
