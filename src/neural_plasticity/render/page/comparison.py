"""The page that compares runs: found on disk, read one by one, and written as one self-contained file."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neural_plasticity.errors import InputError, RecordError
from neural_plasticity.record import open_run
from neural_plasticity.record.schema import FILE_NAME, SCHEMA_VERSION, record_path
from neural_plasticity.render.page.document import _version
from neural_plasticity.render.page.live.runs import HERE, find_runs
from neural_plasticity.render.page.single_file import as_html, page_of, write_file
from neural_plasticity.views import figures
from neural_plasticity.views.comparison import Comparison, LeftOut, comparison, title_of
from neural_plasticity.views.comparison_run import Digest, digest
from neural_plasticity.views.cycles import Measured

PAGE_NAME = "compare.html"
FEWEST, MOST = 2, 200
_POINTS = 240_000  # of all curves together, about
_CURVES = 8  # that a run has, about
_POINTS_OF_ONE = (200, 4_000)  # the fewest and the most


@dataclass(frozen=True)
class Meta:
    """When the comparison was made, and by which version."""

    written: float  # unix seconds
    title: str
    schema: int
    version: str


def write_comparison(paths: Sequence[Path | str], output: Path | str = PAGE_NAME) -> tuple[Path, Comparison]:
    """Compare the runs at ``paths`` in one HTML file (a directory gets ``compare.html``); returns its path.

    A path is a run, or a directory with runs below it.

    Raises:
        InputError: fewer than two runs can be compared, or too many were given.
        RecordError: the file cannot be written.
    """
    found = compare(paths)
    return write_file(output, PAGE_NAME, lambda: render_comparison(found)), found


def compare(paths: Sequence[Path | str]) -> Comparison:
    """The comparison of the runs at ``paths``, and below those that are directories.

    Raises:
        InputError: fewer than two runs can be compared, or too many were given.
    """
    records, left_out = _records(paths)
    if len(records) > MOST:
        raise InputError(f"{len(records):,} runs: expected at most {MOST}; name fewer, or a directory with fewer.")
    digests: list[Digest] = []
    known: dict[str, str] = {}
    for record in records:
        name = _shown(record)
        try:
            with open_run(record) as run:
                one = digest(run, name, points_each(len(records)))
        except RecordError as error:
            left_out.append(LeftOut(name, _reason(error, record)))
            continue
        if one.identity in known:
            left_out.append(LeftOut(name, f"a copy of {known[one.identity]}: the same run, compared once"))
            continue
        known[one.identity] = name
        digests.append(one)
    if len(digests) < FEWEST:
        why = "".join(f" {one.path}: {one.reason.rstrip('.')}." for one in left_out[:3])
        more = f" And {len(left_out) - 3:,} more." if len(left_out) > 3 else ""
        raise InputError(f"{figures.plural(len(digests), 'run')} to compare: expected two or more.{why}{more}")
    return comparison(digests, left_out)


def points_each(runs: int) -> int:
    """Points of one curve when so many runs are compared: the page's size stays within bounds."""
    fewest, most = _POINTS_OF_ONE
    return min(max(_POINTS // max(runs * _CURVES, 1), fewest), most)


def _records(paths: Sequence[Path | str]) -> tuple[list[Path], list[LeftOut]]:
    """Every record once, in the order of ``paths``, and what was named twice or holds no run."""
    found: dict[Path, Path] = {}
    left_out: list[LeftOut] = []
    for given in map(Path, paths):
        searched = given.is_dir() and not (given / FILE_NAME).is_file()
        for record in _below(given) if searched else [record_path(given)]:
            real = record.resolve()
            if real not in found:
                found[real] = record
            elif not searched:
                left_out.append(LeftOut(_shown(record), "given twice: compared once"))
        if searched and not any(True for _ in _below(given)):
            left_out.append(LeftOut(figures.clean(str(given)), "no run in it, nor below it"))
    return list(found.values()), left_out


def _below(directory: Path) -> Iterator[Path]:
    return (directory / run_id / FILE_NAME for run_id in find_runs(directory) if run_id != HERE)


def _shown(record: Path) -> str:
    return figures.shorten(figures.clean(str(record.parent)), 300)


def _reason(error: RecordError, path: Path) -> str:
    """The message without the path that it begins with: the path is said beside it."""
    text = str(error)
    for known in (str(path), str(path.parent), str(path.resolve())):
        text = text.removeprefix(known).lstrip(": ")
    return figures.shorten(figures.clean(text), 300)


# The file --------------------------------------------------------------------------------------------------------


def document_of(found: Comparison) -> dict[str, Any]:
    """What the page is given."""
    meta = Meta(time.time(), title_of(found), SCHEMA_VERSION, _version())
    return {"meta": meta, "comparison": found}


def render_comparison(found: Comparison) -> str:
    """The page as a string."""
    title = f"{title_of(found)} · comparison"
    return page_of(title, _shell(found), document_of(found), shows="comparison")


def _shell(found: Comparison) -> str:
    """What is seen before the script runs, or without it: what to know, and one row per run."""
    notices = "".join(f"<p>{as_html(one.text)}</p>" for one in found.notices)
    left_out = "".join(f"<p>Left out: {as_html(f'{one.path}: {one.reason}')}</p>" for one in found.left_out)
    rows = "".join(
        f"<tr>{''.join(f'<td>{as_html(cell)}</td>' for cell in _row(found, place))}</tr>"
        for place in range(len(found.runs))
    )
    head = "".join(f"<th>{one}</th>" for one in ("run", "state", "strategy", "heads removed", "perplexity", "baseline"))
    return (
        f"<h1>{as_html(title_of(found))}</h1>{notices}{left_out}"
        f'<table><tr>{head}</tr>{rows}</table><p class="npd-wait" id="npd-wait">Neural Plasticity Dashboard</p>'
    )


def _row(found: Comparison, place: int) -> Iterable[str]:
    line = found.runs[place]
    at = line.outcome
    return (
        line.name,
        line.state,
        " ".join(one for one in (line.strategy, line.level) if one),
        figures.percent(at.sparsity if at else None),
        f"{_perplexity(at.perplexity if at else None)}{f' ({at.split})' if at else ''}",
        _perplexity(line.baseline),
    )


def _perplexity(value: Measured | None) -> str:
    return figures.perplexity(None if value is None else value.value)
