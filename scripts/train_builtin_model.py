"""Train the built-in model: a small GPT-2 on the Python standard library's own text. Seeded; writes a model card.

    python scripts/train_builtin_model.py    # the committed weights (about half an hour on two cores)
    python scripts/train_builtin_model.py --steps 50 --output_dir /tmp/tiny   # a try

An interrupted training goes on from its last checkpoint (every 200 steps) when the same command is given again.
"""

from __future__ import annotations

import argparse
import json
import lzma
import math
import platform
import time
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch.nn import functional
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from neural_plasticity.data.corpus import Corpus, load_corpus
from neural_plasticity.data.tokens import shuffled_batches, token_blocks

END_OF_TEXT = "<|endoftext|>"
CONTEXT = 256
MICRO_BATCH = 8
HOME = Path(__file__).parents[1] / "src/neural_plasticity/models/builtin"
PROMPTS = ("def read_lines(path):\n", 'class Queue:\n    """', "import os\nimport sys\n\n")


def train_tokenizer(corpus: Corpus, vocabulary: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE from the training split alone."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator((d.text for d in corpus.train), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        bos_token=END_OF_TEXT,
        eos_token=END_OF_TEXT,
        pad_token=END_OF_TEXT,
        model_max_length=CONTEXT,
        clean_up_tokenization_spaces=False,
    )


def build_model(vocabulary: int, seed: int) -> GPT2LMHeadModel:
    torch.manual_seed(seed)
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=vocabulary,
            n_positions=CONTEXT,
            n_embd=192,
            n_layer=6,
            n_head=8,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            bos_token_id=0,
            eos_token_id=0,
            pad_token_id=0,
        )
    )


def build_optimizers(model: GPT2LMHeadModel) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the blocks, AdamW for embeddings, norms and biases."""
    matrices = [p for p in model.transformer.h.parameters() if p.ndim == 2]
    inside = {id(p) for p in matrices}
    others = [p for p in model.parameters() if id(p) not in inside]
    return [
        torch.optim.Muon(matrices, lr=4e-3, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=3e-3, betas=(0.9, 0.95), weight_decay=0.0),
    ]


def rate(step: int, steps: int, warmup: int = 60) -> float:
    """Linear warm-up, flat, then linear to zero over the last half."""
    return min(1.0, (step + 1) / warmup, 2.0 * (steps - step) / steps)


def train(model: GPT2LMHeadModel, corpus_blocks, arguments: argparse.Namespace, checkpoint: Path) -> float:
    """Train in place; returns the seconds spent, earlier interrupted parts included."""
    optimizers = build_optimizers(model)
    base_rates = [[g["lr"] for g in o.param_groups] for o in optimizers]
    batches = shuffled_batches(corpus_blocks, arguments.batch_size, arguments.seed)
    first, spent = 0, 0.0
    if checkpoint.exists():
        state = torch.load(checkpoint)
        model.load_state_dict(state["model"])
        for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        first, spent = state["step"], state["seconds"]
        print(f"going on from step {first}", flush=True)
    started = time.perf_counter() - spent
    for step, batch in enumerate(batches):
        if step < first:
            continue
        if step == arguments.steps:
            break
        for optimizer, rates in zip(optimizers, base_rates, strict=True):
            for group, base in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = base * rate(step, arguments.steps)
        total = 0.0
        for part in batch.split(MICRO_BATCH):
            with torch.autocast("cpu", dtype=torch.bfloat16):
                loss = model(input_ids=part, labels=part).loss * len(part) / len(batch)
            loss.backward()
            total += loss.item()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        seconds = time.perf_counter() - started
        if step % 20 == 0:
            left = seconds / (step + 1) * (arguments.steps - step - 1)
            print(f"step {step} loss {total:.3f} {seconds:.0f} s, {left:.0f} s left", flush=True)
        if (step + 1) % 200 == 0:
            state = {
                "model": model.state_dict(),
                "optimizers": [o.state_dict() for o in optimizers],
                "step": step + 1,
                "seconds": seconds,
            }
            torch.save(state, checkpoint.with_suffix(".tmp"))
            checkpoint.with_suffix(".tmp").replace(checkpoint)
    return time.perf_counter() - started


@torch.inference_mode()
def bits_per_byte(model: GPT2LMHeadModel, tokenizer: PreTrainedTokenizerFast, documents, stride: int) -> float:
    """Bits per UTF-8 byte: every token is predicted once, with at least CONTEXT − stride tokens before it."""
    bits, size = 0.0, 0
    for document in documents:
        size += len(document.text.encode())
        encoded = tokenizer(document.text, add_special_tokens=False, verbose=False)["input_ids"]
        ids = torch.tensor([tokenizer.eos_token_id, *encoded])
        done = 1
        while done < len(ids):
            end = min(len(ids), max(done + stride, CONTEXT))
            window = ids[max(0, end - CONTEXT) : end][None]
            scored = end - done
            logits = model(input_ids=window).logits[0, -scored - 1 : -1]
            bits += functional.cross_entropy(logits, window[0, -scored:], reduction="sum").item() / math.log(2)
            done = end
    return bits / size


@torch.inference_mode()
def sample(model: GPT2LMHeadModel, tokenizer: PreTrainedTokenizerFast, prompt: str) -> str:
    inputs = tokenizer(prompt, return_tensors="pt")
    torch.manual_seed(0)
    output = model.generate(**inputs, max_new_tokens=96, do_sample=True, temperature=0.6, top_k=40, pad_token_id=0)
    return tokenizer.decode(output[0])


def write_card(home: Path, figures: dict[str, object], samples: list[str]) -> None:
    rows = "\n".join(f"| {name} | {value} |" for name, value in figures.items())
    quoted = "\n\n".join(f"```python\n{text}\n```" for text in samples)
    text = f"""# The built-in model

