"""The cells of a sweep: which runs it is made of, what each is called, and what they have in common. Pure."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from neural_plasticity.config import VIEWS, RunConfig, as_json
from neural_plasticity.errors import ConfigError

T = TypeVar("T")

SENSIBLE = ("entropy", "gradient", "magnitude", "random", "combined")
"""What ``--compare_strategies`` without names compares: the strategies that cost at most one pass over some text."""

AXES = ("pruning_strategy", "pruning_level", "seed")

# Options that no event of warm-up and baseline depends on. An option that is not named here is taken to matter.
AFTER_THE_BASELINE = (
    "pruning_strategy",
    "pruning_level",
    "cycles",
    "prune_unit",
    "min_heads_per_layer",
    "fine_tuning_steps",
    "growth",  # but for which text is judged with --cycles auto, which is on record from the start
    "growth_budget",
    "growth_steps",
    "growth_ramp_steps",
    "control",  # copied when the warm-up is over; whether there is one is part of the key
)


@dataclass(frozen=True, order=True)
class Cell:
    """One run of a sweep."""

    strategy: str
    level: float
    seed: int

    @property
    def name(self) -> str:
        """Readable, safe as a file's name: ``gradient-0.2-seed0``."""
        return f"{_slug(self.strategy)}-{self.level:.6g}-seed{self.seed}"

    @property
    def label(self) -> str:
        """For people: ``gradient 0.2 seed 0``."""
        return f"{self.strategy} {self.level:.6g} seed {self.seed}"

    def config(self, base: RunConfig, directory: Path) -> RunConfig:
        """The options of this cell's run in ``directory``."""
        return replace(
            base,
            pruning_strategy=self.strategy,
            pruning_level=f"{self.level:.6g}",
            seed=self.seed,
            output_dir=directory,
            # Figures and pages of a hundred cells are looked at by nobody: they are compared, exported, served.
            use_dashboard=False,
            no_visualize=True,
        )


def recorded_cell(options: Mapping[str, Any]) -> Cell | None:
    """The cell that a run with these recorded options is; None when they are no cell's."""
    try:
        strategy, level, seed = (options[name] for name in AXES)
        return Cell(str(strategy), _level(str(level)), _seed(str(seed)))
    except (LookupError, ValueError):
        return None


def in_order(asked: Sequence[Cell], others: Sequence[Cell]) -> tuple[Cell, ...]:
    """All of them by strategy, level and seed, each in the order in which it was asked for, and then the rest."""
    together = (*asked, *sorted(others))
    ranks = [
        {value: rank for rank, value in enumerate(dict.fromkeys(getattr(cell, axis) for cell in together))}
        for axis in ("strategy", "level", "seed")
    ]
    return tuple(
        sorted(together, key=lambda cell: [rank[value] for rank, value in zip(ranks, astuple(cell), strict=True)])
    )


FLAGS = ("--strategies", "--levels", "--seeds")


def product(strategies: str, levels: str, seeds: str, flags: tuple[str, str, str] = FLAGS) -> tuple[Cell, ...]:
    """Every strategy at every level with every seed; each given with commas between, by the option in ``flags``.

    Raises:
        ConfigError: nothing given, something given twice, or a value that is none; the message names the flag.
    """
    axes = (
        _values(flags[0], strategies, str, "names of strategies"),
        _values(flags[1], levels, _level, "fractions between 0 and 1, excluded"),
        _values(flags[2], seeds, _seed, "whole numbers from 0"),
    )
    return tuple(Cell(*values) for values in itertools.product(*axes))


def _values(flag: str, text: str, convert: Callable[[str], T], expected: str) -> tuple[T, ...]:
    parts = [part.strip() for part in text.split(",")]
    values = []
    for part in parts:
        try:
            if not part:
                raise ValueError
            values.append(convert(part))
        except ValueError:
            raise ConfigError(f"{flag} {text!r}: expected {expected}, with commas between.") from None
    seen = set()
    for value in values:
        if value in seen:
            raise ConfigError(f"{flag} {text}: {value} is given twice.")
        seen.add(value)
    return tuple(values)


def _level(text: str) -> float:
    value = float(text)
    if not 0 < value < 1:
        raise ValueError
    return float(f"{value:.6g}")  # as it is written everywhere; two levels that look alike are one


def _seed(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,18}", text):  # int() also takes "1_0", and digits of other scripts
        raise ValueError
    return int(text)


def _slug(name: str) -> str:
    """``name`` in characters that every file system takes; a name that had others gets a mark of its own."""
    slug = re.sub(r"[^A-Za-z0-9_.]+", "_", name).strip("._") or "strategy"
    if slug == name and len(slug) <= 60:
        return slug
    return f"{slug[:60]}.{hashlib.blake2b(name.encode(), digest_size=3).hexdigest()}"


def seeds_of(cells: Sequence[Cell]) -> tuple[int, ...]:
    """The seeds, in the order in which they first come."""
    return tuple(dict.fromkeys(cell.seed for cell in cells))


def common_options(base: RunConfig) -> dict[str, Any]:
    """The options that all cells of a sweep have in common, as plain values; what only views need is left out."""
    return {name: value for name, value in as_json(base).items() if name not in (*AXES, *VIEWS)}


def beginning_key(config: RunConfig) -> str:
    """What a run's warm-up and baseline depend on, as a short name: runs with the same key begin alike."""
    told = {name: value for name, value in as_json(config).items() if name not in (*AFTER_THE_BASELINE, *VIEWS)}
    told |= {"control": config.control or config.auto, "auto": config.auto}
    told |= {"growth": True} if config.auto and config.growth else {}  # what is judged is not what returns are tried on
    digest = hashlib.blake2b(json.dumps(told, sort_keys=True).encode(), digest_size=4).hexdigest()
    return f"seed{config.seed}-{digest}"


def checked_base(base: RunConfig) -> RunConfig:
    """The options of all cells with what they imply, if none of them is one that a sweep decides for itself.

    Raises:
        ConfigError: one of them is, or has an impossible value.
    """
    default = RunConfig()
    for name, instead in zip(AXES, FLAGS, strict=True):
        if getattr(base, name) != getattr(default, name):
            raise ConfigError(f"--{name}: a sweep takes {instead}, with commas between; leave --{name} out.")
    if base.fsdp:
        raise ConfigError("--fsdp: each run of a sweep is a process of its own, with nobody to share parameters with.")
    return base.checked()


def option_names() -> tuple[str, ...]:
    """The options that a cell's row in the table has a column for: all that say what a run does."""
    return tuple(field.name for field in dataclasses.fields(RunConfig) if field.name not in (*AXES, *VIEWS))
