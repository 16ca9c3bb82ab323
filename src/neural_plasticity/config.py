"""What a run can be told: one frozen dataclass from which the command line and its help are derived."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from neural_plasticity.errors import ConfigError
from neural_plasticity.heads import MOST_HEADS

PruneUnit = Literal["head", "kv_group"]
Precision = Literal["no", "bf16"]
NewHeadsRule = Literal["gradient", "random"]

VIEWS = (
    *("output_dir", "use_dashboard", "no_browser", "no_visualize", "wandb", "online", "track", "tags", "quick_test"),
    "checkpoint_every",
)
"""Options that change what is seen or kept, and where it goes, never what a run does."""


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Options of a run; each one's text below is its help on the command line."""

    model_name: str = "builtin"
    """Model: 'builtin', a local directory, or a hub name such as distilgpt2."""
    trust_remote_code: bool = False
    """Let the model run code of its own, which comes with it. Look at that code first."""
    dataset: str = "python-stdlib"
    """Text: 'python-stdlib', a text file, a directory of text files, or a hub data set such as wikitext."""
    dataset_config: str | None = None
    """Configuration of a hub data set, such as wikitext-2-raw-v1."""

    pruning_strategy: str = "gradient"
    """What decides: entropy, gradient, gradient_normalised, fisher, output_norm, magnitude, random, combined, ablation,
    or your own as package.module:function. Several, with commas: one per cycle."""
    pruning_level: str = "0.2"
    """Fraction of the heads still active that one cycle prunes. Several, with commas: one per cycle."""
    cycles: int | Literal["auto"] | None = None
    """Number of prune-and-heal cycles, or 'auto': go on while the model stays inside --max_perplexity_increase, then
    return to the last state inside it. Default: as many as strategies or levels were given."""
    max_perplexity_increase: float | None = None
    """With --cycles auto: a cycle is inside the budget when the 95 % interval of its perplexity on validation text,
    over that of the unpruned control trained as long (auto implies --control), ends at or below 1 + this.
    Default: 0.05."""
    max_cycles: int | None = None
    """With --cycles auto: no more cycles than this, whatever is still inside. Default: 20."""
    judge_sequences: int | None = None
    """With --cycles auto: validation sequences on which each cycle is judged, others than heads are scored on (fewer if
    the text has fewer). More make the interval narrower. Default: 256."""
    prune_unit: PruneUnit = "head"
    """What goes at once: single query heads, or whole key/value groups (these free KV cache)."""
    min_heads_per_layer: int = 1
    """No layer is left with fewer active heads than this."""

    warmup_steps: int = 200
    """Warm-up ends when the loss is stable, at the latest after this many steps."""
    fine_tuning_steps: int = 150
    """Training steps after each pruning."""
    growth: bool = False
    """After each fine-tuning, bring pruned heads back where the evidence says so. Heads that an earlier cycle pruned
    are tried when their benefit at gate 0, -dL/dgate on validation text, is above zero (95 % interval). One comes back
    if switching it on lowers the loss of further validation text (interval corrected for the number tried), by at
    least what the weakest active heads are worth by ablation. Every considered head gets its reason."""
    growth_budget: float = 0.25
    """With --growth: at most this fraction of the heads that the cycle pruned comes back, best gain first. Less than 1,
    so that every cycle leaves fewer heads."""
    growth_steps: int | None = None
    """Training steps of each growth phase, whatever came back, so that runs stay comparable. Default: a third of
    --fine_tuning_steps."""
    growth_ramp_steps: int | None = None
    """The gate of a head that comes back rises from 0 to 1 over this many of the growth steps. Default: half."""
    grow_new_heads: int = 0
    """New heads beyond the original number, over the whole run: spread over the cycles' growth phases, earlier ones
    first (--cycles auto: all in the first). They change nothing at birth, since what they write starts at zero."""
    new_heads_rule: NewHeadsRule = "gradient"
    """Which layers get new heads: those whose heads are worth most by gradient, or random ones to compare with."""
    control: bool = False
    """Also train an unpruned control for as many steps on the same batches (doubles the fine-tuning time)."""
    batch_size: int = 8
    """Sequences per training step, in all: divided among the processes of accelerate launch or torchrun, and among
    --gradient_accumulation_steps. So the same options give the same experiment on any number of devices."""
    gradient_accumulation_steps: int = 1
    """Compute each training step's batch in this many parts, one after the other: less memory, the same step. Scoring
    and evaluation take parts of that size too."""
    mixed_precision: Precision = "no"
    """bf16: matrix products of training, scoring and held-out losses in bfloat16; weights stay as they are. Text
    samples, attention maps and speed are those of the weights."""
    lora_rank: int | None = None
    """Train low-rank adapters of this rank beside the linear layers, in every training phase and for the control too;
    they are merged into the weights at the end of each, and checkpoints are written there only. For models whose AdamW
    state does not fit. Needs peft."""
    fsdp: bool = False
    """Hold parameters, gradients and AdamW's moments in parts, one on each process of accelerate launch or torchrun:
    for models too large for one device. FSDP2, a decoder layer whole at a time; the same experiment. accelerate launch
    --use_fsdp --fsdp_version 2 says the same."""
    gradient_checkpointing: bool = False
    """Compute each layer again in the backward of a training step: less memory, about a third slower, the same step."""
    sequence_length: int | None = None
    """Tokens per sequence. Default: 256, or what the model can take if that is less."""
    learning_rate: float = 1e-4
    """Peak learning rate of AdamW; it rises over the first tenth of each training phase, then stays."""
    weight_decay: float = 0.01
    """Weight decay of AdamW. Pruned heads are exempt: their parameters do not move."""
    stabilisation_window: int | None = None
    """Warm-up: number of last steps over which the loss slope is judged. Default: the latest half, at least 40."""
    stabilisation_tolerance: float = 0.1
    """Warm-up: stable when the 95 % interval of the loss change over a window is inside ± this fraction of the loss."""

    score_sequences: int = 64
    """Validation sequences on which heads are scored."""
    eval_sequences: int = 256
    """Test sequences on which models are evaluated (fewer if the text has fewer)."""
    eval: str | None = None
    """Your own evaluation, package.module:function(model, tokenizer) -> {name: number}, on every model evaluated."""
    seed: int = 0
    """Seed of everything random; the same seed gives the same run on CPU."""
    device: str = "auto"
    """Where to compute: auto, cpu, cuda, cuda:1, mps."""
    checkpoint_every: int = 100
    """Training steps between two checkpoints within a phase; 0: only after each phase. The last two are kept; Ctrl-C
    writes one too. --resume goes on from the newest."""

    output_dir: Path | None = None
    """Run directory. Default: output/neural_plasticity_[timestamp]."""
    use_dashboard: bool = False
    """Show the run live in the browser, and write dashboard.html into the run directory, during it and at its end."""
    no_browser: bool = False
    """Do not open the dashboard in a browser."""
    no_visualize: bool = False
    """Draw no PNG figures at the end. The page is written all the same."""
    wandb: bool = False
    """Send the run to Weights & Biases too: as WANDB_MODE says, else offline (plasticity sync sends it later)."""
    online: bool = False
    """Send the run to Weights & Biases, online; without key or network it is said, and kept offline."""
    track: str | None = None
    """Other trackers, with commas between: tensorboard, trackio, mlflow, and what else Accelerate knows."""
    tags: str | None = None
    """Words to find the run by, with commas between."""
    quick_test: bool = False
    """Every phase for real in about 90 s with the built-in model: fewer steps, shorter and fewer sequences."""

    @property
    def strategies(self) -> tuple[str, ...]:
        """One strategy per cycle."""
        return _per_cycle("--pruning_strategy", self.pruning_strategy, self.cycle_count)

    @property
    def levels(self) -> tuple[float, ...]:
        """One level per cycle, each in (0, 1)."""
        return tuple(_level(text) for text in _per_cycle("--pruning_level", self.pruning_level, self.cycle_count))

    @property
    def cycle_count(self) -> int:
        """Cycles that are planned; with ``--cycles auto`` the most that there can be."""
        if self.cycles == "auto":
            return 20 if self.max_cycles is None else self.max_cycles
        if self.cycles is not None:
            return self.cycles
        return max(len(self.pruning_strategy.split(",")), len(self.pruning_level.split(",")))

    @property
    def auto(self) -> bool:
        """Whether the run finds out itself when to stop."""
        return self.cycles == "auto"

    @property
    def loss_budget(self) -> float:
        """What ln(perplexity / the control's) may come to with ``--cycles auto``."""
        return math.log1p(0.05 if self.max_perplexity_increase is None else self.max_perplexity_increase)

    @property
    def sequences_to_judge(self) -> int:
        """Validation sequences on which a cycle is judged, if the text has as many."""
        return 256 if self.judge_sequences is None else self.judge_sequences

    @property
    def grows(self) -> bool:
        """Whether each cycle has a growth phase."""
        return self.growth or self.grow_new_heads > 0

    def heads_born_in(self, cycle: int) -> int:
        """How many of the new heads are born in this cycle; the first cycles get one more where it does not divide."""
        cycles = 1 if self.auto else self.cycle_count
        before, now = (math.ceil(self.grow_new_heads * min(done, cycles) / cycles) for done in (cycle - 1, cycle))
        return now - before

    @property
    def steps_of_growth(self) -> int:
        """Training steps of one growth phase."""
        return max(1, self.fine_tuning_steps // 3) if self.growth_steps is None else self.growth_steps

    @property
    def steps_of_ramp(self) -> int:
        """Steps over which a returning head's gate rises."""
        return max(1, self.steps_of_growth // 2) if self.growth_ramp_steps is None else self.growth_ramp_steps

    @property
    def sequences_at_once(self) -> int:
        """Sequences that one forward takes, on all processes together."""
        return max(1, self.batch_size // self.gradient_accumulation_steps)

    @property
    def tag_list(self) -> tuple[str, ...]:
        return tuple(tag.strip() for tag in (self.tags or "").split(",") if tag.strip())

    def trackers(self, environment: Mapping[str, str]) -> tuple[str, ...]:
        """Names of the trackers that follow the run; ``environment`` is asked for WANDB_MODE."""
        named = tuple(name.strip() for name in (self.track or "").split(",") if name.strip())
        wandb = self.wandb or self.online or bool(environment.get("WANDB_MODE"))
        return (("wandb",) if wandb and "wandb" not in named else ()) + named

    @classmethod
    def quick(cls) -> RunConfig:
        """The defaults under ``--quick_test``: what the user gives beside it still counts."""
        return cls(
            quick_test=True,
            warmup_steps=24,
            fine_tuning_steps=24,
            sequence_length=128,
            stabilisation_window=20,
            score_sequences=32,
            eval_sequences=64,
        )

    def checked(self) -> RunConfig:
        """This configuration, if every value is possible, with what it implies.

        Raises:
            ConfigError: a value is impossible; the message names its flag.
        """
        for flag, minimum in _MINIMA.items():
            value = getattr(self, flag)
            if value not in (None, "auto") and not minimum <= value < 2**63:
                raise ConfigError(f"--{flag} {value}: expected at least {minimum}, and less than 2**63.")
        for flag, what in (("model_name", "a model"), ("dataset", "a text")):
            if not getattr(self, flag).strip():
                raise ConfigError(f"--{flag} '': expected {what}, got nothing; leave it out for the default.")
        for flag in ("cycles", "max_cycles"):
            value = getattr(self, flag)
            if isinstance(value, int) and value > MOST_HEADS:  # before there is a strategy and a level for each
                raise ConfigError(
                    f"--{flag} {value}: expected at most {MOST_HEADS:,}: each cycle removes at least one head, and no "
                    "model has more of them."
                )
        for flag in ("learning_rate", "stabilisation_tolerance"):
            value = getattr(self, flag)
            if not 0 < value < 1:
                raise ConfigError(f"--{flag} {value}: expected a number between 0 and 1, both excluded.")
        self._check_auto()
        _ = self.strategies, self.levels
        self._check_growth()
        return dataclasses.replace(self, control=True) if self.auto else self

    def _check_auto(self) -> None:
        """ConfigError when the options of ``--cycles auto`` cannot be, or would do nothing."""
        increase = self.max_perplexity_increase
        given = (increase, self.max_cycles, self.judge_sequences)
        for flag, value in zip(("max_perplexity_increase", "max_cycles", "judge_sequences"), given, strict=True):
            if value is not None and not self.auto:
                raise ConfigError(
                    f"--{flag} {value}: does nothing without --cycles auto; give it too, or leave this out."
                )
        if increase is not None and not 0 < increase < math.inf:
            raise ConfigError(
                f"--max_perplexity_increase {increase:g}: expected a number above 0; 0.05 lets perplexity be 5 % above "
                "the control's. No finite text can show that nothing at all was lost."
            )
        for flag, text in (("pruning_strategy", self.pruning_strategy), ("pruning_level", self.pruning_level)):
            if self.auto and "," in text:
                raise ConfigError(
                    f"--{flag} {text}: expected one value with --cycles auto, since the number of cycles is not known; "
                    "it is used in every cycle."
                )

    def _check_growth(self) -> None:
        """ConfigError when the growth options cannot be, or would do nothing."""
        for flag, value, default, on in (
            ("growth_budget", self.growth_budget, 0.25, self.growth),
            ("growth_steps", self.growth_steps, None, self.grows),
            ("growth_ramp_steps", self.growth_ramp_steps, None, self.growth),
            ("new_heads_rule", self.new_heads_rule, "gradient", self.grow_new_heads),
        ):
            needed = {"growth_steps": "--growth or --grow_new_heads", "new_heads_rule": "--grow_new_heads"}
            if value != default and not on:
                raise ConfigError(
                    f"--{flag} {value}: does nothing without {needed.get(flag, '--growth')}; give it too, or leave "
                    "this out."
                )
        if not 0 < self.growth_budget < 1:
            raise ConfigError(
                f"--growth_budget {self.growth_budget:g}: expected a fraction of the heads that a cycle prunes, "
                "between 0 and 1, excluded."
            )
        if self.growth and self.steps_of_ramp > self.steps_of_growth:
            raise ConfigError(
                f"--growth_ramp_steps {self.steps_of_ramp}: the growth phase has {self.steps_of_growth} steps "
                "(--growth_steps), and the gate has to be all the way up at its end."
            )
        if self.growth and self.prune_unit == "kv_group":
            raise ConfigError(
                "--growth with --prune_unit kv_group: heads come back one by one, and one alone would bring its "
                "group's whole key/value head back; give --prune_unit head."
            )
        if self.growth and self.cycle_count < 2:
            raise ConfigError(
                "--growth with one cycle: nothing could come back, since no head returns in the cycle that pruned it; "
                "give --cycles 2 or more."
            )


_MINIMA: Mapping[str, int] = {
    "cycles": 1,
    "max_cycles": 1,
    "judge_sequences": 8,
    "min_heads_per_layer": 0,
    "warmup_steps": 1,
    "fine_tuning_steps": 0,
    "growth_steps": 1,
    "growth_ramp_steps": 1,
    "grow_new_heads": 0,
    "batch_size": 1,
    "gradient_accumulation_steps": 1,
    "sequence_length": 8,
    "stabilisation_window": 8,
    "score_sequences": 1,
    "eval_sequences": 2,
    "lora_rank": 1,
    "weight_decay": 0,
    "seed": 0,
    "checkpoint_every": 0,
}


def _per_cycle(flag: str, text: str, cycles: int) -> tuple[str, ...]:
    values = tuple(part.strip() for part in text.split(","))
    if not all(values):
        raise ConfigError(f"{flag} {text!r}: expected one value, or one per cycle with commas between.")
    if len(values) == 1:
        return values * cycles
    if len(values) != cycles:
        raise ConfigError(f"{flag} {text}: {len(values)} values for {cycles} cycles; give one value, or one per cycle.")
    return values


def _level(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not 0 < value < 1:
        raise ConfigError(
            f"--pruning_level {text}: expected a fraction of the active heads between 0 and 1, excluded; such as 0.2."
        )
    return value


def as_json(config: RunConfig) -> dict[str, Any]:
    """The configuration as plain values, as the record keeps it."""
    return {k: str(v) if isinstance(v, Path) else v for k, v in dataclasses.asdict(config).items()}


def from_json(values: Mapping[str, Any]) -> RunConfig:
    """The configuration that ``as_json`` wrote; unknown names (a newer version's) are refused by name.

    Raises:
        ConfigError: an option is unknown, or has a value of another type.
    """
    known = {f.name for f in dataclasses.fields(RunConfig)}
    if unknown := set(values) - known:
        raise ConfigError(f"the record's configuration has options this version does not know: {sorted(unknown)}.")
    types = get_type_hints(RunConfig)
    for name, value in values.items():
        if not _is_one(value, types[name]):
            raise ConfigError(f"the record's configuration has {name} {value!r:.60}, which it cannot be.")
    kept = dict(values)
    if kept.get("output_dir") is not None:
        kept["output_dir"] = Path(kept["output_dir"])
    return RunConfig(**kept)


def _is_one(value: Any, hint: Any) -> bool:
    """Whether a value that JSON gave is one of an option's type."""
    if get_origin(hint) in (UnionType, Union):
        return any(_is_one(value, one) for one in get_args(hint))
    if get_origin(hint) is Literal:
        return isinstance(value, str) and value in get_args(hint)
    if hint is Path:
        return isinstance(value, str)
    if hint in (int, float):
        return isinstance(value, int | hint) and not isinstance(value, bool)
    return value is None if hint is NoneType else isinstance(value, hint)
