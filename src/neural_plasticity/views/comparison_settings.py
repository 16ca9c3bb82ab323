"""What runs were told: where their settings differ, which are of one kind, and which differ in the seed alone."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from neural_plasticity.record.snapshot import Snapshot
from neural_plasticity.views import figures

# What is seen or kept and where it goes, never what a run does: as `config.VIEWS`, which views do not import.
PRESENTATION = frozenset(
    {
        *("output_dir", "use_dashboard", "no_browser", "no_visualize", "wandb", "online", "track", "tags"),
        *("quick_test", "checkpoint_every"),
    }
)
_WHERE = frozenset({"device", "fsdp"})  # a run was asked to be; where it was, and held how, the environment says
SEED = "seed"
CONFIGURATION, MODEL, DATA, ENVIRONMENT = "configuration", "model", "data", "environment"
_NOT_TOLD = frozenset({"command"})  # of the environment: it repeats the configuration
# What has to be equal for heads and perplexities to mean the same.
_SAME_MODEL = ("name", "architecture", "parameters")
_SAME_DATA = ("name", "sha256", "sequence_length")

Settings = Mapping[tuple[str, str], str]


@dataclass(frozen=True)
class Difference:
    """A setting with its ``values``, one per run; empty where a run was not told."""

    section: str
    name: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class Equal:
    """A setting that is the same in all runs."""

    section: str
    name: str
    value: str


@dataclass(frozen=True)
class SettingsView:
    """What differs first: the configuration, then model, data and environment."""

    differ: tuple[Difference, ...]
    equal: tuple[Equal, ...]


@dataclass(frozen=True)
class Kind:
    """Runs of the same model and text."""

    model: str
    data: str
    shape: tuple[int, int]
    runs: int


def run_settings(run: Snapshot) -> dict[tuple[str, str], str]:
    """Everything that was told at the start, nested names with dots; how it is shown and where to run, not."""
    begun, started = run.begun, run.started
    if begun is None or started is None:
        return {}
    # The model is what the run began with: resumed after heads were born it is larger, and no other one.
    parts = ((CONFIGURATION, started.config), (MODEL, begun.model), (DATA, started.data),
             (ENVIRONMENT, started.environment))  # fmt: skip
    return {
        (section, name): figures.shorten(figures.clean(text), 300)
        for section, values in parts
        for name, text in _flat(values)
        if not (section == CONFIGURATION and name in PRESENTATION | _WHERE)
        and not (section == ENVIRONMENT and name in _NOT_TOLD)
    }


def _flat(values: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    for name, value in values.items():
        full = f"{before}{figures.shorten(figures.clean(str(name)), 80)}"
        if isinstance(value, Mapping):
            yield from _flat(value, f"{full}.")
        elif isinstance(value, bool) or value is None:
            yield full, {True: "yes", False: "no", None: figures.MISSING}[value]
        else:
            yield full, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def settings_view(all_settings: Sequence[Settings]) -> SettingsView:
    """The settings of several runs, held against each other."""
    names = dict.fromkeys(key for one in all_settings for key in one)
    order = (CONFIGURATION, MODEL, DATA, ENVIRONMENT)
    differ: list[Difference] = []
    equal: list[Equal] = []
    for section, name in sorted(names, key=lambda key: order.index(key[0])):
        values = tuple(one.get((section, name), "") for one in all_settings)
        # An option that an older version did not know, and one that was left unset, are the same.
        if len({value.replace(figures.MISSING, "") for value in values}) > 1:
            differ.append(Difference(section, name, values))
        else:
            equal.append(Equal(section, name, values[0]))
    return SettingsView(tuple(differ), tuple(equal))


def kind_of(settings: Settings, shape: tuple[int, int], simulated: bool) -> tuple[str, ...]:
    """Equal for runs whose heads and perplexities can be held against each other."""
    model = (settings.get((MODEL, name), "") for name in _SAME_MODEL)
    data = (settings.get((DATA, name), "") for name in _SAME_DATA)
    return (*model, *data, str(shape), str(simulated))


def group_of(settings: Settings) -> tuple[tuple[str, str, str], ...]:
    """Equal for runs that differ in nothing but the seed, and where they ran."""
    told = ((section, name, value) for (section, name), value in settings.items() if section != ENVIRONMENT)
    return tuple(sorted(one for one in told if one[:2] != (CONFIGURATION, SEED)))


def numbered(keys: Sequence[Any]) -> list[int]:
    """For each key the number of its value, in the order in which values first come."""
    seen: dict[Any, int] = {}
    return [seen.setdefault(key, len(seen)) for key in keys]
