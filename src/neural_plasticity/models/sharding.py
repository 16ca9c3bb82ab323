"""Parameters held in parts: every process keeps a slice of each, and a layer is whole only while it computes.

PyTorch's FSDP2 (``fully_shard``) does that: after it, a model's parameters are ``DTensor`` divided along their first
dimension, and hooks bring a layer's together before its forward and backward. It changes classes, adds hooks and knows
no way back; `bare` takes all that off for a while, so that a model can be copied or cut like any other. What is here
does the plain thing for a model that is not divided, so that callers need not ask; for one that is, every process has
to call.

Accelerate's own way to FSDP2 wants model and optimiser prepared together and once; here phases have optimisers of their
own, and copies and widened models are divided in the middle of a run.
"""

from __future__ import annotations

import copy
import gc
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor

from neural_plasticity.models.parts import fill, gathered, whole

Model = TypeVar("Model", bound=nn.Module)
_MARK = "__composable_api"  # how the names begin under which PyTorch notes in a module what was done to it


# --- dividing, and the way back ---------------------------------------------------------------------------------------


def can_divide() -> bool:
    """Whether this PyTorch keeps what ``fully_shard`` notes where `shard` looks for it: a private place, as in 2.13."""
    return _noted() is not None


def _noted() -> MutableMapping[nn.Module, Any] | None:
    try:
        from torch.distributed import _composable_state
    except ImportError:
        return None
    return getattr(_composable_state, "_module_state_mapping", None)


def mesh_of(model: nn.Module) -> DeviceMesh | None:
    """The processes over which the model's parameters are divided; None: each process holds all of them."""
    one = next(model.parameters(), None)
    return one.device_mesh if isinstance(one, DTensor) else None


def shard(model: nn.Module, mesh: DeviceMesh) -> None:
    """Divide every parameter over ``mesh``, in place: each decoder layer by itself, and what is outside of layers.

    Parameters may be whole (the same on every process: nothing is exchanged) or divided before. One layer's are whole
    on the mesh's device at a time. They are other objects afterwards, so make optimisers then.
    """
    from torch.distributed.fsdp import fully_shard  # takes a while, and few runs need it

    gc.collect()  # what was divided and dropped holds itself by its hooks
    _undress(model)
    noted = _noted()
    assert noted is not None  # `can_divide`
    for module in model.modules():
        noted.pop(module, None)
    done: set[nn.Module] = set()
    for unit in (*decoder_layers(model), model):
        _made_whole([module for module in unit.modules() if module not in done])
        done.update(unit.modules())
        # At rest nothing is whole, not even what PyTorch would keep of the model itself between forward and backward.
        fully_shard(unit, mesh=mesh, reshard_after_forward=True)


@contextmanager
def bare(model: nn.Module) -> Iterator[None]:
    """Inside, the model is the plain tree of modules that it was, with parameters that are divided still; it cannot
    compute. For copying."""
    if mesh_of(model) is None:
        yield
        return
    worn = _undress(model)
    try:
        yield
    finally:
        for module, kind, attributes in worn:
            module.__class__ = kind
            module.__dict__ = attributes


@contextmanager
def apart(model: nn.Module) -> Iterator[None]:
    """Inside, as `bare`; what was changed by then is divided anew. For surgery."""
    mesh = mesh_of(model)
    if mesh is not None:
        _undress(model)
    try:
        yield
    finally:
        if mesh is not None:
            shard(model, mesh)


def twin(model: Model) -> Model:
    """A second model with the same weights, held in the same way."""
    mesh = mesh_of(model)
    with bare(model):
        second = copy.deepcopy(model)
    if mesh is not None:
        shard(second, mesh)
    return second


def gathered_copy(model: nn.Module) -> nn.Module | None:
    """A whole copy in the main process's CPU memory, None elsewhere; ``model`` itself where it is not divided."""
    mesh = mesh_of(model)
    if mesh is None:
        return model
    with bare(model):
        # One parameter after the other: whole on the device for a moment, and kept by the main process alone.
        memo: dict[int, Any] = {id(one): nn.Parameter(gathered(one), one.requires_grad) for one in model.parameters()}
        second = copy.deepcopy(model, memo)
    return second.to("cpu") if mesh.get_rank() == 0 else None


def decoder_layers(module: nn.Module) -> Iterator[nn.Module]:
    """The members of lists of modules that are in no other list."""
    for child in module.children():
        yield from child if isinstance(child, nn.ModuleList) else decoder_layers(child)


class _Worn(NamedTuple):
    """What a module was before it was undressed."""

    module: nn.Module
    kind: type[nn.Module]
    attributes: dict[str, Any]


def _undress(model: nn.Module) -> list[_Worn]:
    """Take off what ``fully_shard`` put on, in place; what each module wore."""
    from torch.distributed.fsdp import FSDPModule

    worn = []
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()
    for module in model.modules():
        worn.append(_Worn(module, module.__class__, module.__dict__))
        if isinstance(module, FSDPModule):
            module.__class__ = type(module).__bases__[1]  # (FSDPModule, what it was)
        module.__dict__ = {
            name: _our_hooks(value) if name.endswith("_hooks") else value
            for name, value in module.__dict__.items()
            if not name.startswith(_MARK)
        }
    return worn


def _our_hooks(hooks: Any) -> Any:
    """Those that ``fully_shard`` did not add; the same object where it added none, since handles refer to it."""
    if not isinstance(hooks, dict) or not any(map(_of_fsdp, hooks.values())):
        return hooks
    return type(hooks)((key, hook) for key, hook in hooks.items() if not _of_fsdp(hook))


def _of_fsdp(hook: Any) -> bool:
    return str(getattr(hook, "__module__", "")).startswith("torch.distributed.fsdp")


def _made_whole(modules: list[nn.Module]) -> None:
    """Replace divided parameters of these modules by whole ones; tied ones stay one."""
    known: dict[int, nn.Parameter] = {}
    for module in modules:
        for name, one in module._parameters.items():
            if isinstance(one, nn.Parameter) and isinstance(one.data, DTensor):
                if id(one) not in known:
                    known[id(one)] = nn.Parameter(whole(one.detach()), one.requires_grad)
                module._parameters[name] = known[id(one)]


# --- its state -------------------------------------------------------------------------------------------------------


def state_of(model: nn.Module) -> dict[str, Tensor]:
    """``model.state_dict()``, `gathered`. Tensors are the model's own where it is not divided."""
    if mesh_of(model) is None:
        return model.state_dict()
    state: dict[str, Tensor] = gathered(model.state_dict(keep_vars=True))
    return state


def load_state(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """``model.load_state_dict(state)``, of which only the main process need have more than shapes if it is divided.

    Raises:
        RuntimeError: it is another model's.
    """
    mesh = mesh_of(model)
    if mesh is None:
        model.load_state_dict(state)
        return
    targets = model.state_dict(keep_vars=True)
    wrong = targets.keys() ^ state.keys() or {name for name, one in targets.items() if one.shape != state[name].shape}
    if wrong:
        raise RuntimeError(f"other weights than the model has: {min(wrong)}")
    for one in {id(target): name for name, target in targets.items()}.values():
        fill(targets[one].detach(), state[one], mesh)
