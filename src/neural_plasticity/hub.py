"""Whether the Hugging Face hub answers, found out within seconds: its client's own retries take a minute."""

from __future__ import annotations

import threading

import huggingface_hub
from huggingface_hub import constants

from neural_plasticity.errors import first_line

PATIENCE_S = 5.0
"""How long the hub may take to answer at all, in seconds."""


def hub_silence() -> str | None:
    """Why the hub does not answer, after at most `PATIENCE_S` seconds; None when it answers.

    In a thread, because looking up a host name has no time limit of its own.
    """
    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    outcome: list[str | None] = []

    def ask() -> None:
        try:
            huggingface_hub.get_session().head(constants.ENDPOINT, timeout=PATIENCE_S)
            outcome.append(None)
        except Exception as error:  # whatever the client raises means the same: no answer
            outcome.append(first_line(error))

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(PATIENCE_S)
    return outcome[0] if outcome else f"no answer within {PATIENCE_S:.0f} s"
