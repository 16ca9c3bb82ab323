"""The example notebook runs from top to bottom, and when it is saved and opened without a kernel it shows the pages."""

from __future__ import annotations

import json
import re
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from playwright.sync_api import Browser

from neural_plasticity.dashboard.colab_quickstart import create_colab_quickstart_notebook
from tests.notebook_bridge import watched_page

COMMITTED = Path(__file__).parents[2] / "examples" / "quickstart.ipynb"


def test_the_committed_notebook_is_the_one_that_is_written(tmp_path: Path) -> None:
    written = create_colab_quickstart_notebook(tmp_path)
    assert written == tmp_path / "quickstart.ipynb"
    assert COMMITTED.read_text(encoding="utf-8") == written.read_text(encoding="utf-8"), (
        "python -c \"from neural_plasticity.dashboard.colab import *; create_colab_quickstart_notebook('examples')\""
    )
    nbformat.validate(nbformat.read(COMMITTED, as_version=4))
    assert all(not cell.get("outputs") for cell in json.loads(COMMITTED.read_text(encoding="utf-8"))["cells"])


def test_it_runs_and_a_saved_one_shows_the_pages(browser: Browser, tmp_path: Path) -> None:
    book = nbformat.read(COMMITTED, as_version=4)
    NotebookClient(book, timeout=120, resources={"metadata": {"path": str(tmp_path)}}).execute()
    saved = tmp_path / "saved.ipynb"
    nbformat.write(book, saved)
    outputs = [output for cell in nbformat.read(saved, as_version=4).cells for output in cell.get("outputs", ())]
    assert not [one for one in outputs if one.output_type == "stream" and one.name == "stderr"]
    copies = [html for one in outputs if "<iframe" in (html := one.get("data", {}).get("text/html", ""))]
    assert len(copies) == 2, "the simulated run and the one by hand"
    for copy in copies:
        page, wrong = watched_page(browser)
        page.set_content(f"<!doctype html><body>{copy}</body>")
        page.frames[1].wait_for_selector("html[data-seq]", state="attached")
        assert "finished" in page.frames[1].locator(".npd").inner_text()
        assert wrong == []
        page.close()
    links = [re.findall('href="([^"]*)"', one.get("data", {}).get("text/html", "")) for one in outputs]
    assert any("http://127.0.0.1:" in link for found in links for link in found)
