"""What the demo can be told: one frozen dataclass, from which its command line and help are derived. Imports little."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Demo:
    """Play a complete simulated experiment, and make every view of it: console, PNG figures, page.

    No model is trained and no figure is real, which every view says; the heads are pruned by the rules of a real run,
    and come back by a simpler one. It needs neither torch nor a network and takes seconds. The same seed gives the
    same experiment. Nothing needs to be given; flags can be written with _ or -. A real run is:
    plasticity run --use_dashboard
    """

    seed: int = 0
    """Seed of everything that is drawn: another seed, another experiment."""
    cycles: int = 3
    """Cycles of pruning and healing. One head is added on the way, and pruned heads come back on evidence."""
    pruning_level: float = 0.2
    """Fraction of the heads still active that one cycle prunes."""
    pruning_strategy: str = "gradient"
    """What decides: gradient, gradient_normalised, fisher, output_norm, magnitude, entropy or combined."""
    pace: float = 0.0
    """Seconds that the console takes over the play, to watch it as in a real run: 20, for example. 0: no waiting."""
    output_dir: Path | None = None
    """Where the record, the figures and the page go. Default: output/demo_[timestamp]."""
    no_browser: bool = False
    """Do not open the page in a browser."""
    online: bool = False
    """Publish to Weights & Biases too. WANDB_MODE is respected; what is missing is said, and the rest is done."""
