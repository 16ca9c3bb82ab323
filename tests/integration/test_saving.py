"""Compact models on disk: saved, opened here and by transformers itself, trained on, saved again, made dense again."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, Trainer, TrainingArguments

import neural_plasticity.models
from neural_plasticity.errors import ModelError
from neural_plasticity.models.attach import attach
from neural_plasticity.models.compaction import compact
from neural_plasticity.models.saving import export_dense, load_pruned, save_pruned
from tests.architectures import ARCHITECTURES, ENCODERS, build, random_batch

MASK = np.array([[0, 0, 0, 0], [1, 1, 0, 1], [0, 1, 0, 0]], dtype=bool)  # a layer gone, an uneven group, a group gone


def gated(name: str, **options: Any) -> Any:
    model = build(name, **options)
    attach(model).set_mask(MASK)
    return model


@torch.no_grad()
def logits(model: Any) -> torch.Tensor:
    return model(**random_batch(3, 10, padding="left")).logits


def auto_class(name: str) -> Any:
    return AutoModelForMaskedLM if name in ENCODERS else AutoModelForCausalLM


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_saved_opened_and_saved_again_bit_for_bit(name: str, tmp_path: Path) -> None:
    model = gated(name)
    small = compact(model)
    save_pruned(model, tmp_path / "gated")
    save_pruned(small, tmp_path / "small")
    expected = logits(small)
    opened = load_pruned(tmp_path / "gated")
    assert type(opened) is type(model)
    assert not opened.training
    assert torch.equal(logits(opened), expected)
    assert torch.equal(logits(load_pruned(tmp_path / "small")), expected)

    by_transformers = auto_class(name).from_pretrained(tmp_path / "small")
    assert torch.equal(logits(by_transformers), expected)
    by_transformers.save_pretrained(tmp_path / "again")
    again = load_pruned(tmp_path / "again")
    assert torch.equal(logits(again), expected)
    assert again.config.plasticity == small.config.plasticity
    assert all(torch.equal(value, small.state_dict()[key]) for key, value in again.state_dict().items())
    assert not any(tensor.is_meta for tensor in [*again.parameters(), *again.buffers()])


@pytest.mark.parametrize("name", ["gpt2", "llama", "gpt_neox", "bert"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=["float16", "bfloat16"])
def test_half_precision_weights(name: str, dtype: torch.dtype, tmp_path: Path) -> None:
    small = compact(gated(name, dtype=dtype))
    opened = load_pruned(save_pruned(small, tmp_path))
    assert opened.dtype == dtype
    assert all(torch.equal(value, small.state_dict()[key]) for key, value in opened.state_dict().items())
    assert load_pruned(tmp_path, dtype=torch.float32).dtype == torch.float32
    assert opened.float().dtype == torch.float32  # transformers refuses this of a model that it takes for quantised


@pytest.mark.parametrize("name", ["gpt2", "llama", "bert"])
def test_an_opened_model_learns(name: str, tmp_path: Path) -> None:
    save_pruned(gated(name), tmp_path)
    model, batch = auto_class(name).from_pretrained(tmp_path).train(), random_batch(4, 10)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(4):
        loss = model(**batch, labels=batch["input_ids"]).loss
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        assert all(parameter.grad is not None for parameter in model.parameters() if parameter.requires_grad)
        optimizer.step()
    assert losses[-1] < losses[0]
    expected = logits(model.eval())
    assert torch.equal(logits(load_pruned(save_pruned(model, tmp_path / "trained"))), expected)


# Trainer pins memory where there is no accelerator to pin it for, and says so.
@pytest.mark.filterwarnings("ignore:'pin_memory' argument is set as true:UserWarning")
def test_the_trainer_takes_an_opened_model(tmp_path: Path) -> None:
    save_pruned(gated("llama"), tmp_path / "small")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "small")
    before = model.model.layers[1].self_attn.q_proj.weight.detach().clone()
    rows = [{"input_ids": row, "labels": row} for row in random_batch(4, 8)["input_ids"]]
    arguments = TrainingArguments(
        output_dir=str(tmp_path / "out"),
        max_steps=2,
        per_device_train_batch_size=2,
        report_to=[],
        use_cpu=True,
        save_strategy="no",
        disable_tqdm=True,
        learning_rate=1e-2,
    )
    trainer = Trainer(model=model, args=arguments, train_dataset=rows)
    assert np.isfinite(trainer.train().training_loss)
    trainer.save_model(str(tmp_path / "trained"))
    assert not torch.equal(model.model.layers[1].self_attn.q_proj.weight, before)
    assert torch.equal(logits(load_pruned(tmp_path / "trained")), logits(model.eval()))


@pytest.mark.parametrize("name", ["gpt2", "llama", "bert"])
def test_an_opened_model_can_be_pruned_further(name: str, tmp_path: Path) -> None:
    save_pruned(gated(name, dtype=torch.float64), tmp_path)
    model = load_pruned(tmp_path)
    heads = attach(model)
    assert heads.present.tolist() == MASK.tolist()
    heads.prune([(1, 0)])
    further = load_pruned(save_pruned(model, tmp_path / "further"))
    torch.testing.assert_close(logits(further), logits(model), rtol=0, atol=1e-10)
    assert further.config.plasticity["query_heads"] == [[], [1, 3], [1]]


def test_an_unpruned_model_is_saved_as_it_is(tmp_path: Path) -> None:
    model = build("gpt2")
    attach(model)
    opened = load_pruned(save_pruned(model, tmp_path))
    assert torch.equal(logits(opened), logits(model))
    assert "plasticity" not in json.loads((tmp_path / "config.json").read_text())


# --- without this package ---------------------------------------------------------------------------------------------

OPEN_WITHOUT_US = """
import json, sys
import torch
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM
batch = torch.load("batch.pt")
said = {}
for folder, encoder in json.loads(sys.argv[1]).items():
    auto = AutoModelForMaskedLM if encoder else AutoModelForCausalLM
    try:
        model = auto.from_pretrained(folder)
    except Exception as error:
        said[folder] = repr(error)
        continue
    with torch.no_grad():
        torch.save(model(**batch).logits, folder + ".pt")
