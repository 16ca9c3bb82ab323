"""``setup_colab_environment``, ``display_dashboard`` and what else a notebook needs, under their documented names."""

from neural_plasticity.dashboard import colab
from neural_plasticity.dashboard.colab import *  # noqa: F403

__all__ = colab.__all__
