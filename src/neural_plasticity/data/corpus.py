"""Text, split by document into train, validation and test, from the standard library, files or the hub."""

from __future__ import annotations

import hashlib
import os
import sysconfig
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from itertools import pairwise
from pathlib import Path
from typing import Literal

from neural_plasticity.errors import CorpusError

BUILTIN_DATASET = "python-stdlib"
Split = Literal["train", "validation", "test"]


@dataclass(frozen=True)
class Document:
    """One text that is never divided between splits."""

    name: str
    text: str


@dataclass(frozen=True)
class Corpus:
    """Documents in three disjoint splits.

    Use: ``train`` for gradient steps, ``validation`` for scores, decisions and stopping, ``test`` for evaluation only.
    """

    name: str
    train: tuple[Document, ...]
    validation: tuple[Document, ...]
    test: tuple[Document, ...]

    @property
    def sha256(self) -> str:
        """Fingerprint of all text in all splits, as hex; two runs with the same one saw the same bytes."""
        digest = hashlib.sha256()
        for documents in (self.train, self.validation, self.test):
            for document in documents:
                digest.update(os.fsencode(document.name) + b"\0" + document.text.encode() + b"\0")
            digest.update(b"\1")
        return digest.hexdigest()


def load_corpus(dataset: str = BUILTIN_DATASET, dataset_config: str | None = None) -> Corpus:
    """Open ``dataset``: ``python-stdlib``, a text file, a directory of text files, or a hub data set.

    Raises:
        CorpusError: it is missing, empty, binary, too short to split, or the hub cannot be reached.
    """
    path = Path(dataset).expanduser()
    if dataset_config is not None and (dataset == BUILTIN_DATASET or path.exists()):
        raise CorpusError(f"--dataset_config {dataset_config}: only a hub data set has configurations, not {dataset}.")
    if dataset == BUILTIN_DATASET:
        return _python_stdlib()
    if path.is_file():
        return _from_text_file(path)
    if path.is_dir():
        return _from_directory(path)
    from neural_plasticity.data.hub import load_hub_corpus

    return load_hub_corpus(dataset, dataset_config)


def _python_stdlib() -> Corpus:
    """The standard library's sources and the reference topics that ``help()`` shows, as listed in python_stdlib.txt."""
    from pydoc_data.topics import topics

    listing = resources.files("neural_plasticity.data").joinpath("python_stdlib.txt").read_text()
    root = Path(sysconfig.get_path("stdlib"))
    splits: dict[str, list[Document]] = {"train": [], "validation": [], "test": []}
    missing: list[str] = []
    for line in listing.splitlines():
        if line.startswith("#"):
            continue
        split, name = line.split(maxsplit=1)
        text = _read_stdlib(root, name, topics)
        if text is None:
            missing.append(name)
        else:
            splits[split].append(Document(name, text))
    # A release may drop a file or two; a stripped installation drops most of them, which is no corpus any more.
    if len(missing) > 20:
        raise CorpusError(
            f"--dataset python-stdlib: {len(missing)} of the listed standard-library files are not in {root} "
            f"(first: {missing[0]}); this Python ships without its sources. Give a text file with --dataset."
        )
    return _corpus(BUILTIN_DATASET, splits)


def _read_stdlib(root: Path, name: str, topics: dict[str, str]) -> str | None:
    if name.startswith("topics:"):
        return topics.get(name.removeprefix("topics:"))
    try:
        return (root / name).read_text(encoding="utf-8")
    except FileNotFoundError:
        return None


def read_text(path: Path) -> str:
    """The file as UTF-8 text; CorpusError if it is unreadable, empty or binary."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise CorpusError(f"--dataset {path}: cannot be read ({error.strerror}).") from error
    if not raw.strip():
        raise CorpusError(f"--dataset {path}: the file is empty; expected UTF-8 text.")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise CorpusError(
            f"--dataset {path}: expected UTF-8 text, found binary data at byte {error.start:,}."
        ) from error
    if "\0" in text:
        raise CorpusError(f"--dataset {path}: expected UTF-8 text, found binary data at byte {raw.index(0):,}.")
    return text


def _from_text_file(path: Path) -> Corpus:
    """One file: contiguous stretches of it become train (80 %), validation (10 %) and test (10 %).

    Contiguous, so that no held-out sentence has its neighbours in the training text.
    """
    lines = read_text(path).splitlines(keepends=True)
    n = len(lines)
    bounds = (0, int(n * 0.8), int(n * 0.9), n)
    parts = ["".join(lines[a:b]) for a, b in pairwise(bounds)]
    if not all(part.strip() for part in parts):
        raise CorpusError(
            f"--dataset {path}: {n} lines are too few to split into train, validation and test; "
            "give a file with at least 10 lines of text."
        )
    names: Sequence[Split] = ("train", "validation", "test")
    documents = {
        split: [Document(f"{path.name}:{a + 1}-{b}", part)]
        for split, part, (a, b) in zip(names, parts, pairwise(bounds), strict=True)
    }
    return _corpus(str(path), documents)


def _from_directory(path: Path) -> Corpus:
    """Every ``*.txt``, ``*.md`` and ``*.py`` below ``path`` is a document, dealt out by a hash of its name."""
    files = sorted(p for p in path.rglob("*") if p.suffix in {".txt", ".md", ".py"} and p.is_file())
    files = [p for p in files if p.stat().st_size]  # every Python package has an empty file or two
    if len(files) < 3:
        raise CorpusError(
            f"--dataset {path}: found {len(files)} text files (*.txt, *.md, *.py); at least 3 are needed, "
            "one each for train, validation and test."
        )
    documents = [Document(str(p.relative_to(path)), read_text(p)) for p in files]
    documents.sort(key=lambda d: hashlib.sha256(os.fsencode(d.name)).digest())
    held_out = max(1, len(documents) // 10)
    return _corpus(
        str(path),
        {
            "validation": documents[:held_out],
            "test": documents[held_out : 2 * held_out],
            "train": documents[2 * held_out :],
        },
    )


def _corpus(name: str, splits: Mapping[str, Sequence[Document]] | Mapping[Split, Sequence[Document]]) -> Corpus:
    by_name = {str(split): tuple(documents) for split, documents in splits.items()}
    shown = os.fsencode(name).decode(errors="replace")  # file names are bytes, and not always UTF-8
    return Corpus(shown, by_name["train"], by_name["validation"], by_name["test"])
