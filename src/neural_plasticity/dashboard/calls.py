"""What each call of a dashboard means: arguments in, events on a `Draft` out. One function per kind of thing told."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from neural_plasticity.dashboard import values
from neural_plasticity.dashboard.draft import Draft, heads, one_head
from neural_plasticity.errors import InputError
from neural_plasticity.events import (
    AttentionMaps,
    Embedding,
    Evaluation,
    HeadScores,
    HeadsGrown,
    HeadsPruned,
    Stabilised,
    StepMetrics,
    TextSample,
    phase_name,
)
from neural_plasticity.heads import FloatGrid, head_id

GRID = "(layers, heads)"
PATTERN = "(T, T)"
STATED = "stated by the script"
# Arrays that a training loop reports among its metrics -> the criterion they measure.
HEATMAPS: Mapping[str, str] = {"entropy_values": "entropy", "grad_norm_values": "gradient"}


def metrics(draft: Draft, given: Any, name: str = "metrics", arrays: Mapping[str, str] | None = None) -> None:
    """Numbers under any names. ``phase`` (text) is a transition, ``stabilized=True`` a stabilisation point.

    ``arrays``: names whose arrays (layers, heads) are head scores, and of which criterion.
    """
    told = dict(values.mapping(given, name))
    if isinstance(told.get("phase"), str):
        phase = told.pop("phase")
        if phase_name(phase) != draft.position.phase:
            draft.enter(phase, f"{name}['phase']")
    stable = isinstance(told.get("stabilized"), bool | np.bool_) and bool(told.pop("stabilized"))
    scores = {HEATMAPS[key]: told.pop(key) for key in (arrays or {}) if key in told}
    if scores:
        head_scores(draft, {key: (value, f"{name}[{key!r}]") for key, value in scores.items()})
    numbers = {key: values.figure(value, f"{name}[{key!r}]", key) for key, value in told.items()}
    if numbers or not given:
        draft.add(StepMetrics, metrics=numbers)
    if numbers.get("sparsity") == 0:
        draft.whole()
    if "loss" in numbers:
        draft.move(losses={"loss": numbers["loss"]})
    if stable:
        stabilised(draft)


def stabilised(draft: Draft, phase: Any = None) -> None:
    """A stabilisation point that the script found; how is not known here."""
    other = {} if phase is None else {"phase": phase_name(values.text(phase, "phase"))}
    draft.add(
        Stabilised, slope=math.nan, slope_low=math.nan, slope_high=math.nan, tolerance=math.nan, window=0,
        loss=draft.position.losses.get("loss", math.nan), reason=STATED, **other,
    )  # fmt: skip


def head_scores(draft: Draft, given: Mapping[str, tuple[Any, str]]) -> None:
    """Measured criteria: name -> array (layers, heads) and the argument it came in."""
    draft.add(HeadScores, scores={name: _grid(draft, value, argument) for name, (value, argument) in given.items()})


def _grid(draft: Draft, given: Any, name: str, dtype: Any = np.float64) -> npt.NDArray[Any]:
    found = values.array(given, name, 2, GRID)
    draft.move(grid=draft.position.grid.measured((found.shape[0], found.shape[1]), name))
    return found.astype(dtype)


def head_metrics(draft: Draft, given: Any) -> None:
    """``{"0.1": {"entropy": …}}`` per head, or ``{"entropy": array (layers, heads)}``."""
    if not isinstance(given, Mapping):
        raise InputError(f"metrics: expected a dict of heads or of arrays, got {values.shown(given)}.")
    if not given or not all(isinstance(one, Mapping) for one in given.values()):
        arrays = values.mapping(given, "metrics")
        head_scores(draft, {name: (value, f"metrics[{name!r}]") for name, value in arrays.items()})
        return
    told = {one_head(key, f"metrics[{key!r}]"): (key, one) for key, one in given.items()}
    draft.move(grid=draft.position.grid.holding(told, "metrics"))
    shape = draft.position.grid.shape or draft.position.grid.least
    scores: dict[str, FloatGrid] = {}
    for head, (key, measured) in told.items():
        for name, value in values.mapping(measured, f"metrics[{key!r}]").items():
            grid = scores.setdefault(name, np.full(shape, np.nan))
            grid[head] = values.number(value, f"metrics[{key!r}][{name!r}]")
    draft.add(HeadScores, scores=scores)


def pruning(draft: Draft, info: Any, name: str = "info") -> None:
    """A pruning decision: ``pruned_heads``, and optionally strategy, pruning_level, cycle, scores and reasons."""
    told = dict(values.mapping(info, name))
    if "pruned_heads" not in told:
        raise InputError(f"{name}: expected a list of heads under 'pruned_heads', got {', '.join(told) or 'nothing'}.")
    gone = heads(told.pop("pruned_heads"), f"{name}['pruned_heads']")
    draft.move(grid=draft.position.grid.holding(gone, f"{name}['pruned_heads']"))
    gone = draft.switch(gone, False, f"{name}['pruned_heads']")
    draft.pruning_cycle(told.pop("cycle", None), f"{name}['cycle']")
    known = _known(draft, told, name)
    level = _optional(told, "pruning_level", name, values.fraction)
    seed = _optional(told, "seed", name, values.whole)
    threshold = _optional(told, "threshold", name, values.number)
    rank = _optional(told, "rank", name, lambda value, argument: _grid(draft, value, argument, np.int64))
    protected = _optional(told, "protected", name, lambda value, argument: _grid(draft, value, argument, bool))
    draft.add(
        HeadsPruned, heads=gone, level=level, seed=seed, threshold=threshold, rank=rank, protected=protected,
        details=values.plain(told, name), **known,
    )  # fmt: skip


def growth(draft: Draft, info: Any, name: str = "info") -> None:
    """Heads that came back (``grown_heads``) or were new (``added_heads``), with strategy, score and reasons."""
    told = dict(values.mapping(info, name))
    grown, added = told.pop("grown_heads", None), told.pop("added_heads", None)
    if grown is None and added is None:
        got = ", ".join(told) or "nothing"
        raise InputError(f"{name}: expected heads under 'grown_heads' or 'added_heads', got {got}.")
    cycle = _optional(told, "cycle", name, values.whole)
    draft.move(cycle=draft.position.cycle if cycle is None else cycle)
    known = _known(draft, told, name)
    details = values.plain(told, name)
    if grown is not None:
        back = heads(grown, f"{name}['grown_heads']")
        draft.move(grid=draft.position.grid.holding(back, f"{name}['grown_heads']"))
        back = draft.switch(back, True, f"{name}['grown_heads']")
        draft.add(HeadsGrown, heads=back, origin="regrown", details=details, **known)
    if added is not None:
        new = heads(added, f"{name}['added_heads']")
        new = draft.switch(new, True, f"{name}['added_heads']", new=True)
        draft.move(grid=draft.position.grid.with_added(new))
        draft.add(HeadsGrown, heads=new, origin="added", details=details, **known)


def _known(draft: Draft, told: dict[str, Any], name: str) -> dict[str, Any]:
    """The fields that pruning and growth share, taken out of ``told``."""
    reasons = _optional(told, "reasons", name, _reasons) or {}
    score = _optional(told, "score", name, lambda value, argument: _grid(draft, value, argument))
    return {
        "strategy": _optional(told, "strategy", name, values.text) or "",
        "rule": _optional(told, "rule", name, values.text) or "",
        "score": score,
        "reasons": reasons,
        "loss_before": _optional(told, "loss_before", name, values.number),
        "loss_after": _optional(told, "loss_after", name, values.number),
    }


def _optional(told: dict[str, Any], key: str, name: str, read: Any) -> Any:
    value = told.pop(key, None)
    return None if value is None else read(value, f"{name}[{key!r}]")


def _reasons(given: Any, name: str) -> dict[str, str]:
    if not isinstance(given, Mapping):
        raise InputError(f"{name}: expected a dict of heads and reasons, got {values.shown(given)}.")
    told = {one_head(key, f"{name}[{key!r}]"): values.text(why, f"{name}[{key!r}]") for key, why in given.items()}
    return {f"{head.layer}.{head.head}": why for head, why in told.items()}


def text_sample(draft: Draft, prompt: Any, text: Any, model: Any, name: str = "generated_text", **more: Any) -> None:
    """Generated text of one model. ``more``: metrics (numbers) and details (anything)."""
    prompt, text, model = (
        values.text(value, argument)
        for value, argument in ((prompt, "prompt"), (text, name), (model, "model_type"))
    )  # fmt: skip
    draft.add(TextSample, prompt=prompt, text=text, model=model, **more)


def sample(draft: Draft, given: Any) -> None:
    """A sample as a dict: ``input_text`` or ``prompt``, ``generated_text``, ``model_type``; the rest is kept too."""
    told = dict(values.mapping(given, "sample"))
    prompt = told.pop("prompt", None) if "prompt" in told else told.pop("input_text", None)
    if "generated_text" not in told:
        got = ", ".join(told) or "nothing"
        raise InputError(f"sample: expected text under 'generated_text', got {got}.")
    text, model = told.pop("generated_text"), told.pop("model_type", "current")
    text_sample(draft, "" if prompt is None else prompt, text, model, details=values.plain(told, "sample"))


def text_comparison(draft: Draft, prompt: Any, baseline: Any, pruned: Any, measured: Any = None) -> None:
    """Two models' texts for one prompt. ``measured``: numbers, of the pruned model or ``{"baseline": {…}, …}``."""
    told = {} if measured is None else values.mapping(measured, "metrics")
    each = told if told and all(isinstance(one, Mapping) for one in told.values()) else {"pruned": told}
    for model, text in (("baseline", baseline), ("pruned", pruned)):
        numbers = {
            key: values.figure(value, f"metrics[{key!r}]", key)
            for key, value in values.mapping(each.get(model, {}), "metrics").items()
        }
        text_sample(draft, prompt, text, model, f"{model}_text", metrics=numbers)


