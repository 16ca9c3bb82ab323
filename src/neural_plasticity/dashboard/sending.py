"""Weights & Biases for a dashboard: which mode was asked for, and the sink that sends; without wandb, one line."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from neural_plasticity.dashboard import values
from neural_plasticity.errors import InputError
from neural_plasticity.record import Sink

MODES = ("online", "offline", "disabled")
_SPELLINGS = {"run": "online", "dryrun": "offline"}  # wandb's own older names in WANDB_MODE
MISSING = "Weights & Biases is not installed: nothing is sent to it; `pip install 'neural-plasticity[wandb]'` adds it."


def chosen_mode(mode: str | None, environment: Mapping[str, str] = os.environ) -> str:
    """``mode``, else ``WANDB_MODE``, else offline.

    Raises:
        InputError: none of the three modes.
    """
    name = "mode" if mode is not None else "WANDB_MODE"
    given = values.text(mode, name) if mode is not None else environment.get("WANDB_MODE", "") or "offline"
    found = _SPELLINGS.get(given, given)
    if found not in MODES:
        raise InputError(f"{name}: expected online, offline or disabled, got {given!r}.")
    return found


def open_wandb(
    mode: str, *, directory: Path, project: str, name: str, config: Mapping[str, Any], tags: tuple[str, ...],
    auto_login: bool,
) -> tuple[list[Sink], list[str]]:  # fmt: skip
    """The sink for this mode (none when disabled), and lines that the user should see."""
    if mode == "disabled":
        return [], []
    if find_spec("wandb") is None:
        return [], [MISSING]
    return [], []
