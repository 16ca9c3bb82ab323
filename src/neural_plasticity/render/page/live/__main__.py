"""The process that `ServerProcess` starts: serves one directory until its standard input ends."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from neural_plasticity.errors import InputError
from neural_plasticity.render.page.live.server import DEFAULT_PORT, LiveServer, serve_in_thread, spare_memory

_NICENESS = 5  # below the training, where both want the same processor


def main(directory: str) -> int:
    """Serve ``directory``, say where, and end when the process that asked for it has."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(AttributeError, OSError):
        os.nice(_NICENESS)
    spare_memory()
    try:
        server = _serve(Path(directory))
    except InputError as error:
        _say(error=str(error))
        return 2
    _say(url=server.url)
    sys.stdin.buffer.read()
    server.settle()
    server.close()
    return 0


def _serve(directory: Path) -> LiveServer:
    try:
        return serve_in_thread(directory, port=DEFAULT_PORT)  # the same address each time, where it is free
    except InputError:
        return serve_in_thread(directory)


def _say(**what: Any) -> None:
    with contextlib.suppress(OSError):  # the one who asked is gone already
        sys.stdout.write(json.dumps(what) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
