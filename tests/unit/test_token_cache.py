"""Kept tokens are the tokens: whatever text and tokeniser, whatever happened to the file, whoever else writes it."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save
from transformers import PreTrainedTokenizerFast

from neural_plasticity.data import token_cache
from neural_plasticity.data.corpus import Document
from neural_plasticity.data.token_cache import Encoded, encoded
from neural_plasticity.models.loading import BUILTIN_DIRECTORY

TEXTS = ("def prune(head):\n", "    return None\n", "", "x = 1\n" * 50)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where entries lie, of texts of any length."""
    monkeypatch.setattr("huggingface_hub.utils._cache_assets.HF_ASSETS_CACHE", str(tmp_path / "assets"))
    monkeypatch.setattr(token_cache, "WORTH_KEEPING", 0)
    return tmp_path / "assets" / "neural_plasticity" / "tokens" / "default"


@pytest.fixture
def tokenizer() -> Any:
    return PreTrainedTokenizerFast.from_pretrained(BUILTIN_DIRECTORY)


def documents(*texts: str) -> list[Document]:
    return [Document(str(place), text) for place, text in enumerate(texts)]


def plainly(texts: tuple[str, ...] | list[str], tokenizer: Any) -> tuple[list[int], list[int]]:
    """The reference: one text after the other, as the tokeniser itself says."""
    end = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    parts = [[*tokenizer.encode(text, add_special_tokens=False), *end] for text in texts]
    return [token for part in parts for token in part], [len(part) for part in parts]


def same(found: Encoded, expected: tuple[list[int], list[int]]) -> bool:
    return (found.ids.tolist(), found.lengths.tolist()) == expected


