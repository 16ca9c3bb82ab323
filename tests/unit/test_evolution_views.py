"""Evolution from the record: drift of attention, embedding spaces, recoveries; against what is worked out by hand."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon

from neural_plasticity.dashboard.demo_events import simulate
from neural_plasticity.dashboard.multi_phase import MultiPhaseDashboard
from neural_plasticity.events import AttentionMaps, Embedding, Event, HeadScores, RunStarted
from neural_plasticity.record import Run, open_run
from neural_plasticity.views.analysis import analysis
from neural_plasticity.views.attention import attention
from neural_plasticity.views.attention_evolution import attention_evolution
from neural_plasticity.views.cycles import cycles
from neural_plasticity.views.embeddings import embeddings
from neural_plasticity.views.recovery import CycleRecovery
from neural_plasticity.views.similarity import linear_cka
from tests.sample_run import write_events


def record(folder: Path, events: Iterable[Event]) -> Run:
    return open_run(write_events(folder / "run", [RunStarted(name="r", shape=(2, 3), config={}), *events]))


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return open_run(write_events(tmp_path_factory.mktemp("evolution") / "run", simulate(1, 2, fine_tuning_steps=10)))


def patterns(seed: int, length: int = 5) -> np.ndarray:
    weights = np.tril(np.random.default_rng(seed).random((2, 3, length, length)))
    return weights / weights.sum(-1, keepdims=True)


def divergence(one: np.ndarray, other: np.ndarray) -> float:
    """Mean of the rows' divergence, by SciPy's distance, which is its root."""
    return float(np.mean([jensenshannon(a, b, base=2) ** 2 for a, b in zip(one, other, strict=True)]))


def look(maps: np.ndarray, cycle: int, model: str, prompt: str = "p") -> AttentionMaps:
    tokens = tuple("abcde")
    return AttentionMaps(step=10 * cycle, cycle=cycle, phase="evaluation", prompt=prompt, tokens=tokens, maps=maps,
                         model=model)  # fmt: skip


def test_drift_is_the_mean_over_prompts_against_the_baseline_and_the_cycle_before(tmp_path: Path) -> None:
    seen = {(prompt, cycle): patterns(7 * cycle + len(prompt)) for prompt in ("p", "qq") for cycle in range(3)}
    for prompt in ("p", "qq"):
        seen[prompt, 2][1, 2] = np.nan  # pruned in the second cycle
    control = patterns(99)
    events = [look(seen[prompt, cycle], cycle, "pruned" if cycle else "baseline", prompt) for prompt, cycle in seen]
    run = record(tmp_path, [*events, look(control, 1, "control", "p")])
    own, other = attention_evolution(run).drift
    assert (own.model, other.model, own.prompts) == ("pruned", "control", 2)
    assert own.cycles.tolist() == [0, 1, 2]
    assert other.cycles.tolist() == [1]
    for layer, head in np.ndindex(2, 3):

        def mean(cycle: int, since: int, at: tuple[int, int] = (layer, head)) -> float:
            return float(np.mean([divergence(seen[name, since][at], seen[name, cycle][at]) for name in ("p", "qq")]))

        gone = (layer, head) == (1, 2)
        assert own.to_baseline[0, layer, head] == 0
        assert own.to_baseline[1, layer, head] == pytest.approx(mean(1, 0), rel=1e-5)
        assert own.to_previous[1, layer, head] == pytest.approx(mean(1, 0), rel=1e-5)
        last = (own.to_baseline[2, layer, head], own.to_previous[2, layer, head])
        assert last == (pytest.approx((mean(2, 0), mean(2, 1)), rel=1e-5) if not gone else pytest.approx(
            (math.nan, math.nan), nan_ok=True))  # fmt: skip
        expected = divergence(seen["p", 0][layer, head], control[layer, head])
        assert other.to_baseline[0, layer, head] == pytest.approx(expected, rel=1e-5)


def test_movers_are_in_order_and_a_head_that_is_gone_counts_where_it_was_last(demo: Run) -> None:
    view = attention_evolution(demo)
    own = view.drift[0]
    drifts = [one.drift for one in view.movers]
    assert drifts == sorted(drifts, reverse=True)
    for one in view.movers:
        known = own.to_baseline[:, one.layer, one.head]
        assert one.drift == pytest.approx(float(known[np.isfinite(known)][-1]))
        assert own.cycles[np.isfinite(known)][-1] == one.cycle
        assert one.in_control is None or one.in_control >= 0


def test_a_take_says_what_its_heads_attend_to(tmp_path: Path) -> None:
    maps = patterns(1)
    scores = {"induction": np.arange(6.0).reshape(2, 3) / 10}
    place = {"step": 0, "cycle": 0, "phase": "evaluation"}
    early = HeadScores(step=0, phase="analysis", scores={"induction": np.ones((2, 3))})
    events = [early, look(maps, 0, "baseline"), HeadScores(scores=scores, **place), look(maps, 0, "control")]
    take, control = attention_evolution(record(tmp_path, events)).prompts[0].takes
    for at, (layer, head) in enumerate(take.heads.tolist()):
        assert take.first_token_mass[at] == pytest.approx(maps[layer, head, 1:, 0].mean())
        previous = np.mean([maps[layer, head, t, t - 1] for t in range(1, 5)])
        assert take.previous_token[at] == pytest.approx(previous)
        assert take.induction[at] == pytest.approx(scores["induction"][layer, head])
    assert np.isnan(control.induction).all()


def test_what_is_looked_at_after_a_cycle_takes_no_place_of_what_ranks_heads(demo: Run) -> None:
    rounds = analysis(demo).rounds
    assert [one.cycle for one in rounds] == [1, 2]
    assert all({"entropy", "gradient"} <= {each.name for each in one.maps} for one in rounds)
    assert attention(demo).models == ("baseline", "pruned")  # the control, which loses no head, is left out


def test_the_same_points_are_followed_through_layers_and_cycles(demo: Run) -> None:
    (space,) = embeddings(demo).spaces
    first, *_ = [one for one in demo.events(Embedding) if isinstance(one, Embedding)]
    assert space.layers == ("input", *(f"layer {layer}" for layer in range(6)))
    assert space.cycles.tolist() == [0, 1, 2]
    assert space.labels == first.labels
    assert [space.group_names[group] for group in space.groups] == list(first.groups)
    own, control = space.drift
    assert (own.model, control.model) == ("pruned", "control")
    np.testing.assert_allclose(own.linear_cka[0], 1)
    np.testing.assert_allclose(own.procrustes_residual[0], 0, atol=1e-12)
    assert np.isnan(control.linear_cka[0]).all()  # there is none before the first cycle
    assert (control.linear_cka[2] > own.linear_cka[2]).all()  # as the demo makes it up
    later = [one for one in demo.events(Embedding) if isinstance(one, Embedding) and one.model == "pruned"][-1]
    assert own.linear_cka[2, 3] == pytest.approx(linear_cka(first.vectors[3], later.vectors[3]))
    assert own.linear_cka[2, 3] < own.linear_cka[2, 0]
    assert space.coordinates.shape == (3, 7, len(space.labels), 2)
    spread = math.sqrt(float(((first.vectors[3] - first.vectors[3].mean(0)) ** 2).sum(1).mean()))
    mover = next(one for one in space.movers if one.layer == 3)
    moved = np.linalg.norm((later.vectors[3].astype(float) - first.vectors[3].astype(float)), axis=1) / spread
    assert (mover.point, mover.moved) == (int(moved.argmax()), pytest.approx(float(moved.max()), rel=1e-3))


def test_what_a_script_records_shows_and_other_points_are_said_to_be_left_out(tmp_path: Path) -> None:
    points = np.random.default_rng(0).normal(size=(30, 4))
    dashboard = MultiPhaseDashboard(output_dir=str(tmp_path / "run"), mode="disabled")
    for step in range(3):
        dashboard.record_embedding(points + 0.1 * step, labels=[str(at) for at in range(30)], step=step, name="words")
    dashboard.record_embedding(points[:7], step=4, name="words")
    dashboard.finish()
    with open_run(tmp_path / "run") as run:
        view = embeddings(run)
        (space,) = view.spaces
        assert (space.name, space.layers, space.steps.tolist()) == ("words", ("points",), [0, 1, 2])
        np.testing.assert_allclose(space.drift[0].linear_cka, 1)  # only moved along, all together
        assert view.thinned == "1 snapshots of words are of other points, and left out."
        few = embeddings(run, most_cells=60).spaces[0]
        assert few.coordinates.shape[2] == 20
        assert few.total == 30
    assert embeddings(record(tmp_path / "none", ())).empty


def test_recovery_is_measured_from_the_pruning_on() -> None:
    steps = np.array([0, 10, 20, 40])
    validation = np.array([3.0, 2.6, 2.2, 2.1])
    nothing = np.empty(0, np.int64), np.empty(0)
    one = CycleRecovery(1, *nothing, steps, validation, 2.0, *nothing)
    assert one.area == pytest.approx((1.0 + 0.6) / 2 * 10 + (0.6 + 0.2) / 2 * 10 + (0.2 + 0.1) / 2 * 20)
    assert one.steps_to_half == pytest.approx(10 + 10 * 0.1 / 0.4)
    assert one.drop_per_step == pytest.approx(0.9 / 40)
    never = CycleRecovery(1, *nothing, steps, validation, 1.0, *nothing)
    assert never.steps_to_half is None
    unknown = CycleRecovery(1, *nothing, steps[:1], validation[:1], None, *nothing)
    assert (unknown.area, unknown.steps_to_half, unknown.drop_per_step) == (None, None, None)


def test_cycles_add_up(demo: Run) -> None:
    view = cycles(demo)
    assert [one.cycle for one in view.recoveries] == [1, 2]
    for one, cycle in zip(view.recoveries, view.cycles, strict=True):
        assert one.validation[0] == cycle.loss_pruned
        assert one.before == cycle.loss_before
        assert one.validation[-1] == pytest.approx(cycle.loss_after)
        assert (np.diff(one.validation_steps) > 0).all()
        assert len(one.excess) == len(one.excess_steps) > 0  # the demo has a control
        assert cycle.training is not None
        assert cycle.training.area == one.area
        assert cycle.training.learning_rate_mean is not None
    assert [one.cycle for one in view.cumulative] == [0, 1, 2]
    start, *later = view.cumulative
    assert (start.sparsity, start.heads_left, start.perplexity) == (0, 48, view.baseline)
    for row, evaluated in zip(later, demo.evaluations()[1:], strict=True):
        comparison = evaluated.results["comparison"]
        assert row.ratio_to_baseline is not None
        assert row.ratio_to_baseline.low == comparison["perplexity_ratio_low"]
        assert row.ratio_to_control is not None
        assert row.ratio_to_control.high == pytest.approx(math.exp(comparison["loss_difference_to_control_high"]))
        assert row.size_reduction == comparison["size_reduction"]
    assert later[-1].sparsity > later[0].sparsity > 0
