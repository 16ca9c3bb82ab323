"""Where each attention head's weights lie, layer by layer.

How a module's attention is wired is found by its structure (`wirings`), its counts are checked against the weights
themselves, and ``attach`` proves the result on a forward pass; so a decoder wired like Llama works without being listed
here. What cannot work is refused by name, with the reason.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from neural_plasticity.errors import UnsupportedModelError
from neural_plasticity.models.parts import whole
from neural_plasticity.models.wirings import COUNTS, HEAD_DIM_NAMES, KINDS, WIRINGS, Kind, Wiring, rows_of

__all__ = [
    "KINDS",
    "Kind",
    "LayerLayout",
    "ParameterSlices",
    "head_dimension",
    "layer_layouts",
    "plasticity_record",
    "refuse_by_name",
    "unsupported",
]

TESTED = ("bert", "gpt2", "gpt_neox", "llama", "mistral", "opt", "phi", "qwen2", "qwen3")

# Architectures whose structure looks right but whose heads cannot be reached; each was tried.
IGNORES_SEAM = "its attention does not call transformers' attention interface, so a head could not be switched off"
REFUSED: Mapping[str, str] = {
    "bloom": IGNORES_SEAM,
    "falcon": IGNORES_SEAM,
    "gpt_neo": IGNORES_SEAM,
    "gptj": IGNORES_SEAM,
}


def unsupported(model: nn.Module, reason: str) -> UnsupportedModelError:
    """The one-line refusal: the architecture's name, the reason, and what works."""
    return _refusal(getattr(getattr(model, "config", None), "model_type", None) or type(model).__name__, reason)


def _refusal(name: str, reason: str) -> UnsupportedModelError:
    works = ", ".join(TESTED)
    return UnsupportedModelError(f"architecture '{name}' is not supported: {reason}. Tested architectures: {works}.")


@dataclass(frozen=True)
class ParameterSlices:
    """Which entries of one parameter belong to which head.

    ``index[h]`` are the places of head ``h`` along dimension ``dim`` of ``model.get_parameter(parameter)``. For
    ``query`` and ``output`` the rows are query heads, for ``key`` and ``value`` key/value heads.
    """

    parameter: str
    dim: int
    kind: Kind
    index: Tensor  # (heads or kv_heads, head_dim) int64, on the CPU


