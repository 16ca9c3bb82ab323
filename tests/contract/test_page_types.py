"""The front end's types are the view models' fields: each interface is compared with the dataclass that it mirrors."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from neural_plasticity.record import open_run
from neural_plasticity.render.page.document import document
from tests.sample_run import SampleRun, write_events

MODEL = Path(__file__).resolve().parents[2] / "frontend" / "src" / "model"


def interfaces(source: str) -> dict[str, dict[str, str]]:
    """{interface: {field: type}} of a file of interfaces; what a field's own braces hold stays in its type."""
    source = re.sub(r"/\*.*?\*/|//[^\n]*", "", source, flags=re.DOTALL)
    found: dict[str, dict[str, str]] = {}
    for name, parent, body in re.findall(
        r"export interface (\w+)(?:<[^{]*?>)?(?: extends (\w+))? \{\n(.*?)\n\}", source, flags=re.DOTALL
    ):
        found[name] = dict(found.get(parent, {})) | dict(_fields(body))
    return found


def _fields(body: str) -> Iterator[tuple[str, str]]:
    depth, start = 0, 0
    for at, char in enumerate(f"{body}\n"):
        depth += (char in "{[(<") - (char in "}])>")
        line = body[start:at].strip()
        if char in "\n;" and depth == 0 and line:
            name, _, kind = line.partition(":")
            yield name.strip(), kind.strip()
            start = at + 1


def _differences(value: Any, kind: str, known: Mapping[str, Mapping[str, str]], path: str) -> Iterator[str]:
    """Fields that one side has and the other has not, of ``value`` and of everything in it."""
    kind = kind.removesuffix("| null").strip()
    if isinstance(value, list | tuple) and kind.endswith("[]"):
        for one in value:
            yield from _differences(one, kind.removesuffix("[]").strip("()"), known, f"{path}[]")
    elif dataclasses.is_dataclass(value):
        fields = dict(_fields(kind[1:-1])) if kind.startswith("{") else known.get(kind)
        if fields is None:
            yield f"{path}: {type(value).__name__} is {kind} in types.ts, which is no interface"
            return
        here = {field.name for field in dataclasses.fields(value)}
        there = {name.removesuffix("?") for name in fields}
        yield from (f"{path}.{name}: not in types.ts" for name in sorted(here - there))
        yield from (f"{path}.{name}: only in types.ts" for name in sorted(there - here))
        for name, field_kind in fields.items():
            if name.removesuffix("?") in here:
                plain = name.removesuffix("?")
                yield from _differences(getattr(value, plain), field_kind, known, f"{path}.{plain}")


@pytest.fixture(scope="module")
def sections(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    with open_run(write_events(tmp_path_factory.mktemp("types") / "run", SampleRun().events())) as run:
        return document(run)


def test_the_types_are_the_view_models_fields(sections: dict[str, Any]) -> None:
    source = "\n".join(path.read_text(encoding="utf-8") for path in sorted(MODEL.glob("types*.ts")))
    known = interfaces(source)
    assert set(known["Doc"]) == set(sections)
    differences = [
        line for name, view in sections.items() for line in _differences(view, known["Doc"][name], known, name)
    ]
    assert not sorted(set(differences))


def test_a_field_of_one_side_alone_is_told() -> None:
    @dataclasses.dataclass
    class Inner:
        seen: int = 0

    @dataclasses.dataclass
    class Outer:
        rows: tuple[Inner, ...] = (Inner(),)
        extra: int = 0

    known = interfaces(
        "export interface Inner {\n  seen: number // why\n  gone: string\n}\n"
        "export interface Outer {\n  rows: Inner[]\n}\n"
    )
    assert list(_differences(Outer(), "Outer", known, "x")) == [
        "x.extra: not in types.ts",
        "x.rows[].gone: only in types.ts",
    ]
