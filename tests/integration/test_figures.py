"""Every figure draws for whatever a record holds; labels do not overlap; nothing recorded is lost on the way."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.patches import Patch

from neural_plasticity import events as ev
from neural_plasticity.dashboard.demo_events import simulate
from neural_plasticity.errors import InputError
from neural_plasticity.heads import HeadId
from neural_plasticity.record import RecordWriter, Run, open_run
from neural_plasticity.render.figures import FIGURES, draw, names_for, save_figure, save_figures
from tests.sample_run import SampleRun, write_events


def started(shape: tuple[int, int] = (2, 2)) -> ev.RunStarted:
    return ev.RunStarted(name="r", shape=shape, config={})


def not_a_number() -> Iterator[ev.Event]:
    yield started()
    yield ev.PhaseStarted(phase="warmup")
    for step in range(5):
        metrics = {"loss": math.nan, "validation_loss": math.inf, "sparsity": math.nan}
        yield ev.StepMetrics(step=step, phase="warmup", metrics=metrics)
    yield ev.PhaseStarted(phase="fine-tuning", step=5, cycle=1)
    yield ev.StepMetrics(step=6, phase="fine-tuning", cycle=1, metrics={"loss": -math.inf})
    results = {
        "baseline": {"loss": math.nan, "perplexity": math.nan},
        "pruned": {"perplexity": math.inf, "perplexity_low": math.nan, "perplexity_high": 1.0},
        "comparison": {"loss_difference": math.nan, "prefill_speedup": math.inf},
    }
    yield ev.Evaluation(step=7, cycle=1, results=results)


def from_another_script() -> Iterator[ev.Event]:
    """Names that nobody foresaw, steps that repeat and go back, arrays that do not fit together."""
    random = np.random.default_rng(0)
    yield started((2, 3))
    yield ev.PhaseStarted(phase="préchauffage 🔥")
    for step in (5, 3, 3, 9, 1, -4):
        names = {f"metric $\\alpha_{{{number}$ 日本🎉": float(number * step) for number in range(30)}
        yield ev.StepMetrics(step=step, phase="x", metrics=names)
    yield ev.PhaseStarted(phase="$x^", step=2)
    yield ev.HeadsPruned(step=2, heads=(HeadId(5, 7),), strategy="my_$_strategy")
    yield ev.HeadScores(step=1, scores={"$e$": random.random((3, 9)), "flat": random.random(4)})
    yield ev.TextSample(prompt="$\\frac{ 🎉", text="$$ \x1b[2J 日本 \n\n\ta" * 9, model="$m$")
    yield ev.AttentionMaps(prompt="$", tokens=("$", "🎉"), maps=random.random((2, 3, 2, 2)), model="$z$")
    yield ev.AttentionMaps(step=9, prompt="$", tokens=("$", "🎉"), maps=random.random((3, 4, 2, 2)), model="$z$")
    for step in (3, 9):
        named = tuple(f"$\\frac{{{number}🎉" for number in range(40))
        yield ev.Embedding(step=step, name="$e_", vectors=random.normal(size=(40, 3)), labels=named, groups=named)
        yield ev.Embedding(step=step, name="alone", vectors=np.ones((1, 1)), layer=7)
        yield ev.Embedding(step=step, name="odd", vectors=np.full((5, 2), math.nan))
        yield ev.Embedding(step=step, name="grows", vectors=random.normal(size=(3 + step, 2)))
    yield ev.Stabilised(step=3, slope=math.nan, slope_low=0, slope_high=0, tolerance=0, window=0, loss=1.0)


def crowded() -> Iterator[ev.Event]:
    yield started()
    for step in range(300):
        yield ev.PhaseStarted(phase=f"phase {step % 9}", step=step, cycle=step // 4)
        if step % 3 == 1:
            yield ev.HeadsPruned(step=step, heads=(HeadId(0, 0),), strategy="s", cycle=step // 4)


def bare_decisions() -> Iterator[ev.Event]:
    yield started((0, 0))
    yield ev.HeadsPruned(step=2, cycle=1, heads=(HeadId(1, 1),), strategy="")
    yield ev.HeadsPruned(step=2, cycle=2, heads=(HeadId(0, 1),), strategy="")


CASES: dict[str, Callable[[], Iterator[ev.Event]]] = {
    "nothing": lambda: iter(()),
    "one event": lambda: iter([started()]),
    "one number": lambda: iter([ev.StepMetrics(step=3, metrics={"x": 1.0})]),
    "decisions only": bare_decisions,
    "not a number": not_a_number,
    "another script": from_another_script,
    "crowded": crowded,
    "1 head": lambda: SampleRun(layers=1, heads=1, cycles=1).events(),
    "2000 heads": lambda: SampleRun(layers=40, heads=50, cycles=2).events(),
    "one cycle": lambda: SampleRun(cycles=1).events(),
    "five cycles": lambda: SampleRun(cycles=5).events(),
    "looked at": lambda: simulate(0, 2, fine_tuning_steps=12),
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    folder = tmp_path_factory.mktemp("figures")
    return {name: open_run(write_events(folder / str(at), make())) for at, (name, make) in enumerate(CASES.items())}


@pytest.fixture(scope="module")
def drawn(runs: dict[str, Run]) -> Callable[[str, str], Figure]:
    """The figure of a case by its name, drawn once for all tests that only look at it."""
    return lru_cache(maxsize=None)(lambda case, name: draw(runs[case], name))


@pytest.fixture(scope="module")
def pictures(drawn: Callable[[str, str], Figure], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every figure of one run as a file."""
    folder = tmp_path_factory.mktemp("pictures")
    for name in FIGURES:
        save_figure(drawn("five cycles", name), folder / f"{name}.png")
    return folder


