"""Which of the processes that a launcher started together this one is; known before torch is."""

from __future__ import annotations

import os
from collections.abc import Mapping


def launched(environment: Mapping[str, str] = os.environ) -> tuple[int, int]:
    """(rank, processes), as ``accelerate launch`` and ``torchrun`` say them; (0, 1) where neither did."""
    if "RANK" not in environment or "WORLD_SIZE" not in environment:
        return 0, 1
    return int(environment["RANK"]), int(environment["WORLD_SIZE"])


def is_main() -> bool:
    """Whether this process is the one that records, shows and speaks."""
    return launched()[0] == 0
