"""What colleagues send can be opened without running their code, reading our files or filling our memory."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import sqlite3
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from starlette.routing import Route
from torch.nn.modules.module import _global_parameter_registration_hooks

from neural_plasticity.cli import main
from neural_plasticity.config import RunConfig
from neural_plasticity.errors import ModelError, RecordError
from neural_plasticity.events import AttentionMaps, Evaluation, HeadScores, LogLine, RunStarted, StepMetrics
from neural_plasticity.models.inspection import check_size, inspect
from neural_plasticity.models.loading import load_model
from neural_plasticity.models.saving import load_pruned
from neural_plasticity.record import RecordWriter, UnknownEvent, open_run
from neural_plasticity.record.defence import Guarded
from neural_plasticity.render.page import read_page
from neural_plasticity.sweep.plan import Plan, claim
from neural_plasticity.views.growth import growth
from tests.fuzz import requests
from tests.fuzz.campaign import round_of
from tests.fuzz.files import bomb
from tests.fuzz.records import template
from tests.fuzz.targets import TARGETS
from tests.small_runs import save_model

# Fuzzing, in short ------------------------------------------------------------------------------------------------

INPUTS = {"records": 60, "requests": 150, "arrays": 300, "documents": 300, "configurations": 200, "checkpoints": 40,
          "sweeps": 60, "texts": 60, "pages": 20}  # fmt: skip


@pytest.mark.parametrize("name", INPUTS)
def test_every_input_gives_a_result_or_one_of_our_errors(name: str) -> None:
    outcomes: Counter[str] = Counter()
    found: dict[str, str] = {}
    round_of(TARGETS[name], INPUTS[name], 0, outcomes, found)
    assert found == {}
    assert sum(outcomes.values()) == INPUTS[name]
    assert len(outcomes) > 1, "all came out alike: the inputs are not what they were meant to be"


NEEDS = {"curve": [("name", "loss")], "compare": [("run", "one"), ("run", "other")]}


@pytest.mark.parametrize("route", requests.ROUTES, ids=lambda route: route.path)
def test_every_route_of_the_server_is_among_what_is_fuzzed(route: Route) -> None:
    """It answers well, so that the inputs reach what is behind it: one that needs more has to be added here."""
    path = route.path.replace("{id:path}", "one").replace("{file}", requests.ASSETS[0])
    query = next((pairs for name, pairs in NEEDS.items() if name in route.path), [])
    assert set(dict(query)) <= set(requests.NAMES)
    alone = path.startswith("/api/runs/") and "{" not in route.path
    assert requests.one_request("GET", path, query, [], "one" if alone else "runs") == ["status 200"]


# Records ----------------------------------------------------------------------------------------------------------


def hostile(directory: Path, *statements: str, which: int = 0) -> Path:
    directory.mkdir(exist_ok=True)
    (directory / "run.sqlite").write_bytes(template(which))
    with contextlib.closing(sqlite3.connect(directory / "run.sqlite", isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)
    return directory


SCHEMAS = {
    "trigger": ("CREATE TRIGGER t AFTER INSERT ON recorded BEGIN DELETE FROM recorded; END",),
    "view for a table": (
        "ALTER TABLE blobs RENAME TO kept",
        "CREATE VIEW blobs AS SELECT hash, dtype, shape, codec, load_extension('x') AS data FROM kept",
    ),
    "generated column": ("ALTER TABLE recorded ADD COLUMN made TEXT AS (hex(zeroblob(400000000)))",),
    "virtual table": ("DROP TABLE layouts", "CREATE VIRTUAL TABLE layouts USING fts5(id, names)"),
}


@pytest.mark.parametrize("statements", SCHEMAS.values(), ids=SCHEMAS)
def test_a_record_with_tables_that_do_something_is_not_opened(tmp_path: Path, statements: tuple[str, ...]) -> None:
    directory = hostile(tmp_path, *statements)
    before = (directory / "run.sqlite").read_bytes()
    for opened in (open_run, RecordWriter.reopen):
        with pytest.raises(RecordError, match="tables are not as this program makes them"):
            opened(directory)
    assert (directory / "run.sqlite").read_bytes() == before


def test_a_view_of_the_file_is_never_used(tmp_path: Path) -> None:
    endless = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT x AS seq, 1 AS layout FROM n"
    with open_run(hostile(tmp_path, "DROP VIEW metrics", f"CREATE VIEW metrics AS {endless}")) as run:
        assert len(run.series("loss")[0]) > 10


def test_a_query_that_never_ends_is_ended() -> None:
    with contextlib.closing(sqlite3.connect(":memory:", factory=Guarded)) as connection:
        connection.begin(0.1)
        with pytest.raises(sqlite3.OperationalError, match="interrupted"):
            connection.execute("WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n")


def test_a_record_that_is_a_link_out_of_its_directory_is_not_followed(tmp_path: Path) -> None:
    mine = hostile(tmp_path / "mine") / "run.sqlite"
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "run.sqlite").symlink_to(mine)
    with pytest.raises(RecordError, match="a link out of its directory"):
        open_run(tmp_path / "theirs")
    open_run(tmp_path / "theirs" / "run.sqlite").close()  # named by whoever opens it


def test_a_pipe_for_a_record_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "run.sqlite")
    with pytest.raises(RecordError, match="found none"):
        open_run(tmp_path)


BLOBS = {
    "a bomb": ("[6]", "zlib", zlib.compress(bytes(2**26), 9)),
    "more than memory": ("[1000000, 1000000]", "raw", bytes(48)),
    "a pickle": ("[6]", "pickle", pickle.dumps(os.getcwd)),
}


@pytest.mark.parametrize("blob", BLOBS.values(), ids=BLOBS)
def test_an_array_is_what_it_says_or_refused(tmp_path: Path, blob: tuple[str, str, bytes]) -> None:
    hostile(tmp_path)
    with contextlib.closing(sqlite3.connect(tmp_path / "run.sqlite", isolation_level=None)) as connection:
        connection.execute("UPDATE blobs SET shape = ?, codec = ?, data = ?", blob)
    with open_run(tmp_path) as run, pytest.raises(RecordError, match="damaged"):
        list(run.events(AttentionMaps))


def test_values_of_other_types_are_shown_as_unknown_and_the_rest_is_read(tmp_path: Path) -> None:
    hostile(tmp_path, "UPDATE recorded SET payload = '{\"message\": 3}' WHERE kind = 'log'")
    with open_run(tmp_path) as run:
        assert [type(one) for one in run.events("log")] == [UnknownEvent]
        assert run.log() == []
        assert run.summary().state == "finished"


def test_scores_that_do_not_fit_are_no_part_of_what_came_back(tmp_path: Path) -> None:
    hurt = "UPDATE recorded SET payload = '{\"scores\": 3}' WHERE kind = 'head_scores'"
    with open_run(hostile(tmp_path, hurt, which=3)) as run:
        assert any(isinstance(one, UnknownEvent) for one in run.events("head_scores"))
        assert growth(run).returns


def test_numbers_of_events_may_have_a_gap_without_end(tmp_path: Path) -> None:
    last = "UPDATE recorded SET seq = 9223372036854775807 WHERE seq = (SELECT max(seq) FROM recorded)"
    with open_run(hostile(tmp_path, last)) as run:
        assert len(run.series("loss")[0]) > 10
        assert run.last_seq == 2**63 - 1


def test_what_cannot_be_read_back_is_not_recorded(tmp_path: Path) -> None:
    with RecordWriter.create(tmp_path) as writer:
        huge = np.broadcast_to(np.zeros(()), (2**15, 2**15))
        with pytest.raises(RecordError, match="at most"):
            writer.append(AttentionMaps(prompt="x", tokens=(), maps=huge))
        with pytest.raises(RecordError, match="at most"):
            writer.append(LogLine(message="x" * 64_000_001))
        assert writer.append(StepMetrics(metrics={"loss": 1.0})) == 1


def test_a_grid_larger_than_any_model_is_refused(tmp_path: Path) -> None:
    with RecordWriter.create(tmp_path) as writer:
        writer.append_many([
            RunStarted(name="x", shape=(4_000, 4_000), config={}),
            HeadScores(scores={"entropy": np.zeros((2, 3))}),
            Evaluation(results={"pruned": {"loss": 10**400}}),
        ])  # fmt: skip
    with open_run(tmp_path) as run:
        assert isinstance(next(iter(run.events())), UnknownEvent)
        with pytest.raises(RecordError, match="has not said its shape"):
            run.heads()


@pytest.mark.parametrize(
    "option", [{"eval": "evil:run"}, {"pruning_strategy": "evil:run"}, {"trust_remote_code": True}]
)
def test_resuming_runs_no_code_on_the_records_word(
    tmp_path: Path, option: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "evil.py").write_text("raise SystemExit('it ran')")
    with RecordWriter.create(tmp_path / "run") as writer:
        writer.append(RunStarted(name="x", shape=(2, 2), config=option))
    monkeypatch.chdir(tmp_path)
    assert main(["run", "--resume", "run"]) == 2
    assert "which runs code; give it again to allow it" in capsys.readouterr().err


# Models -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return save_model(tmp_path / "model")


def change(model: Path, file: str, **values: Any) -> None:
    path = model / file
    path.write_text(json.dumps({**(json.loads(path.read_text()) if path.exists() else {}), **values}))


def pickled(model: Path) -> None:
    (model / "model.safetensors").unlink()
    torch.save({}, model / "pytorch_model.bin")


def linked(model: Path) -> None:
    (model / "model.safetensors").rename(model.parent / "other.safetensors")
    (model / "model.safetensors").symlink_to(model.parent / "other.safetensors")


def piped(model: Path) -> None:
    os.mkfifo(model / "extra.json")


CODE = {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"}
MODELS: dict[str, tuple[Callable[[Path], None], str]] = {
    "code in the model": (
        lambda model: change(model, "config.json", model_type="evil", auto_map=CODE), "--trust_remote_code",
    ),
    "a kernel": (
        lambda model: change(model, "config.json", attn_implementation="evil/kernel"), "kernel from elsewhere",
    ),
    "a pickle": (pickled, "can run code"),
    "a link": (linked, "a link out of the directory"),
    "a pipe": (piped, "neither a file nor a directory"),
    "a vocabulary elsewhere": (
        lambda model: change(model, "tokenizer_config.json", vocab_file="/etc/passwd"), "a file elsewhere",
    ),
    "weights elsewhere": (
        lambda model: change(model, "model.safetensors.index.json", weight_map={"a": "../other.safetensors"}),
        "a file elsewhere",
    ),
    "a billion layers": (lambda model: change(model, "config.json", n_layer=10**9), "n_layer"),
    "thousands of layers": (
        lambda model: change(model, "config.json", n_layer=4_000, n_embd=8), r"describes more than [\d,]+ modules",
    ),
    "a terabyte of embeddings": (
        lambda model: change(model, "config.json", n_embd=2**16, vocab_size=2**22), "describes",
    ),
    "heads that cannot share": (
        lambda model: change(model, "config.json", num_key_value_heads=4_000), "key/value heads evenly",
    ),
    "key/value heads that are no number": (
        lambda model: change(model, "config.json", num_key_value_heads=["Trainer"]), "key/value heads evenly",
    ),
    "an adapter": (
        lambda model: (model / "adapter_config.json").write_text('{"r": 100000000}') and None, "an adapter",
    ),
    "nested without end": (lambda model: (model / "config.json").write_text("[" * 100_000) and None, "cannot be"),
}  # fmt: skip


@pytest.mark.parametrize("case", MODELS.values(), ids=MODELS)
def test_a_hostile_model_directory_is_refused_before_anything_is_opened(
    model: Path, case: tuple[Callable[[Path], None], str]
) -> None:
    (model / "evil.py").write_text("raise SystemExit('it ran')")
    prepare, says = case
    prepare(model)
    with pytest.raises(ModelError, match=says) as caught:
        load_model(str(model))
    assert "\n" not in str(caught.value)


def test_code_beside_a_model_that_transformers_knows_is_left_alone(model: Path) -> None:
    (model / "evil.py").write_text("raise SystemExit('it ran')")
    change(model, "config.json", auto_map=CODE)
    change(model, "tokenizer_config.json", auto_map={"AutoTokenizer": ["evil.T", None]})
    opened, tokenizer = load_model(str(model))
    assert {type(one).__module__.partition(".")[0] for one in (opened, opened.config, tokenizer)} == {"transformers"}


def test_sizes_and_bases_of_honest_configurations_are_no_counts(model: Path) -> None:
    # Qwen2-57B-A14B, LFM2 and a Llama of four million tokens say so.
    honest = {"shared_expert_intermediate_size": 20_480, "block_ff_dim": 12_288, "rope_theta": 4.59e10}
    change(model, "config.json", **honest)
    inspect("refused:", model)


def test_a_saved_model_is_no_larger_than_its_weights_either(model: Path) -> None:
    change(model, "config.json", n_embd=2**16, vocab_size=2**22)
    with pytest.raises(ModelError, match=r"config\.json describes more than .* nothing is opened"):
        load_pruned(model)


def in_a_cache(model: Path, repository: str) -> Path:
    """The model as a snapshot whose files are links, as in the hub's cache."""
    snapshot = model.parent / repository / "snapshots" / "abc"
    blobs = model.parent / repository / "blobs"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for file in model.iterdir():
        (snapshot / file.name).symlink_to(file.rename(blobs / file.name))
    return snapshot


