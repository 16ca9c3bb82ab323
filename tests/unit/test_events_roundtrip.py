"""Law: the event read is the event recorded, whatever its values; and what is unknown, or of other types than are
declared, stays readable."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from neural_plasticity.errors import RecordError
from neural_plasticity.events import EVENT_TYPES, Event, HeadsPruned, LogLine, RunStarted, StepMetrics
from neural_plasticity.heads import HeadId, HeadState
from neural_plasticity.record import RecordWriter, Run, UnknownEvent, open_run

DTYPES = [
    np.dtype(name) for name in ("f8", ">f4", "f2", "g", "c8", "?", "i1", "<u8", ">i4", "U3", "S2", "M8[ms]", "m8[ns]")
] + [np.dtype([("a", "<i2"), ("b", ">f8", (2,))])]
TEXT = st.one_of(
    st.sampled_from(["</script>", "\x00", "\ud800 lone", "é漢🙂", "$array", "", "\u2028"]), st.text(max_size=8)
)
STEP = st.integers(-(2**63), 2**63 - 1)
ARRAY = st.sampled_from(DTYPES).flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3))
)
LARGE = hnp.arrays(
    np.float16, (48, 200), fill=st.floats(width=16), elements=st.floats(width=16)
)  # above the inline limit
NUMBERS = ARRAY.filter(lambda array: array.dtype.kind in "biuf")
GRID = st.sampled_from([np.dtype(name) for name in ("f8", ">f4", "f2", "i1", "?", "<u8")]).flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=2, max_dims=2, min_side=0, max_side=4))
)
SCALAR = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), TEXT, st.binary(max_size=4), st.complex_numbers(),
    hnp.from_dtype(np.dtype("f4")), hnp.from_dtype(np.dtype("i8")), hnp.from_dtype(np.dtype("M8[s]")),
)  # fmt: skip
KEY = st.one_of(TEXT, st.integers(), st.tuples(st.integers(), st.integers()))
ANY = st.recursive(
    SCALAR | ARRAY,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(KEY, inner, max_size=3),
        st.frozensets(st.integers() | TEXT, max_size=3),
    ),
    max_leaves=4,
)
HEAD = st.builds(HeadId, st.integers(0, 99), st.integers(0, 99))
PLAIN: Mapping[Any, st.SearchStrategy[Any]] = {
    int: STEP, str: TEXT, float: st.floats(), bool: st.booleans(), Any: ANY, HeadId: HEAD,
    type(None): st.none(),
}  # fmt: skip


def values_of(hint: Any) -> st.SearchStrategy[Any]:
    """Values for a field of this declared type."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint in PLAIN:
        return PLAIN[hint]
    if origin is typing.Literal:
        return st.sampled_from(arguments)
    if origin in (typing.Union, types.UnionType):
        return st.one_of(*(values_of(one) for one in arguments))
    if origin is tuple and arguments[-1] is Ellipsis:
        return st.lists(values_of(arguments[0]), max_size=4).map(tuple)
    if origin is tuple:  # (layers, heads)
        return st.tuples(*(st.integers(0, 100) for _ in arguments))
    if origin is np.ndarray:
        (kind,) = typing.get_args(arguments[1])
        if kind == np.floating[Any]:
            return NUMBERS | LARGE
        return GRID | LARGE if kind is np.float64 else GRID.filter(lambda array: array.dtype.kind != "f")
    assert origin is Mapping, hint
    return st.dictionaries(
        TEXT if arguments[0] is str else values_of(arguments[0]), values_of(arguments[1]), max_size=4
    )


def events_of(cls: type[Event]) -> st.SearchStrategy[Event]:
    hints = typing.get_type_hints(cls)
    fields = {one.name: values_of(hints[one.name]) for one in dataclasses.fields(cls)}
    # A phase is a column of the record, where a lone surrogate cannot stand; it is written out (tested below).
    fields |= dict.fromkeys(("step", "cycle", "phase_step"), STEP) | {"phase": st.text(max_size=8)}
    return st.builds(cls, **fields)


def same(one: Any, other: Any) -> bool:
    """Equal, with arrays compared by dtype, shape and bytes, and NaN equal to itself."""
    if isinstance(one, Event):
        return type(one) is type(other) and all(
            same(getattr(one, field.name), getattr(other, field.name)) for field in dataclasses.fields(one)
        )
    if isinstance(one, np.ndarray):
        return isinstance(other, np.ndarray) and _bytes(one) == _bytes(other)
    if isinstance(one, Mapping):
        return len(one) == len(other) and all(same(a, b) for a, b in zip(one.items(), other.items(), strict=True))
    if isinstance(one, list | tuple):
        kind = type(one)
        return isinstance(other, kind) and len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, np.datetime64):
        return isinstance(other, np.datetime64) and _bytes(np.asarray(one)) == _bytes(np.asarray(other))
    if isinstance(one, complex):
        return same(one.real, other.real) and same(one.imag, other.imag)
    return bool(one == other) or (one != one and other != other)


def _bytes(array: np.ndarray[Any, Any]) -> tuple[Any, ...]:
    return np.lib.format.dtype_to_descr(array.dtype), array.shape, array.tobytes()


@pytest.fixture(scope="module")
def through_the_record(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Event], Event]]:
    directory = tmp_path_factory.mktemp("run")
    with RecordWriter.create(directory) as writer, open_run(directory) as run:

        def record_and_read(event: Event) -> Event:
            seq = writer.append(event)
            (one,) = run.records(attempt="all", after_seq=seq - 1)
            assert one.seq == seq
            return one.event

        yield record_and_read


