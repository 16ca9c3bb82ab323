"""What is looked at in every cycle, at the same places: attention maps, what heads attend to, hidden states.

The same prompts, the same sentences of the validation text and the same random tokens each time, so that a change is
the model's. The control is looked at too: it shows how far training alone moves a model.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from neural_plasticity.data.prompts import MAP_TOKENS, PROBE_PROMPTS
from neural_plasticity.data.tokens import spread
from neural_plasticity.events import MAP_ERROR, AttentionMaps, Embedding, Event, HeadScores, in_steps
from neural_plasticity.experiment.state import Experiment
from neural_plasticity.importance import attention_maps
from neural_plasticity.importance.patterns import hidden_states, pattern_scores, repeated_tokens

HIDDEN_STATES = "hidden states"

TEXTS, TEXT_TOKENS = 4, 28
"""Validation passages whose tokens' hidden states are kept, beside the prompts', and the tokens of each."""

_ATTENDED, _ATTENDED_TOKENS = 8, 64  # validation sequences for the other scores, and the tokens of each
_REPEATED, _PERIOD = 4, 32  # random sequences for the induction score, and after how many tokens they repeat
_SEED = 20_221  # of those: the same in every run, so that runs compare
_HALF_MOST = 60_000.0  # of half precision, with room
_HIDDEN_BYTES = 64_000_000  # of one model's hidden states at one look: a 70B model's would be 190 MB


class Passage(NamedTuple):
    """Text whose hidden states are kept."""

    name: str
    ids: Tensor  # (T,)


def observe(x: Experiment, name: str) -> Iterator[Event]:
    """Look at the model (``name``: ``baseline`` or ``pruned``) and, beside a pruned one, at the control."""
    watched = [(name, x.model)]
    if x.control is not None and x.clock.cycle:
        watched.append(("control", x.control))
    for prompt in PROBE_PROMPTS:
        ids = _prompt_ids(x, prompt)
        tokens = _as_text(x, ids)
        for model_name, model in watched:
            maps = in_steps(attention_maps(model, ids))
            yield AttentionMaps(
                prompt=prompt, tokens=tokens, maps=maps, model=model_name, error=MAP_ERROR, **x.clock.at()
            )
    yield _attended(x)
    for model_name, model in watched:
        yield from _hidden(x, model_name, model)


def _prompt_ids(x: Experiment, prompt: str) -> Tensor:
    ids = x.tokenizer(prompt, add_special_tokens=False)["input_ids"][: min(x.test.shape[1] // 2, MAP_TOKENS)]
    return torch.tensor(ids)


def _as_text(x: Experiment, ids: Tensor) -> tuple[str, ...]:
    """Each token as people read it, and not as its vocabulary spells it ("Ġthe")."""
    return tuple(x.tokenizer.decode([one], clean_up_tokenization_spaces=False) for one in ids.tolist())


def _attended(x: Experiment) -> HeadScores:
    began = time.perf_counter()
    text = torch.from_numpy(spread(x.validation, _ATTENDED)[:, :_ATTENDED_TOKENS].copy())
    excluded = {int(one) for one in x.tokenizer.all_special_ids}
    period = min(_PERIOD, x.test.shape[1] // 2)
    repeated = repeated_tokens(_vocabulary(x), excluded, _REPEATED, period, _SEED)
    return HeadScores(
        scores=pattern_scores(x.model, text, repeated),
        sequences=len(text),
        tokens=text.numel(),
        seconds=time.perf_counter() - began,
        **x.clock.at(),
    )


def _vocabulary(x: Experiment) -> int:
    """How many token ids both the tokeniser and the model know."""
    known = getattr(x.model.config, "vocab_size", None)
    return len(x.tokenizer) if known is None else min(len(x.tokenizer), int(known))


def _passages(x: Experiment) -> Iterator[Passage]:
    for prompt in PROBE_PROMPTS:
        yield Passage(prompt, _prompt_ids(x, prompt))
    for number, block in enumerate(spread(x.validation, TEXTS), start=1):
        yield Passage(f"validation text {number}", torch.from_numpy(block[:TEXT_TOKENS].copy()))


def _hidden(x: Experiment, name: str, model: nn.Module) -> Iterator[Embedding]:
    """The passages' tokens at every depth, each passage's first one left out.

    Many models park attention on the first token and give it a state far from all others, the same whatever it is:
    it would be most of the variance and tell nothing.
    """
    parts: list[Tensor] = []
    labels: list[str] = []
    groups: list[str] = []
    layers: list[int] = []
    passages = [passage for passage in _passages(x) if len(passage.ids) > 1]
    points = sum(len(passage.ids) - 1 for passage in passages)
    for passage in passages:
        states = hidden_states(model, passage.ids[None])
        if states is None:
            return
        layers = kept_layers(len(states), points, states.shape[-1])
        parts.append(states[layers, 0, 1:].float().cpu())
        labels += _as_text(x, passage.ids[1:])
        groups += [passage.name] * (len(passage.ids) - 1)
    if not parts:
        return
    vectors = torch.cat(parts, dim=1).numpy()
    yield Embedding(
        name=HIDDEN_STATES,
        vectors=_compact(vectors),
        labels=tuple(labels),
        layers=tuple(layer - 1 for layer in layers),
        groups=tuple(groups),
        model=name,
        **x.clock.at(),
    )


def kept_layers(layers: int, points: int, width: int) -> list[int]:
    """Those of ``layers`` depths whose hidden states are kept: all where they fit, else evenly spread ones, the first
    and the last among them."""
    room = max(_HIDDEN_BYTES // max(points * width * 2, 1), 2)
    return sorted({round(one) for one in np.linspace(0, layers - 1, min(layers, room)).tolist()})


def _compact(vectors: npt.NDArray[np.float32]) -> npt.NDArray[Any]:
    """In half precision, unless that would overflow."""
    return vectors.astype(np.float16) if np.abs(vectors).max() < _HALF_MOST else vectors
