"""Events as JSON and arrays, and back: generic over dataclass fields, so a new event type needs nothing here.

Plain JSON values stay as they are. What JSON lacks is an object with one key that begins with ``$``:
``{"$float": "nan"}``, ``{"$array": …}``, ``{"$scalar": …}`` (a NumPy date), ``{"$tuple": […]}``,
``{"$set": […]}``, ``{"$bytes": "base64"}``, ``{"$complex": [re, im]}``,
``{"$map": [[key, value], …]}``. Tuples that a field declares are plain lists.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import typing
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from functools import singledispatch
from json.encoder import encode_basestring_ascii as _quoted
from math import isfinite
from pathlib import PurePath
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from neural_plasticity.errors import RecordError
from neural_plasticity.events import EVENT_TYPES, Event
from neural_plasticity.heads import HeadId
from neural_plasticity.record.fields import fitting_part

Array = npt.NDArray[Any]
Put = Callable[[Array], str]  # keeps an array, returns the JSON text that refers to it
Get = Callable[[Any], Array]
COORDINATES = frozenset(field.name for field in dataclasses.fields(Event))
MOST_TEXT = 64_000_000  # characters of an event's JSON; in memory it takes ten times as much
MOST_DEPTH = 100  # of lists and objects in one another


@dataclasses.dataclass(frozen=True, kw_only=True)
class UnknownEvent(Event):
    """An event of a newer version, of a type not known here, or with values that do not fit; ``payload``: its fields.

    Views may rely on the types that `events` declares; what does not fit them is kept and shown as it is.
    """

    kind: ClassVar[str] = "unknown"
    original_kind: str
    original_version: int
    payload: Mapping[str, Any]


# Text is made right away: objects for JSON's own encoder, and that encoder made for every event, cost as much again.
_WAYS: dict[type, Callable[[Any, Put], str]] = {}


def encode(value: Any, put: Put) -> str:
    """JSON text of ``value``; arrays go through ``put``. What has no form of its own is kept as its text."""
    kind = type(value)
    way = _WAYS.get(kind)
    if way is None:  # singledispatch's own look-up is a function call and a weak reference, for each value
        way = _WAYS[kind] = _encode.dispatch(kind)
    return way(value, put)


def _members(items: Iterable[tuple[str, Any]], put: Put) -> str:
    return f"{{{','.join([f'{_quoted(key)}:{encode(one, put)}' for key, one in items])}}}"


def _all(values: Iterable[Any], put: Put) -> str:
    return f"[{','.join([encode(one, put) for one in values])}]"


@singledispatch
def _encode(value: Any, put: Put) -> str:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _members([(field.name, getattr(value, field.name)) for field in dataclasses.fields(value)], put)
    if hasattr(value, "__array__"):
        return encode(np.asarray(value), put)
    return _quoted(str(value))


@_encode.register(type(None))
def _(_value: None, _put: Put) -> str:
    return "null"


@_encode.register
def _(value: bool, _put: Put) -> str:
    return "true" if value else "false"


@_encode.register
def _(value: int, _put: Put) -> str:
    return int.__repr__(value)


@_encode.register
def _(value: float, _put: Put) -> str:
    text = float.__repr__(value)
    return text if isfinite(value) else f'{{"$float":"{text}"}}'


@_encode.register
def _(value: str, _put: Put) -> str:
    return _quoted(str(value))


@_encode.register
def _(value: complex, put: Put) -> str:
    return f'{{"$complex":{_all((value.real, value.imag), put)}}}'


@_encode.register
def _(value: bytes, _put: Put) -> str:
    return f'{{"$bytes":"{base64.b64encode(value).decode("ascii")}"}}'


@_encode.register
def _(value: Enum, put: Put) -> str:
    return encode(value.value, put)


@_encode.register
def _(value: PurePath, _put: Put) -> str:
    return _quoted(str(value))


@_encode.register(list)
def _(value: list[Any], put: Put) -> str:
    return _all(value, put)


@_encode.register(tuple)
def _(value: tuple[Any, ...], put: Put) -> str:
    return f'{{"$tuple":{_all(value, put)}}}'


@_encode.register(set)
@_encode.register(frozenset)
def _(value: Any, put: Put) -> str:
    return f'{{"$set":{_all(sorted(value, key=repr), put)}}}'


@_encode.register(Mapping)
def _(value: Any, put: Put) -> str:
    for key in value:
        if type(key) is not str or key.startswith("$"):
            return f'{{"$map":{_all(map(list, value.items()), put)}}}'
    return _members(value.items(), put)


@_encode.register
def _(value: np.generic, put: Put) -> str:
    plain = value.item()
    same = isinstance(plain, (bool, int, float, complex, str, bytes)) and value.dtype.kind in "biufcSU"
    return encode(plain, put) if same else f'{{"$scalar":{put(np.asarray(value))}}}'


@_encode.register
def _(value: np.ndarray, put: Put) -> str:
    if value.dtype.hasobject:
        raise RecordError(
            f"array of dtype {value.dtype}: expected numbers, text or dates; convert it before recording."
        )
    return f'{{"$array":{put(value)}}}'


_TAGS: Mapping[str, Callable[[Any, Get], Any]] = {
    "$float": lambda body, _get: float(body),
    "$complex": lambda body, get: complex(decode(body[0], get), decode(body[1], get)),
    "$bytes": lambda body, _get: base64.b64decode(body),
    "$tuple": lambda body, get: tuple(decode(one, get) for one in body),
    "$set": lambda body, get: frozenset(decode(one, get) for one in body),
    "$map": lambda body, get: {decode(key, get): decode(one, get) for key, one in body},
    "$array": lambda body, get: get(body),
    "$scalar": lambda body, get: get(body)[()],
}


def decode(value: Any, get: Get) -> Any:
    """The value that ``encode`` was given, arrays fetched through ``get``."""
    if isinstance(value, list):
        return [decode(one, get) for one in value]
    if not isinstance(value, dict):
        return value
    if len(value) == 1:
        ((tag, body),) = value.items()
        if tag in _TAGS:
            return _TAGS[tag](body, get)
    return {key: decode(one, get) for key, one in value.items()}


def _restorer(hint: Any) -> Callable[[Any], Any] | None:
    """How a field of this declared type is rebuilt from a list; None: it is not a tuple."""
    if typing.get_origin(hint) is not tuple:
        return None
    if HeadId in typing.get_args(hint):
        return lambda value: tuple(HeadId(*one) for one in value)
    return tuple


_Fields = tuple[tuple[str, Callable[[Any], Any] | None, Callable[[Any], Any]], ...]
_FIELDS: dict[Any, _Fields] = {}


def _fields(cls: type[Event]) -> _Fields:
    """Names of the event's own fields, each with its restorer, and with what takes the part of a value that fits."""
    if cls not in _FIELDS:
        hints = typing.get_type_hints(cls)
        names = [field.name for field in dataclasses.fields(cls) if field.name not in COORDINATES]
        _FIELDS[cls] = tuple((name, _restorer(hints[name]), fitting_part(hints[name])) for name in names)
    return _FIELDS[cls]


