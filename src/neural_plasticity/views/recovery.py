"""How each cycle recovered, aligned at its pruning, and what all cycles so far add up to."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from neural_plasticity.events import Evaluation
from neural_plasticity.record import PhaseSpan
from neural_plasticity.views.results import number
from neural_plasticity.views.timeline import Curves, smoothed

_POINTS = 300
Steps = npt.NDArray[np.int64]
Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Measured:
    """A figure with its interval, where there is one."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class CycleRecovery:
    """One cycle's training after its pruning, by steps since it.

    ``loss``: running mean of the training loss at ``steps``. ``validation``: on validation text, the first point right
    after the pruning; ``before``: the same right before it. ``excess``: running mean of the training loss minus the
    control's on the same batches, empty without a control.
    """

    cycle: int
    steps: Steps
    loss: Values
    validation_steps: Steps
    validation: Values
    before: float | None
    excess_steps: Steps
    excess: Values

    @property
    def area(self) -> float | None:
        """Nats × steps of validation loss above ``before``: what the damage cost while it lasted, less what was won."""
        if self.before is None or len(self.validation) < 2:
            return None
        above = self.validation - self.before
        return float(((above[1:] + above[:-1]) / 2 * np.diff(self.validation_steps)).sum())

    @property
    def drop_per_step(self) -> float | None:
        """Validation loss won back per step, in nats."""
        if len(self.validation) < 2 or self.validation_steps[-1] == self.validation_steps[0]:
            return None
        won = self.validation[0] - self.validation[-1]
        return float(won / (self.validation_steps[-1] - self.validation_steps[0]))

    @property
    def steps_to_half(self) -> float | None:
        """Steps until half of the damage was won back, straight between validations; None: never, or no damage."""
        if self.before is None or len(self.validation) < 2 or self.validation_steps[0] != 0:
            return None
        half = (self.validation[0] + self.before) / 2
        if not self.validation[0] > half or not (self.validation <= half).any():
            return None
        after = int(np.argmax(self.validation <= half))
        x0, x1 = self.validation_steps[after - 1 : after + 1]
        y0, y1 = self.validation[after - 1 : after + 1]
        return float(x0 + (x1 - x0) * (y0 - half) / (y0 - y1))


@dataclass(frozen=True)
class Cumulative:
    """Where the model stood after a cycle (0: the baseline), as evaluated; None: not recorded.

    Reductions are fractions of the baseline's; ratios are of perplexities.
    """

    cycle: int
    heads_left: int
    sparsity: float
    perplexity: Measured | None
    control_perplexity: Measured | None
    ratio_to_baseline: Measured | None
    ratio_to_control: Measured | None
    parameter_reduction: float | None
    size_reduction: float | None
    prefill_speedup: Measured | None
    decode_speedup: Measured | None


def of_model(evaluations: Sequence[Evaluation], model: str, key: str = "perplexity") -> Measured | None:
    """The model's figure in the last of the evaluations that has it."""
    for one in reversed(evaluations):
        found: Mapping[str, Any] = one.results.get(model) or {}
        value = number(found, key)
        if value is not None:
            return Measured(value, number(found, f"{key}_low"), number(found, f"{key}_high"))
    return None


def cycle_recovery(
    cycle: int, tuning: Sequence[PhaseSpan], curves: Curves, before: float | None, pruned: float | None
) -> CycleRecovery | None:
    """The recovery in these fine-tuning phases; None when there was none."""
    if not tuning:
        return None
    first, last = tuning[0].first_step, tuning[-1].last_step
    steps, losses = inside(curves, "loss", first, last)
    at, validation = inside(curves, "validation_loss", first, last)
    last_of_step = np.append(np.diff(at) > 0, True)[: len(at)] & (at > first)
    at, validation = (at - first)[last_of_step], validation[last_of_step]
    if pruned is not None and math.isfinite(pruned):
        at, validation = np.concatenate([[0], at]), np.concatenate([[pruned], validation])
    loss = smoothed("loss", steps - first, losses, share=0.1, bins=_POINTS)[0]
    excess = _excess(curves, first, last)
    return CycleRecovery(cycle, loss.steps, loss.values, at, validation, before, *excess)


def _excess(curves: Curves, first: int, last: int) -> tuple[Steps, Values]:
    steps, losses = inside(curves, "loss", first, last)
    other, control = inside(curves, "control_loss", first, last)
    shared, here, there = np.intersect1d(steps, other, return_indices=True)
    paired = smoothed("excess", shared - first, losses[here] - control[there], share=0.1, bins=_POINTS)[0]
    return paired.steps, paired.values


def inside(curves: Curves, name: str, first: int, last: int) -> tuple[Steps, Values]:
    """A metric's finite values from step ``first`` to ``last``, both included; none where it was not recorded."""
    steps, values = curves.get(name, (np.empty(0, np.int64), np.empty(0)))
    low, high = np.searchsorted(steps, first, "left"), np.searchsorted(steps, last, "right")
    finite = np.isfinite(values[low:high])
    return steps[low:high][finite], values[low:high][finite]


def cumulative(
    cycle: int, heads_left: int, sparsity: float, evaluations: Sequence[Evaluation], baseline: Measured | None
) -> Cumulative:
    """The row of one cycle, of that cycle's own ``evaluations``."""
    perplexity, control = of_model(evaluations, "pruned"), of_model(evaluations, "control")
    to_baseline = of_model(evaluations, "comparison", "perplexity_ratio")
    to_control = of_model(evaluations, "comparison", "loss_difference_to_control")
    return Cumulative(
        cycle=cycle,
        heads_left=heads_left,
        sparsity=sparsity,
        perplexity=perplexity if cycle else baseline,
        control_perplexity=control,
        ratio_to_baseline=to_baseline or _ratio(perplexity, baseline),
        ratio_to_control=_through_exp(to_control) if to_control else _ratio(perplexity, control),
        parameter_reduction=_value(of_model(evaluations, "comparison", "parameter_reduction")),
        size_reduction=_value(of_model(evaluations, "comparison", "size_reduction")),
        prefill_speedup=of_model(evaluations, "comparison", "prefill_speedup"),
        decode_speedup=of_model(evaluations, "comparison", "decode_speedup"),
    )


def _value(measured: Measured | None) -> float | None:
    return None if measured is None else measured.value


def _ratio(above: Measured | None, below: Measured | None) -> Measured | None:
    """Of two figures that were not compared pair by pair: no interval."""
    if above is None or below is None or not below.value:
        return None
    return Measured(above.value / below.value)


def _through_exp(measured: Measured) -> Measured:
    def exp(value: float | None) -> float | None:
        return None if value is None else math.exp(min(value, 700.0))

    return Measured(math.exp(min(measured.value, 700.0)), exp(measured.low), exp(measured.high))
