"""What can happen in an experiment: frozen, versioned event types. The record keeps them; every view is made of them.

Every event carries its coordinates: ``step`` (global), ``phase``, ``cycle`` (0 before the first) and ``phase_step``
(from 0 in each phase). The record adds attempt and wall time. Per-head data is one array (layers, heads) per event.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from neural_plasticity.heads import FloatGrid, HeadId, StateGrid

Phase = str  # one of PHASES, or a user's own name
PHASES: tuple[Phase, ...] = ("warmup", "analysis", "pruning", "fine-tuning", "growth", "evaluation")
_SPELLINGS = {"finetuning": "fine-tuning", "fine_tuning": "fine-tuning", "warm-up": "warmup", "warm_up": "warmup"}

RunState = Literal["running", "finished", "stopped", "failed"]


def phase_name(name: str) -> Phase:
    """The phase's own spelling: ``finetuning`` and ``Fine_Tuning`` are ``fine-tuning``; unknown names are kept."""
    lower = name.strip().lower()
    return lower if lower in PHASES else _SPELLINGS.get(lower, name.strip())


@dataclass(frozen=True, kw_only=True)
class Event:
    """Common coordinates. ``kind`` names the type in the record; ``version`` counts its payload's layout."""

    kind: ClassVar[str] = "event"
    version: ClassVar[int] = 1

    step: int = 0
    phase: Phase = ""
    cycle: int = 0
    phase_step: int = 0


@dataclass(frozen=True, kw_only=True)
class RunStarted(Event):
    """First event of an attempt: everything needed to repeat the run."""

    kind: ClassVar[str] = "run_started"
    name: str
    shape: tuple[int, int]  # (layers, heads); (0, 0): not known yet, and as large as what is recorded turns out to be
    config: Mapping[str, Any]
    model: Mapping[str, Any] = field(default_factory=dict)  # name, architecture, parameters, bytes, head_dim, kv_heads
    data: Mapping[str, Any] = field(default_factory=dict)  # name, sha256, sequences and tokens per split
    environment: Mapping[str, Any] = field(default_factory=dict)  # versions, machine, threads, command line
    simulated: bool = False
    absent: tuple[HeadId, ...] = ()  # places of the grid without a head: removed before, or layers of unequal width


@dataclass(frozen=True, kw_only=True)
class RunEnded(Event):
    """Last event of an attempt: how it ended, and the closing figures."""

    kind: ClassVar[str] = "run_ended"
    state: RunState
    reason: str = ""
    summary: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class PhaseStarted(Event):
    """A phase transition. ``planned``: steps, sequences or passes the phase will take, when known."""

    kind: ClassVar[str] = "phase_started"
    planned: int | None = None
    unit: str = "steps"


@dataclass(frozen=True, kw_only=True)
class PhaseEnded(Event):
    """The phase is over; ``summary`` holds its own closing figures, ``reason`` why it ended when that was decided."""

    kind: ClassVar[str] = "phase_ended"
    seconds: float = 0.0
    reason: str = ""
    summary: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class StepMetrics(Event):
    """Numbers measured at one step; any names, NaN and infinities kept."""

    kind: ClassVar[str] = "metrics"
    metrics: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Progress(Event):
    """How far the phase and the run are; ``seconds_left`` is an estimate for the whole run, None while unknown."""

    kind: ClassVar[str] = "progress"
    done: int
    planned: int
    run_fraction: float
    seconds_left: float | None = None
    unit: str = "steps"


@dataclass(frozen=True, kw_only=True)
class Stabilised(Event):
    """The loss curve was called stable: slope per step, its interval, the tolerance and the window (steps)."""

    kind: ClassVar[str] = "stabilised"
    slope: float
    slope_low: float
    slope_high: float
    tolerance: float
    window: int
    loss: float
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class HeadScores(Event):
    """Measured head criteria, each (layers, heads) float64, NaN where a head was not measured."""

    kind: ClassVar[str] = "head_scores"
    scores: Mapping[str, FloatGrid]
    sequences: int = 0
    tokens: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class HeadsPruned(Event):
    """One pruning decision, with the reason for every head.

    ``score`` and ``rank`` are (layers, heads): the score that the strategy ordered by (lowest goes first) and each
    active head's place in that order (0 first; −1: not eligible because already pruned or protected).
    ``protected`` is a bool grid: heads that a rule kept although their rank would have taken them.
    """

    kind: ClassVar[str] = "heads_pruned"
    heads: tuple[HeadId, ...]
    strategy: str
    level: float | None = None
    score: FloatGrid | None = None
    rank: npt.NDArray[np.int64] | None = None
    protected: npt.NDArray[np.bool_] | None = None
    threshold: float | None = None
    rule: str = ""
    seed: int | None = None
    reasons: Mapping[str, str] = field(default_factory=dict)  # "layer.head" -> one line
    loss_before: float | None = None
    loss_after: float | None = None
    details: Mapping[str, Any] = field(default_factory=dict)  # what else a script told, as it came


