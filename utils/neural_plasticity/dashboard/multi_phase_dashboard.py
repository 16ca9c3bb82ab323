"""``MultiPhaseDashboard`` under its documented name."""

from neural_plasticity.dashboard.multi_phase import MultiPhaseDashboard

__all__ = ["MultiPhaseDashboard"]
