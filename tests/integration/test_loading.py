"""Models by name: the built-in one, directories, a local hub cache; and one clear line for everything else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from transformers.utils import logging

from neural_plasticity import hub as hub_module
from neural_plasticity.errors import ModelError, UnsupportedModelError
from neural_plasticity.models import attach, compact, loading, save_pruned
from neural_plasticity.models.loading import BUILTIN_DIRECTORY, load_model
from tests.architectures import build
from tests.hub_cache import HEADS, build_hub_cache, byte_level_tokenizer, random_gpt2


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("hub-home")
    build_hub_cache(root, "distilgpt2", 2)
    return root


@pytest.fixture
def hub_here(hub: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(hub / "hub"))
    return hub


def test_a_hub_name_opens_from_the_cache_in_any_process(hub: Path) -> None:
    code = (
        "import transformers, neural_plasticity.models as m\n"
        "model, tokenizer = m.load_model('distilgpt2')\n"
        "stock = transformers.AutoModelForCausalLM.from_pretrained('distilgpt2')\n"
        "print(m.attach(model).shape, tokenizer.pad_token, stock.config.n_layer)\n"
    )
    environment = {**os.environ, "HF_HOME": str(hub), "HF_HUB_OFFLINE": "1"}
    environment.pop("HF_HUB_CACHE", None)
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout == f"(2, {HEADS}) <|endoftext|> 2\n", done.stderr


def test_a_cached_model_opens_quietly_without_asking_the_network(
    hub_here: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(loading, "hub_silence", lambda: pytest.fail("asked the network for a cached model"))
    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    model, tokenizer = load_model("distilgpt2")
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before
    assert capfd.readouterr() == ("", "")
    assert model.dtype == torch.float32
    assert not model.training
    text = "héads 🌱\n"
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_types_and_half_precision_files(tmp_path: Path) -> None:
    tokenizer = byte_level_tokenizer()
    tokenizer.save_pretrained(tmp_path)
    random_gpt2(len(tokenizer), 2).half().save_pretrained(tmp_path)
    assert load_model(str(tmp_path))[0].dtype == torch.float32
    assert load_model(str(tmp_path), dtype=torch.float64)[0].dtype == torch.float64


def test_compact_models_open_from_their_directory(tmp_path: Path) -> None:
    tokenizer = byte_level_tokenizer()
    model = random_gpt2(len(tokenizer), 3).eval()
    attach(model).prune([(0, head) for head in range(HEADS)] + [(1, 3)])
    small = compact(model)
    save_pruned(small, tmp_path)
    tokenizer.save_pretrained(tmp_path)
    again, _ = load_model(str(tmp_path))
    ids = torch.tensor([tokenizer("def prune(heads):")["input_ids"]])
    with torch.no_grad():
        assert torch.equal(again(input_ids=ids).logits, small(input_ids=ids).logits)
    heads = attach(again)
    assert heads.shape == (3, HEADS)
    assert not heads.present[0].any()
    assert heads.present.sum() == 2 * HEADS - 1


@pytest.mark.skipif(not BUILTIN_DIRECTORY.is_dir(), reason="the built-in weights are not in this checkout")
def test_the_built_in_model_predicts_python(capfd: pytest.CaptureFixture[str]) -> None:
    model, tokenizer = load_model("builtin")
    ids = torch.tensor([tokenizer("import os\n\ndef main():\n    return None\n")["input_ids"]])
    with torch.no_grad():
        loss = model(input_ids=ids, labels=ids).loss
    assert capfd.readouterr() == ("", "")
    assert model.dtype == torch.float32
    assert float(loss) < 0.8 * torch.log(torch.tensor(float(len(tokenizer))))
    assert attach(model).shape == (6, 8)


# --- what cannot be opened --------------------------------------------------------------------------------------------


def empty_directory(path: Path) -> None:
    path.mkdir()


def no_weights(path: Path) -> None:
    random_gpt2(320, 1).config.save_pretrained(path)
    byte_level_tokenizer().save_pretrained(path)


def no_tokenizer(path: Path) -> None:
    random_gpt2(320, 1).save_pretrained(path)


def broken_config(path: Path) -> None:
    path.mkdir()
    (path / "config.json").write_text("{not json")


def broken_weights(path: Path) -> None:
    byte_level_tokenizer().save_pretrained(path)
    random_gpt2(320, 1).save_pretrained(path)
    (path / "model.safetensors").write_bytes(b"nothing")


def an_encoder(path: Path) -> None:
    byte_level_tokenizer().save_pretrained(path)
    build("bert").save_pretrained(path)


def too_many_tokens(path: Path) -> None:
    byte_level_tokenizer().save_pretrained(path)
    build("gpt2").save_pretrained(path)


def missing_weights(path: Path) -> None:
    byte_level_tokenizer().save_pretrained(path)
    random_gpt2(320, 1).save_pretrained(path)
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({**config, "n_layer": 2}))


def a_refused_architecture(path: Path) -> None:
    path.mkdir()
    config = {"model_type": "falcon", "architectures": ["FalconForCausalLM"]}
    (path / "config.json").write_text(json.dumps(config))


def a_file(path: Path) -> None:
    path.write_text("text")


BAD = {
    empty_directory: "has no config.json",
    no_weights: "cannot be opened",
    no_tokenizer: "no tokeniser files",
    broken_config: "cannot be opened",
    broken_weights: "cannot be opened",
    an_encoder: "BertForMaskedLM, which is not a causal language model",
    too_many_tokens: "320 tokens, its model only 97",
    missing_weights: "weights are missing",
    a_refused_architecture: "'falcon' is not supported",
    a_file: "is a file",
}


@pytest.mark.parametrize("make", BAD, ids=lambda make: make.__name__)
def test_bad_directories_give_one_line(make: object, tmp_path: Path) -> None:
    path = tmp_path / "model"
    make(path)  # type: ignore[operator]
    with pytest.raises(ModelError) as caught:
        load_model(str(path))
    line = str(caught.value)
    assert line.startswith(f"--model_name {path}: ")
    assert "\n" not in line
    assert BAD[make] in line  # type: ignore[index]
    assert isinstance(caught.value, UnsupportedModelError) or "builtin" in line


@pytest.mark.parametrize("name", ["nobody/has-this", "gpt2-huge", "./no/such/directory", "spaces in it", "a/b/c", ""])
@pytest.mark.parametrize("offline", [True, False])
def test_unknown_names_name_the_alternatives(
    name: str, offline: bool, hub_here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With HF_HUB_OFFLINE and without: the tests have no network (conftest), so the hub is unreachable."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
    with pytest.raises(ModelError) as caught:
        load_model(name)
    line = str(caught.value)
    assert line.startswith("--model_name")
    assert "\n" not in line
    assert "builtin" in line
    assert "directory" in line
    if name in ("nobody/has-this", "gpt2-huge"):
        assert f"hf download {name}" in line


def test_a_hub_that_never_answers_is_given_up(hub_here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name server that hangs: the look-up has no time limit of its own, so ours must end the waiting."""
    import threading

    release = threading.Event()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(hub_module, "PATIENCE_S", 0.05)
    monkeypatch.setattr(hub_module.huggingface_hub, "get_session", lambda: release.wait() and None)
    try:
        with pytest.raises(ModelError, match="no answer within"):
            load_model("nobody/has-this")
    finally:
        release.set()


def test_an_encoder_under_a_language_model_head_is_refused(tmp_path: Path) -> None:
    """BERT that is no decoder sees the tokens that it is asked to predict: its loss means nothing."""
    from transformers import BertConfig, BertLMHeadModel

    tokenizer = byte_level_tokenizer()
    size = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    for is_decoder in (False, True):
        directory = tmp_path / str(is_decoder)
        config = BertConfig(vocab_size=len(tokenizer), is_decoder=is_decoder, **size)
        BertLMHeadModel(config).save_pretrained(directory)
        tokenizer.save_pretrained(directory)
    with pytest.raises(ModelError, match="attends to later tokens"):
        load_model(str(tmp_path / "False"))
    model, _ = load_model(str(tmp_path / "True"))
    assert model.config.is_decoder
