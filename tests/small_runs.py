"""Small models on disk and options for runs of a few seconds, for tests that need a whole experiment."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedTokenizerFast

from neural_plasticity.config import RunConfig
from neural_plasticity.events import Event, Progress
from neural_plasticity.models.loading import BUILTIN_DIRECTORY
from tests.architectures import build


def save_model(
    directory: Path, architecture: str = "gpt2", *, poison: bool = False, parts: str = "1GB", **overrides: Any
) -> Path:
    """A random-weight model with the built-in tokeniser in ``directory``; ``poison`` makes its loss NaN on our text.

    ``overrides`` go to the model's configuration; ``parts``: how large a file of its weights may be.
    """
    tokenizer = PreTrainedTokenizerFast.from_pretrained(BUILTIN_DIRECTORY)
    torch.manual_seed(0)
    dropout = {"resid_pdrop": 0.1, "attn_pdrop": 0.1} if architecture == "gpt2" else {}
    model = build(architecture, vocab_size=len(tokenizer), tie_word_embeddings=False, **dropout, **overrides)
    if poison:
        with torch.no_grad():
            model.get_input_embeddings().weight[tokenizer("prune")["input_ids"][0]] = float("nan")
    model.save_pretrained(directory, max_shard_size=parts)
    tokenizer.save_pretrained(directory)
    return directory


def save_text(path: Path, lines: int = 3000) -> Path:
    """Seeded text with some structure, so that a model can learn a little of it in a few steps."""
    generator = np.random.default_rng(0)
    words = ["head", "layer", "prune", "grow", "loss", "model", "token", "text"]
    path.write_text("".join(" ".join(generator.choice(words, 8)) + ".\n" for _ in range(lines)))
    return path


def small_config(model: Path, text: Path, **changes: Any) -> RunConfig:
    options: dict[str, Any] = {
        "model_name": str(model),
        "dataset": str(text),
        "warmup_steps": 12,
        "fine_tuning_steps": 6,
        "batch_size": 4,
        "sequence_length": 24,
        "stabilisation_window": 8,
        "stabilisation_tolerance": 1e-6,
        "score_sequences": 8,
        "eval_sequences": 12,
        "device": "cpu",
    }
    return RunConfig(**{**options, **changes})


TIMED = ("seconds", "tokens_per_second", "_ms", "speedup", "environment", "command")


def comparable(events: Iterable[Event]) -> Iterator[Any]:
    """Events as plain values without anything that a clock had a part in: what two equal runs have in common."""
    for event in events:
        if not isinstance(event, Progress):
            yield event.kind, plain(vars(event))


def plain(value: Any) -> Any:
    if isinstance(value, dict):
        kept = {str(k): v for k, v in value.items() if not any(part in str(k) for part in TIMED)}
        return {k: plain(v) for k, v in kept.items() if k != "output_dir"}
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    if isinstance(value, list | tuple):
        return tuple(plain(v) for v in value)
    return repr(value) if isinstance(value, float) else value  # NaN equals NaN here
