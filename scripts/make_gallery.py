"""The gallery of figures: ``python scripts/make_gallery.py [RUN_DIR]`` writes docs/gallery.md and its pictures.

Without a run directory, the demo's experiment (seed 0, three cycles) is drawn: the same pictures every time.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.spatial import cKDTree

from neural_plasticity.dashboard.demo_events import simulate
from neural_plasticity.record import RecordWriter, Run, open_run
from neural_plasticity.render.figures import FIGURES, draw, save_figure

ROOT = Path(__file__).resolve().parents[1]

WIDTH, BYTES = 1_120, 150_000  # of a picture: what a page shows, and what it may weigh
COLOURS = (256, 192, 144, 112)  # the first that is light enough
TOLD = {
    "complete_process": "The whole experiment on one axis: phases, cycles, events, loss, perplexity, sparsity (C1).",
    "multi_cycle_process": "Cycle by cycle: cost, recovery, heads left, cumulative impact, training figures (C8).",
    "metrics": "Every metric over the steps, figures of evaluations with their intervals (C2).",
    "warmup": "Raw and smoothed loss; the window, slope and tolerance that made it stable (C3).",
    "analysis": "Layers × heads by entropy, gradient and combined importance, cycle by cycle (C4).",
    "pruning": "Each decision on its scores; active heads per layer before and after (C5).",
    "fine_tuning": "Recovery against the loss before and after pruning and the baseline (C6).",
    "evaluation": "Perplexity, speed and size with intervals; every figure; texts side by side (C7).",
    "attention": "The same heads in the baseline and the pruned model; pruned ones show no pattern (C7).",
    "attention_evolution": "How far every head's attention drifted, cycle by cycle, and the patterns behind it (C9).",
    "growth": "Which heads came back or were added, on what evidence, and how they did (C10).",
    "embeddings": "Drift of each layer's space in numbers, and where the points that moved most went (C12).",
}


def main() -> int:
    """Write pictures and page; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run_dir", type=Path, nargs="?")
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "docs")
    arguments = parser.parse_args()
    pictures = arguments.output / "images" / "gallery"
    pictures.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        run = open_run(arguments.run_dir or simulated(Path(scratch) / "run"))
        for name in FIGURES:
            shrink(save_figure(draw(run, name), Path(scratch) / f"{name}.png"), pictures / f"{name}.png")
        (arguments.output / "gallery.md").write_text(page(run), encoding="utf-8")
        run.close()
    print(f"{arguments.output / 'gallery.md'}: {len(FIGURES)} figures")
    return 0


def simulated(folder: Path) -> Path:
    """The demo's experiment, as a record."""
    with RecordWriter.create(folder) as record:
        record.append_many(simulate(seed=0, cycles=3))
    return folder


def shrink(source: Path, target: Path) -> None:
    """A picture as wide as a page shows it, in few colours; those of large areas (phases, tints) stay exact."""
    with Image.open(source) as picture:
        height = round(picture.height * WIDTH / picture.width)
        small = picture.convert("RGB").resize((WIDTH, height), Image.Resampling.LANCZOS)
    for many in COLOURS:
        reduced(small, many).save(target, optimize=True)
        if target.stat().st_size < BYTES:
            break


def reduced(picture: Image.Image, many: int) -> Image.Image:
    """``picture`` in that many colours: half of them the most frequent ones, half spread over the others."""
    pixels = np.asarray(picture).reshape(-1, 3)
    colours, place, counts = np.unique(pixels, axis=0, return_inverse=True, return_counts=True)
    exact = colours[np.argsort(-counts, kind="stable")[: many // 2]]
    spread = picture.quantize(many - many // 2, method=Image.Quantize.MAXCOVERAGE).getpalette() or []
    palette = np.concatenate([exact, np.array(spread, np.uint8).reshape(-1, 3)])
    # Pillow's own search for the nearest colour is rounded: white would come out as light grey.
    nearest = cKDTree(palette.astype(float)).query(colours.astype(float))[1].astype(np.uint8)
    few = Image.fromarray(nearest[place].reshape(picture.height, picture.width))
    few.putpalette(palette.tobytes())
    return few


def page(run: Run) -> str:
    """The gallery as Markdown."""
    made_up = "the demo's simulated experiment (`simulate(seed=0, cycles=3)`: made up)"
    kind = made_up if run.summary().simulated else f"the run {run.name}"
    lines = [
        "# Gallery",
        "",
        f"Every figure, drawn from the record of {kind}",
        "by `python scripts/make_gallery.py`.",
        "`neural_plasticity.render.figures.save_figures(run, directory)` writes them for any run, also as PDF or SVG",
        "with `save_figure(draw(run, name), path)`.",
    ]
    for name in FIGURES:
        lines += ["", f"## {name}", "", TOLD.get(name, ""), "", f"![{name}](images/gallery/{name}.png)"]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
