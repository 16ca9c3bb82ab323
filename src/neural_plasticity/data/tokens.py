"""Token blocks of fixed length, packed from documents: what goes through the model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch

from neural_plasticity.data.corpus import Document
from neural_plasticity.data.token_cache import Tokenizer, encoded
from neural_plasticity.errors import CorpusError

IntBlocks = npt.NDArray[np.int64]


def token_blocks(documents: Sequence[Document], tokenizer: Tokenizer, block_tokens: int) -> IntBlocks:
    """Token ids (blocks, block_tokens): documents joined by end-of-text; the last part-filled block is left out.

    Raises:
        CorpusError: the text fills not even one block.
    """
    stream = encoded(documents, tokenizer).ids
    blocks = len(stream) // block_tokens
    if blocks == 0:
        names = ", ".join(d.name for d in documents[:3])
        raise CorpusError(
            f"--dataset: {names} holds {len(stream)} tokens, and one sequence needs {block_tokens}; "
            "give more text or a smaller --sequence_length."
        )
    return stream[: blocks * block_tokens].reshape(blocks, block_tokens).astype(np.int64)


def block_documents(documents: Sequence[Document], tokenizer: Tokenizer, block_tokens: int) -> IntBlocks:
    """For each of the ``token_blocks`` (blocks,) the number of the document in which its middle lies."""
    ends = np.cumsum(encoded(documents, tokenizer).lengths)
    middles = np.arange(ends[-1] // block_tokens) * block_tokens + block_tokens // 2
    return np.searchsorted(ends, middles, side="right")


def spread(blocks: IntBlocks, count: int) -> IntBlocks:
    """At most ``count`` blocks, evenly spaced: neighbours come from one document, and a few documents are no sample."""
    return blocks[spread_places(len(blocks), count)]


def spread_places(total: int, count: int) -> IntBlocks:
    """The places of at most ``count`` out of ``total``, evenly spaced."""
    if count >= total:
        return np.arange(total)
    return np.linspace(0, total - 1, count).round().astype(np.int64)


def shuffled_batches(blocks: IntBlocks, batch_size: int, seed: int, skip: int = 0) -> Iterator[torch.Tensor]:
    """Endless batches of token ids (batch_size, tokens); every epoch is a new permutation drawn from ``seed``.

    The first ``skip`` batches are left out, at the cost of one permutation per epoch.
    """
    generator = np.random.default_rng(seed)
    epochs, place = divmod(skip * batch_size, len(blocks))
    for _ in range(epochs):
        generator.permutation(len(blocks))
    queue = generator.permutation(len(blocks))[place:]
    while True:
        while len(queue) < batch_size:
            queue = np.concatenate([queue, generator.permutation(len(blocks))])
        chosen, queue = queue[:batch_size], queue[batch_size:]
        yield torch.from_numpy(blocks[chosen])
