"""One browser for all tests of the page, and the runs that they look at, each made once."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from neural_plasticity.record import open_run
from neural_plasticity.render.page import write_page
from tests.page_browser import launch, program
from tests.page_runs import RUNS


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """Chromium. Without one the tests are skipped, but not where they are counted on."""
    path = program()
    if path is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("no Chromium here: apt-get install chromium")
    with sync_playwright() as playwright:
        found = launch(playwright, path)
        yield found
        found.close()


@pytest.fixture(scope="session")
def run_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The directory of a run of ``tests.page_runs``; its page lies in it, too."""

    @cache
    def made(name: str) -> Path:
        run_dir = RUNS[name](tmp_path_factory.mktemp("runs") / name)
        with open_run(run_dir) as run:
            write_page(run, run_dir)
        return run_dir

    return made
