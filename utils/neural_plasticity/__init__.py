"""``utils.neural_plasticity...``: the documented names of modules in ``src/neural_plasticity``."""
