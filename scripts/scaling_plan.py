"""The tables of docs/scaling.md: what 7B and 70B models need on 8 and 64 GPUs, computed, and what was measured.

    python scripts/scaling_plan.py            # writes them into the page, between their marks

Formulas and their sources stand in docs/scaling.md, beside the tables. Bytes are 10⁹ to the GB.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE, MEASURED = ROOT / "docs" / "scaling.md", ROOT / "benchmarks" / "results" / "scale.csv"
GB = 1e9


@dataclass(frozen=True)
class Model:
    """A Llama-like decoder: grouped-query attention, gated feed-forward, untied embeddings, no biases."""

    name: str
    layers: int
    width: int
    heads: int
    kv_heads: int
    hidden: int  # of the feed-forward
    vocabulary: int

    @property
    def head_width(self) -> int:
        return self.width // self.heads

    @property
    def matrices(self) -> tuple[tuple[int, int], ...]:
        """(in, out) of a layer's linear maps: query, key, value, output, gate, up, down."""
        w, kv, f = self.width, self.kv_heads * self.head_width, self.hidden
        return (w, w), (w, kv), (w, kv), (w, w), (w, f), (w, f), (f, w)

    @property
    def layer_parameters(self) -> int:
        return sum(a * b for a, b in self.matrices) + 2 * self.width

    @property
    def parameters(self) -> int:
        return self.layers * self.layer_parameters + 2 * self.vocabulary * self.width + self.width

    def lora_parameters(self, rank: int) -> int:
        """Of adapters on every linear map of every layer: rank · (in + out) each (Hu et al., arXiv 2106.09685)."""
        return self.layers * sum(rank * (a + b) for a, b in self.matrices)

    def activation_bytes(self, bytes_each: int = 2) -> int:
        """Kept for the backward of one layer, per token: what each operation needs again.

        Of width: what enters both norms and what leaves them, before and after their scale; queries, attention's
        output, the gated output. Both norms keep a copy in float32 of what they normalise. Keys and values; and of the
        feed-forward's width gate, its activation, up, and their product. No (T, T) map: fused attention keeps none.
        """
        kv = self.kv_heads * self.head_width
        return bytes_each * (9 * self.width + 2 * kv + 4 * self.hidden) + 2 * 4 * self.width

    def logit_bytes(self) -> int:
        """Of the last layer, per token: bf16, a copy in float32 for the loss, and its gradient."""
        return self.vocabulary * (2 + 4 + 4)


SMALL = Model("7B", 32, 4096, 32, 32, 11_008, 32_000)  # Llama 2 (arXiv 2307.09288)
LARGE = Model("70B", 80, 8192, 64, 8, 28_672, 32_000)
MODELS, GPUS = (SMALL, LARGE), (8, 64)
TOKENS = 4096  # of one sequence, one sequence per GPU at a time
RANK = 16
WHOLE, ADAPTERS = "all weights", "LoRA"
STATE_BYTES = 16  # per trained parameter: weight, gradient and two Adam moments in float32, 4 each
FLOPS = 400e12  # sustained by a GPU in bf16: 40 % of an H100's 989e12
LINK = {8: 450e9, 64: 50e9}  # bytes a second into a GPU: NVLink inside a node of 8; 400 Gbit/s per GPU between nodes


@dataclass(frozen=True)
class Memory:
    """GB on each GPU under full sharding."""

    states: float  # weights, gradients, Adam
    gathered: float  # two layers' weights and one layer's gradients, whole, while they are used
    activations: float
    checkpointed: float  # activations, where each layer is computed again in the backward
    logits: float

    def total(self, checkpointing: bool) -> float:
        """All of it."""
        return self.states + self.gathered + (self.checkpointed if checkpointing else self.activations) + self.logits


def memory(model: Model, gpus: int, way: str, tokens: int = TOKENS) -> Memory:
    """Of training all weights, or LoRA adapters on frozen bf16 weights; ``tokens`` on each GPU at a time."""
    if way == WHOLE:
        states = STATE_BYTES * model.parameters
    else:
        states = 2 * model.parameters + STATE_BYTES * model.lora_parameters(RANK)
    layer = model.activation_bytes() * tokens
    return Memory(
        states / gpus / GB,
        (3 if way == WHOLE else 2) * 2 * model.layer_parameters / GB,
        layer * model.layers / GB,
        (2 * model.width * tokens * model.layers + layer) / GB,
        model.logit_bytes() * tokens / GB,
    )


def traffic(model: Model, gpus: int, way: str) -> float:
    """GB into each GPU per micro-batch: weights gathered forwards and backwards, gradients reduced, in bf16."""
    share = (gpus - 1) / gpus
    trained = model.parameters if way == WHOLE else model.lora_parameters(RANK)
    return share * 2 * (2 * model.parameters + trained) / GB


def step_seconds(model: Model, gpus: int, way: str, tokens: int = TOKENS) -> tuple[float, float]:
    """(computing, moving) of one micro-batch: 6 operations per parameter and token, 8 with checkpointing, which is
    assumed; of frozen weights no gradient is made (two less)."""
    operations = (8 if way == WHOLE else 6) * model.parameters * tokens
    return operations / FLOPS, traffic(model, gpus, way) * GB / LINK[gpus]


