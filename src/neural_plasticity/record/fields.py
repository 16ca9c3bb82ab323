"""Whether what a record says of an event fits the event's type: views may rely on the types that `events` declares.

Made once per type from its annotations. A grid is declared with its own dtype (``FloatGrid``) and is (layers, heads);
arrays declared with a kind of numbers only (``np.floating``) may have any shape. A pair of numbers is such a shape.
"""

from __future__ import annotations

import typing
from collections.abc import Callable, Mapping
from types import NoneType, UnionType
from typing import Any, Literal

import numpy as np

from neural_plasticity.heads import MOST, MOST_HEADS, HeadId

Fits = Callable[[Any], bool]
_KINDS = {np.float64: "biuf", np.int64: "biu", np.int8: "biu", np.bool_: "biu"}


def fits(hint: Any) -> Fits:
    """A function that tells whether a decoded value is of the declared type."""
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return lambda _value: True
    if hint is float:
        return _is_float
    if hint is int:
        return lambda value: type(value) is int and -(2**63) <= value < 2**63
    if hint in (str, bool, NoneType):
        return lambda value: isinstance(value, hint)
    if hint is HeadId:
        return lambda value: isinstance(value, HeadId) and all(type(one) is int and 0 <= one < MOST for one in value)
    if origin is Literal:
        return lambda value: isinstance(value, str) and value in parts
    if origin in (UnionType, typing.Union):
        ways = [fits(one) for one in parts]
        return lambda value: any(way(value) for way in ways)
    if origin is np.ndarray:
        return _array(parts[1])
    return _collection(origin, parts)


def fitting_part(hint: Any) -> Callable[[Any], Any]:
    """A function that gives a decoded value as far as it is of the declared type: whole where it `fits`; else of a
    mapping the entries that do, and nothing of what may be missing. A script may record anything: one odd value
    beside others must not hide those.

    Raises:
        TypeError: (the function) no part of the value fits.
    """
    whole, origin, parts = fits(hint), typing.get_origin(hint), typing.get_args(hint)
    each = fits(parts[1]) if isinstance(origin, type) and issubclass(origin, Mapping) else None

    def fitting(value: Any) -> Any:
        if whole(value):
            return value
        if each is not None and isinstance(value, dict):
            return {k: v for k, v in value.items() if isinstance(k, str) and each(v)}
        if NoneType in parts:
            return None
        raise TypeError(f"expected {hint}")

    return fitting


def _collection(origin: Any, parts: tuple[Any, ...]) -> Fits:
    if origin is tuple and parts[-1] is not Ellipsis:
        return lambda value: isinstance(value, tuple) and all(type(one) is int for one in value) and is_grid(value)
    if origin is tuple:
        each = fits(parts[0])
        return lambda value: isinstance(value, tuple) and all(each(one) for one in value)
    if origin is not None and issubclass(origin, Mapping):
        nested = typing.get_origin(parts[1])  # results: a user's own evaluation may say anything of a model
        each = fits(Any if isinstance(nested, type) and issubclass(nested, Mapping) else parts[1])
        return lambda value: isinstance(value, dict) and all(isinstance(k, str) and each(v) for k, v in value.items())
    raise TypeError(f"{origin}: no event has had a field of this type so far; say here what fits it")


def _array(dtype: Any) -> Fits:
    kind = typing.get_args(dtype)[0]
    if kind not in _KINDS:
        return lambda value: isinstance(value, np.ndarray) and value.dtype.kind in "biuf"
    return lambda value: isinstance(value, np.ndarray) and value.dtype.kind in _KINDS[kind] and is_grid(value.shape)


def is_grid(shape: tuple[int, ...]) -> bool:
    """Whether these are (layers, heads) of a model that there can be."""
    return len(shape) == 2 and 0 <= min(shape) <= max(shape) <= MOST and shape[0] * shape[1] <= MOST_HEADS


def _is_float(value: Any) -> bool:
    """A float, NaN and infinities among them, or a whole number that is not too large to be one."""
    return isinstance(value, float) or (type(value) is int and abs(value) < 2**1023)