@pytest.fixture
def unasked(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From here on nothing may be encoded."""
    return lambda: monkeypatch.setattr(token_cache, "_encoded_now", lambda *_: pytest.fail("encoded again"))


def test_the_second_time_nothing_is_encoded(folder: Path, tokenizer: Any, unasked: Callable[[], None]) -> None:
    assert same(encoded(documents(*TEXTS), tokenizer), plainly(TEXTS, tokenizer))
    (entry,) = folder.iterdir()
    unasked()
    another = PreTrainedTokenizerFast.from_pretrained(BUILTIN_DIRECTORY)
    another("x" * 500, truncation=True, max_length=8)  # leaves its mark on a tokeniser, and none on what it encodes
    assert same(encoded(documents(*TEXTS), another), plainly(TEXTS, tokenizer))
    assert list(folder.iterdir()) == [entry]


@settings(max_examples=30)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=20), min_size=1, max_size=5))
def test_whatever_the_text(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    tokenizer = PreTrainedTokenizerFast.from_pretrained(BUILTIN_DIRECTORY)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("huggingface_hub.utils._cache_assets.HF_ASSETS_CACHE", str(tmp_path_factory.mktemp("assets")))
        patch.setattr(token_cache, "WORTH_KEEPING", 0)
        for _ in range(2):
            assert same(encoded(documents(*texts), tokenizer), plainly(texts, tokenizer))


def test_another_text_or_tokeniser_is_another_entry(folder: Path, tokenizer: Any) -> None:
    def without_end(other: Any) -> None:
        other.eos_token = None

    changes: list[Callable[[Any], object]] = [
        lambda _: None,
        lambda other: other.add_tokens(["prune"]),
        without_end,
        lambda other: other.add_special_tokens({"eos_token": "<done>"}),
    ]
    texts = [TEXTS, ("".join(TEXTS),), (*TEXTS[:1], TEXTS[1] + TEXTS[2], TEXTS[3]), TEXTS[::-1]]
    for change in changes:
        other = PreTrainedTokenizerFast.from_pretrained(BUILTIN_DIRECTORY)
        change(other)
        for text in texts:
            assert same(encoded(documents(*text), other), plainly(text, other))
    assert len(list(folder.iterdir())) == len(changes) * len(texts)


@pytest.mark.parametrize("place", [0.0, 0.1, 0.5, 0.99, "cut", "empty"])
def test_a_damaged_entry_is_made_again_and_that_is_said(
    folder: Path, tokenizer: Any, place: float | str, caplog: pytest.LogCaptureFixture, unasked: Callable[[], None]
) -> None:
    expected = plainly(TEXTS, tokenizer)
    encoded(documents(*TEXTS), tokenizer)
    (entry,) = folder.iterdir()
    whole = bytearray(entry.read_bytes())
    damaged = whole.copy()
    if isinstance(place, float):
        damaged[int(place * len(whole))] ^= 4
    else:
        del damaged[0 if place == "empty" else len(whole) // 2 :]
    entry.write_bytes(damaged)
    with caplog.at_level(logging.WARNING, "neural_plasticity"):
        assert same(encoded(documents(*TEXTS), tokenizer), expected)
    assert "kept tokens are damaged, and are made again: " in caplog.text
    assert entry.read_bytes() == whole
    unasked()
    assert same(encoded(documents(*TEXTS), tokenizer), expected)


def test_where_nothing_can_be_kept_text_is_encoded_and_that_is_said(
    tmp_path: Path, tokenizer: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setattr(token_cache, "WORTH_KEEPING", 0)
    for broken in ("file/below", "folder"):
        monkeypatch.setattr("huggingface_hub.utils._cache_assets.HF_ASSETS_CACHE", str(tmp_path / broken))
        if broken == "folder":  # there, but full
            monkeypatch.setattr(Path, "write_bytes", _full)
        caplog.clear()
        with caplog.at_level(logging.WARNING, "neural_plasticity"):
            assert same(encoded(documents(*TEXTS), tokenizer), plainly(TEXTS, tokenizer))
        (record,) = caplog.records
        assert "tokens are not kept between runs" in record.message
        assert "HF_ASSETS_CACHE can name another place" in record.message
    assert not [path for path in (tmp_path / "folder").rglob("*") if path.is_file()]


def _full(path: Path, data: bytes) -> int:
    with path.open("wb") as file:
        file.write(data[:10])
    raise OSError(28, "No space left on device")


def test_short_texts_and_tokenisers_that_cannot_be_written_out_leave_no_entry(
    folder: Path, tokenizer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Own(PreTrainedTokenizerFast):  # type: ignore[misc]
        """A model's own code might do anything with a text."""

    own = Own.from_pretrained(BUILTIN_DIRECTORY)
    assert same(encoded(documents(*TEXTS), own), plainly(TEXTS, tokenizer))
    monkeypatch.setattr(token_cache, "WORTH_KEEPING", 10_000)
    assert same(encoded(documents(*TEXTS), tokenizer), plainly(TEXTS, tokenizer))
    assert not folder.exists()


def test_the_entries_that_were_not_used_for_longest_make_room(
    folder: Path, tokenizer: Any, monkeypatch: pytest.MonkeyPatch, unasked: Callable[[], None]
) -> None:
    texts = [f"{number} " * 100 for number in range(3)]
    encoded(documents(texts[0]), tokenizer)
    (first,) = folder.iterdir()
    monkeypatch.setattr(token_cache, "MOST_BYTES", int(2.5 * first.stat().st_size))
    encoded(documents(texts[1]), tokenizer)
    for path in folder.iterdir():  # a day passes
        times = path.stat()
        _set_time(path, times.st_mtime - 86_400 - (path == first))
    encoded(documents(texts[0]), tokenizer)  # used again
    encoded(documents(texts[2]), tokenizer)
    assert len(list(folder.iterdir())) == 2
    unasked()
    for text in (texts[0], texts[2]):
        encoded(documents(text), tokenizer)
    with pytest.raises(pytest.fail.Exception):
        encoded(documents(texts[1]), tokenizer)


def _set_time(path: Path, when: float) -> None:
    os.utime(path, (when, when))


def test_several_may_write_the_same_entry_at_once(folder: Path, tokenizer: Any) -> None:
    """And read it: nobody ever sees a part of one."""
    texts = [text * 40 for text in TEXTS]
    expected = encoded(documents(*texts), tokenizer)
    (entry,) = folder.iterdir()
    wrong: list[Encoded | None] = []
    over = threading.Event()

    def write() -> None:
        for _ in range(30):
            token_cache._write(entry, expected)

    def read() -> None:
        while not over.is_set():
            found = token_cache._read(entry, len(texts))
            if found is None or not np.array_equal(found.ids, expected.ids):
                wrong.append(found)

    reader, writers = threading.Thread(target=read), [threading.Thread(target=write) for _ in range(4)]
    for thread in (reader, *writers):
        thread.start()
    for thread in writers:
        thread.join()
    over.set()
    reader.join()
    assert not wrong
    assert list(folder.iterdir()) == [entry]


@pytest.mark.parametrize(
    "changed",
    [
        lambda kept: kept._replace(ids=kept.ids.astype(np.float64)),
        lambda kept: kept._replace(ids=kept.ids.reshape(1, -1)),
        lambda kept: kept._replace(ids=kept.ids[:-1]),
        lambda kept: kept._replace(lengths=kept.lengths[:-1]),
        lambda kept: kept._replace(lengths=-kept.lengths),
        lambda kept: kept._replace(lengths=kept.lengths.astype(np.float64)),
    ],
)
def test_an_entry_that_cannot_be_these_tokens_is_made_again_whatever_its_checksum(
    folder: Path, tokenizer: Any, changed: Callable[[Encoded], Encoded], caplog: pytest.LogCaptureFixture
) -> None:
    kept = encoded(documents(*TEXTS), tokenizer)
    (entry,) = folder.iterdir()
    other = changed(kept)
    entry.write_bytes(save({"ids": other.ids, "lengths": other.lengths}, {"crc32": token_cache._checksum(other)}))
    with caplog.at_level(logging.WARNING, "neural_plasticity"):
        assert same(encoded(documents(*TEXTS), tokenizer), plainly(TEXTS, tokenizer))
    assert "it is not what was kept" in caplog.text
