"""Gates on every query head of a transformers model: ``attach`` puts them in and proves them, ``Heads`` moves them.

All state lives in the model, in one `LayerSeam` per attention layer: a deep copy of an attached model is attached, and
two ``Heads`` of one model see the same gates.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from transformers import PreTrainedModel

from neural_plasticity.errors import HeadError
from neural_plasticity.heads import BoolGrid, HeadId, grid_of, head_ids, heads_of
from neural_plasticity.models.layouts import IGNORES_SEAM, LayerLayout, layer_layouts, plasticity_record, unsupported
from neural_plasticity.models.proof import prove, trial
from neural_plasticity.models.protection import Protection
from neural_plasticity.models.seam import LayerSeam, Probe, backend_of, register_backend, seam_of
from neural_plasticity.models.widening import Where, add_heads


def attach(model: Any) -> Heads:
    """Put a gate on every query head of ``model``; its outputs do not change. Attaching twice is attaching once.

    Raises:
        UnsupportedModelError: the heads cannot be reached; the model is left as it was.
    """
    model = getattr(model, "_orig_mod", model)  # what torch.compile wrapped
    layouts = layer_layouts(model)
    if not isinstance(model, PreTrainedModel):
        raise unsupported(model, "it is not a transformers model")
    if not _attached(model, layouts):
        before = model.config._attn_implementation
        seams = {layout.path: seam_of(layout.module) for layout in layouts}
        with trial(model) as forward:
            expected = forward()
            try:
                _install(model, layouts)
                prove(model, layouts, forward, expected)
            except BaseException:
                _uninstall(model, layouts, before)
                for layout in layouts:
                    if (seam := seams[layout.path]) is not None:
                        layout.module.plasticity = seam
                if backend_of(before) != before:
                    model.base_model.register_forward_pre_hook(follow_backend)
                raise
    return Heads(model, layouts)


def is_attached(model: Any) -> bool:
    """Whether `attach` put a gate on every head. (Compact models keep some, where they need the seam.)"""
    model = getattr(model, "_orig_mod", model)
    return _attached(model, layer_layouts(model))


class Heads:
    """The attention heads of an attached model, as a grid (layers, heads) of switches. Made by `attach`."""

    def __init__(self, model: PreTrainedModel, layouts: tuple[LayerLayout, ...]) -> None:
        self.model = model
        self._layouts = layouts
        self._record = plasticity_record(model.config)

    def __repr__(self) -> str:
        mask, had = self.mask, sum(len(layout.groups) for layout in self.layouts)
        return f"Heads({self.shape[0]} layers × {self.shape[1]} heads, {int(mask.sum())} of {had} active)"

    @property
    def layouts(self) -> tuple[LayerLayout, ...]:
        """Where each layer's heads lie; found again when heads were added, through whichever ``Heads`` of the model."""
        record = plasticity_record(self.model.config)
        if record is not self._record:
            self._layouts, self._record = layer_layouts(self.model), record
        return self._layouts

    @property
    def shape(self) -> tuple[int, int]:
        """(layers, heads of the widest layer); what a layer has not is not ``present``."""
        return len(self.layouts), max(len(layout.groups) for layout in self.layouts)

    @property
    def present(self) -> BoolGrid:
        """(layers, heads), True where the head's weights are physically there (False: removed by compaction)."""
        grid = np.zeros(self.shape, dtype=bool)
        for layout in self.layouts:
            grid[layout.layer, list(layout.query_ids)] = True
        return grid

    @property
    def original(self) -> BoolGrid:
        """(layers, heads), True where a head is one of the model's own: present, and not `add`-ed."""
        grid = self.present
        for layout in self.layouts:
            grid[layout.layer, layout.original :] = False
        return grid

    @property
    def added(self) -> tuple[tuple[int, ...], ...]:
        """Per layer, the key/value head of each head that was added to it. Empty where none was."""
        return tuple(layout.added for layout in self.layouts)

    @property
    def mask(self) -> BoolGrid:
        """(layers, heads), True = active. A copy; removed heads are False."""
        grid = np.zeros(self.shape, dtype=bool)
        for layout, seam in self._seams():
            grid[layout.layer, list(layout.query_ids)] = (seam.gate != 0).cpu().numpy()
        return grid

    @property
    def kv_groups(self) -> npt.NDArray[np.int64]:
        """(layers, heads): the key/value head that each query head reads; −1 where a layer never had such a head."""
        grid = np.full(self.shape, -1, dtype=np.int64)
        for layout in self.layouts:
            grid[layout.layer, : len(layout.groups)] = layout.groups
        return grid

    def prune(self, heads: Iterable[Any]) -> tuple[HeadId, ...]:
        """Switch heads off and return them, read. Heads that are off stay off.

        Raises:
            HeadError: a head cannot be read or lies outside the grid.
        """
        found = head_ids(heads, self.shape)
        self.set_mask(self.mask & ~grid_of(found, self.shape))
        return found

    def regrow(self, heads: Iterable[Any]) -> tuple[HeadId, ...]:
        """Switch pruned heads on again, with the weights they had, and return them, read.

        Raises:
            HeadError: as `prune`, or the head was physically removed.
        """
        found = head_ids(heads, self.shape)
        self.set_mask(self.mask | grid_of(found, self.shape))
        return found

    def add(self, where: Where, seed: int = 0) -> tuple[HeadId, ...]:
        """Give layers new heads beyond the original number, switched on, and return them: ``heads.add({3: 2})``.

        ``where`` says how many each layer gets, or names layers that get one each. The function is unchanged at birth:
        what a new head writes is zero until training moves it. Make the optimiser afterwards: parameters are replaced.

        Raises:
            HeadError: there is no such layer, or compaction left it without heads.
            UnsupportedModelError: the architecture's code does not allow it; the model is left as it was.
        """
        follow_backend(self.model)
        list(self._seams())  # a detached model has no gates for them
        return add_heads(self.model, where, seed)

    def set_mask(self, mask: npt.ArrayLike) -> None:
        """Set every switch at once: (layers, heads), True = active. A head that fades in, and stays on, goes on fading.

        Raises:
            HeadError: wrong shape, not boolean, or True where a head was physically removed.
        """
        wanted = np.asarray(mask)
        if wanted.shape != self.shape or wanted.dtype != np.bool_:
            raise HeadError(f"mask: expected bool {self.shape}, got {wanted.dtype} {wanted.shape}; True = active.")
        if gone := heads_of(wanted & ~self.present):
            raise HeadError(f"head {gone[0]}: compaction removed its weights; take the model from before compaction.")
        follow_backend(self.model)
        for layout, seam in self._seams():
            on = torch.as_tensor(wanted[layout.layer, list(layout.query_ids)], device=seam.gate.device)
            # A new tensor: a graph that still needs the old gate for its backward keeps it.
            seam.gate = torch.where(on, torch.where(seam.gate > 0, seam.gate, 1.0), 0.0)

    def fade_in(self, heads: Iterable[Any], gate: float) -> None:
        """Let heads through by a fraction, above 0 and up to 1, all others as they are: a return in small steps.

        Such a head counts as active: it trains. Nothing can be compacted until its gate is 1 (or it is off again).

        Raises:
            HeadError: as `regrow`, or the fraction is none.
        """
        if not 0 < gate <= 1:
            raise HeadError(f"gate {gate:g}: expected a number above 0, at most 1.")
        chosen = grid_of(head_ids(heads, self.shape), self.shape)
        if gone := heads_of(chosen & ~self.present):
            raise HeadError(f"head {gone[0]}: compaction removed its weights; take the model from before compaction.")
        for layout, seam in self._seams():
            rows = torch.as_tensor(chosen[layout.layer, list(layout.query_ids)], device=seam.gate.device)
            seam.gate = torch.where(rows, torch.full_like(seam.gate, gate), seam.gate)

    @contextmanager
    def gated(self, mask: npt.ArrayLike) -> Iterator[None]:
        """Set a mask for a while. With gradient checkpointing, run the backward inside too: it computes forward again.

        Raises:
            HeadError: as `set_mask`.
        """
        before = [(seam, seam.gate) for _, seam in self._seams()]
        self.set_mask(mask)
        try:
            yield
        finally:
            for seam, gate in before:
                seam.gate = gate

    @contextmanager
    def probing(self, probe: Probe) -> Iterator[None]:
        """Let ``probe`` observe every layer's attention, and decide what goes on, for a while."""
        follow_backend(self.model)
        before = [(seam, seam.probe) for _, seam in self._seams()]
        for seam, _ in before:
            seam.probe = probe
        try:
            yield
        finally:
            for seam, earlier in before:
                seam.probe = earlier

    def protect(self, optimizer: torch.optim.Optimizer) -> Protection:
        """From now on ``optimizer.step()`` leaves pruned heads' parameters and optimiser state as they are.

        Follows the mask: a regrown head trains again from where it stood. End it with ``.remove()``.
        """
        return Protection(self, optimizer)

    def detach(self) -> None:
        """Take the gates out: every head that is there is active again, and the model is as before `attach`.

        A layer of a compact model whose query heads share key/value heads unevenly needs the seam itself, and keeps it.
        """
        if all(layout.even_groups for layout in self.layouts):
            _uninstall(self.model, self.layouts, backend_of(self.model.config._attn_implementation))
            return
        for layout, seam in list(self._seams()):
            if layout.even_groups:
                del layout.module.plasticity
            else:
                seam.gate = torch.ones_like(seam.gate)

    def _seams(self) -> Iterator[tuple[LayerLayout, LayerSeam]]:
        for layout in self.layouts:
            if layout.heads:
                seam = seam_of(layout.module)
                if seam is None:
                    raise HeadError("the model was detached; call attach(model) again.")
                yield layout, seam


