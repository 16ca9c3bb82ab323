"""The live page's HTML: a shell that names the run and where its data is; everything else is the front end's."""

from __future__ import annotations

import hashlib
import html
from functools import cache

from neural_plasticity.render.page.assets import SCRIPT, STYLE, asset

_TYPES = {SCRIPT: "text/javascript; charset=utf-8", STYLE: "text/css; charset=utf-8"}

_SHELL = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="npd-host" content="live">
<title>{title}</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="{root}assets/{style}">
<script defer src="{root}assets/{script}"></script>
</head>
<body>
<div id="app" data-host="live" data-root="{root}"{run} data-shows="{shows}">
<noscript>This page follows an experiment while it runs, which needs JavaScript.
The list of runs as JSON: <a href="{root}api/runs">api/runs</a>.</noscript>
</div>
</body>
</html>
"""


def shell(root: str, run_id: str | None, title: str, shows: str = "runs") -> str:
    """The page of a run, or (None) of what ``shows``, the list of runs or a comparison of some.

    ``root`` leads from its address to the server's ``/``.
    """
    run = "" if run_id is None else f' data-run="{html.escape(run_id)}"'
    return _SHELL.format(
        title=html.escape(title),
        root=html.escape(root),
        shows=shows,
        run=run,
        script=hashed(SCRIPT),
        style=hashed(STYLE),
    )


@cache
def hashed(name: str) -> str:
    """A built file's name with its content's hash in it, so that browsers may keep it for good.

    Raises:
        NeuralPlasticityError: the front end was not built.
    """
    stem, _, suffix = name.rpartition(".")
    return f"{stem}.{hashlib.sha256(asset(name).encode()).hexdigest()[:16]}.{suffix}"


def asset_of(file: str) -> tuple[str, str] | None:
    """Content and type of the built file that has this hashed name; None where there is none such."""
    for name, kind in _TYPES.items():
        if file == hashed(name):
            return asset(name), kind
    return None
