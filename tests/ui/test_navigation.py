"""One cursor, one head, one panel, one zoom: by pointer and by keyboard, in the address, back and again."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from neural_plasticity.events import PhaseEnded
from neural_plasticity.record import open_run
from tests.page_browser import PANELS, go, looking_at, open_panel, settle, wait_drawn

RUN = "five-cycles"
TIME = "Time: step of the experiment"


@pytest.fixture(scope="module")
def shared(browser: Browser, run_of: Callable[[str], Path]) -> Iterator[Page]:
    with looking_at(browser, run_of(RUN) / "dashboard.html") as found:
        yield found


@pytest.fixture
def page(shared: Page) -> Page:
    """The page at its beginning."""
    shared.evaluate("() => { history.replaceState(null, '', location.pathname); scrollTo(0, 0) }")
    shared.reload()
    wait_drawn(shared)
    return shared


@pytest.fixture(scope="module")
def newest(run_of: Callable[[str], Path]) -> int:
    """The run's last step."""
    with open_run(run_of(RUN)) as run:
        return max(event.step for event in run.events(PhaseEnded))


@pytest.fixture(scope="module")
def decided(run_of: Callable[[str], Path]) -> list[int]:
    with open_run(run_of(RUN)) as run:
        return [event.step for event in run.decisions()]


def timeline(page: Page) -> Locator:
    return page.get_by_role("slider", name=TIME)


def step_of(page: Page) -> int:
    return int(timeline(page).get_attribute("aria-valuenow") or "nothing")


def address(page: Page) -> str:
    """What is behind #, once it has settled."""
    page.wait_for_timeout(600)
    return page.url.partition("#")[2]


def test_the_cursor_is_dragged_on_the_timeline_and_moves_everything(page: Page, newest: int) -> None:
    box = timeline(page).bounding_box()
    assert box is not None
    y = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + 0.9 * box["width"], y)
    page.mouse.down()
    for share in (0.8, 0.6, 0.5):
        page.mouse.move(box["x"] + share * box["width"], y)
    page.mouse.up()
    settle(page)
    step = step_of(page)
    assert 0.4 * newest < step < 0.6 * newest
    assert f"step={step}" in address(page)
    for slider in page.get_by_role("slider", name=re.compile("step of the cursor|Step that the heads")).all():
        assert slider.get_attribute("aria-valuenow") == str(step)
    assert f"step {step}" in page.locator(".frame .head").inner_text()
    assert page.evaluate("() => history.length") < 4  # dragging is no step in the browser's history


def test_left_and_right_go_from_event_to_event(page: Page, decided: list[int]) -> None:
    track = timeline(page)
    track.focus()
    page.keyboard.press("Home")
    assert step_of(page) == 0
    passed = []
    for _ in range(40):
        page.keyboard.press("ArrowRight")
        passed.append(step_of(page))
    assert set(decided) <= set(passed)
    assert passed == sorted(passed)
    page.keyboard.press("Shift+ArrowLeft")
    assert passed[-1] - 9 <= step_of(page) < passed[-1]
    page.keyboard.press("End")
    assert "step=" not in address(page)  # the newest step, whatever it is


def test_choices_are_steps_in_the_history_and_a_link_leads_to_the_same_sight(page: Page) -> None:
    open_panel(page, "Pruning")
    go(page, "panel=pruning&step=300&head=2.1&zoom=200-500")
    expect(page.get_by_role("region", name="Head L2H1")).to_be_visible()
    open_panel(page, "Cycles")
    assert address(page) == "panel=cycles&step=300&head=2.1&zoom=200-500"
    page.go_back()
    settle(page)
    expect(page.get_by_role("tab", name="Pruning")).to_have_attribute("aria-selected", "true")
    page.go_forward()
    settle(page)
    expect(page.get_by_role("tab", name="Cycles")).to_have_attribute("aria-selected", "true")
    page.reload()
    wait_drawn(page)
    assert step_of(page) == 300
    expect(page.get_by_role("tab", name="Cycles")).to_have_attribute("aria-selected", "true")
    expect(page.get_by_role("region", name="Head L2H1")).to_be_visible()
    expect(page.get_by_role("button", name=re.compile("Curves show 200.500"))).to_be_visible()
    go(page, "")
    assert page.get_by_role("region", name="Head L2H1").count() == 0


@pytest.mark.parametrize(
    "nonsense",
    ["step=-5", "step=1e9", "head=99.99", "head=x", "panel=nothing", "zoom=9-1", "panel=<img src=x onerror=npdTrap()>",
     "step=99999999999999999999", "zoom=-1--1", "%E0%A4%A", "head=__proto__"],
)  # fmt: skip
def test_an_address_that_means_nothing_shows_the_page_all_the_same(nonsense: str, page: Page, newest: int) -> None:
    page.goto(page.url.partition("#")[0] + "#" + nonsense)
    page.reload()
    wait_drawn(page)
    assert page.get_by_role("tab", selected=True).count() == 1
    assert page.get_by_role("heading", name="Curves").is_visible()
    assert 0 <= step_of(page) <= newest