@dataclass(frozen=True, kw_only=True)
class HeadsGrown(Event):
    """Heads that came back (``regrown``) or were added, with the evidence; none, when all considered heads stay out.

    ``score``, ``low`` and ``high`` are (layers, heads): what the heads were considered by, with its interval. A reason
    may be given for every considered head.
    """

    kind: ClassVar[str] = "heads_grown"
    heads: tuple[HeadId, ...]
    origin: Literal["regrown", "added"] = "regrown"
    strategy: str = ""
    score: FloatGrid | None = None
    low: FloatGrid | None = None
    high: FloatGrid | None = None
    rule: str = ""
    reasons: Mapping[str, str] = field(default_factory=dict)
    loss_before: float | None = None
    loss_after: float | None = None
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class CycleJudged(Event):
    """Whether a cycle's model is still good enough, on validation text: ``--cycles auto`` goes on while it is.

    ``log_ratio`` is the mean loss of the pruned model minus the control's, which is ln(perplexity / the control's),
    with its 95 % interval; ``inside`` when the interval's upper end is at most ``budget``, ln(1 + allowed increase).
    """

    kind: ClassVar[str] = "cycle_judged"
    log_ratio: float
    log_ratio_low: float
    log_ratio_high: float
    budget: float
    inside: bool
    sparsity: float
    perplexity: float
    control_perplexity: float
    sequences: int
    documents: int = 0  # that the sequences come from, and that were resampled; 0: sequences were
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class StateRestored(Event):
    """The model was put back to where it was at the end of ``to_cycle`` (0: before any pruning), at ``to_step``.

    ``states`` (layers, heads) of `HeadState` as they are from now on.
    """

    kind: ClassVar[str] = "state_restored"
    to_cycle: int
    to_step: int
    states: StateGrid
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class TextSample(Event):
    """Generated text; ``model`` is ``baseline``, ``current``, ``pruned`` or ``control``."""

    kind: ClassVar[str] = "text_sample"
    prompt: str
    text: str
    model: str = "current"
    metrics: Mapping[str, float] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)


MAP_STEPS = 254
MAP_ERROR = 0.5 / MAP_STEPS + 2.0**-12  # half a step, and what half precision cannot tell apart


def in_steps(maps: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float16]:
    """Attention maps rounded to 254ths, off by ``MAP_ERROR`` at most: the record keeps one byte per value of them."""
    return np.asarray(np.rint(maps.astype(np.float32) * MAP_STEPS) / MAP_STEPS, np.float16)


@dataclass(frozen=True, kw_only=True)
class AttentionMaps(Event):
    """Attention patterns of one prompt: ``maps`` (layers, heads, T, T), NaN where a head is pruned, never zeros.

    With ``heads`` only those were looked at, and ``maps`` is (len(heads), T, T). ``error``: how far a value may be from
    what was measured, because it was rounded before it was recorded.
    """

    kind: ClassVar[str] = "attention_maps"
    version: ClassVar[int] = 2  # 2: error
    prompt: str
    tokens: tuple[str, ...]
    maps: npt.NDArray[np.floating[Any]]
    model: str = "current"
    heads: tuple[HeadId, ...] = ()
    error: float = 0.0

    @property
    def all_heads(self) -> bool:
        """True when ``maps`` is (layers, heads, T, T)."""
        return not self.heads

    def pattern(self, layer: int, head: int) -> npt.NDArray[np.floating[Any]] | None:
        """(T, T) pattern of one head; None where it was not looked at or has none because it is pruned."""
        if self.heads:
            found = [one for place, one in enumerate(self.maps) if self.heads[place] == (layer, head)]
        else:
            inside = layer < self.maps.shape[0] and head < self.maps.shape[1]
            found = [self.maps[layer, head]] if inside else []
        return found[0] if found and not np.isnan(found[0]).all() else None


@dataclass(frozen=True, kw_only=True)
class Embedding(Event):
    """Points in an embedding space: ``vectors`` (points, dimensions) with one label each.

    With ``layers`` they are the same points at several depths, and ``vectors`` is (layers, points, dimensions): layer 3
    is what leaves the layer with that number, −1 what enters the first one. ``groups``: which text each point is of.
    """

    kind: ClassVar[str] = "embedding"
    version: ClassVar[int] = 2  # 2: layers, groups, model
    name: str
    vectors: npt.NDArray[np.floating[Any]]
    labels: tuple[str, ...] = ()
    layer: int | None = None
    layers: tuple[int, ...] = ()
    groups: tuple[str, ...] = ()
    model: str = "current"


@dataclass(frozen=True, kw_only=True)
class Evaluation(Event):
    """Results on test text. ``results``: model name -> figures (loss, perplexity, …_low and …_high for intervals)."""

    kind: ClassVar[str] = "evaluation"
    results: Mapping[str, Mapping[str, Any]]
    sequences: int = 0
    tokens: int = 0
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class LogLine(Event):
    """A line for the console and the log."""

    kind: ClassVar[str] = "log"
    message: str
    level: Literal["debug", "info", "warning", "error"] = "info"


@dataclass(frozen=True, kw_only=True)
class Annotation(Event):
    """What people say about a run. Each one replaces what was said before; None leaves that part as it was."""

    kind: ClassVar[str] = "annotation"
    tags: tuple[str, ...] | None = None
    note: str | None = None


EVENT_TYPES: Mapping[str, type[Event]] = {
    cls.kind: cls
    for cls in (
        RunStarted, RunEnded, PhaseStarted, PhaseEnded, StepMetrics, Progress, Stabilised, HeadScores, HeadsPruned,
        HeadsGrown, CycleJudged, StateRestored, TextSample, AttentionMaps, Embedding, Evaluation, LogLine,
        Annotation,
    )
}  # fmt: skip
