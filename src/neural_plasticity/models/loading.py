"""Opening a language model and its tokeniser by name: the built-in one, a directory, or a name of the hub."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import huggingface_hub
import torch
from huggingface_hub import constants
from huggingface_hub.errors import HFValidationError
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
from transformers.utils import logging

from neural_plasticity.errors import ModelError, UnsupportedModelError, first_line
from neural_plasticity.hub import hub_silence
from neural_plasticity.models.inspection import check_size, inspect, parts
from neural_plasticity.models.layouts import layer_layouts, refuse_by_name

BUILTIN = "builtin"
BUILTIN_DIRECTORY = Path(__file__).parent / "builtin"
# What a repository of the hub may hold that is read here, and what looks alike: other formats of the same weights.
_READ = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja"]
_NOT_READ = ["*/*", "consolidated*", "*.fp16.*", "adapter_model*"]
_INSTEAD = "give 'builtin' or a directory that holds a saved model"


def load_model(
    name: str, device: str = "cpu", dtype: torch.dtype | None = None, trust_remote_code: bool = False
) -> tuple[Any, Any]:
    """(model, tokeniser), the model in evaluation mode on ``device`` in ``dtype`` (default float32).

    ``name`` is "builtin", a directory with a saved model (compact ones open as well), or a hub name. What lies in the
    hub's cache is used as it is, without asking the network; else its safetensors, texts and tables are downloaded. A
    tokeniser without a padding token pads with its end-of-text token. No code of the model's own is run without
    ``trust_remote_code``, nothing is unpickled, and the files' claims are checked before a library opens them
    (`inspection`).

    Raises:
        UnsupportedModelError: the architecture's heads cannot be reached.
        ModelError: not found, hub unreachable, not a causal language model, or files that cannot be read.
    """
    source, cached = _source(name, trust_remote_code)
    refuse = f"--model_name {name}: cannot be opened:"
    if name != BUILTIN:
        with _instead():
            inspect(refuse, source, trust_remote_code)
    # Code that is trusted may itself name code of another repository.
    how: dict[str, Any] = {
        "local_files_only": cached or not trust_remote_code,
        "trust_remote_code": trust_remote_code,
    }
    with _quiet(), opening(f"--model_name {name}: cannot be opened", f"; {_INSTEAD}."):
        config = AutoConfig.from_pretrained(source, **how)
        _check_kind(name, config)
        if name != BUILTIN and not trust_remote_code:
            with _instead():
                check_size(refuse, source, lambda: AutoModelForCausalLM.from_config(config, trust_remote_code=False))
        tokenizer = AutoTokenizer.from_pretrained(source, **how)
        model, found = AutoModelForCausalLM.from_pretrained(
            source, dtype=dtype or torch.float32, output_loading_info=True, use_safetensors=True, **how
        )
    if found["missing_keys"]:
        missing = sorted(found["missing_keys"])
        raise ModelError(f"--model_name {name}: {len(missing)} weights are missing ({missing[0]}, …); {_INSTEAD}.")
    try:
        with opening(f"--model_name {name}: cannot be used", f"; {_INSTEAD}."):
            layer_layouts(model)
    except UnsupportedModelError as error:
        raise UnsupportedModelError(f"--model_name {name}: {error}") from error
    with opening(f"--model_name {name}: cannot be used", f"; {_INSTEAD}."):  # the first call shows what no check does
        _check_tokens(name, tokenizer, model)
        _check_causal(name, model)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    if getattr(model, "loss_type", "") is None:  # GPT-2's class says nothing: transformers would warn, and do this
        model.loss_type = "ForCausalLM"
    return model.to(device).eval(), tokenizer


@contextmanager
def _instead() -> Iterator[None]:
    """What else could be given, behind what is wrong."""
    try:
        yield
    except ModelError as error:
        raise ModelError(f"{str(error).rstrip('.')}; {_INSTEAD}.") from error


@contextmanager
def opening(before: str, after: str = ".") -> Iterator[None]:
    """Whatever a library raises over unreadable JSON, safetensors or missing files, as one line.

    Raises:
        ModelError: ``before (reason)after``.
    """
    try:
        yield
    except ModelError:
        raise
    except BaseException as error:  # each library has its own kind; a panic in tokenizers' Rust is no Exception
        if isinstance(error, KeyboardInterrupt | SystemExit | GeneratorExit):
            raise
        raise ModelError(f"{before} ({first_line(error)}){after}") from error


def _source(name: str, trust_remote_code: bool) -> tuple[Path, bool]:
    """The directory with the model's files, and whether they were on this machine already."""
    if name == BUILTIN:
        if not (BUILTIN_DIRECTORY / "config.json").is_file():
            raise ModelError("--model_name builtin: its weights are missing; run scripts/train_builtin_model.py.")
        return BUILTIN_DIRECTORY, True
    path = Path(name).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise ModelError(f"--model_name {name}: the directory has no config.json; {_INSTEAD}.")
        return path, True
    if path.exists():
        raise ModelError(f"--model_name {name}: is a file; {_INSTEAD}.")
    try:
        snapshot = _cached_snapshot(name)
    except HFValidationError as error:
        raise ModelError(f"--model_name {name}: no such directory, and not a hub name; {_INSTEAD}.") from error
    if snapshot is not None:
        return snapshot, True
    cache = f"or fill the hub cache ({constants.HF_HUB_CACHE}) with `hf download {name}`"
    if constants.HF_HUB_OFFLINE:
        raise ModelError(f"--model_name {name}: not in the hub cache, and HF_HUB_OFFLINE is set; {_INSTEAD}, {cache}.")
    if (reason := hub_silence()) is not None:
        raise ModelError(
            f"--model_name {name}: no such directory, not in the hub cache, and the hub cannot be reached "
            f"({reason}); {_INSTEAD}, {cache}."
        )
    wanted = [*_READ, *(["*.py"] if trust_remote_code else [])]
    with _quiet(), opening(f"--model_name {name}: cannot be downloaded", f"; {_INSTEAD}."):
        downloaded = huggingface_hub.snapshot_download(
            name, cache_dir=constants.HF_HUB_CACHE, allow_patterns=wanted, ignore_patterns=_NOT_READ
        )
    if not Path(downloaded, "config.json").is_file():
        raise ModelError(f"--model_name {name}: that repository has no config.json; {_INSTEAD}.")
    return Path(downloaded), False


