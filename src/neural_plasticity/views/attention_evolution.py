"""Attention patterns over the run: every head of every probe prompt at every look, and how far it drifted."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from neural_plasticity.events import AttentionMaps, HeadScores, HeadsGrown, HeadsPruned
from neural_plasticity.heads import HeadId
from neural_plasticity.record import Run
from neural_plasticity.record.snapshot import Place, Snapshot, snapshot
from neural_plasticity.views import figures
from neural_plasticity.views.attention import looked_at
from neural_plasticity.views.drift import (
    CONTROL,
    AttentionDrift,
    AttentionMover,
    DriftSums,
    PatternDrift,
    attention_movers,
)
from neural_plasticity.views.heads_history import moments

BYTES = 1_500_000  # of packed patterns in a document
_LEVELS = 254
NO_PATTERN = 255
_PROMPTS = 12
_TAKES = 16  # looks at one prompt by one model
_TOKENS = 96
_SCORES_AFTER = 8  # measurements that are looked through for the induction scores of the same moment
_READ_BYTES = 64_000_000  # of packed patterns while they are chosen

Maps = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Take:
    """One look: ``maps`` (heads, T, T), 0 to 254 for 0 to 1, 255 where there is no pattern; ``error``: the largest.

    ``drift``: Jensen-Shannon divergence in bits against the prompt's first take that has the head; NaN: no pattern.
    ``first_token_mass`` and ``previous_token``: mean attention to those, of the prompt's tokens after the first;
    ``induction``: as measured at that moment on repeated random tokens, NaN where it was not.
    """

    step: int
    cycle: int
    phase: str
    model: str
    heads: npt.NDArray[np.int64]  # (heads, 2)
    maps: npt.NDArray[np.uint8]
    error: float
    drift: npt.NDArray[np.float32]  # (heads), as all below
    first_token_mass: npt.NDArray[np.float32]
    previous_token: npt.NDArray[np.float32]
    induction: npt.NDArray[np.float32]


@dataclass(frozen=True)
class PromptTakes:
    """All looks at one prompt, in order."""

    prompt: str
    tokens: tuple[str, ...]
    takes: tuple[Take, ...]


@dataclass(frozen=True)
class AttentionEvolution:
    """Prompts in the order in which they came; ``thinned`` says what was left out.

    ``drift`` and ``movers`` count every head, those whose patterns are left out too.
    """

    prompts: tuple[PromptTakes, ...]
    drift: tuple[AttentionDrift, ...] = ()
    movers: tuple[AttentionMover, ...] = ()
    thinned: str | None = None
    empty: str | None = None


@dataclass(frozen=True)
class _Look:
    """A look before its patterns are read: ``event`` knows its shape only."""

    place: Place
    event: AttentionMaps

    @property
    def heads(self) -> list[HeadId]:
        return looked_at(self.event)


@dataclass(frozen=True)
class _Packed:
    """One look's patterns, quantised, with what that changed at most, their drift, and what they attend to."""

    place: dict[HeadId, int]  # of each head in the arrays, all (heads, …)
    patterns: npt.NDArray[np.uint8]
    errors: Maps
    drift: Maps
    first_token_mass: Maps
    previous_token: Maps


def attention_evolution(run: Run, most_bytes: int = BYTES) -> AttentionEvolution:
    """All attention maps of the run, quantised, in about ``most_bytes``.

    When there are more, of each prompt the first and last look, those around decisions and evenly spread ones are
    kept; then those heads that drifted most, with every layer among them.
    """
    now = snapshot(run)
    changes = sorted(one.seq for kind in (HeadsPruned, HeadsGrown) for one in now.records(kind))
    by_prompt = _looks(now)
    if not by_prompt:
        return AttentionEvolution((), empty="No attention maps were recorded.")
    said = [f"{_PROMPTS} of {len(by_prompt):,} prompts are here."] if len(by_prompt) > _PROMPTS else []
    prompts = list(by_prompt.items())[:_PROMPTS]
    share = most_bytes // len(prompts)
    sums = DriftSums()
    found = tuple(_prompt(now, prompt, looks, changes, share, said, sums) for prompt, looks in prompts)
    drift = sums.drift()
    return AttentionEvolution(found, drift, attention_movers(drift), " ".join(dict.fromkeys(said)) or None)


def _looks(run: Snapshot) -> dict[str, list[_Look]]:
    """What was looked at, prompt by prompt; no pattern is read yet."""
    found: dict[str, list[_Look]] = {}
    for place in run.places(AttentionMaps):
        for one in run.outlines([place.seq]):
            event = one.event
            if (
                isinstance(event, AttentionMaps)
                and event.maps.ndim == (4 if event.all_heads else 3)
                and event.maps.size
            ):
                found.setdefault(event.prompt, []).append(_Look(place, event))
    return found


