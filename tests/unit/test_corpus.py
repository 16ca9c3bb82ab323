"""Text: the splits are disjoint, the built-in list holds, and unusable files are refused in one line."""

from __future__ import annotations

import os
import sysconfig
from pathlib import Path

import numpy as np
import pytest

from neural_plasticity.data.corpus import Corpus, Document, load_corpus
from neural_plasticity.data.tokens import shuffled_batches, token_blocks
from neural_plasticity.errors import CorpusError


class Bytes:
    """A tokeniser of one token per byte; 0 ends a text."""

    eos_token_id = 0

    def __call__(self, text: list[str], **_: object) -> dict[str, list[list[int]]]:
        return {"input_ids": [list(t.encode()) for t in text]}


def texts(corpus: Corpus) -> list[set[str]]:
    return [{d.text for d in split} for split in (corpus.train, corpus.validation, corpus.test)]


def names(corpus: Corpus) -> list[set[str]]:
    return [{d.name for d in split} for split in (corpus.train, corpus.validation, corpus.test)]


def test_the_standard_library_is_there_and_its_splits_are_disjoint() -> None:
    corpus = load_corpus()
    train, validation, test = names(corpus)
    assert not train & validation
    assert not train & test
    assert not validation & test
    assert sum(len(d.text) for d in corpus.train) > 5_000_000
    for held_out in (corpus.validation, corpus.test):
        assert sum(len(d.text) for d in held_out) > 200_000
    source = Path(sysconfig.get_path("stdlib"), "enum.py").read_text(encoding="utf-8")
    assert any(d.text == source for d in corpus.validation + corpus.test + corpus.train)
    assert corpus.sha256 == load_corpus().sha256


def test_one_file_is_cut_into_contiguous_parts_that_lose_nothing(tmp_path: Path) -> None:
    file = tmp_path / "text.txt"
    content = "".join(f"line {i}\n" for i in range(100))
    file.write_text(content)
    corpus = load_corpus(str(file))
    parts = [split[0].text for split in (corpus.train, corpus.validation, corpus.test)]
    assert "".join(parts) == content
    assert [part.count("\n") for part in parts] == [80, 10, 10]


def test_a_directory_deals_its_files_out_by_name(tmp_path: Path) -> None:
    for i in range(30):
        (tmp_path / f"{i}.txt").write_text(f"text {i}")
    (tmp_path / "__init__.py").touch()  # empty, as in every Python package
    (tmp_path / os.fsdecode(b"caf\xe9.txt")).write_text("text 30")  # a name that is not UTF-8
    (tmp_path / "picture.png").write_bytes(b"\x89PNG")
    corpus = load_corpus(str(tmp_path))
    train, validation, test = texts(corpus)
    assert (len(train), len(validation), len(test)) == (25, 3, 3)
    assert len(train | validation | test) == 31
    assert len(corpus.sha256) == 64


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "is empty"),
        (b" \n\n ", "is empty"),
        (b"\x89PNG\r\n\x1a\n" + bytes(range(256)), "binary data at byte 0"),
        (b"text\0text", "binary data at byte 4"),
        (b"one line only", "too few to split"),
    ],
)
def test_unusable_files_are_refused_in_one_line(tmp_path: Path, content: bytes, expected: str) -> None:
    file = tmp_path / "text.txt"
    file.write_bytes(content)
    with pytest.raises(CorpusError, match=expected) as caught:
        load_corpus(str(file))
    assert "\n" not in str(caught.value)


def test_a_data_set_that_is_nowhere_is_refused_in_one_line() -> None:
    with pytest.raises(CorpusError, match="--dataset no-such-set") as caught:
        load_corpus("no-such-set")
    assert "\n" not in str(caught.value)


def test_blocks_hold_every_token_in_order() -> None:
    blocks = token_blocks([Document("a", "abcdef"), Document("b", "ghij")], Bytes(), 4)
    assert blocks.tolist() == [list(b"abcd"), [*b"ef", 0, *b"g"], [*b"hij", 0]]
    with pytest.raises(CorpusError, match="one sequence needs 64"):
        token_blocks([Document("a", "short")], Bytes(), 64)


def test_batches_are_seeded_and_visit_every_block_once_per_epoch() -> None:
    blocks = np.arange(14, dtype=np.int64).reshape(7, 2)
    first, second = shuffled_batches(blocks, 3, seed=5), shuffled_batches(blocks, 3, seed=5)
    seen = [next(first) for _ in range(7)]
    assert all((a == next(second)).all() for a in seen)
    rows = [tuple(row.tolist()) for batch in seen for row in batch]
    assert sorted(rows[:7]) == sorted(map(tuple, blocks.tolist()))
    assert sorted(rows[7:14]) == sorted(map(tuple, blocks.tolist()))


def test_a_configuration_is_for_hub_data_sets_alone(tmp_path: Path) -> None:
    file = tmp_path / "text.txt"
    file.write_text("line\n" * 100)
    with pytest.raises(CorpusError, match="--dataset_config nonsense"):
        load_corpus(str(file), "nonsense")
