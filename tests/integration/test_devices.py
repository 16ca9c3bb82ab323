"""Several processes, parts of a batch, half precision: the same experiment, within the rounding that is stated here."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from neural_plasticity.errors import ConfigError
from neural_plasticity.experiment import open_experiment
from neural_plasticity.experiment.devices import open_devices
from neural_plasticity.experiment.state import Experiment
from neural_plasticity.experiment.training import Trainee, held_out_losses
from neural_plasticity.importance import score_heads
from neural_plasticity.models.adapters import Adapters
from neural_plasticity.models.compaction import compact
from neural_plasticity.models.protection import still_places
from neural_plasticity.models.saving import load_pruned
from tests import distributed_laws
from tests.small_runs import save_model, small_config

ROOT = Path(__file__).parents[2]


def launched(processes: int, *command: str | Path, timeout: float = 300) -> subprocess.CompletedProcess[str]:
    """``torchrun`` with that many processes, which meet on a free port."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    return subprocess.run([*launcher, *map(str, command)], capture_output=True, text=True, timeout=timeout, cwd=ROOT)


@pytest.fixture(scope="module")
def alone(gpt2: Path, text: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("laws")
    distributed_laws.main(gpt2, text, directory)
    return directory


@pytest.mark.parametrize("fsdp", [False, True], ids=["whole", "in parts"])
def test_two_processes_find_what_one_finds(gpt2: Path, text: Path, alone: Path, tmp_path: Path, fsdp: bool) -> None:
    """Whether each holds the whole model or, with FSDP, its part (and layers twice, batches in two goes)."""
    shutil.copytree(alone, tmp_path, dirs_exist_ok=True)
    done = launched(2, "-m", "tests.distributed_laws", gpt2, text, tmp_path, *(["--fsdp"] if fsdp else []))
    assert done.returncode == 0, done.stderr[-3000:]
    one, first, second = (dict(np.load(tmp_path / name)) for name in ("1-0.npz", "2-0.npz", "2-1.npz"))
    assert set(one) == set(first) == set(second)
    parts, (_, size) = [found.pop("held")[0] for found in (first, second)], one.pop("held")
    if fsdp:  # FSDP2 pads the first dimension to a multiple of the processes
        assert size <= sum(parts) < 1.01 * size
        assert max(parts) < 0.51 * size
    else:
        assert parts == [size, size]
    for name, found in first.items():  # the processes hold the same model and have decided the same
        np.testing.assert_array_equal(found, second[name], err_msg=name)
    assert len(one["heads"]) > 4
    assert first.pop("refused")
    for name in ("heads", "text", "compacted size"):
        np.testing.assert_array_equal(first.pop(name), one[name])
    # AdamW's first steps have the size of the learning rate (1e-3) whatever the gradient's: one within rounding of
    # zero may go either way.
    np.testing.assert_allclose(first.pop("weights"), one["weights"], atol=4e-3)
    for name, found in first.items():
        np.testing.assert_allclose(found, one[name], rtol=2e-5, atol=2e-6, err_msg=name)
    np.testing.assert_allclose(first["compacted"], first["gated"], rtol=1e-5)
    if fsdp:  # what processes with parts have left, one that holds everything goes on from
        went_on = distributed_laws.gone_on(distributed_laws.opened(gpt2, text), tmp_path / "2")
        np.testing.assert_allclose(went_on, one["went on"], rtol=2e-5, atol=2e-6)
        saved, other = load_pruned(tmp_path / "saved-2"), load_pruned(tmp_path / "saved-1")
        assert saved.config.architectures == other.config.architectures
        for name, weight in saved.state_dict().items():
            torch.testing.assert_close(weight, other.state_dict()[name], rtol=0, atol=5e-3)


def opened(model: Path, text: Path, **changes: Any) -> Experiment:
    x = open_experiment(small_config(model, text, batch_size=8, **changes))
    for module in x.model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return x


def trained(x: Experiment, steps: int = 2) -> tuple[list[float], Mapping[str, torch.Tensor], float]:
    """Losses, gradients of the last step (as AdamW's first moment holds them) and their norm."""
    x.heads.prune([(0, 1)])
    with Trainee.start(x.model, x.heads, x.config, 20, devices=x.devices) as trainee:
        losses = [trainee.step(torch.from_numpy(x.train[8 * n : 8 * n + 8]), n) for n in range(steps)]
        moments = {name: kept["exp_avg"] for name, kept in trainee.moments.items()}
        return losses, moments, trainee.gradient_norm


@pytest.fixture(scope="module")
def whole(gpt2: Path, text: Path) -> tuple[list[float], Mapping[str, torch.Tensor], float]:
    return trained(opened(gpt2, text))


@pytest.mark.parametrize(
    ("changes", "tolerance"),
    [
        ({"gradient_accumulation_steps": 4}, 1e-5),
        ({"gradient_accumulation_steps": 8}, 1e-5),
        ({"gradient_checkpointing": True}, 1e-6),
        ({"gradient_checkpointing": True, "gradient_accumulation_steps": 2}, 1e-5),
        ({"mixed_precision": "bf16"}, 2e-2),
        ({"mixed_precision": "bf16", "gradient_checkpointing": True, "gradient_accumulation_steps": 2}, 2e-2),
    ],
    ids=str,
)
def test_a_step_is_the_same_step_however_it_is_computed(
    gpt2: Path, text: Path, whole: Any, changes: dict[str, Any], tolerance: float
) -> None:
    losses, moments, norm = trained(opened(gpt2, text, **changes))
    expected, expected_moments, expected_norm = whole
    assert losses == pytest.approx(expected, rel=min(tolerance, 2e-3))
    assert norm == pytest.approx(expected_norm, rel=tolerance)
    for name, one in moments.items():
        error = float((one - expected_moments[name]).norm() / expected_moments[name].norm().clamp_min(1e-12))
        assert error < 2 * tolerance or float(expected_moments[name].norm()) < 1e-7, (name, error)


def test_dropout_differs_between_parts_but_not_between_runs(gpt2: Path, text: Path) -> None:
    def once() -> list[float]:
        x = open_experiment(small_config(gpt2, text, batch_size=8, gradient_accumulation_steps=2))
        part = np.repeat(x.train[:1], 8, axis=0)
        with Trainee.start(x.model, None, x.config, 20) as trainee:
            seen: list[float] = []
            hook = x.model.lm_head.register_forward_hook(lambda *a: seen.append(float(a[2].detach().double().sum())))
            trainee.step(torch.from_numpy(part), 5)
            hook.remove()
        return seen

    first, second = once()
    assert first != second
    assert once() == [first, second]


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_adapters_train_alone_and_merge_into_what_they_computed(architecture: str, text: Path, tmp_path: Path) -> None:
    x = opened(save_model(tmp_path / architecture, architecture), text, lora_rank=4, learning_rate=1e-2)
    gone = [(0, 1), (1, 0), (1, 1), (1, 2), (1, 3)]
    x.heads.prune(gone)
    before = {name: one.detach().clone() for name, one in x.model.named_parameters()}
    wired = [(name, type(module)) for name, module in x.model.named_modules()]
    adapters = Adapters(x.model, x.heads, 4, seed=1)
    with Trainee.start(x.model, x.heads, x.config, 20, adapters=adapters) as trainee:
        first = trainee.step(torch.from_numpy(x.train[:8]), 0)
        for number in range(1, 6):
            last = trainee.step(torch.from_numpy(x.train[:8]), number)
        assert all(".lora_" in name for name in trainee.moments)
        with_adapters = x.losses_of(x.test)
    assert last < first
    np.testing.assert_allclose(x.losses_of(x.test), with_adapters, rtol=1e-5)
    assert [(name, type(module)) for name, module in x.model.named_modules()] == wired
    assert all(one.requires_grad for one in x.model.parameters())
    still = {name: (dim, index) for name, dim, index in places_of(x)}
    moved = set()
    for name, one in x.model.named_parameters():
        if name in still:  # what belongs to pruned heads alone
            dim, index = still[name]
            assert torch.equal(one.index_select(dim, index), before[name].index_select(dim, index)), name
        if not torch.equal(one, before[name]):
            moved.add(name)
    linear = {f"{name}.weight" for name, kind in wired if kind.__name__ in ("Linear", "Conv1D") and name != "lm_head"}
    assert moved <= linear
    assert len(moved) >= len(linear) - 4  # of layer 1, whose every head is off, nothing of the attention moves
    small = compact(x.model)
    np.testing.assert_allclose(held_out_losses(small, x.test, 8, x.device), x.losses_of(x.test), rtol=1e-5)


def places_of(x: Experiment) -> list[tuple[str, int, torch.Tensor]]:
    names = {id(one): name for name, one in x.model.named_parameters()}
    return [(names[id(one)], dim, index) for one, dim, index in still_places(x.heads)]


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_bfloat16_measures_what_float32_measures(architecture: str, text: Path, tmp_path: Path, gpt2: Path) -> None:
    """Entropy to 0.01 of its range, gradients and norms to 5 % of their largest, losses to 0.01 nats."""
    model = gpt2 if architecture == "gpt2" else save_model(tmp_path / architecture, architecture)
    x, half = (opened(model, text, mixed_precision=name) for name in ("no", "bf16"))
    for one in (x, half):
        one.heads.prune([(0, 1), (1, 0)])
    scores, rounded = (
        score_heads(
            one.model, one.scoring_batches(), ("entropy", "gradient", "output_norm", "ablation"), devices=one.devices
        )
        for one in (x, half)
    )
    np.testing.assert_allclose(rounded["entropy"], scores["entropy"], atol=0.01)
    np.testing.assert_allclose(rounded["ablation"], scores["ablation"], atol=0.01)
    for name in ("gradient", "output_norm"):
        np.testing.assert_allclose(rounded[name], scores[name], atol=0.05 * np.nanmax(scores[name]), err_msg=name)
    assert not np.array_equal(rounded["output_norm"], scores["output_norm"])  # or nothing was computed in bfloat16
    losses = half.losses_of(half.test)
    np.testing.assert_allclose(losses, x.losses_of(x.test), atol=0.01)
    # A closed gate and a removed head are the same model in this precision, too.
    small = held_out_losses(compact(half.model), half.test, 4, half.device, half.devices)
    np.testing.assert_allclose(small, losses, atol=2e-3)


def test_a_closed_gate_is_exact_in_bfloat16(gpt2: Path, text: Path) -> None:
    x = opened(gpt2, text, mixed_precision="bf16")
    x.heads.prune([(1, 2)])
    before = x.losses_of(x.test)
    layout = x.heads.layouts[1]
    weight = x.model.get_parameter(f"{layout.path}.c_proj.weight")
    with torch.no_grad():  # rows of a Conv1D are its inputs
        weight[2 * layout.head_dim : 3 * layout.head_dim] = 1e3
    np.testing.assert_array_equal(x.losses_of(x.test), before)


@pytest.mark.parametrize(
    ("changes", "environment", "said"),
    [
        ({"batch_size": 6}, {"RANK": "1", "WORLD_SIZE": "4"}, "--batch_size 6: does not divide among 4 processes"),
        ({"batch_size": 6, "gradient_accumulation_steps": 4}, {}, "--batch_size 6: does not divide .* multiple of 4"),
        ({"device": "cuda:1"}, {"RANK": "0", "WORLD_SIZE": "2"}, "--device cuda:1: with 2 processes"),
        ({}, {"ACCELERATE_MIXED_PRECISION": "fp16"}, "--mixed_precision no: the launcher says fp16"),
        (
            {},
            {"ACCELERATE_USE_FSDP": "true"},
            "the launcher asks for FSDP with FSDP_VERSION=1: expected --fsdp_version 2",
        ),
        (
            {},
            {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", "FSDP_OFFLOAD_PARAMS": "true"},
            "FSDP_OFFLOAD_PARAMS=true: expected --fsdp_offload_params false",
        ),
        (
            {},
            {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", "FSDP_ACTIVATION_CHECKPOINTING": "true"},
            "expected --gradient_checkpointing too",
        ),
        ({"fsdp": True}, {}, "--fsdp: one process has nobody to share parameters with"),
        ({}, {"ACCELERATE_USE_DEEPSPEED": "true"}, "the launcher asks for DeepSpeed"),
    ],
)
def test_what_cannot_be_divided_or_would_go_unheard_is_refused(
    changes: dict[str, Any], environment: dict[str, str], said: str
) -> None:
    config = small_config(Path("m"), Path("t"), **changes)
    with pytest.raises(ConfigError, match=said):
        open_devices(config, environment)


def test_a_pytorch_that_notes_elsewhere_what_is_divided_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("torch.distributed._composable_state._module_state_mapping")
    config = small_config(Path("m"), Path("t"), fsdp=True)
    with pytest.raises(ConfigError, match=r"--fsdp: written for the FSDP2 of PyTorch 2\.13, .* install torch==2\.13"):
        open_devices(config, {"RANK": "0", "WORLD_SIZE": "2"})


def test_more_processes_than_gpus_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    launched = {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1"}
    config = small_config(Path("m"), Path("t"), batch_size=8, device="auto")
    with pytest.raises(ConfigError, match="process 5 is number 2 on its machine, which has 1 GPU; start one"):
        open_devices(config, launched)
