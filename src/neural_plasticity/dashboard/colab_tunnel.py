"""A public address for a server on this machine: only when asked, and only where a token stands before the runs."""

from __future__ import annotations

import re
import shutil
import subprocess
import threading
import urllib.error
import urllib.request
import weakref
from collections.abc import Callable, Iterable
from importlib import import_module
from importlib.util import find_spec
from typing import IO, Any
from urllib.parse import quote

from neural_plasticity.errors import InputError

NEITHER = (
    "a tunnel needs cloudflared on the path (https://github.com/cloudflare/cloudflared/releases) or pyngrok "
    "(pip install pyngrok, and an ngrok account's authtoken); there is neither."
)
_ADDRESS = re.compile(r"https://[a-z0-9-]+\.trycloudflare\.com")
_FOREIGN = "a-name-of-the-tunnel.invalid"  # what the server is asked by, as a tunnel would
_REFUSED = (401, 403)


class Tunnel:
    """A tunnel that is open. ``url`` opens the page and holds the token: who has it sees the runs."""

    def __init__(self, public: str, token: str, close: Callable[[], object]) -> None:
        self.public = public.rstrip("/")
        self.url = f"{self.public}/?token={quote(token)}"
        self._close = weakref.finalize(self, close)  # at the latest when Python exits

    def __repr__(self) -> str:
        return f"Tunnel({self.public!r}, open={self._close.alive})"

    def close(self) -> None:
        """Take the public address away again. Harmless when repeated."""
        self._close()


def open_tunnel(port: int, token: str, *, wait: float = 30.0) -> Tunnel:
    """Make the server on ``port`` of this machine public, through cloudflared or pyngrok.

    Raises:
        InputError: the server lets people in without a token, or not with this one; or there is no tunnel to be had.
    """
    _check_server(port, token)
    cloudflared = shutil.which("cloudflared")
    if cloudflared:
        return _through_cloudflared(cloudflared, port, token, wait)
    if find_spec("pyngrok") is None:
        raise InputError(NEITHER)
    if _answer(port, token, host=_FOREIGN) in _REFUSED:
        raise InputError(
            f"port {port}: this server does not answer under other names, as pyngrok needs it to; start it with "
            "serve_in_colab(token=True), or install cloudflared."
        )
    return _through_ngrok(port, token)


def _check_server(port: int, token: str) -> None:
    """A server is there, refuses who comes without the token, and lets in who has it."""
    bare = _answer(port)
    if bare is None:
        raise InputError(f"port {port}: no server listens there; start one with serve_in_colab(token=True).")
    if bare not in _REFUSED:
        raise InputError(
            f"port {port}: the server there lets anyone in, so it is not made public; start one that asks for a token: "
            "serve_in_colab(token=True), or plasticity serve DIR --token …"
        )
    if not token:
        raise InputError(f"port {port}: the server there asks for a token; give it as open_tunnel({port}, token=…).")
    if _answer(port, token) in _REFUSED:
        raise InputError(f"port {port}: the token is not that server's.")


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


def _answer(port: int, token: str = "", host: str = "") -> int | None:
    """The status that the server answers with; None when nobody answers."""
    query = f"?token={quote(token)}" if token else ""
    request = urllib.request.Request(f"http://127.0.0.1:{port}/{query}", headers={"Host": host} if host else {})
    opener = urllib.request.build_opener(_NoRedirect, urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code
    except (OSError, ValueError):
        return None


def _through_cloudflared(program: str, port: int, token: str, wait: float) -> Tunnel:
    # The server goes by the names of this machine, so cloudflared passes requests on under one of them.
    here = f"127.0.0.1:{port}"
    command = [program, "tunnel", "--no-autoupdate", "--url", f"http://{here}", "--http-host-header", here]
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    lines: list[str] = []
    found = threading.Event()
    assert process.stderr is not None
    threading.Thread(target=_read, args=(process.stderr, lines, found), name="tunnel", daemon=True).start()
    found.wait(wait)
    address = _address_in(lines)
    if address is None:
        _end(process)
        said = f": {lines[-1].strip()}" if lines else ""
        raise InputError(f"cloudflared opened no tunnel within {wait:g} s{said}")
    return Tunnel(address, token, lambda: _end(process))


def _read(stream: IO[str], lines: list[str], found: threading.Event) -> None:
    """Keep what is said last, for an error; go on reading, or the program would wait for us."""
    with stream:
        for line in stream:
            if not found.is_set():
                lines.append(line)
                if _ADDRESS.search(line):
                    found.set()
    found.set()


def _address_in(lines: Iterable[str]) -> str | None:
    return next((match.group() for line in lines if (match := _ADDRESS.search(line))), None)


def _end(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _through_ngrok(port: int, token: str) -> Tunnel:
    ngrok: Any = import_module("pyngrok.ngrok")
    try:
        tunnel = ngrok.connect(str(port), "http")
    except Exception as error:  # no authtoken, no network, no program: pyngrok says which
        raise InputError(f"pyngrok opened no tunnel: {' '.join(str(error).split())[:300]}") from error
    return Tunnel(str(tunnel.public_url), token, lambda: ngrok.disconnect(tunnel.public_url))
