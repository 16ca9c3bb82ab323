"""Runs to look at, for the page's tests in a browser and for its pictures: seeded, with times as a real run has them.

All of them are made up, and marked as simulated. ``RUNS`` names them; each is a function of a directory.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import takewhile
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from neural_plasticity import events as ev
from neural_plasticity.dashboard.demo_events import simulate
from neural_plasticity.heads import HeadId
from neural_plasticity.record import RecordWriter, store

BEGAN = 1_772_530_000.0  # unix seconds: when a run of the past began
PACE = 0.31  # seconds from event to event


class _Clock:
    """`time`, with a clock that goes on by ``pace`` whenever it is read."""

    def __init__(self, began: float, pace: float) -> None:
        self.now, self.pace = began, pace

    def time(self) -> float:
        self.now += self.pace
        return self.now

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)


def write_at(run_dir: Path, events: Iterable[ev.Event], began: float | None = BEGAN, pace: float = PACE) -> Path:
    """A record of ``events``, one every ``pace`` seconds from ``began`` on; None: so that the last was just now."""
    listed = list(events)
    start = time.time() - pace * (len(listed) + 3) if began is None else began
    with patch.object(store, "time", _Clock(start, pace)), RecordWriter.create(run_dir) as writer:
        writer.append_many(listed)
    return run_dir


def named(events: Iterable[ev.Event], name: str) -> Iterator[ev.Event]:
    """The same, under a name of its own."""
    for event in events:
        yield replace(event, name=name) if isinstance(event, ev.RunStarted) else event


def until(events: Iterable[ev.Event], phase: str, cycle: int, share: float) -> Iterator[ev.Event]:
    """The events up to ``share`` of that phase of that cycle."""

    def before(event: ev.Event) -> bool:
        there = isinstance(event, ev.Progress) and (event.phase, event.cycle) == (phase, cycle)
        return not (there and isinstance(event, ev.Progress) and event.done >= share * event.planned)

    return takewhile(before, events)


def begun(run_dir: Path) -> Path:
    """A run of which nothing but the first two steps is there."""
    return write_at(run_dir, until(named(simulate(), "just begun"), "warmup", 0, 0.012), None)


def running(run_dir: Path) -> Path:
    """In the second of three cycles."""
    return write_at(run_dir, until(named(simulate(), "going on"), "fine-tuning", 2, 0.55), None)


def crashed(run_dir: Path) -> Path:
    """Silent since long, in the middle of a phase: killed."""
    return write_at(run_dir, until(named(simulate(seed=3), "killed at night"), "fine-tuning", 1, 0.4))


def stopped(run_dir: Path) -> Path:
    """Ended by its user."""
    events = list(until(named(simulate(seed=4, cycles=2), "stopped by hand"), "fine-tuning", 2, 0.5))
    last = events[-1]
    ended = ev.RunEnded(step=last.step, phase=last.phase, cycle=2, state="stopped", reason="interrupted (Ctrl-C)")
    return write_at(run_dir, [*events, ended])


def five_cycles(run_dir: Path) -> Path:
    """Five cycles, with heads that come back and one that is added."""
    return write_at(run_dir, named(simulate(seed=1, cycles=5), "five cycles with growth"))


def one_head(run_dir: Path) -> Path:
    """The smallest model there is, 1 × 1; its only head goes and comes back."""
    return write_at(run_dir, _one_head())


def _one_head() -> Iterator[ev.Event]:
    head, score = (HeadId(0, 0),), np.array([[0.031]])
    yield ev.RunStarted(name="one head", shape=(1, 1), config={"pruning_level": 1.0}, simulated=True)
    yield ev.PhaseStarted(phase="warmup", planned=60)
    for step in range(60):
        yield _loss(step, "warmup", 0, 1.8 + math.exp(-step / 15), 0.0)
    yield ev.PhaseEnded(step=59, phase="warmup", seconds=12.0)
    yield ev.PhaseStarted(step=60, phase="analysis", cycle=1)
    yield ev.HeadScores(step=60, phase="analysis", cycle=1, scores={"gradient": score, "entropy": np.array([[0.62]])})
    yield _attention(60, "baseline", 0)
    yield ev.HeadsPruned(
        step=61, phase="pruning", cycle=1, heads=head, strategy="gradient", level=1.0, score=score, threshold=0.031,
        rank=np.array([[0]]), rule="the only head", reasons={"0.0": "gradient 0.0310, rank 1 of 1"},
        loss_before=1.82, loss_after=2.71,
    )  # fmt: skip
    yield ev.PhaseStarted(step=62, phase="fine-tuning", cycle=1, planned=40)
    for step in range(62, 102):
        yield _loss(step, "fine-tuning", 1, 2.2 + 0.5 * math.exp(-(step - 62) / 8), 1.0)
    yield ev.HeadsGrown(
        step=101, phase="fine-tuning", cycle=1, heads=head, strategy="signed benefit", score=score,
        reasons={"0.0": "benefit 0.3100 nats, 95 % interval 0.2800 to 0.3400 lies above 0"},
        loss_before=2.2, loss_after=1.9,
    )  # fmt: skip
    yield _attention(101, "pruned", 1)
    results = {"baseline": {"loss": 1.81, "perplexity": 6.11}, "pruned": {"loss": 1.9, "perplexity": 6.69}}
    yield ev.Evaluation(step=102, phase="evaluation", cycle=1, results=results, sequences=64, tokens=16_384)
    yield ev.RunEnded(step=102, phase="evaluation", cycle=1, state="finished")


def _loss(step: int, phase: str, cycle: int, loss: float, sparsity: float) -> ev.StepMetrics:
    metrics = {"loss": loss, "perplexity": math.exp(loss), "sparsity": sparsity}
    return ev.StepMetrics(step=step, phase=phase, cycle=cycle, metrics=metrics)


def _attention(step: int, model: str, cycle: int) -> ev.AttentionMaps:
    tokens = ("def", " run", "(", "self", "):")
    rows = np.tril(np.exp(-0.7 * np.abs(np.subtract.outer(np.arange(5), np.arange(5))) * (1 + cycle)))
    maps = (rows / rows.sum(1, keepdims=True))[None, None]
    return ev.AttentionMaps(step=step, phase="evaluation", cycle=cycle, prompt="def run(self):", tokens=tokens,
                            maps=maps, model=model)  # fmt: skip


def large(run_dir: Path) -> Path:
    """A model of 48 × 32 heads."""
    return write_at(run_dir, named(simulate(seed=2, cycles=2, layers=48, heads=32, level=0.25), "48 × 32 heads"))


def not_numbers(run_dir: Path) -> Path:
    """Losses become infinite, then NaN for good; scores are NaN for some heads; the run fails of it."""
    return write_at(run_dir, _not_numbers())


def _not_numbers() -> Iterator[ev.Event]:
    last = ev.Event()
    for event in until(named(simulate(seed=5, cycles=2), "loss became NaN"), "fine-tuning", 2, 0.5):
        last = event
        if isinstance(event, ev.StepMetrics) and event.phase == "fine-tuning":
            event = replace(event, metrics={name: _broken(event, name, value)
                                            for name, value in event.metrics.items()})  # fmt: skip
        if isinstance(event, ev.HeadScores) and event.cycle == 2:
            scores = {name: np.where(np.indices(grid.shape)[0] == 2, np.nan, grid)
                      for name, grid in event.scores.items()}  # fmt: skip
            event = replace(event, scores=scores)
        yield event
    reason = f"the loss is NaN since step {last.step - 20:,}: a lower learning rate, or float32, may help"
    yield ev.RunEnded(step=last.step, phase=last.phase, cycle=last.cycle, state="failed", reason=reason)


def _broken(event: ev.StepMetrics, name: str, value: float) -> float:
    if not name.endswith(("loss", "perplexity")):
        return value
    if event.cycle == 1:
        return math.nan if 30 <= event.phase_step < 34 else value
    return value if event.phase_step < 40 else math.inf if event.phase_step < 42 else math.nan


RUNS: Mapping[str, Callable[[Path], Path]] = {
    "begun": begun,
    "running": running,
    "crashed": crashed,
    "stopped": stopped,
    "five-cycles": five_cycles,
    "one-head": one_head,
    "large": large,
    "nan": not_numbers,
}