@pytest.mark.parametrize("cls", EVENT_TYPES.values(), ids=EVENT_TYPES)
def test_an_event_read_is_the_event_recorded(cls: type[Event], through_the_record: Callable[[Event], Event]) -> None:
    # Shrinking such events takes minutes and an example is readable without it.
    @settings(max_examples=25, phases=(Phase.explicit, Phase.generate))
    @given(events_of(cls))
    def law(event: Event) -> None:
        assert same(event, through_the_record(event))

    law()


def test_the_comparison_itself_sees_differences() -> None:
    grid = np.array([[1.0, np.nan]])
    event = HeadsPruned(heads=(HeadId(0, 1),), strategy="x", score=grid)
    assert same(event, dataclasses.replace(event, score=grid.copy()))
    assert not same(event, dataclasses.replace(event, score=grid.astype(np.float32)))
    assert not same(event, dataclasses.replace(event, score=grid * 2))
    assert not same(event, dataclasses.replace(event, heads=[HeadId(0, 1)]))  # type: ignore[arg-type]
    assert not same(math.nan, 1.0)


def test_declared_types_come_back(through_the_record: Callable[[Event], Event]) -> None:
    event = through_the_record(HeadsPruned(heads=[(0, 1), [2, 3]], strategy="x"))  # type: ignore[arg-type, list-item]
    assert isinstance(event, HeadsPruned)
    assert event.heads == (HeadId(0, 1), HeadId(2, 3))
    assert all(type(head) is HeadId for head in event.heads)


class Colour(Enum):
    RED = "red"


@dataclasses.dataclass(frozen=True)
class Options:
    level: float
    path: PurePosixPath


def test_what_has_no_json_form_is_kept_readable(through_the_record: Callable[[Event], Event]) -> None:
    config = {
        "options": Options(0.5, PurePosixPath("/a/b")), "colour": Colour.RED, "state": HeadState.PRUNED,
        "grid": np.arange(3), "call": Path, "number": np.float64(math.inf), "tuple": (1, (2,)),
    }  # fmt: skip
    event = through_the_record(RunStarted(name="x", shape=(1, 1), config=config))
    assert isinstance(event, RunStarted)
    read = dict(event.config)
    assert read.pop("grid").tolist() == [0, 1, 2]
    assert read.pop("call") == str(Path)
    assert read == {
        "options": {"level": 0.5, "path": "/a/b"}, "colour": "red", "state": 0, "number": math.inf, "tuple": (1, (2,)),
    }  # fmt: skip


def test_lone_surrogates_in_columns_are_written_out(through_the_record: Callable[[Event], Event]) -> None:
    assert through_the_record(LogLine(message="\ud800", phase="a\udc80")) == LogLine(message="\ud800", phase="a\\udc80")


@pytest.mark.parametrize(
    ("event", "says"),
    [
        (StepMetrics(metrics={"loss": "high"}), "metric 'loss': expected a number, got 'high'"),  # type: ignore[dict-item]
        (StepMetrics(metrics={"loss": None}), "metric 'loss'"),  # type: ignore[dict-item]
        (StepMetrics(step=1.5, metrics={}), "whole numbers"),  # type: ignore[arg-type]
        (RunStarted(name="x", shape=(1, 1), config={"a": np.array([object()])}), "dtype object"),
        (LogLine(step=2**63, message="x"), "64-bit"),
    ],
)
def test_what_cannot_be_kept_is_refused_in_one_line_and_leaves_no_trace(
    event: Event, says: str, tmp_path: Path
) -> None:
    with RecordWriter.create(tmp_path) as writer, open_run(tmp_path) as run:
        writer.append(LogLine(message="before"))
        with pytest.raises(RecordError, match=says) as caught:
            writer.append_many([StepMetrics(metrics={"new": 1.0}), event])
        assert "\n" not in str(caught.value)
        writer.append(StepMetrics(metrics={"new": 2.0}))
        assert [one.kind for one in run.events()] == ["log", "metrics"]
        assert run.series("new")[1].tolist() == [2.0]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Newer(LogLine):
    version: ClassVar[int] = 2
    colour: str = "red"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Other(Event):
    kind: ClassVar[str] = "other"
    grid: Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stranger(Event):
    """Our kind and version, other fields."""

    kind: ClassVar[str] = "log"
    text: str


@pytest.mark.parametrize(
    ("event", "kind", "version", "payload"),
    [
        (Newer(step=3, message="x"), "log", 2, {"message": "x", "level": "info", "colour": "red"}),
        (Other(step=3, grid=(1, 2)), "other", 1, {"grid": (1, 2)}),
        (Stranger(step=3, text="x"), "log", 1, {"text": "x"}),
    ],
)
def test_what_this_version_does_not_know_reads_as_unknown(
    event: Event, kind: str, version: int, payload: Any, tmp_path: Path
) -> None:
    with RecordWriter.create(tmp_path) as writer:
        writer.append(event)
    with open_run(tmp_path) as run:
        assert list(run.events()) == [
            UnknownEvent(step=3, original_kind=kind, original_version=version, payload=payload)
        ]
        assert run.log() == []


def test_arrays_read_cannot_be_changed_by_accident(tmp_path: Path) -> None:
    with RecordWriter.create(tmp_path) as writer:
        writer.append(HeadsPruned(heads=(), strategy="x", score=np.zeros((2, 2))))
    run: Run = open_run(tmp_path)
    (event,) = run.decisions()
    assert event.score is not None
    with pytest.raises(ValueError, match="read-only"):
        event.score[0, 0] = 1.0
