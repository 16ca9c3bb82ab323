"""Everything that reads what somebody else may have made, each with its inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from tests.fuzz import checkpoints, files, models, records, requests, small


@dataclass(frozen=True)
class Target:
    """``one`` takes what ``inputs`` draw and returns the errors that it met; ``share``: the cheap have more."""

    inputs: tuple[st.SearchStrategy[Any], ...]
    one: Callable[..., list[str]]
    share: int = 1


TARGETS: Mapping[str, Target] = {
    "records": Target((records.CHANGED, records.USES), records.one_record),
    "requests": Target(
        (requests.METHODS, requests.PATHS, requests.QUERY, requests.HEADERS, requests.SERVED),
        requests.one_request,
        2,
    ),
    "arrays": Target((small.DTYPES, small.SHAPES, small.CODECS, small.DATA), small.one_array, 4),
    "models": Target((models.CHANGES, st.booleans()), models.one_model),
    "configurations": Target((models.OPTIONS,), models.one_configuration, 4),
    "checkpoints": Target((checkpoints.WHICH, checkpoints.CHANGES), checkpoints.one_checkpoint),
    "sweeps": Target((files.MANIFESTS, files.KINDS, files.RECORDS), files.one_sweep),
    "texts": Target((files.TEXTS, files.DIRECTORIES), files.one_text, 2),
    "pages": Target((files.PAGES,), files.one_page),
    "documents": Target((small.PACKED,), small.one_document, 4),
}
