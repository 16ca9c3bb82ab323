"""Is a compacted model as much faster as its operation count says, and what does the whole model gain?

GPT-2-small shape (12 layers, hidden 768, 12 heads of 64; random weights, which cost the same as trained ones) with 25,
50 and 75 % of the heads removed, at prefill with T = 512 and batch 1, float32, SDPA.

Operations of one attention block, from the shapes (multiply and add count as two; softmax and biases are left out):
    QKV projection   2 · T · hidden · 3hd      h heads of dimension d
    scores           2 · T · T · hd
    values           2 · T · T · hd
    output projection 2 · T · hd · hidden
all of them proportional to h, so removing a share s of the heads predicts a speed-up of 1 / (1 − s).

A busy machine is the rule, so: one thread; the variants take turns layer by layer; a speed-up is the median, over all
repeats and layers, of the ratio within one turn. What is timed is the CPU time of the one thread that works, into which
other jobs' time slices do not enter; the block's ratio in wall time stands beside it. When a bound is missed the blocks
are measured again, up to ATTEMPTS times in all, and the attempt whose unpruned samples spread least is reported and
judged, whichever way it comes out.

Bounds (exit code 1 on a miss): attention block ≥ 90 % of the prediction at each level; a gated model, which does all
the work, at most 5 % faster than the unpruned one; whole key/value groups removed from a Llama with grouped queries
free the predicted bytes of a real cache, single query heads free none.
"""

from __future__ import annotations

import csv
import statistics
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from neural_plasticity.models import attach, compact, model_size
from neural_plasticity.models.layouts import layer_layouts
from neural_plasticity.models.speed import compare_speed, paired_ratio

TOKENS, HIDDEN, HEADS, HEAD_DIM, LAYERS = 512, 768, 12, 64, 12
LEVELS = (0.25, 0.50, 0.75)
REACHED = 0.90  # share of the predicted speed-up
GATED_AT_MOST = 1.05
ATTEMPTS, REPEATS, MODEL_REPEATS = 3, 4, 3
RESULTS = Path(__file__).parent / "results" / "compaction.csv"


def attention_operations(heads: int, tokens: int = TOKENS) -> int:
    """Floating-point operations of one attention block's matrix products; see the module's formula."""
    width = heads * HEAD_DIM
    return 2 * tokens * HIDDEN * 3 * width + 2 * 2 * tokens * tokens * width + 2 * tokens * width * HIDDEN


def gpt2_small() -> Any:
    config = AutoConfig.for_model("gpt2")  # its defaults are GPT-2 small
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config).eval()


def without(model: Any, level: float) -> Any:
    """A compact copy with ``level`` of each layer's heads removed; ``model`` keeps all of its own."""
    mask = np.ones((LAYERS, HEADS), dtype=bool)
    for layer in range(LAYERS):  # other heads in each layer: which ones go makes no difference to the work
        mask[layer, [(layer + head) % HEADS for head in range(round(level * HEADS))]] = False
    with attach(model).gated(mask):
        return compact(model)


# --- the attention block alone ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Blocks:
    """What the attention blocks of each variant took, projections included, summed over a repeat's layers."""

    speedup: dict[str, float]  # CPU time
    wall_speedup: dict[str, float]
    cpu_ms: dict[str, float]  # median of one layer
    spread: float  # interquartile range over median of the unpruned samples


def measure_blocks(models: Mapping[str, Any]) -> Blocks:
    """Every turn runs the same layer of all variants, one after another; the first turn of each layer is a warm-up."""
    hidden = torch.randn(1, TOKENS, HIDDEN, generator=torch.Generator().manual_seed(0))
    modules = {name: [layout.module for layout in layer_layouts(model)] for name, model in models.items()}
    cpu: dict[str, list[float]] = {name: [] for name in models}
    wall: dict[str, list[float]] = {name: [] for name in models}
    for repeat in range(REPEATS + 1):
        for layer in range(LAYERS):
            for name in models:
                wall_started, cpu_started = time.perf_counter(), time.thread_time()
                with torch.inference_mode():
                    modules[name][layer](hidden)
                if repeat:
                    cpu[name].append((time.thread_time() - cpu_started) * 1e3)
                    wall[name].append((time.perf_counter() - wall_started) * 1e3)
    first, middle, third = statistics.quantiles(cpu["unpruned"], n=4, method="inclusive")
    return Blocks(
        speedup={name: paired_ratio(tuple(cpu["unpruned"]), tuple(values)) for name, values in cpu.items()},
        wall_speedup={name: paired_ratio(tuple(wall["unpruned"]), tuple(values)) for name, values in wall.items()},
        cpu_ms={name: statistics.median(values) for name, values in cpu.items()},
        spread=(third - first) / middle,
    )


def best_blocks(models: Mapping[str, Any]) -> Blocks:
    attempts: list[Blocks] = []
    while len(attempts) < ATTEMPTS and not (attempts and blocks_pass(attempts[-1].speedup)):
        attempts.append(measure_blocks(models))
    print(f"attempts: {len(attempts)}, spreads {', '.join(f'{attempt.spread:.2f}' for attempt in attempts)}\n")
    return min(attempts, key=lambda attempt: attempt.spread)


