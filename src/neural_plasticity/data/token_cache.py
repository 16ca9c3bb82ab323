"""Encoded text, kept on disk: a tokeniser takes seconds over the standard library, and reading its tokens takes none.

It lies in Hugging Face's folder for such things (HF_ASSETS_CACHE; by default assets/ below HF_HOME), under the hash of
all that decides it. So an entry is never out of date: another text or tokeniser has another name.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import uuid
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import huggingface_hub
import numpy as np
import numpy.typing as npt
import tokenizers
import transformers
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from neural_plasticity.data.corpus import Document

VERSION = 1
"""Of the entries and of how text is encoded: after a change of either, a new number, and old entries are not found."""

WORTH_KEEPING = 200_000
"""Characters: what is shorter is encoded in a fifth of a second."""

MOST_BYTES = 2**30
"""Of all entries together; the ones that were not used for longest go."""

_log = logging.getLogger(__name__)


class Tokenizer(Protocol):
    """The part of a transformers tokeniser that encoding needs."""

    eos_token_id: int | None

    def __call__(self, text: list[str], **kwargs: object) -> dict[str, list[list[int]]]: ...


class Encoded(NamedTuple):
    """Documents as one stream of token ids (tokens,), end-of-text after each, and their lengths (documents,)."""

    ids: npt.NDArray[np.unsignedinteger]
    lengths: npt.NDArray[np.int64]


def encoded(documents: Sequence[Document], tokenizer: Tokenizer) -> Encoded:
    """The tokens of ``documents``: from the cache, or encoded now and kept there.

    An entry that is damaged is made again; a folder that cannot be used costs the time only. Both are logged.
    """
    key = _key(documents, tokenizer)
    if key is None:
        return _encoded_now(documents, tokenizer)
    try:
        path = huggingface_hub.cached_assets_path("neural_plasticity", "tokens") / f"{key}.safetensors"
    except (OSError, ValueError) as error:
        _log.warning("tokens are not kept between runs (%s); HF_ASSETS_CACHE can name another place", error)
        return _encoded_now(documents, tokenizer)
    if (found := _read(path, len(documents))) is None:
        found = _encoded_now(documents, tokenizer)
        _write(path, found)
    return found


def _encoded_now(documents: Sequence[Document], tokenizer: Tokenizer) -> Encoded:
    separator = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    texts = [document.text for document in documents]
    found = tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
    parts = [np.array([*ids, *separator], dtype=np.uint32) for ids in found]
    ids = np.concatenate([np.empty(0, dtype=np.uint32), *parts])
    small = ids.size == 0 or int(ids.max()) < 2**16
    return Encoded(ids.astype(np.uint16) if small else ids, np.array([len(part) for part in parts], dtype=np.int64))


def _key(documents: Sequence[Document], tokenizer: Any) -> str | None:
    """The hash of everything that decides the tokens; None where that is not known, or they are not worth keeping."""
    if sum(len(document.text) for document in documents) < WORTH_KEEPING:
        return None
    kind = type(tokenizer)
    # The whole of such a tokeniser can be written out; one in Python, or with code of its own, could do anything.
    if not isinstance(tokenizer, transformers.PreTrainedTokenizerFast) or not kind.__module__.startswith(
        "transformers."
    ):
        return None
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()  # as the call below does, so that the first one finds what the second one does
    backend.no_padding()
    special = getattr(tokenizer, "split_special_tokens", False)
    head = (
        VERSION,
        tokenizers.__version__,
        transformers.__version__,
        kind.__qualname__,
        special,
        tokenizer.eos_token_id,
    )
    digest = hashlib.sha256(f"{head}\0{backend.to_str()}".encode())
    for document in documents:
        text = document.text.encode(errors="surrogatepass")
        digest.update(b"\0%d\0" % len(text) + text)
    return digest.hexdigest()


def _read(path: Path, documents: int) -> Encoded | None:
    """The entry, if it is there and whole."""
    try:
        path.open("rb").close()
    except FileNotFoundError:
        return None
    except OSError as error:
        _log.warning("kept tokens cannot be read, and are made again: %s", error)
        return None
    with contextlib.suppress(OSError):  # another user's can be read all the same
        os.utime(path)  # the last that goes
    try:
        with safe_open(path, framework="np") as file:
            found = Encoded(file.get_tensor("ids"), file.get_tensor("lengths"))
            whole = _fits(found, documents) and (file.metadata() or {}).get("crc32") == _checksum(found)
    except (OSError, SafetensorError, ValueError, TypeError, KeyError) as error:
        _log.warning("kept tokens are damaged, and are made again: %s (%s)", path, error)
        return None
    if not whole:
        _log.warning("kept tokens are damaged, and are made again: %s (it is not what was kept)", path)
    return found if whole else None


def _fits(found: Encoded, documents: int) -> bool:
    """Whether the entry can be the tokens of so many documents: a checksum can be right on anything."""
    ids, lengths = found
    return (
        ids.dtype in (np.uint16, np.uint32)
        and lengths.dtype == np.int64
        and (ids.ndim, lengths.shape) == (1, (documents,))
        and bool((lengths >= 0).all())
        and int(lengths.sum()) == len(ids)
    )


def _write(path: Path, found: Encoded) -> None:
    """Keep ``found`` as ``path``, whole or not at all, whoever else does the same; the oldest entries make room."""
    content = save({"ids": found.ids, "lengths": found.lengths}, {"crc32": _checksum(found)})
    if len(content) > MOST_BYTES:
        return
    part = path.with_name(f".{uuid.uuid4().hex}.part")
    try:
        part.write_bytes(content)
        part.replace(path)
        _make_room(path.parent)
    except OSError as error:
        _log.warning(
            "tokens are not kept between runs (%s: %s); HF_ASSETS_CACHE can name another place",
            path.parent,
            error.strerror,
        )
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)


def _make_room(folder: Path) -> None:
    """Another process may be doing the same; an entry that goes while somebody reads it stays for that one."""
    left = MOST_BYTES
    entries = []
    for path in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):
            found = path.stat()
            entries.append((found.st_mtime, found.st_size, path))
    for _, size, path in sorted(entries, reverse=True):
        left -= size
        if left < 0:
            path.unlink(missing_ok=True)


def _checksum(found: Encoded) -> str:
    """CRC-32 of types, shapes and numbers: against a disk's damage, not against somebody who means harm."""
    head = f"{found.ids.dtype} {found.ids.shape} {found.lengths.dtype} {found.lengths.shape}"
    value = zlib.crc32(head.encode())
    for array in found:
        value = zlib.crc32(np.ascontiguousarray(array).view(np.uint8).data, value)
    return f"{value:08x}"
