"""When to stop: verdicts and intervals with known answers, which text is judged on, and the knee of a curve."""

from __future__ import annotations

import math

import numpy as np
import pytest

from neural_plasticity.data.corpus import Document
from neural_plasticity.data.tokens import block_documents, token_blocks
from neural_plasticity.errors import InputError
from neural_plasticity.policies.statistics import clustered_difference
from neural_plasticity.policies.stopping import even_share, judge_cycle, needed_sequences
from neural_plasticity.views.knee import knee

BUDGET = math.log(1.05)
SIZES = np.array([20] * 12 + [19, 16, 11, 9, 8, 4, 1, 1])  # documents of the built-in validation text, shared evenly


def losses(truth: float, spread: float, seed: int, n: int = 256) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    control = rng.normal(3.0, 0.6, n)
    return control + truth + rng.normal(0, spread, n), control


@pytest.mark.parametrize(("truth", "inside"), [(0.0, True), (0.03, True), (0.0488, False), (0.07, False)])
def test_a_cycle_is_inside_when_its_whole_interval_is(truth: float, inside: bool) -> None:
    verdict = judge_cycle(*losses(truth, 0.05, seed=1), BUDGET, seed=0)
    assert verdict.inside == inside == (verdict.log_ratio.high <= BUDGET)
    assert verdict.perplexity / verdict.control_perplexity == pytest.approx(math.exp(verdict.log_ratio.estimate))
    assert verdict.log_ratio.estimate == pytest.approx(truth, abs=0.01)
    assert "at most +5 % allowed; on 256 validation sequences" in verdict.reason


def test_little_text_is_no_excuse_and_says_when_it_can_tell_nothing() -> None:
    noisy = judge_cycle(*losses(0.0, 0.6, seed=3, n=16), BUDGET, seed=0)
    assert not noisy.inside
    assert not noisy.can_tell
    more = needed_sequences(noisy.noise, BUDGET, 16)
    assert judge_cycle(*losses(0.0, 0.6, seed=3, n=more), BUDGET, seed=0).inside
    clearly_outside = judge_cycle(*losses(1.5, 0.6, seed=3, n=16), BUDGET, seed=0)
    assert clearly_outside.can_tell


def test_equal_models_are_inside_any_budget_and_nan_is_inside_none() -> None:
    same = np.linspace(2, 4, 32)
    assert judge_cycle(same, same, 1e-9, seed=0).inside
    broken = same.copy()
    broken[3] = np.nan
    verdict = judge_cycle(broken, same, BUDGET, seed=0)
    assert not verdict.inside
    assert "without an interval" in verdict.reason
    assert not judge_cycle(same[:1], same[:1], BUDGET, seed=0).inside


