"""Strategies by name: which end of each criterion goes first, and what is said about a name that does not exist."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import FrozenInstanceError
from types import SimpleNamespace

import numpy as np
import pytest

from neural_plasticity.errors import ConfigError
from neural_plasticity.importance.criteria import CRITERIA
from neural_plasticity.policies.selection import decide_pruning
from neural_plasticity.policies.strategies import STRATEGIES, StrategyContext, resolve_strategy

NAMES = {
    "entropy", "gradient", "gradient_normalised", "fisher", "output_norm", "magnitude", "ablation", "random",
    "combined",
}  # fmt: skip


def context(scores=None, mask=None, seed=0):
    mask = np.ones((2, 3), bool) if mask is None else mask
    return StrategyContext(
        model=SimpleNamespace(),
        heads=SimpleNamespace(),  # type: ignore[arg-type]
        batches=(),
        mask=mask,
        count=1,
        cycle=1,
        seed=seed,
        score=lambda *names: {name: scores[name] for name in names},
    )


def test_every_documented_strategy_exists_and_asks_for_criteria_that_can_be_measured():
    assert set(STRATEGIES) == NAMES
    for name, strategy in STRATEGIES.items():
        assert strategy.name == name
        assert set(strategy.criteria) <= set(CRITERIA)


@pytest.mark.parametrize("name", sorted(NAMES - {"random"}))
def test_the_named_end_goes_first(name):
    measured = np.array([[0.1, 0.5, 0.9], [0.2, 0.3, 0.4]])
    choice = decide_pruning(resolve_strategy(name), context({name: measured}), 0.17)
    first = (0, 2) if name == "entropy" else (0, 0)
    assert choice.heads == (first,)
    shown = "0.900, rank 1 of 6 (highest first)" if name == "entropy" else "0.100, rank 1 of 6 (lowest first)"
    assert choice.reasons[f"0.{first[1]}"].startswith(f"{name} {shown}")


def test_importance_is_pure_and_silent_about_inactive_heads():
    measured = np.array([[0.1, 0.5, np.nan], [0.2, 0.3, 0.4]])
    kept = measured.copy()
    mask = ~np.isnan(measured)
    mask[1, 0] = False
    importance = STRATEGIES["gradient"].apply(context({"gradient": measured}, mask))
    assert np.isnan(importance[~mask]).all()
    assert (importance[mask] == measured[mask]).all()
    np.testing.assert_array_equal(measured, kept)
    with pytest.raises(FrozenInstanceError):
        STRATEGIES["gradient"].name = "other"  # type: ignore[misc]


def test_random_repeats_with_its_seed_and_differs_without():
    one, again, other = (STRATEGIES["random"].apply(context(seed=seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert (one != other).all()


@pytest.mark.parametrize(
    ("name", "meant"), [("entrpy", "entropy"), ("Gradient-Normalized", "gradient_normalised"), ("ficher", "fisher")]
)
def test_unknown_name_lists_what_exists_and_suggests_the_nearest(name, meant):
    with pytest.raises(ConfigError) as caught:
        resolve_strategy(name)
    message = str(caught.value)
    assert message.startswith(f"--pruning_strategy {name}: no such strategy. Did you mean {meant}?")
    assert all(known in message for known in NAMES)
    assert "package.module:function" in message
    assert "\n" not in message


def test_unlike_anything_suggests_nothing():
    with pytest.raises(ConfigError, match=r"no such strategy\. Expected one of"):
        resolve_strategy("zzz")


def test_hyphens_and_case_are_understood():
    assert resolve_strategy("Output-Norm") is STRATEGIES["output_norm"]


def test_policies_load_neither_torch_nor_transformers():
    code = (
        "import sys, neural_plasticity.policies, neural_plasticity.policies.statistics; "
        "sys.exit(bool({'torch', 'transformers', 'matplotlib'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