def perplexities(draft: Draft, baseline: Any, pruned: Any, texts: Any = None) -> None:
    """Perplexity of both models: one number each, or one per text; several are averaged as their logarithms are."""
    results, each = {}, {}
    for model, given in (("baseline", baseline), ("pruned", pruned)):
        results[model], each[model] = _perplexity(given, f"{model}_perplexity")
    listed = () if texts is None else (texts,) if isinstance(texts, str) else values.sequence(texts, "texts")
    shown = tuple(values.text(one, f"texts[{place}]") for place, one in enumerate(listed))
    details: dict[str, Any] = {"texts": shown} if shown else {}
    details |= {"perplexities": each} if any(len(one) > 1 for one in each.values()) else {}
    draft.add(Evaluation, results=results, sequences=len(shown), details=details)


def _perplexity(given: Any, name: str) -> tuple[dict[str, float], tuple[float, ...]]:
    if isinstance(given, Sequence) and not isinstance(given, str) and given:
        each = tuple(values.figure(one, f"{name}[{place}]", "perplexity") for place, one in enumerate(given))
    else:
        each = (values.figure(given, name, "perplexity"),)
    if len(each) == 1:
        return {"perplexity": each[0]}, each
    with np.errstate(invalid="ignore", divide="ignore"):
        return {"perplexity": float(np.exp(np.mean(np.log(np.array(each)))))}, each


