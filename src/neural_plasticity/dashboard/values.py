"""What scripts pass to a dashboard, as plain numbers, text and arrays; errors name the argument. No torch: duck typing.

NumPy and torch scalars and arrays are read through ``detach``, ``cpu``, ``numpy`` and ``item``, wherever they live.
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Mapping, Sequence
from operator import index
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from neural_plasticity.errors import InputError

LAST_STEP = 2**63 - 1
_SHOWN = 60  # characters of a wrong value that an error quotes


def shown(value: Any) -> str:
    """A wrong value for an error message: its type and the beginning of what it looks like, on one line."""
    shape = getattr(value, "shape", None)
    if shape is not None and tuple(shape):
        return f"{type(value).__name__} of shape {tuple(shape)}"
    text = " ".join(repr(value).split())
    return f"{type(value).__name__} {text[: _SHOWN - 1] + '…' if len(text) > _SHOWN else text}"


def _on_cpu(value: Any) -> Any:
    """A tensor without its graph and in main memory; anything else as it is."""
    for name in ("detach", "cpu"):
        method = getattr(value, name, None)
        value = method() if callable(method) else value
    return value


def number(value: Any, name: str) -> float:
    """A number, or an array or tensor that holds a single one.

    Raises:
        InputError: it is anything else.
    """
    item = getattr(value, "item", None)
    try:
        plain = item() if callable(item) and not isinstance(value, Mapping) else value
        if isinstance(plain, int | float | np.integer | np.floating):
            return float(plain)
    except (TypeError, ValueError, RuntimeError, OverflowError):  # more than one element; more than a float holds
        pass
    raise InputError(f"{name}: expected a number, got {shown(value)}.")


# What is known of a figure by its name: (least, most, in words). Rounding may lie a hair outside.
_BOUNDS: Mapping[str, tuple[float, float, str]] = {
    "perplexity": (0.0, math.inf, "a perplexity, 0 or more"),
    "sparsity": (0.0, 1.0, "a fraction of the heads, from 0 to 1"),
}
_ROUNDING = 1e-6


def figure(value: Any, name: str, kind: str) -> float:
    """A number that is possible for what ``kind`` names; NaN is: a loss that diverged.

    Raises:
        InputError: no number, or one that cannot be.
    """
    found = number(value, name)
    least, most, words = _BOUNDS.get(kind, (-math.inf, math.inf, ""))
    if found < least - _ROUNDING or found > most + _ROUNDING:
        raise InputError(f"{name}: expected {words}, got {shown(value)}.")
    return found


def fraction(value: Any, name: str) -> float:
    """A number from 0 to 1.

    Raises:
        InputError: it is anything else.
    """
    found = number(value, name)
    if not 0 <= found <= 1:
        raise InputError(f"{name}: expected a fraction from 0 to 1, got {shown(value)}.")
    return found


def whole(value: Any, name: str) -> int:
    """A whole number from 0 on: a step, a layer, a cycle.

    Raises:
        InputError: it is negative, has a fraction, or is no number.
    """
    item = getattr(value, "item", None)
    try:
        plain = item() if callable(item) else value
        if isinstance(plain, bool):
            raise TypeError
        found = index(plain)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{name}: expected a whole number, counted from 0, got {shown(value)}.") from error
    if not 0 <= found <= LAST_STEP:
        raise InputError(f"{name}: expected a whole number from 0 to 2^63 − 1, got {shown(found)}.")
    return found


def text(value: Any, name: str) -> str:
    """Text.

    Raises:
        InputError: it is something else.
    """
    if not isinstance(value, str):
        raise InputError(f"{name}: expected text, got {shown(value)}.")
    return str(value)


def path(value: Any, name: str) -> Path:
    """A path, as text or a `Path`.

    Raises:
        InputError: it is something else.
    """
    if not isinstance(value, str | os.PathLike) or not str(value):
        raise InputError(f"{name}: expected a path, got {shown(value)}.")
    return Path(value)


def mapping(value: Any, name: str) -> Mapping[str, Any]:
    """A dict with text as its keys.

    Raises:
        InputError: it is something else.
    """
    if not isinstance(value, Mapping):
        raise InputError(f"{name}: expected a dict, got {shown(value)}.")
    for key in value:
        if not isinstance(key, str):
            raise InputError(f"{name}: expected names as keys, got {shown(key)}.")
    return value


def sequence(value: Any, name: str) -> Sequence[Any]:
    """A list or tuple; text is none.

    Raises:
        InputError: it is something else.
    """
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Sequence):
        raise InputError(f"{name}: expected a list, got {shown(value)}.")
    return value


def array(value: Any, name: str, dimensions: int, meaning: str) -> npt.NDArray[Any]:
    """Numbers in an array of so many dimensions (``meaning`` says which, for the error), in a dtype of their own.

    Raises:
        InputError: other dimensions, ragged, or no numbers.
    """
    try:
        found = _array(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{name}: expected an array {meaning}, got {shown(value)}.") from error
    if found.ndim != dimensions:
        raise InputError(f"{name}: expected an array {meaning}, got one of shape {found.shape}.")
    if found.dtype.kind not in "biuf":
        raise InputError(f"{name}: expected an array of numbers {meaning}, got one of dtype {found.dtype}.")
    return found


def _array(value: Any) -> npt.NDArray[Any]:
    value = _on_cpu(value)
    if isinstance(value, list | tuple) and any(hasattr(one, "detach") for one in value):
        return np.stack([_array(one) for one in value])  # one tensor per layer, as models return them
    if not callable(getattr(value, "numpy", None)):
        return np.array(value)  # a copy: the script may go on to change its own
    try:
        return np.array(value.numpy())
    except TypeError:  # bfloat16, which NumPy does not have
        return np.array(value.float().numpy())


def settings(value: Any, name: str) -> dict[str, Any]:
    """A configuration as a dict: a dict, a dataclass, an ``argparse.Namespace``, or whatever has ``to_dict()``.

    Raises:
        InputError: it is none of these.
    """
    if value is None:
        return {}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    to_dict = getattr(value, "to_dict", None)
    found = to_dict() if callable(to_dict) else value
    if isinstance(found, Mapping):
        return dict(found)
    if hasattr(found, "__dict__") and not isinstance(found, type) and not callable(found):
        return dict(vars(found))
    raise InputError(f"{name}: expected a dict, got {shown(value)}.")


def tags(value: Any, name: str = "tags") -> tuple[str, ...]:
    """Tags: one text or several; None: none.

    Raises:
        InputError: one of them is not text.
    """
    if value is None:
        return ()
    listed = [value] if isinstance(value, str) else sorted(value) if isinstance(value, set | frozenset) else value
    return tuple(text(one, f"{name}[{place}]") for place, one in enumerate(sequence(listed, name)))


def plain(value: Any, name: str) -> Any:
    """Anything else a script tells, at any depth: tensors as arrays, the rest as it came.

    Raises:
        InputError: it contains itself.
    """
    try:
        return _plain(value)
    except RecursionError as error:
        raise InputError(
            f"{name}: expected plain values, got a {type(value).__name__} that contains itself."
        ) from error


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_plain(one) for one in value)
    return _array(value) if hasattr(value, "detach") else value