def _prompt(
    run: Snapshot, prompt: str, looks: Sequence[_Look], changes: Sequence[int], most_bytes: int, said: list[str],
    sums: DriftSums,
) -> PromptTakes:  # fmt: skip
    longest = max(max(look.event.maps.shape[-2:]) for look in looks)
    side = min(min(min(look.event.maps.shape[-2:]) for look in looks), _TOKENS)
    if side < longest:
        said.append(f"Of prompts beyond {side} tokens the first {side} are here.")
    looks = _kept(looks, changes, side, said)
    drift = PatternDrift()
    packed = [_read(run, look, side, drift, sums) for look in looks]  # one look's patterns in memory at a time
    heads = sorted({head for one in packed for head in one.place})
    room = max(most_bytes // (len(looks) * side * side), 1)
    if len(heads) > room:
        said.append(f"{room:,} of {len(heads):,} heads are here, those whose attention changed most first.")
        heads = _chosen(heads, packed, room)
    takes = tuple(_take(run, look, heads, one) for look, one in zip(looks, packed, strict=True))
    tokens = tuple(figures.shorten(figures.clean(token), 24) for token in looks[0].event.tokens[:side])
    return PromptTakes(figures.visible(prompt), tokens, tuple(one for one in takes if len(one.heads)))


def _kept(looks: Sequence[_Look], changes: Sequence[int], side: int, said: list[str]) -> Sequence[_Look]:
    """Few enough looks to be read."""
    largest = max(len(look.heads) for look in looks) * side * side
    most = min(_TAKES * len({look.event.model for look in looks}), max(_READ_BYTES // largest, 4))
    chosen = {place.seq for place in moments([look.place for look in looks], changes, most)}
    if len(chosen) < len(looks):
        said.append(f"At most {most} looks at a prompt are here, those around decisions first.")
    return [look for look in looks if look.place.seq in chosen]


def _read(run: Snapshot, look: _Look, side: int, drift: PatternDrift, sums: DriftSums) -> _Packed:
    """Every pattern of a look, packed, and its drift counted in."""
    (event,) = (one.event for one in run.at([look.place.seq]))
    assert isinstance(event, AttentionMaps)
    heads = looked_at(event)
    exact = event.maps.reshape(-1, *event.maps.shape[-2:])[: len(heads), :side, :side].astype(np.float64)
    known = np.isfinite(exact)
    levels = np.where(known, np.rint(np.clip(exact, 0, 1) * _LEVELS), NO_PATTERN)
    errors = np.where(known, np.abs(levels / _LEVELS - exact), 0.0).max(axis=(1, 2)) + event.error
    control = event.model == CONTROL
    to_baseline, to_previous = drift.take(control, heads, exact)
    sums.add(event.prompt, control, (event.cycle, event.step), heads, to_baseline, to_previous)
    masses = (exact[:, 1:, 0].mean(1), exact.diagonal(-1, 1, 2).mean(1)) if side > 1 else [to_baseline * np.nan] * 2
    return _Packed(
        {head: place for place, head in enumerate(heads)}, levels.astype(np.uint8),
        np.where(known.any(axis=(1, 2)), errors, 0.0), to_baseline, *masses,
    )  # fmt: skip


def _chosen(heads: Sequence[HeadId], packed: Sequence[_Packed], room: int) -> list[HeadId]:
    """Heads that drifted furthest; the one that drifted most of each layer comes before any other."""
    furthest = dict.fromkeys(heads, -1.0)
    for one in packed:
        for head, place in one.place.items():
            furthest[head] = max(furthest[head], one.drift[place])  # of NaN and a number, the number
    ordered = sorted(heads, key=lambda head: -furthest[head])
    layers: dict[int, HeadId] = {}
    for head in ordered:
        layers.setdefault(head.layer, head)
    leading = set(layers.values())
    return sorted(sorted(ordered, key=lambda head: head not in leading)[:room])


def _take(run: Snapshot, look: _Look, heads: Sequence[HeadId], packed: _Packed) -> Take:
    own = [head for head in heads if head in packed.place]
    at = np.array([packed.place[head] for head in own], np.int64)
    event = look.event
    return Take(
        event.step, event.cycle, event.phase, figures.shorten(figures.clean(event.model), 40),
        np.array(own, np.int64).reshape(-1, 2),
        packed.patterns[at],
        float(packed.errors[at].max(initial=0.0)),
        packed.drift[at].astype(np.float32),
        packed.first_token_mass[at].astype(np.float32),
        packed.previous_token[at].astype(np.float32),
        _induction(run, look, own),
    )  # fmt: skip


def _induction(run: Snapshot, look: _Look, heads: Sequence[HeadId]) -> npt.NDArray[np.float32]:
    """Induction scores that were measured when the patterns were looked at."""
    found = np.full(len(heads), np.nan, np.float32)
    if look.event.model == CONTROL:
        return found
    here = (look.place.step, look.place.cycle, look.place.phase)
    everywhere = run.places(HeadScores)
    after = bisect(everywhere, look.place.seq, key=lambda one: one.seq)
    places = [one for one in everywhere[after : after + _SCORES_AFTER] if (one.step, one.cycle, one.phase) == here]
    for one in run.at(place.seq for place in places):
        grid = one.event.scores.get("induction") if isinstance(one.event, HeadScores) else None
        for place, (layer, head) in enumerate(heads):
            if grid is not None and grid.ndim == 2 and layer < grid.shape[0] and head < grid.shape[1]:
                found[place] = grid[layer, head]
    return found
