"""Opening a page in the browser of the person who sits at this machine, if there is one."""

from __future__ import annotations

import os
import sys
import webbrowser
from pathlib import Path


def open_in_browser(page: Path | str) -> bool:
    """Open ``page``, a file or an address, where there is a person with a browser; False, and no error, elsewhere."""
    has_display = sys.platform in ("darwin", "win32") or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if not has_display or not sys.stdout.isatty():
        return False
    try:
        return webbrowser.open(page if isinstance(page, str) else page.resolve().as_uri())
    except webbrowser.Error:
        return False
