"""Gradient steps, held-out losses and generated text: what several phases do with a model."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from neural_plasticity.config import RunConfig
from neural_plasticity.data.tokens import IntBlocks
from neural_plasticity.errors import TrainingError
from neural_plasticity.experiment.clock import Within
from neural_plasticity.models.adapters import Adapters
from neural_plasticity.models.attach import Heads
from neural_plasticity.models.devices import ALONE, Devices
from neural_plasticity.models.parts import held_as, whole
from neural_plasticity.models.protection import Protection

Losses = npt.NDArray[np.float64]  # (sequences,)
Moments = dict[str, dict[str, Tensor]]  # by parameter, and by the optimiser's name for it
_ADAM = {"step": False, "exp_avg": True, "exp_avg_sq": True}  # whether it has the parameter's shape


@dataclass
class Trainee:
    """A model in training with its optimiser and schedule; pruned heads are protected from both."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    protection: Protection | None = None
    devices: Devices = ALONE
    parts: int = 1  # of this process's share of a batch, computed one after the other
    recomputes: bool = False  # each layer in the backward, so that its activations need not be kept
    adapters: Adapters | None = None
    runner: nn.Module = field(init=False)  # what a step calls: the model, which brings gradients together
    gradient_norm: float = math.nan  # of the last step, before it was clipped

    @classmethod
    def start(
        cls,
        model: nn.Module,
        heads: Heads | None,
        config: RunConfig,
        steps: int,
        done: int = 0,
        devices: Devices = ALONE,
        adapters: Adapters | None = None,
    ) -> Trainee:
        """AdamW with a fresh state: every training phase begins like the others, so phases can be compared.

        Where ``done`` of the ``steps`` were done before, the learning rate goes on there; `take_up` gives the rest.
        With ``adapters`` they alone train; at the end they are merged.
        """
        trained = [p for p in model.parameters() if p.requires_grad or adapters is None]
        decayed = [p for p in trained if p.ndim >= 2]
        plain = [p for p in trained if p.ndim < 2]
        groups: list[dict[str, Any]] = [{"params": decayed}, {"params": plain, "weight_decay": 0.0}]
        for group in groups:
            group["initial_lr"] = config.learning_rate  # what a schedule that goes on reckons from
        optimizer = torch.optim.AdamW(groups, lr=config.learning_rate, weight_decay=config.weight_decay)
        protection = heads.protect(optimizer) if heads is not None else None
        # transformers has this schedule too, in a module that loads its trainer and peft. A few steps have no tenth: a
        # rise from 0 would take one of them, and all of a phase of one.
        rise = steps // 10
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: min(1.0, step / rise) if rise else 1.0, last_epoch=done - 1
        )
        parts, recomputes = config.gradient_accumulation_steps, config.gradient_checkpointing
        return cls(model, optimizer, schedule, protection, devices, parts, recomputes, adapters)

    def __post_init__(self) -> None:
        model: Any = self.model
        if self.recomputes:
            model.activation_checkpointing_enable({"use_reentrant": False})
        self.runner = self.devices.wrapped(model)

    @property
    def moments(self) -> Moments:
        """The optimiser's state of each parameter, by its name. The optimiser's own tensors, not copies."""
        state = self.optimizer.state
        return {name: dict(state[one]) for name, one in self.model.named_parameters() if one in state}

    def take_up(self, moments: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Go on with the optimiser's state of another process: its `moments`, where each one `fits`."""
        for name, kept in moments.items():
            parameter = self.model.get_parameter(name)
            # AdamW counts its steps on the CPU.
            state = {what: one.clone() if what == "step" else held_as(parameter, one) for what, one in kept.items()}
            self.optimizer.state[parameter] = state

    def __enter__(self) -> Trainee:
        return self

    def __exit__(self, *_: object) -> None:
        """Let the optimiser's state go at once: it is twice the model, and the next phase has its own."""
        if self.protection is not None:
            self.protection.remove()
        if self.recomputes:
            model: Any = self.model
            model.activation_checkpointing_disable()
        self.devices.release()
        if self.adapters is not None:
            self.adapters.merge()

    @property
    def _without_cache(self) -> dict[str, bool]:
        """Layers that are computed twice cannot fill a cache of keys and values."""
        return {"use_cache": False} if self.recomputes else {}

    @property
    def learning_rate(self) -> float:
        return float(self.schedule.get_last_lr()[0])

    def step(self, batch: Tensor, dropout_seed: int) -> float:
        """One optimiser step on token ids (batch, tokens); returns the mean loss in nats per token.

        Each process computes its share of the batch, in ``parts``, with dropout masks of their own; what they come to
        is the mean over the whole batch.

        Raises:
            TrainingError: the loss is not a finite number; the model was not updated.
        """
        self.model.train()
        share = batch if self.devices.size == 1 else batch[self.devices.share(len(batch)).places.to(batch.device)]
        losses = []
        for number, part in enumerate(share.chunk(self.parts)):
            torch.manual_seed(_part_seed(dropout_seed, self.devices.rank * self.parts + number))
            last = number == self.parts - 1
            with nullcontext() if last else self.devices.without_exchange(self.runner):
                with self.devices.autocast():
                    loss = self.runner(input_ids=part, labels=part, **self._without_cache).loss
                (loss / self.parts).backward()
            losses.append(loss.detach())
        mean = self.devices.summed(torch.stack(losses).cpu().double().mean()) / self.devices.size
        value = float(mean)
        if not math.isfinite(value):
            self.optimizer.zero_grad(set_to_none=True)
            raise TrainingError(
                f"the training loss became {value} at learning rate {self.learning_rate:.2g}; the run stops here. "
                "Try a lower --learning_rate."
            )
        self.gradient_norm = float(whole(nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)))
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad(set_to_none=True)
        if batch.is_cuda:  # or the time of the step would be that of handing it over
            torch.cuda.synchronize(batch.device)
        return value