def _cached_snapshot(name: str) -> Path | None:
    """The cached snapshot of ``name`` if it is whole: configuration and weights, every part of them."""
    config = huggingface_hub.try_to_load_from_cache(name, "config.json", cache_dir=constants.HF_HUB_CACHE)
    if not isinstance(config, str):
        return None
    folder = Path(config).parent
    # Parts without their index are a download that was broken off: large models' come before it.
    weights = parts(f"--model_name {name}:", folder) or {"model.safetensors"}
    whole = all((folder / one).exists() for one in weights)
    pickled = any(folder.glob("*.bin")) and not any(folder.glob("*.safetensors"))  # which `inspect` has a word for
    return folder if whole or pickled else None


def _check_kind(name: str, config: Any) -> None:
    """Refuse, before any weights are read or fetched, what cannot work.

    Raises:
        ModelError: as `load_model`.
    """
    known = set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values())
    architectures = list(getattr(config, "architectures", None) or [])
    if architectures and not known.intersection(architectures):
        raise ModelError(
            f"--model_name {name}: holds {architectures[0]}, which is not a causal language model; {_INSTEAD}."
        )
    try:
        refuse_by_name(config)
    except UnsupportedModelError as error:
        raise UnsupportedModelError(f"--model_name {name}: {error}") from error


@torch.no_grad()
def _check_causal(name: str, model: Any) -> None:
    """Refuse a model that sees the tokens it is asked to predict, as an encoder under a language-model head does."""
    model.eval()
    first = model(input_ids=torch.tensor([[1, 2, 3]])).logits[0, 0]
    other = model(input_ids=torch.tensor([[1, 2, 4]])).logits[0, 0]
    if not torch.equal(first, other) and bool(other.isfinite().all()):
        raise ModelError(f"--model_name {name}: attends to later tokens: no causal language model; {_INSTEAD}.")


def _check_tokens(name: str, tokenizer: Any, model: Any) -> None:
    words, rows = len(tokenizer), model.get_input_embeddings().weight.shape[0]
    if words > rows:
        raise ModelError(f"--model_name {name}: its tokeniser has {words} tokens, its model only {rows}; {_INSTEAD}.")
    if not tokenizer("a", add_special_tokens=False)["input_ids"]:  # what transformers makes where the files are missing
        raise ModelError(f"--model_name {name}: has no tokeniser files beside the model; {_INSTEAD}.")


@contextmanager
def _quiet() -> Iterator[None]:
    """transformers' progress bars, reports and warnings are off inside, and as they were afterwards."""
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