A small GPT-2 trained by `scripts/train_builtin_model.py` on the sources and reference topics that every Python
installation carries (`neural_plasticity/data/python_stdlib.txt` lists them with their split). It exists so that a
fresh machine without internet prunes a real language model on real text. It writes Python-like text; it knows nothing.

| | |
|---|---|
{rows}

Bits per byte: each test document alone, every token predicted once with at least 128 tokens of context where the
document has them. `xz -9e` compresses the same bytes, joined. The text differs a little between Python versions, so
the figures hold for the version named; the weights reproduce bit for bit only on the same machine and library versions.

## Samples (temperature 0.6, top 40; the first lines are the prompt)

{quoted}
"""
    (home / "README.md").write_text(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1400, help="optimiser steps")
    parser.add_argument("--batch_size", type=int, default=16, help="sequences of 256 tokens per step")
    parser.add_argument("--vocabulary", type=int, default=2048, help="entries of the byte-level BPE")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output_dir", type=Path, default=HOME)
    arguments = parser.parse_args()

    home: Path = arguments.output_dir
    home.mkdir(parents=True, exist_ok=True)
    corpus = load_corpus()
    tokenizer = train_tokenizer(corpus, arguments.vocabulary)
    model = build_model(arguments.vocabulary, arguments.seed)
    blocks = token_blocks(corpus.train, tokenizer, CONTEXT)
    print(f"{sum(p.numel() for p in model.parameters()):,} parameters, {blocks.size:,} training tokens", flush=True)
    checkpoint = home / "training.ckpt"
    seconds = train(model, blocks, arguments, checkpoint)

    model = model.half().float().eval()  # what is measured is what is stored
    held_out = "".join(d.text for d in corpus.test).encode()
    figures = {
        "architecture": "GPT-2, 6 layers × 8 heads, width 192, context 256, byte-level BPE of "
        f"{arguments.vocabulary:,} entries",
        "parameters": f"{sum(p.numel() for p in model.parameters()):,}",
        "test bits per byte": f"{bits_per_byte(model, tokenizer, corpus.test, 128):.4f}",
        "xz -9e, same bytes": f"{8 * len(lzma.compress(held_out, preset=9 | lzma.PRESET_EXTREME)) / len(held_out):.4f}",
        "validation bits per byte": f"{bits_per_byte(model, tokenizer, corpus.validation, 128):.4f}",
        "test text": f"{len(corpus.test)} documents, {len(held_out):,} bytes",
        "training": f"{arguments.steps:,} steps × {arguments.batch_size} × {CONTEXT} tokens "
        f"({arguments.steps * arguments.batch_size * CONTEXT / blocks.size:.1f} epochs of {blocks.size:,}), "
        f"seed {arguments.seed}, Muon and AdamW, bfloat16 autocast",
        "time and machine": f"{seconds / 60:.0f} minutes (machine shared with other work) on "
        f"{torch.get_num_threads()} CPU cores ({platform.machine()})",
        "software": f"Python {platform.python_version()}, torch {torch.__version__}",
        "corpus SHA-256": f"`{corpus.sha256}`",
    }
    samples = [sample(model, tokenizer, prompt) for prompt in PROMPTS]
    model.half().save_pretrained(home)
    tokenizer.save_pretrained(home)
    write_card(home, figures, samples)
    checkpoint.unlink(missing_ok=True)
    print(json.dumps(figures, indent=2, ensure_ascii=False))


if __name__ == "__main__":
    main()
