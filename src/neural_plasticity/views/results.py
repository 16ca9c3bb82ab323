"""The evaluation as a table, and what it says in sentences: baseline, pruned and (when it ran) the control.

The wording is bound to the evidence: a difference whose interval contains zero is "no measurable difference", an
improvement without an equally trained control is not credited to pruning, a missing figure is said to be missing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from neural_plasticity.events import Evaluation
from neural_plasticity.views import figures

MODELS = ("baseline", "pruned", "control")
SPEED = ("prefill_ms", "decode_ms_per_token")
# Without an interval, a speed ratio has to leave 1 by more than this, and by more than the repeats spread.
SPEED_TOLERANCE = 0.02


@dataclass(frozen=True)
class Cell:
    """One figure as text, and its 95 % interval (or the spread of its repeats) as text, empty when there is none."""

    text: str
    interval: str = ""


@dataclass(frozen=True)
class Row:
    """One measure over all models; ``change`` is pruned against baseline."""

    key: str
    label: str
    cells: tuple[Cell, ...]
    change: str = ""


@dataclass(frozen=True)
class ResultsTable:
    """Rows of measures, one column per model in ``models``, and the sentences that the figures support."""

    models: tuple[str, ...] = ()
    rows: tuple[Row, ...] = ()
    verdicts: tuple[str, ...] = ()
    sequences: int = 0
    tokens: int = 0
    cycle: int = 0  # 0: the baseline, before any pruning

    @property
    def empty(self) -> bool:
        """True when nothing was evaluated."""
        return not self.rows


@dataclass(frozen=True)
class _Measure:
    key: str
    label: str
    write: Callable[[float | None], str]
    interval: Callable[[float | None, float | None], str] = field(default=lambda _low, _high: "")
    change: str = "relative"  # a key of _CHANGES


def _ppl_between(low: float | None, high: float | None) -> str:
    if low is None or high is None:
        return ""
    return f"{figures.perplexity(low)}–{figures.perplexity(high)}"


_MEASURES = (
    _Measure("loss", "loss", figures.plain, figures.between, "difference"),
    _Measure("perplexity", "perplexity", figures.perplexity, _ppl_between),
    _Measure("bits_per_byte", "bits per byte", figures.plain, figures.between, "difference"),
    _Measure("sparsity", "heads removed", lambda v: figures.percent(v, 1), change="none"),
    _Measure("parameters", "parameters", figures.scaled),
    _Measure("bytes", "size", lambda v: figures.scaled(v, "B")),
    _Measure("kv_cache_bytes_per_token", "KV cache/token", lambda v: figures.scaled(v, "B")),
    _Measure("prefill_ms", "prefill, ms", lambda v: figures.significant(v), change="prefill_speedup"),
    _Measure("prefill_tokens_per_second", "prefill, tokens/s", lambda v: figures.plain(v, 0), change="none"),
    _Measure("decode_ms_per_token", "decode, ms/token", lambda v: figures.significant(v), change="decode_speedup"),
    _Measure("decode_tokens_per_second", "decode, tokens/s", lambda v: figures.plain(v, 0), change="none"),
)


def number(figures_of: Any, key: str) -> float | None:
    """The figure as a float; None when it is absent or not a number."""
    value = figures_of.get(key) if isinstance(figures_of, Mapping) else None  # a user's own evaluation may say anything
    if value is None or isinstance(value, str):
        return None
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def results_table(evaluation: Evaluation | None) -> ResultsTable:
    """The table of an evaluation; the empty table when there is none."""
    if evaluation is None:
        return ResultsTable()
    results = evaluation.results
    models = tuple(name for name in MODELS if results.get(name) and isinstance(results[name], Mapping))
    comparison = results.get("comparison") or {}
    rows = []
    for measure in (*_MEASURES, *_own_measures([results[name] for name in models])):
        values = [number(results[name], measure.key) for name in models]
        if all(value is None for value in values):
            continue
        cells = tuple(_cell(measure, results[name]) for name in models)
        rows.append(Row(measure.key, measure.label, cells, _change(measure, results, comparison)))
    said = verdicts(results)
    return ResultsTable(models, tuple(rows), said, evaluation.sequences, evaluation.tokens, evaluation.cycle)


def _own_measures(of_models: Sequence[Mapping[str, Any]]) -> list[_Measure]:
    """Figures that a user's own evaluation added, under their own names."""
    known = {measure.key for measure in _MEASURES}
    names = dict.fromkeys(name for figures_of in of_models for name in figures_of)
    own = [name for name in map(str, names) if name not in known and not name.endswith(("_low", "_high", "_spread"))]
    return [
        _Measure(name, figures.clean(name).replace("_", " "), figures.significant, figures.between, "difference")
        for name in own
    ]


