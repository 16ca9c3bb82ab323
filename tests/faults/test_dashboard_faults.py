"""A disk that fills up under a dashboard: said in one line, nothing half recorded, going on once there is room."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest

from neural_plasticity import MultiPhaseDashboard
from neural_plasticity.errors import RecordError
from neural_plasticity.events import HeadScores, PhaseStarted, StepMetrics
from neural_plasticity.record import open_run
from tests.faults.test_record_faults import _mounted

SHAPE = (24, 32)


def fill(file: Path) -> None:
    """Make ``file`` as large as there is room."""
    with file.open("ab", buffering=0) as out:
        for size in (65_536, 4096, 1):
            with contextlib.suppress(OSError):
                while out.write(bytes(size)) == size:
                    pass


def test_a_disk_that_fills_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with _mounted(tmp_path, "-t", "tmpfs", "-o", "size=3m", "none"):
        ballast = tmp_path / "ballast"
        ballast.write_bytes(bytes(1_000_000))
        dashboard = MultiPhaseDashboard(output_dir=tmp_path / "run", mode="disabled")
        callback = dashboard.get_metrics_callback()
        told = 0
        message = ""
        while not message and told < 10_000:
            # One call, three events: a phase, an array, numbers.
            values = np.random.default_rng(told).random(SHAPE)
            try:
                callback(told, {"phase": f"phase {told}", "entropy_values": values, "loss": told})
                told += 1
            except RecordError as error:
                message = str(error)
        assert "\n" not in message
        assert "cannot record" in message
        assert 5 < told < 10_000
        for kind in (PhaseStarted, HeadScores, StepMetrics):
            assert len(list(dashboard.run.events(kind))) == told, kind
        assert dashboard.all_steps == list(range(told))

        ballast.unlink()
        callback(told, {"loss": told})
        assert dashboard.all_steps[-1] == told
        dashboard.finish()
        with open_run(tmp_path / "run") as run:
            assert run.summary().state == "finished"
            assert run._query("PRAGMA integrity_check") == [("ok",)]


def test_a_disk_that_is_full_at_the_end(tmp_path: Path) -> None:
    with _mounted(tmp_path, "-t", "tmpfs", "-o", "size=1m", "none"):
        dashboard = MultiPhaseDashboard(output_dir=tmp_path / "run", mode="disabled")
        dashboard.record_step({"loss": 1.0}, 1)
        room = tmp_path / "ballast"
        room.touch()
        fill(room)
        step, message = 2, ""
        while not message and step < 10_000:
            try:
                dashboard.record_step({f"metric{step}": 1.0}, step)
                step += 1
            except RecordError as error:
                message = str(error)
        assert "cannot record" in message
        seen = dashboard.all_steps
        with pytest.raises(RecordError, match="cannot record"):
            dashboard.finish()
        dashboard.finish()
        room.unlink()
        with open_run(tmp_path / "run") as run:
            assert [event.step for event in run.events(StepMetrics)] == seen
            assert run.summary().state == "running"  # nothing could be written about its end


def test_a_page_that_cannot_be_written_does_not_cost_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dashboard = MultiPhaseDashboard(output_dir=tmp_path, mode="disabled")
    (tmp_path / "dashboard.html").mkdir()
    (tmp_path / "dashboard.html" / "dashboard.html").mkdir()
    dashboard.finish()
    assert open_run(tmp_path).summary().state == "finished"
    assert "the page was not written" in capsys.readouterr().out