def labels(figure: Figure) -> list[tuple[str, tuple[float, float, float, float]]]:
    """Every visible text that we wrote, and its box in pixels: left, bottom, right, top."""
    figure.draw_without_rendering()
    texts = [text for axes in figure.axes for text in axes.texts] + list(figure.texts)
    texts += [text for axes in figure.axes if (legend := axes.get_legend()) for text in legend.get_texts()]
    texts += [axis.label for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)]
    shown = [text for text in texts if text.get_visible() and text.get_text().strip()]
    return [(text.get_text(), tuple(map(float, text.get_window_extent().extents))) for text in shown]


@pytest.mark.parametrize("name", FIGURES)
@pytest.mark.parametrize("case", CASES)
def test_every_figure_draws_and_its_labels_do_not_overlap(
    drawn: Callable[[str, str], Figure], case: str, name: str
) -> None:
    figure = drawn(case, name)
    found = labels(figure)
    width, height = figure.canvas.get_width_height()
    for number, (text, (left, bottom, right, top)) in enumerate(found):
        assert left >= -1, text
        assert bottom >= -1, text
        assert right <= width + 1, text
        assert top <= height + 1, text
        for other, place in found[:number]:
            across = min(right, place[2]) - max(left, place[0])
            down = min(top, place[3]) - max(bottom, place[1])
            assert across <= 2 or down <= 2, f"{text!r} lies over {other!r}"


@pytest.mark.parametrize("name", FIGURES)
def test_a_simulated_run_says_so_in_every_figure(drawn: Callable[[str, str], Figure], name: str) -> None:
    assert any("SIMULATED" in text.get_text() for text in drawn("five cycles", name).texts)
    assert not any("SIMULATED" in text.get_text() for text in drawn("not a number", name).texts)


@pytest.mark.parametrize("name", ["pruning", "analysis", "multi_cycle_process"])
def test_pruned_cells_are_hatched(drawn: Callable[[str, str], Figure], name: str) -> None:
    patches = [one for axes in drawn("five cycles", name).axes for one in axes.patches]
    pruned = [one for one in patches if isinstance(one, Patch) and one.get_gid() == "pruned"]
    assert pruned
    assert all(one.get_hatch() for one in pruned)


