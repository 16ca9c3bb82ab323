"""Section E of the specification: its Python word by word from a checkout, and every signature of its table."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import neural_plasticity as npl
from neural_plasticity.events import TextSample
from neural_plasticity.record import open_run

CHECKOUT = Path(__file__).parents[2]

DOCUMENTED = """
from utils.neural_plasticity.dashboard.wandb_integration import WandbDashboard
from utils.neural_plasticity.dashboard.multi_phase_dashboard import MultiPhaseDashboard   # extends WandbDashboard

dashboard = MultiPhaseDashboard(project_name="neural-plasticity", experiment_name="my-experiment",
                                output_dir="output/my_experiment", config=experiment_config)
dashboard.record_phase_transition("warmup", 0)
dashboard.record_step({"loss": 2.5, "perplexity": 12.1, "sparsity": 0.0, "phase": "warmup"}, step=10)
dashboard.record_pruning_event({"strategy": "entropy", "pruning_level": 0.2,
                                "pruned_heads": [(0, 2), (1, 3), (2, 1)], "cycle": 1}, step=100)
dashboard.visualize_complete_process("output/complete_process.png")
dashboard.generate_multi_cycle_dashboard("output/multi_cycle.png")
dashboard.generate_standalone_dashboard("output/dashboard")
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The parts of a checkout that the documented names need, in a directory of the test's own."""
    for name in ("src", "utils"):
        (tmp_path / name).symlink_to(CHECKOUT / name)
    return tmp_path


def python(code: str, directory: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], cwd=directory, env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip


# What a user's ``experiment_config`` is was left open: none, little, or the size of the model.
CONFIGS = {"empty": {}, "sized": {"model_name": "distilgpt2", "num_layers": 6, "num_heads": 12}}


@pytest.mark.parametrize(("config", "mode"), [("empty", "disabled"), ("sized", "offline")])
def test_the_documented_python_as_printed(config: str, mode: str, checkout: Path) -> None:
    if mode == "offline":
        pytest.importorskip("wandb")
    done = python(f"experiment_config = {CONFIGS[config]!r}\n{DOCUMENTED}", checkout, WANDB_MODE=mode)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    output = checkout / "output"
    for picture in ("complete_process.png", "multi_cycle.png", "dashboard/complete_process.png"):
        assert (output / picture).read_bytes().startswith(b"\x89PNG")
    page = (output / "dashboard/dashboard.html").read_text(encoding="utf-8")
    assert "my-experiment" in page
    assert not (output / "dashboard/multi_cycle_process.png").exists()  # there was one cycle
    with open_run(output / "my_experiment") as run:
        assert run.summary().state == "finished"
        assert run.config == CONFIGS[config]
        assert run.heads().shape == ((6, 12) if config == "sized" else (3, 4))
        assert [one.heads for one in run.decisions()] == [((0, 2), (1, 3), (2, 1))]
    assert (output / "my_experiment/wandb").exists() == (mode == "offline")
    assert "3 heads pruned by entropy at level 0.20" in done.stdout
    assert "\x1b" not in done.stdout


def test_the_documented_names_are_the_same_objects(checkout: Path) -> None:
    done = python(
        """
import sys
import utils.neural_plasticity.dashboard.wandb_integration as one
import utils.neural_plasticity.dashboard.multi_phase_dashboard as two
import neural_plasticity as npl
assert one.WandbDashboard is npl.WandbDashboard and two.MultiPhaseDashboard is npl.MultiPhaseDashboard
assert issubclass(npl.MultiPhaseDashboard, npl.WandbDashboard)
assert not {"torch", "matplotlib", "wandb"} & set(sys.modules)
""",
        checkout,
    )
    assert done.returncode == 0, done.stderr


def test_the_documented_files_hold_nothing_of_their_own() -> None:
    files = sorted((CHECKOUT / "utils").rglob("*.py"))
    assert len(files) >= 5
    assert [path.name for path in files if len(path.read_text().splitlines()) > 10] == []


