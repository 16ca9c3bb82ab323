"""Dashboards: whatever a script tells, in whatever order and spelling, is on record as it was told."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

import neural_plasticity as npl
from neural_plasticity.dashboard.history import History
from neural_plasticity.dashboard.multi_phase import MultiPhaseDashboard
from neural_plasticity.errors import RecordError
from neural_plasticity.events import (
    PHASES,
    Embedding,
    Event,
    HeadScores,
    HeadsPruned,
    PhaseStarted,
    Stabilised,
    StepMetrics,
    phase_name,
)
from neural_plasticity.record import open_run

SHAPE = (4, 6)


@pytest.fixture
def dashboard(tmp_path: Path) -> Iterator[MultiPhaseDashboard]:
    with MultiPhaseDashboard(output_dir=tmp_path / "run", mode="disabled") as made:
        yield made


class Tensor:
    """As much of a torch tensor as reading one takes, on another device and with a gradient."""

    def __init__(self, values: Any) -> None:
        self._values, self._ready = np.asarray(values), 0
        self.shape = self._values.shape

    def detach(self) -> Tensor:
        self._ready |= 1
        return self

    def cpu(self) -> Tensor:
        self._ready |= 2
        return self

    def numpy(self) -> Any:
        assert self._ready == 3, "a tensor on a device, with a gradient, has no numpy()"
        return self._values

    def item(self) -> Any:
        return self._values.item()


# The law --------------------------------------------------------------------------------------------------------------

STEP = st.none() | st.integers(0, 60)
PHASE = st.sampled_from(
    ["warmup", "analysis", "pruning", "fine_tuning", "fine-tuning", "evaluation", "my phase", "漢字"]
)
NAME = st.sampled_from(["loss", "perplexity", "sparsity", "val/acc", "名", "</script>", ""])
BOX: list[Callable[[float], Any]] = [float, np.float64, np.array, Tensor, lambda value: np.array([value])]
NUMBER = st.tuples(st.floats(), st.sampled_from(BOX))
POSSIBLE: dict[str, Callable[[float], float]] = {
    "perplexity": abs,
    "sparsity": lambda value: abs(value) if math.isnan(value) else min(1.0, abs(value)),
}  # what a figure of that name can be
ARRAY_BOX: list[Callable[[Any], Any]] = [np.array, Tensor, lambda rows: rows.tolist()]
GRID = st.tuples(
    st.lists(st.floats(), min_size=SHAPE[0] * SHAPE[1], max_size=SHAPE[0] * SHAPE[1]), st.sampled_from(ARRAY_BOX)
)
SPELLING: list[Callable[[tuple[int, int]], Any]] = [
    tuple,
    list,
    lambda head: f"{head[0]}.{head[1]}",
    lambda head: np.array(head),
]
HEADS = st.lists(
    st.tuples(
        st.tuples(st.integers(0, SHAPE[0] - 1), st.integers(0, SHAPE[1] - 1)), st.sampled_from(SPELLING)
    ),
    max_size=4,
)  # fmt: skip
MORE = st.dictionaries(NAME, st.integers(), max_size=2)
CALL = st.one_of(
    st.tuples(st.just("step"), STEP, st.dictionaries(NAME, NUMBER, max_size=3), st.none() | PHASE, st.booleans()),
    st.tuples(st.just("prune"), STEP, HEADS, st.none() | st.integers(0, 9), MORE),
    st.tuples(st.just("scores"), STEP, GRID, st.sampled_from(["entropy", "gradient"])),
    st.tuples(st.just("enter"), STEP, PHASE),
    st.tuples(st.just("text"), STEP, st.text(max_size=5), st.text(max_size=5)),
    st.tuples(st.just("look")),
)  # fmt: skip


@dataclass
class Told:
    """What was told, as a person would write it down."""

    last: int = -1
    phase: str = ""
    phases: list[tuple[str, int]] = field(default_factory=list)
    metrics: list[tuple[int, str, dict[str, float]]] = field(default_factory=list)
    stable: list[int] = field(default_factory=list)
    pruned: list[tuple[int, list[tuple[int, int]]]] = field(default_factory=list)
    cycles: list[int | None] = field(default_factory=list)
    scores: list[tuple[int, str, Any]] = field(default_factory=list)
    texts: list[tuple[int, str, str]] = field(default_factory=list)

    def at(self, step: int | None) -> int:
        self.last = self.last + 1 if step is None else step
        return self.last

    def enter(self, phase: str, step: int) -> None:
        self.phase = phase_name(phase)
        self.phases.append((self.phase, step))


def play(call: Any, dashboard: MultiPhaseDashboard, told: Told) -> None:
    kind, *arguments = call
    PLAYERS[kind](dashboard, told, *arguments)


def _step(dashboard: MultiPhaseDashboard, told: Told, step: Any, numbers: Any, phase: Any, stable: bool) -> None:
    numbers = {name: (POSSIBLE.get(name, float)(value), box) for name, (value, box) in numbers.items()}
    metrics: dict[str, Any] = {name: box(value) for name, (value, box) in numbers.items()}
    metrics |= {} if phase is None else {"phase": phase}
    metrics |= {"stabilized": True} if stable else {}
    dashboard.record_step(metrics, step)
    at = told.at(step)
    if phase is not None and phase_name(phase) != told.phase:
        told.enter(phase, at)
    if numbers or not metrics:
        told.metrics.append((at, told.phase, {name: float(value) for name, (value, _) in numbers.items()}))
    told.stable += [at] if stable else []


def _prune(dashboard: MultiPhaseDashboard, told: Told, step: Any, heads: Any, cycle: Any, more: Any) -> None:
    gone = {head for _, earlier in told.pruned for head in earlier}
    heads = [(head, spell) for head, spell in dict(heads).items() if head not in gone]  # a head goes once
    info = {"pruned_heads": [spell(head) for head, spell in heads], **more}
    dashboard.record_pruning_event(info if cycle is None else {**info, "cycle": cycle}, step)
    told.pruned.append((told.at(step), [head for head, _ in heads]))
    told.cycles.append(cycle)
    shown = dashboard.pruning_info[-1]
    assert {name: shown[name] for name in more} == more


def _scores(dashboard: MultiPhaseDashboard, told: Told, step: Any, grid: Any, criterion: str) -> None:
    values, box = grid
    array = np.array(values).reshape(SHAPE)
    log = {"entropy": dashboard.log_entropy_heatmap, "gradient": dashboard.log_gradient_heatmap}[criterion]
    log(box(array), step)
    told.scores.append((told.at(step), criterion, array))


def _enter(dashboard: MultiPhaseDashboard, told: Told, step: Any, phase: str) -> None:
    dashboard.record_phase_transition(phase, step)
    told.enter(phase, told.at(step))


def _text(dashboard: MultiPhaseDashboard, told: Told, step: Any, prompt: str, text: str) -> None:
    dashboard.log_text_sample(prompt, text, step)
    told.texts.append((told.at(step), prompt, text))


def look(dashboard: MultiPhaseDashboard, told: Told) -> None:
    """The attributes are what was told so far."""
    assert list(zip(dashboard.phases, dashboard.phase_transitions, strict=True)) == told.phases
    assert dashboard.current_phase == told.phase
    assert dashboard.all_steps == [step for step, _, _ in told.metrics]
    for name, values in (
        ("loss", dashboard.all_loss),
        ("perplexity", dashboard.all_perplexity),
        ("sparsity", dashboard.all_sparsity),
    ):
        np.testing.assert_equal(values, [numbers.get(name, math.nan) for _, _, numbers in told.metrics])
    assert dashboard.stabilization_points == told.stable
    assert [(one["step"], one["pruned_heads"]) for one in dashboard.pruning_info] == told.pruned


PLAYERS: dict[str, Callable[..., None]] = {
    "step": _step, "prune": _prune, "scores": _scores, "enter": _enter, "text": _text, "look": look,
}  # fmt: skip


def test_what_is_read_back_is_what_was_told(tmp_path_factory: pytest.TempPathFactory) -> None:
    # Shrinking writes hundreds of runs, and a sequence of calls is readable without it.
    @settings(max_examples=50, phases=(Phase.explicit, Phase.generate))
    @given(st.lists(CALL, max_size=14))
    def law(sequence: list[Any]) -> None:
        told = Told()
        directory = tmp_path_factory.mktemp("law")
        with MultiPhaseDashboard(output_dir=directory, mode="disabled") as dashboard:
            for call in sequence:
                play(call, dashboard, told)
            look(dashboard, told)
        with open_run(directory) as run:
            found = [(one.step, one.phase, dict(one.metrics)) for one in run.events(StepMetrics)]  # type: ignore[attr-defined]
            np.testing.assert_equal(found, told.metrics)
            assert [one.step for one in run.events(Stabilised)] == told.stable
            assert [(one.phase, one.step) for one in run.events(PhaseStarted)] == told.phases
            assert [(one.step, one.prompt, one.text) for one in run.samples()] == told.texts
            scores = [(one.step, name, grid) for one in run.events(HeadScores) for name, grid in one.scores.items()]  # type: ignore[attr-defined]
            np.testing.assert_equal(scores, told.scores)
            pruned = [one for one in run.decisions() if isinstance(one, HeadsPruned)]
            assert [(one.step, list(one.heads)) for one in pruned] == told.pruned
            assert all(cycle in (None, one.cycle) for one, cycle in zip(pruned, told.cycles, strict=True))
            anew = History()
            anew.catch_up(run)
            np.testing.assert_equal(vars(dashboard._seen), vars(anew))  # what was kept on the way is what is there
            look(dashboard, told)  # after the end, too
            assert run.summary().state == "finished"

    law()


@pytest.mark.parametrize("phase", PHASES)
def test_the_names_of_phases_are_known_however_they_are_capitalised(phase: str) -> None:
    assert {phase_name(spelt) for spelt in (phase, phase.title(), phase.upper(), f" {phase} ")} == {phase}
    assert phase_name("Fine_Tuning") == phase_name("FINETUNING") == "fine-tuning"
    assert phase_name(" My Phase") == "My Phase"


def test_the_cycle_follows_from_phases_and_prunings(dashboard: MultiPhaseDashboard) -> None:
    for phase in ("warmup", "analysis", "pruning"):
        dashboard.set_phase(phase)
    for head in ("0.0", "0.1"):  # one cycle prunes in two steps
        dashboard.record_pruning_event({"pruned_heads": [head]}, None)
    for phase in ("fine-tuning", "analysis", "pruning"):
        dashboard.set_phase(phase)
    dashboard.record_pruning_event({"pruned_heads": ["0.2"]}, None)
    dashboard.set_phase("fine-tuning")
    dashboard.record_pruning_event({"pruned_heads": ["0.3"]}, None)
    assert [one["cycle"] for one in dashboard.pruning_info] == [1, 1, 2, 3]
    spans = [(span.phase, span.cycle) for span in dashboard.run.phases()]
    assert spans == [
        ("warmup", 0), ("analysis", 1), ("pruning", 1), ("fine-tuning", 1), ("analysis", 2), ("pruning", 2),
        ("fine-tuning", 2),
    ]  # fmt: skip


# What else can be recorded --------------------------------------------------------------------------------------------


def last(dashboard: MultiPhaseDashboard, kind: type[Event], count: int = 1) -> Any:
    found = list(dashboard.run.events(kind))[-count:]
    return found[0] if count == 1 else found


def test_head_metrics_by_head_and_as_arrays(dashboard: MultiPhaseDashboard) -> None:
    dashboard.record_head_metrics({"0.1": {"entropy": 0.3}, (2, 0): {"entropy": 0.5, "gradient": Tensor(0.1)}}, 5)
    assert dashboard.run.shape == (3, 2)  # not known yet: as large as what was named
    scores = last(dashboard, HeadScores).scores
    np.testing.assert_equal(scores["entropy"], [[np.nan, 0.3], [np.nan, np.nan], [0.5, np.nan]])
    dashboard.record_head_metrics({"entropy": np.ones(SHAPE), "mine": [[0.0] * 6] * 4}, None)
    assert last(dashboard, HeadScores).step == 6
    assert dashboard.run.shape == SHAPE
    dashboard.record_head_metrics({"3.5": {"entropy": 0.7}}, None)
    assert last(dashboard, HeadScores).scores["entropy"].shape == SHAPE


def test_growth_of_pruned_and_of_new_heads(dashboard: MultiPhaseDashboard) -> None:
    dashboard.log_entropy_heatmap(np.zeros(SHAPE))
    dashboard.record_pruning_event({"pruned_heads": [(0, 2), (1, 3)], "score": np.ones(SHAPE), "threshold": 0.5,
                                    "reasons": {(0, 2): "weak", "1.3": "weaker"}}, 10)  # fmt: skip
    dashboard.record_growth_event({"grown_heads": ["0.2"], "added_heads": [[4, 0]], "strategy": "gradient"}, 20)
    grid = dashboard.run.heads()
    assert grid.shape == (5, 6)
    assert (grid[0, 2], grid[1, 3], grid[4, 0], grid[4, 1]) == (2, 0, 3, -1)
    dashboard.log_entropy_heatmap(np.zeros((5, 6)))  # the model's new size
    pruned = dashboard.run.decisions()[0]
    assert isinstance(pruned, HeadsPruned)
    assert pruned.reasons == {"0.2": "weak", "1.3": "weaker"}
    assert dashboard.pruning_info[0]["threshold"] == 0.5


def test_evaluations_of_models_and_of_the_present_one(dashboard: MultiPhaseDashboard) -> None:
    dashboard.record_evaluation({"perplexity": np.float32(20.0)}, 0)
    dashboard.record_pruning_event({"pruned_heads": ["0.0"]}, 1)
    dashboard.record_evaluation({"perplexity": 22, "split": "test"}, 2)
    dashboard.record_evaluation(
        {"baseline": {"loss": 3.0}, "control": {"loss": 2.9}, "sequences": 64, "tokens": 640}, 3
    )
    dashboard.log_perplexity_comparison([10.0, 40.0], (20.0, 20.0), texts=["a", "b"])
    found = dashboard.run.evaluations()
    assert [dict(one.results) for one in found[:2]] == [
        {"baseline": {"perplexity": 20.0}}, {"pruned": {"perplexity": 22.0, "split": "test"}}
    ]  # fmt: skip
    assert (found[2].sequences, found[2].tokens) == (64, 640)
    assert found[3].results["baseline"]["perplexity"] == pytest.approx(20.0)  # the geometric mean
    assert found[3].details == {"texts": ("a", "b"), "perplexities": {"baseline": (10.0, 40.0), "pruned": (20.0, 20.0)}}


def test_attention_of_one_head_and_as_a_model_returns_it(dashboard: MultiPhaseDashboard) -> None:
    pattern = np.tril(np.ones((3, 3)))
    dashboard.log_attention_visualization(pattern, None, "three small words", 1, 2)
    (one,) = dashboard.run.attention(model="baseline")
    assert (one.heads, one.tokens) == (((1, 2),), ("three", "small", "words"))
    np.testing.assert_equal(one.pattern(1, 2), pattern)
    assert one.pattern(0, 0) is None
    dashboard.record_attention(tuple(np.full((1, 6, 3, 3), layer / 4) for layer in range(4)), ["a", "b", "c"])
    (whole,) = dashboard.run.attention(model="current")
    assert whole.maps.shape == (4, 6, 3, 3)
    assert whole.pattern(2, 5)[0, 0] == 0.5  # type: ignore[index]
    assert dashboard.run.shape == SHAPE


def test_embeddings(dashboard: MultiPhaseDashboard) -> None:
    dashboard.record_embedding(np.eye(3), labels=["a", "b", "c"], name="tokens", layer=2)
    found = last(dashboard, Embedding)
    assert (found.name, found.layer, found.labels, found.vectors.shape) == ("tokens", 2, ("a", "b", "c"), (3, 3))


def test_the_inference_dashboard_is_its_three_parts(dashboard: MultiPhaseDashboard) -> None:
    dashboard.log_inference_dashboard(
        {"baseline": 10.0, "pruned": 11.0},
        [{"prompt": "p", "baseline_text": "b", "pruned_text": "q", "metrics": {"tokens": 3}}],
        {"baseline_attention": np.eye(2), "pruned_attention": np.eye(2), "text": "x y", "layer_idx": 0, "head_idx": 1},
        step=7,
    )
    assert [(one.model, one.text, dict(one.metrics)) for one in dashboard.run.samples()] == [
        ("baseline", "b", {}), ("pruned", "q", {"tokens": 3.0})
    ]  # fmt: skip
    assert len(dashboard.run.attention()) == 2
    assert {one.step for one in (*dashboard.run.samples(), *dashboard.run.evaluations())} == {7}


def test_callbacks_in_both_orders(dashboard: MultiPhaseDashboard) -> None:
    metrics, sample = dashboard.get_metrics_callback(), dashboard.get_sample_callback()
    arrays = {"entropy_values": np.ones(SHAPE), "grad_norm_values": Tensor(np.zeros(SHAPE))}
    metrics(3, {"loss": 1.0, "phase": "warmup", **arrays})
    metrics({"loss": 2.0}, 4)
    metrics(metrics={"loss": 3.0}, step=5)
    sample(6, {"input_text": "in", "generated_text": "out", "model_type": "pruned", "score": 0.5})
    sample("text", "prompt", "baseline")
    sample(generated_text="again", prompt="prompt")
    assert (dashboard.all_steps, dashboard.all_loss, dashboard.phases) == ([3, 4, 5], [1.0, 2.0, 3.0], ["warmup"])
    assert set(last(dashboard, HeadScores).scores) == {"entropy", "gradient"}
    told = [(one.step, one.prompt, one.text, one.model) for one in dashboard.run.samples()]
    assert told == [(6, "in", "out", "pruned"), (7, "prompt", "text", "baseline"), (8, "prompt", "again", "current")]
    assert dashboard.run.samples()[0].details == {"score": 0.5}


def test_torch_scalars_and_arrays(dashboard: MultiPhaseDashboard) -> None:
    torch = pytest.importorskip("torch")
    loss = torch.tensor(1.5, requires_grad=True)
    dashboard.record_step({"loss": loss * 2, "half": torch.tensor(0.5, dtype=torch.bfloat16)}, torch.tensor(4))
    dashboard.log_gradient_heatmap(torch.full(SHAPE, 0.25, dtype=torch.bfloat16, requires_grad=True))
    dashboard.log_entropy_heatmap([torch.ones(6)] * 4)
    dashboard.record_pruning_event({"pruned_heads": torch.tensor([[0, 2], [1, 3]]), "kept": loss}, None)
    assert (dashboard.all_steps, dashboard.all_loss) == ([4], [3.0])
    assert dashboard.run.scores("gradient")[0, 0] == 0.25
    assert dashboard.pruning_info[0]["pruned_heads"] == [(0, 2), (1, 3)]
    assert dashboard.pruning_info[0]["kept"] == 1.5


# Tags, notes, tables --------------------------------------------------------------------------------------------------


def test_tags_and_notes_can_be_edited_while_it_runs_and_long_after(tmp_path: Path) -> None:
    dashboard = MultiPhaseDashboard(output_dir=tmp_path, mode="disabled", tags=["first"])
    dashboard.record_step({"loss": 1.0}, 9)
    dashboard.annotate(note="promising")
    assert (dashboard.tags, dashboard.note) == (("first",), "promising")
    dashboard.finish()
    before = open_run(tmp_path).summary()
    dashboard.annotate(tags=["second", "kept"])
    npl.annotate(tmp_path, note="")
    after = open_run(tmp_path)
    assert (after.annotation.tags, after.annotation.note) == (("second", "kept"), "")
    assert (after.summary().state, after.summary().step) == ("finished", 9)
    assert (after.summary().seconds, len(after.attempts)) == (before.seconds, 1)
    with pytest.raises(RecordError, match="expected a run directory"):
        npl.annotate(tmp_path / "nowhere", note="x")


def test_series_as_pandas_and_csv(dashboard: MultiPhaseDashboard, tmp_path: Path) -> None:
    dashboard.record_step({"loss": 2.0, "odd": 1}, 1)
    dashboard.record_step({"loss": math.nan}, 2)
    np.testing.assert_equal(dashboard.to_pandas("loss")["loss"].tolist(), [2.0, math.nan])
    rows = dashboard.to_csv(tmp_path / "all.csv").read_text().splitlines()
    assert [row.split(",")[-2:] for row in rows] == [["loss", "odd"], ["2.0", "1.0"], ["nan", ""]]
