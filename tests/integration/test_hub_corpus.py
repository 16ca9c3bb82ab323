"""Data sets of the hub, opened from a local cache in a process of their own, with and without a network."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.hub_cache import build_dataset_cache

SCRIPT = """
import json, socket, sys
def unreachable(*_, **__): raise socket.gaierror(socket.EAI_NONAME, "no network in tests")
socket.getaddrinfo = unreachable
from neural_plasticity.data.corpus import load_corpus
from neural_plasticity.errors import CorpusError
try:
    corpus = load_corpus(*sys.argv[1:])
except CorpusError as error:
    print(json.dumps(str(error)))
else:
    print(json.dumps([[d.text for d in split] for split in (corpus.train, corpus.validation, corpus.test)]))
"""


def load(home: Path, *arguments: str, offline: bool = True) -> object:
    environment = {k: v for k, v in os.environ.items() if k not in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE")}
    environment |= {"HF_HOME": str(home)} | ({"HF_HUB_OFFLINE": "1"} if offline else {})
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *arguments], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert "Retrying" not in done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("offline", [True, False])
def test_own_splits_are_used_and_empty_rows_left_out(tmp_path: Path, offline: bool) -> None:
    rows = {"train": ["a", "", "b"], "validation": ["c"], "test": ["d", "  "]}
    build_dataset_cache(tmp_path, "wikitext", "wikitext-2-raw-v1", rows)
    assert load(tmp_path, "wikitext", "wikitext-2-raw-v1", offline=offline) == [["a", "b"], ["c"], ["d"]]


def test_missing_splits_are_stretches_at_the_end_of_train(tmp_path: Path) -> None:
    rows = [f"row {i}" for i in range(200)]
    build_dataset_cache(tmp_path, "somebody/texts", "default", {"train": rows})
    train, validation, test = load(tmp_path, "somebody/texts")
    assert train + validation + test == rows
    assert (len(validation), len(test)) == (20, 20)


@pytest.mark.parametrize("offline", [True, False])
def test_what_is_nowhere_is_one_line_that_says_what_to_do(tmp_path: Path, offline: bool) -> None:
    message = load(tmp_path, "nobody/no-such-set", offline=offline)
    assert isinstance(message, str)
    assert message.startswith("--dataset nobody/no-such-set")
    assert "python-stdlib" in message
    assert "\n" not in message
