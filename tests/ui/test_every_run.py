"""Every panel of every kind of run: opens from the file without network or error, keeps to the width, is accessible."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
from playwright.sync_api import Browser, Page

from neural_plasticity.record import open_run
from neural_plasticity.render.page import document, write_page
from neural_plasticity.render.page.document import Section
from neural_plasticity.render.page.live.server import serve_in_thread
from neural_plasticity.views.attention_evolution import AttentionEvolution, PromptTakes, Take
from tests.page_browser import DESK, PANELS, PHONE, WALL, looking_at, open_panel, too_small, too_wide, wait_drawn
from tests.page_runs import RUNS

AXE = Path(__file__).resolve().parents[2] / "frontend" / "node_modules" / "axe-core" / "axe.min.js"
# What each run's header says, and what a panel of it must have or say.
STATES = {
    "begun": "running when this was written", "running": "running when this was written",
    "crashed": "silent when this was written", "stopped": "stopped after", "five-cycles": "finished in",
    "one-head": "finished in", "large": "finished in", "nan": "failed after",
}  # fmt: skip
SAID = {
    "begun": {"Pruning": "No pruning yet", "Log": "what they look at is made up"},
    "running": {"Fine-tuning": "cycle 2", "Cycles": "gradient"},
    "crashed": {"Pruning": "L"},
    "five-cycles": {"Cycles": "5", "Growth": "grew back"},
    "one-head": {"Pruning": "L0H0", "Growth": "L0H0", "Attention": "def run(self):"},
    "large": {"Analysis": "Measured on 64 sequences", "Pruning": "L47"},
    "nan": {"Metrics": "NaN", "Fine-tuning": "NaN"},
}
TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"]
VIOLATIONS = """async ([where, tags]) => {
  const said = await axe.run(where, {resultTypes: ['violations'], runOnly: {type: 'tag', values: tags}})
  return said.violations
    .filter((one) => ['serious', 'critical'].includes(one.impact))
    .map(({impact, id, nodes}) => `${impact} ${id}: ${nodes.slice(0, 3).map((one) => one.html.slice(0, 160)).join()}`)
}"""


def file_of(run_dir: Path) -> Path:
    return run_dir / "dashboard.html"


@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
@pytest.mark.parametrize("name", RUNS)
def test_every_panel_opens(name: str, size: tuple[int, int], browser: Browser, run_of: Callable[[str], Path]) -> None:
    with looking_at(browser, file_of(run_of(name)), size, dark=size == PHONE) as page:
        assert STATES[name] in page.get_by_role("banner").inner_text()
        assert too_wide(page) == []
        for label in PANELS:
            panel = open_panel(page, label)
            told = panel.inner_text()
            assert told.strip(), f"{label} is empty"
            assert SAID.get(name, {}).get(label, "").lower() in told.lower(), f"{label}: {told[:300]}"
            assert "undefined" not in told, f"{label}: {told[:300]}"
            assert too_wide(page) == [], label
            assert size != PHONE or too_small(page) == [], label


def test_a_wall_of_pixels_is_used(browser: Browser, run_of: Callable[[str], Path]) -> None:
    with looking_at(browser, file_of(run_of("five-cycles")), WALL) as page:
        assert too_wide(page) == []
        chart = page.get_by_role("slider", name="Loss: step of the cursor").first.bounding_box()
        grid = page.get_by_role("application").first.bounding_box()
        assert chart is not None
        assert grid is not None
        assert chart["width"] > 600
        assert WALL[1] / 2 > grid["height"]
        assert grid["width"] > 200


def test_every_button_can_be_pressed(browser: Browser, run_of: Callable[[str], Path]) -> None:
    """The first ones of every panel, once each: nothing breaks."""
    with looking_at(browser, file_of(run_of("five-cycles"))) as page:
        for label in PANELS:
            panel = open_panel(page, label)
            buttons = panel.locator("button:visible, summary:visible")
            for place in range(min(buttons.count(), 12)):
                if not panel.is_visible():  # the button before led to another panel
                    open_panel(page, label)
                button = buttons.nth(place)
                if button.is_visible() and button.is_enabled():
                    button.click()
            assert open_panel(page, label).inner_text().strip()


# Accessible ------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not AXE.is_file(), reason="axe-core comes with the front end's tools: make page-check")
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_axe_finds_nothing_serious(dark: bool, browser: Browser, run_of: Callable[[str], Path]) -> None:
    with looking_at(browser, file_of(run_of("five-cycles")), dark=dark, bypass_csp=True) as page:
        page.add_script_tag(path=AXE)
        page.get_by_role("application").first.press("ArrowRight")
        page.keyboard.press("Enter")
        assert violations(page) == []
        found = {label: violations(page, label) for label in PANELS}
        assert {label: told for label, told in found.items() if told} == {}
        page.keyboard.press("?")
        assert violations(page) == []


@pytest.mark.skipif(not AXE.is_file(), reason="axe-core comes with the front end's tools: make page-check")
def test_axe_finds_nothing_serious_on_the_live_page(browser: Browser, run_of: Callable[[str], Path]) -> None:
    run_dir = run_of("running")
    with serve_in_thread(run_dir.parent) as server, looking_at(browser, server.url, bypass_csp=True) as page:
        page.add_script_tag(path=AXE)
        assert violations(page) == []
        page.locator("tbody a").first.click()
        wait_drawn(page)
        page.add_script_tag(path=AXE)
        assert violations(page) == []


@pytest.mark.skipif(not AXE.is_file(), reason="axe-core comes with the front end's tools: make page-check")
def test_axe_finds_nothing_serious_on_a_phone(browser: Browser, run_of: Callable[[str], Path]) -> None:
    with looking_at(browser, file_of(run_of("nan")), PHONE, bypass_csp=True) as page:
        page.add_script_tag(path=AXE)
        assert violations(page) == []
        found = {label: violations(page, label) for label in PANELS}
        assert {label: told for label, told in found.items() if told} == {}


def violations(page: Page, label: str = "") -> Any:
    """What axe finds that is serious or critical on the page, or in the panel ``label`` alone."""
    if label:
        open_panel(page, label)
    return page.evaluate(VIOLATIONS, ["#npd-panel" if label else ".npd", TAGS])


def test_the_runs_are_what_they_are_called(run_of: Callable[[str], Path]) -> None:
    """Else the tests above would look at something else."""
    with open_run(run_of("large")) as run:
        assert run.heads().shape == (48, 33)  # one was added
    with open_run(run_of("one-head")) as run:
        assert run.heads().shape == (1, 1)
    with open_run(run_of("crashed")) as run:
        assert run.summary().stale


# Broken ----------------------------------------------------------------------------------------------------------


def test_a_part_that_breaks_takes_no_other_with_it(
    browser: Browser, run_of: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing = PromptTakes("p", ("a",), (cast(Take, None),))
    broken = Section(lambda _run, _budget: AttentionEvolution((nothing,)), frozenset())
    monkeypatch.setattr(document, "SECTIONS", {**document.SECTIONS, "attention": broken})
    with open_run(run_of("five-cycles")) as run:
        page_file = write_page(run, tmp_path / "broken.html")
    with looking_at(browser, page_file, forgiven="^console: Attention:") as page:
        alert = open_panel(page, "Attention").get_by_role("alert")
        assert "could not be drawn" in alert.inner_text()
        assert alert.get_by_role("button", name="Try again").is_visible()
        assert "gradient" in open_panel(page, "Cycles").inner_text().lower()
