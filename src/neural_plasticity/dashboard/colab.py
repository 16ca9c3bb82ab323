"""Runs in Google Colab and other notebooks: set up, show, serve, share. Elsewhere each does what it can and says so.

``utils.neural_plasticity.dashboard.colab_integration`` is this module's documented name.
"""

from __future__ import annotations

import html
import os
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from neural_plasticity.dashboard import colab_tunnel
from neural_plasticity.dashboard.colab_environment import (
    Environment,
    colab_output,
    in_notebook,
    install,
    look_around,
)
from neural_plasticity.dashboard.colab_quickstart import create_colab_quickstart_notebook
from neural_plasticity.dashboard.colab_tunnel import Tunnel
from neural_plasticity.dashboard.wandb_dashboard import WandbDashboard
from neural_plasticity.errors import InputError
from neural_plasticity.record import Run, open_run
from neural_plasticity.record.schema import record_path
from neural_plasticity.render.page import PAGE_NAME, write_page
from neural_plasticity.render.page.live.server import LiveServer, serve_in_thread
from neural_plasticity.render.page.notebook import HEIGHT, publish, show

__all__ = [
    "create_colab_quickstart_notebook",
    "display_dashboard",
    "display_sharing_options",
    "open_tunnel",
    "serve_in_colab",
    "setup_colab_environment",
]

# Colab shows a cell's output in a frame of its own site, within a page of another.
_COLAB_FRAMES = "https://colab.research.google.com https://*.googleusercontent.com"
_LOCAL_FRAMES = "http://localhost:* http://127.0.0.1:* vscode-webview:"
_SENT = re.compile(r"^Weights & Biases: (https?://\S+)$")
_servers: dict[Path, LiveServer] = {}  # of this process, by the directory that they show


def setup_colab_environment() -> Environment:
    """What is here: Colab or not, Python, GPU, packages. In Colab, what is missing is installed; elsewhere it is said.

    Raises:
        InputError: pip could not install it.
    """
    found = look_around()
    if found.colab and found.missing:
        install(found.missing)
        after = look_around()
        found = replace(after, installed=tuple(one for one in found.missing if one not in after.missing))
    _print(str(found))
    return found


def display_dashboard(dashboard_or_run_dir: WandbDashboard | Run | Path | str, height: int = HEIGHT) -> None:
    """Show a run in the cell, live, with a link under it that opens it in a tab of its own.

    In a terminal: where its page is, written now, and how to follow it.

    Raises:
        RecordError: there is no record, or it cannot be read.
    """
    run_dir = _run_dir(dashboard_or_run_dir)
    if not in_notebook():
        page = _page(run_dir)
        _print(f"No notebook here. The page: {page}\nLive: plasticity serve {run_dir}")
        return
    show(run_dir, height)
    try:
        server = _server_of(run_dir)
    except InputError as error:  # starlette is not there: the page is, as a file
        page = _page(run_dir)
        _display(
            f'<a href="{html.escape(_from_here(page))}" target="_blank">The page as a file</a>', f"{page}: {error}"
        )
        return
    _link(server, "Open the dashboard in its own tab")


def serve_in_colab(
    port: int = 0, directory: Path | str = "output", token: str | bool | None = None, height: int = HEIGHT
) -> LiveServer:
    """Serve all runs in ``directory`` from this process, and show their list in the cell; in a terminal, say where.

    Args:
        port: 0 takes a free one. One that an earlier call serves on is taken over.
        directory: a run, or where runs are.
        token: what a browser has to show once; True makes one up. Needed for a tunnel, and for nothing else: the
            port is open to this machine only, and Colab shows it to nobody but you.
        height: of the frame, in pixels.

    Returns:
        The server, with ``url``, ``port`` and ``close()``.

    Raises:
        InputError: no such directory, the port is taken, or what is needed is not installed.
    """
    secret = secrets.token_urlsafe(24) if token is True else token or None
    server = _serve(Path(directory), port, secret)
    colab = colab_output()
    if colab is not None and secret is None:
        colab.serve_kernel_port_as_iframe(server.port, path="/", width="100%", height=str(height))
    elif colab is None and secret is None and in_notebook():
        _display(
            f'<iframe title="Runs" src="{html.escape(server.url)}" style="width:100%;height:{int(height)}px;'
            'border:1px solid rgba(128,128,128,.35);border-radius:6px"></iframe>',
            server.url,
        )
        _link(server, "Open the runs in their own tab")
    elif in_notebook() or colab is not None:  # a browser does not give the token's cookie to a frame of another site
        _link(server, "Open the runs in their own tab")
    else:
        _print(f"Serving {directory} on {server.url}")
    return server


def open_tunnel(port: int, token: str | None = None) -> Tunnel:
    """Make the server on ``port`` public, through cloudflared or pyngrok, and show its address.

    Only what asks for a token is made public; the address holds it, and whoever has that address sees the runs.

    Args:
        port: of a server on this machine, as `serve_in_colab` gives it.
        token: that server's; not needed for those of `serve_in_colab`.

    Raises:
        InputError: the server lets people in without a token, or there is no tunnel to be had; the message says which.
    """
    known = next((one.token for one in _servers.values() if one.port == port), None)
    tunnel = colab_tunnel.open_tunnel(port, token or known or "")
    address = html.escape(tunnel.url)
    _display(
        f'<a href="{address}" target="_blank" rel="noreferrer">{address}</a>'
        "<p>Whoever has this address sees the runs, until <code>close()</code> or the end of this process.</p>",
        f"{tunnel.url}\nWhoever has this address sees the runs, until close() or the end of this process.",
    )
    return tunnel