def test_links_lead_to_the_hub_caches_own_files_or_nowhere(model: Path) -> None:
    snapshot = in_a_cache(model, "models--some--model")
    assert load_pruned(snapshot) is not None
    (snapshot / "extra.json").symlink_to(snapshot.parent.parent / "refs")
    (snapshot.parent.parent / "refs").write_text("no blob")
    with pytest.raises(ModelError, match=r"extra\.json is a link out of the directory"):
        inspect("refused:", snapshot)


def test_a_directory_that_is_merely_called_so_is_no_cache(model: Path) -> None:
    with pytest.raises(ModelError, match="is a link out of the directory"):
        inspect("refused:", in_a_cache(model, "somebody"))


def test_links_are_followed_where_the_models_code_is_trusted_anyway(model: Path) -> None:
    linked(model)
    inspect("refused:", model, trust_remote_code=True)


def test_counting_what_a_configuration_describes_ends_early_and_leaves_nothing_behind(model: Path) -> None:
    made = []

    def build() -> torch.nn.Module:
        while True:
            made.append(torch.nn.Linear(10_000, 10_000))

    with pytest.raises(ModelError, match="describes more than"):
        check_size("refused:", model, build)
    assert len(made) < 3
    assert torch.nn.Linear(3, 2).weight.device.type == "cpu"
    assert not _global_parameter_registration_hooks