def scoring(model: Model, gpus: int, sequences: int = 64) -> Mapping[str, float]:
    """Of one analysis on ``sequences`` of `TOKENS`, split over the GPUs; seconds of computing, kilobytes of scores."""
    heads, tokens = model.layers * model.heads, sequences * TOKENS
    rate = gpus * FLOPS
    forward = 2 * model.parameters * tokens
    sampled = 2 * 64 * TOKENS * model.width * model.layers * sequences  # 64 query rows a sequence, q · k
    return {
        "one pass": 2 * forward / rate,  # forward, and backward through frozen weights
        "entropy": sampled / rate,
        "ablation": (heads + 1) * forward / rate,
        "scores": 8 * heads / 1e3,
        "traffic": 2 * 2 * model.parameters * (gpus - 1) / gpus / GB,
    }


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Markdown; numbers to the right."""
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, rule, *rows))


def number(value: float) -> str:
    """Two figures or so."""
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}" if value < 1 else f"{value:.1f}"


def memory_table() -> str:
    """GB per GPU."""
    rows = []
    for model in MODELS:
        for gpus in GPUS:
            for way in (WHOLE, ADAPTERS):
                found = memory(model, gpus, way)
                parts = (found.states, found.gathered, found.activations, found.checkpointed, found.logits)
                totals = (found.total(False), found.total(True))
                rows.append((f"{model.name}, {gpus} GPUs, {way}", *map(number, (*parts, *totals))))
    head = (
        "GB per GPU",
        "states",
        "gathered layers",
        "activations",
        "… checkpointed",
        "logits",
        "total",
        "… checkpointed",
    )
    return table(head, rows)


def traffic_table() -> str:
    """Per micro-batch of one sequence per GPU."""
    rows = []
    for model in MODELS:
        for gpus in GPUS:
            for way in (WHOLE, ADAPTERS):
                computing, moving = step_seconds(model, gpus, way)
                rows.append(
                    (
                        f"{model.name}, {gpus} GPUs, {way}",
                        *map(number, (traffic(model, gpus, way), moving, computing, TOKENS * moving / computing)),
                    )
                )
    return table(
        ("per micro-batch", "GB into each GPU", "s to move", "s to compute", "tokens per GPU that hide it"), rows
    )


def scoring_table() -> str:
    """One analysis."""
    rows = []
    for model in MODELS:
        for gpus in GPUS:
            found = scoring(model, gpus)
            rows.append((f"{model.name}, {gpus} GPUs", *map(number, found.values())))
    head = (
        "64 sequences",
        "one pass, s",
        "entropy's share, s",
        "ablation of every head, s",
        "scores reduced, kB",
        "weights gathered, GB",
    )
    return table(head, rows)


def measured(path: Path = MEASURED) -> str:
    """What `benchmarks/scale.py` found: figures by size."""
    with path.open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    sizes = list(dict.fromkeys((one["steps"], one["layers"], one["heads"]) for one in lines))
    values = {(one["figure"], one["steps"], one["layers"], one["heads"]): one for one in lines}
    rows = []
    for figure in dict.fromkeys(one["figure"] for one in lines):
        cells = [values.get((figure, *size)) for size in sizes]
        unit = next(one["unit"] for one in cells if one)
        rows.append(
            (f"{figure}{f', {unit}' if unit else ''}", *(number(float(one["value"])) if one else "" for one in cells))
        )
    return table(("steps, layers × heads", *(f"{int(steps):,}, {a} × {b}" for steps, a, b in sizes)), rows)


LINEAR = (
    "record, MB", "one metric as arrays: processor, s", "live server, first document: processor, s",
    "live server: memory, MB", "export: processor, s", "export: memory, MB", "single file, MB",
)  # fmt: skip


def steps_line(path: Path = MEASURED) -> str:
    """The line through 100,000 and 1,000,000 steps of 100 × 128 heads, and what 10,000,000 really took."""
    with path.open(newline="", encoding="utf-8") as file:
        found = {
            (f"{one['figure']}, {one['unit']}", int(one["steps"])): float(one["value"])
            for one in csv.DictReader(file)
            if (one["layers"], one["heads"]) == ("100", "128")
        }
    rows = []
    for figure in LINEAR:
        few, many, most = (found[figure, steps] for steps in (100_000, 1_000_000, 10_000_000))
        slope = max((many - few) / 0.9, 0.0)
        rows.append((figure, *map(number, (few, many, slope, many + 9 * slope, most))))
    head = ("100 × 128 heads", "100,000 steps", "1,000,000", "per million", "10,000,000, by the line", "… measured")
    return table(head, rows)


TABLES = {
    "steps": steps_line,
    "memory": memory_table,
    "traffic": traffic_table,
    "scoring": scoring_table,
    "measured": measured,
}


def filled(text: str) -> str:
    """The page with every table made anew."""
    for name, make in TABLES.items():
        before, rest = text.split(f"<!-- {name} -->\n", 1)
        _, after = rest.split("<!-- end -->", 1)
        text = f"{before}<!-- {name} -->\n{make()}\n<!-- end -->{after}"
    return text


def main() -> int:
    """Write the tables into the page."""
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