@dataclass(frozen=True)
class _Way:
    """A way to share a run: what it is, where or how, and who can see it."""

    title: str
    how: str
    who: str
    address: str = ""


def display_sharing_options(dashboard: WandbDashboard | Run | Path | str) -> None:
    """Show how this run can be shared: as one file, in Weights & Biases, from this machine, through a tunnel.

    Raises:
        RecordError: there is no record, it cannot be read, or its page cannot be written.
    """
    ways = _ways(_run_dir(dashboard))
    rows = "".join(
        f'<tr><th style="text-align:left;vertical-align:top">{html.escape(one.title)}</th>'
        f'<td style="text-align:left">{_how(one)}</td><td style="text-align:left">{html.escape(one.who)}</td></tr>'
        for one in ways
    )
    text = "\n".join(f"{one.title}: {one.how}\n    {one.who}" for one in ways)
    _display(f"<table>{rows}</table>", text)


def _how(way: _Way) -> str:
    if not way.address:
        return "".join(f"<code>{html.escape(line)}</code><br>" for line in way.how.splitlines())
    return f'<a href="{html.escape(way.address)}" target="_blank" rel="noreferrer">{html.escape(way.how)}</a>'


def _ways(run_dir: Path) -> Sequence[_Way]:
    page = _page(run_dir)
    size = page.stat().st_size / 1e6
    file = _Way(
        "One file", str(page), f"Whoever you send it to; {size:.1f} MB, opens without a network.", _from_here(page)
    )
    if colab_output() is not None:
        file = replace(file, how=f"from google.colab import files; files.download({str(page)!r})", address="")
    with open_run(run_dir) as run:
        sent = [found.group(1) for line in run.log("all") if (found := _SENT.match(line.message))]
    if sent:
        wandb = _Way("Weights & Biases", sent[-1], "Whoever may see the project there.", sent[-1])
    else:
        wandb = _Way("Weights & Biases", f"plasticity sync {run_dir} --to wandb", "Not sent yet; this sends it.")
    call = f"serve_in_colab(directory={str(run_dir)!r}"
    return (
        file,
        wandb,
        _Way("On this machine", f"plasticity serve {run_dir}\n{call})", "You, live."),
        _Way(
            "A public address",
            f"server = {call}, token=True)\nopen_tunnel(server.port)",
            "Whoever has the address, live, until the tunnel is closed.",
        ),
    )


def _serve(directory: Path, port: int, token: str | None) -> LiveServer:
    """A server of this process for ``directory``; those before it on this port or for this directory end."""
    place = directory.resolve()
    for known, server in list(_servers.items()):
        if known == place or (port and server.port == port):
            server.close()
            del _servers[known]
    in_colab = colab_output() is not None
    # Colab's proxy and a tunnel come under names that cannot be known before; nobody's browser runs beside a Colab
    # kernel, and before a tunnel there is always a token.
    server = serve_in_thread(
        directory,
        port=port,
        token=token,
        hosts=("*",) if in_colab or token else (),
        frame_ancestors=_COLAB_FRAMES if in_colab else _LOCAL_FRAMES,
    )
    _servers[place] = server
    return server


def _server_of(run_dir: Path) -> LiveServer:
    """The server of this process for a run: the one there is, or a new one."""
    known = _servers.get(run_dir.resolve())
    return known if known is not None and not known.wait(0) else _serve(run_dir, 0, None)


def _link(server: LiveServer, text: str) -> None:
    colab = colab_output()
    if colab is not None:
        path = "/" if server.token is None else f"/?token={server.token}"
        colab.serve_kernel_port_as_window(server.port, path=path, anchor_text=text)
        return
    address = html.escape(server.url)
    # On a hub elsewhere the kernel's machine is not the reader's: there the address is right, but not in reach.
    _display(
        f'<a href="{address}" target="_blank" rel="noreferrer">{html.escape(text)}</a> '
        f'<span style="opacity:.75">({html.escape(server.address)}, on the machine that the kernel runs on)</span>',
        f"{text}: {server.url}",
    )


def _run_dir(shown: WandbDashboard | Run | Path | str) -> Path:
    place: Any = getattr(shown, "output_dir", None) or getattr(shown, "path", None) or shown
    if not isinstance(place, str | Path):
        raise InputError(f"expected a dashboard, a run, or a run directory, got {type(shown).__name__}.")
    return record_path(place).parent


def _page(run_dir: Path) -> Path:
    """The run's page, written as the run is now."""
    with open_run(run_dir) as run:
        return write_page(run, run_dir / PAGE_NAME).resolve()


def _from_here(page: Path) -> str:
    """A link that a notebook in the present directory can follow."""
    try:
        return Path(os.path.relpath(page)).as_posix()
    except ValueError:  # another drive
        return page.as_uri()


def _display(markup: str, text: str) -> None:
    if in_notebook():
        publish({"text/html": markup, "text/plain": text}, {})
    else:
        _print(text)


def _print(text: str) -> None:
    print(text, flush=True)  # noqa: T201 this is what the reader asked for