@pytest.mark.parametrize("data", ["", "+/", "\x85", "QUJD", "AAAA", "bomb"])
def test_a_page_that_carries_no_run_is_one_line(tmp_path: Path, data: str) -> None:
    carried = bomb().decode() if data == "bomb" else data
    (tmp_path / "page.html").write_text(f'<script id="npd-data">{carried}</script>', encoding="utf-8")
    with pytest.raises(RecordError, match=r"expected|damaged"):
        read_page(tmp_path / "page.html")


@pytest.mark.parametrize(
    "manifest", ["[" * 100_000, '{"options": {"\x1b[2J\\nplasticity: done": "' + "x" * 9_000 + '"}}']
)
def test_a_sweep_of_somebody_elses_is_one_line(tmp_path: Path, manifest: str) -> None:
    (tmp_path / "sweep.json").write_text(manifest)
    with pytest.raises(RecordError) as caught:
        claim(Plan(tmp_path, (), RunConfig()))
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 500


def test_a_pipe_for_what_a_sweep_is_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "sweep.json")
    with pytest.raises(RecordError, match="cannot be read"):
        claim(Plan(tmp_path, (), RunConfig()))


def test_a_compact_model_names_a_class_of_models(model: Path) -> None:
    change(model, "config.json", architectures=["pipeline"])
    with pytest.raises(ModelError, match="no model class"):
        load_pruned(model)
