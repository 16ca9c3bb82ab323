"""Whether an error says that there is no memory left: then nothing is wrong with what was being read or computed."""

from __future__ import annotations

import errno

import torch

_SAID = ("can't allocate memory", "Cannot allocate memory")  # PyTorch's CPU allocator, and the system in its words


def out_of_memory(error: BaseException) -> bool:
    """CUDA, Python and the system have exceptions of their own; PyTorch on the CPU says it in words."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _SAID)