@dataclass(frozen=True, eq=False)
class LayerLayout:
    """One layer's attention as weights: D = head_dim. A layer whose heads were all removed has ``heads == 0``.

    ``query_ids`` and ``kv_ids`` say which heads of the grid the layer holds, ascending, which is the order in which its
    weights hold them: those of the original model come first, added ones after them. ``kv_of_query`` (heads,) is the
    local key/value head that each local query head reads.
    """

    layer: int
    path: str  # of ``module`` under the model
    module: nn.Module  # the one that calls the attention function
    heads: int
    kv_heads: int
    head_dim: int
    query_ids: tuple[int, ...]
    kv_ids: tuple[int, ...]
    groups: tuple[int, ...]  # key/value head of every query head that the layer ever had, by its number
    original: int  # query heads before any was added: heads from this number on are new ones
    wiring: Wiring | None  # None: no heads left
    projections: Mapping[Kind, tuple[str, nn.Module]]  # path under the model, and the Linear or Conv1D there

    @property
    def added(self) -> tuple[int, ...]:
        """The key/value head that each added head reads, or read while it was there."""
        return self.groups[self.original :]

    @property
    def kv_of_query(self) -> Tensor:
        """(heads,) int64: local key/value head of each local query head."""
        place = {kv: index for index, kv in enumerate(self.kv_ids)}
        return torch.tensor([place[self.groups[query]] for query in self.query_ids], dtype=torch.int64)

    @property
    def even_groups(self) -> bool:
        """Whether consecutive query heads share a key/value head in equal groups, as backends assume."""
        if not self.kv_heads or self.heads % self.kv_heads:
            return self.heads == 0
        size = self.heads // self.kv_heads
        return bool((self.kv_of_query == torch.arange(self.heads) // size).all())

    def projection_path(self, kind: Kind) -> str:
        """The path under the model of the submodule that holds this projection."""
        return self.projections[kind][0]

    def projection(self, kind: Kind) -> nn.Module:
        """The ``nn.Linear`` or ``Conv1D`` that holds this projection."""
        return self.projections[kind][1]

    def head_index(self, kind: Kind) -> Tensor:
        """(heads or kv_heads, D) int64: each head's places along the projection's head dimension."""
        if kind == "output":
            return rows_of(0, self.heads, self.head_dim)
        assert self.wiring is not None, "a layer without heads has no projections"
        return self.wiring.arrange(self.heads, self.kv_heads, self.head_dim)[kind]

    def output_weight(self) -> Tensor:
        """(heads, D, hidden): the attention block's output is ``sum_h a_h @ output_weight()[h]`` plus the bias.

        A view of the parameter (a copy of one that is held in parts); (0, D, 0) for a layer without heads.
        """
        if not self.heads:
            return torch.empty(0, self.head_dim, 0)
        return _by_head(_in_by_out(self.projection("output")), self.heads, self.head_dim)

    def value_weight(self) -> Tensor:
        """(kv_heads, D, hidden): a head's value is ``value_weight()[k] @ x`` plus its bias. A view of the parameter, as
        `output_weight`."""
        if not self.heads:
            return torch.empty(0, self.head_dim, 0)
        rows = _in_by_out(self.projection("value")).T  # (rows, hidden)
        index = self.head_index("value")
        if len(index) > 1 and int(index[1, 0] - index[0, 0]) != self.head_dim:  # interleaved: q, k, v of one head
            return _by_head(rows, self.heads, 3 * self.head_dim)[:, 2 * self.head_dim :]
        first = int(index[0, 0])
        return _by_head(rows[first : first + index.numel()], self.kv_heads, self.head_dim)

    def slices(self) -> tuple[ParameterSlices, ...]:
        """Every parameter slice that belongs to single heads: weights and biases of queries, keys, values; output rows.

        A fused projection appears once per kind. The output projection's bias belongs to no head and is not here;
        neither are query and key norms, which all heads share.
        """
        if not self.heads:
            return ()
        found = []
        for kind in KINDS:
            module, path, index = self.projection(kind), self.projection_path(kind), self.head_index(kind)
            found.append(ParameterSlices(f"{path}.weight", head_dimension(module, kind), kind, index))
            if kind != "output" and getattr(module, "bias", None) is not None:
                found.append(ParameterSlices(f"{path}.bias", 0, kind, index))
        return tuple(found)

    def counts(self, heads: int, kv_heads: int) -> dict[str, int]:
        """The attributes of ``module`` that must change when it holds ``heads`` query and ``kv_heads`` kv heads."""
        values = {name: count(heads, kv_heads, self.head_dim) for name, count in COUNTS.items()}
        return {name: value for name, value in values.items() if isinstance(getattr(self.module, name, None), int)}


def head_dimension(projection: nn.Module, kind: Kind) -> int:
    """The dimension of ``projection.weight`` that heads run along: ``Linear`` is (out, in), ``Conv1D`` (in, out)."""
    return int(isinstance(projection, Conv1D) != (kind == "output"))


def _in_by_out(projection: nn.Module) -> Tensor:
    weight = projection.weight
    assert isinstance(weight, Tensor)
    weight = whole(weight)
    return weight if isinstance(projection, Conv1D) else weight.T


def _by_head(rows: Tensor, heads: int, width: int) -> Tensor:
    """(heads · width, hidden) as a view (heads, width, hidden)."""
    return rows.view(heads, width, -1) if rows.is_contiguous() else rows.T.view(-1, heads, width).permute(1, 2, 0)


# --- finding them -----------------------------------------------------------------------------------------------------


def layer_layouts(model: nn.Module) -> tuple[LayerLayout, ...]:
    """One layout per attention layer, in the order of the layers.

    Raises:
        UnsupportedModelError: the architecture is refused by name, or its heads cannot be told apart.
    """
    config = getattr(model, "config", None)
    if config is None or not hasattr(config, "model_type"):
        raise unsupported(model, "it is not a transformers model (it has no config)")
    refuse_by_name(config)
    sites = list(_attention_sites(model))
    if not sites:
        raise unsupported(model, "no attention module with known query, key, value and output projections was found")
    kept = plasticity_record(config)
    if kept is not None and kept["shape"][0] != len(sites):
        raise unsupported(model, f"config.plasticity tells of {kept['shape'][0]} layers, the model has {len(sites)}")
    return tuple(_layout(model, layer, site, kept) for layer, site in enumerate(sites))


def plasticity_record(config: Any) -> Mapping[str, Any] | None:
    """``config.plasticity``: ``{"shape": [L, H], "query_heads": [[…]…], "kv_heads": [[…]…], "added": [[…]…]}``.

    Which heads each layer holds, by their numbers, in the order of the weights; None for a model whose heads are those
    of its configuration. ``added`` is there once heads were added beyond the original ones: per layer, the key/value
    head that each of them reads. H is the original number of heads, and the most that any layer added.
    """
    record = getattr(config, "plasticity", None)
    return record if isinstance(record, Mapping) else None


def refuse_by_name(config: Any) -> None:
    """Refuse what a configuration alone shows to be out of reach.

    Raises:
        UnsupportedModelError: with the reason.
    """
    name = config.model_type
    if name in REFUSED:
        raise _refusal(name, REFUSED[name])
    if getattr(config, "is_encoder_decoder", False):
        raise _refusal(name, "encoder-decoder models have cross attention, whose heads are not handled")
    if getattr(config, "add_cross_attention", False):
        raise _refusal(name, "cross attention was added to it, whose heads are not handled")
    if getattr(config, "sub_configs", None):
        raise _refusal(name, "it is made of several models (sub-configurations), for example text and images")


@dataclass(frozen=True)
class _Site:
    """An attention module as found in the model; ``wiring`` None for one whose heads were all removed."""

    path: str
    module: nn.Module
    wiring: Wiring | None
    projections: Mapping[Kind, tuple[str, nn.Module]]


def _attention_sites(model: nn.Module) -> Iterator[_Site]:
    for path, module in model.named_modules():
        if getattr(module, "plasticity_headless", False):
            yield _Site(path, module, None, {})
        elif any(hasattr(module, name) for name in HEAD_DIM_NAMES):
            for wiring in WIRINGS:
                projections = _projections(model, path, wiring)
                if len(projections) == len(KINDS):
                    yield _Site(path, module, wiring, projections)
                    break


def _projections(model: nn.Module, path: str, wiring: Wiring) -> dict[Kind, tuple[str, nn.Module]]:
    """The projections that ``wiring`` promises and that are there."""
    found: dict[Kind, tuple[str, nn.Module]] = {}
    for kind, name in wiring.names().items():
        base = path.rpartition(".")[0] if name.startswith("../") else path
        where = f"{base}.{name.removeprefix('../')}".removeprefix(".")
        try:
            module = model.get_submodule(where)
        except AttributeError:
            break
        if isinstance(module, (nn.Linear, Conv1D)):
            found[kind] = (where, module)
    return found


def _layout(model: nn.Module, layer: int, site: _Site, kept: Mapping[str, Any] | None) -> LayerLayout:
    config: Any = model.config
    if not isinstance(getattr(config, "num_attention_heads", None), int):
        raise unsupported(model, "its configuration does not say how many attention heads a layer has")
    total = config.num_attention_heads
    total_kv = getattr(config, "num_key_value_heads", None) or total
    if not isinstance(total_kv, int) or not 0 < total_kv <= total or total % total_kv:
        raise unsupported(model, f"its {total} heads cannot share {total_kv!s:.40} key/value heads evenly")
    added = kept["added"][layer] if kept is not None and "added" in kept else ()
    query_ids = tuple(kept["query_heads"][layer]) if kept is not None else tuple(range(total))
    kv_ids = tuple(kept["kv_heads"][layer]) if kept is not None else tuple(range(total_kv))
    if site.wiring is None:
        query_ids, kv_ids = (), ()
    head_dim = next((int(getattr(site.module, name)) for name in HEAD_DIM_NAMES if hasattr(site.module, name)), 0)
    layout = LayerLayout(
        layer=layer,
        path=site.path,
        module=site.module,
        heads=len(query_ids),
        kv_heads=len(kv_ids),
        head_dim=head_dim,
        query_ids=query_ids,
        kv_ids=kv_ids,
        groups=(*(head // (total // total_kv) for head in range(total)), *added),
        original=total,
        wiring=site.wiring,
        projections=site.projections,
    )
    _check_sizes(model, layout)
    _check_independence(model, layout)
    return layout


def _check_sizes(model: nn.Module, layout: LayerLayout) -> None:
    """The weights must hold exactly the heads that the configuration promises."""
    for path, projection in {entry[0]: entry[1] for entry in layout.projections.values()}.items():
        kinds = [kind for kind in KINDS if layout.projection_path(kind) == path]
        weight = projection.weight
        assert isinstance(weight, Tensor)
        have = weight.shape[head_dimension(projection, kinds[0])]
        want = sum(layout.head_index(kind).numel() for kind in kinds)
        if have != want:
            heads = f"{layout.heads} query and {layout.kv_heads} key/value heads of {layout.head_dim}"
            raise unsupported(model, f"{path} holds {have} rows where {heads} need {want}")


def _check_independence(model: nn.Module, layout: LayerLayout) -> None:
    """Nothing else in the attention module may be as wide as several heads, or belong to heads unknown to us."""
    if layout.wiring is None:
        return
    known = {id(layout.projection(kind)) for kind in layout.projections}
    own = [f"{layout.path}.{name}" for name, _ in layout.module.named_parameters(recurse=False)]
    for name, child in layout.module.named_children():
        if id(child) in known or name == "plasticity":
            continue
        own += [
            f"{layout.path}.{name}.{inner}"
            for inner, parameter in child.named_parameters()
            if parameter.numel() > layout.head_dim
        ]
        own += [  # a module per head, such as StableLM's norms
            f"{layout.path}.{name}.{inner}".removesuffix(".")
            for inner, several in child.named_modules()
            if isinstance(several, nn.ModuleList) and len(several) > 1 and next(several.parameters(), None) is not None
        ]
    if own:
        raise unsupported(model, f"{own[0]} spans several heads, so that a head could not be removed alone")
