"""``python -m utils.neural_plasticity.dashboard.dashboard_demo``: a simulated experiment and every view of it."""

import sys

if __name__ != "__mp_main__":  # the processes that draw the figures import this again, and need none of it
    from neural_plasticity.dashboard.demo import main, simulate

    __all__ = ["main", "simulate"]
if __name__ == "__main__":
    sys.exit(main())
