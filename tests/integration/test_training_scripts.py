"""What docs/training-scripts.md shows, run: a real Trainer and a plain PyTorch loop, each with a dashboard."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import neural_plasticity as npl
from neural_plasticity.dashboard.trainer_callback import PlasticityCallback
from neural_plasticity.errors import InputError, RecordError
from neural_plasticity.events import StepMetrics
from neural_plasticity.record import Run, open_run

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

DOCUMENT = (Path(__file__).parents[2] / "docs/training-scripts.md").read_text(encoding="utf-8")
TRAINER, PLAIN, MORE, READING = re.findall(r"^```python\n(.*?)^```$", DOCUMENT, flags=re.MULTILINE | re.DOTALL)
SEQUENCES, LENGTH, VOCABULARY = 12, 8, 32


@pytest.fixture(autouse=True)
def nothing_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")


@pytest.fixture
def model() -> Any:
    config = transformers.GPT2Config(n_layer=2, n_head=4, n_embd=16, vocab_size=VOCABULARY, n_positions=LENGTH)
    return transformers.GPT2LMHeadModel(config)


class Data(torch.utils.data.Dataset):  # type: ignore[misc, name-defined]
    """The same few sequences every time."""

    def __len__(self) -> int:
        return SEQUENCES

    def __getitem__(self, place: int) -> dict[str, Any]:
        ids = torch.arange(place, place + LENGTH) % VOCABULARY
        return {"input_ids": ids, "labels": ids}


def a_trainer(model: Any, directory: Path, callbacks: Any = None, **more: Any) -> Any:
    """Six steps, evaluated twice, on the CPU."""
    options = {
        "max_steps": 6, "logging_steps": 1, "eval_strategy": "steps", "eval_steps": 3, "save_strategy": "no",
        "per_device_train_batch_size": 2, "report_to": [], "use_cpu": True, "disable_tqdm": True, "seed": 0,
        "dataloader_pin_memory": False, **more,
    }  # fmt: skip
    arguments = transformers.TrainingArguments(output_dir=str(directory), **options)
    return transformers.Trainer(model, arguments, train_dataset=Data(), eval_dataset=Data(), callbacks=callbacks)


def metrics_of(run: Run) -> Iterator[tuple[int, dict[str, float]]]:
    for event in run.events(StepMetrics):
        assert isinstance(event, StepMetrics)
        yield event.step, dict(event.metrics)


def test_the_three_lines_for_a_trainer(model: Any, tmp_path: Path) -> None:
    trainer = a_trainer(model, tmp_path / "trainer")
    exec(compile(TRAINER, "training-scripts.md", "exec"), {"trainer": trainer})
    callback = next(one for one in trainer.callback_handler.callbacks if isinstance(one, PlasticityCallback))
    trainer.evaluate()
    assert callback.dashboard is not None
    callback.dashboard.finish()

    history = trainer.state.log_history
    with open_run("output/my_training") as run:
        steps, losses = run.series("loss")
        assert steps.tolist() == [1, 2, 3, 4, 5, 6]
        assert losses.tolist() == [one["loss"] for one in history if "loss" in one]
        assert run.series("learning_rate")[1].tolist() == [one["learning_rate"] for one in history if "loss" in one]
        steps, losses = run.series("validation_loss")
        assert steps.tolist() == [3, 6, 6]
        assert losses.tolist() == [one["eval_loss"] for one in history if "eval_loss" in one]
        np.testing.assert_allclose(run.series("perplexity")[1], np.exp(losses))
        assert [(span.phase, span.first_step, span.last_step) for span in run.phases()] == [
            ("training", 0, 6), ("evaluation", 6, 6)
        ]  # fmt: skip
        (result,) = run.evaluations()
        assert result.results["baseline"]["loss"] == losses[-1]
        assert run.heads().shape == (2, 4)
        assert run.config["max_steps"] == 6
        assert run.summary().state == "finished"
    assert Path("output/my_training/dashboard.html").is_file()
    assert Path("output/my_training/complete_process.png").is_file()


def test_the_lines_for_plain_pytorch_and_what_else_can_be_recorded(model: Any) -> None:
    batches = list(torch.utils.data.DataLoader(Data(), batch_size=4))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    shown: dict[str, Any] = {"npl": npl, "model": model, "optimizer": optimizer, "batches": batches}
    ours = [line for line in PLAIN.splitlines() if "dashboard" in line or "record(" in line]
    assert len(ours) == 3
    for code in (PLAIN, MORE, READING):
        exec(compile(code, "training-scripts.md", "exec"), shown)
    with open_run("output/plain") as run:
        steps, losses = run.series("loss")
        assert steps.tolist() == list(range(len(batches)))
        assert losses[-1] == pytest.approx(shown["loss"].item())
        assert losses[-1] < losses[0]
        assert run.heads()[1, 3] == 2  # pruned, and grown back
        assert (run.annotation.tags, run.annotation.note) == (("paper",), "reviewed")
        assert run.summary().state == "finished"
    assert len(shown["frame"]) == len(batches)
    assert Path("output/plain/metrics.csv").is_file()


def test_errors_of_the_dashboard_never_stop_the_training(
    model: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    callback = PlasticityCallback(output_dir="/proc/no/run")
    trainer = a_trainer(model, tmp_path / "trainer", [callback])
    trainer.train()
    assert trainer.state.global_step == 6
    said = [one.getMessage() for one in caplog.records if "training goes on" in one.getMessage()]
    assert len(said) == 1
    assert "/proc/no" in said[0]


def test_a_dashboard_of_ones_own_is_used_and_its_failures_are_said_once(
    model: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    with npl.MultiPhaseDashboard(output_dir=tmp_path / "run") as dashboard:
        trainer = a_trainer(model, tmp_path / "trainer", [PlasticityCallback(dashboard, phase="warmup")])
        append = type(dashboard._journal.record).append_many

        def fails_in_between(record: Any, events: Any) -> Any:
            if any(3 <= event.step <= 4 for event in events):
                raise RecordError("the disk is full")
            return append(record, events)

        monkeypatch.setattr(type(dashboard._journal.record), "append_many", fails_in_between)
        trainer.train()
        assert dashboard.phases == ["warmup"]
        kept = [step for step, told in metrics_of(dashboard.run) if "loss" in told]
    assert kept == [1, 2, 5, 6]
    assert sum("the disk is full" in one.getMessage() for one in caplog.records) == 1


def test_training_that_goes_on_from_a_checkpoint(model: Any, tmp_path: Path) -> None:
    a_trainer(model, tmp_path / "trainer", save_strategy="steps", save_steps=3, max_steps=3).train()
    callback = PlasticityCallback(output_dir=tmp_path / "run")
    trainer = a_trainer(model, tmp_path / "trainer", [callback])
    trainer.train(resume_from_checkpoint=str(tmp_path / "trainer/checkpoint-3"))
    assert callback.dashboard is not None
    assert callback.dashboard.phase_transitions == [3]
    assert [step for step, told in metrics_of(callback.dashboard.run) if "loss" in told] == [4, 5, 6]


def test_what_is_no_dashboard_is_refused() -> None:
    with pytest.raises(InputError, match="dashboard: expected a MultiPhaseDashboard"):
        PlasticityCallback("output")  # type: ignore[arg-type]
    assert npl.PlasticityCallback is PlasticityCallback
