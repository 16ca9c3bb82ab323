"""Fixed probe prompts: the same text before and after every pruning, so that samples and maps can be compared."""

from __future__ import annotations

PROBE_PROMPTS_VERSION = 1
"""Recorded with every run; maps and samples of different versions must not be compared."""

PROBE_PROMPTS: tuple[str, ...] = (
    "def read_lines(path):\n",
    "The function returns a list of",
    "class Node:\n    def __init__(self, value, next=None):\n        self.value = value\n",
)

MAP_TOKENS = 32
"""Attention maps are kept for the first tokens of a prompt, at most this many."""
