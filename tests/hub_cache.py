"""A local hub cache with a tiny random model under a well-known name, so that tests open it by that name offline."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

HEADS = 12  # as GPT-2 has, in a width that tests can afford
WIDTH = 96
CONTEXT = 512
_LINES = [
    "def prune(heads):\n    return [head for head in heads if head.score > 0]\n",
    "The attention heads of a small language model are pruned, and grow back.\n",
    "import json\n\nclass Reader:\n    def __init__(self, path):\n        self.path = path\n",
    "Once upon a time there was a model whose perplexity went down with every step.\n",
]


def build_hub_cache(
    root: Path, repo: str = "distilgpt2", layers: int = 2, *, context: int = CONTEXT, seed: int = 0
) -> Path:
    """Make ``root`` a hub cache (``HF_HOME=root``) in which ``repo`` is a random GPT-2 of ``layers`` layers × 12 heads.

    Open it with ``HF_HOME=root HF_HUB_OFFLINE=1`` in the environment of a new process (the hub's client reads both when
    it is imported). Returns the snapshot directory.
    """
    repository = root / "hub" / f"models--{repo.replace('/', '--')}"
    revision = hashlib.sha1(repo.encode(), usedforsecurity=False).hexdigest()
    (repository / "refs").mkdir(parents=True, exist_ok=True)
    (repository / "refs" / "main").write_text(revision)
    snapshot = repository / "snapshots" / revision
    tokenizer = byte_level_tokenizer()
    tokenizer.save_pretrained(snapshot)
    random_gpt2(len(tokenizer), layers, seed, context).save_pretrained(snapshot)
    return snapshot


def random_gpt2(vocabulary: int, layers: int, seed: int = 0, context: int = CONTEXT) -> GPT2LMHeadModel:
    config = GPT2Config(
        vocab_size=vocabulary,
        n_layer=layers,
        n_head=HEADS,
        n_embd=WIDTH,
        n_positions=context,
        bos_token_id=0,
        eos_token_id=0,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return GPT2LMHeadModel(config)


def byte_level_tokenizer() -> PreTrainedTokenizerFast:
    """GPT-2's kind of tokeniser, trained on a few lines: any text is tokens, ``<|endoftext|>`` is 0, no padding."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_LINES, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<|endoftext|>",
        eos_token="<|endoftext|>",
        model_max_length=CONTEXT,
    )


def build_dataset_cache(root: Path, repo: str, configuration: str, splits: dict[str, list[str]]) -> Path:
    """Make ``root`` a cache (``HF_HOME=root``) in which the data set ``repo`` has these rows of text per split."""
    import datasets
    from datasets.arrow_writer import ArrowWriter

    name = repo.split("/")[-1]
    revision = hashlib.sha1(repo.encode(), usedforsecurity=False).hexdigest()
    folder = root / "datasets" / repo.replace("/", "___") / configuration / "0.0.0" / revision
    folder.mkdir(parents=True)
    features = datasets.Features({"text": datasets.Value("string")})
    written = []
    for split, rows in splits.items():
        with ArrowWriter(path=str(folder / f"{name}-{split}.arrow"), features=features) as writer:
            for row in rows:
                writer.write({"text": row})
            count, size = writer.finalize()
        written.append({"name": split, "num_bytes": size, "num_examples": count, "dataset_name": name})
    datasets.DatasetInfo(
        features=features,
        builder_name=name,
        dataset_name=name,
        config_name=configuration,
        version="0.0.0",
        splits=datasets.SplitDict.from_split_dict(written),
    ).write_to_directory(str(folder))
    return folder
