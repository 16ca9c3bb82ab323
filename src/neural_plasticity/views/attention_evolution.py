"""Attention patterns over the run: every head of every probe prompt at every look, and how far it drifted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from neural_plasticity.events import AttentionMaps, HeadsGrown, HeadsPruned
from neural_plasticity.heads import HeadId
from neural_plasticity.record import Run
from neural_plasticity.record.snapshot import Place, Snapshot, snapshot
from neural_plasticity.views import figures
from neural_plasticity.views.attention import looked_at, row_divergence
from neural_plasticity.views.heads_history import moments

BYTES = 1_500_000  # of packed patterns in a document
_LEVELS = 254
NO_PATTERN = 255
_PROMPTS = 12
_TAKES = 16  # looks at one prompt by one model
_TOKENS = 96
_LOOKS = 240  # events that are opened at all

Maps = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Take:
    """One look: ``maps`` (heads, T, T), 0 to 254 for 0 to 1, 255 where there is no pattern; ``error``: the largest.

    ``drift``: Jensen-Shannon divergence in bits against the prompt's first take that has the head; NaN: no pattern.
    """

    step: int
    cycle: int
    phase: str
    model: str
    heads: npt.NDArray[np.int64]  # (heads, 2)
    maps: npt.NDArray[np.uint8]
    error: float
    drift: npt.NDArray[np.float32]  # (heads)


@dataclass(frozen=True)
class PromptTakes:
    """All looks at one prompt, in order."""

    prompt: str
    tokens: tuple[str, ...]
    takes: tuple[Take, ...]


@dataclass(frozen=True)
class AttentionEvolution:
    """Prompts in the order in which they came; ``thinned`` says what was left out."""

    prompts: tuple[PromptTakes, ...]
    thinned: str | None = None
    empty: str | None = None


@dataclass(frozen=True)
class _Look:
    place: Place
    event: AttentionMaps

    @property
    def patterns(self) -> dict[HeadId, Maps]:
        """The pattern of each head that was looked at."""
        flat = self.event.maps.reshape(-1, *self.event.maps.shape[-2:])
        return dict(zip(looked_at(self.event), flat, strict=False))


def attention_evolution(run: Run, most_bytes: int = BYTES) -> AttentionEvolution:
    """All attention maps of the run, quantised, in about ``most_bytes``.

    When there are more, of each prompt the first and last look, those around decisions and evenly spread ones are
    kept; then those heads that drifted most, with every layer among them.
    """
    now = snapshot(run)
    by_prompt, said = _looks(now)
    if not by_prompt:
        return AttentionEvolution((), None, "No attention maps were recorded.")
    prompts = list(by_prompt.items())[:_PROMPTS]
    if len(by_prompt) > _PROMPTS:
        said.append(f"{_PROMPTS} of {len(by_prompt):,} prompts are here.")
    share = most_bytes // len(prompts)
    found = tuple(_prompt(prompt, looks, share, said) for prompt, looks in prompts)
    return AttentionEvolution(found, " ".join(dict.fromkeys(said)) or None)


def _looks(run: Snapshot) -> tuple[dict[str, list[_Look]], list[str]]:
    """What was looked at, prompt by prompt; few enough to be read."""
    places = run.places(AttentionMaps)
    changes = sorted(one.seq for kind in (HeadsPruned, HeadsGrown) for one in run.records(kind))
    chosen = moments(places, changes, _LOOKS)
    said = []
    if len(chosen) < len(places):
        said.append(f"{len(chosen):,} of {len(places):,} looks at attention are here, those around decisions first.")
    found: dict[str, list[_Look]] = {}
    for place in chosen:
        for one in run.at([place.seq]):
            event = one.event
            if (
                isinstance(event, AttentionMaps)
                and event.maps.ndim == (4 if event.all_heads else 3)
                and event.maps.size
            ):
                found.setdefault(event.prompt, []).append(_Look(place, event))
    for prompt, looks in found.items():
        kept = moments([look.place for look in looks], changes, _TAKES * len({one.event.model for one in looks}))
        if len(kept) < len(looks):
            said.append(f"At most {_TAKES} looks per model and prompt are here, those around decisions first.")
            places_kept = {place.seq for place in kept}
            found[prompt] = [look for look in looks if look.place.seq in places_kept]
    return found, said


def _prompt(prompt: str, looks: Sequence[_Look], most_bytes: int, said: list[str]) -> PromptTakes:
    longest = max(max(look.event.maps.shape[-2:]) for look in looks)
    side = min(min(min(look.event.maps.shape[-2:]) for look in looks), _TOKENS)
    if side < longest:
        said.append(f"Of prompts beyond {side} tokens the first {side} are here.")
    drifts, first = [], dict[HeadId, Maps]()
    for look in looks:
        patterns = look.patterns
        for head, pattern in patterns.items():
            if np.isfinite(pattern).any():
                first.setdefault(head, pattern)
        drifts.append({head: _drift(first.get(head), pattern) for head, pattern in patterns.items()})
    heads = sorted({head for one in drifts for head in one})
    room = max(most_bytes // (len(looks) * side * side), 1)
    if len(heads) > room:
        said.append(f"{room:,} of {len(heads):,} heads are here, those whose attention changed most first.")
        heads = _chosen(heads, drifts, room)
    takes = tuple(_take(look, heads, drift, side) for look, drift in zip(looks, drifts, strict=True))
    tokens = tuple(figures.shorten(figures.clean(token), 24) for token in looks[0].event.tokens[:side])
    return PromptTakes(figures.visible(prompt), tokens, tuple(one for one in takes if len(one.heads)))


def _drift(first: Maps | None, pattern: Maps) -> float:
    if first is None or first.shape != pattern.shape or not np.isfinite(pattern).any():
        return float("nan")
    return float(row_divergence(first.astype(np.float64), pattern.astype(np.float64)))


def _chosen(heads: Sequence[HeadId], drifts: Sequence[dict[HeadId, float]], room: int) -> list[HeadId]:
    """Heads that drifted furthest; the one that drifted most of each layer comes before any other."""

    def furthest(head: HeadId) -> float:
        return max((one[head] for one in drifts if head in one and one[head] == one[head]), default=-1.0)

    ordered = sorted(heads, key=lambda head: -furthest(head))
    layers: dict[int, HeadId] = {}
    for head in ordered:
        layers.setdefault(head.layer, head)
    leading = set(layers.values())
    return sorted(sorted(ordered, key=lambda head: head not in leading)[:room])


def _take(look: _Look, heads: Sequence[HeadId], drift: dict[HeadId, float], side: int) -> Take:
    patterns = look.patterns
    own = [head for head in heads if head in patterns]
    exact = np.stack([patterns[head][:side, :side] for head in own]).astype(np.float64) if own else np.empty((0, 0, 0))
    known = np.isfinite(exact)
    packed = np.full(exact.shape, NO_PATTERN, np.uint8)
    packed[known] = np.rint(np.clip(exact[known], 0, 1) * _LEVELS).astype(np.uint8)
    error = float(np.abs(packed[known] / _LEVELS - exact[known]).max()) if known.any() else 0.0
    event = look.event
    return Take(
        event.step, event.cycle, event.phase, figures.shorten(figures.clean(event.model), 40),
        np.array(own, np.int64).reshape(-1, 2), packed, error, np.array([drift[head] for head in own], np.float32),
    )  # fmt: skip
