"""The look of the page against a kept picture: region by region, blurred, so that fonts may differ, the layout not.

After a change that is meant, ``NPD_KEEP_PICTURES=1 python -m pytest tests/ui/test_pictures.py`` keeps the new look.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page

from tests.page_browser import DESK, PHONE, looking_at, open_panel, settle

KEPT = Path(__file__).parent / "pictures"
REGION = 64  # pixels: a word in another font moves little ink in so large a square
MOST = 14.0  # of 255: mean difference of a region
SHARE = 0.04  # of all regions may differ by more: a line that breaks elsewhere
SIGHTS = {
    "first": ("five-cycles", DESK, False, ""),
    "first-dark": ("five-cycles", DESK, True, ""),
    "phone": ("five-cycles", PHONE, False, ""),
    "lifelines": ("five-cycles", DESK, False, "Lifelines"),
    "pruning": ("five-cycles", DESK, False, "Pruning"),
    "analysis-dark": ("nan", DESK, True, "Analysis"),
}


@pytest.mark.parametrize("sight", SIGHTS)
def test_it_looks_as_it_did(
    sight: str, browser: Browser, run_of: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> None:
    name, size, dark, panel = SIGHTS[sight]
    with looking_at(browser, run_of(name) / "dashboard.html", size, dark=dark) as page:
        seen = regions(picture(page, panel))
    kept = KEPT / f"{sight}.png"
    if os.environ.get("NPD_KEEP_PICTURES"):
        KEPT.mkdir(exist_ok=True)
        Image.fromarray(seen.astype(np.uint8)).save(kept, optimize=True)
    told = different(np.asarray(Image.open(kept).convert("RGB"), dtype=np.float64), seen)
    assert told == "", f"{sight}: {told}"


def picture(page: Page, panel: str) -> Image.Image:
    """What is in sight, or the upper part of a panel."""
    if panel:
        shown = open_panel(page, panel)
        page.evaluate("() => document.querySelector('[role=tablist]').scrollIntoView()")
        shown.scroll_into_view_if_needed()
    page.wait_for_timeout(300)
    settle(page)
    return Image.open(io.BytesIO(page.screenshot())).convert("RGB")


def regions(image: Image.Image) -> npt.NDArray[np.float64]:
    """Mean colour of each region."""
    size = (image.width // REGION, image.height // REGION)
    return np.asarray(image.resize(size, Image.Resampling.BOX), dtype=np.float64)


def different(kept: npt.NDArray[np.float64], seen: npt.NDArray[np.float64]) -> str:
    """Empty when both look alike."""
    if kept.shape != seen.shape:
        return f"{seen.shape} regions, {kept.shape} kept"
    apart = np.abs(kept - seen).mean(axis=2)
    far = apart > MOST
    if far.mean() <= SHARE:
        return ""
    places = [f"row {row} column {column}: {apart[row, column]:.0f}" for row, column in np.argwhere(far)[:8].tolist()]
    return f"{far.sum()} of {far.size} regions differ by more than {MOST}: {', '.join(places)}"


@pytest.mark.parametrize(
    "fault",
    ["document.querySelector('main').style.marginTop = '120px'", "document.querySelector('canvas').remove()",
     "document.querySelector('.npd').dataset.theme = 'dark'",
     "document.querySelector('.first').style.gridTemplateColumns = '1fr 1fr 1fr'"],
)  # fmt: skip
def test_a_fault_is_seen(fault: str, browser: Browser, run_of: Callable[[str], Path]) -> None:
    """The comparison can fail: the page is spoilt on purpose."""
    with looking_at(browser, run_of("five-cycles") / "dashboard.html") as page:
        kept = regions(picture(page, ""))
        page.evaluate(f"() => {{ {fault} }}")
        assert different(kept, regions(picture(page, ""))) != ""
