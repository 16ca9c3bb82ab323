"""What is compared, with what, and what is said where it cannot be."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neural_plasticity import events as ev
from neural_plasticity.config import VIEWS
from neural_plasticity.errors import RecordError
from neural_plasticity.heads import HeadId
from neural_plasticity.record import RecordWriter, open_run
from neural_plasticity.record.snapshot import snapshot
from neural_plasticity.views.comparison import Comparison, LeftOut, comparison, title_of
from neural_plasticity.views.comparison_run import Digest, digest
from neural_plasticity.views.comparison_settings import PRESENTATION, run_settings, settings_view
from neural_plasticity.views.cycles import Measured
from neural_plasticity.views.texts import settings
from tests.sample_run import SampleRun, write_events

SMALL = {"warmup_steps": 12, "tuning_steps": 6, "layers": 3, "heads": 4, "cycles": 2}


def changed(events: Iterable[ev.Event], config: dict[str, Any] | None = None, **started: Any) -> list[ev.Event]:
    """The same run, told something else at its start."""
    return [
        replace(event, config={**event.config, **(config or {})}, **started)
        if isinstance(event, ev.RunStarted)
        else event
        for event in events
    ]


def read(directory: Path, events: Iterable[ev.Event]) -> Digest:
    with open_run(write_events(directory, events)) as run:
        return digest(run, directory.name)


def sample(seed: int = 0, **options: Any) -> list[ev.Event]:
    return list(SampleRun(seed=seed, **{**SMALL, **options}).events())


def compared(tmp_path: Path, *runs: Iterable[ev.Event]) -> Comparison:
    return comparison([read(tmp_path / f"run-{number}", events) for number, events in enumerate(runs)])


def warnings(found: Comparison) -> str:
    return " ".join(one.text for one in found.notices if one.level == "warning")


def test_runs_that_differ_in_the_seed_are_one_group(tmp_path: Path) -> None:
    other = changed(sample(2), {"pruning_strategy": "entropy"})
    found = compared(tmp_path, sample(0), sample(1), sample(1, name="again"), other)
    assert [run.group for run in found.runs] == [0, 0, 0, 1]
    assert [(one.name, one.values) for one in found.settings.differ] == [
        ("pruning_strategy", ("gradient", "gradient", "gradient", "entropy")),
        ("seed", ("0", "1", "1", "2")),
    ]
    first, second = found.groups.rows
    assert (first.values, first.runs, first.seeds, first.counted) == (("gradient",), (0, 1, 2), ("0", "1", "1"), 2)
    # The mean over seeds, of losses; the seed that was run twice counts once.
    losses = [math.log(run.outcome.perplexity.value) for run in found.runs if run.outcome is not None]
    assert first.perplexity is not None
    assert first.perplexity.value == pytest.approx(math.exp((losses[0] + losses[1]) / 2))
    assert first.perplexity.low is not None
    assert second.perplexity is not None
    assert second.perplexity.low is None
    assert found.groups.repeated


def test_a_run_is_compared_with_what_it_says_of_itself(tmp_path: Path) -> None:
    found = compared(tmp_path, sample(0), sample(1))
    run = found.runs[0]
    assert (run.strategy, run.level, run.seed, run.state, run.shape) == ("gradient", "0.15", "0", "finished", (3, 4))
    assert run.outcome is not None
    assert (run.outcome.split, run.outcome.cycle) == ("test", 2)
    # Ratios of perplexities, from paired differences of losses.
    assert run.outcome.to_baseline is not None
    assert run.baseline is not None
    assert run.outcome.to_baseline.value == pytest.approx(run.outcome.perplexity.value / run.baseline.value)
    assert run.outcome.to_baseline.low is not None
    assert run.control is not None
    assert run.outcome.to_control is not None
    # The cycle between was not evaluated: what validation text says of it, without an interval.
    assert [point.split for point in found.fronts[0]] == ["test", "validation", "test"]
    assert found.fronts[0][1].perplexity.low is None


def test_different_models_and_texts_are_said_and_kept_apart(tmp_path: Path) -> None:
    other = changed(sample(1), model={"name": "another"}, data={"name": "other text"})
    large = changed(sample(2, layers=4), model={"name": "another"}, data={"name": "other text"})
    found = compared(tmp_path, sample(0), other, large)
    assert [run.kind for run in found.runs] == [0, 1, 2]
    assert "2 texts (python-stdlib, other text)" in warnings(found)
    assert "another (4 × 4 heads)" in warnings(found)
    reason = {pair: found.overlap.reasons[found.overlap.why[pair]] for pair in ((0, 1), (0, 2), (1, 2))}
    assert "their models differ" in reason[0, 1]
    assert reason[1, 2] == "their grids differ: 3 × 4 and 4 × 4 heads"
    assert found.overlap.both[1, 1] == found.runs[1].pruned
    assert [row.runs for row in found.groups.rows] == [(0,), (1,), (2,)]


def test_heads_added_make_no_other_model(tmp_path: Path) -> None:
    events = sample(1)
    wider = ev.HeadsGrown(step=20, phase="growth", cycle=1, heads=(HeadId(1, 4),), origin="added")
    found = compared(tmp_path, sample(0), [*events[:-1], wider, events[-1]])
    assert (len(found.kinds), found.runs[1].shape) == (1, (3, 4))
    assert found.overlap.why[0, 1] == -1
    assert found.heads.runs[1].states is not None
    assert found.heads.runs[1].states.shape == (3, 5)
    assert [one.text for one in found.notices if "New heads were born in sample-run:" in one.text]
    assert not any("New heads" in one.text for one in compared(tmp_path / "other", sample(0), sample(1)).notices)


def test_resumed_after_heads_were_born_it_is_the_model_it_began_with(tmp_path: Path) -> None:
    """A resumed attempt says how large the model is by then."""
    events = sample(1)
    wider = ev.HeadsGrown(step=20, phase="growth", cycle=1, heads=(HeadId(1, 4),), origin="added")
    began = events[0]
    assert isinstance(began, ev.RunStarted)
    write_events(tmp_path / "resumed", [*events[:-1], wider])
    with RecordWriter.reopen(tmp_path / "resumed") as writer:
        larger = {**began.model, "parameters": 4_000_000, "bytes": 16_000_000}
        writer.append_many([replace(began, model=larger), events[-1]])
    with open_run(tmp_path / "resumed") as run:
        found = comparison([read(tmp_path / "other", sample(0)), digest(run)])
        assert dict(settings(run)[1].pairs)["parameters"] == str(began.model["parameters"])
    assert [one.name for one in found.settings.differ] == ["seed"]
    assert (len(found.kinds), [row.runs for row in found.groups.rows]) == (1, [(0, 1)])


def test_unfinished_and_simulated_runs_are_said(tmp_path: Path) -> None:
    begun = changed(sample(1)[:6], simulated=False)
    found = compared(tmp_path, sample(0), begun)
    said = " ".join(one.text for one in found.notices)
    assert "1 of 2 runs are simulated" in said
    assert "(1 running)" in said
    assert "Nothing was pruned yet in sample-run" in said
    assert found.runs[1].outcome is None


def test_a_run_that_went_back_to_the_unpruned_model_counts_as_that(tmp_path: Path) -> None:
    """Left out, the mean over seeds would be one over the seeds that came out well."""
    whole = sample(1)
    tuned = next(place for place, one in enumerate(whole) if isinstance(one, ev.PhaseEnded) and one.cycle == 1)
    at = {"step": whole[tuned].step + 1, "cycle": 1, "phase": "evaluation"}
    back = ev.StateRestored(to_cycle=0, to_step=0, states=np.ones((3, 4), np.int8), reason="too far", **at)
    (tested,) = (one for one in whole if isinstance(one, ev.Evaluation))
    baseline = replace(tested, step=12, cycle=0, results={"baseline": tested.results["baseline"]})
    first = next(place for place, one in enumerate(whole) if one.cycle)
    found = compared(tmp_path, sample(0), [*whole[:first], baseline, *whole[first : tuned + 1], back, whole[-1]])
    well, unpruned = found.runs
    assert unpruned.outcome is not None
    assert well.outcome is not None
    assert (unpruned.outcome.cycle, unpruned.outcome.sparsity) == (0, 0.0)
    assert unpruned.outcome.perplexity == unpruned.baseline
    assert unpruned.outcome.to_baseline == unpruned.outcome.to_control == Measured(1.0)
    assert (unpruned.prefill_speedup, unpruned.size_reduction) == (1.0, 0.0)
    (group,) = found.groups.rows
    assert (group.counted, group.split) == (2, "test")
    assert group.to_baseline is not None
    assert well.outcome.to_baseline is not None
    assert group.to_baseline.value == pytest.approx(math.sqrt(well.outcome.to_baseline.value))
    assert not any("Nothing was pruned yet" in one.text for one in found.notices)


def test_a_run_that_has_not_begun_is_refused(tmp_path: Path) -> None:
    with open_run(write_events(tmp_path, [])) as run, pytest.raises(RecordError, match="not begun"):
        digest(run)


def test_an_option_unknown_to_an_older_version_is_as_good_as_unset() -> None:
    old, new = {("configuration", "seed"): "0"}, {("configuration", "seed"): "0", ("configuration", "growth"): "–"}
    found = settings_view([old, new])
    assert found.differ == ()
    assert settings_view([old, {**new, ("configuration", "growth"): "yes"}]).differ[0].values == ("", "yes")


def test_settings_leave_out_how_a_run_was_shown(tmp_path: Path) -> None:
    told = {"output_dir": "/somewhere", "tags": "x", "nested": {"deep": {"value": 3}}, "control": None}
    with open_run(write_events(tmp_path, changed(sample()[:2], told))) as run:
        found = run_settings(snapshot(run))
    assert found["configuration", "nested.deep.value"] == "3"
    assert found["configuration", "control"] == "–"
    assert not {name for _, name in found} & {"output_dir", "tags", "command"}


def test_what_only_shows_or_keeps_a_run_parts_no_seeds(tmp_path: Path) -> None:
    assert set(VIEWS) == PRESENTATION
    other = changed(sample(1), {"checkpoint_every": 7, "fsdp": True, "device": "cuda:1"})
    found = compared(tmp_path, changed(sample(0), {"checkpoint_every": 100, "fsdp": False, "device": "auto"}), other)
    assert [row.runs for row in found.groups.rows] == [(0, 1)]


def test_texts_of_shared_prompts(tmp_path: Path) -> None:
    own = ev.TextSample(prompt="only here", text="x", model="pruned")
    found = compared(tmp_path, [*sample(0)[:-1], own], sample(1))
    prompts = {(row.model, row.prompt[:6]) for row in found.texts.rows}
    assert ("pruned", "def __") in prompts
    assert ("pruned", "only h") not in prompts


def test_curves_keep_extremes_and_say_of_how_many_points(tmp_path: Path) -> None:
    events = sample(0, warmup_steps=400)
    with open_run(write_events(tmp_path / "long", events)) as run:
        curve = next(one for one in digest(run, most=50).curves if one.name == "loss")
        steps, values = run.series("loss")
    assert (curve.total, len(curve.steps) <= 60) == (len(steps), True)
    assert curve.values.max() == pytest.approx(values.max())
    assert curve.means is not None
    assert curve.means.values.mean() == pytest.approx(values.mean(), rel=0.05)


def test_titles(tmp_path: Path) -> None:
    assert title_of(compared(tmp_path / "two", sample(0), sample(1, name="b"))) == "sample-run · b"
    three = comparison([read(tmp_path / f"{n}", sample(n)) for n in range(3)], [LeftOut("gone", "no record")])
    assert title_of(three) == "3 runs of sample-run, by seed"
    others = comparison([read(tmp_path / f"o{n}", sample(n, name=f"o{n}")) for n in range(3)])
    assert title_of(others) == "3 runs compared"
    assert three.left_out[0].path == "gone"
