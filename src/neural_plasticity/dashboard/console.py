"""The console of a dashboard inside somebody else's script: plain lines, whose terminal and logging stay theirs."""

from __future__ import annotations

from rich.text import Text

from neural_plasticity.events import Event, StepMetrics
from neural_plasticity.render.console import PLAIN_PROGRESS_SECONDS, ConsoleView
from neural_plasticity.render.lines import outside
from neural_plasticity.views import figures
from neural_plasticity.views.palette import phase_label

MOST_METRICS = 5


class ScriptConsole(ConsoleView):
    """A line for everything that happens and, every few seconds, one with the latest metrics of the phase."""

    def __init__(self) -> None:
        super().__init__(live=False, route=False)

    def handle(self, event: Event) -> None:
        """Show one event."""
        super().handle(event)
        if isinstance(event, StepMetrics) and event.metrics:
            self._step(event)

    def _step(self, event: StepMetrics) -> None:
        now = self._clock()
        if now - self._last_progress < PLAIN_PROGRESS_SECONDS:
            return
        self._last_progress = now
        parts = [outside(phase_label(event.phase))] if event.phase else []
        parts.append(f"step {event.step:,}")
        shown = list(event.metrics.items())[:MOST_METRICS]
        parts += [f"{outside(name, 40).replace('_', ' ')} {figures.significant(value, 4)}" for name, value in shown]
        prefix = f"cycle {event.cycle} · " if event.cycle else ""
        self._print(Text(prefix + " · ".join(parts)))
