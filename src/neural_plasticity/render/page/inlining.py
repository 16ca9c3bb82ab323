"""What a page that fetches nothing is made of: templates, its script compressed, and a policy that allows no more."""

from __future__ import annotations

import base64
import hashlib
import zlib
from functools import cache
from pathlib import Path

_TEMPLATES = Path(__file__).resolve().parent / "templates"
_LEVEL = 6  # on floats 9 takes twice as long and saves nothing


@cache
def inlined_script(text: str) -> str:
    """A script, packed as small as it goes; kept, since every page carries the same one."""
    return compressed(text.encode("utf-8"), 9)


def compressed(data: bytes, level: int = _LEVEL) -> str:
    """Raw deflate, base64: a browser inflates it without any code of ours, and no ``<`` can occur."""
    squeezer = zlib.compressobj(level, zlib.DEFLATED, -zlib.MAX_WBITS, 9)
    return base64.b64encode(squeezer.compress(data) + squeezer.flush()).decode("ascii")


def policy(*scripts: str) -> str:
    """Content-Security-Policy: our two scripts by their content, and nothing from anywhere."""
    allowed = " ".join(f"'sha256-{_digest(script)}'" for script in scripts)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:; font-src data:; "
        "connect-src 'none'; base-uri 'none'; form-action 'none'"
    )


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")


@cache
def template(name: str) -> str:
    """The text of a file in ``templates/``."""
    return (_TEMPLATES / name).read_text(encoding="utf-8")
