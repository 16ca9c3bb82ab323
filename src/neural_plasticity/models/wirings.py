"""The ways in which models wire their attention: one small row each. A new way is a new row, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Kind = Literal["query", "key", "value", "output"]
KINDS: tuple[Kind, ...] = ("query", "key", "value", "output")


def rows_of(start: int, heads: int, head_dim: int) -> Tensor:
    return start + torch.arange(heads * head_dim).view(heads, head_dim)


def separate(heads: int, kv_heads: int, head_dim: int) -> dict[Kind, Tensor]:
    """Each projection holds its own heads one after another (Llama, OPT, BERT)."""
    kv = rows_of(0, kv_heads, head_dim)
    return {"query": rows_of(0, heads, head_dim), "key": kv, "value": kv}


def blocks(heads: int, kv_heads: int, head_dim: int) -> dict[Kind, Tensor]:
    """One projection: all queries, then all keys, then all values (GPT-2, Phi-3)."""
    return {
        "query": rows_of(0, heads, head_dim),
        "key": rows_of(heads * head_dim, kv_heads, head_dim),
        "value": rows_of((heads + kv_heads) * head_dim, kv_heads, head_dim),
    }


def interleaved(heads: int, kv_heads: int, head_dim: int) -> dict[Kind, Tensor]:
    """One projection, head by head: a head's query, key and value together (GPT-NeoX)."""
    per_head = rows_of(0, heads, 3 * head_dim)
    return {
        "query": per_head[:, :head_dim],
        "key": per_head[:kv_heads, head_dim : 2 * head_dim],
        "value": per_head[:kv_heads, 2 * head_dim :],
    }


@dataclass(frozen=True)
class Wiring:
    """How an attention module names and arranges its projections. ``../`` means: in the parent module."""

    query: str
    key: str
    value: str
    output: str
    arrange: Callable[[int, int, int], dict[Kind, Tensor]] = separate

    @property
    def fused(self) -> bool:
        return self.query == self.key

    def names(self) -> dict[Kind, str]:
        return {"query": self.query, "key": self.key, "value": self.value, "output": self.output}


WIRINGS: tuple[Wiring, ...] = (
    Wiring("q_proj", "k_proj", "v_proj", "o_proj"),  # Llama, Mistral, Qwen2, Qwen3, Gemma, Cohere, OLMo, Granite, …
    Wiring("q_proj", "k_proj", "v_proj", "out_proj"),  # OPT, BioGPT
    Wiring("q_proj", "k_proj", "v_proj", "dense"),  # Phi
    Wiring("query", "key", "value", "../output.dense"),  # BERT, RoBERTa, ELECTRA: the output is in a sibling module
    Wiring("q_lin", "k_lin", "v_lin", "out_lin"),  # DistilBERT
    Wiring("c_attn", "c_attn", "c_attn", "c_proj", blocks),  # GPT-2
    Wiring("qkv_proj", "qkv_proj", "qkv_proj", "o_proj", blocks),  # Phi-3
    Wiring("query_key_value", "query_key_value", "query_key_value", "dense", interleaved),  # GPT-NeoX
)

# Attributes from which modules or backends compute, as functions of (heads, kv_heads, head_dim).
COUNTS: Mapping[str, Callable[[int, int, int], int]] = {
    "num_heads": lambda heads, _kv_heads, _head_dim: heads,
    "n_heads": lambda heads, _kv_heads, _head_dim: heads,
    "num_attention_heads": lambda heads, _kv_heads, _head_dim: heads,
    "num_key_value_heads": lambda _heads, kv_heads, _head_dim: kv_heads,
    "num_key_value_groups": lambda heads, kv_heads, _head_dim: heads // max(kv_heads, 1),
    "all_head_size": lambda heads, _kv_heads, head_dim: heads * head_dim,
    "split_size": lambda heads, _kv_heads, head_dim: heads * head_dim,
}
HEAD_DIM_NAMES = ("head_dim", "head_size", "attention_head_size")
