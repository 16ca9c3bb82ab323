"""Evolution in the page: drift of attention and of the embedding space, growth, verdicts and the return they led to."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser, Page

from neural_plasticity import events as ev
from neural_plasticity.dashboard.demo_events import simulate
from neural_plasticity.heads import StateGrid
from neural_plasticity.record import open_run
from neural_plasticity.record.history import head_states
from neural_plasticity.render.page import write_page
from neural_plasticity.views.attention_evolution import attention_evolution
from neural_plasticity.views.embeddings import embeddings
from neural_plasticity.views.growth import growth
from tests.page_browser import DESK, PHONE, go, looking_at, open_panel, saved_csv, too_wide
from tests.page_runs import write_at

CYCLES, KEPT = 4, 2
POINTS = 600  # enough that the map counts them


def cloud(cycle: int, model: str, rng: np.random.Generator) -> ev.Embedding:
    """Points at three depths: the deeper, the further from where they were."""
    base = np.random.default_rng(0).normal(size=(3, POINTS, 12))
    moved = 0.3 * cycle * np.array([0.0, 0.5, 1.0])[:, None, None] * rng.normal(size=base.shape)
    return ev.Embedding(
        cycle=cycle, phase="evaluation", name="of a script", vectors=base + moved, model=model, layers=(-1, 0, 1),
        labels=tuple(f"word{at}" for at in range(POINTS)), groups=tuple("ab"[at % 2] for at in range(POINTS)),
    )  # fmt: skip


def evolved() -> Iterator[ev.Event]:
    """Four cycles, judged; the last two are outside the allowed increase, and the run goes back to the second."""
    rng = np.random.default_rng(1)
    told: list[ev.Event] = []
    states: list[StateGrid] = []
    for event in simulate(cycles=CYCLES, seed=1):
        at = {"step": event.step, "cycle": event.cycle, "phase": "evaluation"}
        if isinstance(event, ev.RunEnded):
            yield ev.StateRestored(to_cycle=KEPT, to_step=0, states=states[KEPT], reason="cycle 4 cost too much", **at)
        told.append(event)
        yield event
        if isinstance(event, ev.Evaluation):
            states.append(head_states((6, 8), told, None))
            yield ev.Embedding(**{**vars(cloud(event.cycle, "pruned", rng)), "step": event.step})
            cost = (0.0, 0.01, 0.02, 0.06, 0.09)[event.cycle]
            if event.cycle:
                yield ev.CycleJudged(
                    log_ratio=cost, log_ratio_low=cost - 0.01, log_ratio_high=cost + 0.01, budget=math.log(1.05),
                    inside=cost + 0.01 <= math.log(1.05), sparsity=0.1 * event.cycle, perplexity=10 * math.exp(cost),
                    control_perplexity=10.0, sequences=256, documents=18, **at,
                )  # fmt: skip


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = write_at(tmp_path_factory.mktemp("evolved") / "run", evolved())
    with open_run(found) as run:
        write_page(run, found)
    return found


@pytest.fixture
def page(run_dir: Path, browser: Browser) -> Iterator[Page]:
    with looking_at(browser, run_dir / "dashboard.html") as opened:
        yield opened


def test_drift_of_the_embedding_space_is_the_views(page: Page, run_dir: Path) -> None:
    with open_run(run_dir) as run:
        spaces = {one.name: one for one in embeddings(run).spaces}
    panel = open_panel(page, "Embeddings")
    panel.get_by_label("Space").select_option(label="of a script")
    rows = saved_csv(page, panel.get_by_role("button", name="Save as CSV"))
    cka = spaces["of a script"].drift[0].linear_cka
    column = rows[0].index("linear_cka")
    told = np.array([float(row[column]) for row in rows[1:]]).reshape(cka.shape)
    np.testing.assert_allclose(told, cka)
    # A number leads to its map, and the cursor to its moment.
    panel.get_by_role("button", name="layer 1, cycle 2").first.click()
    assert panel.get_by_role("heading", name="Map of layer 1, cycle 2").is_visible()
    at = page.get_by_role("slider", name="Time: step of the experiment").get_attribute("aria-valuetext")
    assert at is not None
    assert f"step {spaces['of a script'].steps[2]};" in at


def test_points_are_counted_where_they_are_many_and_found_by_keyboard(page: Page) -> None:
    panel = open_panel(page, "Embeddings")
    panel.get_by_label("Space").select_option(label="of a script")
    assert panel.get_by_role("button", name="density").get_attribute("aria-pressed") == "true"
    plot = panel.get_by_role("application", name="Map of")
    plot.press("ArrowRight")
    first = panel.locator("footer [aria-live]").inner_text()
    assert first.startswith("word")
    plot.press("ArrowRight")
    assert panel.locator("footer [aria-live]").inner_text() != first
    plot.press("Enter")
    plot.press("Escape")
    assert panel.locator("footer [aria-live]").inner_text().startswith("Point at one")


def test_verdicts_and_the_return_are_told(page: Page) -> None:
    said = open_panel(page, "Cycles").inner_text()
    assert "4 cycles tried; the model is that of cycle 2" in said
    assert "The run returned to the state after cycle 2" in said
    assert said.count("✓ inside") == 2
    assert said.count("✗ outside") == 2
    assert "cycle 4 cost too much" in said.lower()
    table = page.get_by_role("region", name="Cycle by cycle", exact=True)
    assert table.evaluate("(one) => one.scrollWidth <= one.clientWidth"), "the table scrolls sideways at 1280 px"


def test_a_head_that_the_return_moved_says_so(page: Page, run_dir: Path) -> None:
    with open_run(run_dir) as run:
        again = [head for one in run.decisions() if one.cycle == CYCLES for head in one.heads]
        states = run.heads()
    head = next(one for one in again if states[one] > 0)
    go(page, f"head={head.layer}.{head.head}")
    drawer = page.get_by_role("complementary", name="Selected head")
    assert "when the run returned to the end of cycle 2" in drawer.inner_text()


def test_growth_names_lives(page: Page, run_dir: Path) -> None:
    with open_run(run_dir) as run:
        names = [one.name for one in growth(run).returns]
    panel = open_panel(page, "Growth")
    assert any(name.endswith("#2") for name in names)
    for name in names:
        assert panel.get_by_role("button", name=name, exact=True).first.is_visible()


def test_attention_drift_is_the_views_and_selects(page: Page, run_dir: Path) -> None:
    with open_run(run_dir) as run:
        mover = attention_evolution(run).movers[0]
    panel = open_panel(page, "Attention")
    name = f"L{mover.layer}H{mover.head}"
    panel.get_by_role("listitem").first.get_by_role("button", name=name).click()
    assert page.get_by_role("complementary", name="Selected head").get_by_role("heading", name=name).first.is_visible()
    panel.get_by_role("button", name="prompts of").click()
    assert panel.get_by_role("columnheader", name="prompt").is_visible()
    rows = saved_csv(page, panel.get_by_role("button", name="Save drift as CSV"))
    told = [float(row[5]) for row in rows[1:] if row[0] == "pruned" and row[3:5] == [str(mover.layer), str(mover.head)]]
    assert told[-1] == pytest.approx(mover.drift, rel=1e-5)


@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
def test_nothing_is_wider_than_the_page(run_dir: Path, browser: Browser, size: tuple[int, int]) -> None:
    with looking_at(browser, run_dir / "dashboard.html", size, dark=size == PHONE) as page:
        for label in ("Cycles", "Attention", "Growth", "Embeddings"):
            open_panel(page, label)
            assert too_wide(page) == [], label
