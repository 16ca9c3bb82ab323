"""The phases that train: warm-up and fine-tuning, every step on record."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import TypeVar

from neural_plasticity.data.tokens import shuffled_batches
from neural_plasticity.events import Event, PhaseEnded, Stabilised, StepMetrics
from neural_plasticity.experiment.clock import VALIDATIONS
from neural_plasticity.experiment.state import Experiment
from neural_plasticity.experiment.training import Trainee, Training
from neural_plasticity.models.adapters import Adapters
from neural_plasticity.policies.stabilisation import Stability, stabilisation

T = TypeVar("T")
_DATA = 1  # purpose numbers of Experiment.seed_for
_DROPOUT = 5
_LOOKS = 1_000  # at a curve while it grows by half of itself or so, to see whether it is stable


def warmup(x: Experiment) -> Iterator[Event]:
    """Train until the loss is stable, at the latest until ``warmup_steps``; the baseline is what comes out."""
    reason = f"the step limit of {x.config.warmup_steps} was reached before the loss was stable"
    losses, stable = yield from training_steps(x, x.config.warmup_steps, until=lambda losses: _stable(x, losses))
    if stable is not None:
        reason = stable.reason
        yield Stabilised(
            slope=stable.slope,
            slope_low=stable.slope_low,
            slope_high=stable.slope_high,
            tolerance=stable.tolerance,
            window=stable.window,
            loss=stable.loss,
            reason=stable.reason,
            **x.clock.at(),
        )
    x.loss_before_pruning = x.validation_loss()
    yield validation_metrics(x, x.loss_before_pruning)
    if x.config.control:
        # The control starts as the very model that is pruned, and never loses a head.
        x.control = x.copy_of_model()
    summary = {
        "steps": len(losses),
        "loss": losses[-1] if losses else math.nan,
        "validation_loss": x.loss_before_pruning,
    }
    seconds = x.clock.leave(early=len(losses) < x.config.warmup_steps)
    yield PhaseEnded(reason=reason, summary=summary, seconds=seconds, **x.clock.at())


def _stable(x: Experiment, losses: Sequence[float]) -> Stability | None:
    if len(losses) % max(1, len(losses) // _LOOKS):  # a look costs as much as the curve is long
        return None
    window, tolerance = x.config.stabilisation_window, x.config.stabilisation_tolerance
    return x.devices.agreed(stabilisation(losses, window=window, tolerance=tolerance))


def fine_tuning(x: Experiment) -> Iterator[Event]:
    """Train the pruned model (and the control, on the same batches), and measure how much of the loss came back."""
    yield from training_steps(x, x.config.fine_tuning_steps)
    after = x.validation_loss()
    yield validation_metrics(x, after)
    summary = {
        "loss_before_pruning": x.loss_before_pruning,
        "loss_after_pruning": x.loss_after_pruning,
        "loss_after_fine_tuning": after,
        # Where the damage is within the noise there is nothing to recover, and a ratio to it means nothing.
        "recovered_fraction": (x.loss_after_pruning - after) / x.damage.estimate if x.damage.low > 0 else math.nan,
    }
    yield PhaseEnded(summary=summary, seconds=x.clock.leave(), **x.clock.at())


def training_steps(
    x: Experiment,
    steps: int,
    *,
    data: int = _DATA,
    dropout: int = _DROPOUT,
    share: float = 1.0,
    before_step: Callable[[int], Mapping[str, float]] | None = None,
    until: Callable[[Sequence[float]], T | None] | None = None,
) -> Generator[Event, None, tuple[Sequence[float], T | None]]:
    """``steps`` training steps of the model, and of the control where there is one: those that are not done yet.

    What there is to know for going on after a step stands in ``x.training``, which `play` takes away with the phase's
    end: after each step's metrics the phase is at rest, and can be kept as it is.

    ``data`` and ``dropout`` are purpose numbers of `Experiment.seed_for`, ``share`` the part of the phase's work that
    this is, ``before_step`` is told each step's number before it and gives further metrics, and the first thing that
    ``until`` has to say of the losses so far ends the training.

    Returns:
        The loss of every step (steps,), in nats per token, and what ``until`` said.
    """
    training = x.training = x.training or Training()
    with ExitStack() as stack:
        trainee = _trainee(x, "model", steps, dropout, stack)
        control = None if x.control is None else _trainee(x, "control", steps, dropout, stack)
        batches = shuffled_batches(x.train, x.config.batch_size, x.seed_for(data), skip=training.done)
        dropout_seed = x.seed_for(dropout)
        every = math.ceil(steps / VALIDATIONS)
        while True:
            number = training.done
            if number:  # what follows a step: here, so that it also follows one of an earlier attempt
                if until is not None and (found := until(training.losses)) is not None:
                    return training.losses, found
                yield from x.clock.reports()
            if number == steps:
                return training.losses, None
            batch = next(batches).to(x.device)
            more = before_step(number) if before_step is not None else {}
            began = time.perf_counter()
            loss = trainee.step(batch, dropout_seed + number)
            metrics = {
                "loss": loss,
                "perplexity": math.exp(min(loss, 700.0)),
                "learning_rate": trainee.learning_rate,
                "gradient_norm": trainee.gradient_norm,
                "sparsity": x.sparsity,
                "tokens_per_second": batch.numel() / (time.perf_counter() - began),
                **more,
            }
            if control is not None:
                # The same dropout masks for both: a control must differ from the model in nothing but its heads.
                metrics["control_loss"] = control.step(batch, dropout_seed + number)
            x.clock.tick(share=share)
            training.losses.append(loss)
            if number % every == every - 1 and number != steps - 1:
                metrics["validation_loss"] = x.validation_loss()
            yield StepMetrics(metrics=metrics, **x.clock.at())


def _trainee(x: Experiment, name: str, steps: int, seed: int, stack: ExitStack) -> Trainee:
    """The model or the control in training, where it stands; ``stack`` lets it go."""
    training = x.training
    model, heads = (x.model, x.heads) if name == "model" else (x.control, None)
    assert training is not None
    assert model is not None
    adapters = None
    if x.config.lora_rank is not None:
        adapters = Adapters(model, heads, x.config.lora_rank, x.seed_for(seed))
    trainee = stack.enter_context(Trainee.start(model, heads, x.config, steps, training.done, x.devices, adapters))
    trainee.take_up(training.taken_up.pop(name, {}))
    training.trainees[name] = trainee
    stack.callback(training.trainees.pop, name)
    return trainee


def validation_metrics(x: Experiment, loss: float) -> StepMetrics:
    """The loss of the watched validation sequences, as metrics."""
    return StepMetrics(metrics={"validation_loss": loss}, **x.clock.at())
