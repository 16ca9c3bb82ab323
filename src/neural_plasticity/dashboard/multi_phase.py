"""`MultiPhaseDashboard`: phases, pruning, growth and evaluation over cycles, and the whole of it as figure and page."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neural_plasticity.dashboard import calls, values
from neural_plasticity.dashboard.wandb_dashboard import WandbDashboard
from neural_plasticity.render.page import PAGE_NAME, write_page

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COMPLETE = "complete_process"
MULTI_CYCLE = "multi_cycle_process"
BESIDE_THE_PAGE = (COMPLETE, MULTI_CYCLE)


class MultiPhaseDashboard(WandbDashboard):
    """A `WandbDashboard` that knows the phases of an experiment. The cycle follows from the calls or is told.

    A pruning event says its ``cycle``; where it does not, the first one is cycle 1, and ``analysis`` or ``pruning``
    entered after a pruning begins the next.
    """

    def record_step(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Numbers at a step; a text ``phase`` makes a transition, ``stabilized=True`` a stabilisation point."""
        self._tell(step, lambda draft: calls.metrics(draft, metrics))

    def record_phase_transition(self, phase: str, step: int | None) -> None:
        """The experiment enters ``phase``."""
        self._tell(step, lambda draft: draft.enter(phase))

    def record_pruning_event(self, info: Mapping[str, Any], step: int | None) -> None:
        """As `log_pruning_decision`."""
        self._tell(step, lambda draft: calls.pruning(draft, info))

    def record_stabilization_point(self, step: int | None, phase: str | None = None) -> None:
        """Training was found stable at ``step``, in ``phase`` (None: the current one)."""
        self._tell(step, lambda draft: calls.stabilised(draft, phase))

    def record_growth_event(self, info: Mapping[str, Any], step: int | None) -> None:
        """Heads that came back, ``grown_heads``, or are new, ``added_heads``; else as a pruning event."""
        self._tell(step, lambda draft: calls.growth(draft, info))

    def record_head_metrics(self, metrics: Mapping[str, Any], step: int | None) -> None:
        """Measures of heads: ``{"0.1": {"entropy": 0.4}}``, or ``{"entropy": array (layers, heads)}``."""
        self._tell(step, lambda draft: calls.head_metrics(draft, metrics))

    def record_evaluation(self, results: Mapping[str, Any], step: int | None) -> None:
        """Figures by model, ``{"baseline": {"perplexity": …}, "pruned": {…}}``, or of the model as it is now."""
        self._tell(step, lambda draft: calls.evaluation(draft, results))

    def record_attention(
        self,
        attention: Any,
        text: str | list[str],
        step: int | None = None,
        layer_idx: int | None = None,
        head_idx: int | None = None,
        model_type: str = "current",
    ) -> None:
        """Attention of one prompt: (layers, heads, T, T), as a model returns it, or one head's (T, T)."""
        self._tell(step, lambda draft: calls.attention(draft, attention, text, layer_idx, head_idx, model_type))

    def record_embedding(
        self,
        vectors: Any,
        labels: list[str] | None = None,
        step: int | None = None,
        name: str = "embedding",
        layer: int | None = None,
    ) -> None:
        """Points in an embedding space, (points, dimensions), with one label each or none."""
        self._tell(step, lambda draft: calls.embedding(draft, vectors, labels, name, layer))

    def visualize_complete_process(self, save_path: str | Path | None = None) -> Figure:
        """The whole process along its steps as a Matplotlib figure, saved as PNG if a path is given."""
        return self._drawn(COMPLETE, save_path)

    def generate_multi_cycle_dashboard(self, save_path: str | Path | None = None) -> Figure:
        """Cycle beside cycle as a Matplotlib figure, saved as PNG if a path is given."""
        return self._drawn(MULTI_CYCLE, save_path)

    def _drawn(self, name: str, save_path: str | Path | None) -> Figure:
        target = None if save_path is None else values.path(save_path, "save_path")
        from neural_plasticity.render.figures import draw, save_figure

        figure = draw(self.run, name)
        if target is not None:
            save_figure(figure, target)
        return figure

    def generate_standalone_dashboard(self, output_dir: str | Path) -> Path:
        """Write the page ``output_dir/dashboard.html`` with its figures beside it; returns the page's path.

        Raises:
            RecordError: it cannot be written there.
        """
        directory = values.path(output_dir, "output_dir")
        page = write_page(self.run, directory / PAGE_NAME)
        from neural_plasticity.render.figures import names_for, save_figures

        save_figures(self.run, directory, [name for name in names_for(self.run) if name in BESIDE_THE_PAGE])
        return page
