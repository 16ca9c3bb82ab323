"""What trackers are sent: names by phase, no number lost, and a ledger with one row for every head."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neural_plasticity import events as ev
from neural_plasticity.heads import HeadId, grid_of
from neural_plasticity.trackers import rows

NUMBERS = st.floats(allow_nan=True, allow_infinity=True)


@given(phase=st.text(max_size=12), metrics=st.dictionaries(st.text(max_size=8), NUMBERS, max_size=6))
def test_every_metric_arrives_under_its_phase_unchanged(phase: str, metrics: dict[str, float]) -> None:
    found = rows.numbers(ev.StepMetrics(phase=phase, metrics=metrics))
    here = rows.section(phase)
    assert here
    assert not set(here) & {"*", "/"}
    for name, value in metrics.items():
        assert found[f"{here}/{name}"] == pytest.approx(value, abs=0, rel=0, nan_ok=True)
        assert (f"process/{name}" in found) is (name in rows.WHOLE_RUN or here == "process")
    assert len(found) == len(metrics) + len(set(metrics) & set(rows.WHOLE_RUN)) * (here != "process")


@given(st.data())
def test_the_ledger_has_one_row_per_head_and_the_outcome_of_each(data: st.DataObject) -> None:
    shape = data.draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    places = [HeadId(*place) for place in np.ndindex(shape)]
    pruned = data.draw(st.lists(st.sampled_from(places), unique=True))
    kept = data.draw(st.lists(st.sampled_from(places), unique=True))
    score = np.array(data.draw(st.lists(NUMBERS, min_size=len(places), max_size=len(places)))).reshape(shape)
    event = ev.HeadsPruned(
        heads=tuple(pruned), strategy="x", score=score, rank=np.arange(len(places)).reshape(shape) - 1,
        protected=grid_of(kept, shape), threshold=0.5, rule="lowest first", reasons={"0.0": "because"},
    )  # fmt: skip
    table = rows.ledger(event)
    assert [HeadId(*row[2:4]) for row in table.rows] == places
    for row in table.rows:
        head = HeadId(*row[2:4])
        assert row[7] == ("pruned" if head in pruned else "protected" if head in kept else "unchanged")
        value = float(score[head])
        assert row[4] == (value if math.isfinite(value) else str(value))
        assert row[5] == (None if head == (0, 0) else places.index(head) - 1)
    short = rows.ledger(event, every_head=False)
    assert {HeadId(*row[2:4]) for row in short.rows} == set(pruned) | set(kept)
    assert json.loads(json.dumps(table.rows, allow_nan=False)) == [list(row) for row in table.rows]


def test_a_decision_without_scores_or_with_heads_outside_them_is_still_told() -> None:
    bare = ev.HeadsPruned(heads=(HeadId(0, 2),), strategy="mine")
    assert [row[2:] for row in rows.ledger(bare).rows] == [(0, 2, None, None, None, "pruned", "")]
    outside = ev.HeadsGrown(heads=(HeadId(5, 5),), origin="added", score=np.zeros((1, 1)), rule="evidence")
    assert [row[2:] for row in rows.ledger(outside).rows] == [
        (0, 0, 0.0, None, None, "unchanged", ""),
        (5, 5, None, None, None, "added", "evidence"),
    ]


def test_configurations_become_plain_values_whatever_they_hold() -> None:
    given_ = {"a": {"b": np.float32(1.5), "c": (1, {2})}, "d": None, 3: object}
    plain = rows.plain(given_)
    assert json.loads(json.dumps(plain)) == plain
    assert rows.flat(plain) == {"a/b": 1.5, "a/c": "[1, [2]]", "d": None, "3": str(object)}
