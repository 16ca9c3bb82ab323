"""Model directories: a small valid one whose JSON is changed; what is opened is a model, or a ModelError says why."""

from __future__ import annotations

import json
import os
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import strategies as st

from neural_plasticity.config import RunConfig, as_json, from_json
from neural_plasticity.models.loading import load_model
from neural_plasticity.models.saving import load_pruned
from tests.fuzz.law import holds
from tests.small_runs import save_model

_FOLDER = TemporaryDirectory()  # kept while the process lives
FILES = (
    "config.json",
    "tokenizer_config.json",
    "tokenizer.json",
    "generation_config.json",
    "model.safetensors.index.json",
)
VALUES = st.sampled_from((
    0, 1, -1, 3, 2.5, 10**6, 10**9, 10**12, 10**30, 10**400, float("nan"), None, True, "", "x",
    "../../x", "/etc/passwd", [], {}, [[]], ["Trainer"], ["AutoModel"], "evil/kernel",
    {"AutoConfig": "code.Config"}, {"quant_method": "plasticity"},
    {"shape": [2, 4], "query_heads": [[0], [1]], "kv_heads": [[0], [1]]}, {"a": "../../b.safetensors"}, "x" * 10_000,
))  # fmt: skip
KEYS = st.sampled_from((
    "n_layer", "n_head", "n_embd", "n_positions", "vocab_size", "n_inner", "model_type", "architectures", "auto_map",
    "attn_implementation", "plasticity", "quantization_config", "dtype", "torch_dtype", "activation_function",
    "id2label", "tokenizer_class", "vocab_file", "tokenizer_file", "model_max_length", "added_tokens_decoder",
    "weight_map", "model", "num_hidden_layers", "pad_token_id", "eos_token", "layer_norm_epsilon", "version",
    "rope_parameters", "is_decoder",
))  # fmt: skip
CHANGES = st.lists(st.tuples(st.sampled_from(FILES), KEYS, VALUES), min_size=1, max_size=3)
OPTIONS = st.dictionaries(
    st.sampled_from((*vars(RunConfig()), "unknown", "")), st.one_of(VALUES, st.text(max_size=4)), min_size=1, max_size=3
)


@cache
def template() -> Path:
    return save_model(Path(_FOLDER.name))


def one_model(changes: list[tuple[str, str, Any]], pruned: bool) -> list[str]:
    """The law, for a changed directory."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        changed = {file for file, *_ in changes}
        for path in template().iterdir():
            if path.name not in changed:
                os.link(path, folder / path.name)
        for file in changed:
            source = template() / file
            values = json.loads(source.read_text()) if source.exists() else {}
            values.update({key: value for changed_file, key, value in changes if changed_file == file})
            (folder / file).write_text(json.dumps(values))
        with holds() as errors:
            load_pruned(folder) if pruned else load_model(str(folder))
    return errors


def one_configuration(values: dict[str, Any]) -> list[str]:
    """The law, for the configuration that a record holds."""
    with holds() as errors:
        from_json({**as_json(RunConfig()), **values})
    return errors