def follow_backend(model: Any, *_: Any) -> None:
    """Lay the seam over the backend in use. Also runs before each forward: users may switch backends at any time."""
    name = model.config._attn_implementation
    if backend_of(name) != name:
        return
    attention = next((module for module in model.modules() if seam_of(module) is not None), None)
    eager = getattr(sys.modules[type(attention).__module__], "eager_attention_forward", None)
    if name == "eager" and eager is None:
        raise unsupported(model, IGNORES_SEAM)
    seam_name = register_backend(name, eager)
    if seam_name is None:
        raise unsupported(model, f"its attention backend '{name}' cannot be reached; load it with 'sdpa' or 'eager'")
    model.config._attn_implementation = seam_name


def _attached(model: PreTrainedModel, layouts: tuple[LayerLayout, ...]) -> bool:
    return any(hook is follow_backend for hook in model.base_model._forward_pre_hooks.values()) and all(
        _fits(seam_of(layout.module), layout) for layout in layouts if layout.heads
    )


def _fits(seam: LayerSeam | None, layout: LayerLayout) -> bool:
    return seam is not None and seam.layer == layout.layer and torch.equal(seam.kv_of_query.cpu(), layout.kv_of_query)


def _install(model: PreTrainedModel, layouts: tuple[LayerLayout, ...]) -> None:
    for layout in layouts:
        if layout.heads and not _fits(seam_of(layout.module), layout):
            device = layout.output_weight().device
            layout.module.plasticity = LayerSeam(layout.layer, layout.kv_of_query.to(device), layout.even_groups)
    if any(layout.heads for layout in layouts):
        _remove_hooks(model)
        model.base_model.register_forward_pre_hook(follow_backend)
        follow_backend(model)


def _uninstall(model: PreTrainedModel, layouts: tuple[LayerLayout, ...], backend: str) -> None:
    _remove_hooks(model)
    for layout in layouts:
        if isinstance(getattr(layout.module, "plasticity", None), nn.Module):
            del layout.module.plasticity
    model.config._attn_implementation = backend


def _remove_hooks(model: PreTrainedModel) -> None:
    hooks = model.base_model._forward_pre_hooks
    for key in [key for key, hook in hooks.items() if hook is follow_backend]:
        del hooks[key]
