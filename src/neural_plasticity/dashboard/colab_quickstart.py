"""The example notebook, written rather than drawn up by hand: so it always fits the package that writes it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from neural_plasticity.errors import RecordError

_Cell = tuple[str, str]

_CELLS: tuple[_Cell, ...] = (
    (
        "markdown",
        """# Neural plasticity: a first look

Attention heads of a language model are pruned, the model heals, some heads come back – and all of it is watched while
it happens. This notebook takes a minute: a **simulated** experiment first, then a dashboard fed by a script of your
own. The last cell runs a real one.""",
    ),
    (
        "code",
        """import importlib.util

if importlib.util.find_spec("neural_plasticity") is None:
    # From a checkout or a wheel of your own, give its path in place of the name.
    %pip install -q "neural-plasticity[models,notebook,serve]\"""",
    ),
    (
        "code",
        """from neural_plasticity.dashboard import colab

environment = colab.setup_colab_environment()""",
    ),
    (
        "markdown",
        """## Watch an experiment

It runs in a process of its own and writes its record; the page below reads that record, and follows. Drag the
timeline, click a head, open the panels.""",
    ),
    (
        "code",
        """import subprocess
import sys
import time
from pathlib import Path

run_dir = Path("output") / f"demo_{time.strftime('%Y%m%d-%H%M%S')}"
options = ["--no_browser", "--pace", "12", "--output_dir", str(run_dir)]
experiment = subprocess.Popen([sys.executable, "-m", "neural_plasticity", "demo", *options], stdout=subprocess.DEVNULL)
while not (run_dir / "run.sqlite").is_file() and experiment.poll() is None:
    time.sleep(0.1)
colab.display_dashboard(run_dir)""",
    ),
    (
        "markdown",
        """## Read the record

Everything on the page is in the record, as arrays. A run that is a cell's last value shows its page.""",
    ),
    (
        "code",
        """import neural_plasticity as npl

experiment.wait()
run = npl.open_run(run_dir)
steps, loss = run.series("loss")
print(f"{run.name}: {len(steps)} steps, loss {loss[0]:.3f} to {loss[-1]:.3f}")
for decision in run.decisions():
    print(decision.step, type(decision).__name__, *(f"L{layer}H{head}" for layer, head in decision.heads))""",
    ),
    (
        "markdown",
        """## From your own training script

A few calls are enough; what you call it with is on record before the call returns.""",
    ),
    (
        "code",
        """shape = {"num_layers": 4, "num_heads": 4}
board = npl.MultiPhaseDashboard(experiment_name="by hand", config=shape, mode="disabled")
board.record_phase_transition("warmup", 0)
for step in range(60):
    board.record_step({"loss": 2 + 1.5 * 0.95**step, "sparsity": 0.0}, step)
board.record_pruning_event({"strategy": "entropy", "pruned_heads": [(0, 2), (1, 3), (2, 1)], "cycle": 1}, 60)
board.record_phase_transition("fine-tuning", 61)
for step in range(61, 120):
    board.record_step({"loss": 2.1 + 0.4 * 0.93 ** (step - 61), "sparsity": 3 / 16}, step)
board.finish()
board""",
    ),
    ("markdown", "## Share it"),
    ("code", "colab.display_sharing_options(run_dir)"),
    (
        "markdown",
        """## A real one

Every phase on the small model that comes with the package: about 90 seconds on two processors, less with a GPU.""",
    ),
    (
        "code",
        """REAL = False  # True runs it

if REAL:
    real_dir = Path("output") / f"quick_{time.strftime('%Y%m%d-%H%M%S')}"
    options = ["--quick_test", "--no_browser", "--output_dir", str(real_dir)]
    real = subprocess.Popen([sys.executable, "-m", "neural_plasticity", "run", *options], stdout=subprocess.DEVNULL)
    while not (real_dir / "run.sqlite").is_file() and real.poll() is None:
        time.sleep(0.1)
    colab.display_dashboard(real_dir)""",
    ),
)


def quickstart() -> dict[str, Any]:
    """The notebook in its file's form (nbformat 4.5), without outputs."""
    cells = [_cell(number, kind, source) for number, (kind, source) in enumerate(_CELLS)]
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return {
        "cells": cells,
        "metadata": {"colab": {"provenance": []}, "kernelspec": kernel, "language_info": {"name": "python"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }


def _cell(number: int, kind: str, source: str) -> dict[str, Any]:
    cell: dict[str, Any] = {
        "cell_type": kind,
        "id": f"cell-{number}",
        "metadata": {},
        "source": source.splitlines(keepends=True),
    }
    return cell if kind == "markdown" else {**cell, "execution_count": None, "outputs": []}


def create_colab_quickstart_notebook(path: Path | str) -> Path:
    """Write a notebook that shows the dashboard in Colab, Jupyter or VS Code; returns its path.

    Args:
        path: the file; a directory gets ``quickstart.ipynb``.

    Raises:
        RecordError: it cannot be written.
    """
    target = Path(path)
    target = target / "quickstart.ipynb" if target.is_dir() else target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps(quickstart(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise RecordError(f"{target}: the notebook cannot be written there: {error.strerror}.") from error
    return target
