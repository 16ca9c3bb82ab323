"""Pruning strategies by name: which criteria each needs, and the order in which it gives heads up."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from neural_plasticity.errors import ConfigError, HeadError
from neural_plasticity.heads import BoolGrid, FloatGrid, HeadId, head_ids, heads_of
from neural_plasticity.importance.criteria import CRITERIA, random_scores
from neural_plasticity.policies.plugins import Plugin, call_plugin, is_plugin_name, load_plugin

if TYPE_CHECKING:
    from neural_plasticity.models.attach import Heads

Scores = Mapping[str, FloatGrid]  # criterion -> (layers, heads), as measured
FLAG = "--pruning_strategy"


@dataclass(frozen=True)
class StrategyContext:
    """Everything that a strategy may look at when it is asked which heads to give up.

    ``batches`` are the validation batches that heads are scored on; ``mask`` (layers, heads) is True where a head is
    active; ``count`` is how many heads this cycle is to prune; ``score(*criteria)`` measures heads on ``batches`` and
    returns ``{criterion: (layers, heads)}``.
    """

    model: Any
    heads: Heads
    batches: Sequence[Mapping[str, Any]]
    mask: BoolGrid
    count: int
    cycle: int
    seed: int
    score: Callable[..., Mapping[str, FloatGrid]]


@dataclass(frozen=True)
class Strategy:
    """A way to order heads.

    ``importance(scores, active, seed)`` is pure and gives (layers, heads): the **lowest** goes first, NaN where a head
    is not active. ``criteria`` are the names that ``score_heads`` must measure for it. ``highest_first``: people know
    the criterion by its measured value and the highest goes first, so importance is that value with its sign turned.
    ``plugin`` is set when the strategy is a user's own function, which replaces ``importance``.
    """

    name: str
    criteria: tuple[str, ...]
    importance: Callable[[Scores, BoolGrid, int], FloatGrid]
    highest_first: bool = False
    plugin: Plugin | None = None

    def apply(self, context: StrategyContext) -> FloatGrid | tuple[HeadId, ...]:
        """Importance (layers, heads), lowest goes first; or, from a user's own policy, the heads to prune.

        Raises:
            ConfigError: a user's function raised, or returned the wrong thing.
        """
        if self.plugin is not None:
            returned = call_plugin(self.plugin, self.name, FLAG, context)
            return _checked(returned, self.name, context.mask)
        scores = context.score(*self.criteria) if self.criteria else {}
        return self.importance(scores, context.mask, context.seed)


def resolve_strategy(name: str) -> Strategy:
    """The strategy called ``name``, or a user's own as ``package.module:function``.

    Raises:
        ConfigError: there is no such strategy (the message lists those that exist), or the function cannot be loaded.
    """
    if is_plugin_name(name):
        return Strategy(name, (), _no_importance, plugin=load_plugin(name, FLAG))
    wanted = name.strip().lower().replace("-", "_")
    if wanted in STRATEGIES:
        return STRATEGIES[wanted]
    close = difflib.get_close_matches(wanted, STRATEGIES, n=1, cutoff=0.5)
    meant = f" Did you mean {close[0]}?" if close else ""
    raise ConfigError(
        f"{FLAG} {name}: no such strategy.{meant} Expected one of {', '.join(STRATEGIES)}, "
        "or your own as package.module:function."
    )


def _no_importance(*_: object) -> FloatGrid:
    raise TypeError("a user's own strategy is asked through Strategy.apply, which gives it the whole context")


def _measured(criterion: str, scores: Scores, active: BoolGrid, seed: int) -> FloatGrid:  # noqa: ARG001 one signature
    sign = -1.0 if CRITERIA[criterion].prune_first == "highest" else 1.0
    return _where(active, sign * scores[criterion])


def _random(scores: Scores, active: BoolGrid, seed: int) -> FloatGrid:  # noqa: ARG001 one signature
    return _where(active, random_scores(active, seed))


def _where(active: BoolGrid, values: FloatGrid) -> FloatGrid:
    return np.where(active, np.asarray(values, dtype=np.float64), np.nan)


def _checked(returned: Any, name: str, mask: BoolGrid) -> FloatGrid | tuple[HeadId, ...]:
    """What a user's function returned, as importance or as heads; ConfigError when it is neither."""
    expected = f"{FLAG} {name}: expected an array (layers, heads) = {mask.shape} or a list of heads"
    if isinstance(returned, list | tuple | set | frozenset):
        try:
            heads = head_ids(sorted(returned) if isinstance(returned, set | frozenset) else returned, mask.shape)
        except HeadError as error:
            raise ConfigError(f"{FLAG} {name}: {error}") from error
        return tuple(dict.fromkeys(heads))  # in the order given: where a protection bites, the first named goes
    if hasattr(returned, "detach"):  # a torch tensor, on any device, with or without gradient
        returned = returned.detach().cpu()
    try:
        grid = np.asarray(returned, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{expected}, got {type(returned).__name__}.") from error
    if grid.shape != mask.shape:
        got = f"shape {grid.shape}" if grid.shape else type(returned).__name__
        raise ConfigError(f"{expected}, got {got}.")
    unknown = heads_of(mask & np.isnan(grid))
    if unknown:
        raise ConfigError(f"{FLAG} {name}: importance is NaN for {len(unknown)} active heads (first: {unknown[0]}).")
    return _where(mask, grid)


def _by_criterion(name: str) -> Strategy:
    highest_first = CRITERIA[name].prune_first == "highest"
    return Strategy(name, (name,), partial(_measured, name), highest_first)


# "random" measures nothing: its seed is the cycle's, so that repeats differ and the same run comes out the same.
STRATEGIES: Mapping[str, Strategy] = {
    **{
        name: _by_criterion(name)
        for name in (
            "entropy",
            "gradient",
            "gradient_normalised",
            "fisher",
            "output_norm",
            "magnitude",
            "ablation",
            "combined",
        )
    },
    "random": Strategy("random", (), _random),
}
