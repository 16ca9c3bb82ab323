"""The processes that compute together, and in which precision: a small object that training and measuring are handed.

Every process holds the whole model (or, with a mesh, its part of every parameter) and the whole text, does its share of
every batch, and ends up with the result of all. One process is the ordinary case: its share is everything, and nothing
is exchanged. Accelerate starts the group and carries what is exchanged.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, NamedTuple, TypeVar, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, distributed, nn
from torch.distributed.device_mesh import DeviceMesh

from neural_plasticity.errors import InputError, PeerError
from neural_plasticity.models.sharding import shard

T = TypeVar("T")
_STORE_SECONDS = 10
Floats = npt.NDArray[np.float64]


class Share(NamedTuple):
    """One process's part of some items: ``places`` (n,) of them, ``real`` (n,) False where one only fills up.

    All parts are of one length, since what is gathered has to be; the last item is repeated where it does not come out
    even.
    """

    places: Tensor
    real: Tensor


@dataclass(frozen=True)
class Devices:
    """This process among those that compute together. ``accelerator`` is Accelerate's, None where there is one process.

    ``precision``: the dtype that matrix products compute in during training, scoring and held-out losses, with the
    weights as they are; None: that of the weights. ``mesh``: the processes that parameters are divided over (FSDP);
    None: each holds them all.
    """

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    precision: torch.dtype | None = None
    accelerator: Any = None
    mesh: DeviceMesh | None = None

    @property
    def loads_on(self) -> torch.device:
        """Where a model is opened: what is going to be divided may not fit on one device."""
        return self.device if self.mesh is None else torch.device("cpu")

    def hold(self, model: nn.Module) -> None:
        """Divide a model that was just opened, where models are divided. Nothing is exchanged."""
        if self.mesh is not None:
            shard(model, self.mesh)

    @property
    def main(self) -> bool:
        """Whether this is the process that records, draws, serves and writes."""
        return self.rank == 0

    def autocast(self) -> AbstractContextManager[Any]:
        """Inside, models compute in ``precision``. Not Accelerate's own, which would patch the model's ``forward`` for
        good: a deep copy of such a model still calls the original."""
        if self.precision is None:
            return nullcontext()
        # Kept copies of weights would be those of all layers, where only one layer's ought to be here at a time.
        return torch.autocast(self.device.type, dtype=self.precision, cache_enabled=self.mesh is None)

    @contextmanager
    def opening(self) -> Iterator[None]:
        """Inside, one process of each machine goes before its others, which then find what it downloaded.

        Where models are divided they go one by one, so that a machine has to hold one whole model only. Nothing may be
        exchanged inside. Where it fails on one process, it fails on all of them.

        Raises:
            InputError: what failed here, or elsewhere.
        """
        if self.accelerator is None:
            yield
            return
        from accelerate.utils import gather_object

        failure: InputError | None = None
        number = int(self.accelerator.local_process_index)
        turn = number if self.mesh is not None else min(number, 1)
        turns = max(gather_object([turn]))
        for _ in range(turn):
            self.accelerator.wait_for_everyone()
        try:
            yield
        except InputError as error:
            failure = error
        for _ in range(turn, turns):
            self.accelerator.wait_for_everyone()
        failures = gather_object([None if failure is None else str(failure)])
        if failure is not None:
            raise failure
        for rank, elsewhere in enumerate(failures):
            if elsewhere is not None:
                raise InputError(f"process {rank}: {elsewhere}")

    def share(self, items: int) -> Share:
        """This process's part of ``items`` in order: neighbours stay together."""
        each = -(-items // self.size)
        places = torch.arange(self.rank * each, (self.rank + 1) * each)
        return Share(places.clamp_max(items - 1), places < items)

    def joined(self, part: Tensor, items: int) -> Tensor:
        """The (items, …) of which ``part`` (n, …) is this process's `share`, in order, on every process."""
        if self.size == 1:
            return part
        from accelerate.utils import gather

        whole: Tensor = gather(part.detach().contiguous())
        return whole[:items]

    def summed(self, values: npt.ArrayLike) -> Floats:
        """The sum over processes, the same on each to the last bit."""
        array = np.asarray(values, dtype=np.float64)
        if self.size == 1:
            return array
        from accelerate.utils import reduce

        total: Tensor = reduce(torch.from_numpy(array.copy()).to(self.device), "sum")
        return total.cpu().numpy()

    def anywhere(self, here: bool) -> bool:
        """Whether it is so on any process."""
        return here if self.size == 1 else bool(self.summed(float(here)) > 0)

    def agreed(self, value: T) -> T:
        """The main process's ``value``: decisions are its, even where another machine rounds otherwise."""
        if self.size == 1:
            return value
        from accelerate.utils import broadcast_object_list

        said: list[T] = broadcast_object_list([value])
        return said[0]

    def once(self, work: Callable[[], T]) -> T:
        """What ``work()`` gives on the main process, on every process; the others wait for it.

        Where models are divided, a call of one needs all processes, and all of them work.

        Raises:
            PeerError: the work failed on the main process, where its own error is raised.
        """
        if self.size == 1:
            return work()
        if self.mesh is not None:
            return self.agreed(work())
        if not self.main:
            found = cast("tuple[T] | None", self.agreed(None))
            if found is None:
                raise PeerError("the main process had to stop, and says why.")
            return found[0]
        try:
            value = work()
        except Exception:
            self.agreed(None)
            raise
        return self.agreed((value,))[0]

    def wrapped(self, model: nn.Module) -> nn.Module:
        """What to call in a training step so that gradients become the mean over processes: ``model`` itself if alone,
        or divided.

        The parameters stay the model's own. Let it go with `release`.
        """
        if self.accelerator is None or self.mesh is not None:
            return model
        wrapped: nn.Module = self.accelerator.prepare_model(model)
        return wrapped

    def without_exchange(self, wrapped: nn.Module) -> AbstractContextManager[Any]:
        """Inside, a backward only adds to this process's own gradients: for all but the last part of a batch.

        Not where models are divided: gradients of all parameters would lie on every device.
        """
        if self.accelerator is None or self.mesh is not None:
            return nullcontext()
        without: AbstractContextManager[Any] = self.accelerator.no_sync(wrapped)
        return without

    def first_failure(self, message: str) -> str:
        """`first_failure`, where there are others."""
        return message if self.size == 1 else first_failure(message)

    def release(self) -> None:
        """Let go of what was `wrapped`."""
        if self.accelerator is not None:
            self.accelerator.free_memory()

    def close(self) -> None:
        """Leave the group; without it a process that ends is taken for one that broke off."""
        if self.accelerator is not None:
            self.accelerator.state.destroy_process_group()


ALONE = Devices()
"""One process, in the precision of the weights."""


def first_failure(message: str) -> str:
    """What the first process that failed has said of it: ``message`` if it is this one, or if nobody else is left.

    The others fail after it, when what they exchange with it breaks off, and their own errors explain nothing.
    """
    key = f"neural_plasticity/failure/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}"
    try:
        address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        store = distributed.TCPStore(  # type: ignore[attr-defined]
            address, port, is_master=False, timeout=timedelta(seconds=_STORE_SECONDS)
        )
        return str(store.compare_set(key, "", message).decode())
    except Exception:  # one process alone has no store, and a store goes with the process that held it
        return message
