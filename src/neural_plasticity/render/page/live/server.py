"""Starting and ending the live server: in a thread of this process, on a port of this machine."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import secrets
import socket
import sys
import threading
import time
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING
from urllib.parse import quote

from neural_plasticity.errors import InputError

if TYPE_CHECKING:
    import uvicorn

    from neural_plasticity.render.page.live.registry import Registry

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 8421
INSTALL = "pip install 'neural-plasticity[serve]'"
_SHORTEST_TOKEN = 8
_START_SECONDS = 30.0
_END_SECONDS = 3.0  # to send what waits to those who watch; who does not read by then is left
_QUIET_SECONDS = 4.0  # longer than a page waits before it fetches what changed
_SETTLE_SECONDS = 15.0
_ARENA_MAX = -8  # M_ARENA_MAX of malloc.h


class LiveServer:
    """A server that runs: ``url`` opens the page (with the token in it, where there is one). `close` ends it."""

    def __init__(
        self, server: uvicorn.Server, registry: Registry, listening: socket.socket, host: str, token: str | None
    ) -> None:
        self.host = host
        self.port: int = listening.getsockname()[1]
        self.token = token
        self._server = server
        self._registry = registry
        # Not `Thread.join`: before Python 3.13 a Ctrl-C that interrupts it leaves the thread marked as ended.
        self._ended = threading.Event()
        threading.Thread(target=self._run, args=(listening,), name="live-page", daemon=True).start()

    def _run(self, listening: socket.socket) -> None:
        try:
            self._server.run([listening])
        finally:
            self._ended.set()

    @property
    def address(self) -> str:
        """Where the server is, for people on this machine."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}/"

    @property
    def url(self) -> str:
        """What to open in a browser."""
        return self.address if self.token is None else f"{self.address}?token={quote(self.token, safe='')}"

    def wait(self, seconds: float | None = None) -> bool:
        """Until the server has ended, at most ``seconds``; True when it has."""
        return self._ended.wait(seconds)

    def settle(self) -> None:
        """Until those who watch have fetched what changed last; at once where nobody does."""
        end = time.monotonic() + _SETTLE_SECONDS
        while self._registry.quiet_for() < _QUIET_SECONDS and time.monotonic() < end:
            time.sleep(0.05)

    def close(self) -> None:
        """Tell those who watch the last news and end. Harmless when repeated."""
        self._server.should_exit = True
        self.wait(_END_SECONDS + 2)

    def __enter__(self) -> LiveServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def spare_memory() -> None:
    """For a process that does nothing but serve: memory that a thread has let go of is there for the others.

    glibc keeps an area for each thread, which grows to the most that it ever held and is not shared: with pages built
    in several threads a server grows by some megabytes for each. Other C libraries are left alone.
    """
    with contextlib.suppress(OSError, TypeError, AttributeError):
        ctypes.CDLL(None).mallopt(_ARENA_MAX, 1)


def check_installed() -> None:
    """Starlette and uvicorn can be imported.

    Raises:
        InputError: they can not; the message says what to install.
    """
    missing = [name for name in ("starlette", "uvicorn") if find_spec(name) is None]
    if missing:
        raise InputError(f"the live page needs {' and '.join(missing)}: {INSTALL}")


def serve_in_thread(
    directory: Path | str,
    host: str = DEFAULT_HOST,
    port: int = 0,
    token: str | None = None,
    *,
    hosts: Iterable[str] = (),
    frame_ancestors: str = "'none'",
) -> LiveServer:
    """Serve the run or the runs in ``directory``, read-only, from a thread of this process.

    Args:
        directory: a run directory, or one with runs in it or below it.
        host: address to listen on. Beyond this machine a token is needed, and made where none is given.
        port: 0 takes a free one.
        token: what a browser has to show once.
        hosts: more names that the server goes by, such as a proxy's; ``"*"``: any (then nothing but the token keeps
            foreign sites out whose name is made to resolve to this machine).
        frame_ancestors: pages that may show this one in a frame, as in a Content-Security-Policy.

    Raises:
        InputError: no such directory, the port is taken, or what is needed is not installed.
    """
    check_installed()
    import uvicorn

    from neural_plasticity.render.page.live.app import make_app
    from neural_plasticity.render.page.live.connection import PatientProtocol
    from neural_plasticity.render.page.live.guard import ANY_HOST, Access, Guard, is_loopback, names_of
    from neural_plasticity.render.page.live.patience import Patience
    from neural_plasticity.render.page.live.registry import Registry

    root = Path(directory)
    if root.name == "run.sqlite" and root.is_file():
        root = root.parent
    if not root.is_dir():
        raise InputError(f"{root}: expected a run directory, or a directory with runs in it; there is none.")
    if any(one in frame_ancestors for one in ";,\r\n"):
        raise InputError(f"frame_ancestors {frame_ancestors!r}: expected sources as in a Content-Security-Policy.")
    if token is not None and (len(token) < _SHORTEST_TOKEN or not token.isascii() or not token.isprintable()):
        raise InputError(
            f"--token: expected at least {_SHORTEST_TOKEN} plain characters; leave it out to have one made."
        )
    listening = _listen(host, port)
    if token is None and not is_loopback(host):
        token = secrets.token_urlsafe(24)
    # Bound to every address, it cannot know the names it is reached by: there the token alone decides.
    own = [ANY_HOST] if host in ("0.0.0.0", "::", "") else [] if is_loopback(host) else [socket.gethostname()]
    names = names_of(host, [*hosts, *own])
    cookie = f"npd-token-{listening.getsockname()[1]}"  # cookies are not told apart by port
    registry = Registry(root)
    app = Guard(Patience(make_app(registry)), Access(names, token, cookie, frame_ancestors))

    class Server(uvicorn.Server):
        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            await registry.close()  # else open streams would be waited for
            await super().shutdown(sockets)

    # On h11: the parser that is always there, and that bounds the headers of a request (64 KiB).
    settings = uvicorn.Config(
        app, http=PatientProtocol, ws="none", loop="asyncio", lifespan="off", server_header=False,
        log_config=None, log_level="critical", access_log=False,
        timeout_graceful_shutdown=int(_END_SECONDS), timeout_keep_alive=30,
    )  # fmt: skip
    server = LiveServer(Server(settings), registry, listening, host, token)
    _wait_for(server)
    return server


def _wait_for(server: LiveServer) -> None:
    for _ in range(int(_START_SECONDS / 0.01)):
        if server._server.started:
            return
        if server.wait(0.01):
            break
    raise InputError("the live server did not start.")


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is named, or asyncio would not turn Nagle's algorithm off: 40 ms more for every answer.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if sys.platform != "win32":  # there it would let two servers share a port
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
    except (OSError, OverflowError) as error:
        listening.close()
        if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
            raise InputError(
                f"--port {port}: something else listens there; give another port, or 0 for a free one."
            ) from error
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise InputError(f"--host {host} --port {port}: cannot listen there: {why.rstrip('.')}.") from error
    listening.set_inheritable(False)
    return listening
