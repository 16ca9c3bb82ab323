"""Tiny random-weight models of every supported architecture, shared by all tests. Nothing is downloaded."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForMaskedLM, PreTrainedModel

VOCABULARY = 97
LAYERS, HEADS = 3, 4

_TOKENS: dict[str, Any] = {"vocab_size": VOCABULARY, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
_COMMON: dict[str, Any] = {
    **_TOKENS,
    "hidden_size": 32,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "max_position_embeddings": 64,
}
_LLAMA_LIKE = {**_COMMON, "intermediate_size": 48, "attention_dropout": 0.0}
_GROUPED = {**_LLAMA_LIKE, "num_key_value_heads": 2}

# What each architecture needs beyond the name: sizes, dropout 0, explicit token ids.
CONFIGS: dict[str, dict[str, Any]] = {
    "gpt2": {
        **_TOKENS,
        "n_layer": LAYERS,
        "n_head": HEADS,
        "n_embd": 32,
        "n_positions": 64,
        "resid_pdrop": 0.0,
        "embd_pdrop": 0.0,
        "attn_pdrop": 0.0,
    },
    "llama": _GROUPED,
    "mistral": {**_GROUPED, "sliding_window": 48},
    "qwen2": _GROUPED,
    "qwen3": {**_GROUPED, "head_dim": 12},
    "gpt_neox": {**_LLAMA_LIKE, "hidden_dropout": 0.0},
    "opt": {**_COMMON, "ffn_dim": 48, "word_embed_proj_dim": 32, "dropout": 0.0, "attention_dropout": 0.0},
    "phi": {**_LLAMA_LIKE, "resid_pdrop": 0.0, "embd_pdrop": 0.0},
    "bert": {
        **_COMMON,
        "intermediate_size": 48,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    },
}

ARCHITECTURES: tuple[str, ...] = tuple(CONFIGS)
ENCODERS: tuple[str, ...] = ("bert",)
DECODERS: tuple[str, ...] = tuple(name for name in ARCHITECTURES if name not in ENCODERS)


def build(name: str, *, seed: int = 0, dtype: torch.dtype = torch.float32, **overrides: Any) -> PreTrainedModel:
    """A random model in evaluation mode: 3 layers × 4 heads, vocabulary 97. ``overrides`` go to its configuration.

    Biases and norms are random too: freshly made they are 0 and 1, which would hide mistakes.
    """
    config = AutoConfig.for_model(name, **{**CONFIGS.get(name, {}), **overrides})
    auto = AutoModelForMaskedLM if name in ENCODERS else AutoModelForCausalLM
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = auto.from_config(config)
        with torch.no_grad():
            for parameter in model.parameters():
                # Wide enough that attention is not uniform and each head moves the logits.
                scale = 0.2 if parameter.dim() > 1 else 0.1
                parameter.add_(torch.randn_like(parameter) * scale)
    return model.to(dtype).eval()


def random_batch(batch: int = 2, length: int = 12, *, seed: int = 0, padding: str | None = None) -> dict[str, Tensor]:
    """``input_ids`` and ``attention_mask`` (batch, length), of real tokens (3 … 96).

    ``padding`` "left" or "right" pads every row but the last, the first one most (row ``b`` by ``batch - 1 - b``
    twice); None pads nothing.
    """
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(3, VOCABULARY, (batch, length), generator=generator)
    mask = torch.ones_like(ids)
    if padding is not None:
        for row in range(batch):
            count = min(2 * (batch - 1 - row), length - 2)
            where = slice(0, count) if padding == "left" else slice(length - count, length)
            ids[row, where], mask[row, where] = 0, 0
    return {"input_ids": ids, "attention_mask": mask}
