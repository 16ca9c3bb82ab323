"""A complete multi-cycle experiment, made up: the events that a real one would yield, seeded and marked as simulated.

The heads are chosen, and the warm-up called stable, by the same rules as in a real run (``policies``), which need no
torch; only what those rules look at is invented (``demo_world``).
"""

from __future__ import annotations

import math
import platform
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from neural_plasticity import events as ev
from neural_plasticity.dashboard.demo_evaluation import evaluate
from neural_plasticity.dashboard.demo_texts import PROBES, TOKEN_GROUPS, continuation
from neural_plasticity.dashboard.demo_world import BENEFIT_SEQUENCES, MEASURED, Size, World
from neural_plasticity.errors import ConfigError
from neural_plasticity.heads import FloatGrid, HeadId
from neural_plasticity.importance.criteria import CRITERIA
from neural_plasticity.policies.selection import check_plan, choose_heads_to_prune
from neural_plasticity.policies.stabilisation import stabilisation

NAME = "simulated experiment"
WARMUP_LIMIT = 240
WINDOW, TOLERANCE = 60, 0.04  # of the stabilisation rule
MIN_HEADS_PER_LAYER = 3
BATCHES = 8  # that an analysis or an evaluation takes
TOKENS_PER_STEP = 8 * 256
ANALYSIS_SECONDS = 5.0
STEP_SECONDS = 0.62  # on the machine that the demo makes up
FIRST_LOSS, LAST_LOSS = 4.3, 2.2  # nats per token, of the unpruned model


