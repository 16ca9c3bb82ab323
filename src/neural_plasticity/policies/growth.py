"""Which pruned heads come back: a screen by their benefit at gate 0, a trial by switching them on, and a budget.

The screen (to first order, one backward for all heads) only says who is tried. The trial decides: on sequences that the
screen has not seen, with intervals that hold for all tried heads together, beside the heads taken before it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from neural_plasticity.heads import BoolGrid, FloatGrid, HeadId, heads_of, named
from neural_plasticity.policies.statistics import Interval, bootstrap_mean_interval, paired_bootstrap_difference

SequenceGrids = npt.NDArray[np.float64]  # (sequences, layers, heads)
Losses = npt.NDArray[np.float64]  # (sequences,)
Trial = Callable[[tuple[HeadId, ...]], Losses]  # losses of the trial's sequences with these heads switched on too

CONFIDENCE = 0.95
TRIED_PER_PLACE = 3  # heads tried for each that may come back …
FEWEST_TRIED = 6  # … and at least so many, if as many pass the screen
WEAKEST = 3  # so many active heads, at least, say what a place in the model is worth …
SHORTLIST = 2  # … out of so many times as many that have the least gradient
_TAIL_RESAMPLES = 20  # bootstrap values beyond the bound: fewer make the bound itself a matter of chance


@dataclass(frozen=True)
class GrowthChoice:
    """What comes back and why; the fields are those of ``events.HeadsGrown``.

    ``score`` is the mean benefit (layers, heads), ``low`` and ``high`` its interval, NaN where a head was not
    considered. ``reasons`` has a line for every considered head, those that stay out included; ``details`` the figures
    behind it as plain values.
    """

    heads: tuple[HeadId, ...]
    rule: str
    reasons: Mapping[str, str]  # "layer.head" -> one line
    score: FloatGrid
    low: FloatGrid
    high: FloatGrid
    details: Mapping[str, Any] = field(default_factory=dict)


def growth_candidates(
    active: BoolGrid, present: BoolGrid, pruned_in: Mapping[HeadId, int], cycle: int
) -> tuple[HeadId, ...]:
    """The heads that are off, physically there, and were not pruned in this ``cycle``, in reading order.

    Args:
        active: (layers, heads), True where a head is on.
        present: (layers, heads), True where its weights are there.
        pruned_in: the cycle that pruned each head; one that is not named was off from the start.
        cycle: the cycle that asks.
    """
    return tuple(head for head in heads_of(present & ~active) if pruned_in.get(head, 0) != cycle)


def growth_allowance(pruned: int, budget: float) -> int:
    """How many heads may come back in a cycle that pruned ``pruned``: the budget's share, rounded down.

    At least one as soon as two went, and always fewer than went: every cycle leaves fewer heads than it found.
    """
    share = math.floor(budget * pruned + 1e-9)
    return max(0, min(max(1, share), pruned - 1))


def screen(benefits: SequenceGrids, candidates: Sequence[HeadId], seed: int) -> dict[HeadId, Interval]:
    """Mean benefit of each candidate with its 95 % interval over sequences; ``benefits``: −∂L/∂ξ at ξ = 0."""
    return {
        head: bootstrap_mean_interval(benefits[:, head.layer, head.head], seed, confidence=CONFIDENCE)
        for head in candidates
    }


def to_try(screened: Mapping[HeadId, Interval], allowed: int) -> tuple[HeadId, ...]:
    """The heads worth a trial: lower bound above zero, the most certain benefit first, no more than can pay off."""
    passed = sorted((head for head, found in screened.items() if found.low > 0), key=lambda h: (-screened[h].low, h))
    return tuple(passed[: max(FEWEST_TRIED, TRIED_PER_PLACE * allowed)]) if allowed else ()


def shortlist(importance: FloatGrid, active: BoolGrid, allowed: int) -> tuple[HeadId, ...]:
    """The active heads of least ``importance`` (layers, heads), among which the weakest are looked for by ablation."""
    order = sorted(heads_of(active & ~np.isnan(importance)), key=lambda head: (importance[head], head))
    return tuple(order[: SHORTLIST * max(WEAKEST, allowed)])


def weakest_of(worths: Mapping[HeadId, float], allowed: int) -> tuple[HeadId, ...]:
    """The heads worth the least, as many as may come back and at least ``WEAKEST``.

    They are found on the screen's sequences and weighed on the trial's: the least of several noisy figures is too low.
    """
    return tuple(sorted(worths, key=lambda head: (worths[head], head))[: max(WEAKEST, allowed)])


def trial_confidence(tried: int) -> float:
    """Confidence of each head's interval, so that all ``tried`` hold together with 95 % (Bonferroni)."""
    return 1 - (1 - CONFIDENCE) / max(1, tried)


