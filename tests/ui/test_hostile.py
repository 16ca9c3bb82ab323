"""Text from outside stays text, wherever it comes from: nothing of it runs, and the page keeps its shape."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser, Page

from neural_plasticity import events as ev
from neural_plasticity.heads import HeadId
from neural_plasticity.record import open_run
from neural_plasticity.render.page import write_page
from neural_plasticity.render.page.live.server import LiveServer, serve_in_thread
from tests.page_browser import DESK, PANELS, PHONE, TRAP, go, looking_at, open_panel, settle, too_wide
from tests.page_runs import write_at

# Each calls the trap where it is taken for markup, an attribute, a script, a style or a template.
PAYLOADS = (
    f"</script><script>{TRAP}()</script>",
    f'"><img src=x onerror={TRAP}()>',
    f"'><svg onload={TRAP}()>",
    f"<iframe srcdoc='<script>parent.{TRAP}()</script>'>",
    f"</style><style>@import url(javascript:{TRAP}())</style>",
    f"{{{{constructor.constructor('{TRAP}()')()}}}}",
    f"${{{TRAP}()}} #{{{TRAP}()}} <%= {TRAP}() %>",
    f"javascript:{TRAP}()",
    f"<a href=javascript:{TRAP}()>go</a><form action=//evil.example><input autofocus onfocus={TRAP}()>",
    "\x00\x07\x1b[2J\x1b]0;owned\x07\x7f\x85 \r\n\t",
    "\u202egnp.exe\u202c \u2066\u2067\u200f\u061c",
    "W" * 3_000,
    "Z͑ͫ̓ͪ̂ͫ̽͏̴̙̤̞͉͚̯̞̠͍A̴̵̜̰͔ͫ͗͢L̠ͨͧͩ͘G̴̻͈͍͔̹̑͗̎̅͛́Ǫ̵̹̻̝̳͂̌̌͘!͖̬̰̙̗̿̋ͥͥ̂ͣ̐́́͜͞",
    "\ud800 \U000e0001 \ufeff",
    "=cmd|' /C calc'!A0",
)
NAMES = ("__proto__", "constructor", "toString", "hasOwnProperty", "", " ", "length", "0.0", "then")
MEGABYTE = PAYLOADS[1] + "x" * 1_000_000 + PAYLOADS[0]
LONG = "".join(PAYLOADS)


def hostile_events() -> Iterator[ev.Event]:
    """A whole run of which every string is an attack."""
    shape = (2, 3)
    grid = np.arange(6.0).reshape(shape)
    bad = dict.fromkeys((*NAMES, *PAYLOADS), LONG)
    numbers = {name: float(place) for place, name in enumerate((*NAMES, *PAYLOADS))}
    yield ev.RunStarted(
        name=LONG, shape=shape, config={**bad, "text": MEGABYTE, MEGABYTE: MEGABYTE, "nested": bad}, model=bad,
        data=bad, environment={**bad, "command": LONG},
    )  # fmt: skip
    for phase in ("warmup", *PAYLOADS):
        yield ev.PhaseStarted(phase=phase, planned=10, unit=LONG)
        for step in range(12):
            yield ev.StepMetrics(step=step, phase=phase, metrics={"loss": 2.0 - step / 10, **numbers})
        yield ev.PhaseEnded(step=12, phase=phase, reason=LONG, summary=bad)
    stable = ev.Stabilised(step=12, phase="warmup", slope=0.0, slope_low=0.0, slope_high=0.0, tolerance=1.0, window=5,
                           loss=1.0, reason=LONG)  # fmt: skip
    yield stable
    yield ev.HeadScores(step=13, phase="analysis", cycle=1, scores={"gradient": grid, **dict.fromkeys(bad, grid)})
    reasons = {"0.1": LONG, "1.1": MEGABYTE, **bad}
    yield ev.HeadsPruned(
        step=14, phase="pruning", cycle=1, heads=(HeadId(0, 1), HeadId(1, 1)), strategy=LONG, rule=LONG, score=grid,
        reasons=reasons, threshold=2.0, loss_before=1.0, loss_after=2.0, details=bad,
    )  # fmt: skip
    yield ev.HeadsGrown(step=15, phase="pruning", cycle=1, heads=(HeadId(0, 1),), strategy=LONG, rule=LONG, score=grid,
                        reasons=reasons, details=bad)  # fmt: skip
    for name in (*PAYLOADS, MEGABYTE):
        yield ev.TextSample(step=16, prompt=name, text=LONG, model=name[:200], metrics=numbers)
        yield ev.LogLine(step=16, message=name, level="error")
    maps = np.full((*shape, 3, 3), 1 / 3)
    yield ev.AttentionMaps(step=16, prompt=LONG, tokens=(LONG, PAYLOADS[0], MEGABYTE), maps=maps, model=LONG)
    yield ev.AttentionMaps(step=17, cycle=1, prompt=LONG, tokens=(LONG, PAYLOADS[0], MEGABYTE), maps=maps, model=LONG)
    yield ev.Evaluation(
        step=17, phase="evaluation", cycle=1,
        results={"baseline": {"loss": 1.0, "perplexity": math.e, **bad}, "pruned": {"loss": 2.0, **bad},
                 **{name: {"loss": 1.5, name: 1.0} for name in (*NAMES, *PAYLOADS)}, "comparison": bad},
        details=bad,
    )  # fmt: skip
    yield ev.Annotation(step=17, tags=(*PAYLOADS, MEGABYTE), note=MEGABYTE)
    yield ev.RunEnded(step=17, phase="evaluation", cycle=1, state="failed", reason=MEGABYTE, summary=bad)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run_dir = write_at(tmp_path_factory.mktemp("hostile") / "run", hostile_events())
    with open_run(run_dir) as run:
        write_page(run, run_dir)
    return run_dir


def tour(page: Page) -> None:
    """Every panel, a head, a chosen line: nothing runs (the browser's own notes are read at the end), nothing moves."""
    assert too_wide(page) == []
    go(page, "head=0.1")
    assert page.get_by_role("region", name="Head L0H1").is_visible()
    assert too_wide(page) == [], "head drawer"
    go(page, "")
    for label in PANELS:
        panel = open_panel(page, label)
        if panel.locator("[role=option]").count():
            panel.locator("[role=option]").first.click()
        for _ in range(2):
            if (folded := panel.get_by_role("button", name="Show all")).count():
                folded.first.click()
        settle(page)
        assert too_wide(page) == [], label
    assert (
        page.evaluate("() => document.querySelectorAll('iframe, form:not([method=dialog]), img, object').length") == 0
    )
    assert page.evaluate("() => Object.keys(Object.prototype).length + Object.keys(Array.prototype).length") == 0


@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
def test_nothing_in_a_file_runs_or_breaks_the_page(size: tuple[int, int], browser: Browser, hostile: Path) -> None:
    with looking_at(browser, hostile / "dashboard.html", size) as page:
        tour(page)


def test_the_trap_would_be_heard(browser: Browser, hostile: Path) -> None:
    """Without the content policy and with markup, the same payload is noted: the tests above can fail."""
    with pytest.raises(AssertionError, match=f"{TRAP} was called"):
        spring_the_trap(browser, hostile)


def spring_the_trap(browser: Browser, hostile: Path) -> None:
    with looking_at(browser, hostile / "dashboard.html", bypass_csp=True) as page:
        page.evaluate("(text) => { document.body.innerHTML = text }", PAYLOADS[1])
        page.wait_for_timeout(300)


def test_what_is_said_is_what_was_recorded(browser: Browser, hostile: Path) -> None:
    """Text, to the letter, but for characters that cannot be seen."""
    with looking_at(browser, hostile / "dashboard.html") as page:
        assert page.locator("h1").inner_text().startswith("".join(PAYLOADS[:9]))
        log = open_panel(page, "Log").inner_text()
        for payload in PAYLOADS[:9]:
            assert payload in log
        assert "␀␇␛[2J␛]0;owned␇␡" in log
        samples = open_panel(page, "Samples")
        assert PAYLOADS[0] in samples.inner_text()
        assert "\u202e" not in page.locator("body").inner_text()


# On the live server ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server(hostile: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    """Directories whose names are attacks, too; one of the runs cannot be read."""
    root = tmp_path_factory.mktemp("served")
    for place, name in enumerate(PAYLOADS):
        folder = root / "".join("_" if one in "/\x00" or "\ud800" <= one < "\ue000" else one for one in name)[:60]
        if place < 4:
            shutil.copytree(hostile, folder)
        else:
            folder.mkdir()
            (folder / "run.sqlite").write_bytes(b"SQLite format 3\0" + name.encode("utf-8", "replace") * 50)
    with serve_in_thread(root) as found:
        yield found


@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
def test_a_list_of_hostile_runs(size: tuple[int, int], browser: Browser, server: LiveServer) -> None:
    with looking_at(browser, server.url, size) as page:
        rows = page.locator("tbody tr")
        assert rows.count() == len(PAYLOADS)
        assert too_wide(page) == []
        page.get_by_role("searchbox").fill(PAYLOADS[1])
        settle(page)
        page.get_by_role("searchbox").fill("")
        page.locator("tbody a").first.click()
        page.get_by_role("tab", name="Metrics").wait_for()
        assert too_wide(page) == []
        page.get_by_role("link", name="Runs").click()
        rows.first.wait_for()


def test_a_name_in_the_address_bar_is_only_a_name(browser: Browser, server: LiveServer) -> None:
    with looking_at(browser, server.address, forgiven="Failed to load resource") as page:
        for path in ("run/%3Cimg%20src=x%20onerror=npdTrap()%3E", "run/..%2f..%2fetc", "run/__proto__"):
            page.goto(server.address + path)
            settle(page)
            assert "Traceback" not in page.content()