def simulate(
    seed: int = 0,
    cycles: int = 3,
    layers: int = 6,
    heads: int = 8,
    *,
    level: float = 0.2,
    strategy: str = "gradient",
    fine_tuning_steps: int = 120,
) -> Iterator[ev.Event]:
    """The events of a whole simulated experiment; the same arguments give the same events.

    Warm-up and the baseline's evaluation, then per cycle analysis, pruning, fine-tuning, growth and evaluation. One
    head is added in the last cycle but one (in the only one, if there is one), and pruned heads come back where the
    measured benefit's interval lies above zero.

    Args:
        seed: of everything that is drawn.
        cycles: prune-and-heal cycles, at least 1.
        layers, heads: the model's grid.
        level: fraction of the active heads that a cycle prunes.
        strategy: the criterion that decides: gradient, fisher, output_norm, magnitude, entropy or combined.
        fine_tuning_steps: of every cycle.

    Raises:
        ConfigError: a number is out of range, or a cycle would find nothing to prune; raised by this call.
    """
    for name, value, least in (
        ("seed", seed, 0), ("cycles", cycles, 1), ("layers", layers, 1), ("heads", heads, 1),
        ("fine_tuning_steps", fine_tuning_steps, 1),
    ):  # fmt: skip
        if value < least:
            raise ConfigError(f"--{name} {value}: expected {least} or more.")
    if strategy not in MEASURED:
        raise ConfigError(f"--pruning_strategy {strategy}: the simulation measures {', '.join(MEASURED)}.")
    keep = min(MIN_HEADS_PER_LAYER, max(1, heads // 2))
    world = World(seed, layers, heads)
    check_plan([level] * cycles, world.active, min_heads_per_layer=keep)
    return _Simulation(world, seed, cycles, level, strategy, fine_tuning_steps, keep).events()


@dataclass
class _Simulation:
    """One run while it is played: the made-up model, the coordinates, and the made-up clock."""

    world: World
    seed: int
    cycles: int
    level: float
    strategy: str
    tuning_steps: int
    min_heads: int
    step: int = field(default=0, init=False)
    trained: int = field(default=0, init=False)  # training steps so far; analyses and decisions do not train
    phase: str = field(default="", init=False)
    cycle: int = field(default=0, init=False)
    phase_step: int = field(default=0, init=False)
    seconds: float = field(default=0.0, init=False)
    phase_began: float = field(default=0.0, init=False)
    regrown: set[HeadId] = field(default_factory=set, init=False)
    baseline: Mapping[str, Any] = field(default_factory=dict, init=False)
    closing: Mapping[str, Any] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng([self.seed, 0])
        self.size = Size(self.world.layers, self.world.heads)
        self.growth_steps = max(1, self.tuning_steps // 4)
        per_cycle = ANALYSIS_SECONDS + 2.0 + (self.tuning_steps + self.growth_steps) * STEP_SECONDS * 2 + 20.0
        self.total_seconds = WARMUP_LIMIT * STEP_SECONDS + 14.0 + self.cycles * per_cycle

    def events(self) -> Iterator[ev.Event]:
        """The whole run."""
        yield self._started()
        rules = "heads are pruned by the rules of a real run, and come back by a simpler one"
        yield self.at(ev.LogLine, message=f"{rules}; what they look at is made up")
        yield from self._warmup()
        yield from self._evaluation()
        for cycle in range(1, self.cycles + 1):
            self.cycle = cycle
            if cycle > 1:
                self.world.drift()
            scores = yield from self._analysis()
            before, after = yield from self._pruning(scores)
            yield from self._fine_tuning(before, after)
            yield from self._growth()
            yield from self._evaluation()
        yield self.at(ev.RunEnded, state="finished", summary={"seconds": self.seconds, **self.closing})

    def at(self, kind: type[Any], **fields: Any) -> Any:
        """An event at the present place."""
        return kind(step=self.step, phase=self.phase, cycle=self.cycle, phase_step=self.phase_step, **fields)

    # The model's loss --------------------------------------------------------------------------------------------

    @property
    def unpruned_loss(self) -> float:
        """What the model would have lost nothing to: it falls fast, then slowly, for as long as it trains."""
        t = self.trained
        return LAST_LOSS + (FIRST_LOSS - LAST_LOSS - 0.15) * math.exp(-t / 25) + 0.15 * math.exp(-t / 500)

    @property
    def loss(self) -> float:
        """Of the model in hand, without a batch's noise."""
        return self.unpruned_loss + self.world.lasting + self.world.passing

    def _validation(self) -> float:
        return self.loss + 0.04 + float(self.rng.normal(0, 0.004))

    # Beginnings, ends, progress ----------------------------------------------------------------------------------

    def _started(self) -> ev.RunStarted:
        config = {
            "pruning_strategy": self.strategy, "pruning_level": self.level, "cycles": self.cycles, "seed": self.seed,
            "min_heads_per_layer": self.min_heads, "warmup_steps": WARMUP_LIMIT, "control": True,
            "fine_tuning_steps": self.tuning_steps, "growth": True, "growth_steps": self.growth_steps,
            "stabilisation_window": WINDOW, "stabilisation_tolerance": TOLERANCE, "simulated": True,
        }  # fmt: skip
        parameters = self.size.parameters()
        return self.at(
            ev.RunStarted,
            name=NAME,
            shape=(self.world.layers, self.world.heads),
            config=config,
            model={
                "name": "simulated model",
                "architecture": "gpt2",
                "parameters": parameters,
                "bytes": 4 * parameters,
            },
            data={"name": "simulated text", "sequences": {"train": 15_888, "validation": 64, "test": 256}},
            environment={"python": platform.python_version(), "numpy": np.__version__},
            simulated=True,
        )

    def _begin(self, phase: str, planned: int, unit: str) -> ev.PhaseStarted:
        self.phase, self.phase_step, self.phase_began = phase, 0, self.seconds
        return self.at(ev.PhaseStarted, planned=planned, unit=unit)

    def _end(self, reason: str = "", summary: Mapping[str, Any] | None = None) -> ev.PhaseEnded:
        return self.at(ev.PhaseEnded, seconds=self.seconds - self.phase_began, reason=reason, summary=summary or {})

    def _progress(self, planned: int, unit: str) -> ev.Progress:
        fraction = min(self.seconds / self.total_seconds, 1.0)
        left = max(self.total_seconds - self.seconds, 0.0)
        return self.at(
            ev.Progress, done=self.phase_step, planned=planned, run_fraction=fraction, seconds_left=left, unit=unit
        )

    def _batches(self, seconds: float) -> Iterator[ev.Progress]:
        for _ in range(BATCHES):
            self.phase_step += 1
            self.seconds += seconds / BATCHES
            yield self._progress(BATCHES, "batches")

    # Training ----------------------------------------------------------------------------------------------------

    def _train_step(self, planned: int, *, control: bool) -> ev.StepMetrics:
        """One optimiser step and what is measured at it."""
        self.trained += 1
        self.step += 1
        self.phase_step += 1
        self.seconds += STEP_SECONDS * (2 if control else 1)
        self.world.recover()
        batch = float(self.rng.normal(0, 0.022))  # how hard the batch is, for every model that sees it
        loss = self.loss * (1 + batch + float(self.rng.normal(0, 0.006)))
        metrics = {
            "loss": loss,
            "perplexity": math.exp(loss),
            "learning_rate": 1e-4 * min(1.0, self.phase_step / max(1, planned // 10)),
            "sparsity": self.world.sparsity,
            "tokens_per_second": TOKENS_PER_STEP / STEP_SECONDS * float(self.rng.lognormal(0, 0.03)),
        }
        if control:
            metrics["control_loss"] = self.unpruned_loss * (1 + batch + float(self.rng.normal(0, 0.006)))
        if self.phase_step % max(1, planned // 12) == 0:
            metrics["validation_loss"] = self._validation()
        return self.at(ev.StepMetrics, metrics=metrics)

    def _warmup(self) -> Iterator[ev.Event]:
        yield self._begin("warmup", WARMUP_LIMIT, "steps")
        losses: list[float] = []
        reason = f"the step limit of {WARMUP_LIMIT} was reached before the loss was stable"
        while self.phase_step < WARMUP_LIMIT:
            metrics = self._train_step(WARMUP_LIMIT, control=False)
            losses.append(metrics.metrics["loss"])
            yield metrics
            yield self._progress(WARMUP_LIMIT, "steps")
            if self.phase_step in (1, 20, 60):
                yield self._sample(self.phase_step % len(PROBES), "current")
            stable = stabilisation(losses, window=WINDOW, tolerance=TOLERANCE)
            if stable is not None:
                reason = stable.reason
                yield self.at(ev.Stabilised, **vars(stable))
                break
        self.total_seconds -= (WARMUP_LIMIT - len(losses)) * STEP_SECONDS  # what the early verdict saves
        validation = self._validation()
        yield self.at(ev.StepMetrics, metrics={"validation_loss": validation})
        yield self._end(reason, {"steps": len(losses), "loss": losses[-1], "validation_loss": validation})

    def _fine_tuning(self, before: float, after: float) -> Iterator[ev.Event]:
        yield self._begin("fine-tuning", self.tuning_steps, "steps")
        for _ in range(self.tuning_steps):
            yield self._train_step(self.tuning_steps, control=True)
            yield self._progress(self.tuning_steps, "steps")
        now = self._validation()
        yield self.at(ev.StepMetrics, metrics={"validation_loss": now})
        summary = {
            "loss_before_pruning": before,
            "loss_after_pruning": after,
            "loss_after_fine_tuning": now,
            "recovered_fraction": (after - now) / (after - before) if after > before else math.nan,
        }
        yield self._end(summary=summary)

    # Deciding ----------------------------------------------------------------------------------------------------

    def _analysis(self) -> Generator[ev.Event, None, Mapping[str, FloatGrid]]:
        yield self._begin("analysis", BATCHES, "batches")
        yield from self._batches(ANALYSIS_SECONDS)
        scores = self.world.scores()
        self.step += 1
        yield self.at(ev.HeadScores, scores=scores, sequences=64, tokens=64 * 256, seconds=ANALYSIS_SECONDS)
        yield self._end()
        return scores

    def _pruning(self, scores: Mapping[str, FloatGrid]) -> Generator[ev.Event, None, tuple[float, float]]:
        """Prune by the real rule; returns the loss before and after."""
        yield self._begin("pruning", 1, "decision")
        before = self._validation()
        highest_first = CRITERIA[self.strategy].prune_first == "highest"
        choice = choose_heads_to_prune(
            -scores[self.strategy] if highest_first else scores[self.strategy],
            self.world.active,
            self.level,
            min_heads_per_layer=self.min_heads,
            label=self.strategy,
            highest_first=highest_first,
        )
        self.world.prune(choice.heads)
        after = self._validation()
        self.step += 1
        self.phase_step += 1
        self.seconds += 2.0
        yield self.at(
            ev.HeadsPruned, heads=choice.heads, strategy=self.strategy, level=self.level, score=choice.score,
            rank=choice.rank, protected=choice.protected, threshold=choice.threshold, rule=choice.rule,
            seed=self.seed, reasons=choice.reasons, loss_before=before, loss_after=after,
        )  # fmt: skip
        yield self._progress(1, "decision")
        summary = {
            "heads_pruned": len(choice.heads), "sparsity": self.world.sparsity,
            "loss_before_pruning": before, "loss_after_pruning": after,
        }  # fmt: skip
        yield self._end(summary=summary)
        return before, after

    # Growing -----------------------------------------------------------------------------------------------------

    def _growth(self) -> Iterator[ev.Event]:
        """What comes back on the evidence, the head that is added, and the training that both get."""
        steps = self.growth_steps
        yield self._begin("growth", steps, "steps")
        before = int(self.world.active.sum())
        if self.cycle > 1 or self.cycles == 1:
            yield from self._regrowth()
        if self.cycle == max(1, self.cycles - 1):
            yield self._addition()
        came = int(self.world.active.sum()) - before
        for number in range(1, steps + 1):
            trained = self._train_step(self.tuning_steps, control=True)
            gate = min(1.0, 2 * number / steps)  # of what came: it is let in over the first half
            yield replace(trained, metrics={**trained.metrics, **({"growth_gate": gate} if came else {})})
            yield self._progress(steps, "steps")
        after = self._validation()
        yield self.at(ev.StepMetrics, metrics={"validation_loss": after})
        reason = "" if came else "nothing came back; trained on, so that cycles stay comparable"
        yield self._end(reason, {"sparsity": self.world.sparsity, "loss_after_growth": after})

    def _regrowth(self) -> Iterator[ev.Event]:
        benefit, half = self.world.benefits()
        clear = [HeadId(int(a), int(b)) for a, b in np.argwhere(benefit - half > 0)]
        heads = sorted((head for head in clear if head not in self.regrown), key=lambda head: -benefit[head])[:2]
        if not heads:
            yield self.at(ev.LogLine, message="growth: of no pruned head does the benefit's interval lie above 0")
            return
        low, high = benefit - half, benefit + half
        yield self.at(
            ev.HeadScores, sequences=BENEFIT_SEQUENCES,
            scores={"growth_benefit": benefit, "growth_benefit_low": low, "growth_benefit_high": high},
        )  # fmt: skip
        before = self._validation()
        self.world.regrow(heads, float(sum(benefit[head] for head in heads)))
        self.regrown.update(heads)
        reasons = {
            f"{head.layer}.{head.head}": f"benefit {benefit[head]:.4f} nats, 95 % interval "
            f"{benefit[head] - half[head]:.4f} to {benefit[head] + half[head]:.4f} lies above 0 "
            f"({BENEFIT_SEQUENCES} sequences)"
            for head in heads
        }
        yield self.at(
            ev.HeadsGrown, heads=tuple(sorted(heads)), origin="regrown", strategy="signed benefit", score=benefit,
            low=low, high=high,
            rule="the 95 % interval of the benefit lies above 0; at most 2 heads per cycle", reasons=reasons,
            loss_before=before, loss_after=self._validation(),
        )  # fmt: skip

    def _addition(self) -> ev.HeadsGrown:
        """A head where those that are left carry the most."""
        active = self.world.active
        load = np.where(active, self.world.worth, 0).sum(1) / np.maximum(active.sum(1), 1)
        layer = int(np.argmax(load))
        share = float(np.where(active, self.world.worth, 0)[layer].sum() / self.world.worth[active].sum())
        gain = 0.018 + float(self.rng.uniform(0, 0.01))
        before = self._validation()
        head = self.world.add_head(layer, gain)
        reason = (
            f"the {int(active[layer].sum())} heads left in layer {layer} carry {share:.0%} of the model's importance; "
            f"with a new one the validation loss changes by −{gain:.4f} nats, 95 % interval "
            f"−{gain + 0.006:.4f} to −{gain - 0.006:.4f}"
        )
        return self.at(
            ev.HeadsGrown, heads=(head,), origin="added", strategy="load per head",
            rule="one head where the load per active head is highest, kept if the loss's interval lies below 0",
            reasons={f"{head.layer}.{head.head}": reason}, loss_before=before, loss_after=self._validation(),
        )  # fmt: skip

    # Looking -----------------------------------------------------------------------------------------------------

    def _sample(self, number: int, model: str, loss: float | None = None) -> ev.TextSample:
        probe = PROBES[number]
        text = continuation(number, self.loss if loss is None else loss)
        return self.at(ev.TextSample, prompt=probe.prompt, text=text, model=model)

    def _evaluation(self) -> Iterator[ev.Event]:
        yield self._begin("evaluation", BATCHES, "batches")
        yield from self._batches(14.0 if not self.cycle else 20.0)
        model = "pruned" if self.cycle else "baseline"
        for number in range(len(PROBES)):
            yield self._sample(number, model)
            if self.cycle:
                yield self._sample(number, "control", self.unpruned_loss)
        yield from self._looks(model)
        losses = {"control": self.unpruned_loss, model: self.loss} if self.cycle else {model: self.loss}
        results = evaluate(self.rng, self.size, losses, self.world.missing, self.world.sparsity, self.baseline)
        self.baseline = results["baseline"]
        self.closing = results.get("comparison", {})
        yield self.at(ev.Evaluation, results=results, sequences=256, tokens=256 * 256)
        yield self._end()

    def _looks(self, model: str) -> Iterator[ev.Event]:
        """What a real run looks at in every cycle, at the same places."""
        for number, probe in enumerate(PROBES):
            prompt = {"prompt": probe.prompt, "tokens": probe.tokens, "error": ev.MAP_ERROR}
            yield self.at(ev.AttentionMaps, maps=self.world.attention(number), model=model, **prompt)
            if self.cycle:
                yield self.at(ev.AttentionMaps, maps=self.world.control_attention(number), model="control", **prompt)
        yield self.at(ev.HeadScores, scores=self.world.attended(), sequences=len(PROBES))
        groups, labels = zip(*((group, token) for group, tokens in TOKEN_GROUPS.items() for token in tokens),
                             strict=True)  # fmt: skip
        for name in (model, "control") if self.cycle else (model,):
            vectors = self.world.hidden_states(self.cycle, name == "control").astype(np.float16)
            yield self.at(
                ev.Embedding, name="hidden states", vectors=vectors, labels=labels, groups=groups, model=name,
                layers=tuple(range(-1, self.world.layers)),
            )  # fmt: skip
