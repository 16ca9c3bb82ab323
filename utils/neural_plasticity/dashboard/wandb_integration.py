"""``WandbDashboard`` under its documented name."""

from neural_plasticity.dashboard.wandb_dashboard import WandbDashboard

__all__ = ["WandbDashboard"]
