"""What a sweep can be told, beside the options of its runs."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from neural_plasticity.config import RunConfig
from neural_plasticity.sweep.cells import FLAGS, Cell

BackendName = Literal["local", "ray"]


@dataclass(frozen=True)
class Ways:
    """How a sweep is worked off."""

    jobs: int | None = None
    """Cells at the same time. Default: as many as there are cores for their threads; one on a GPU."""
    threads: int = 1
    """Threads that each cell computes with. Results may differ in the last digits between numbers of threads."""
    backend: BackendName = "local"
    """Where cells run: processes of this machine, or a Ray cluster."""
    ray_address: str | None = None
    """The Ray cluster. Default: what RAY_ADDRESS says, one that runs here, or one started for the sweep."""
    retry_failed: bool = False
    """Try cells again that failed in an earlier try."""
    keep_checkpoints: bool = False
    """Keep the weights of finished cells; otherwise they go, and records and tables stay."""
    shared_dir: Path | None = None
    """Where warm-ups and baselines lie that sweeps share. Default: within the sweep's directory."""


@dataclass(frozen=True)
class SweepOptions:
    """A sweep as it was asked for."""

    cells: tuple[Cell, ...]
    base: RunConfig
    directory: Path
    ways: Ways = field(default_factory=Ways)
    flag: str = FLAGS[0]  # by which the strategies were given
