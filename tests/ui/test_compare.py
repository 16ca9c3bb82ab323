"""The comparison in a browser: two runs, many runs, from the file and from the list of runs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from neural_plasticity import events as ev
from neural_plasticity.render.page.comparison import write_comparison
from neural_plasticity.render.page.live.server import serve_in_thread
from tests.page_browser import DESK, PHONE, go, looking_at, open_panel, saved_csv, too_small, too_wide
from tests.sample_run import HOSTILE, SampleRun, write_events
from tests.ui.test_every_run import AXE, violations

PANELS = ("Settings", "Heads", "Overlap", "Over seeds", "Parallel", "Texts")
MANY = 15


def told(seed: int, strategy: str, name: str, **options: int) -> Iterator[ev.Event]:
    for event in SampleRun(seed=seed, name=name, warmup_steps=40, tuning_steps=20, **options).events():
        if isinstance(event, ev.RunStarted):
            event = replace(event, config={**event.config, "pruning_strategy": strategy})
        yield event


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("compared")
    for number in range(MANY):
        strategy = ("gradient", "entropy", "random")[number % 3]
        write_events(found / f"{number:02}", told(number // 3, strategy, f"{strategy}, seed {number // 3}"))
    return found


@pytest.fixture(scope="module")
def two(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_comparison([root / "00", root / "01"], tmp_path_factory.mktemp("two"))[0]


@pytest.fixture(scope="module")
def many(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_comparison([root], tmp_path_factory.mktemp("many"))[0]


def address(page: Page) -> str:
    page.wait_for_timeout(400)
    return page.url.partition("#")[2]


@pytest.mark.parametrize(("which", "size"), [("two", DESK), ("many", PHONE)])
def test_every_panel_opens(which: str, size: tuple[int, int], browser: Browser, request: pytest.FixtureRequest) -> None:
    with looking_at(browser, request.getfixturevalue(which), size, dark=size == PHONE) as page:
        assert "simulated" in page.get_by_role("note").first.inner_text()
        assert too_wide(page) == []
        for label in PANELS:
            said = open_panel(page, label).inner_text()
            assert len(said) > 40, f"{label}: {said}"
            assert not re.search("undefined|NaN", said), f"{label}: {said[:300]}"
            assert too_wide(page) == [], label
            assert size != PHONE or too_small(page) == [], label


@pytest.mark.skipif(not AXE.is_file(), reason="axe-core comes with the front end's tools: make page-check")
@pytest.mark.parametrize(("which", "dark"), [("two", False), ("many", True)])
def test_axe_finds_nothing_serious(which: str, dark: bool, browser: Browser, request: pytest.FixtureRequest) -> None:
    with looking_at(browser, request.getfixturevalue(which), dark=dark, bypass_csp=True) as page:
        page.add_script_tag(path=AXE)
        assert violations(page) == []
        assert {label: said for label in PANELS if (said := violations(page, label))} == {}


def test_one_run_is_highlighted_everywhere_and_in_the_address(browser: Browser, many: Path) -> None:
    with looking_at(browser, many) as page:
        page.get_by_role("button", name="entropy, seed 3", exact=True).click()
        assert address(page) == "selected=11"
        for chart in page.locator("figure .readout").all():
            expect(chart).to_contain_text("entropy, seed 3")
        page.get_by_role("application", name=re.compile("^Perplexity")).press("ArrowDown")
        assert address(page) == "selected=12"
        page.reload()
        expect(page.locator("tr.current")).to_contain_text("random, seed 3")
        page.get_by_role("application", name=re.compile("^Perplexity")).press("Escape")
        assert address(page) == ""


def test_a_pair_is_chosen_and_one_head_read_in_both(browser: Browser, many: Path) -> None:
    with looking_at(browser, many) as page:
        go(page, "panel=heads&pair=4-8&head=2.3")
        panel = page.get_by_role("tabpanel", name="Heads")
        expect(panel).to_contain_text("gradient, seed 1")
        expect(panel.locator(".readout")).to_contain_text(re.compile(r"L2H3\s*A\s+0\.\d+[^B]*B\s+0\.\d+"))
        page.get_by_role("button", name="Swap the two runs").click()
        assert "pair=8-4" in address(page)
        overlap = open_panel(page, "Overlap")
        expect(overlap).to_contain_text(re.compile(r"\d+ heads were pruned by both"))
        expect(overlap).to_contain_text("Within layers")


def test_colours_follow_a_setting_and_hide_its_runs(browser: Browser, many: Path) -> None:
    with looking_at(browser, many) as page:
        expect(page.get_by_role("combobox", name="Colour by")).to_have_value("pruning_strategy")
        page.get_by_role("button", name=f"entropy × {MANY // 3}").click()
        expect(page.locator("tr.faded")).to_have_count(MANY // 3)
        page.get_by_role("combobox", name="Horizontal axis").select_option("sparsity")
        expect(page.locator("figure").nth(1)).to_contain_text("before the heads changed again")


def test_means_over_seeds_are_saved_in_full(browser: Browser, many: Path) -> None:
    with looking_at(browser, many) as page:
        panel = open_panel(page, "Over seeds")
        rows = saved_csv(page, panel.get_by_role("button", name="Save as CSV"))
        assert [row[:2] for row in rows] == [["pruning strategy", "Seeds"]] + [[one, str(MANY // 3)] for one in
                                             ("gradient", "entropy", "random")]  # fmt: skip
        low, value, high = (
            rows[1][rows[0].index(name)] for name in ("Perplexity low", "Perplexity", "Perplexity high")
        )
        assert float(low) < float(value) < float(high)


def test_runs_of_different_models_say_so_and_refuse_what_means_nothing(
    browser: Browser, root: Path, tmp_path: Path
) -> None:
    other = [
        replace(event, name=HOSTILE, model={"name": "another"}) if isinstance(event, ev.RunStarted) else event
        for event in told(0, "gradient", "", layers=4)
    ]
    file, _ = write_comparison([root / "00", root / "01", write_events(tmp_path / "other", other)], tmp_path)
    with looking_at(browser, file) as page:
        assert "2 models" in page.get_by_role("note").first.inner_text()
        expect(page.get_by_role("combobox", name="Cost")).to_have_value("to_baseline")
        page.get_by_role("combobox", name="Cost").select_option("perplexity")
        expect(page.locator("figure").first).to_contain_text("cannot be held against each other")
        page.get_by_role("combobox", name="Runs shown").select_option("0")
        expect(page.locator("figure").first).to_contain_text("test text")
        panel = open_panel(page, "Overlap")
        panel.get_by_role("combobox", name="Run B").select_option("2")
        expect(panel).to_contain_text("Not compared: their grids differ: 6 × 8 and 4 × 8 heads")


def test_runs_are_chosen_in_the_list_and_compared(browser: Browser, root: Path) -> None:
    with serve_in_thread(root) as server, looking_at(browser, server.url) as page:
        page.get_by_role("checkbox", name="Compare gradient, seed 0").check()
        expect(page.get_by_text("Choose one more run to compare.")).to_be_visible()
        page.get_by_role("checkbox", name="Compare random, seed 2").check()
        page.get_by_role("link", name="Compare 2 runs").click()
        expect(page.get_by_role("heading", name="Runs")).to_be_visible()
        assert sorted(re.findall(r"run=(\d+)", page.url)) == ["00", "08"]
        expect(page.locator("tbody tr[data-run]")).to_have_count(2)
        page.get_by_role("link", name="Open gradient, seed 0").click()
        page.get_by_role("tab", name="Metrics").wait_for()
        assert page.url.endswith("/run/00")