def choose_heads_to_grow(
    screened: Mapping[HeadId, Interval],
    allowed: int,
    trial: Trial,
    worths: Mapping[HeadId, float],
    shape: tuple[int, int],
    seed: int,
    *,
    lives: Mapping[HeadId, int] | None = None,
) -> GrowthChoice:
    """The heads that come back: at most ``allowed``, by measured gain, each tried beside those taken before it.

    A head is taken when the interval of its gain (paired loss difference of the same sequences, corrected for the
    number tried) lies above zero, alone and beside those already taken, and the gain is at least the mean of
    ``worths``.

    Args:
        screened: each candidate's benefit, as `screen` found it.
        allowed: the budget in heads.
        trial: losses per sequence with some more heads on; sequences that the screen has not seen.
        worths: what the weakest active heads are worth: loss increase on the trial's sequences when each is off.
        shape: (layers, heads).
        seed: of the bootstraps.
        lives: how many lives each candidate has had; 1 unless it came back before.
    """
    lives = dict(lives or {})
    tried = to_try(screened, allowed)
    confidence = trial_confidence(len(tried))
    bar = max(0.0, float(np.mean(list(worths.values())))) if worths else 0.0
    as_is = trial(()) if tried else np.empty(0)
    switched_on = {head: trial((head,)) for head in tried}
    gains = {head: _gain(as_is, losses, seed, confidence) for head, losses in switched_on.items()}
    taken: list[HeadId] = []
    with_taken = as_is
    reasons = {head: _screened(one) for head, one in screened.items()}
    for head in sorted(tried, key=lambda h: (-gains[h].estimate, h)):
        losses, others = switched_on[head], 0
        if taken and not _verdict(gains[head], bar, len(taken), allowed):
            losses, others = trial((*taken, head)), len(taken)
            gains[head] = _gain(with_taken, losses, seed, confidence)
        verdict = _verdict(gains[head], bar, len(taken), allowed)
        reasons[head] += f"; {_tried(gains[head], others)}: {verdict or 'comes back'}"
        if not verdict:
            taken.append(head)
            with_taken = losses
    for head, one in screened.items():
        if one.low > 0 and head not in gains:
            reasons[head] += (
                f"; not tried: only the {len(tried)} of most certain benefit are"
                if tried
                else "; not tried: no place in the budget"
            )
    return GrowthChoice(
        heads=tuple(sorted(taken)),
        rule=_rule(len(screened), len(tried), len(taken), allowed, bar, len(worths)),
        reasons={_key(head): line for head, line in sorted(reasons.items())},
        score=_grid({head: one.estimate for head, one in screened.items()}, shape),
        low=_grid({head: one.low for head, one in screened.items()}, shape),
        high=_grid({head: one.high for head, one in screened.items()}, shape),
        details={
            "allowed": allowed,
            "tried": len(tried),
            "trial_confidence": confidence,
            "weakest_worth": bar,
            "weakest": {str(head): value for head, value in worths.items()},
            "gains": {_key(head): list(one) for head, one in gains.items()},
            "names": {_key(head): named(head, lives.get(head, 1) + (head in taken)) for head in screened},
        },
    )


def _gain(before: Losses, after: Losses, seed: int, confidence: float) -> Interval:
    """How far the loss falls, with its paired interval."""
    tail = (1 - confidence) / 2
    resamples = min(20_000, max(2_000, math.ceil(_TAIL_RESAMPLES / tail)))
    return paired_bootstrap_difference(before, after, seed, confidence, resamples)


def _verdict(gain: Interval, bar: float, taken: int, allowed: int) -> str:
    """Why a tried head stays out; empty when it comes back."""
    if not gain.low > 0:  # NaN, too: no interval, no return
        return "not surely a gain"
    if gain.estimate < bar:
        return f"less than the weakest active heads are worth ({_figure(bar)})"
    if taken >= allowed:
        return f"the budget of {allowed} went to better ones"
    return ""


def _screened(one: Interval) -> str:
    line = f"benefit {_interval(one)}"
    return line if one.low > 0 else f"{line}: not surely above zero"


def _tried(gain: Interval, beside: int) -> str:
    others = f" beside {beside} taken before" if beside else ""
    return f"on, it lowers the loss by {_interval(gain)}{others}"


def _rule(considered: int, tried: int, taken: int, allowed: int, bar: float, weakest: int) -> str:
    rule = f"{considered} considered, {tried} tried, {taken} back; budget {allowed}"
    if tried:
        together = f" for all {tried} together" if tried > 1 else ""
        rule += (
            f"; gain surely above zero (95 %{together}) and at least {_figure(bar)}, "
            f"what the {weakest} weakest active heads are worth by ablation"
        )
    return rule


def _interval(one: Interval) -> str:
    return f"{_figure(one.estimate)} [{_figure(one.low)}, {_figure(one.high)}]"


def _figure(value: float) -> str:
    if value == 0 or math.isnan(value):
        return "0" if value == 0 else "?"
    text = f"{value:.4f}" if abs(value) >= 0.001 else f"{value:.1e}"
    return text.replace("-", "−")


def _grid(values: Mapping[HeadId, float], shape: tuple[int, int]) -> FloatGrid:
    grid = np.full(shape, np.nan)
    for head, value in values.items():
        grid[head] = value
    return grid


def _key(head: HeadId) -> str:
    return f"{head.layer}.{head.head}"
