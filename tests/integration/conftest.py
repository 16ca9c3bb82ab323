"""What whole experiments in these tests run on: a small model and a text, made once and only read."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.small_runs import save_model, save_text


@pytest.fixture(scope="session")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_text(tmp_path_factory.mktemp("text") / "text.txt")


@pytest.fixture(scope="session")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("gpt2"))
