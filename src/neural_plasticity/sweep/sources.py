"""Whether model, text and evaluation of a sweep are there: found out once, before there is a process for each cell."""

from __future__ import annotations

from pathlib import Path

from neural_plasticity.config import RunConfig
from neural_plasticity.data.corpus import load_corpus
from neural_plasticity.policies.plugins import load_plugin


def check_sources(base: RunConfig) -> None:
    """Open what is cheap to open, and look whether the model is there; what only opening it shows, its cells say.

    Raises:
        InputError: one of them is missing or cannot be used.
    """
    if base.eval is not None:
        load_plugin(base.eval, "--eval")
    load_corpus(base.dataset, base.dataset_config)
    if not _here(base.model_name):
        from neural_plasticity.models.loading import load_model  # imports torch, which takes a while

        # It says why the model cannot be had, or fetches it from the hub, once for all cells.
        load_model(base.model_name, trust_remote_code=base.trust_remote_code)


def _here(name: str) -> bool:
    """Whether there is a model of that name on this machine, by its configuration alone."""
    path = Path(name).expanduser()
    if name == RunConfig.model_name:  # the built-in one
        return True
    if path.exists():
        return (path / "config.json").is_file()
    from huggingface_hub import constants, try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        return isinstance(try_to_load_from_cache(name, "config.json", cache_dir=constants.HF_HUB_CACHE), str)
    except HFValidationError:
        return False