def evaluation(draft: Draft, given: Any) -> None:
    """Results by model, ``{"baseline": {…}, "pruned": {…}}``; flat ones are of the model as it is now.

    That is the baseline before the first pruning, the pruned model afterwards.
    """
    told = dict(values.mapping(given, "results"))
    counts = {key: values.whole(told.pop(key), f"results[{key!r}]") for key in ("sequences", "tokens") if key in told}
    nested = [isinstance(one, Mapping) for one in told.values()]
    if any(nested) and not all(nested):
        raise InputError("results: expected figures, or a dict of figures for each model, got both mixed.")
    by_model = told if any(nested) else {"pruned" if draft.position.any_pruned else "baseline": told}
    results = {
        model: {
            key: _figure(value, f"results[{model!r}][{key!r}]", key)
            for key, value in values.mapping(one, model).items()
        }
        for model, one in by_model.items()
    }
    draft.add(Evaluation, results=results, **counts)


def _figure(value: Any, name: str, kind: str) -> Any:
    """A figure as a number where it is one; text and anything else as it came."""
    if value is None or isinstance(value, str | list | tuple | Mapping):
        return values.plain(value, name)
    return values.figure(value, name, kind)


def attention_comparison(draft: Draft, baseline: Any, pruned: Any, text: Any, layer: Any, head: Any) -> None:
    """One head's pattern (T, T) in both models; None where the head is gone."""
    for model, given in (("baseline", baseline), ("pruned", pruned)):
        if given is not None:
            _one_pattern(draft, given, f"{model}_attention", text, (layer, head), model)


def attention(draft: Draft, given: Any, text: Any, layer: Any, head: Any, model: Any) -> None:
    """All heads' patterns (layers, heads, T, T), as a model returns them too; or one head's (T, T)."""
    model = values.text(model, "model_type")
    if layer is not None or head is not None:
        _one_pattern(draft, given, "attention", text, (layer, head), model)
        return
    given = [_without_batch(one) for one in given] if isinstance(given, list | tuple) else given
    maps = values.array(given, "attention", 4, "(layers, heads, T, T), or (T, T) with layer_idx and head_idx")
    _square(maps, "attention")
    draft.move(grid=draft.position.grid.measured((maps.shape[0], maps.shape[1]), "attention"))
    prompt, tokens = _prompt(text, maps.shape[-1])
    draft.add(AttentionMaps, prompt=prompt, tokens=tokens, maps=_floats(maps), model=model)


