"""Model directories: small valid ones whose JSON or weights are changed; what is opened is a model, or a ModelError."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import strategies as st
from transformers.utils import logging

from neural_plasticity.config import RunConfig, as_json, from_json
from neural_plasticity.models import attach
from neural_plasticity.models.loading import load_model
from neural_plasticity.models.saving import load_pruned, save_pruned
from tests.fuzz.checkpoints import HEADERS, Bytes, Header
from tests.fuzz.law import holds
from tests.small_runs import save_model

_FOLDER = TemporaryDirectory()  # kept while the process lives
KINDS = ("gpt2", "gpt2", "llama", "gpt_neox", "compact", "in parts")
INDEX, WEIGHTS = "model.safetensors.index.json", "model.safetensors"
FILES = ("config.json", "config.json", "tokenizer_config.json", "tokenizer.json", "generation_config.json", INDEX)
VALUES = st.sampled_from((
    0, 1, -1, 3, 2.5, 500, 4_000, 10**6, 10**9, 10**12, 10**30, 10**400, float("nan"), None, True, "", "x",
    "../../x", "/etc/passwd", [], {}, [[]], ["Trainer"], ["AutoModel"], "evil/kernel",
    {"AutoConfig": "code.Config"}, {"quant_method": "plasticity"}, {"quant_method": "gptq", "bits": 4},
    {"shape": [2, 4], "query_heads": [[0], [1]], "kv_heads": [[0], [1]]}, {"a": "../../b.safetensors"}, "x" * 10_000,
    "llama", "mixtral", "gpt2", "bert", "mamba", "qwen2_moe", ["layer"] * 5_000, {"rope_type": "linear", "factor": 0},
))  # fmt: skip
KEYS = st.sampled_from((
    "n_layer", "n_head", "n_embd", "n_positions", "vocab_size", "n_inner", "model_type", "architectures", "auto_map",
    "attn_implementation", "plasticity", "quantization_config", "dtype", "torch_dtype", "activation_function",
    "id2label", "tokenizer_class", "vocab_file", "tokenizer_file", "model_max_length", "added_tokens_decoder",
    "weight_map", "model", "num_hidden_layers", "pad_token_id", "eos_token", "layer_norm_epsilon", "version",
    "rope_parameters", "is_decoder", "hidden_size", "num_attention_heads", "num_key_value_heads", "head_dim",
    "intermediate_size", "num_local_experts", "max_position_embeddings", "rope_scaling", "layer_types", "hidden_act",
    "chat_template", "text_config", "tie_word_embeddings", "partial_rotary_factor", "base_model_tp_plan",
))  # fmt: skip
TOLD = st.tuples(st.sampled_from(FILES), KEYS, VALUES)
PLACE = st.integers(0, 100_000)
# The bytes of a header, not of the weights behind it: those may be any.
HURT = st.one_of(
    st.builds(Header, PLACE, HEADERS, st.sampled_from((None, None, None, 0, 2**62, 2**63, 10**8, 99))),
    st.builds(Bytes, st.lists(st.tuples(st.integers(0, 3_000), st.integers(0, 255)), max_size=4).map(tuple),
              st.one_of(st.just(10_000), st.integers(0, 10_000))),
)  # fmt: skip
CHANGES = st.tuples(
    st.sampled_from(KINDS),
    st.lists(TOLD, min_size=1, max_size=3),
    st.one_of(st.none(), st.none(), HURT),
)
OPTIONS = st.dictionaries(
    st.sampled_from((*vars(RunConfig()), "unknown", "")), st.one_of(VALUES, st.text(max_size=4)), min_size=1, max_size=3
)


@cache
def template(kind: str) -> Path:
    """A whole model of this kind."""
    folder = Path(_FOLDER.name) / kind.replace(" ", "-")
    if kind == "compact":
        model, tokenizer = load_model(str(template("llama")))
        attach(model).prune([(0, 0), (0, 1), (1, 3), *((2, head) for head in range(4))])
        save_pruned(model, folder)
        tokenizer.save_pretrained(folder)
    elif kind == "in parts":
        model, tokenizer = load_model(str(template("gpt2")))
        model.save_pretrained(folder, max_shard_size="100kB")
        tokenizer.save_pretrained(folder)
    else:
        save_model(folder, kind)
    return folder


def one_model(change: tuple[str, Sequence[tuple[str, str, Any]], Header | Bytes | None], pruned: bool) -> list[str]:
    """The law, for a changed directory."""
    kind, told, hurt = change
    whole = template(kind)
    logging.disable_progress_bar()
    with TemporaryDirectory() as name:
        folder = Path(name)
        changed = {file for file, *_ in told}
        for path in whole.iterdir():
            if path.name not in changed:
                os.link(path, folder / path.name)
        for file in changed:
            source = whole / file
            values = json.loads(source.read_text()) if source.exists() else {}
            values.update({key: value for changed_file, key, value in told if changed_file == file})
            (folder / file).write_text(json.dumps(values))
        if hurt is not None:
            weights = min(folder.glob("*.safetensors"))
            data = hurt.of(weights.read_bytes())
            weights.unlink()  # it is a link to the whole one
            weights.write_bytes(data)
        with holds() as errors:
            load_pruned(folder) if pruned else load_model(str(folder))
    return errors


def one_configuration(values: dict[str, Any]) -> list[str]:
    """The law, for the configuration that a record holds."""
    with holds() as errors:
        from_json({**as_json(RunConfig()), **values})
    return errors
