"""Embedding space: where the points sit at each layer, and how far the space has drifted from the baseline's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from neural_plasticity.events import Embedding
from neural_plasticity.record import Run
from neural_plasticity.record.snapshot import Place, Snapshot, snapshot
from neural_plasticity.views import figures
from neural_plasticity.views.heads_history import moments
from neural_plasticity.views.similarity import (
    NEIGHBOURS,
    Plane,
    Vectors,
    linear_cka,
    narrowed,
    neighbour_overlap,
    principal_plane,
    procrustes_residual,
)

CONTROL = "control"
CELLS = 200_000  # coordinate pairs of one space in a document
_SPACES = 6
_MOMENTS = 24
_LAYERS = 40
_MEASURED = 256  # points that the measures look at: what they cost goes with the square
_MOVERS = 8  # of each layer
_SHUFFLES = 4

_Values = npt.NDArray[np.float64]
_Layer = int | None
T = TypeVar("T")


@dataclass(frozen=True)
class SpaceDrift:
    """How far a model's space is from the baseline's, (moments, layers); NaN where it was not recorded.

    ``procrustes_residual``: 0 the same up to rotation and scale; ``neighbour_overlap``: share of nearest neighbours
    kept; ``linear_cka``: debiased, 1 the same.
    """

    model: str
    procrustes_residual: _Values
    neighbour_overlap: _Values
    linear_cka: _Values


@dataclass(frozen=True)
class PointMover:
    """A point that moved far: how far from its baseline place, in units of the baseline points' spread.

    ``layer`` counts in the space's layers; ``moved_in_control``: how far the control's point did; None: no control.
    """

    layer: int
    point: int
    moved: float
    moved_in_control: float | None


@dataclass(frozen=True)
class Space:
    """The same points at several layers and moments.

    ``coordinates`` (moments, layers, points, 2): in the plane of each layer's own baseline; NaN: not recorded.
    ``groups``: each point's place in ``group_names``, −1 for none. ``chance_…``: what unrelated points would show.
    """

    name: str
    layers: tuple[str, ...]
    steps: npt.NDArray[np.int64]
    cycles: npt.NDArray[np.int64]
    models: tuple[str, ...]  # at each moment
    drift: tuple[SpaceDrift, ...]
    neighbours: int
    chance_overlap: float
    chance_residual: _Values  # (layers)
    dimensions: int
    labels: tuple[str, ...]
    groups: npt.NDArray[np.int64]
    group_names: tuple[str, ...]
    coordinates: npt.NDArray[np.float32]
    explained_variance: _Values  # (layers, 2)
    movers: tuple[PointMover, ...]
    total: int  # points recorded


@dataclass(frozen=True)
class Embeddings:
    """Every space that was recorded, that with the most layers first; ``thinned`` says what was left out."""

    spaces: tuple[Space, ...]
    thinned: str | None = None
    empty: str | None = None


@dataclass(frozen=True)
class _Look:
    """A recorded snapshot before its vectors are read: ``event`` knows its shapes only."""

    place: Place
    event: Embedding

    @property
    def layers(self) -> tuple[_Layer, ...]:
        event = self.event
        return event.layers[: len(event.vectors)] if event.vectors.ndim == 3 else (event.layer,)

    @property
    def sides(self) -> tuple[int, ...]:
        """(points, dimensions)."""
        return self.event.vectors.shape[-2:]


def embeddings(run: Run, most_cells: int = CELLS) -> Embeddings:
    """The embedding spaces of the run, each in about ``most_cells`` coordinate pairs.

    The first recorded snapshot of each layer is its baseline. Where there are too many moments, the first, the last
    and evenly spread ones are kept; of too many points or layers, evenly spread ones.
    """
    now = snapshot(run)
    by_name = _looks(now)
    if not by_name:
        return Embeddings((), None, "No embeddings were recorded.")
    said = [f"{_SPACES} of {len(by_name):,} embedding spaces are here."] if len(by_name) > _SPACES else []
    spaces = [_space(now, name, looks, most_cells, said) for name, looks in list(by_name.items())[:_SPACES]]
    spaces.sort(key=lambda one: -len(one.layers))
    return Embeddings(tuple(spaces), " ".join(dict.fromkeys(said)) or None)


def _looks(run: Snapshot) -> dict[str, list[_Look]]:
    found: dict[str, list[_Look]] = {}
    for place in run.places(Embedding):
        for one in run.outlines([place.seq]):
            event = one.event
            if isinstance(event, Embedding) and event.vectors.size and event.vectors.ndim in (2, 3):
                found.setdefault(event.name, []).append(_Look(place, event))
    return found


def layer_label(layer: _Layer) -> str:
    """How a layer is written for people: −1 is what enters the first one."""
    return "points" if layer is None else "input" if layer == -1 else f"layer {layer}"


def _space(run: Snapshot, name: str, looks: list[_Look], most: int, said: list[str]) -> Space:
    first = looks[0].event
    same = [look for look in looks if look.sides == looks[0].sides and look.event.labels == first.labels]
    if len(same) < len(looks):
        said.append(f"{len(looks) - len(same):,} snapshots of {_named(name)} are of other points, and left out.")
    layers = _even(sorted({layer for look in same for layer in look.layers}, key=_depth), _LAYERS)
    kept = [look for look in same if set(look.layers) & set(layers)]
    own = _moments([look.place for look in kept if look.event.model != CONTROL], said)
    others = _moments([look.place for look in kept if look.event.model == CONTROL], [])
    points = looks[0].sides[0]
    room = max(most // (max(len(own), 1) * len(layers)), 16)
    shown = _even(range(points), room)
    if len(shown) < points:
        said.append(f"{len(shown):,} of {points:,} points of {_named(name)} are here.")
    measured = _even(range(points), _MEASURED)
    reader = _Reader(layers, list(shown), list(measured), len(own), len(others))
    for look in kept:
        place = (look.place.cycle, look.place.step)
        control = look.event.model == CONTROL
        if place in (others if control else own):
            for one in run.at([look.place.seq]):
                assert isinstance(one.event, Embedding)
                reader.read(one.event, look.layers, (others if control else own).index(place), control)
    names = list(dict.fromkeys(first.groups))
    models = {(look.place.cycle, look.place.step): look.event.model for look in kept if look.event.model != CONTROL}
    return Space(
        name=_named(name),
        layers=tuple(layer_label(layer) for layer in layers),
        steps=np.array([step for _, step in own], np.int64),
        cycles=np.array([cycle for cycle, _ in own], np.int64),
        models=tuple(figures.shorten(figures.clean(models[place]), 40) for place in own),
        drift=reader.drift(own, others),
        neighbours=reader.neighbours,
        chance_overlap=reader.neighbours / max(len(measured) - 1, 1),
        chance_residual=reader.chance,
        dimensions=looks[0].sides[1],
        labels=tuple(figures.shorten(figures.clean(str(first.labels[at])), 24) for at in shown) if first.labels else (),
        groups=np.array([names.index(first.groups[at]) if at < len(first.groups) else -1 for at in shown], np.int64),
        group_names=tuple(figures.shorten(figures.clean(one), 60) for one in names),
        coordinates=reader.coordinates,
        explained_variance=reader.explained,
        movers=reader.movers(),
        total=points,
    )


@dataclass(frozen=True)
class LayerPoints:
    """The recorded vectors of one layer at every moment of the run's own model; all as the first has them."""

    space: str
    layer: str
    moments: tuple[tuple[int, int], ...]  # cycle, step
    vectors: tuple[Vectors, ...]
    labels: tuple[str, ...]
    groups: tuple[str, ...]