def test_a_decision_hatches_as_many_cells_as_it_pruned_heads(drawn: Callable[[str, str], Figure]) -> None:
    figure = drawn("one cycle", "pruning")
    (patch,) = [one for axes in figure.axes for one in axes.patches if one.get_gid() == "pruned"]
    assert len(patch.get_path().vertices) == 5 * 7  # five corners each


def test_nan_is_marked_in_the_plot(drawn: Callable[[str, str], Figure]) -> None:
    marked = {line.get_gid() for axes in drawn("not a number", "complete_process").axes for line in axes.lines}
    assert {"NaN:loss", "−∞:loss", "∞:validation_loss"} <= marked


def test_intervals_are_drawn(drawn: Callable[[str, str], Figure]) -> None:
    (axes,) = [one for one in drawn("one cycle", "evaluation").axes if one.get_ylabel() == "test perplexity"]
    assert sum(getattr(one, "has_yerr", False) for one in axes.containers) == 3  # baseline, pruned, control


@pytest.mark.parametrize("spike", [1e6, 3.0])
def test_a_single_spike_among_a_million_points_survives(tmp_path: Path, spike: float) -> None:
    with RecordWriter.create(tmp_path / "r") as writer:
        for start in range(0, 200_000, 20_000):
            writer.append_many(
                ev.StepMetrics(step=5 * step, metrics={"loss": spike if step == 123_457 else 2.0})
                for step in range(start, start + 20_000)
            )
    figure = draw(open_run(tmp_path / "r"), "complete_process")
    (line,) = [line for axes in figure.axes for line in axes.lines if line.get_gid() == "series:loss"]
    assert np.asarray(line.get_ydata()).max() == spike
    assert line.axes is not None
    assert line.axes.get_ylim()[1] > spike
    assert any("of 200,000 points" in text.get_text() for text in line.axes.texts)


def test_files_are_pictures_and_not_blank(pictures: Path) -> None:
    assert {path.name for path in pictures.iterdir()} == {f"{name}.png" for name in FIGURES}
    for path in pictures.iterdir():
        assert imread(path)[..., :3].std() > 0.02, path.name


def test_one_cycle_has_no_multi_cycle_figure_unless_asked(runs: dict[str, Run], tmp_path: Path) -> None:
    assert set(names_for(runs["looked at"])) == set(FIGURES)
    looks = {"attention_evolution", "embeddings"}
    assert set(names_for(runs["five cycles"])) == set(FIGURES) - looks
    without = set(FIGURES) - looks - {"multi_cycle_process", "growth"}
    assert {path.stem for path in save_figures(runs["one event"], tmp_path)} == without
    assert set(names_for(runs["one cycle"])) == without
    (asked,) = save_figures(runs["one cycle"], tmp_path, ["multi_cycle_process"])
    assert asked.is_file()


def test_vector_files_keep_text_as_text(drawn: Callable[[str, str], Figure], tmp_path: Path) -> None:
    path = save_figure(drawn("one cycle", "warmup"), tmp_path / "warmup.svg")
    assert "Warm-up · sample-run" in path.read_text(encoding="utf-8")


def test_figures_are_drawn_in_threads(runs: dict[str, Run], pictures: Path, tmp_path: Path) -> None:
    def work(name: str) -> bytes:
        return save_figure(draw(runs["five cycles"], name), tmp_path / f"{name}.png").read_bytes()

    names = ("complete_process", "pruning", "evaluation", "fine_tuning")
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(work, names))
    assert made == [(pictures / f"{name}.png").read_bytes() for name in names]


