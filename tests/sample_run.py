"""A made-up but plausible experiment as events, for tests and screenshots: seeded, five phases, marked as simulated."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from neural_plasticity import events as ev
from neural_plasticity.heads import BoolGrid, FloatGrid, HeadId, grid_of
from neural_plasticity.record import RecordWriter

HOSTILE = 'def f(x): [bold red]</script><script>alert("x")</script> \x1b[2J & {{ 7*7 }}'
PROMPTS = ("def __init__(self", "import os\n", HOSTILE)


def write_events(run_dir: Path, events: Iterable[ev.Event]) -> Path:
    """A record of ``events`` in ``run_dir``."""
    with RecordWriter.create(run_dir) as writer:
        writer.append_many(events)
    return run_dir


@dataclass
class SampleRun:
    """What varies: size, length, and what goes wrong. ``events()`` yields a whole run."""

    seed: int = 0
    layers: int = 6
    heads: int = 8
    cycles: int = 2
    warmup_steps: int = 120
    tuning_steps: int = 80
    name: str = "sample-run"
    control: bool = True
    regrow: bool = True
    step: int = field(default=0, init=False)

    def events(self) -> Iterator[ev.Event]:
        """Warm-up, then analysis, pruning and fine-tuning per cycle (with regrowth in the last), then evaluation."""
        self.step = 0
        rng = np.random.default_rng(self.seed)
        shape = (self.layers, self.heads)
        active: BoolGrid = np.ones(shape, dtype=bool)
        worth = rng.gamma(1.2, 0.02, size=shape)
        total = self.warmup_steps + self.cycles * (self.tuning_steps + 2) + 1
        yield self._started(shape)
        yield from self._samples("baseline", 0)
        loss = yield from self._warmup(rng, total)
        for cycle in range(1, self.cycles + 1):
            if active.sum() < 2:
                break
            before = loss
            pruned, loss = yield from self._prune(cycle, rng, active, worth, loss)
            if self.regrow and cycle == self.cycles and cycle > 1:
                yield self._regrown(cycle, pruned[0], worth, active)
            loss = yield from self._tune(cycle, rng, before, loss, total)
        yield from self._evaluated(loss, active)
        yield self.at(ev.RunEnded, "evaluation", self.cycles, state="finished", summary={"loss": loss})

    def at(self, kind: type[Any], phase: str, cycle: int = 0, phase_step: int = 0, **fields: Any) -> Any:
        """An event at the present step."""
        return kind(step=self.step, phase=phase, cycle=cycle, phase_step=phase_step, **fields)

    def _started(self, shape: tuple[int, int]) -> ev.RunStarted:
        config = {
            "model_name": "builtin", "dataset": "python-stdlib", "pruning_strategy": "gradient",
            "pruning_level": 0.15, "cycles": self.cycles, "seed": self.seed, "control": self.control,
        }  # fmt: skip
        return self.at(
            ev.RunStarted,
            "",
            name=self.name,
            shape=shape,
            config=config,
            model={"name": "builtin", "architecture": "gpt2", "parameters": 3_145_728, "bytes": 12_582_912},
            data={"name": "python-stdlib", "sequences": 4096},
            environment={"python": "3.11.9", "threads": 2},
            simulated=True,
        )

    def _progress(self, phase: str, cycle: int, done: int, planned: int, total: int) -> ev.Progress:
        share = min(self.step / total, 1.0)
        left = 0.9 * (total - self.step)
        return self.at(
            ev.Progress, phase, cycle, done, done=done, planned=planned, run_fraction=share, seconds_left=left
        )

    def _warmup(self, rng: np.random.Generator, total: int) -> Iterator[Any]:
        yield self.at(ev.PhaseStarted, "warmup", planned=self.warmup_steps)
        loss = 2.9
        for phase_step in range(self.warmup_steps):
            loss = 1.86 + 1.04 * math.exp(-phase_step / 22) + rng.normal(0, 0.03)
            yield self._metrics("warmup", 0, phase_step, loss, 0.0)
            if phase_step % 4 == 0:
                yield self._progress("warmup", 0, phase_step, self.warmup_steps, total)
            self.step += 1
        yield self.at(
            ev.Stabilised, "warmup", phase_step=self.warmup_steps - 1, slope=-2.1e-4, slope_low=-8.3e-4,
            slope_high=4.1e-4, tolerance=1e-3, window=40, loss=loss, reason="slope inside the tolerance",
        )  # fmt: skip
        yield self.at(
            ev.PhaseEnded, "warmup", seconds=93.0, reason="slope inside the tolerance", summary={"loss": 1.86}
        )
        return 1.86

    def _metrics(self, phase: str, cycle: int, phase_step: int, loss: float, sparsity: float) -> ev.StepMetrics:
        metrics = {"loss": loss, "tokens_per_second": 11_800.0, "learning_rate": 3e-4, "sparsity": sparsity}
        if phase_step % 10 == 0:
            validation = 0.04 + (loss + 1.9) / 2
            metrics |= {"validation_loss": validation, "perplexity": math.exp(validation)}
        return self.at(ev.StepMetrics, phase, cycle, phase_step, metrics=metrics)

    def _prune(
        self, cycle: int, rng: np.random.Generator, active: BoolGrid, worth: FloatGrid, loss: float
    ) -> Iterator[Any]:
        yield self.at(ev.PhaseStarted, "analysis", cycle, planned=64, unit="sequences")
        gradient = np.where(active, worth * rng.lognormal(0, 0.1, worth.shape), np.nan)
        entropy = np.where(active, np.clip(0.9 - 6 * worth + rng.normal(0, 0.05, worth.shape), 0.02, 0.99), np.nan)
        yield self.at(
            ev.HeadScores, "analysis", cycle, scores={"entropy": entropy, "gradient": gradient},
            sequences=64, tokens=16_384, seconds=4.2,
        )  # fmt: skip
        self.step += 1
        yield self.at(ev.PhaseEnded, "analysis", cycle, seconds=4.4)
        yield self.at(ev.PhaseStarted, "pruning", cycle)
        decision = self._decision(cycle, gradient, active, loss)
        yield decision
        active &= ~grid_of(decision.heads, (self.layers, self.heads))
        self.step += 1
        yield self.at(ev.PhaseEnded, "pruning", cycle, seconds=1.1)
        return decision.heads, decision.loss_after

    def _decision(self, cycle: int, gradient: FloatGrid, active: BoolGrid, loss: float) -> ev.HeadsPruned:
        order = sorted(map(tuple, np.argwhere(active)), key=lambda head: gradient[head])
        count = max(1, round(0.15 * len(order)))
        rank = np.full(gradient.shape, -1, dtype=np.int64)
        for place, head in enumerate(order):
            rank[head] = place
        threshold = float(gradient[order[count - 1]])
        reasons = {
            f"{layer}.{head}": f"gradient {gradient[layer, head]:.4f}, rank {place + 1} of {len(order)}, "
            f"up to threshold {threshold:.4f}"
            for place, (layer, head) in enumerate(order[:count])
        }
        return self.at(
            ev.HeadsPruned, "pruning", cycle, heads=tuple(HeadId(int(a), int(b)) for a, b in order[:count]),
            strategy="gradient", level=0.15, score=gradient, rank=rank, threshold=threshold,
            rule="lowest 15 % of the active heads", seed=self.seed, reasons=reasons,
            loss_before=loss, loss_after=loss + 0.11 * cycle,
        )  # fmt: skip

    def _regrown(self, cycle: int, head: HeadId, worth: FloatGrid, active: BoolGrid) -> ev.HeadsGrown:
        active[head] = True
        return self.at(
            ev.HeadsGrown, "fine-tuning", cycle, heads=(head,), strategy="signed benefit", score=worth,
            reasons={f"{head[0]}.{head[1]}": "benefit 0.0031 per sequence, interval 0.0012 to 0.0050 above 0"},
            rule="interval above 0", loss_before=2.08, loss_after=2.07,
        )  # fmt: skip

    def _tune(self, cycle: int, rng: np.random.Generator, before: float, pruned: float, total: int) -> Iterator[Any]:
        yield self.at(ev.PhaseStarted, "fine-tuning", cycle, planned=self.tuning_steps)
        end = before + 0.012
        sparsity = 1 - 0.85**cycle
        for phase_step in range(self.tuning_steps):
            loss = end + (pruned - end) * math.exp(-phase_step / 14) + rng.normal(0, 0.025)
            yield self._metrics("fine-tuning", cycle, phase_step, loss, sparsity)
            if phase_step % 4 == 0:
                yield self._progress("fine-tuning", cycle, phase_step, self.tuning_steps, total)
            self.step += 1
        summary = {
            "loss_before_pruning": before, "loss_after_pruning": pruned, "loss_after_fine_tuning": end,
            "recovered_fraction": (pruned - end) / (pruned - before),
        }  # fmt: skip
        yield self.at(ev.PhaseEnded, "fine-tuning", cycle, seconds=64.0, summary=summary)
        return end

    def _samples(self, model: str, cycle: int) -> Iterator[ev.TextSample]:
        for prompt in PROMPTS:
            text = ", name, value=None):\n    self.name = name\n    return super().__init__(name)"
            yield self.at(ev.TextSample, "evaluation" if cycle else "", cycle, prompt=prompt, text=text, model=model)

    def _evaluated(self, loss: float, active: BoolGrid) -> Iterator[ev.Event]:
        yield self.at(ev.PhaseStarted, "evaluation", self.cycles, planned=3, unit="passes")
        yield from self._samples("pruned", self.cycles)
        gone = float(1 - active.mean())
        results = {"baseline": model_figures(1.874, 0.0), "pruned": model_figures(loss, gone)}
        comparison = {
            "loss_difference": loss - 1.874, "loss_difference_low": loss - 1.885, "loss_difference_high": loss - 1.863,
            "prefill_speedup": 1.06, "decode_speedup": 1.01, "size_reduction": 0.09 * gone / 0.28,
            "parameter_reduction": 0.09 * gone / 0.28, "kv_cache_reduction": gone,
        }  # fmt: skip
        if self.control:
            results["control"] = model_figures(1.842, 0.0)
            comparison |= {
                "loss_difference_to_control": loss - 1.842,
                "loss_difference_to_control_low": loss - 1.851,
                "loss_difference_to_control_high": loss - 1.833,
            }
        yield self.at(
            ev.Evaluation, "evaluation", self.cycles, results={**results, "comparison": comparison},
            sequences=256, tokens=65_536,
        )  # fmt: skip
        self.step += 1
        yield self.at(ev.PhaseEnded, "evaluation", self.cycles, seconds=21.0)


def model_figures(loss: float, gone: float) -> dict[str, float]:
    """Evaluation figures of a model with this loss and this share of heads physically gone."""
    return {
        "loss": loss, "loss_low": loss - 0.043, "loss_high": loss + 0.044,
        "perplexity": math.exp(loss), "perplexity_low": math.exp(loss - 0.043),
        "perplexity_high": math.exp(loss + 0.044), "bits_per_byte": loss / math.log(2) / 1.94,
        "prefill_ms": 41.2 / (1 + 0.2 * gone), "prefill_tokens_per_second": 6213 * (1 + 0.2 * gone),
        "decode_ms_per_token": 3.12, "decode_tokens_per_second": 320.5,
        "parameters": 3_145_728 * (1 - 0.32 * gone), "bytes": 12_582_912 * (1 - 0.32 * gone),
        "kv_cache_bytes_per_token": 9216 * (1 - gone), "sparsity": gone,
    }  # fmt: skip
