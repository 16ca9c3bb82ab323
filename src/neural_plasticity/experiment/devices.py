"""Where a run computes: one device, or the processes that ``accelerate launch`` or ``torchrun`` started together."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import timedelta

import torch

from neural_plasticity.config import RunConfig
from neural_plasticity.errors import ConfigError
from neural_plasticity.launch import launched
from neural_plasticity.models.devices import Devices

# What a launcher can ask for that would go unheard here.
_UNHEARD = {
    "ACCELERATE_USE_FSDP": "FSDP",
    "ACCELERATE_USE_DEEPSPEED": "DeepSpeed",
    "ACCELERATE_USE_MEGATRON_LM": "Megatron-LM",
    "ACCELERATE_USE_PARALLELISM_CONFIG": "a parallelism configuration",
}


def open_devices(config: RunConfig, environment: Mapping[str, str] = os.environ) -> Devices:
    """The device of this process, joined with the others where there are some; waits until all of them are there.

    Raises:
        ConfigError: there is no such device, it has not the precision asked for, or the batch does not divide.
    """
    rank, size = launched(environment)
    _check_launcher(config, environment)
    _check_batch(config, size)
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
    from accelerate import Accelerator
    from accelerate.utils import InitProcessGroupKwargs

    # The others wait while one downloads, evaluates or writes a checkpoint: NCCL's ten minutes would end the run.
    patience = InitProcessGroupKwargs(timeout=timedelta(hours=6))
    accelerator = Accelerator(cpu=cpu, mixed_precision="no", kwargs_handlers=[patience])
    assert (accelerator.process_index, accelerator.num_processes) == (rank, size)
    return Devices(rank, size, accelerator.device, _precision(config, accelerator.device), accelerator)


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