assert not any(name.startswith("neural_plasticity") for name in sys.modules)
print(json.dumps(said))
"""


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_dense_export_is_a_stock_model_with_the_same_logits(name: str, tmp_path: Path) -> None:
    model = gated(name, dtype=torch.float64)
    export_dense(compact(model), tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert not {"plasticity", "quantization_config"} & set(config)
    stock = auto_class(name).from_pretrained(tmp_path)
    assert {key: value.shape for key, value in stock.state_dict().items()} == {
        key: value.shape for key, value in build(name).state_dict().items()
    }
    torch.testing.assert_close(logits(stock), logits(model), rtol=0, atol=1e-10)


def test_without_this_package_dense_exports_open_and_a_compact_model_is_refused_not_misread() -> None:
    """Refused is even one whose only change is a layer without heads, where no weight has an unexpected size."""
    dense = {name: gated(name) for name in ("llama", "bert")}
    for name, model in dense.items():
        export_dense(model, Path(name))  # a gated model is compacted on the way
    compact_one = build("gpt2")
    attach(compact_one).prune([(0, head) for head in range(4)])
    save_pruned(compact_one, Path("gpt2"))
    torch.save(random_batch(3, 10, padding="left"), "batch.pt")

    # One process for all: it takes far longer to start than to open them.
    folders = json.dumps({name: name in ENCODERS for name in (*dense, "gpt2")})
    command = [sys.executable, "-c", OPEN_WITHOUT_US, folders]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert result.returncode == 0, result.stderr
    refused = json.loads(result.stdout.splitlines()[-1])
    assert list(refused) == ["gpt2"]
    assert "Unknown quantization type, got plasticity" in result.stderr + refused["gpt2"]
    for name, model in dense.items():
        expected = logits(model)
        bound = 1e-5 * max(1.0, expected.abs().max().item())
        torch.testing.assert_close(torch.load(f"{name}.pt"), expected, rtol=0, atol=bound)


# --- bad input --------------------------------------------------------------------------------------------------------


def saved(folder: Path) -> Path:
    return save_pruned(gated("gpt2"), folder)


def rewrite_config(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))


def test_what_cannot_be_opened_says_so_in_one_line(tmp_path: Path) -> None:
    plain = tmp_path / "file"
    plain.write_text("text")
    empty = tmp_path / "empty"
    empty.mkdir()
    no_json, no_weights, no_record, other_heads, unknown_class = (
        saved(tmp_path / name) for name in ("no_json", "no_weights", "no_record", "other_heads", "unknown_class")
    )
    (no_json / "config.json").write_text("{")
    (no_weights / "model.safetensors").write_bytes(b"not safetensors")
    rewrite_config(no_record, plasticity=None)
    rewrite_config(other_heads, plasticity={"shape": [3, 4], "query_heads": [[], [0, 9]], "kv_heads": [[], [0, 9]]})
    rewrite_config(unknown_class, architectures=["NoSuchModel"])
    for folder in (plain, empty, tmp_path / "missing", no_json, no_weights, no_record, other_heads, unknown_class):
        with pytest.raises(ModelError) as caught:
            load_pruned(folder)
        assert "\n" not in str(caught.value)
    with pytest.raises(ModelError, match="expected a directory to save"):
        save_pruned(gated("gpt2"), plain)


def test_importing_the_models_package_is_what_registers() -> None:
    from transformers.quantizers.auto import AUTO_QUANTIZER_MAPPING

    assert neural_plasticity.models.compact is compact
    assert "plasticity" in AUTO_QUANTIZER_MAPPING
