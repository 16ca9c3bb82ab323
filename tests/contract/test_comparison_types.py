"""The comparison's front-end types are its view models' fields, as for a run's page."""

from __future__ import annotations

from pathlib import Path

from neural_plasticity.render.page.comparison import compare, document_of
from tests.contract.test_page_types import MODEL, _differences, interfaces
from tests.sample_run import SampleRun, write_events


def test_the_types_are_the_view_models_fields(tmp_path: Path) -> None:
    paths = [write_events(tmp_path / str(seed), SampleRun(seed=seed).events()) for seed in range(2)]
    sections = document_of(compare(paths))
    known = interfaces("\n".join(path.read_text(encoding="utf-8") for path in MODEL.glob("types*.ts")))
    assert set(known["ComparisonDoc"]) == set(sections)
    differences = {
        line
        for name, view in sections.items()
        for line in _differences(view, known["ComparisonDoc"][name], known, name)
    }
    assert not sorted(differences)


def test_no_two_types_share_a_name() -> None:
    """They are read together, and one would hide the other."""
    names = [name for path in MODEL.glob("types*.ts") for name in interfaces(path.read_text(encoding="utf-8"))]
    assert sorted(names) == sorted(set(names))
