"""Coordinates and the estimate of the time left."""

from __future__ import annotations

import pytest

from neural_plasticity.config import RunConfig
from neural_plasticity.experiment.clock import Clock, Stage, planned_work, stages


def test_every_cycle_has_every_phase_and_the_baseline_comes_first() -> None:
    assert tuple(stage[:2] for stage in stages(2)) == (
        ("warmup", 0),
        ("evaluation", 0),
        ("analysis", 1),
        ("pruning", 1),
        ("fine-tuning", 1),
        ("evaluation", 1),
        ("analysis", 2),
        ("pruning", 2),
        ("fine-tuning", 2),
        ("evaluation", 2),
    )


def test_time_left_follows_the_rate_so_far() -> None:
    now = 100.0
    clock = Clock(total_work=100.0, now=lambda: now)
    clock.enter(Stage("warmup", 0), work=40.0, planned=4, unit="steps")
    assert clock.progress().seconds_left is None  # nothing done, nothing known
    clock.tick()
    now = 110.0
    progress = clock.progress()
    assert progress.run_fraction == pytest.approx(0.1)
    assert progress.seconds_left == pytest.approx(90.0)
    clock.tick()
    # The warm-up ends after half its steps: the half that was saved is no work that was done.
    assert clock.leave(early=True) == pytest.approx(10.0)
    progress = clock.progress()
    assert progress.run_fraction == pytest.approx(20 / 80)
    assert progress.seconds_left == pytest.approx(30.0)


def test_a_phase_never_counts_for_more_than_it_was_planned() -> None:
    clock = Clock(total_work=10.0)
    clock.enter(Stage("pruning", 1), work=10.0, planned=1, unit="decision")
    for _ in range(5):
        clock.tick()
    assert clock.progress().run_fraction == 1.0
    assert clock.step == 5


def test_the_control_and_ablation_are_planned_for() -> None:
    config = RunConfig()
    both = RunConfig(control=True)
    fine_tuning, analysis = Stage("fine-tuning", 1), Stage("analysis", 1)
    steps = 3 * config.fine_tuning_steps * config.batch_size  # forward and backward
    assert planned_work(fine_tuning, both, 0) - planned_work(fine_tuning, config, 0) == steps
    assert planned_work(analysis, config, 48) - planned_work(analysis, config, 0) == 48 * config.score_sequences


def test_a_finished_phase_counts_in_full_even_if_it_ticked_for_a_part() -> None:
    clock = Clock(total_work=100.0)
    clock.enter(Stage("evaluation", 0), work=50.0, planned=2, unit="batches")
    clock.tick(steps=0, share=0.4)
    clock.tick(steps=0, share=0.4)
    assert clock.progress().run_fraction == pytest.approx(0.2)
    clock.leave()
    assert clock.progress().run_fraction == pytest.approx(0.5)
    assert clock.step == 0


def test_a_long_phase_reports_a_thousand_times_and_a_short_one_after_every_step() -> None:
    for planned, expected in ((7, list(range(1, 8))), (2_500, [*range(2, 2_501, 2)])):
        clock = Clock(total_work=1.0)
        clock.enter(Stage("warmup", 0), work=1.0, planned=planned, unit="steps")
        told = []
        for _ in range(planned):
            clock.tick()
            told += [report.done for report in clock.reports()]
        assert told == expected
