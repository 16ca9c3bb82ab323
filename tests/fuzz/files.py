"""Smaller files that somebody else may have made: what a sweep is, text to train on, pages with a run inside."""

from __future__ import annotations

import base64
import json
import os
import zlib
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import strategies as st

from neural_plasticity.config import RunConfig
from neural_plasticity.data.corpus import load_corpus
from neural_plasticity.record import open_run
from neural_plasticity.render.page import read_page, render_page
from neural_plasticity.sweep.cells import Cell
from neural_plasticity.sweep.plan import MANIFEST, Plan, claim
from tests.fuzz import records
from tests.fuzz.law import holds

# A sweep's directory ----------------------------------------------------------------------------------------------

VALUES: st.SearchStrategy[Any] = st.sampled_from((*records.JSON_NUMBERS, *records.TEXTS, *records.ODD_JSON))
NAMES = st.sampled_from((*vars(RunConfig()), "unknown", "", "\x1b[2J\nplasticity: done", "x" * 5_000))
MANIFESTS = st.one_of(
    st.binary(max_size=40),
    st.text(max_size=20).map(str.encode),
    st.sampled_from(
        (b"[" * 100_000, b"", b'{"options": ' + b"[" * 50_000, b'{"options": {"a": 1e999}}', b"9" * 10_000)
    ),
    st.dictionaries(NAMES, VALUES, max_size=3).map(lambda options: json.dumps({"options": options}).encode()),
    st.tuples(st.sampled_from(("options", "version", "")), VALUES).map(lambda one: json.dumps(dict([one])).encode()),
)
RECORDS = st.one_of(st.none(), records.CHANGED)


def one_sweep(manifest: bytes, kind: str, record: Any) -> list[str]:
    """The law, for going on with a sweep whose directory somebody has sent: its manifest, and a cell's record."""
    with TemporaryDirectory() as name:
        plan = Plan(Path(name), (Cell("entropy", 0.1, 0),), RunConfig())
        path = plan.directory / MANIFEST
        if kind == "pipe":
            os.mkfifo(path)
        elif kind == "directory":
            path.mkdir()
        else:
            path.write_bytes(manifest)
        if record is not None:
            plan.cell_dir(plan.cells[0]).mkdir(parents=True)
            record.apply(plan.cell_dir(plan.cells[0]) / "run.sqlite")
        with holds() as errors:
            plan.standing(plan.cells[0])
            claim(plan).release()
    return errors


KINDS = st.sampled_from(("file",) * 12 + ("pipe", "directory"))

# Text to train on -------------------------------------------------------------------------------------------------

LINES = b"".join(b"line no %d of the text.\n" % number for number in range(40))
TEXTS = st.one_of(
    st.binary(max_size=200),
    st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.tuples(st.integers(0, len(LINES)), st.binary(max_size=6)).map(lambda one: LINES[: one[0]] + one[1] + LINES),
    st.sampled_from((b"", b"\n" * 1_000, b"\xef\xbb\xbf" + LINES, b"\r" * 30, "\u2028".encode() * 50, b"\x00" * 50,
                     b"x" * 300_000, LINES.decode().encode("utf-16"))),
)  # fmt: skip
FILES = st.sampled_from(
    ("a.txt", "b.md", "c.py", "d.txt", "e.txt", "f.bin", "g.txt", "\udcff.txt", "h\n.txt", "sub/i.txt", ".hidden.txt")
)
KINDS_OF_FILE = st.sampled_from(("file",) * 10 + ("pipe", "directory", "circle", "dangling", "outside"))
DIRECTORIES = st.one_of(st.none(), st.dictionaries(FILES, st.tuples(TEXTS, KINDS_OF_FILE), max_size=6))


def one_text(data: bytes, directory: dict[str, tuple[bytes, str]] | None) -> list[str]:
    """The law, for a file or a directory of text."""
    with TemporaryDirectory() as name:
        path = Path(name) / "text"
        if directory is None:
            path.write_bytes(data)
        for file, (content, kind) in (directory or {}).items():
            one = path / file
            one.parent.mkdir(parents=True, exist_ok=True)
            {
                "file": lambda one=one, content=content: one.write_bytes(content),
                "pipe": lambda one=one: os.mkfifo(one),
                "directory": lambda one=one: one.mkdir(),
                "circle": lambda one=one: one.symlink_to(one),
                "dangling": lambda one=one: one.symlink_to("nowhere"),
                "outside": lambda one=one: one.symlink_to("/etc/hostname"),
            }[kind]()
        with holds() as errors:
            corpus = load_corpus(str(path))
            _ = corpus.sha256
            assert corpus.train
            assert corpus.validation
            assert corpus.test
    return errors


# Pages with a run inside ------------------------------------------------------------------------------------------


@cache
def page() -> bytes:
    """A run's single file."""
    with TemporaryDirectory() as name:
        (Path(name) / "run.sqlite").write_bytes(records.template())
        with open_run(Path(name)) as run:
            return render_page(run).encode()


def packed(data: bytes) -> bytes:
    deflated = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS)
    return base64.b64encode(deflated.compress(data) + deflated.flush())


@cache
def bomb() -> bytes:
    """2 GB of zeros in two megabytes."""
    deflated = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    part = deflated.compress(bytes(1_000_000)) + deflated.flush(zlib.Z_FULL_FLUSH)  # after which it can be repeated
    return base64.b64encode(part * 2_000 + deflated.flush())


PAGES: st.SearchStrategy[Any] = st.one_of(
    st.tuples(st.just("bytes"), st.lists(st.tuples(st.integers(0, 2**24), st.integers(0, 255)), max_size=9)),
    st.tuples(st.sampled_from((*["cut"] * 9, "bomb")), st.integers(0, 10_000)),
    st.tuples(st.just("data"), st.binary(max_size=80)),
    st.tuples(st.just("packed"), st.binary(max_size=80)),
    st.tuples(st.just("base64"), st.text(alphabet="ABCx/+= \n", max_size=40)),
)


def one_page(change: tuple[str, Any]) -> list[str]:
    """The law, for reading what a page carries."""
    how, told = change
    data = b'<script id="npd-data">%b</script>'
    if how == "bytes":
        changed = bytearray(page())
        start = changed.index(b'id="npd-data">')
        for place, value in told:
            changed[start + place % (len(changed) - start)] = value
        data = bytes(changed)
    elif how == "cut":
        data = page()[: len(page()) * told // 10_000]
    elif how == "bomb":
        data %= bomb()
    else:
        data %= {"data": lambda: told, "packed": lambda: packed(told), "base64": lambda: told.encode()}[how]()
    with TemporaryDirectory() as name:
        path = Path(name) / "dashboard.html"
        path.write_bytes(data)
        with holds() as errors:
            read_page(path)
    return errors
