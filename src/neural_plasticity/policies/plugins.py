"""A user's own function by name, ``package.module:function``: loading it, calling it, and checking what it returns."""

from __future__ import annotations

import importlib
import inspect
import sys
import traceback
from collections.abc import Callable, Mapping
from operator import attrgetter
from pathlib import Path
from typing import Any

from neural_plasticity.errors import ConfigError, NeuralPlasticityError

Plugin = Callable[..., Any]
_EXAMPLES = {"--pruning_strategy": "my_heads:first_layers_last", "--eval": "my_task:accuracy"}


def is_plugin_name(name: str) -> bool:
    """Whether ``name`` is written as ``package.module:function``."""
    return ":" in name


def load_plugin(spec: str, flag: str) -> Plugin:
    """The function that ``spec`` (``package.module:function``) names; ``flag`` is the option it was given to.

    The working directory is searched too, after everything installed, so that a file beside one's data is enough.

    Raises:
        ConfigError: ``spec`` is not of that form, the module cannot be imported, it has no such name, or the name
            is not a function.
    """
    module_name, _, attribute = spec.partition(":")
    if not module_name or not attribute:
        example = _EXAMPLES.get(flag, "my_module:my_function")
        raise ConfigError(f"{flag} {spec}: expected package.module:function, for example {example}.")
    here = str(Path.cwd())
    if here not in sys.path and "" not in sys.path:
        sys.path.append(here)  # at the end: a file in the working directory must not shadow an installed package
    importlib.invalidate_caches()  # the file may have been written a moment ago
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        raise ConfigError(_import_failure(spec, flag, module_name, error)) from error
    try:
        function = attrgetter(attribute)(module)
    except AttributeError as error:
        found = getattr(module, "__file__", None) or "a namespace package"
        raise ConfigError(f"{flag} {spec}: module {module_name} ({found}) has no {attribute!r}.") from error
    if not callable(function):
        raise ConfigError(f"{flag} {spec}: expected a function, found {type(function).__name__}.")
    return function


def _import_failure(spec: str, flag: str, module_name: str, error: Exception) -> str:
    missing = error.name if isinstance(error, ModuleNotFoundError) else None
    if missing is not None and (module_name == missing or module_name.startswith(missing + ".")):
        return (
            f"{flag} {spec}: no module named {missing!r} is installed or in {Path.cwd()}; "
            "run from the directory that holds it, or install it."
        )
    return f"{flag} {spec}: importing {module_name} failed with {type(error).__name__}: {one_line(error)}."


def call_plugin(function: Plugin, spec: str, flag: str, *arguments: Any) -> Any:
    """``function(*arguments)``; an exception inside it becomes one line that names the user's file and line.

    Raises:
        ConfigError: the function raised. Errors of this package pass through: they already say what to do.
    """
    try:
        return function(*arguments)
    except NeuralPlasticityError:
        raise
    except Exception as error:
        place = _place(function, error)
        raise ConfigError(f"{flag} {spec} raised {type(error).__name__}: {one_line(error)}{place}.") from error


def _place(function: Plugin, error: Exception) -> str:
    """Where ``error`` comes from, in brackets; where the call itself failed, where ``function`` is defined."""
    if frames := traceback.extract_tb(error.__traceback__)[1:]:  # the first one is the call
        return f" ({frames[-1].filename}:{frames[-1].lineno})"
    code = getattr(inspect.unwrap(function), "__code__", None)
    return f" ({code.co_filename}:{code.co_firstlineno})" if code else ""


def evaluate_with_plugin(function: Plugin, spec: str, model: Any, tokenizer: Any) -> dict[str, float]:
    """A user's own evaluation, ``function(model, tokenizer) -> Mapping[str, float]``, as plain floats.

    Raises:
        ConfigError: the function raised, or returned something else than names with numbers.
    """
    returned = call_plugin(function, spec, "--eval", model, tokenizer)
    expected = f"--eval {spec}: expected a mapping of names to numbers"
    if not isinstance(returned, Mapping) or not returned:
        raise ConfigError(f"{expected}, got {type(returned).__name__} {_shortened(returned)}.")
    figures: dict[str, float] = {}
    for name, value in returned.items():
        try:
            figures[str(name)] = float(value)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"{expected}, got {_shortened(value)} for {name!r}.") from error
    return figures


def one_line(error: BaseException) -> str:
    """The error's message on one line, without its final full stop."""
    return " ".join(str(error).split()).rstrip(".") or "no message"


def _shortened(value: Any, length: int = 60) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= length else text[: length - 1] + "…"
