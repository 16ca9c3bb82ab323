"""Analysis: the layers × heads maps of what was measured, cycle by cycle, with the heads that were gone by then."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from neural_plasticity.events import HeadScores
from neural_plasticity.heads import BoolGrid, FloatGrid
from neural_plasticity.record import Run
from neural_plasticity.record.snapshot import Place, snapshot
from neural_plasticity.views import figures
from neural_plasticity.views.heads_at import fitted, states_at

# label, unit; the first three are what the documentation promises, and stand first.
_KNOWN = {
    "entropy": ("Entropy", "share of log(keys)"),
    "gradient": ("Gradient importance", "E |∂L/∂ξ|, nats"),
    "combined": ("Combined importance", "mean rank, 1 = most"),
    "gradient_normalised": ("Gradient per layer", "of the layer's norm"),
    "fisher": ("Fisher", "E (∂L/∂ξ)², nats²"),
    "output_norm": ("Output norm", "E ‖W a‖"),
    "magnitude": ("Magnitude", "‖Wv‖ · ‖Wo‖"),
    "ablation": ("Ablation", "loss change, nats"),
    "first_token_mass": ("First token", "share of attention"),
    "previous_token": ("Previous token", "share of attention"),
    "induction": ("Induction", "share of attention"),
    "growth_benefit": ("Benefit of a return", "−∂L/∂ξ at ξ = 0, nats"),
    "growth_benefit_low": ("Benefit, lower bound", "95 %, nats"),
    "growth_benefit_high": ("Benefit, upper bound", "95 %, nats"),
}
_LOOKS = frozenset({"growth", "evaluation"})  # these measure heads too, but not to rank them


@dataclass(frozen=True)
class ScoreMap:
    """One criterion: ``values`` (layers, heads), NaN where a head was not measured; ``pruned`` the heads gone then."""

    name: str
    label: str
    unit: str
    values: FloatGrid
    pruned: BoolGrid


@dataclass(frozen=True)
class Measured:
    """One analysis."""

    step: int
    cycle: int
    sequences: int
    maps: tuple[ScoreMap, ...]


@dataclass(frozen=True)
class Analysis:
    """All analyses in order; ``names`` of all criteria, the best known first."""

    rounds: tuple[Measured, ...]
    names: tuple[str, ...]
    left_out: int = 0
    empty: str | None = None


def label_of(name: str) -> str:
    """How a criterion is written for people."""
    return _KNOWN[name][0] if name in _KNOWN else figures.shorten(figures.clean(name), 40)


def unit_of(name: str) -> str:
    """What its numbers are; empty when unknown."""
    return _KNOWN[name][1] if name in _KNOWN else ""


def analysis(run: Run, most: int = 6) -> Analysis:
    """Measurements of head criteria, at most ``most``, first and last included: the last of each cycle before others.

    Arrays that are no (layers, heads) grid are left out.
    """
    rounds = []
    now = snapshot(run)
    places = now.places(HeadScores)
    places = tuple(place for place in places if place.phase not in _LOOKS) or places
    chosen = _chosen(places, most)
    for event in (one.event for one in now.at(place.seq for place in chosen)):
        if not isinstance(event, HeadScores):
            continue
        grids = {name: grid for name, grid in event.scores.items() if grid.ndim == 2 and grid.size}
        states = states_at(now, event.step - 1 if event.phase == "pruning" else event.step)
        maps = tuple(
            ScoreMap(
                name, label_of(name), unit_of(name), grid.astype(float),
                (fitted(states, grid.shape, states.dtype.type(1)) == 0) if states is not None else grid != grid,
            )
            for name, grid in sorted(grids.items(), key=lambda one: criterion_order(one[0]))
        )  # fmt: skip
        if maps:
            rounds.append(Measured(event.step, event.cycle, event.sequences, maps))
    names = tuple(sorted({one.name for each in rounds for one in each.maps}, key=criterion_order))
    return Analysis(
        tuple(rounds),
        names,
        len(places) - len(chosen),
        None if rounds else "No head was measured: no scores were recorded.",
    )


def _chosen(places: Sequence[Place], most: int) -> list[Place]:
    """The last measurement of each cycle; when all have one cycle, all; of too many, evenly spread ones."""
    by_cycle = {place.cycle: place for place in places}
    listed = list(by_cycle.values()) if len(by_cycle) > 1 else list(places)
    if len(listed) <= most:
        return listed
    return [listed[round(place * (len(listed) - 1) / (most - 1))] for place in range(most)]


def criterion_order(name: str) -> tuple[int, str]:
    """For sorting criteria: the best known first, the others by name."""
    known = list(_KNOWN)
    return (known.index(name) if name in known else len(known), name)