def test_drawing_needs_neither_pyplot_nor_torch_nor_a_display(runs: dict[str, Run]) -> None:
    code = """
import sys
from neural_plasticity.record import open_run
from neural_plasticity.render.figures import FIGURES, draw, save_figure
run = open_run(sys.argv[1])
figures = [draw(run, name) for name in FIGURES]
save_figure(figures[0], "pictures/first.png")
print(len(figures), *({"matplotlib.pyplot", "torch"} & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, str(runs["five cycles"].path)], capture_output=True, text=True,
        timeout=120, env={"PATH": "", "HOME": str(Path.cwd()), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.stdout.split() == [str(len(FIGURES))], done.stderr


def test_bad_input_is_said_in_one_line(runs: dict[str, Run], tmp_path: Path) -> None:
    figure = draw(runs["one event"], "warmup")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"figure 'no such': expected one of complete_process"):
        draw(runs["one event"], "no such")
    with pytest.raises(InputError, match=r"expected a name ending in \.png"):
        save_figure(figure, tmp_path / "figure.docx")
    with pytest.raises(InputError, match="the figure cannot be written"):
        save_figure(figure, tmp_path / "file" / "figure.png")


def grown_and_named() -> Iterator[ev.Event]:
    """A head beside those of the start, two criteria, and a phase of the user's own with a long name."""
    yield started((2, 3))
    yield ev.PhaseStarted(phase="my own annealing with restarts")
    for step in range(100):
        yield ev.StepMetrics(step=step, phase="my own annealing with restarts", metrics={"loss": 2.0})
    yield ev.PhaseStarted(phase="warmup", step=100)
    for step in range(100, 3_000, 100):
        yield ev.StepMetrics(step=step, phase="warmup", metrics={"loss": 2.0})
    grid = np.linspace(0, 1, 6).reshape(2, 3)
    yield ev.HeadScores(step=3_000, cycle=1, scores={"entropy": grid, "gradient": grid})
    yield ev.HeadsPruned(step=3_000, cycle=1, heads=(HeadId(0, 0),), strategy="gradient")
    yield ev.HeadsGrown(step=3_001, cycle=1, heads=(HeadId(1, 3),), origin="added", strategy="s")
    for head in (HeadId(0, 1), HeadId(1, 2)):
        maps = np.tri(4)[None] / np.arange(1, 5)[:, None]
        yield ev.AttentionMaps(prompt="a b c d", tokens=tuple("abcd"), maps=maps, heads=(head,), step=3_002)


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return open_run(write_events(tmp_path_factory.mktemp("grown") / "r", grown_and_named()))


def test_added_heads_are_marked_and_heads_that_are_not_there_are_blank(grown: Run) -> None:
    (axes,) = [one for one in draw(grown, "multi_cycle_process").axes if one.get_ylabel() == "layer"]
    (added,) = [one for one in axes.patches if one.get_gid() == "added"]
    assert len(added.get_path().vertices) == 5  # the corners of one cell
    assert np.ma.getmaskarray(axes.images[0].get_array()).tolist() == [[False] * 3 + [True], [False] * 4]


def test_the_columns_fit_two_criteria(grown: Run) -> None:
    maps = [axes for axes in draw(grown, "analysis").axes if axes.get_xlabel() == "head"]
    assert len(maps) == 2
    assert max(one.get_position().x1 for one in maps) > 0.8


def test_a_long_phase_name_stands_whole_in_the_legend_and_ends_in_an_ellipsis_elsewhere(grown: Run) -> None:
    shown = [text for text, _ in labels(draw(grown, "complete_process"))]
    assert "my own annealing with restarts" in shown
    assert not any(text.startswith("my o") and not text.endswith(("…", "restarts")) for text in shown)


def test_many_phases_are_named_up_to_a_count_of_the_others(drawn: Callable[[str, str], Figure]) -> None:
    shown = [text for text, _ in labels(drawn("crowded", "complete_process"))]
    assert [text for text in shown if text.endswith("more")] == ["and 2 more"]
    assert {f"phase {number}" for number in range(7)} <= set(shown)


def test_heads_looked_at_one_by_one_are_drawn(grown: Run) -> None:
    shown = {text for text, _ in labels(draw(grown, "attention"))}
    assert {"L0H1", "L1H2"} <= shown
    assert not any(text.startswith("L0H0") or "no pattern" in text for text in shown)