def test_documents_are_resampled_where_there_are_enough_of_them() -> None:
    pruned, control = losses(0.02, 0.05, seed=0, n=64)
    assert judge_cycle(pruned, control, BUDGET, 0, documents=np.arange(64) // 4).documents == 16
    of_document = np.repeat(np.random.default_rng(1).normal(0, 0.2, 16), 4)  # what its sequences have in common
    alike = judge_cycle(pruned + of_document, control, BUDGET, 0, documents=np.arange(64) // 4)
    assert alike.noise > 1.2 * judge_cycle(pruned + of_document, control, BUDGET, 0).noise
    few = judge_cycle(pruned, control, BUDGET, 0, documents=np.arange(64) // 16)
    assert few.documents == 0
    assert few.log_ratio == judge_cycle(pruned, control, BUDGET, 0).log_ratio
    with pytest.raises(InputError, match="same sequences"):
        judge_cycle(pruned, control[1:], BUDGET, 0)


def test_intervals_over_clusters_miss_the_truth_as_rarely_as_they_say() -> None:
    """Sequences of one document share an effect: resampled one by one, the bound fails three times as often."""
    rng = np.random.default_rng(0)
    owner = np.repeat(np.arange(len(SIZES)), SIZES)
    zeros = np.zeros(len(owner))
    failed = {"documents": 0, "sequences": 0}
    for seed in range(400):
        difference = rng.normal(0, 0.05, len(owner)) + rng.normal(0, 0.02, len(SIZES))[owner]
        by_document = clustered_difference(difference, zeros, owner, seed, resamples=800)
        one_by_one = clustered_difference(difference, zeros, np.arange(len(owner)), seed, resamples=200)
        failed["documents"] += by_document.high < 0
        failed["sequences"] += one_by_one.high < 0
    assert failed["documents"] <= 24  # 2.5 % of 400 are 10; beyond 24 has a probability below 1e-4
    assert failed["sequences"] >= 28


def test_one_cluster_gives_no_interval() -> None:
    assert math.isnan(clustered_difference([1.0, 2.0], [0.0, 0.0], [7, 7], seed=0).high)


@pytest.mark.parametrize("count", [1, 7, 30, 57, 1000])
def test_text_is_shared_evenly_by_documents(count: int) -> None:
    owners = np.repeat([0, 1, 2, 5], [3, 40, 1, 14])
    chosen = even_share(owners, count)
    assert len(chosen) == len(set(chosen.tolist())) == min(count, len(owners))
    taken = np.bincount(owners[chosen], minlength=6)
    most = taken.max()
    for document, size in ((0, 3), (1, 40), (2, 1), (5, 14)):  # nobody has less than others, unless it has no more
        assert taken[document] >= min(size, most - 1)


def test_every_block_knows_the_document_of_its_middle() -> None:
    class Letters:
        eos_token_id = 0

        def __call__(self, text: list[str], **_: object) -> dict[str, list[list[int]]]:
            return {"input_ids": [[ord(letter) for letter in one] for one in text]}

    documents = [
        Document(str(number), letter * size)
        for number, (letter, size) in enumerate(zip("abc", (9, 1, 17), strict=True))
    ]
    owners = block_documents(documents, Letters(), 4)
    blocks = token_blocks(documents, Letters(), 4)
    assert len(owners) == len(blocks)
    for owner, block in zip(owners, blocks, strict=True):
        assert "abc"[owner] == chr(block[2]) or block[2] == 0


def test_the_knee_is_where_heads_stop_being_cheap() -> None:
    sparsity = np.array([0, 0.1, 0.2, 0.3, 0.4, 0.5])
    hinge = np.where(sparsity <= 0.3, 0.01 * sparsity, 0.003 + (sparsity - 0.3))
    assert knee(sparsity, hinge) == 3
    assert knee(sparsity[::-1], hinge[::-1]) == 2  # whatever the order
    assert knee(sparsity, sparsity**3) == 3  # where the slope of x³ is that of the chord: 0.5 / √3
    assert knee(sparsity, hinge + 0.02 * (sparsity == 0.2)) == 3  # a dip on the way is noise


def test_there_is_no_knee_without_evidence() -> None:
    sparsity = np.array([0, 0.1, 0.2, 0.3, 0.4])
    assert knee(sparsity, 2 * sparsity) is None  # a straight line
    assert knee(sparsity[:3], [0, 0, 1]) is None  # three points always have a corner
    assert knee(sparsity, -sparsity) is None  # no cost
    assert knee(sparsity, sparsity**3, noise=0.05) is None  # within its intervals a straight line
    assert knee(np.full(5, 0.2), sparsity) is None
    assert knee([0, 0.1, math.nan, 0.3], [0, 1, 2, 3]) is None
    assert knee(sparsity, sparsity**3, noise=[0, 0.001, 0.001, 0.001, 0.001]) == 2
    assert knee(sparsity, sparsity**3, noise=[0, 0.001, 0.001, 0.001, math.nan]) is None  # an end of unknown height


@pytest.mark.parametrize("cycles", [3, 10])
@pytest.mark.parametrize("half", [0.1, 0.4])
def test_a_straight_curve_seldom_has_a_knee_whatever_the_noise(cycles: int, half: float) -> None:
    """The furthest of many points is far from the line by chance: in at most 5 % of cases may that be called a knee."""
    rng = np.random.default_rng(7)
    sparsity = np.linspace(0, 1, cycles + 1)
    found = 0
    for _ in range(400):
        cost = sparsity + np.array([0, *rng.normal(0, half / 1.96, cycles)])
        found += knee(sparsity, cost, [0, *[half] * cycles]) is not None
    assert found <= 20
