"""Where this runs (Colab, another notebook, a terminal), and what is missing there."""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module, invalidate_caches, metadata
from typing import Any

from neural_plasticity.errors import InputError

EXTRAS = ("models", "notebook", "serve")
_PACKAGE = "neural-plasticity"


@dataclass(frozen=True)
class Environment:
    """``packages``: what the product can use here, with its version, None where it is not installed.

    ``missing``: requirements that are not met; ``installed``: those that were met just now.
    """

    colab: bool
    notebook: bool
    python: str
    gpu: str | None
    packages: Mapping[str, str | None]
    missing: tuple[str, ...]
    installed: tuple[str, ...] = ()

    def __str__(self) -> str:
        where = "Colab" if self.colab else "a notebook" if self.notebook else "no notebook"
        lines = [f"{where} · Python {self.python} · GPU: {self.gpu or 'none'}"]
        if self.installed:
            lines.append(f"Installed: {', '.join(self.installed)}")
        lines.append("Everything is there." if not self.missing else f"Missing: {install_command(self.missing)}")
        return "\n".join(lines)


def colab_output() -> Any:
    """``google.colab.output``, or None outside of Colab."""
    try:
        return import_module("google.colab.output")
    except ImportError:
        return None


def in_notebook() -> bool:
    """True in a kernel: what is displayed goes to a cell."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    return getattr(shell, "kernel", None) is not None


def look_around() -> Environment:
    """What is here, changing nothing."""
    requirements = list(_requirements())
    return Environment(
        colab=colab_output() is not None,
        notebook=in_notebook(),
        python=platform.python_version(),
        gpu=_gpu(),
        packages={_name(one): _version(_name(one)) for one in requirements},
        missing=tuple(one for one in requirements if not _met(one)),
    )


def install(missing: tuple[str, ...]) -> None:
    """Install requirements into this Python.

    Raises:
        InputError: pip could not; its last line says why.
    """
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *missing]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines() or ["no reason given"]
        raise InputError(f"{install_command(missing)}: {said[-1]}")
    invalidate_caches()


def install_command(missing: tuple[str, ...]) -> str:
    """What to type."""
    return f"pip install {' '.join(repr(one) for one in missing)}"


def _requirements() -> Iterator[str]:
    """What the extras ask for, as the installed package says it."""
    try:
        lines = metadata.requires(_PACKAGE) or []
    except metadata.PackageNotFoundError:  # a checkout on the path
        lines = [f'{name}; extra == "notebook"' for name in ("anywidget", "starlette", "uvicorn")]
    seen: set[str] = set()
    for line in lines:
        requirement, _, marker = (part.strip() for part in line.partition(";"))
        extra = re.search(r"""extra *== *['"]([\w-]+)['"]""", marker)
        if extra and extra.group(1) in EXTRAS and requirement not in seen:
            seen.add(requirement)
            yield requirement


def _name(requirement: str) -> str:
    return re.split(r"[^\w.-]", requirement, maxsplit=1)[0]


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _met(requirement: str) -> bool:
    found = _version(_name(requirement))
    least = re.search(r">= *([\d.]+)", requirement)
    return found is not None and (least is None or _numbers(found) >= _numbers(least.group(1)))


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(one) for one in re.findall(r"\d+", version.partition("+")[0])[:3])


def _gpu() -> str | None:
    """The first GPU's name, asked without torch."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    try:
        done = subprocess.run(
            [program, "--query-gpu=name", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip().splitlines()[0] if done.returncode == 0 and done.stdout.strip() else None
