"""The gallery of figures: ``python scripts/make_gallery.py [RUN_DIR]`` writes docs/gallery.md and its pictures.

Without a run directory, a seeded simulated experiment is drawn: the same pictures every time.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np  # noqa: E402

from neural_plasticity import events as ev  # noqa: E402
from neural_plasticity.record import Run, open_run  # noqa: E402
from neural_plasticity.render.figures import FIGURES, draw, save_figure  # noqa: E402
from tests.sample_run import SampleRun, write_events  # noqa: E402

WIDTH, COLOURS = 1_200, 240  # what a page shows, and what keeps every picture below 150 KB
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
    """Three cycles of a made-up experiment, with attention maps."""
    sample = SampleRun(cycles=3, name="gallery")
    events = list(sample.events())
    last = max(at for at, event in enumerate(events) if isinstance(event, ev.TextSample))
    first = max(at for at, event in enumerate(events) if isinstance(event, ev.TextSample) and not event.cycle)
    random = np.random.default_rng(1)
    before = random.gamma(0.25, 1.0, (6, 8, 9, 9)) * np.tri(9) + 1e-3 * np.tri(9)
    after = before * random.lognormal(0, 0.8, before.shape)
    gone = {head for event in events if isinstance(event, ev.HeadsPruned) for head in event.heads}
    grown = {head for event in events if isinstance(event, ev.HeadsGrown) for head in event.heads}
    after = after / after.sum(-1, keepdims=True)
    for head in gone - grown:
        after[head] = np.nan
    tokens = ("def", " __", "init", "__(", "self", ",", " name", "):", "\n")
    maps = (before / before.sum(-1, keepdims=True), after)
    for at, model, grid in ((last, "pruned", maps[1]), (first, "baseline", maps[0])):
        events.insert(at, ev.AttentionMaps(prompt="".join(tokens), tokens=tokens, maps=grid, model=model))
    return write_events(folder, events)


def shrink(source: Path, target: Path) -> None:
    """A picture as wide as a page shows it, in few colours."""
    with Image.open(source) as picture:
        height = round(picture.height * WIDTH / picture.width)
        small = picture.convert("RGB").resize((WIDTH, height), Image.Resampling.LANCZOS)
        small.quantize(COLOURS, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(target, optimize=True)


def page(run: Run) -> str:
    """The gallery as Markdown."""
    kind = "a simulated experiment" if run.summary().simulated else f"the run {run.name}"
    lines = [
        "# Gallery",
        "",
        f"Every figure, drawn from the record of {kind} by `python scripts/make_gallery.py`.",
        "`neural_plasticity.render.figures.save_figures(run, directory)` writes them for any run, also as PDF or SVG",
        "with `save_figure(draw(run, name), path)`.",
    ]
    for name in FIGURES:
        lines += ["", f"## {name}", "", TOLD.get(name, ""), "", f"![{name}](images/gallery/{name}.png)"]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
