"""The long run that the page is measured with: 1,000,000 steps of four noisy metrics, 500 snapshots of 144 heads.

Nothing in it is kind to a compressor or to a chart: every metric is noisy in every digit, every score moves in every
snapshot, and what else a run of five cycles has (decisions with a reason per head, attention maps, samples, results, a
log) is there too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from neural_plasticity import events as ev
from neural_plasticity.heads import FloatGrid, HeadId
from neural_plasticity.record import RecordWriter

STEPS, SNAPSHOTS, SHAPE, CYCLES = 1_000_000, 500, (12, 12), 5
METRICS = ("loss", "perplexity", "gradient_norm", "tokens_per_second")
AS_A_RUN = (*METRICS, "control_loss", "learning_rate", "sparsity")  # what a step of `plasticity run` records
CHUNK = 20_000
POINTS, WIDTH_OF_A_HEAD = 141, 128  # tokens whose hidden states a run keeps; of a model with 128 heads, say
TOKENS = tuple("abcdefghijklmnopqrstuvwx")
PROMPTS = ("def __init__(self, path):\n    ", "import os\nimport sys\n\n", "class Reader:\n    def read(self")

Active = np.ndarray[Any, np.dtype[np.bool_]]  # (layers, heads)


@dataclass(frozen=True)
class Plan:
    """What varies. ``ended``: False leaves the record as a run that still goes on would.

    ``whole``: with everything that `plasticity run` records of as many layers and heads: seven metrics of every step,
    patterns of three prompts and hidden states, of the pruned model and of the control.
    """

    steps: int = STEPS
    snapshots: int = SNAPSHOTS
    shape: tuple[int, int] = SHAPE
    ended: bool = True
    whole: bool = False

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the metrics of every step."""
        return AS_A_RUN if self.whole else METRICS

    @property
    def progress_every(self) -> int:
        """Steps from one report of progress to the next."""
        return max(1, self.steps // (CYCLES + 1) // 1_000) if self.whole else 10_000


def write_record(folder: Path, plan: Plan = Plan()) -> Path:
    """The record of such a run in ``folder``."""
    events = long_run(plan)
    with RecordWriter.create(folder) as writer:
        while writer.append_many(islice(events, CHUNK)):
            pass
    return folder


def columns(steps: int, names: tuple[str, ...] = METRICS) -> dict[str, np.ndarray[Any, np.dtype[np.float64]]]:
    """The metrics ``names``, a value for every step."""
    random = np.random.default_rng(0)
    per_part = max(1, steps // (CYCLES + 1))
    at = np.arange(steps)
    part, inside = np.minimum(at // per_part, CYCLES), at % per_part
    level = 2.0 + 1.6 * np.exp(-inside / (per_part / 7)) * np.where(part == 0, 1.5, 0.5) + 0.03 * part
    slow = np.cumsum(random.normal(0, 0.002, steps))
    slow -= np.linspace(0, slow[-1], steps) if steps else 0
    loss = level + slow * 0.05 + random.normal(0, 0.06, steps)
    spikes = random.choice(steps, size=max(1, steps // 50_000), replace=False)
    loss[spikes] += random.gamma(2.0, 0.8, len(spikes))
    found = {
        "loss": loss,
        "perplexity": np.exp(loss + random.normal(0, 0.02, steps)),
        "gradient_norm": random.lognormal(0.0, 0.35, steps) * (0.6 + 0.2 * level),
        "tokens_per_second": random.normal(41_000, 900, steps) - 300 * part,
    }
    if names != METRICS:
        found |= {
            "control_loss": loss - 0.02 * part + random.normal(0, 0.01, steps),
            "learning_rate": 3e-4 * (1 - inside / per_part),
            "sparsity": 1 - 0.9**part,
        }
    return found


def long_run(plan: Plan = Plan()) -> Iterator[ev.Event]:
    """A warm-up and five cycles of the same length: analysis, pruning (regrowth in the last two), fine-tuning."""
    steps, snapshots, shape = plan.steps, plan.snapshots, plan.shape
    random = np.random.default_rng(1)
    values = columns(steps, plan.metrics)
    history = _scores(random, snapshots, shape)
    every = max(1, steps // max(1, snapshots))
    per_part = steps // (CYCLES + 1)
    active = np.ones(shape, dtype=bool)
    yield ev.RunStarted(
        name="long-run", shape=shape, simulated=True, config={"cycles": CYCLES, "pruning_level": 0.1, "seed": 0}
    )
    for part in range(CYCLES + 1):
        first = part * per_part
        last = first + per_part if part < CYCLES else steps
        at: dict[str, Any] = {"cycle": part, "step": first}
        if part:
            yield from _changes(random, history[min(first // every, snapshots - 1)], active, part, at)
        phase = "fine-tuning" if part else "warmup"
        yield ev.PhaseStarted(phase=phase, planned=last - first, **at)
        for step, row in zip(range(first, last), _rows(values, first, last), strict=True):
            if step % every == 0 and step // every < snapshots:
                yield ev.HeadScores(step=step, phase=phase, cycle=part, scores={"gradient": history[step // every]})
            metrics = dict(zip(plan.metrics, row, strict=True))
            yield ev.StepMetrics(step=step, phase=phase, cycle=part, phase_step=step - first, metrics=metrics)
            if step % plan.progress_every == 0:
                yield ev.Progress(
                    step=step, phase=phase, cycle=part, done=step - first, planned=last - first,
                    run_fraction=step / steps, seconds_left=(steps - step) / 100,
                )  # fmt: skip
            if step % 10_000 == 0:
                yield ev.LogLine(step=step, phase=phase, cycle=part, message=f"step {step:,}: loss {row[0]:.4f}")
        yield from _looked_at(random, active, values["loss"][last - 1], {"cycle": part, "step": last - 1}, plan.whole)
    if plan.ended:
        yield ev.RunEnded(step=steps - 1, state="finished", phase="fine-tuning", cycle=CYCLES)


def _rows(values: dict[str, np.ndarray[Any, np.dtype[np.float64]]], first: int, last: int) -> Iterator[list[float]]:
    """Each step's values, a stretch at a time: ten million of them as Python's floats would take gigabytes."""
    for start in range(first, last, CHUNK):
        stretch = slice(start, min(start + CHUNK, last))
        yield from np.column_stack([column[stretch] for column in values.values()]).tolist()


def _scores(random: np.random.Generator, snapshots: int, shape: tuple[int, int]) -> list[FloatGrid]:
    """Every head's importance wanders, and is measured with noise."""
    base = random.gamma(1.2, 0.02, shape)
    walk = np.exp(np.cumsum(random.normal(0, 0.03, (snapshots, *shape)), axis=0))
    measured = base * walk * random.lognormal(0, 0.05, (snapshots, *shape))
    return list(measured)


def _changes(
    random: np.random.Generator, score: FloatGrid, active: Active, part: int,
    at: dict[str, Any],
) -> Iterator[ev.Event]:  # fmt: skip
    """What happens between two trainings: heads are measured, pruned, and late in the run some come back."""
    yield ev.PhaseStarted(phase="analysis", **at)
    yield ev.HeadScores(phase="analysis", scores={"gradient": score}, sequences=64, **at)
    yield ev.PhaseStarted(phase="pruning", **at)
    rank = np.full(active.shape, -1, dtype=np.int64)
    places = np.flatnonzero(active.ravel())
    order = places[np.argsort(score.ravel()[places])]
    rank.ravel()[order] = np.arange(len(order))
    chosen = order[: max(1, round(0.1 * len(order)))]
    threshold = float(score.ravel()[chosen[-1]])
    heads = tuple(HeadId(int(one) // active.shape[1], int(one) % active.shape[1]) for one in chosen)
    yield ev.HeadsPruned(
        phase="pruning", heads=heads, strategy="gradient", level=0.1, score=score, rank=rank,
        protected=np.zeros(active.shape, dtype=bool), threshold=threshold, rule="lowest gradient importance first",
        seed=0,
        reasons={
            f"{head.layer}.{head.head}": f"gradient importance {score[head]:.4g}, rank {rank[head]} of {len(order)}"
            for head in heads
        },
        loss_before=2.1 + 0.03 * part, loss_after=2.4 + 0.05 * part, **at,
    )  # fmt: skip
    for head in heads:
        active[head] = False
    if part >= CYCLES - 1:
        gone = np.flatnonzero(~active.ravel())
        back = tuple(
            HeadId(int(one) // active.shape[1], int(one) % active.shape[1])
            for one in random.choice(gone, size=3, replace=False)
        )
        yield ev.HeadsGrown(
            phase="pruning", heads=back, strategy="gradient", score=score, rule="benefit above its interval",
            reasons={f"{head.layer}.{head.head}": "benefit 0.004 ± 0.001" for head in back}, **at,
        )  # fmt: skip
        for head in back:
            active[head] = True


def _looked_at(
    random: np.random.Generator, active: Active, loss: float, at: dict[str, Any], whole: bool
) -> Iterator[ev.Event]:  # fmt: skip
    """What is looked at once a cycle: texts, attention maps, results on test text; maybe hidden states."""
    model = "pruned" if at["cycle"] else "baseline"
    models = (model, "control") if whole and at["cycle"] else (model,)
    yield ev.PhaseStarted(phase="evaluation", **at)
    for prompt in PROMPTS:
        words = random.choice(["self", "path", "return", "None", "for", "in", "open(", "):", "\n    "], size=40)
        yield ev.TextSample(phase="evaluation", prompt=prompt, text=" ".join(words), model=model, **at)
    for prompt, count in zip(PROMPTS, (24, 8, 8), strict=True) if whole else ((PROMPTS[0], 16),):
        for name in models:
            maps = _maps(random, active if name == model else np.ones_like(active), count)
            yield ev.AttentionMaps(
                phase="evaluation", prompt=prompt, tokens=TOKENS[:count], maps=ev.in_steps(maps), model=name,
                error=ev.MAP_ERROR, **at,
            )  # fmt: skip
    for name in models if whole else ():
        layers, heads = active.shape
        yield _hidden_states(random, layers, WIDTH_OF_A_HEAD * heads, name, at)
    figures = {"loss": loss, "perplexity": float(np.exp(loss)), "perplexity_low": float(np.exp(loss - 0.02)),
               "perplexity_high": float(np.exp(loss + 0.02)), "sparsity": 1 - float(active.mean())}  # fmt: skip
    yield ev.Evaluation(phase="evaluation", results={model: figures}, sequences=64, tokens=64 * 256, **at)


def _maps(random: np.random.Generator, active: Active, count: int) -> FloatGrid:
    """(layers, heads, count, count)"""
    raw = np.tril(random.gamma(0.6, 1.0, (*active.shape, count, count))) + np.eye(count) * 1e-6
    maps: FloatGrid = raw / raw.sum(-1, keepdims=True)
    maps[~active] = np.nan
    return maps


def _hidden_states(random: np.random.Generator, layers: int, width: int, model: str, at: dict[str, Any]) -> ev.Event:
    """As many layers as a run keeps, of as many points as its passages have."""
    from neural_plasticity.experiment.observing import kept_layers  # needs torch, and nothing else here does

    kept = kept_layers(layers + 1, POINTS, width)
    base = np.random.default_rng(2).normal(size=(POINTS, width)).astype(np.float32)
    noise = random.normal(size=(len(kept), POINTS, width), scale=0.02 * at["cycle"] + 0.01)
    return ev.Embedding(
        phase="evaluation", name="hidden states", vectors=(base + noise).astype(np.float16),
        labels=tuple(TOKENS[one % len(TOKENS)] for one in range(POINTS)), layers=tuple(one - 1 for one in kept),
        groups=tuple(f"text {one // 20}" for one in range(POINTS)), model=model, **at,
    )  # fmt: skip