def fits(kept: Mapping[str, Tensor], parameter: nn.Parameter) -> bool:
    """Whether AdamW's state of a parameter can be that of ``parameter``."""
    return kept.keys() == _ADAM.keys() and all(
        one.dtype.is_floating_point and one.shape == (parameter.shape if _ADAM[what] else ())
        for what, one in kept.items()
    )


@dataclass
class Training:
    """A training phase under way: what there is to keep, beside the models, for it to go on at its next step.

    ``memory`` is the phase's own: plain values, set before the first step. ``taken_up`` is what trainees begin with
    where the phase goes on: their `Trainee.moments`, by name.
    """

    memory: dict[str, Any] = field(default_factory=dict)
    losses: list[float] = field(default_factory=list)  # of each step done, in nats per token
    trainees: dict[str, Trainee] = field(default_factory=dict)  # while steps are done: "model", and "control" if any
    taken_up: dict[str, Moments] = field(default_factory=dict)
    within: Within | None = None  # where the phase goes on; None: it is new

    @property
    def done(self) -> int:
        """How many steps are done."""
        return len(self.losses)


def _part_seed(seed: int, number: int) -> int:
    """The seed of a part of a batch: ``seed`` for the first, so that one process alone draws what it always drew."""
    return seed if number == 0 else int(np.random.SeedSequence([seed, number]).generate_state(1)[0])


def batches_of(blocks: IntBlocks, batch_size: int, device: torch.device) -> Iterator[Tensor]:
    """Token ids (batch, tokens) in order, the last batch shorter."""
    for first in range(0, len(blocks), batch_size):
        yield torch.from_numpy(blocks[first : first + batch_size]).to(device)


@torch.no_grad()  # and not inference_mode: what FSDP gathers parameters into there could not be trained with later
def sequence_losses(model: nn.Module, batch: Tensor, devices: Devices = ALONE) -> Losses:
    """Mean next-token loss of each sequence of ``batch`` (sequences, tokens), in nats; ``devices`` share them."""
    model.eval()
    part = batch if devices.size == 1 else batch[devices.share(len(batch)).places.to(batch.device)]
    with devices.autocast():
        logits = model(input_ids=part).logits[:, :-1]
    losses = functional.cross_entropy(logits.flatten(0, 1).float(), part[:, 1:].flatten(), reduction="none")
    means = losses.view(len(part), -1).mean(dim=1)
    return devices.joined(means, len(batch)).cpu().double().numpy()  # in this order: Apple's GPUs have no float64


def held_out_losses(
    model: nn.Module, blocks: IntBlocks, batch_size: int, device: torch.device, devices: Devices = ALONE
) -> Losses:
    """Mean next-token loss of each block (blocks,), in nats."""
    return np.concatenate([sequence_losses(model, batch, devices) for batch in batches_of(blocks, batch_size, device)])


@torch.no_grad()
def continuation(model: nn.Module, input_ids: Tensor, new_tokens: int, pad_token_id: int) -> list[int]:
    """Greedy continuation of one prompt (1, tokens) as token ids, prompt excluded."""
    model.eval()
    output = model.generate(  # type: ignore[operator]
        input_ids,
        attention_mask=torch.ones_like(input_ids),
        max_new_tokens=new_tokens,
        do_sample=False,
        num_beams=1,
        pad_token_id=pad_token_id,
    )
    return [int(t) for t in output[0, input_ids.shape[1] :]]
