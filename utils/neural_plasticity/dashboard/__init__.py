"""``utils.neural_plasticity.dashboard...``: the documented names of ``neural_plasticity.dashboard``."""
