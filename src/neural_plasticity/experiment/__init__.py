"""The experiment: one function per phase, and ``run(config)``, which yields everything that happens as events."""

from neural_plasticity.experiment.run import play, run
from neural_plasticity.experiment.state import Experiment, open_experiment

__all__ = ["Experiment", "open_experiment", "play", "run"]
