"""When to stop pruning: a cycle is inside the budget when the whole interval of what it cost is.

What a cycle cost is ln(perplexity / the control's): the mean difference of both models' losses on the same validation
sequences. It is *inside* when the upper end of its 95 % interval is at most ln(1 + allowed increase), so a cycle has to
show that it is good enough; "no measurable difference" would let every cycle pass on little text.

Sequences of one document are no independent evidence: whole documents are resampled where there are enough of them.
How often the rule stops too early or too late: docs/stopping.md, benchmarks/stopping.py.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from neural_plasticity.policies.statistics import Interval, Values, clustered_difference

MIN_DOCUMENTS = 8
"""With fewer documents among the sequences, these are resampled one by one: so few clusters give no interval."""

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Verdict:
    """One cycle judged; the fields are ``events.CycleJudged``'s. ``documents``: 0 where sequences were resampled."""

    log_ratio: Interval
    budget: float
    inside: bool
    perplexity: float
    control_perplexity: float
    sequences: int
    documents: int
    reason: str

    @property
    def noise(self) -> float:
        """How far the interval reaches above the estimate: no budget below this can be met, whatever the cycle cost."""
        return self.log_ratio.high - self.log_ratio.estimate

    @property
    def can_tell(self) -> bool:
        """Whether the text says anything: a cycle that cost nothing would be inside, or this one is clearly outside."""
        return self.noise <= self.budget or self.log_ratio.low > self.budget


def judge_cycle(
    pruned: Values,
    control: Values,
    budget: float,
    seed: int,
    documents: Sequence[int] | npt.NDArray[np.integer] | None = None,
) -> Verdict:
    """Whether the pruned model's losses are inside ``budget`` (in nats) of the control's, on the same sequences.

    Args:
        pruned, control: mean token loss of each sequence, in nats.
        budget: ln(1 + allowed increase of perplexity).
        seed: of the bootstrap.
        documents: the document that each sequence comes from; None: unknown, every sequence stands for itself.

    Raises:
        InputError: the two differ in length, or are empty.
    """
    first, second = np.asarray(pruned, dtype=np.float64), np.asarray(control, dtype=np.float64)
    known = 0 if documents is None else len(np.unique(np.asarray(documents)))
    by_document = documents is not None and known >= MIN_DOCUMENTS
    clusters = np.asarray(documents) if by_document else np.arange(first.size)
    interval = clustered_difference(first, second, clusters, seed)
    inside = bool(interval.high <= budget)  # NaN is not
    return Verdict(
        log_ratio=interval,
        budget=budget,
        inside=inside,
        perplexity=_exp(float(first.mean())),
        control_perplexity=_exp(float(second.mean())),
        sequences=first.size,
        documents=known if by_document else 0,
        reason=_reason(interval, budget, first.size, known if by_document else 0),
    )


def _reason(interval: Interval, budget: float, sequences: int, documents: int) -> str:
    """``perplexity +1.8 % against the control (95 % interval −0.4 to +4.1 %), at most +5 % allowed; on 256 …``."""
    text = f"{sequences} validation sequences" + (f" from {documents} documents" if documents else "")
    allowed = f"at most +{100 * math.expm1(budget):.6g} % allowed"
    digits = max(1, 1 - math.floor(math.log10(100 * math.expm1(budget))))
    middle, low, high = (f"{_increase(bound):+.{digits}f}".replace("-", "−") for bound in interval)
    if not math.isfinite(interval.high):
        return f"perplexity {middle} % against the control, without an interval, {allowed}; on {text}"
    return f"perplexity {middle} % against the control (95 % interval {low} to {high} %), {allowed}; on {text}"


def _increase(log_ratio: float) -> float:
    return 100 * math.expm1(min(log_ratio, 700.0))


def percent(log_ratio: float) -> str:
    """A log ratio as a change in percent, in two digits."""
    return f"{_increase(log_ratio):.2g} %"


def needed_sequences(noise: float, budget: float, sequences: int) -> int:
    """About how many sequences would bring the noise down to a third of the budget: it falls with their root."""
    return math.ceil(sequences * (3 * noise / budget) ** 2)


def even_share(documents: IntArray, count: int) -> IntArray:
    """At most ``count`` places of ``documents``, as evenly over them as their lengths allow, and spread within each.

    Taken in proportion, one long document would be a third of the text, and the interval would rest on a handful.
    """
    _, owner, sizes = np.unique(documents, return_inverse=True, return_counts=True)
    if count >= len(documents):
        return np.arange(len(documents))
    quota = int(np.searchsorted([int(np.minimum(sizes, q).sum()) for q in range(1, int(sizes.max()) + 1)], count)) + 1
    shares = np.minimum(sizes, quota)
    most = np.flatnonzero(shares == quota)  # a few of these give one less, so that the sum is right
    shares[most[: int(shares.sum()) - count]] -= 1
    chosen = [
        np.flatnonzero(owner == one)[np.linspace(0, sizes[one] - 1, share).round().astype(np.int64)]
        for one, share in enumerate(shares)
        if share
    ]
    return np.sort(np.concatenate(chosen))


def _exp(loss: float) -> float:
    return math.exp(loss) if loss < 700 else math.inf