def _cell(measure: _Measure, of_model: Mapping[str, Any]) -> Cell:
    value = number(of_model, measure.key)
    interval = measure.interval(number(of_model, f"{measure.key}_low"), number(of_model, f"{measure.key}_high"))
    spread = number(of_model, f"{measure.key}_spread")
    if spread is not None:
        interval = f"spread {figures.significant(spread, 2)}"
    return Cell(measure.write(value), interval if value is not None else "")


def _change(measure: _Measure, results: Mapping[str, Mapping[str, Any]], comparison: Mapping[str, Any]) -> str:
    if measure.change == "none":
        return ""
    if measure.change.endswith("speedup"):
        speedup = number(comparison, measure.change)
        return "" if speedup is None else figures.ratio(speedup)
    before = number(results.get("baseline") or {}, measure.key)
    after = number(results.get("pruned") or {}, measure.key)
    if before is None or after is None:
        return ""
    if measure.change == "difference":
        return figures.signed(after - before)
    return figures.change(after / before - 1) if before else ""


def verdicts(results: Mapping[str, Mapping[str, Any]]) -> tuple[str, ...]:
    """What the comparison supports, one sentence each; empty when baseline and pruned were not compared."""
    comparison = results.get("comparison") or {}
    said = [
        _loss_verdict(comparison, "loss_difference", "the baseline"),
        _loss_verdict(comparison, "loss_difference_to_control", "the equally trained control"),
        _control_caveat(comparison),
        _speed_verdict(results),
        _size_verdict(comparison),
    ]
    return tuple(sentence for sentence in said if sentence)


def measurable(low: float | None, high: float | None) -> bool | None:
    """Whether an interval excludes zero; None when there is no interval to tell by."""
    if low is None or high is None or math.isnan(low) or math.isnan(high):
        return None
    return low > 0 or high < 0


def _loss_verdict(comparison: Mapping[str, Any], key: str, other: str) -> str:
    difference = number(comparison, key)
    if difference is None:
        return ""
    if not math.isfinite(difference):
        return f"Loss against {other}: {figures.signed(difference)}; no comparison is possible."
    low, high = number(comparison, f"{key}_low"), number(comparison, f"{key}_high")
    evidence = f"{figures.signed(difference)}, 95 % interval {figures.between(low, high, sign=True)}"
    clear = measurable(low, high)
    if clear is None:
        return f"Loss against {other}: {figures.signed(difference)}, without an interval: no evidence of a difference."
    if not clear:
        return f"No measurable difference in loss to {other} ({evidence}; it contains 0)."
    direction = "worse: higher" if difference > 0 else "better: lower"
    effect = f"perplexity {figures.change(math.expm1(difference))}" if difference < 20 else "perplexity beyond bounds"
    return f"Measurably {direction} loss than {other} ({evidence}; {effect})."


def _control_caveat(comparison: Mapping[str, Any]) -> str:
    difference = number(comparison, "loss_difference")
    if difference is None or difference >= 0 or number(comparison, "loss_difference_to_control") is not None:
        return ""
    return "No control ran: a lower loss may only show that training went on."


def _speed_verdict(results: Mapping[str, Mapping[str, Any]]) -> str:
    comparison = results.get("comparison") or {}
    parts = []
    for name, key in (("prefill", "prefill_ms"), ("decode", "decode_ms_per_token")):
        speedup = number(comparison, f"{name}_speedup")
        if speedup is None:
            continue
        low, high = number(comparison, f"{name}_speedup_low"), number(comparison, f"{name}_speedup_high")
        clear = measurable(low - 1, high - 1) if low is not None and high is not None else None
        if clear is None:
            noise = max(SPEED_TOLERANCE, *(_relative_spread(results.get(model) or {}, key) for model in MODELS[:2]))
            clear = math.isfinite(speedup) and abs(speedup - 1) > noise
        parts.append(f"{name} {figures.ratio(speedup)}{'' if clear else ' (no measurable difference)'}")
    return f"Measured speed of the compacted model: {', '.join(parts)}." if parts else ""


def _relative_spread(of_model: Mapping[str, Any], key: str) -> float:
    """Spread of the repeats as a share of the time measured; 0 when it was not kept."""
    time, spread = number(of_model, key), number(of_model, f"{key}_spread")
    return abs(spread / time) if time and spread and math.isfinite(spread / time) else 0.0


def _size_verdict(comparison: Mapping[str, Any]) -> str:
    parts = [
        f"{label} {figures.change(-reduction) if reduction else 'unchanged'}"
        for key, label in (
            ("parameter_reduction", "parameters"),
            ("size_reduction", "bytes"),
            ("kv_cache_reduction", "KV cache"),
        )
        if (reduction := number(comparison, key)) is not None
    ]
    return f"Whole model: {', '.join(parts)}." if parts else ""