# The table, one line per call: parameters as documented; arguments by position and by keyword.
BEGIN = (
    'project_name="neural-plasticity", experiment_name=None, output_dir=None, config=None, auto_login=True, '
    "mode=None, tags=None"
)
WANDB = {
    "log_metrics": "metrics, step=None",
    "log_entropy_heatmap": "entropy_values, step=None",
    "log_gradient_heatmap": "gradient_values, step=None",
    "log_pruning_decision": "decision, step=None",
    "log_text_sample": 'prompt, generated_text, step=None, model_type="current"',
    "log_inference_comparison": "prompt, baseline_text, pruned_text, step=None, metrics=None",
    "log_perplexity_comparison": "baseline_perplexity, pruned_perplexity, texts=None, step=None",
    "log_attention_visualization": "baseline_attention, pruned_attention, text, layer_idx, head_idx, step=None",
    "log_inference_dashboard": "perplexity_data, generation_samples, attention_data=None, step=None",
    "set_phase": "phase, step=None",
    "finish": "",
    "get_metrics_callback": "",
    "get_sample_callback": "",
}
MULTI_PHASE = {
    "record_step": "metrics, step=None",
    "record_phase_transition": "phase, step",
    "record_pruning_event": "info, step",
    "record_stabilization_point": "step, phase=None",
    "record_growth_event": "info, step",
    "record_head_metrics": "metrics, step",
    "record_evaluation": "results, step",
    "visualize_complete_process": "save_path=None",
    "generate_multi_cycle_dashboard": "save_path=None",
    "generate_standalone_dashboard": "output_dir",
}
ATTRIBUTES = (
    "phases", "phase_transitions", "current_phase", "stabilization_points", "all_steps", "all_loss", "all_perplexity",
    "all_sparsity", "pruning_info", "experiment_name", "config",
)  # fmt: skip
PATTERN = np.tril(np.full((3, 3), 1 / 3))
ARGUMENTS: dict[str, dict[str, Any]] = {
    "log_metrics": {"metrics": {"loss": 2.0}, "step": 1},
    "log_entropy_heatmap": {"entropy_values": np.ones((2, 3)), "step": 1},
    "log_gradient_heatmap": {"gradient_values": np.ones((2, 3)), "step": 1},
    "log_pruning_decision": {"decision": {"pruned_heads": ["0.1"]}, "step": 1},
    "log_text_sample": {"prompt": "p", "generated_text": "g", "step": 1, "model_type": "pruned"},
    "log_inference_comparison": {
        "prompt": "p", "baseline_text": "b", "pruned_text": "q", "step": 1, "metrics": {"time": 1.0}
    },
    "log_perplexity_comparison": {"baseline_perplexity": 1.0, "pruned_perplexity": 2.0, "texts": ["t"], "step": 1},
    "log_attention_visualization": {
        "baseline_attention": PATTERN, "pruned_attention": PATTERN, "text": "t", "layer_idx": 0, "head_idx": 1,
        "step": 1,
    },
    "log_inference_dashboard": {
        "perplexity_data": {"baseline": 1.0, "pruned": 2.0},
        "generation_samples": [{"prompt": "p", "baseline_text": "b", "pruned_text": "q"}],
        "attention_data": None, "step": 1,
    },
    "set_phase": {"phase": "warmup", "step": 1},
    "record_step": {"metrics": {"loss": 1.0, "stabilized": True}, "step": 1},
    "record_phase_transition": {"phase": "pruning", "step": 1},
    "record_pruning_event": {"info": {"pruned_heads": [[0, 2]]}, "step": 1},
    "record_stabilization_point": {"step": 1, "phase": "warmup"},
    "record_growth_event": {"info": {"grown_heads": [(0, 2)]}, "step": 1},
    "record_head_metrics": {"metrics": {"0.1": {"entropy": 0.5}}, "step": 1},
    "record_evaluation": {"results": {"baseline": {"loss": 1.0}}, "step": 1},
    "visualize_complete_process": {"save_path": "figure.png"},
    "generate_multi_cycle_dashboard": {"save_path": "cycles.png"},
    "generate_standalone_dashboard": {"output_dir": "page"},
}  # fmt: skip


def documented(parameters: str) -> list[tuple[str, Any]]:
    """Names and defaults as Python reads the documented text."""
    namespace: dict[str, Any] = {}
    exec(f"def call({parameters}): ...", namespace)
    return [(one.name, one.default) for one in inspect.signature(namespace["call"]).parameters.values()]


