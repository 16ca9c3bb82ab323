"""Other shapes in place: layers of an attached model get other heads, proven anew, and there is a way back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from neural_plasticity.errors import first_line
from neural_plasticity.models.layouts import LayerLayout, layer_layouts, unsupported
from neural_plasticity.models.proof import prove, trial
from neural_plasticity.models.seam import LayerSeam, seam_of
from neural_plasticity.models.sharding import apart
from neural_plasticity.models.surgery import Surgery, correct_counts, perform, write_record

_SAID = ("plasticity", "quantization_config")  # what the configuration says of heads
Layouts = Sequence[LayerLayout]


@torch.no_grad()
def reshape(model: Any, layouts: Layouts, targets: Layouts, surgery: Surgery) -> Callable[[], None]:
    """Turn ``layouts`` into ``targets`` in place, prove that the seam reaches every head, and return the way back.

    Gates of heads that both have stay as they are, those of new heads are 1. Every layer keeps some head.

    Raises:
        UnsupportedModelError: it cannot be; all is as it was.
    """
    before = Surgery(parameters={path: model.get_parameter(path) for path in surgery.parameters})
    seams = [seam_of(layout.module) for layout in layouts]
    said = {name: value for name, value in vars(model.config).items() if name in _SAID}

    def back() -> None:
        with apart(model):
            perform(model, before)
            correct_counts(model, targets, layouts)
            for layout, seam in zip(layouts, seams, strict=True):
                if seam is not None:
                    layout.module.plasticity = seam
        for name in _SAID:
            vars(model.config).pop(name, None)
        vars(model.config).update(said)

    with trial(model) as forward:
        expected = forward()
        try:
            with apart(model):
                perform(model, surgery)
                correct_counts(model, layouts, targets)
                for layout, target, seam in zip(layouts, targets, seams, strict=True):
                    if seam is not None and target.query_ids != layout.query_ids:
                        layout.module.plasticity = _resized_seam(seam, layout, target)
                _say(model.config, targets)
            fewer = any(target.heads < layout.heads for layout, target in zip(layouts, targets, strict=True))
            prove(model, layer_layouts(model), forward, forward() if fewer else expected)
        except BaseException as error:
            back()
            if isinstance(error, RuntimeError | IndexError):
                raise counts_itself(model, error) from error
            raise
    return back


def counts_itself(model: Any, error: Exception) -> Exception:
    """The refusal of a model whose forward cannot do with other numbers of heads than its configuration's."""
    return unsupported(model, f"its code counts heads in its own way ({first_line(error)})")


def _say(config: Any, targets: Layouts) -> None:
    """Let the configuration tell of the heads; of exactly the original ones there is nothing to tell."""
    if all(target.query_ids == tuple(range(target.original)) and not target.added for target in targets):
        for name in _SAID:
            vars(config).pop(name, None)
    else:
        write_record(config, targets)


def _resized_seam(seam: LayerSeam, layout: LayerLayout, target: LayerLayout) -> LayerSeam:
    """The seam of the new shape: gates as they were, those of new heads 1."""
    other = LayerSeam(seam.layer, target.kv_of_query.to(seam.gate.device), target.even_groups)
    stay = [head for head in layout.query_ids if head in target.query_ids]
    other.gate = other.gate.to(seam.gate.dtype)
    mine, theirs = ([ids.index(head) for head in stay] for ids in (layout.query_ids, target.query_ids))
    other.gate[theirs] = seam.gate.detach()[mine]
    other.probe = seam.probe
    return other