def test_curves_are_zoomed_together_by_wheel_and_by_dragging(page: Page, newest: int) -> None:
    chart = page.get_by_role("slider", name="Loss: step of the cursor").first
    chart.scroll_into_view_if_needed()
    box = chart.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.keyboard.down("Control")
    page.mouse.wheel(0, -300)
    page.keyboard.up("Control")
    expect(page.get_by_role("button", name=re.compile("^Curves show"))).to_be_visible()
    first, last = zoom_of(page)
    assert 0 < first < last < newest
    page.keyboard.down("Shift")
    page.mouse.move(box["x"] + 0.4 * box["width"], box["y"] + 40)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.6 * box["width"], box["y"] + 40)
    page.mouse.up()
    page.keyboard.up("Shift")
    closer = zoom_of(page)
    assert first < closer[0] < closer[1] < last
    chart.dblclick()
    assert "zoom" not in address(page)


def zoom_of(page: Page) -> tuple[int, int]:
    found = re.search(r"zoom=(\d+)-(\d+)", address(page))
    assert found is not None
    return int(found[1]), int(found[2])


# Without a pointer -----------------------------------------------------------------------------------------------


def test_a_tour_by_keyboard_alone(page: Page) -> None:
    """From the top with Tab: theme, help, timeline, head grid, tabs, and nothing is left without visible focus."""
    reached: list[str] = []
    for _ in range(45):
        page.keyboard.press("Tab")
        name, outline = page.evaluate(FOCUS)
        reached.append(name)
        assert outline != "none", f"{name}: the focus is not seen"
        if name == f"tab {PANELS[0]}":
            break
    for wanted in ("button Keys and help", f"slider {TIME}", "application Heads by layer", f"tab {PANELS[0]}"):
        assert any(one.startswith(wanted) for one in reached), (wanted, reached)
    for label in PANELS[1:]:
        page.keyboard.press("ArrowRight")
        assert page.evaluate(FOCUS)[0] == f"tab {label}"
        expect(page.get_by_role("tabpanel", name=label)).to_be_visible()
    page.keyboard.press("Home")
    expect(page.get_by_role("tabpanel", name=PANELS[0])).to_be_visible()


FOCUS = """() => {
  const one = document.activeElement
  const name = one.getAttribute('aria-label') ?? one.innerText ?? ''
  return [`${one.getAttribute('role') ?? one.tagName.toLowerCase()} ${name.trim().split('\\n')[0]}`,
          getComputedStyle(one).outlineStyle]
}"""


def test_a_head_is_opened_and_closed_by_keyboard(page: Page) -> None:
    grid = page.get_by_role("application", name=re.compile("^Heads by layer"))
    grid.focus()
    for key in ("ArrowDown", "ArrowDown", "ArrowRight", "Enter"):
        page.keyboard.press(key)
    expect(page.get_by_role("region", name="Head L1H1")).to_be_visible()
    assert "head=1.1" in address(page)
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("region", name="Head L1H2")).to_be_visible()
    page.keyboard.press("Escape")
    assert "head" not in address(page)
    assert page.get_by_role("region", name=re.compile("^Head L")).count() == 0


def test_the_list_of_keys_opens_by_a_question_mark(page: Page) -> None:
    page.keyboard.press("?")
    dialog = page.get_by_role("dialog")
    expect(dialog).to_be_visible()
    assert "it asks nothing of the network" in dialog.inner_text()
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()


def test_curves_move_the_cursor_by_keyboard(page: Page) -> None:
    chart = page.get_by_role("slider", name="Loss: step of the cursor").first
    chart.focus()
    before = step_of(page)
    page.keyboard.press("Shift+ArrowLeft")
    assert step_of(page) < before
    page.keyboard.press("+")
    assert "zoom=" in address(page)
    page.keyboard.press("0")
    assert "zoom=" not in address(page)


def test_who_wants_no_motion_sees_none(page: Page) -> None:
    """The play button goes from event to event, and nothing is animated."""
    running = page.evaluate("() => document.getAnimations().filter((one) => one.playState === 'running').length")
    assert running == 0
    page.get_by_role("button", name="Play the experiment").click()
    page.wait_for_timeout(1_400)
    page.get_by_role("button", name="Stop").click()
    moved = step_of(page)
    assert moved > 0
    page.wait_for_timeout(300)
    assert step_of(page) == moved


def test_the_colours_are_chosen_and_remembered(page: Page) -> None:
    theme = page.locator(".npd")
    button = page.get_by_role("button", name="colours")
    seen = []
    for _ in range(3):
        button.click()
        seen.append(theme.get_attribute("data-theme"))
    assert {"light", "dark"} == set(seen)
    while theme.get_attribute("data-theme") != "dark":
        button.click()
    page.reload()
    wait_drawn(page)
    assert theme.get_attribute("data-theme") == "dark"
    while "auto" not in button.inner_text():
        button.click()
