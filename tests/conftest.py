"""Common set-up of all tests: one thread, no network, fixed seeds, a directory of its own for each test."""

from __future__ import annotations

import errno
import os
import random
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Read by torch, NumPy and the hub client when they are first imported, so set before any test module is.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.update(HF_HUB_OFFLINE="1", HF_HUB_DISABLE_TELEMETRY="1", HF_DATASETS_OFFLINE="1", MPLBACKEND="Agg")
# What encoding the documented text gives is kept for this session, and shared by its workers and their processes.
if "PLASTICITY_TEST_ASSETS" not in os.environ:
    _assets = tempfile.TemporaryDirectory(prefix="plasticity-test-assets-")
    os.environ["PLASTICITY_TEST_ASSETS"] = os.environ["HF_ASSETS_CACHE"] = _assets.name
# A developer's own settings must not decide whether a test passes.
for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_DIR", "FORCE_COLOR", "NO_COLOR"):
    os.environ.pop(name, None)

import numpy as np  # noqa: E402
import pytest  # noqa: E402
from hypothesis import HealthCheck, settings  # noqa: E402

# The same examples on every machine, and no verdict from the clock. `--hypothesis-profile=explore` looks further.
settings.register_profile(
    "ci", deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("explore", deadline=None, max_examples=1000, database=None)
settings.load_profile("ci")


def _is_local(address: Any) -> bool:
    if not isinstance(address, tuple):  # a path or bytes: a Unix socket
        return True
    return str(address[0]) in {"localhost", "", "::1", "0.0.0.0"} or str(address[0]).startswith("127.")


@pytest.fixture(scope="session", autouse=True)
def no_network() -> Iterator[None]:
    """Anything but this machine is unreachable, and the code under test sees the error of a machine without network."""
    connect, lookup = socket.socket.connect, socket.getaddrinfo

    def local_connect(self: socket.socket, address: Any) -> None:
        if not _is_local(address):
            raise OSError(errno.ENETUNREACH, f"the tests have no network: {address!r}")
        connect(self, address)

    def local_lookup(host: Any, *args: Any, **kwargs: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        if name is not None and name != socket.gethostname() and not _is_local((name,)):
            raise socket.gaierror(socket.EAI_NONAME, f"the tests have no network: {name!r}")
        return lookup(host, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", local_connect)
        patch.setattr(socket, "getaddrinfo", local_lookup)
        yield


@pytest.fixture(autouse=True)
def own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test starts in an empty directory: what is written to ``output/`` by default never meets the checkout."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def seeded() -> None:
    """The same random numbers whichever tests ran before. torch only where something has imported it already."""
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 - libraries under test draw from the global generator
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)