@pytest.mark.parametrize("name", [*WANDB, *MULTI_PHASE])
def test_every_signature_is_the_documented_one(name: str) -> None:
    owner = npl.WandbDashboard if name in WANDB else npl.MultiPhaseDashboard
    found = list(inspect.signature(getattr(owner, name)).parameters.values())[1:]
    assert [(one.name, one.default) for one in found] == documented({**WANDB, **MULTI_PHASE}[name])
    assert {one.kind for one in found} <= {inspect.Parameter.POSITIONAL_OR_KEYWORD}


def test_both_begin_as_documented() -> None:
    for owner in (npl.WandbDashboard, npl.MultiPhaseDashboard):
        found = [(one.name, one.default) for one in inspect.signature(owner).parameters.values()]
        assert found == documented(BEGIN)


@pytest.mark.parametrize("name", ARGUMENTS)
def test_every_call_by_position_and_by_keyword_is_the_same(name: str, tmp_path: Path) -> None:
    given = ARGUMENTS[name]
    recorded = []
    for number, call in enumerate((lambda one: one(*given.values()), lambda one: one(**given))):
        with npl.MultiPhaseDashboard(output_dir=tmp_path / str(number), mode="disabled") as dashboard:
            call(getattr(dashboard, name))
            recorded.append([type(event).__name__ + repr(vars(event)) for event in dashboard.run.events()][1:])
    assert recorded[0] == recorded[1]
    drawn = name.startswith(("visualize", "generate"))
    assert bool(recorded[0]) is not drawn


def test_the_figures_and_the_page_are_returned(tmp_path: Path) -> None:
    from matplotlib.figure import Figure

    with npl.MultiPhaseDashboard(output_dir=tmp_path / "run", mode="disabled") as dashboard:
        for cycle in (1, 2):
            dashboard.record_pruning_event({"pruned_heads": [(0, cycle)], "cycle": cycle}, cycle)
        assert isinstance(dashboard.visualize_complete_process(), Figure)
        assert isinstance(dashboard.generate_multi_cycle_dashboard(), Figure)
        page = dashboard.generate_standalone_dashboard(tmp_path / "page")
    assert page == tmp_path / "page/dashboard.html"
    assert {path.name for path in page.parent.iterdir()} == {
        "dashboard.html", "complete_process.png", "multi_cycle_process.png"
    }  # fmt: skip


def test_the_callbacks_as_documented(tmp_path: Path) -> None:
    with npl.MultiPhaseDashboard(output_dir=tmp_path, mode="disabled") as dashboard:
        metrics_callback, sample_callback = dashboard.get_metrics_callback(), dashboard.get_sample_callback()
        metrics_callback(1, {"loss": 1.0, "entropy_values": np.ones((2, 3)), "grad_norm_values": np.ones((2, 3))})
        metrics_callback({"loss": 2.0, "phase": "pruning"}, 2)
        metrics_callback(step=3, metrics={"loss": 3.0})
        sample_callback(4, {"prompt": "p", "generated_text": "g", "model_type": "pruned"})
        sample_callback(step=5, sample={"input_text": "p", "generated_text": "g", "model_type": "pruned"})
        sample_callback("g", "p", "pruned")
        assert (dashboard.all_steps, dashboard.all_loss) == ([1, 2, 3], [1.0, 2.0, 3.0])
        assert (dashboard.phases, dashboard.run.score_names()) == (["pruning"], ("entropy", "gradient"))
        said = {"phase": "pruning", "cycle": 1, "prompt": "p", "text": "g", "model": "pruned"}
        expected = [TextSample(step=step, phase_step=step - 2, **said) for step in (4, 5, 6)]
        assert dashboard.run.samples() == expected


def test_every_documented_attribute_can_be_read_and_none_be_written(tmp_path: Path) -> None:
    with npl.MultiPhaseDashboard(output_dir=tmp_path, config={"a": (1, 2)}, mode="disabled") as dashboard:
        for name in ATTRIBUTES:
            getattr(dashboard, name)
            with pytest.raises(AttributeError):
                setattr(dashboard, name, None)
        assert dashboard.config == {"a": (1, 2)}
        assert dashboard.experiment_name == tmp_path.name
        dashboard.pruning_info.append({})
        dashboard.all_loss.append(1.0)
        assert (dashboard.pruning_info, dashboard.all_loss) == ([], [])  # views, not the record itself
