"""The page as one file: data and script inside it, compressed; no network, nothing beside it needed."""

from __future__ import annotations

import base64
import binascii
import contextlib
import html
import re
import secrets
import string
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from neural_plasticity.errors import RecordError
from neural_plasticity.record import Run
from neural_plasticity.record.schema import FILE_NAME
from neural_plasticity.render.page.assets import SCRIPT, STYLE, asset
from neural_plasticity.render.page.document import FILE, META, document
from neural_plasticity.render.page.inlining import compressed, inlined_script, policy, template
from neural_plasticity.render.page.packing import pack, shown, unpack
from neural_plasticity.views import figures
from neural_plasticity.views.overview import Overview

PAGE_NAME = "dashboard.html"
_TEMPORARY = ".page-"
_LEFT_SECONDS = 3600.0
_MOST_BYTES = 2**28  # of what a page carries, a hundred times what they have
_DATABASE = b"SQLite format 3\0"


def write_page(run: Run, path: Path | str) -> Path:
    """Write the page of ``run`` to ``path`` (a directory gets ``dashboard.html``); returns the file's path.

    The file is replaced in one step, so that a reader never meets half a page.

    Raises:
        RecordError: the file cannot be written.
    """
    return write_file(path, PAGE_NAME, lambda: render_page(run))


def write_file(path: Path | str, name: str, make: Callable[[], str]) -> Path:
    """As `write_page`, for the page that ``make`` makes; ``name``: what it is called in a directory."""
    target = Path(path)
    try:
        target = target / name if target.is_dir() else target
        _check_is_no_record(target)
        page = make()
        target.parent.mkdir(parents=True, exist_ok=True)
        _replace(target, page)
    except OSError as error:
        raise RecordError(
            f"{figures.shorten(str(target), 300)}: the page cannot be written there: {error.strerror}."
        ) from error
    return target


def _check_is_no_record(target: Path) -> None:
    """Whoever mistypes the output must not lose the run."""
    if target.is_file():
        with target.open("rb") as file:
            if file.read(len(_DATABASE)) == _DATABASE or target.name.startswith(f"{FILE_NAME}-"):
                raise RecordError(f"{target}: belongs to a record; the page needs another place.")


def _replace(target: Path, page: str) -> None:
    """Write beside it, then rename: with the rights that any file of this user gets."""
    temporary = target.with_name(f"{_TEMPORARY}{secrets.token_hex(8)}.html")
    try:
        with temporary.open("x", encoding="utf-8", newline="\n") as file:
            file.write(page)
        temporary.replace(target)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
    for left in target.parent.glob(f"{_TEMPORARY}*.html"):  # by a process that was killed while it wrote
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > _LEFT_SECONDS:
                left.unlink()


def render_page(run: Run) -> str:
    """The page as a string. Whatever is missing from the run is said to be missing."""
    sections = document(run, budget=FILE)
    view: Overview = sections["overview"]
    return page_of(f"{view.name} · {view.state}", _shell(view, sections[META].version), sections)


def page_of(title: str, shell: str, content: Any, shows: str = "run") -> str:
    """A page that carries ``content``; ``shell`` is its HTML before the script runs, ``shows`` what it is a page of."""
    script, style, boot = asset(SCRIPT), asset(STYLE), template("boot.js")
    return string.Template(template("page.html")).substitute(
        title=as_html(title),
        policy=policy(boot, script),
        style=style,
        shell=shell,
        shows=shows,
        boot=boot,
        app=inlined_script(script),
        data=compressed(pack(content)),
    )


def read_page(path: Path | str) -> dict[str, Any]:
    """The document that a page file carries, its arrays as NumPy arrays.

    Raises:
        RecordError: it is not such a file.
    """
    no_page = RecordError(f"{path}: expected a dashboard page with its data inside.")
    try:
        found = re.search(r'id="npd-data">([A-Za-z0-9+/=\s]*)<', Path(path).read_text(encoding="utf-8"), re.ASCII)
        if found is None:
            raise no_page
        inflating = zlib.decompressobj(-zlib.MAX_WBITS)
        content = inflating.decompress(base64.b64decode(found.group(1)), _MOST_BYTES)
    except (OSError, UnicodeDecodeError, zlib.error, binascii.Error) as error:
        raise no_page from error
    carried = unpack(content) if inflating.eof else None
    if not isinstance(carried, dict):
        raise no_page
    return carried


def _shell(view: Overview, version: str) -> str:
    """What is seen before the script runs, or without it: name, state and key figures as plain HTML."""
    shown_figures = "".join(
        f"<div><dt>{as_html(one.label)}</dt><dd>{as_html(one.value)}</dd><dd>{as_html(one.note)}</dd></div>"
        for one in view.figures
    )
    simulated = "<p><strong>Simulated.</strong> These numbers were made up to show the dashboard.</p>"
    parts = [
        f"<h1>{as_html(view.name)}</h1>",
        f"<p>{as_html(view.state)} · {as_html(view.sentence)}</p>",
        f"<p>{as_html(view.reason)}</p>" if view.reason else "",
        simulated if view.simulated else "",
        f"<dl>{shown_figures}</dl>",
        f'<p class="npd-wait" id="npd-wait">Neural Plasticity Dashboard {as_html(version)}</p>',
    ]
    return "".join(parts)


def as_html(text: str) -> str:
    """Text from outside as HTML."""
    return html.escape(figures.shorten(shown(text), 400))
