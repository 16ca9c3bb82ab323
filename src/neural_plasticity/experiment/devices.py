"""Where a run computes: one device, or the processes that ``accelerate launch`` or ``torchrun`` started together."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import timedelta

import torch
from torch.distributed.device_mesh import init_device_mesh

from neural_plasticity.config import RunConfig
from neural_plasticity.errors import ConfigError
from neural_plasticity.launch import launched
from neural_plasticity.models.devices import Devices
from neural_plasticity.models.sharding import can_divide

# What a launcher can ask for that would go unheard here.
_UNHEARD = {
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "a parallelism configuration",
}

_FSDP = "ACCELERATE_USE_FSDP"

# What a launcher can ask for about FSDP that is done in one way only here: its word for that, and what to do.
_ONE_WAY = {
    "FSDP_VERSION": (("2",), "--fsdp_version 2"),
    "FSDP_SHARDING_STRATEGY": (("full_shard", "1"), "--fsdp_sharding_strategy FULL_SHARD"),
    "FSDP_RESHARD_AFTER_FORWARD": (("true", "full_shard", "1"), "--fsdp_reshard_after_forward true"),
    "FSDP_OFFLOAD_PARAMS": (("false",), "--fsdp_offload_params false"),
    "FSDP_AUTO_WRAP_POLICY": (("transformer_based_wrap", "no_wrap"), "--fsdp_auto_wrap_policy TRANSFORMER_BASED_WRAP"),
    "FSDP_IGNORED_MODULES": ((), "no --fsdp_ignored_modules"),
}


def open_devices(config: RunConfig, environment: Mapping[str, str] = os.environ) -> Devices:
    """The device of this process, joined with the others where there are some; waits until all of them are there.

    Raises:
        ConfigError: there is no such device, it has not the precision asked for, the batch does not divide, or this
            PyTorch cannot hold parameters in parts.
    """
    rank, size = launched(environment)
    _check_launcher(config, environment)
    _check_batch(config, size)
    divided = _divided(config, size, environment)
    if size == 1:
        device = _device(config.device)
        return Devices(device=device, precision=_precision(config, device))
    if config.device not in ("auto", "cpu", "cuda"):
        raise ConfigError(
            f"--device {config.device}: with {size} processes each takes a device of its own; give auto, cpu or cuda."
        )
    cpu = config.device == "cpu" or not torch.cuda.is_available()
    if cpu and config.device == "cuda":
        raise ConfigError("--device cuda: this machine has no such device; try --device cpu.")
    place = int(environment.get("LOCAL_RANK", rank))
    if not cpu and place >= (there := torch.cuda.device_count()):
        raise ConfigError(
            f"process {rank} is number {place + 1} on its machine, which has {there} GPU{'s' if there > 1 else ''}; "
            "start one process for each GPU, or give --device cpu."
        )
    from accelerate import Accelerator
    from accelerate.utils import InitProcessGroupKwargs, disable_fsdp_ram_efficient_loading

    if divided:  # transformers would hear of it, and give all but one process a model without content
        disable_fsdp_ram_efficient_loading()

    # The others wait while one downloads, evaluates or writes a checkpoint: NCCL's ten minutes would end the run.
    patience = InitProcessGroupKwargs(timeout=timedelta(hours=6))
    accelerator = Accelerator(cpu=cpu, mixed_precision="no", kwargs_handlers=[patience])
    assert (accelerator.process_index, accelerator.num_processes) == (rank, size)
    device = accelerator.device
    mesh = init_device_mesh(device.type, (size,)) if divided else None
    return Devices(rank, size, device, _precision(config, device), accelerator, mesh)


def _divided(config: RunConfig, size: int, environment: Mapping[str, str]) -> bool:
    """Whether parameters are held in parts, which the launcher may ask for too."""
    asked = environment.get(_FSDP, "false").lower() in ("1", "true")
    if not (asked or config.fsdp):
        return False
    if asked:
        for name, (fine, instead) in _ONE_WAY.items():
            said = environment.get(name, "1" if name == "FSDP_VERSION" else "")
            if said and said.lower() not in fine:
                raise ConfigError(f"the launcher asks for FSDP with {name}={said}: expected {instead}.")
        recompute = environment.get("FSDP_ACTIVATION_CHECKPOINTING", "false").lower() == "true"
        if recompute and not config.gradient_checkpointing:
            raise ConfigError("the launcher asks for activation checkpointing: expected --gradient_checkpointing too.")
    if size == 1:
        raise ConfigError("--fsdp: one process has nobody to share parameters with; start several (torchrun).")
    if not can_divide():
        raise ConfigError(
            f"--fsdp: written for the FSDP2 of PyTorch 2.13, whose inner places PyTorch {torch.__version__} does not "
            "have; install torch==2.13.*, or leave it out."
        )
    return True


def _check_launcher(config: RunConfig, environment: Mapping[str, str]) -> None:
    for name, what in _UNHEARD.items():
        if environment.get(name, "false").lower() in ("1", "true"):
            raise ConfigError(f"the launcher asks for {what} ({name}): expected plain data parallelism; leave it out.")
    asked = environment.get("ACCELERATE_MIXED_PRECISION", "no")
    if asked not in ("no", config.mixed_precision):
        raise ConfigError(
            f"--mixed_precision {config.mixed_precision}: the launcher says {asked}; say the same in both places "
            "(no or bf16)."
        )


def _check_batch(config: RunConfig, size: int) -> None:
    parts = size * config.gradient_accumulation_steps
    if config.batch_size % parts:
        steps = config.gradient_accumulation_steps
        raise ConfigError(
            f"--batch_size {config.batch_size}: does not divide among {size} process{'es' if size > 1 else ''} × "
            f"{steps} accumulation step{'s' if steps > 1 else ''}; give a multiple of {parts}."
        )


def _precision(config: RunConfig, device: torch.device) -> torch.dtype | None:
    if config.mixed_precision == "no":
        return None
    if device.type == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise ConfigError("--mixed_precision bf16: this device has no bfloat16; leave it out.")
    return torch.bfloat16


def _device(name: str) -> torch.device:
    if name == "auto":
        name = next((kind for kind in ("cuda", "mps") if getattr(torch, kind).is_available()), "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    # torch raises RuntimeError, AssertionError or NotImplementedError depending on what is missing.
    except Exception as error:
        raise ConfigError(f"--device {name}: this machine has no such device; try --device cpu.") from error
    return device
