"""Waiting for what cannot be ended."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

T = TypeVar("T")


async def to_its_end(work: Awaitable[T]) -> T:
    """What ``work`` gives. Where nobody waits for it any more, it is waited for before that is told.

    For what must not go on behind the back of a lock: a thread cannot be ended.
    """
    future = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        while not future.done():
            await asyncio.wait([future])
        raise
