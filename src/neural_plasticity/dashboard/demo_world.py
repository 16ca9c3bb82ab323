"""The model that the demo makes up: what its heads are worth, how they attend, what it would score. NumPy, seeded.

Nothing is trained. Each head has a true worth (nats of loss that it saves) and a way of attending; measurements are
the truth with noise, and entropy is measured on the very maps that the demo shows, so that the views agree.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from neural_plasticity.dashboard.demo_texts import PROBES, TOKEN_GROUPS
from neural_plasticity.events import in_steps
from neural_plasticity.heads import BoolGrid, FloatGrid, HeadId, grid_of
from neural_plasticity.importance.criteria import COMBINED_WEIGHTS, combined_rank, layer_normalised

Maps = npt.NDArray[np.float16]  # (layers, heads, T, T)
Vectors = npt.NDArray[np.float64]

# How a head attends, and how much such heads tend to be worth: (name, worth, share in early layers, in late ones).
KINDS: tuple[tuple[str, float, float, float], ...] = (
    ("itself", 1.0, 0.15, 0.10),
    ("previous token", 1.7, 0.25, 0.10),
    ("neighbourhood", 1.2, 0.25, 0.15),
    ("first token", 0.6, 0.05, 0.30),
    ("repeated token", 1.8, 0.05, 0.20),
    ("broad", 0.7, 0.25, 0.15),
)
MEASURED = (
    "entropy", "gradient", "gradient_normalised", "fisher", "output_norm", "combined", "magnitude", "first_token_mass",
)  # fmt: skip
HEAD_WIDTH = 24
DIMENSIONS = 16  # of the embedding vectors
BENEFIT_SEQUENCES = 64


@dataclass
class World:
    """The made-up model. ``active``, ``worth``, ``kind``, ``sharpness``: (layers, heads), growing when a head is added.

    ``lasting`` is the loss (nats) that pruning has cost for good, ``passing`` what training will still win back.
    """

    seed: int
    layers: int
    heads: int
    active: BoolGrid = field(init=False)
    worth: FloatGrid = field(init=False)
    kind: npt.NDArray[np.int64] = field(init=False)
    sharpness: FloatGrid = field(init=False)
    second: npt.NDArray[np.int64] = field(init=False)  # the kind of attention that a head has taken over …
    taken_over: FloatGrid = field(init=False)  # … and how much of its own it has given up for that
    of_control: FloatGrid = field(init=False)  # the control's sharpness: trained as long, no head ever lost
    lasting: float = field(default=0.0, init=False)
    passing: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        shape = (self.layers, self.heads)
        self.rng = np.random.default_rng([self.seed, 1])
        self.active = np.ones(shape, dtype=bool)
        depth = np.linspace(0, 1, self.layers)
        early, late = (np.array([kind[place] for kind in KINDS]) for place in (2, 3))
        self.kind = np.stack(
            [self.rng.choice(len(KINDS), self.heads, p=(1 - d) * early + d * late) for d in depth]
        ).astype(np.int64)
        by_kind = np.array([kind[1] for kind in KINDS])[self.kind]
        by_layer = (0.7 + 0.6 * np.sin(np.pi * (0.15 + 0.7 * depth)))[:, None]
        # A model of many heads spreads the same work over more of them.
        self.worth = self.rng.lognormal(np.log(0.011), 0.55, shape) * by_kind * by_layer * 48 / (shape[0] * shape[1])
        self.sharpness = self.rng.uniform(0.7, 1.5, shape)
        self.second, self.taken_over = self.kind.copy(), np.zeros(shape)
        self.of_control = self.sharpness.copy()

    @property
    def shape(self) -> tuple[int, int]:
        """(layers, heads) of the grid, added heads included."""
        return self.active.shape[0], self.active.shape[1]

    @property
    def missing(self) -> int:
        """How many heads the model is smaller than it was; an added head makes up for a pruned one."""
        return self.layers * self.heads - int(self.active.sum())

    @property
    def sparsity(self) -> float:
        """Share of all heads, added ones included, that is pruned."""
        return 1.0 - float(self.active[~np.isnan(self.worth)].mean())

    # What happens to it -----------------------------------------------------------------------------------------

    def drift(self) -> None:
        """A cycle of training: worth and patterns move a little, and heads of thinned layers take over work."""
        lost = 1 - self.active.mean(axis=1, keepdims=True)
        self.worth *= self.rng.lognormal(0, 0.18, self.shape) * (1 + 0.5 * lost)
        moved = self.rng.lognormal(0, 0.12, self.shape)
        self.sharpness *= moved
        own = np.random.default_rng([self.seed, 4, int(1e6 * abs(moved[0, 0]))])
        self.of_control *= moved[: self.layers, : self.heads] ** 0.5 * own.lognormal(0, 0.2, self.of_control.shape)

    def prune(self, heads: Sequence[HeadId]) -> None:
        """Take heads away. Heads lean on each other, so the damage is more than the sum of their worth."""
        self.active &= ~grid_of(heads, self.shape)
        for layer in {head.layer for head in heads}:  # one that is left takes over some of the work
            left = np.flatnonzero(self.active[layer])
            if left.size:
                heir = HeadId(layer, int(self.rng.choice(left)))
                self.second[heir] = self.kind[next(head for head in heads if head.layer == layer)]
                self.taken_over[heir] = 0.6
        damage = 2.2 * (1 + 2.0 * self.sparsity) * float(sum(self.worth[head] for head in heads))
        self.passing += 0.78 * damage
        self.lasting += 0.22 * damage

    def recover(self, steps: int = 1) -> None:
        """Training wins back what can be won back."""
        self.passing *= float(np.exp(-steps / 28))

    def regrow(self, heads: Sequence[HeadId], benefit: float) -> None:
        """Give heads back; ``benefit`` (nats) is gained at once."""
        self.active |= grid_of(heads, self.shape)
        self.lasting -= benefit
        for head in heads:
            self.worth[head] *= 2.5  # it was missed: it will not be among the first to go again

    def add_head(self, layer: int, benefit: float) -> HeadId:
        """One more head in ``layer``, to the right of the others; ``benefit`` (nats) is gained at once."""
        width = self.shape[1]
        head = HeadId(layer, width)
        pad = ((0, 0), (0, 1))
        self.active = np.pad(self.active, pad)
        self.worth = np.pad(self.worth, pad, constant_values=np.nan)
        self.kind = np.pad(self.kind, pad)
        self.second, self.taken_over = np.pad(self.second, pad), np.pad(self.taken_over, pad)
        self.sharpness = np.pad(self.sharpness, pad, constant_values=1.0)
        self.active[head] = True
        self.worth[head] = 1.6 * benefit
        self.kind[head] = 4  # "repeated token": what a new head finds to do
        self.sharpness[head] = 0.9
        self.lasting -= benefit
        return head

    # What would be measured on it -------------------------------------------------------------------------------

    def scores(self) -> dict[str, FloatGrid]:
        """Criteria (layers, heads) as an analysis would report them, NaN where a head is pruned or absent."""

        def noisy(values: FloatGrid, spread: float) -> FloatGrid:
            return np.where(self.active, values * self.rng.lognormal(0, spread, self.shape), np.nan)

        depth = np.arange(self.layers)[:, None]
        gradient = noisy(self.worth, 0.15)
        entropy, first = self._entropy()
        size = 6.0 * np.where(depth == 0, 0.12, 1.0) * (1 - 0.04 * depth) * (0.8 + 8 * np.clip(self.worth, 0, 0.06))
        scores = {
            "entropy": np.where(self.active, entropy, np.nan),
            "gradient": gradient,
            "gradient_normalised": layer_normalised(gradient),
            "fisher": noisy(1.6 * gradient**2, 0.25),
            "output_norm": noisy(size, 0.12),
        }
        scores["combined"] = combined_rank(scores, COMBINED_WEIGHTS, self.active)
        scores["magnitude"] = noisy(7.0 * size, 0.12)
        scores["first_token_mass"] = np.where(self.active, first, np.nan)
        return scores

    def benefits(self) -> tuple[FloatGrid, FloatGrid]:
        """Signed benefit of giving each pruned head back (nats), and the half width of its 95 % interval.

        Of the heads pruned, the one that was worth most turns out to be missed; the others are not.
        """
        pruned = ~self.active & ~np.isnan(self.worth)
        truth = np.where(pruned, -0.0005, np.nan)
        if pruned.any():
            missed = np.unravel_index(np.argmax(np.where(pruned, self.worth, -np.inf)), self.shape)
            truth[missed] = 0.012 + 0.4 * self.worth[missed]
        spread = 0.015 / np.sqrt(BENEFIT_SEQUENCES)
        return truth + self.rng.normal(0, 0.6 * spread, self.shape), np.where(pruned, 1.96 * spread, np.nan)

    def _entropy(self) -> tuple[FloatGrid, FloatGrid]:
        """Normalised entropy of the attention rows and mass on the first token, means over the probe prompts."""
        entropies, masses = [], []
        for number in range(len(PROBES)):
            maps = self._attention(number)[:, :, 1:]  # a first token sees one key only
            visible = np.arange(2, maps.shape[-1] + 1)
            entropy = -(maps * np.log(np.maximum(maps, 1e-12))).sum(-1) / np.log(visible)
            entropies.append(entropy.mean(-1))
            masses.append(maps[..., 0].mean(-1))
        return np.mean(entropies, axis=0), np.mean(masses, axis=0)

    def attention(self, number: int) -> Maps:
        """Attention maps of probe ``number``, NaN where a head is pruned or absent."""
        maps = in_steps(self._attention(number))
        maps[~self.active] = np.nan
        return maps

    def control_attention(self, number: int) -> Maps:
        """The same of the control, which has all its heads."""
        return in_steps(self._softmax(_patterns(PROBES[number].tokens)[self.kind[:, : self.heads]], number, True))

    def attended(self) -> dict[str, FloatGrid]:
        """What heads attend to, NaN where a head is pruned or absent: as a real run measures it in every cycle."""
        maps = [self._attention(number) for number in range(len(PROBES))]
        found = {
            "first_token_mass": np.mean([one[..., 1:, 0].mean(-1) for one in maps], axis=0),
            "previous_token": np.mean([one.diagonal(-1, 2, 3).mean(-1) for one in maps], axis=0),
        }
        period = 12
        repeated = self._softmax(self._mixed(_patterns([str(at) for at in range(period)] * 2)), len(PROBES))
        found["induction"] = repeated[..., period:, 1:].diagonal(0, 2, 3)[..., :period].mean(-1)
        return {name: np.where(self.active, grid, np.nan) for name, grid in found.items()}

    def _attention(self, number: int) -> Vectors:
        """(layers, heads, T, T) of probe ``number``."""
        return self._softmax(self._mixed(_patterns(PROBES[number].tokens)), number)

    def _mixed(self, patterns: Vectors) -> Vectors:
        """Each head's logits (layers, heads, T, T): its own kind of attention, and the kind that it has taken over."""
        share = self.taken_over[..., None, None]
        return (1 - share) * patterns[self.kind] + share * patterns[self.second]

    def _softmax(self, pattern: Vectors, salt: int, control: bool = False) -> Vectors:
        """Attention: softmax of a pattern, as sharp as the head is, and of a taste of each head's own."""
        length = pattern.shape[-1]
        taste = np.zeros(pattern.shape)
        for layer, head in np.ndindex(pattern.shape[:2]):  # the same in every cycle: what moves is the sharpness
            taste[layer, head] = np.random.default_rng([self.seed, layer, head, salt]).normal(0, 0.5, (length, length))
        sharpness = self.of_control if control else self.sharpness
        logits = sharpness[..., None, None] * pattern + taste
        logits = np.where(np.tri(length, dtype=bool), logits, -np.inf)
        weights = np.exp(logits - logits.max(-1, keepdims=True))
        return np.asarray(weights / weights.sum(-1, keepdims=True))

    def hidden_states(self, cycle: int, control: bool = False) -> Vectors:
        """(layers + 1, tokens, 16): known tokens in clusters, at every depth; the deeper, the more they drift.

        Of the ``control`` the same, at less than half the pace: what is not training is the lost heads' doing.
        """
        return np.stack([self._layer_states(cycle, layer, control) for layer in range(self.layers + 1)])

    def _layer_states(self, cycle: int, layer: int, control: bool) -> Vectors:
        rng = np.random.default_rng([self.seed, 2, layer])
        group = np.repeat(np.arange(len(TOKEN_GROUPS)), [len(tokens) for tokens in TOKEN_GROUPS.values()])
        centres = rng.normal(0, 1.6, (len(TOKEN_GROUPS), DIMENSIONS))
        points = centres[group] + rng.normal(0, 0.55, (len(group), DIMENSIONS))
        pace = (0.2 + 1.2 * layer / self.layers) * (0.45 if control else 1.0)
        for number in range(1, cycle + 1):
            step = np.random.default_rng([self.seed, 3, layer, number])
            turn, _ = np.linalg.qr(np.eye(DIMENSIONS) + pace * step.normal(0, 0.04, (DIMENSIONS, DIMENSIONS)))
            turn *= np.sign(np.diag(turn))  # QR may flip an axis; a drift does not
            shift = pace * step.normal(0, 0.18, centres.shape)[group]
            points = points @ turn + shift + pace * step.normal(0, 0.10, points.shape)
        return points