def layer_points(run: Run, layer: int | None = None) -> LayerPoints | None:
    """The vectors themselves, of the space with the most layers; of its deepest layer, unless ``layer`` says another.

    None: no such points were recorded.
    """
    now = snapshot(run)
    by_name = _looks(now)
    if not by_name:
        return None
    name, looks = max(by_name.items(), key=lambda one: len({layer for look in one[1] for layer in look.layers}))
    chosen = max((at for look in looks for at in look.layers), key=_depth) if layer is None else layer
    first = looks[0].event
    found: dict[tuple[int, int], Vectors] = {}
    for look in looks:
        if look.event.model == CONTROL or look.sides != looks[0].sides or chosen not in look.layers:
            continue
        for one in now.at([look.place.seq]):
            assert isinstance(one.event, Embedding)
            vectors = one.event.vectors if one.event.vectors.ndim == 3 else one.event.vectors[None]
            found[look.place.cycle, look.place.step] = vectors[look.layers.index(chosen)]
    if not found:
        return None
    kept = dict(list(found.items())[:: max(len(found) // _MOMENTS, 1)])
    return LayerPoints(_named(name), layer_label(chosen), tuple(kept), tuple(kept.values()), first.labels, first.groups)


def _named(name: str) -> str:
    return figures.shorten(figures.clean(name), 60)


def _depth(layer: _Layer) -> int:
    return -2 if layer is None else layer


def _even(values: Iterable[T], most: int) -> Sequence[T]:
    """At most ``most`` of them, the first, the last and evenly spread ones."""
    listed = list(values)
    if len(listed) <= most:
        return listed
    return [listed[round(at)] for at in np.linspace(0, len(listed) - 1, most)]


def _moments(places: Sequence[Place], said: list[str]) -> list[tuple[int, int]]:
    """(cycle, step) of the snapshots, in order."""
    first = {(place.cycle, place.step): place for place in reversed(places)}
    distinct = sorted(first.values(), key=lambda place: place.seq)
    chosen = moments(distinct, [], _MOMENTS)
    if len(chosen) < len(distinct):
        said.append(f"Embeddings: {len(chosen):,} of {len(distinct):,} moments are here.")
    return [(place.cycle, place.step) for place in chosen]


class _Reader:
    """Takes snapshots one at a time, so that no more than one and the baseline are in memory."""

    def __init__(self, layers: Sequence[_Layer], shown: list[int], measured: list[int], own: int, others: int) -> None:
        self.layers = list(layers)
        self.shown, self.measured = shown, measured
        self.neighbours = max(min(NEIGHBOURS, (len(measured) - 1) // 2), 1)
        self.baselines: dict[_Layer, tuple[Vectors, Plane, Vectors, float]] = {}
        self.coordinates = np.full((own, len(layers), len(shown), 2), np.nan, np.float32)
        self.explained = np.full((len(layers), 2), np.nan)
        self.chance = np.full(len(layers), np.nan)
        self.values = {control: np.full((3, count, len(layers)), np.nan) for control, count in ((0, own), (1, others))}
        self.moved: dict[tuple[int, bool], _Values] = {}  # by layer: how far each point is at the latest snapshot

    def read(self, event: Embedding, layers: Sequence[_Layer], moment: int, control: bool) -> None:
        """Take one snapshot in; ``layers`` of its vectors, ``moment``: its place among those of its kind."""
        vectors = event.vectors if event.vectors.ndim == 3 else event.vectors[None]
        for layer, at in zip(layers, vectors, strict=False):
            if layer not in self.layers or not np.isfinite(at).all():
                continue
            column = self.layers.index(layer)
            if layer not in self.baselines:
                self._begin(layer, column, at)
            points, plane, narrow, spread = self.baselines[layer]
            now = narrowed(at[self.measured])
            self.values[control][:, moment, column] = (
                procrustes_residual(narrow, now),
                neighbour_overlap(narrow, now, self.neighbours),
                linear_cka(narrow, now),
            )
            self.moved[column, control] = np.linalg.norm(at[self.shown].astype(np.float64) - points, axis=1) / spread
            if not control:
                self.coordinates[moment, column] = plane.coordinates(at[self.shown])

    def _begin(self, layer: _Layer, column: int, vectors: Vectors) -> None:
        plane = principal_plane(vectors)
        measured = vectors[self.measured]
        narrow = narrowed(measured)
        exact = vectors.astype(np.float64)
        spread = float(np.sqrt(((exact - exact.mean(0)) ** 2).sum(1).mean())) or 1.0
        self.baselines[layer] = (exact[self.shown], plane, narrow, spread)
        self.explained[column] = plane.explained
        shuffles = np.random.default_rng(0)
        residuals = [procrustes_residual(narrow, shuffles.permutation(narrow)) for _ in range(_SHUFFLES)]
        self.chance[column] = float(np.mean(residuals))

    def drift(self, own: Sequence[tuple[int, int]], others: Sequence[tuple[int, int]]) -> tuple[SpaceDrift, ...]:
        """What was measured: the run's model, then the control where there was one, at the moments of the former."""
        found = [SpaceDrift("pruned", *self.values[False])]
        if others:
            by_cycle: Mapping[int, int] = {cycle: at for at, (cycle, _) in enumerate(others)}
            aligned = np.full((3, len(own), len(self.layers)), np.nan)
            for moment, (cycle, _) in enumerate(own):
                if cycle in by_cycle:
                    aligned[:, moment] = self.values[True][:, by_cycle[cycle]]
            found.append(SpaceDrift(CONTROL, *aligned))
        return tuple(found)

    def movers(self) -> tuple[PointMover, ...]:
        """The points that are farthest from their baseline place in the end, layer by layer."""
        found = []
        for column in range(len(self.layers)):
            moved, control = self.moved.get((column, False)), self.moved.get((column, True))
            for point in np.argsort(-moved, kind="stable")[:_MOVERS] if moved is not None else ():
                assert moved is not None
                if moved[point] > 0:
                    in_control = None if control is None else float(control[point])
                    found.append(PointMover(column, int(point), float(moved[point]), in_control))
        return tuple(found)
