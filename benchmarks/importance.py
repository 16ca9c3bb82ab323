"""What the one pass over all criteria costs in time and memory, and how far its sampled entropy is from the exact one.

Model: GPT-2-small's shape with random weights whose query and key projections are scaled head by head, so that heads
range from nearly uniform to sharply focused (plain random weights are all nearly uniform, and anything would agree).
"""

from __future__ import annotations

import csv
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from scipy.stats import spearmanr
from transformers import AutoModelForCausalLM, GPT2Config, PreTrainedModel

from neural_plasticity.importance import CRITERIA, score_heads
from neural_plasticity.models.attach import attach

RESULTS = Path(__file__).parent / "results" / "importance.csv"
ONE_PASS = [name for name in CRITERIA if name not in ("ablation", "magnitude")]
REPEATS, BATCHES, BATCH, LENGTH = 5, 4, 2, 256
TIMED_BATCHES = 1  # of BATCHES, per turn
MEMORY_LENGTH = 1024
TIME_BOUND, ENTROPY_BOUND, RANK_BOUND, MEMORY_BOUND = 1.35, 0.02, 0.98, 0.5


def small_gpt2(attention: str = "sdpa") -> PreTrainedModel:
    """12 layers × 12 heads, width 768, vocabulary 50,257; parameters frozen."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(GPT2Config(attn_implementation=attention)).eval().requires_grad_(False)
    for block in model.transformer.h:
        scale = torch.logspace(0, 1, 12)[torch.randperm(12)].repeat_interleave(64)  # 1 … 10 per head
        block.attn.c_attn.weight[:, :768] *= scale
        block.attn.c_attn.weight[:, 768:1536] *= 3.0
    return model


def tokens(batches: int, batch: int, length: int) -> list[dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return [{"input_ids": torch.randint(0, 50257, (batch, length), generator=generator)} for _ in range(batches)]


def forward_backward(model: PreTrainedModel, batch: dict[str, torch.Tensor], **kwargs: Any) -> Any:
    """Stock loss, and a backward that goes all the way to the input embeddings."""
    embeddings = model.get_input_embeddings()(batch["input_ids"]).detach().requires_grad_()
    output = model(inputs_embeds=embeddings, labels=batch["input_ids"], use_cache=False, **kwargs)
    output.loss.backward()
    return output


def seconds(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def time_ratio(
    model: PreTrainedModel, batches: list[dict[str, torch.Tensor]]
) -> tuple[float, list[float], list[float]]:
    """Median of (pass / plain) over turns, each turn one of either in alternating order, and their seconds."""

    def plain() -> None:
        for batch in batches:
            forward_backward(model, batch)

    def measuring() -> None:
        score_heads(model, batches, ONE_PASS)

    plain(), measuring()
    plain_s, pass_s = [], []
    for turn in range(REPEATS):
        pair = [(plain_s, plain), (pass_s, measuring)]
        for found, work in pair if turn % 2 else pair[::-1]:
            found.append(seconds(work))
    return statistics.median(pass_s) / statistics.median(plain_s), plain_s, pass_s


def sampling_error(model: PreTrainedModel, batches: list[dict[str, torch.Tensor]]) -> tuple[float, float, np.ndarray]:
    """Largest |ΔH| over heads and Spearman correlation, sampled (the default) against exact, and the exact entropy."""
    exact = score_heads(model, batches, ["entropy"], entropy_rows=None)["entropy"]
    sampled = score_heads(model, batches, ["entropy"])["entropy"]
    return float(np.abs(sampled - exact).max()), float(spearmanr(sampled.ravel(), exact.ravel()).statistic), exact


def with_all_maps(model: PreTrainedModel, batch: dict[str, torch.Tensor]) -> None:
    """The same measurements the usual way: eager attention keeps every map, entropy comes from the maps."""
    output = forward_backward(model, batch, output_attentions=True)
    with torch.no_grad():
        for maps in output.attentions:
            torch.special.entr(maps).sum(-1).mean((0, 2))


def peak_growth_mib(way: str) -> float:
    """In a fresh process: how far resident memory rises above the loaded, warm model, MiB."""
    command = [sys.executable, __file__, "--memory", way]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(json.loads(done.stdout.splitlines()[-1]))


def memory_child(way: str) -> None:
    model = small_gpt2("eager" if way == "maps" else "sdpa")
    if way == "pass":
        attach(model)
    work: Callable[[dict[str, torch.Tensor]], Any] = {
        "pass": lambda batch: score_heads(model, [batch], ONE_PASS),
        "maps": lambda batch: with_all_maps(model, batch),
    }[way]
    work(tokens(1, 1, 16)[0])
    batch = tokens(1, 1, MEMORY_LENGTH)[0]
    loaded = psutil.Process().memory_info().rss / 2**20
    work(batch)
    unit = 2**20 if sys.platform == "darwin" else 2**10  # ru_maxrss: bytes there, KiB here
    print(json.dumps(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit - loaded))


def main() -> int:
    """Measure, print and write the table; 1 if a figure misses its bound."""
    # Memory first: a child's ru_maxrss starts at what its parent held when it was forked.
    peaks = {way: peak_growth_mib(way) for way in ("pass", "maps")}
    model = small_gpt2()
    attach(model)
    batches = tokens(BATCHES, BATCH, LENGTH)
    ratio, plain_s, pass_s = time_ratio(model, batches[:TIMED_BATCHES])
    error, rank, exact = sampling_error(model, batches)
    low, high = float(exact.min()), float(exact.max())
    rows = [
        ("pass / plain forward + backward", ratio, TIME_BOUND, ratio <= TIME_BOUND),
        ("sampled entropy, largest |ΔH|", error, ENTROPY_BOUND, error <= ENTROPY_BOUND),
        ("sampled entropy, rank correlation", rank, RANK_BOUND, rank >= RANK_BOUND),
        (
            "peak memory, pass / all maps",
            peaks["pass"] / peaks["maps"],
            MEMORY_BOUND,
            peaks["pass"] <= peaks["maps"] / 2,
        ),
    ]
    print(f"GPT-2-small shape, {torch.get_num_threads()} threads; time at {TIMED_BATCHES} × {BATCH} × {LENGTH} tokens,")
    print(f"  plain {spread(plain_s)} s, pass {spread(pass_s)} s (median, min … max of {REPEATS}, in turns);")
    print(f"entropy over {BATCHES} × {BATCH} × {LENGTH} tokens, between {low:.2f} and {high:.2f} over heads;")
    print(
        f"memory above the loaded model at 1 × {MEMORY_LENGTH} tokens: "
        + ", ".join(f"{k} {v:.0f} MiB" for k, v in peaks.items())
    )
    for name, value, bound, holds in rows:
        print(f"{name:36} {value:8.4f}  bound {bound:5.2f}  {'ok' if holds else 'MISSED'}")
    RESULTS.parent.mkdir(exist_ok=True)
    with RESULTS.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["figure", "value", "bound", "verdict"])
        writer.writerows(
            [name, f"{value:.4f}", bound, "ok" if holds else "MISSED"] for name, value, bound, holds in rows
        )
        extra = {"plain_s": statistics.median(plain_s), "pass_s": statistics.median(pass_s)}
        extra |= {f"peak_{way}_mib": peak for way, peak in peaks.items()}
        writer.writerows([name, f"{value:.2f}", "", ""] for name, value in extra.items())
    return int(not all(row[-1] for row in rows))


def spread(times: list[float]) -> str:
    return f"{statistics.median(times):.2f} ({min(times):.2f} … {max(times):.2f})"


if __name__ == "__main__":
    if sys.argv[1:2] == ["--memory"]:
        memory_child(sys.argv[2])
    else:
        sys.exit(main())
