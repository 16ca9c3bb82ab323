"""Bad input to a dashboard as a table: one line that names the argument, and nothing of the call on record."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neural_plasticity import MultiPhaseDashboard, WandbDashboard
from neural_plasticity.errors import InputError
from neural_plasticity.events import HeadsGrown, HeadsPruned, LogLine
from neural_plasticity.record import open_run

SHAPE = (4, 6)
D = MultiPhaseDashboard
GRID = np.zeros(SHAPE)


class Raising:
    """A tensor of many elements."""

    shape = (2,)

    def item(self) -> Any:
        raise RuntimeError("only one element tensors can be converted to Python scalars")


LOOP: dict[str, Any] = {}
LOOP["itself"] = LOOP


def prune(dashboard: D, **more: Any) -> None:
    """One head, and what else is told about it."""
    dashboard.record_pruning_event({"pruned_heads": [(0, 1)], **more}, 1)


# call, what the message must say
CASES: dict[str, tuple[Callable[[D], object], list[str]]] = {
    "metrics that are no dict": (lambda d: d.record_step(3), ["metrics: expected a dict", "int 3"]),  # type: ignore[arg-type]
    "a metric that is text": (lambda d: d.record_step({"loss": 1.0, "x": "high"}), ["metrics['x']", "str 'high'"]),
    "a metric that is None": (lambda d: d.log_metrics({"x": None}), ["metrics['x']", "NoneType"]),
    "a metric that is an array": (lambda d: d.log_metrics({"x": np.zeros(3)}), ["metrics['x']", "shape (3,)"]),
    "a metric that is a large tensor": (lambda d: d.log_metrics({"x": Raising()}), ["metrics['x']", "shape (2,)"]),
    "a metric that is complex": (lambda d: d.log_metrics({"x": 1j}), ["metrics['x']", "complex"]),
    "a metric beyond a float": (lambda d: d.log_metrics({"x": 10**400}), ["metrics['x']"]),
    "a metric without a name": (lambda d: d.log_metrics({1: 1.0}), ["metrics: expected names", "int 1"]),  # type: ignore[dict-item]
    "a negative step": (lambda d: d.record_step({"loss": 1.0}, -1), ["step:", "int -1"]),
    "a step that is text": (lambda d: d.record_step({"loss": 1.0}, "7"), ["step:", "str '7'"]),  # type: ignore[arg-type]
    "a step with a fraction": (lambda d: d.record_step({"loss": 1.0}, 1.5), ["step:", "float 1.5"]),  # type: ignore[arg-type]
    "a step that is True": (lambda d: d.record_step({"loss": 1.0}, True), ["step:", "bool True"]),
    "a step beyond 64 bits": (lambda d: d.record_step({"loss": 1.0}, 2**63), ["step:", "2^63"]),
    "a phase that is a number": (lambda d: d.record_phase_transition(3, 1), ["phase:", "int 3"]),  # type: ignore[arg-type]
    "a phase without a name": (lambda d: d.set_phase(" "), ["phase:", "empty"]),
    "a phase in metrics that is a list": (lambda d: d.record_step({"phase": ["x"]}), ["metrics['phase']"]),
    "a stable point's phase": (lambda d: d.record_stabilization_point(1, 2), ["phase"]),  # type: ignore[arg-type]
    "pruning that is no dict": (lambda d: d.record_pruning_event([(0, 1)], 1), ["info: expected a dict"]),  # type: ignore[arg-type]
    "pruning without heads": (lambda d: d.log_pruning_decision({"heads": []}), ["decision:", "'pruned_heads'"]),
    "heads beyond any model": (
        lambda d: d.record_pruning_event({"pruned_heads": [(10**6, 10**6)]}, 1),
        ["info['pruned_heads'][0]", "1000000"],
    ),
    "heads that are text": (lambda d: d.record_pruning_event({"pruned_heads": "0.1"}, 1), ["info['pruned_heads']"]),
    "a head outside the grid": (
        lambda d: d.record_pruning_event({"pruned_heads": [(0, 1), (4, 0)]}, 1),
        ["info['pruned_heads']", "L4H0", "4 layers × 6 heads"],
    ),
    "a negative head": (lambda d: d.record_pruning_event({"pruned_heads": [(-1, 0)]}, 1), ["info['pruned_heads'][0]"]),
    "a head of three numbers": (lambda d: d.record_pruning_event({"pruned_heads": ["1.2.3"]}, 1), ["'1.2.3'"]),
    "a head with a fraction": (lambda d: d.record_pruning_event({"pruned_heads": [(0.5, 1)]}, 1), ["float 0.5"]),
    "a head that is one number": (lambda d: d.record_pruning_event({"pruned_heads": [3]}, 1), ["[0]", "int 3"]),
    "a cycle that is text": (lambda d: prune(d, cycle="1"), ["info['cycle']"]),
    "a strategy that is none": (lambda d: prune(d, strategy=3), ["info['strategy']"]),
    "a level that is text": (lambda d: prune(d, pruning_level="a"), ["info['pruning_level']"]),
    "a level beyond all heads": (lambda d: prune(d, pruning_level=7), ["info['pruning_level']", "0 to 1", "int 7"]),
    "a level below none": (lambda d: prune(d, pruning_level=-3), ["info['pruning_level']", "int -3"]),
    "a level that is NaN": (lambda d: prune(d, pruning_level=math.nan), ["info['pruning_level']", "nan"]),
    "a head pruned twice at once": (
        lambda d: d.record_pruning_event({"pruned_heads": [(0, 1), "0.1"]}, 1), ["info['pruned_heads']", "L0H1 twice"]
    ),
    "a head grown twice at once": (
        lambda d: d.record_growth_event({"grown_heads": [(0, 1), [0, 1]]}, 1), ["info['grown_heads']", "L0H1 twice"]
    ),
    "a sparsity beyond all heads": (
        lambda d: d.record_step({"loss": 1.0, "sparsity": 5}), ["metrics['sparsity']", "from 0 to 1", "int 5"]
    ),
    "a sparsity below none": (lambda d: d.log_metrics({"sparsity": -0.1}), ["metrics['sparsity']"]),
    "a perplexity below 0": (lambda d: d.log_metrics({"perplexity": -1.0}), ["metrics['perplexity']", "0 or more"]),
    "an evaluated perplexity below 0": (
        lambda d: d.record_evaluation({"baseline": {"perplexity": 9.0}, "pruned": {"perplexity": -5}}, 1),
        ["results['pruned']['perplexity']", "int -5"],
    ),
    "an evaluated sparsity beyond all heads": (
        lambda d: d.record_evaluation({"sparsity": 5.0}, 1), ["results['baseline']['sparsity']"]
    ),
    "a compared perplexity below 0": (lambda d: d.log_perplexity_comparison(-1, 2.0), ["baseline_perplexity", "-1"]),
    "one of several perplexities below 0": (
        lambda d: d.log_perplexity_comparison([1.0, 2.0], [1.0, -1.0]), ["pruned_perplexity[1]"]
    ),
    "an inference dashboard's perplexity below 0": (
        lambda d: d.log_inference_dashboard({"baseline": 1.0, "pruned": -2.0}, []), ["pruned_perplexity"]
    ),
    "a text's perplexity below 0": (
        lambda d: d.log_inference_comparison("p", "b", "q", metrics={"perplexity": -1}), ["metrics['perplexity']"]
    ),
    "scores of another shape": (lambda d: prune(d, score=np.zeros((6, 4))), ["info['score']"]),
    "reasons for no head": (lambda d: prune(d, reasons={"x": "y"}), ["info['reasons']['x']"]),
    "details that contain themselves": (lambda d: prune(d, x=LOOP), ["info:"]),
    "growth of nothing": (lambda d: d.record_growth_event({"heads": []}, 1), ["info:", "'grown_heads'"]),
    "growth outside the grid": (lambda d: d.record_growth_event({"grown_heads": ["0.6"]}, 1), ["L0H6"]),
    "a heatmap of another shape": (
        lambda d: d.log_entropy_heatmap(np.zeros((4, 7))),
        ["entropy_values", "(4, 6)", "(4, 7)", "config"],
    ),
    "a heatmap of three dimensions": (
        lambda d: d.log_gradient_heatmap(np.zeros((1, 4, 6))), ["gradient_values", "(layers, heads)"]
    ),
    "a ragged heatmap": (lambda d: d.log_entropy_heatmap([[1.0], [1.0, 2.0]]), ["entropy_values"]),
    "a heatmap of text": (lambda d: d.log_entropy_heatmap([["a"] * 6] * 4), ["entropy_values", "numbers"]),
    "a heatmap of objects": (lambda d: d.log_entropy_heatmap([[None] * 6] * 4), ["entropy_values", "numbers"]),
    "head metrics outside the grid": (lambda d: d.record_head_metrics({"9.9": {"entropy": 1}}, 1), ["metrics", "L9H9"]),
    "a head metric that is text": (lambda d: d.record_head_metrics({"0.1": {"e": "x"}}, 1), ["metrics['0.1']['e']"]),
    "head metrics under no head": (lambda d: d.record_head_metrics({"entropy": {"a": 1}}, 1), ["metrics['entropy']"]),
    "evaluation mixed": (lambda d: d.record_evaluation({"loss": 1, "pruned": {}}, 1), ["results:", "mixed"]),
    "a figure that is an array": (
        lambda d: d.record_evaluation({"loss": np.zeros(2)}, 1), ["results['baseline']['loss']"]
    ),
    "a prompt that is none": (lambda d: d.log_text_sample(None, "x"), ["prompt:"]),  # type: ignore[arg-type]
    "a text that is none": (lambda d: d.log_text_sample("x", 3), ["generated_text:"]),  # type: ignore[arg-type]
    "a model without a name": (lambda d: d.log_text_sample("x", "y", model_type=None), ["model_type:"]),  # type: ignore[arg-type]
    "a comparison's second text": (lambda d: d.log_inference_comparison("p", "b", 2), ["pruned_text:"]),  # type: ignore[arg-type]
    "a comparison's metrics": (
        lambda d: d.log_inference_comparison("p", "b", "q", metrics={"pruned": {"t": "x"}}), ["metrics['t']"]
    ),
    "a perplexity that is text": (lambda d: d.log_perplexity_comparison(1.0, "low"), ["pruned_perplexity"]),
    "texts that are numbers": (lambda d: d.log_perplexity_comparison(1.0, 2.0, texts=[3]), ["texts[0]"]),  # type: ignore[list-item]
    "attention that is not square": (
        lambda d: d.log_attention_visualization(np.eye(3), np.zeros((3, 4)), "x", 0, 1), ["pruned_attention", "(3, 4)"]
    ),
    "attention of a head outside": (
        lambda d: d.log_attention_visualization(np.eye(3), np.eye(3), "x", 0, 6), ["head_idx", "L0H6"]
    ),
    "attention of another size": (lambda d: d.record_attention(np.zeros((2, 2, 3, 3)), "x"), ["attention", "(4, 6)"]),
    "attention of two dimensions": (lambda d: d.record_attention(np.eye(3), "x"), ["attention", "layer_idx"]),
    "tokens that do not fit": (
        lambda d: d.record_attention(np.eye(3), ["a"], layer_idx=0, head_idx=0), ["text:", "3 tokens"]
    ),
    "an inference dashboard's parts": (
        lambda d: d.log_inference_dashboard({"baseline": 1.0, "pruned": 2.0}, [{"prompt": "p"}]),
        ["generation_samples[0]", "pruned_text"],
    ),
    "an inference dashboard's perplexity": (lambda d: d.log_inference_dashboard({}, []), ["perplexity_data"]),
    "an embedding's labels": (lambda d: d.record_embedding(np.eye(3), labels=["a"]), ["labels:", "3"]),
    "an embedding of one dimension": (lambda d: d.record_embedding([1.0]), ["vectors", "(points, dimensions)"]),
    "tags that are numbers": (lambda d: d.annotate(tags=[1]), ["tags[0]"]),  # type: ignore[list-item]
    "a note that is none": (lambda d: d.annotate(note=3), ["note:"]),  # type: ignore[arg-type]
    "a metrics callback's metrics": (lambda d: d.get_metrics_callback()(1, 2), ["metrics:"]),
    "a sample callback's sample": (lambda d: d.get_sample_callback()(1, {"prompt": "p"}), ["sample:"]),
    "a path that is a number": (lambda d: d.visualize_complete_process(3), ["save_path:"]),  # type: ignore[arg-type]
    "a figure of an unknown kind": (lambda d: d.visualize_complete_process("a.what"), ["a.what", ".png"]),
    "a page in a place that cannot be": (lambda d: d.generate_standalone_dashboard("/proc/no"), ["/proc/no"]),
    "a page in no place": (lambda d: d.generate_standalone_dashboard(None), ["output_dir:"]),  # type: ignore[arg-type]
}  # fmt: skip


@pytest.fixture(scope="module")
def dashboard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[D]:
    config = {"num_layers": SHAPE[0], "num_heads": SHAPE[1]}
    with D(output_dir=tmp_path_factory.mktemp("run"), config=config, mode="disabled") as made:
        yield made


@pytest.mark.parametrize("case", CASES)
def test_one_line_that_names_the_argument_and_nothing_on_record(case: str, dashboard: D) -> None:
    call, expected = CASES[case]
    dashboard.record_step({"loss": 1.0, "phase": "warmup"}, 50)
    before = dashboard.run.last_seq
    with pytest.raises(InputError) as caught:
        call(dashboard)
    message = str(caught.value)
    assert "\n" not in message
    assert all(part in message for part in expected), message
    assert dashboard.run.last_seq == before
    dashboard.record_step({"loss": 2.0})
    assert (dashboard.all_steps[-1], dashboard.current_phase) == (51, "warmup")


def test_a_call_is_on_record_as_a_whole_or_not_at_all(dashboard: D) -> None:
    """The second half of each call is wrong."""
    before = dashboard.run.last_seq
    with pytest.raises(InputError):
        dashboard.log_inference_comparison("p", "b", None)  # type: ignore[arg-type]
    with pytest.raises(InputError):
        dashboard.record_step({"phase": "new phase", "loss": "x"}, 60)
    assert dashboard.run.last_seq == before
    assert "new phase" not in dashboard.phases


def heads_told(dashboard: D) -> tuple[list[list[str]], list[str]]:
    """The heads of every pruning and growth on record, and the warnings."""
    with open_run(dashboard.run.path) as run:
        events = [recorded.event for recorded in run.records()]
    heads = [[str(head) for head in one.heads] for one in events if isinstance(one, HeadsPruned | HeadsGrown)]
    return heads, [one.message for one in events if isinstance(one, LogLine) and one.level == "warning"]


def test_what_was_told_before_is_left_out_and_said(tmp_path: Path) -> None:
    """A training must not end because its script names all pruned heads each time."""
    with D(output_dir=tmp_path / "run", mode="disabled") as dashboard:
        prune = lambda step, *heads: dashboard.record_pruning_event({"pruned_heads": heads}, step)  # noqa: E731
        grow = lambda step, *heads: dashboard.record_growth_event({"grown_heads": heads}, step)  # noqa: E731
        _, warned = heads_told(dashboard)
        assert not any("counted again" in line for line in warned)
        grow(1, "2.0")  # a script that went on with a model pruned before, of which nothing was told
        prune(10, "0.1")
        prune(20, "0.0", "0.1")
        grow(25, "2.0")
        grow(30, "0.1")
        prune(40, "0.1")
        dashboard.record_growth_event({"added_heads": ["0.1", "0.9"]}, 50)  # another one in its place
        dashboard.record_growth_event({"added_heads": ["0.9"]}, 60)
        prune(15, "0.0")  # steps went back to before it was pruned: an earlier model, it seems
        heads, warned = heads_told(dashboard)
    assert heads == [["L2H0"], ["L0H1"], ["L0H0"], [], ["L0H1"], ["L0H1"], ["L0H1", "L0H9"], [], ["L0H0"]]
    assert [line for line in warned if "counted again" in line] == [
        "info['pruned_heads']: L0H1 was pruned at step 10 and has not come back since; it is not counted again",
        "info['grown_heads']: L2H0 came at step 1 and has not been pruned since; it is not counted again",
        "info['added_heads']: L0H9 came at step 50 and has not been pruned since; it is not counted again",
    ]


def test_what_never_went_and_comes_back_is_said_where_the_script_said_that_all_heads_were_on(tmp_path: Path) -> None:
    with D(output_dir=tmp_path / "run", mode="disabled") as dashboard:
        dashboard.record_step({"loss": 2.5, "sparsity": 0.0, "phase": "warmup"}, 10)
        dashboard.record_pruning_event({"pruned_heads": ["0.1", "0.2"]}, 100)
        dashboard.record_growth_event({"grown_heads": ["0.1"], "added_heads": ["1.9"]}, 110)
        dashboard.record_growth_event({"grown_heads": ["1.1"]}, 120)
        dashboard.set_phase("growth", 0)  # steps counted anew in each phase
        dashboard.record_growth_event({"grown_heads": ["2.2"]}, 5)
        heads, warned = heads_told(dashboard)
    assert heads == [["L0H1", "L0H2"], ["L0H1"], ["L1H9"], ["L1H1"], ["L2H2"]]
    assert [line for line in warned if "never pruned" in line] == [
        "info['grown_heads']: L1H1 came back, but was never pruned; new heads go under 'added_heads'"
    ]


def test_figures_that_can_be_are_taken(tmp_path: Path) -> None:
    with D(output_dir=tmp_path / "run", mode="disabled") as dashboard:
        for value in (0, 1, 0.5, math.nan, np.float32(1) + np.float32(1e-7), -1e-9):
            dashboard.record_step({"sparsity": value, "loss": -3.0, "my_sparsity": 20.0})
        for value in (0.0, 1e9, math.inf, math.nan):
            dashboard.log_perplexity_comparison(value, value)
        for level in (0, 0.2, 1.0):
            dashboard.record_pruning_event({"pruned_heads": [], "pruning_level": level}, None)


BAD_BEGINNINGS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "project": ({"project_name": None}, ["project_name:"]),
    "name": ({"experiment_name": 3}, ["experiment_name:", "int 3"]),
    "directory of the wrong type": ({"output_dir": 3}, ["output_dir:", "int 3"]),
    "directory that cannot be made": ({"output_dir": "/proc/no/run"}, ["output_dir:", "/proc/no"]),
    "directory that is a file": ({"output_dir": __file__}, ["output_dir:", "a file is in the way"]),
    "config": ({"config": [1]}, ["config:", "dict"]),
    "config that contains itself": ({"config": LOOP}, ["config:"]),
    "mode": ({"mode": "sometimes"}, ["mode:", "sometimes", "offline"]),
    "mode of the wrong type": ({"mode": 3}, ["mode:", "int 3"]),
    "log-in": ({"auto_login": "yes"}, ["auto_login:"]),
    "tags": ({"tags": [1]}, ["tags[0]"]),
}


@pytest.mark.parametrize("case", BAD_BEGINNINGS)
def test_a_beginning_that_cannot_be(case: str, tmp_path: Path) -> None:
    arguments, expected = BAD_BEGINNINGS[case]
    with pytest.raises(InputError) as caught:
        WandbDashboard(**{"mode": "disabled", **arguments})
    message = str(caught.value)
    assert "\n" not in message
    assert all(part in message for part in expected), message
    assert list(tmp_path.iterdir()) == []


def test_an_environment_that_names_no_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "sometimes")
    with pytest.raises(InputError, match=r"WANDB_MODE: .*sometimes"):
        WandbDashboard()


def test_a_shape_that_is_not_known_yet_is_learnt_and_then_kept(tmp_path: Path) -> None:
    with D(output_dir=tmp_path / "run", mode="disabled") as dashboard:
        dashboard.record_pruning_event({"pruned_heads": [(3, 5)]}, 1)
        with pytest.raises(InputError, match="at least 4 layers × 6 heads"):
            dashboard.log_entropy_heatmap(np.zeros((3, 3)))
        dashboard.log_entropy_heatmap(GRID)
        with pytest.raises(InputError, match=r"gradient_values: .*as in entropy_values"):
            dashboard.log_gradient_heatmap(np.zeros((8, 8)))
        with pytest.raises(InputError, match="L4H0"):
            dashboard.record_pruning_event({"pruned_heads": [(4, 0)]}, 1)
    assert open_run(tmp_path / "run").heads().shape == SHAPE
