"""What long runs and many heads need: fast ways that give what the plain, slow ways give."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neural_plasticity import events as ev
from neural_plasticity.errors import RecordError
from neural_plasticity.experiment.observing import kept_layers
from neural_plasticity.heads import HeadId
from neural_plasticity.record import Recorded, Run, open_run
from neural_plasticity.record import columns as reading
from neural_plasticity.record.recap import recap
from neural_plasticity.record.snapshot import snapshot
from neural_plasticity.render.closing import Closing
from neural_plasticity.render.live import KEPT_LOSSES, LiveState, advance
from neural_plasticity.views.drift import PatternDrift
from tests.sample_run import SampleRun, write_events

NAMES = "abcdef"
ROWS = st.lists(
    st.tuples(st.integers(0, 40), st.dictionaries(st.sampled_from(NAMES), st.floats(), max_size=5)), max_size=40
)


@settings(max_examples=25, deadline=None)
@given(ROWS, st.sets(st.sampled_from(NAMES), min_size=1), st.integers(1, 60))
def test_columns_are_what_the_events_say(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[int, dict[str, float]]], names: set[str], room: int
) -> None:
    path = write_events(
        tmp_path_factory.mktemp("run"), [ev.StepMetrics(step=step, metrics=metrics) for step, metrics in rows]
    )
    with open_run(path) as run, pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "_CHUNK_BYTES", 8 * room)  # queries of a few rows, or of one
        found = run.columns(sorted(names))
    assert set(found) == {name for name in names if any(name in metrics for _, metrics in rows)}
    for name, (steps, values) in found.items():
        told = sorted(((step, metrics[name]) for step, metrics in rows if name in metrics), key=lambda one: one[0])
        assert steps.tolist() == [step for step, _ in told]
        assert values.tobytes() == np.array([value for _, value in told]).tobytes()


def test_metrics_of_the_same_rows_share_their_steps(tmp_path: Path) -> None:
    path = write_events(tmp_path, (ev.StepMetrics(step=step, metrics={"a": 1.0, "b": 2.0}) for step in range(9)))
    with open_run(path) as run:
        found = run.columns(["a", "b"])
    assert found["a"][0] is found["b"][0]


def test_a_row_that_was_cut_is_damage_and_no_shift_of_values(tmp_path: Path) -> None:
    import sqlite3

    path = write_events(tmp_path, (ev.StepMetrics(step=step, metrics={"a": 1.0, "b": 2.0}) for step in range(9)))
    with sqlite3.connect(path / "run.sqlite") as file:
        file.execute("UPDATE recorded SET data = substr(data, 1, 12) WHERE seq = 4")
    file.close()
    with open_run(path) as run, pytest.raises(RecordError, match="damaged"):
        run.columns(["a", "b"])


def _folded(run: Run, events: list[ev.Event]) -> tuple[LiveState, Closing]:
    return reduce(advance, events, LiveState()), reduce(Closing.after, events, Closing())


def test_a_recap_leads_to_where_the_whole_history_leads(tmp_path: Path) -> None:
    sample = SampleRun(warmup_steps=700, tuning_steps=400)
    with open_run(write_events(tmp_path, sample.events())) as run:
        everything, few = list(run.events()), list(recap(run, 2 * KEPT_LOSSES))
        (live, closing), (quick, short) = _folded(run, everything), _folded(run, few)
    assert len(few) < len(everything) / 2
    assert closing.pruned
    assert (short.pruned, short.grown, short.outside) == (closing.pruned, closing.grown, closing.outside)
    assert [one.cycle for one in short.recoveries] == [one.cycle for one in closing.recoveries]
    assert (quick.phase, quick.cycle, quick.cycles, quick.progress) == (
        live.phase, live.cycle, live.cycles, live.progress,
    )  # fmt: skip
    assert dict(quick.latest) == dict(live.latest)
    assert quick.losses == live.losses
    assert np.array_equal(quick.states, live.states)  # type: ignore[arg-type]
    assert set(quick.scores) == set(live.scores)
    assert all(np.array_equal(quick.scores[name], live.scores[name], equal_nan=True) for name in live.scores)


def test_scores_are_looked_for_from_the_end_and_read_no_more_than_that(tmp_path: Path) -> None:
    events = [ev.HeadScores(step=step, scores={"a": np.full((2, 2), step)}) for step in range(50)]
    events[10] = ev.HeadScores(step=10, scores={"b": np.zeros((2, 2))})
    with open_run(write_events(tmp_path, events)) as run, pytest.MonkeyPatch.context() as patch:
        read: list[tuple[int, int]] = []
        recorded = run._recorded

        def watched(low: int, high: int, *rest: Any) -> Iterator[Recorded]:
            read.append((low, high))
            return recorded(low, high, *rest)

        patch.setattr(run, "_recorded", watched)
        assert run.scores("a")[0, 0] == 49
        assert read == [(50, 50)]
        assert run.scores("a", step=10)[0, 0] == 9
        assert run.scores("b")[0, 0] == 0
        assert run.score_names() == ("a", "b")


def test_events_are_counted_by_their_numbers(tmp_path: Path) -> None:
    with open_run(write_events(tmp_path, SampleRun().events())) as run:
        assert snapshot(run).count(attempt="all") == run.summary().events == sum(1 for _ in run.events(attempt="all"))


PATTERNS = st.lists(
    st.tuples(st.booleans(), st.lists(st.sampled_from((None, 0, 1, 2, 3)), min_size=1, max_size=4)), max_size=5
)  # looks: of the control or not; of each head the pattern's number, or none


@settings(max_examples=50, deadline=None)
@given(PATTERNS)
def test_drift_by_arrays_is_drift_head_by_head(looks: list[tuple[bool, list[int | None]]]) -> None:
    random = np.random.default_rng(0)
    kinds = np.tril(random.random((4, 3, 3)))
    kinds /= kinds.sum(-1, keepdims=True)
    drift = PatternDrift()
    first: dict[int, int] = {}
    previous: dict[tuple[bool, int], int] = {}
    for control, numbers in looks:
        maps = np.stack([kinds[0] * np.nan if one is None else kinds[one] for one in numbers])
        heads = [HeadId(0, 3 - place) for place in range(len(numbers))]
        to_first, to_before = drift.take(control, heads, maps)
        for place, number in enumerate(numbers):
            if number is None:
                assert math.isnan(to_first[place])
                assert math.isnan(to_before[place])
                continue
            first.setdefault(place, number)
            before = previous.get((control, place), first[place])
            assert to_first[place] == pytest.approx(_divergence(kinds[first[place]], kinds[number]), abs=1e-12)
            assert to_before[place] == pytest.approx(_divergence(kinds[before], kinds[number]), abs=1e-12)
            previous[control, place] = number


def _divergence(a: np.ndarray, b: np.ndarray) -> float:  # type: ignore[type-arg]
    """Jensen-Shannon, bits, row by row and number by number."""
    rows = []
    for p, q in zip(a.tolist(), b.tolist(), strict=True):
        terms = [
            one * math.log2(2 * one / (x + y)) for x, y in zip(p, q, strict=True) for one in (x, y) if one > 0
        ]  # fmt: skip
        rows.append(sum(terms) / 2)
    return sum(rows) / len(rows)


@given(st.integers(1, 200), st.integers(1, 300), st.integers(1, 20_000))
def test_layers_are_kept_while_they_fit_and_always_the_first_and_the_last(layers: int, points: int, width: int) -> None:
    kept = kept_layers(layers, points, width)
    assert kept == sorted(set(kept))
    assert (kept[0], kept[-1]) == (0, layers - 1)
    size = 2 * points * width
    assert len(kept) * size <= max(64_000_000, 2 * size)
    assert len(kept) == layers or (len(kept) + 1) * size > 64_000_000
    gaps = np.diff(kept)
    assert len(gaps) == 0 or gaps.max() - gaps.min() <= 1
