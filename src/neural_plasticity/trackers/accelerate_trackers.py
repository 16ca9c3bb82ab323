"""Any tracker that Accelerate knows, as a sink: numbers by step, the configuration, and texts where there is a place.

The only module here that imports accelerate (and with it torch), which happens when such a tracker was asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from neural_plasticity.errors import ConfigError
from neural_plasticity.events import (
    CycleJudged,
    Event,
    HeadsGrown,
    HeadsPruned,
    RunEnded,
    RunStarted,
    StateRestored,
    TextSample,
)
from neural_plasticity.trackers import rows
from neural_plasticity.trackers.background import Say
from neural_plasticity.trackers.packages import installed

if TYPE_CHECKING:
    from neural_plasticity.trackers.opening import TrackedRun

_WITH_TEXT = frozenset({"tensorboard", "trackio", "comet_ml"})  # the others refuse or ignore what is no number
_OURS = frozenset({"tensorboard", "trackio"})  # those in our extra


def checked_name(name: str, flag: str = "--track") -> str:
    """``name`` as Accelerate has it; ``flag`` is the option it was given to.

    Raises:
        ConfigError: it knows no such tracker, or the tracker's package is not installed.
    """
    if not installed("accelerate"):
        raise ConfigError(f'{flag} {name}: needs Accelerate: pip install "neural-plasticity[trackers]"')
    from accelerate.state import PartialState
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS

    known = sorted(LOGGER_TYPE_TO_CLASS)
    if name not in LOGGER_TYPE_TO_CLASS:
        several = "; several are separated by commas" if flag == "--track" else ""
        raise ConfigError(f"{flag} {name}: expected {', '.join(known)}{several}.")
    PartialState()  # its trackers ask it which process they are in; made in this thread, before theirs
    if not installed(name):
        get = '"neural-plasticity[trackers]"' if name in _OURS else name
        raise ConfigError(f"{flag} {name}: {name} is not installed: pip install {get}")
    return name


class AccelerateSink:
    """One run in a tracker of Accelerate's, begun at the first event."""

    def __init__(self, name: str, tracked: TrackedRun, say: Say) -> None:
        self.name = name
        self._tracked = tracked
        self._say = say
        self._tracker: Any = None

    def handle(self, event: Event) -> None:
        """Send one event."""
        if self._tracker is None:
            self._begin(event)
        if isinstance(event, RunStarted):
            self._tracker.store_init_configuration(_settings(event))
        values: dict[str, Any] = dict(rows.numbers(event))
        if values:
            values["cycle"] = event.cycle
        if self.name in _WITH_TEXT:
            values |= _texts(event)
        if values:
            self._tracker.log(values, step=event.step)

    def close(self) -> None:
        """Finish the run there."""
        if self._tracker is not None:
            self._tracker.finish()

    def _begin(self, event: Event) -> None:
        from accelerate.tracking import LOGGER_TYPE_TO_CLASS

        kind: Any = LOGGER_TYPE_TO_CLASS[self.name]
        run_dir, project = self._tracked.run_dir, self._tracked.project
        name = self._tracked.name or (event.name if isinstance(event, RunStarted) else run_dir.resolve().name)
        if kind.requires_logging_directory:
            self._tracker = kind(name, str(run_dir / self.name))
            self._say(f"{self.name}: in {run_dir / self.name}", "info")
        else:
            self._tracker = kind(project, **_OPTIONS.get(self.name, _accelerates_own)(name))
            self._say(f"{self.name}: project {project}", "info")
        self._tracker.start()


def _accelerates_own(_name: str) -> dict[str, Any]:
    return {}


def _for_trackio(name: str) -> dict[str, Any]:
    return {"name": name, "embed": False, "resume": "never"}


_OPTIONS: Mapping[str, Callable[[str], dict[str, Any]]] = {"trackio": _for_trackio}


def _settings(event: RunStarted) -> dict[str, Any]:
    """The configuration as names and plain values; None, which TensorBoard refuses, is text."""
    parts = {**event.config, "run": {"model": event.model, "data": event.data, "simulated": event.simulated}}
    return {name: "None" if value is None else value for name, value in rows.flat(rows.plain(parts)).items()}


def _texts(event: Event) -> dict[str, str]:
    """What is no number, in words: samples, decisions with their reasons, how the run ended."""
    here = rows.section(event.phase)
    if isinstance(event, TextSample):
        return {f"{here}/sample/{rows.section(event.model)}": f"{event.prompt} ⟶ {event.text}"}
    if isinstance(event, HeadsPruned | HeadsGrown):
        table = rows.ledger(event, every_head=False)
        lines = [
            ", ".join(f"{name} {one}" for name, one in zip(table.columns, row, strict=True) if one is not None)
            for row in table.rows
        ]
        return {f"{here}/decision": "  \n".join(lines)}
    if isinstance(event, CycleJudged | StateRestored):
        return {f"{here}/{event.kind}": event.reason}
    return {"run/ended": f"{event.state} {event.reason}".strip()} if isinstance(event, RunEnded) else {}