def blocks_pass(ratios: Mapping[str, float]) -> bool:
    return ratios["gated 50 %"] <= GATED_AT_MOST and all(
        ratios[name_of(level)] >= REACHED * predicted(level) for level in LEVELS
    )


def predicted(level: float) -> float:
    return attention_operations(HEADS) / attention_operations(HEADS - round(level * HEADS))


def name_of(level: float) -> str:
    return f"compact {level:.0%}".replace("%", " %")


def speed_rows() -> tuple[list[dict[str, Any]], bool]:
    """One row per variant of the GPT-2-small shape, and whether every bound was met."""
    whole = gpt2_small()
    masked = gpt2_small()
    mask = np.ones((LAYERS, HEADS), dtype=bool)
    mask[:, ::2] = False
    attach(masked).set_mask(mask)
    models = {"unpruned": compact(whole), "gated 50 %": masked}
    models |= {name_of(level): without(whole, level) for level in LEVELS}
    blocks = best_blocks(models)
    speeds = compare_speed(models, prompt_tokens=TOKENS, new_tokens=8, repeats=MODEL_REPEATS, clock=time.thread_time)
    base = speeds["unpruned"]
    rows = []
    for name, model in models.items():
        level = next((level for level in LEVELS if name == name_of(level)), None)
        size = model_size(model)
        bound = None if level is None else REACHED * predicted(level)
        rows.append(
            {
                "variant": name,
                "block_cpu_ms": round(blocks.cpu_ms[name], 2),
                "block_speedup": round(blocks.speedup[name], 3),
                "block_wall_speedup": round(blocks.wall_speedup[name], 3),
                "predicted": round(predicted(level), 3) if level else 1.0,
                "bound": f">={bound:.3f}" if bound else (f"<={GATED_AT_MOST}" if name == "gated 50 %" else ""),
                "prefill_speedup": round(paired_ratio(base.prefill_samples_ms, speeds[name].prefill_samples_ms), 3),
                "decode_speedup": round(paired_ratio(base.decode_samples_ms, speeds[name].decode_samples_ms), 3),
                "parameters": size.parameters,
                "bytes": size.bytes,
                "kv_bytes_per_token": size.kv_cache_bytes_per_token,
                "spread": round(blocks.spread, 3),
            }
        )
    return rows, blocks_pass(blocks.speedup)


# --- the key/value cache ----------------------------------------------------------------------------------------------


def cache_bytes(model: Any, tokens: int) -> int:
    """What a real cache holds after a prefill: the sum of its tensors."""
    with torch.inference_mode():
        cache = model(torch.zeros(1, tokens, dtype=torch.long), use_cache=True).past_key_values
    return sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)


def cache_rows(tokens: int = 128) -> tuple[list[dict[str, Any]], bool]:
    """Bytes of the cache of a Llama shape with 8 query heads on 4 key/value heads, before and after each unit goes."""
    options = {"hidden_size": 512, "intermediate_size": 1024, "num_hidden_layers": 4, "vocab_size": 1000}
    config = AutoConfig.for_model("llama", num_attention_heads=8, num_key_value_heads=4, **options)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval()
    units = {"none": [], "head: one query head of each of 2 groups": [0, 2], "kv_group: 2 of 4 groups": [0, 1, 2, 3]}
    rows, good, before = [], True, cache_bytes(model, tokens)
    for unit, gone in units.items():
        mask = np.ones((4, 8), dtype=bool)
        mask[:, gone] = False
        with attach(model).gated(mask):
            small = compact(model)
        measured, counted = cache_bytes(small, tokens), model_size(small).kv_cache_bytes_per_token * tokens
        wanted = before // 2 if unit.startswith("kv_group") else before
        good &= measured == counted == wanted
        rows.append({"removed": unit, "cache_bytes": measured, "counted": counted, "share": measured / before})
    return rows, good


def table(rows: list[dict[str, Any]]) -> str:
    cells = [list(rows[0]), *([str(value) for value in row.values()] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in cells)


def main() -> int:
    torch.set_num_threads(1)
    print(f"GPT-2-small shape, prefill T = {TOKENS}, batch 1, float32, 1 thread, torch {torch.__version__}\n")
    rows, fast = speed_rows()
    print(table(rows), "\n")
    caches, freed = cache_rows()
    print(table(caches), "\n")
    RESULTS.parent.mkdir(exist_ok=True)
    with RESULTS.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    with RESULTS.with_name("compaction_cache.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(caches[0]))
        writer.writeheader()
        writer.writerows(caches)
    for good, what in ((fast, "attention block and gated model"), (freed, "key/value cache")):
        print(f"{'met' if good else 'MISSED'}: {what}")
    return 0 if fast and freed else 1


if __name__ == "__main__":
    sys.exit(main())
