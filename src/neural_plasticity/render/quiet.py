"""Warnings, log records and progress bars of libraries, routed so that they do not tear the live display apart."""

from __future__ import annotations

import logging
import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, TextIO

from neural_plasticity.events import LogLine

Emit = Callable[[LogLine], None]

# Libraries that install a stream handler of their own and stop propagation to the root logger.
LIBRARY_LOGGERS = ("transformers", "datasets", "huggingface_hub")

# Read when the library is imported; a library that is already there is switched by the call beside it.
_BAR_VARIABLES = ("HF_HUB_DISABLE_PROGRESS_BARS", "HF_DATASETS_DISABLE_PROGRESS_BARS", "TQDM_DISABLE")
_BAR_SWITCHES = (
    ("transformers.utils.logging", "disable_progress_bar", "enable_progress_bar", "is_progress_bar_enabled"),
    ("datasets.utils", "disable_progress_bars", "enable_progress_bars", "are_progress_bars_disabled"),
    ("huggingface_hub.utils", "disable_progress_bars", "enable_progress_bars", "are_progress_bars_disabled"),
)


class Once:
    """Passes each distinct line on once, and counts what it held back. Safe to call from several threads."""

    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        self._seen: set[tuple[str, str]] = set()
        self._lock = threading.Lock()
        self.held_back = 0

    def __call__(self, line: LogLine) -> None:
        """Emit ``line`` unless the same level and message came before."""
        with self._lock:
            if (line.level, line.message) in self._seen:
                self.held_back += 1
                return
            self._seen.add((line.level, line.message))
        self._emit(line)


class _LineHandler(logging.Handler):
    """A logging handler that turns records into `LogLine`."""

    def __init__(self, emit: Emit) -> None:
        super().__init__(logging.WARNING)
        self._route = emit

    def emit(self, record: logging.LogRecord) -> None:
        try:
            message = f"{record.name}: {record.getMessage()}"
            self._route(LogLine(message=message, level="error" if record.levelno >= logging.ERROR else "warning"))
        except Exception:
            self.handleError(record)


@contextmanager
def routed(emit: Emit) -> Iterator[Once]:
    """While open, warnings and log records become lines for ``emit``, each distinct one once; restored on exit."""
    once = Once(emit)
    with ExitStack() as stack:
        stack.enter_context(_routed_warnings(once))
        handler = _LineHandler(once)
        stack.enter_context(_only_handler(logging.getLogger(), handler, propagate=None))
        for name in LIBRARY_LOGGERS:
            stack.enter_context(_only_handler(logging.getLogger(name), handler, propagate=False))
        stack.enter_context(_no_progress_bars())
        yield once


@contextmanager
def _routed_warnings(once: Once) -> Iterator[None]:
    """`warnings.showwarning` replaced; which warnings are shown at all is left to the filters."""
    original = warnings.showwarning

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if file is not None:  # the caller chose where it goes
            original(message, category, filename, lineno, file, line)
        else:
            once(LogLine(message=f"{category.__name__}: {message}", level="warning"))

    warnings.showwarning = show
    try:
        yield
    finally:
        if warnings.showwarning is show:
            warnings.showwarning = original


@contextmanager
def _only_handler(logger: logging.Logger, handler: logging.Handler, propagate: bool | None) -> Iterator[None]:
    """``handler`` in place of the logger's console handlers; handlers that write to files stay."""
    kept, propagated = list(logger.handlers), logger.propagate
    logger.handlers = [one for one in kept if not _writes_to_terminal(one)] + [handler]
    if propagate is not None:
        logger.propagate = propagate
    try:
        yield
    finally:
        added_since = [one for one in logger.handlers if one is not handler and one not in kept]
        logger.handlers = kept + added_since
        logger.propagate = propagated


def _writes_to_terminal(handler: logging.Handler) -> bool:
    return isinstance(handler, logging.StreamHandler) and not isinstance(handler, logging.FileHandler)


@contextmanager
def _no_progress_bars() -> Iterator[None]:
    """Bars of tqdm redraw their line with a carriage return, which no live region survives."""
    before = {name: os.environ.get(name) for name in _BAR_VARIABLES}
    os.environ.update(dict.fromkeys(_BAR_VARIABLES, "1"))
    switched: list[Callable[[], Any]] = []
    for module_name, off, on, _ in _BAR_SWITCHES:
        module = sys.modules.get(module_name)
        with suppress(AttributeError):
            if module is not None and _bars_shown(module, module_name):
                getattr(module, off)()
                switched.append(getattr(module, on))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        for enable in switched:
            enable()


def _bars_shown(module: Any, module_name: str) -> bool:
    query = next(entry[3] for entry in _BAR_SWITCHES if entry[0] == module_name)
    answer = bool(getattr(module, query)())
    return not answer if query.startswith("are_") else answer
