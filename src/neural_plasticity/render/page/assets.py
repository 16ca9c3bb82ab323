"""The built front end as it lies in the package: one script and one style sheet."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from neural_plasticity.errors import InputError

STATIC = Path(__file__).resolve().parent.parent / "static"
SCRIPT, STYLE = "app.js", "app.css"


@cache
def asset(name: str) -> str:
    """The text of a built file.

    Raises:
        InputError: the front end was not built.
    """
    path = STATIC / name
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(
            f"{path}: the page's front end is missing from this installation; in a checkout, `make page` builds it."
        ) from error