def _patterns(tokens: Sequence[str]) -> Vectors:
    """Attention logits (kinds, T, T) of each of ``KINDS`` over these tokens; row: query, column: key."""
    length = len(tokens)
    query, key = np.mgrid[:length, :length]
    distance = query - key
    same = np.array(
        [[key > 0 and tokens[key - 1] == tokens[query] for key in range(length)] for query in range(length)]
    )
    zeros = np.zeros((length, length))
    first = np.where(key == 0, 3.0, 0.0)
    return np.stack(
        [
            np.where(distance == 0, 3.0, 0.0),
            np.where(distance == 1, 3.4, 0.0),
            -((distance - 1.5) ** 2) / 7.0,
            first,
            np.where(same, 3.6, 0.4 * first),
            zeros,
        ]
    )


@dataclass(frozen=True)
class Size:
    """What the made-up GPT-2 weighs: the arithmetic of the built-in model's architecture."""

    layers: int
    heads: int

    @property
    def width(self) -> int:
        """Of the residual stream."""
        return self.heads * HEAD_WIDTH

    def parameters(self, missing: int = 0) -> int:
        """Numbers in the model without ``missing`` of its heads."""
        per_layer = 12 * self.width**2 + 13 * self.width
        per_head = 4 * HEAD_WIDTH * self.width + 3 * HEAD_WIDTH
        return (2048 + 256 + 2) * self.width + self.layers * per_layer - missing * per_head

    def kv_bytes(self, missing: int = 0) -> int:
        """Bytes of cache per token."""
        return 2 * 4 * HEAD_WIDTH * (self.layers * self.heads - missing)