def encode_event(event: Event, put: Put) -> str:
    """The event's own fields (not its coordinates) as JSON text.

    Raises:
        RecordError: a value that cannot be kept.
    """
    members = []
    for name, restorer, _ in _fields(type(event)):
        value = getattr(event, name)
        plain = [list(one) if isinstance(one, HeadId) else one for one in value] if restorer else value
        members.append((name, plain))
    text = _members(members, put)
    if len(text) > MOST_TEXT:
        raise RecordError(f"{event.kind} event: {len(text):,} characters of text, expected at most {MOST_TEXT:,}.")
    return text


def decode_event(kind: str, version: int, payload: str, coordinates: Mapping[str, Any], get: Get) -> Event:
    """The event again; an ``UnknownEvent`` when its kind, version or fields are not those known here.

    Raises:
        ValueError, TypeError, LookupError, RecursionError and what ``get`` raises: the payload is not of our making.
    """
    if len(payload) > MOST_TEXT:
        raise ValueError(f"{len(payload):,} characters of JSON")
    plain = json.loads(payload)
    if nesting(plain) > MOST_DEPTH:
        raise ValueError("nested too deeply")
    fields = {name: decode(value, get) for name, value in plain.items()}
    cls = _READABLE.get(kind)
    if cls is not None and version <= cls.version:
        restored = dict(fields)
        try:
            for name, restorer, fitting in _fields(cls):
                if name in restored:
                    restored[name] = fitting(restorer(restored[name]) if restorer else restored[name])
            return cls(**coordinates, **restored)
        except TypeError:
            pass  # other fields than ours: shown as unknown rather than half read
    return UnknownEvent(**coordinates, original_kind=kind, original_version=version, payload=fields)


def nesting(value: Any) -> int:
    """How deeply lists and objects lie in one another; 0 for a plain value."""
    depth, level = 0, [value]
    while level := [one for one in level if isinstance(one, list | dict)]:
        depth += 1
        level = [part for one in level for part in (one.values() if isinstance(one, dict) else one)]
    return depth


_READABLE: Mapping[str, type[Event]] = {**EVENT_TYPES, UnknownEvent.kind: UnknownEvent}
