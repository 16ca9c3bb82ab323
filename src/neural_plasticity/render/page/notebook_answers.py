"""What a page in a cell asks for, answered as the live server answers its addresses."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from neural_plasticity.errors import RecordError
from neural_plasticity.render.page.live.columns import LiveSnapshot
from neural_plasticity.render.page.live.documents import Documents
from neural_plasticity.render.page.packing import pack
from neural_plasticity.views.curves import curve
from neural_plasticity.views.happenings import raw_events

MOST_POINTS = 200_000
MOST_ROWS = 2_000
_LARGEST = 2**53


async def asked(documents: Documents, path: str, query: Mapping[str, Any]) -> bytes:
    """A packed answer, gzipped.

    Raises:
        RecordError: there is no such question, or no answer in the record.
    """
    if path == "document":
        names = str(query.get("sections") or "")
        return (await documents.packed(names.split(",") if names else None)).gzipped
    question = _QUESTIONS.get(path)
    if question is None:
        raise RecordError(f"{path!r}: expected document, {' or '.join(_QUESTIONS)}.")
    return gzip.compress(pack(await documents.query(question(query))), 4, mtime=0)


def _curve(query: Mapping[str, Any]) -> Callable[[LiveSnapshot], Any]:
    first, last = _number(query, "first"), _number(query, "last")
    most = _most(query, 4_000, MOST_POINTS)
    return partial(curve, name=str(query.get("name")), first=first, last=last, most=most)


def _events(query: Mapping[str, Any]) -> Callable[[LiveSnapshot], Any]:
    kind = query.get("kind")
    most, before = _most(query, 200, MOST_ROWS), _number(query, "before")
    return partial(raw_events, most=most, before=before, kind=str(kind) if kind else None)


_QUESTIONS = {"curve": _curve, "events": _events}


def _most(query: Mapping[str, Any], usual: int, at_most: int) -> int:
    return min(max(_number(query, "most") or usual, 1), at_most)


def _number(query: Mapping[str, Any], name: str) -> int | None:
    value = query.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not -_LARGEST < value < _LARGEST:
        raise RecordError(f"{name}: expected a whole number.")
    return int(value)
