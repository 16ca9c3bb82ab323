"""Everything that reads what somebody else may have made, each with its inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from tests.fuzz import records


@dataclass(frozen=True)
class Target:
    """``one`` takes what ``inputs`` draw and returns the errors that it met; ``share``: the cheap have more."""

    inputs: tuple[st.SearchStrategy[Any], ...]
    one: Callable[..., list[str]]
    share: int = 1


TARGETS: Mapping[str, Target] = {
    "records": Target((records.CHANGED, records.USES), records.one_record),
}
