"""Whether an optional package is installed, without importing it."""

from __future__ import annotations

import importlib.util


def installed(package: str) -> bool:
    """Whether ``package`` can be imported; a directory of that name (``wandb/``, full of runs) is no package."""
    try:
        found = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return False
    return found is not None and found.origin is not None
