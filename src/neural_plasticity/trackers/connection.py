"""Whether Weights & Biases can be reached, found out in bounded time; when not, offline, and one line that says why.

wandb itself waits 90 s for a server that does not answer, and asks for a key at the terminal.
"""

from __future__ import annotations

import contextlib
import os
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any, Literal

from neural_plasticity.errors import ConfigError
from neural_plasticity.trackers.background import Say
from neural_plasticity.trackers.packages import installed

Mode = Literal["online", "offline", "disabled"]
# The last two are wandb's own older names in WANDB_MODE.
_MODES: Mapping[str, Mode] = {
    "online": "online", "offline": "offline", "disabled": "disabled", "": "offline", "run": "online",
    "dryrun": "offline",
}  # fmt: skip
PROBE_SECONDS = 10.0
INIT_SECONDS = 30.0
GET_WANDB = 'pip install "neural-plasticity[wandb]"'


def wandb_installed() -> bool:
    """Whether wandb can be imported."""
    return installed("wandb")


def chosen_mode(mode: str | None, environment: Mapping[str, str] = os.environ) -> Mode:
    """``mode``, else ``WANDB_MODE``, else offline.

    Raises:
        ConfigError: none of online, offline and disabled.
    """
    given = environment.get("WANDB_MODE", "") if mode is None else mode
    found = _MODES.get(given.strip().lower())
    if found is None:
        name = "WANDB_MODE" if mode is None else "mode"
        raise ConfigError(f"{name}: expected online, offline or disabled, got {given!r}.")
    return found


def init_run(mode: Mode, say: Say, log_in: bool = True, finish_seconds: float = 0.0, **arguments: Any) -> Any:
    """A wandb run in this mode, or offline when online cannot be had, which is then said.

    ``finish_seconds`` bounds the last upload, at ``finish()`` and when the process exits (0: no bound). At most
    ``PROBE_SECONDS`` + ``INIT_SECONDS`` (and wandb's own few seconds of grace) pass before the run goes on offline.
    """
    import wandb

    settings = wandb.Settings(
        silent=True,
        console="off",  # the console view draws over its own lines; the log is in the record and on the page
        init_timeout=INIT_SECONDS,
        finish_timeout=finish_seconds,
        x_transaction_log_flush_interval=1,  # else a killed process loses its last 15 s offline
    )
    arguments |= {"settings": settings, "reinit": "create_new"}
    why_not = _obstacle(log_in) if mode == "online" else ""
    if mode == "online" and not why_not:
        try:
            return wandb.init(mode="online", **arguments)
        except Exception as error:  # wandb's own, the network's, and whatever else a server can provoke
            why_not = one_line(error)
    if why_not:
        say(f"Weights & Biases: {why_not}. Offline instead; the run goes on.")
        mode = "offline"
    return wandb.init(mode=mode, **arguments)


def _obstacle(log_in: bool) -> str:
    """Why online is impossible; empty when nothing is known to be in the way."""
    import wandb

    if not has_key(log_in):
        return "no API key (WANDB_API_KEY, or once: wandb login)"
    server = wandb.setup().settings.base_url
    return unreachable(server, PROBE_SECONDS)


def has_key(log_in: bool = True) -> bool:
    """Whether wandb has a key; with ``log_in`` also one in the environment or in ``.netrc``. Never asks for one."""
    import wandb

    if log_in and os.environ.get("WANDB_API_KEY"):  # login() does not look where WANDB_MODE says offline
        return True
    with contextlib.suppress(Exception):
        if wandb.setup().settings.api_key:
            return True
        return log_in and bool(wandb.login(prompt=False, verify=False))
    return False


def unreachable(server: str, seconds: float) -> str:
    """Why ``server`` (a URL) does not answer within ``seconds`` per network operation; empty when it answers."""
    try:
        # Proxies of the environment count, as they do for wandb. Any answer is one, whatever its status.
        with urllib.request.urlopen(f"{server}/healthz", timeout=seconds):
            return ""
    except urllib.error.HTTPError:
        return ""
    except urllib.error.URLError as error:
        if isinstance(error.reason, ssl.SSLError):
            return ""  # somebody answers; whether to trust the certificate is for wandb's own settings
        return f"{server} cannot be reached ({error.reason})"
    except (OSError, ValueError) as error:
        return f"{server} does not answer ({one_line(error)})"


def one_line(error: BaseException) -> str:
    """What happened: the kind of error and the first line of what it says."""
    lines = str(error).strip().splitlines()
    said = lines[0].strip().rstrip(".") if lines else ""
    return f"{type(error).__name__}: {said}" if said and said != "<no message>" else type(error).__name__
