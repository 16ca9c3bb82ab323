"""A user's own strategy and evaluation by name: loading, calling, and the line for each way it can go wrong."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest

from neural_plasticity.errors import ConfigError, HeadError
from neural_plasticity.policies.plugins import evaluate_with_plugin, load_plugin
from neural_plasticity.policies.selection import decide_pruning
from neural_plasticity.policies.strategies import StrategyContext, resolve_strategy

DOCUMENT = Path(__file__).parents[2] / "docs" / "plugins.md"


@pytest.fixture
def directory(tmp_path, monkeypatch):
    """An empty working directory; modules imported from it are forgotten afterwards."""
    before, path = set(sys.modules), list(sys.path)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    sys.path[:] = path
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def context(mask=None):
    mask = np.ones((2, 3), bool) if mask is None else mask
    measured = {"gradient": np.arange(6.0).reshape(2, 3), "output_norm": np.array([[9.0, 1, 1], [1, 1, 1]])}
    return StrategyContext(
        model=object(),
        heads=object(),  # type: ignore[arg-type]
        batches=(),
        mask=mask,
        count=2,
        cycle=1,
        seed=0,
        score=lambda *names: {name: measured[name] for name in names},
    )


def answer(directory, body, name="mine"):
    (directory / f"{name}.py").write_text(f"import numpy as np\ndef f(context):\n    {body}\n")
    return resolve_strategy(f"{name}:f")


def test_importance_from_a_file_in_the_working_directory(directory):
    strategy = answer(directory, "return context.score('gradient')['gradient'][::-1]")
    choice = decide_pruning(strategy, context(), 0.34)
    assert choice.heads == ((1, 0), (1, 1))
    assert choice.reasons["1.0"] == "mine:f 0.000, rank 1 of 6 (lowest first), threshold 1.000"


def test_a_whole_policy_names_heads_however_people_write_them(directory):
    choice = decide_pruning(answer(directory, "return [(1, 2), '0.1', [0, 1]]"), context(), 0.34)
    assert choice.heads == ((0, 1), (1, 2))
    assert choice.score is None


def test_tensors_are_arrays_too(directory):
    body = "import torch; return torch.arange(6.0, requires_grad=True).reshape(2, 3) * 1"
    assert decide_pruning(answer(directory, body), context(), 0.1).heads == ((0, 0),)


def test_nan_where_a_head_is_gone_is_fine(directory):
    mask = np.array([[True, True, False], [True, True, True]])
    strategy = answer(directory, "g = context.score('gradient')['gradient'].copy(); g[0, 2] = np.nan; return g")
    assert decide_pruning(strategy, context(mask), 0.2).heads == ((0, 0),)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return np.zeros((3, 2))", r"expected an array \(layers, heads\) = \(2, 3\) .* got shape \(3, 2\)"),
        ("return None", r"expected an array .* got NoneType"),
        ("return 'gradient'", r"expected an array .* got str"),
        ("return np.array([[np.nan, 1, 1], [1, 1, 1]])", r"importance is NaN for 1 active heads \(first: L0H0\)"),
        ("return [(5, 0)]", r"head L5H0: the model has 2 layers × 3 heads"),
        ("return [1, 2]", r"head 1: expected \(layer, head\)"),
        ("return context.score('nothing')", r"mine:f raised KeyError: 'nothing' \(.*py:\d+\)"),
    ],
)  # fmt: skip
def test_wrong_answers_are_one_line_that_names_the_flag(directory, body, message):
    with pytest.raises(ConfigError, match=message) as caught:
        decide_pruning(answer(directory, body), context(), 0.5)
    assert str(caught.value).startswith("--pruning_strategy mine:f")
    assert "\n" not in str(caught.value)


def test_a_head_that_is_gone_cannot_be_named(directory):
    mask = np.array([[False, True, True], [True, True, True]])
    with pytest.raises(HeadError, match=r"^--pruning_strategy mine:f: L0H0 is not active"):
        decide_pruning(answer(directory, "return [(0, 0)]"), context(mask), 0.5)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("no_such_module_anywhere:f", "no module named 'no_such_module_anywhere' is installed or in "),
        ("json.nothing_here:f", "no module named 'json.nothing_here'"),
        ("json:nothing_here", r"module json \(.*\) has no 'nothing_here'"),
        ("math:pi", "expected a function, found float"),
        ("math:", "expected package.module:function"),
        (":f", "expected package.module:function"),
        ("broken:f", "importing broken failed with ZeroDivisionError: division by zero"),
        ("needy:f", "importing needy failed with ModuleNotFoundError: No module named 'not_installed'"),
        ("unfinished:f", "importing unfinished failed with SyntaxError"),
        (".relative:f", "importing .relative failed with TypeError"),
    ],
)
def test_what_cannot_be_loaded_is_one_line_that_names_the_flag(directory, spec, message):
    (directory / "broken.py").write_text("1 / 0\n")
    (directory / "needy.py").write_text("import not_installed\n")
    (directory / "unfinished.py").write_text("def f(:\n")
    with pytest.raises(ConfigError, match=message) as caught:
        load_plugin(spec, "--eval")
    assert str(caught.value).startswith(f"--eval {spec}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("flag", "example"), [("--eval", "my_task:accuracy"), ("--pruning_strategy", "my_heads:first_layers_last")]
)
def test_the_example_is_one_of_what_the_flag_takes(flag, example):
    with pytest.raises(ConfigError, match=rf"for example {example}\.$"):
        load_plugin("x:", flag)


def test_a_function_that_cannot_be_called_is_placed_where_it_is_defined(directory):
    (directory / "narrow.py").write_text("\n\ndef f(model): return {'a': 1.0}\n")
    with pytest.raises(ConfigError, match=r"--eval narrow:f raised TypeError: .* \(.*narrow\.py:3\)\.$"):
        evaluate_with_plugin(load_plugin("narrow:f", "--eval"), "narrow:f", None, None)
    with pytest.raises(ConfigError, match=r"--eval m:f raised TypeError: .* given\)\.$"):  # no source to name
        evaluate_with_plugin(len, "m:f", None, None)


def test_a_file_in_the_working_directory_shadows_nothing_installed(directory):
    (directory / "colorsys.py").write_text("def rgb_to_hsv(*a): raise AssertionError\n")
    sys.modules.pop("colorsys", None)
    assert load_plugin("colorsys:rgb_to_hsv", "--eval")(0, 0, 0) == (0.0, 0.0, 0)


def test_own_evaluation_gives_plain_floats(directory):
    (directory / "own.py").write_text(
        "import numpy as np\ndef f(model, tokenizer): return {'accuracy': np.float32(0.5)}\n"
    )
    figures = evaluate_with_plugin(load_plugin("own:f", "--eval"), "own:f", None, None)
    assert figures == {"accuracy": 0.5}
    assert type(figures["accuracy"]) is float


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (0.5, "got float 0.5"),
        ({}, "got dict {}"),
        ({"a": "high"}, "got 'high' for 'a'"),
        ({"a": [1]}, r"got \[1\] for 'a'"),
    ],
)
def test_own_evaluation_must_return_names_with_numbers(returned, message):
    with pytest.raises(ConfigError, match=rf"^--eval own:f: expected a mapping of names to numbers, {message}"):
        evaluate_with_plugin(lambda *_: returned, "own:f", None, None)


def test_examples_of_the_documentation_run_as_printed(directory):
    blocks = re.findall(r"```python\n# (\w+\.py)\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    assert [name for name, _ in blocks] == ["my_heads.py", "my_eval.py"]
    for name, code in blocks:
        (directory / name).write_text(code)
    scored = decide_pruning(resolve_strategy("my_heads:gradient_per_output"), context(), 0.34)
    # gradient / output norm: 0/9, 1, 2, 3, 4, 5
    assert scored.heads == ((0, 0), (0, 1))
    listed = decide_pruning(resolve_strategy("my_heads:last_layer_first"), context(), 0.34)
    assert listed.heads == ((1, 1), (1, 2))
    torch = pytest.importorskip("torch")

    class Model(torch.nn.Module):
        def forward(self, input_ids):
            logits = torch.nn.functional.one_hot(input_ids + 1, 10).float()
            return type("Output", (), {"logits": logits})

    def tokenizer(text, return_tensors):
        return {"input_ids": torch.arange(4)[None]}

    function = load_plugin("my_eval:next_token_accuracy", "--eval")
    assert evaluate_with_plugin(function, "my_eval:next_token_accuracy", Model(), tokenizer) == {"accuracy": 1.0}