def _without_batch(one: Any) -> Any:
    """A layer's (1, heads, T, T) as (heads, T, T): a model returns its attention with the batch in front."""
    shape = tuple(getattr(one, "shape", ()))
    return one[0] if len(shape) == 4 and shape[0] == 1 else one


def _one_pattern(draft: Draft, given: Any, name: str, text: Any, place: tuple[Any, Any], model: str) -> None:
    layer, head = (values.whole(part, at) for part, at in zip(place, ("layer_idx", "head_idx"), strict=True))
    where = head_id((layer, head))
    draft.move(grid=draft.position.grid.holding([where], "layer_idx, head_idx"))
    pattern = values.array(given, name, 2, PATTERN)
    _square(pattern, name)
    prompt, tokens = _prompt(text, len(pattern))
    maps = _floats(pattern)[None]
    draft.add(AttentionMaps, prompt=prompt, tokens=tokens, maps=maps, model=model, heads=(where,))


def _square(maps: npt.NDArray[Any], name: str) -> None:
    if maps.shape[-1] != maps.shape[-2]:
        raise InputError(f"{name}: expected as many keys as queries {PATTERN}, got an array of shape {maps.shape}.")


def _floats(maps: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return maps if maps.dtype.kind == "f" else maps.astype(np.float32)


def _prompt(text: Any, length: int) -> tuple[str, tuple[str, ...]]:
    """The text and, where they can be told, its tokens: given as a list, or words that are as many as the positions."""
    if isinstance(text, str):
        words = tuple(text.split())
        return str(text), words if len(words) == length else ()
    tokens = tuple(values.text(one, f"text[{place}]") for place, one in enumerate(values.sequence(text, "text")))
    if len(tokens) != length:
        raise InputError(f"text: expected {length} tokens, one per position, got {len(tokens)}.")
    return " ".join(tokens), tokens


def inference(draft: Draft, perplexity: Any, samples: Any, attentions: Any = None) -> None:
    """Perplexities, texts and attention of both models at once."""
    told = values.mapping(perplexity, "perplexity_data")
    pair = [told.get(f"{model}_perplexity", told.get(model)) for model in ("baseline", "pruned")]
    if any(one is None for one in pair):
        raise InputError("perplexity_data: expected numbers under 'baseline' and 'pruned', got " + _keys(told))
    perplexities(draft, pair[0], pair[1], told.get("texts"))
    listed = [samples] if isinstance(samples, Mapping) else values.sequence(samples, "generation_samples")
    for place, one in enumerate(listed):
        _taking(one, f"generation_samples[{place}]", _SAMPLE_KEYS, lambda *parts: text_comparison(draft, *parts))
    if attentions is None:
        return
    listed = [attentions] if isinstance(attentions, Mapping) else values.sequence(attentions, "attention_data")
    for place, one in enumerate(listed):
        _taking(one, f"attention_data[{place}]", _ATTENTION_KEYS, lambda *parts: attention_comparison(draft, *parts))


_SAMPLE_KEYS = ("prompt", "baseline_text", "pruned_text")
_ATTENTION_KEYS = ("baseline_attention", "pruned_attention", "text", "layer_idx", "head_idx")


def _taking(given: Any, name: str, keys: tuple[str, ...], use: Any) -> None:
    told = values.mapping(given, name)
    if any(key not in told for key in keys):
        raise InputError(f"{name}: expected {', '.join(keys)}, got {_keys(told)}")
    extra = [told["metrics"]] if keys is _SAMPLE_KEYS and "metrics" in told else []
    use(*(told[key] for key in keys), *extra)


def _keys(told: Mapping[str, Any]) -> str:
    return f"{', '.join(told) or 'nothing'}."


def embedding(draft: Draft, vectors: Any, labels: Any, name: Any, layer: Any) -> None:
    """Points in an embedding space: (points, dimensions), with one label each or none."""
    points = values.array(vectors, "vectors", 2, "(points, dimensions)")
    listed = () if labels is None else tuple(str(one) for one in values.sequence(labels, "labels"))
    if listed and len(listed) != len(points):
        raise InputError(f"labels: expected {len(points)}, one per point, got {len(listed)}.")
    layer = None if layer is None else values.whole(layer, "layer")
    draft.add(Embedding, name=values.text(name, "name"), vectors=_floats(points), labels=listed, layer=layer)
