"""Numbers as people read them: the one place where losses, sizes, times and intervals become text.

Minus is the true minus sign, missing values are an en dash, NaN and infinities are said and never hidden.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable

from neural_plasticity.heads import HeadId

MISSING = "–"
MINUS = "−"


def _special(value: float | None) -> str:
    """Text of a value that has no digits."""
    if value is None:
        return MISSING
    if math.isnan(value):
        return "NaN"
    return "∞" if value > 0 else f"{MINUS}∞"


def plain(value: float | None, digits: int = 3) -> str:
    """Fixed digits, thousands separated: ``1.842``, ``12,345.0``; scientific from a million on."""
    if value is None or not math.isfinite(value):
        return _special(value)
    text = f"{value:.2e}" if abs(value) >= 1e6 else f"{value:,.{digits}f}"
    if float(text.replace(",", "")) == 0:
        text = text.lstrip("-")  # "-0.000" says a sign that the shown digits do not have
    return text.replace("-", MINUS)


def significant(value: float | None, digits: int = 3) -> str:
    """So many significant digits: ``0.00123``, ``12.3``, ``1.2e−07``."""
    if value is None or not math.isfinite(value):
        return _special(value)
    if value and abs(value) < 1e-4:
        return f"{value:.{max(digits - 1, 0)}e}".replace("-", MINUS)
    if abs(value) >= 1e6:
        return plain(value)
    rounded = abs(float(f"{value:.{digits - 1}e}"))  # 0.9996 is written as 1.00: one digit fewer behind the point
    magnitude = math.floor(math.log10(rounded)) if rounded else 0
    return plain(value, max(digits - 1 - magnitude, 0))


def signed(value: float | None, digits: int = 3) -> str:
    """As `plain`, with the sign always there: ``+0.019``."""
    text = plain(value, digits)
    return f"+{text}" if value is not None and value >= 0 and not math.isnan(value) else text


def perplexity(value: float | None) -> str:
    """Perplexity, with digits that fit its size: ``6.31``, ``481.2``, ``50,257``."""
    if value is None or not math.isfinite(value):
        return _special(value)
    return plain(value, 2 if value < 100 else 1 if value < 1000 else 0)


def percent(fraction: float | None, digits: int = 0) -> str:
    """A fraction as per cent: ``35 %``."""
    if fraction is None or not math.isfinite(fraction):
        return _special(fraction)
    return f"{plain(100 * fraction, digits)} %"


def change(fraction: float | None, digits: int = 1) -> str:
    """A relative change as signed per cent: ``+3.1 %``, ``−9.0 %``."""
    if fraction is None or not math.isfinite(fraction):
        return _special(fraction)
    return f"{signed(100 * fraction, digits)} %"


def between(low: float | None, high: float | None, digits: int = 3, sign: bool = False) -> str:
    """An interval: ``1.801–1.885``, or with signs ``−0.006 to +0.013``; empty when there is none."""
    if low is None or high is None:
        return ""
    if sign or low < 0:  # a dash next to a minus cannot be read
        write = signed if sign else plain
        return f"{write(low, digits)} to {write(high, digits)}"
    return f"{plain(low, digits)}–{plain(high, digits)}"


def ratio(value: float | None) -> str:
    """A factor: ``1.31×``."""
    return f"{plain(value, 2)}×"


def scaled(value: float | None, unit: str = "") -> str:
    """Three digits with a decimal prefix: ``3.15 M``, ``12.6 MB`` (unit ``B``), ``8,192`` up to 9,999."""
    if value is None or not math.isfinite(value):
        return _special(value)
    if abs(value) < 10_000:
        return f"{plain(value, 0)} {unit}".rstrip()
    for power, prefix in ((12, "T"), (9, "G"), (6, "M"), (3, "k")):
        if abs(value) >= 0.9995 * 10**power:
            return f"{significant(value / 10**power)} {prefix}{unit}"
    raise AssertionError("10,000 and more always has a prefix")


def duration(seconds: float | None) -> str:
    """Time in the two units that matter: ``45 s``, ``2 min 10 s``, ``1 h 05 min``, ``3 d 4 h``."""
    if seconds is None or not math.isfinite(seconds):
        return _special(seconds)
    if 0 < seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = max(round(seconds), 0)
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def clock(seconds: float) -> str:
    """Elapsed time for a log's margin: ``0:41``, ``12:03``, ``1:02:07``."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def plural(count: int, noun: str) -> str:
    """``1 head``, ``2,000 heads``."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def head_list(heads: Iterable[HeadId], most: int = 24) -> str:
    """Heads by name in reading order, the rest as a count: ``L0H3, L1H2 and 5 more``."""
    names = [str(HeadId(*head)) for head in sorted(heads)]
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most:,} more"


def clean(text: str) -> str:
    """Text from outside on one line, safe to print: newlines become ``↵``, other control characters become visible.

    Escape sequences in a prompt, and marks that reorder what follows, would otherwise take over the terminal.
    """
    return visible(text).replace("\n", "↵").replace("\t", " ")


def visible(text: str) -> str:
    """As `clean`, with line breaks and tabs kept: for places that show several lines."""
    if text.isprintable():
        return text
    return _UNUSUAL.sub(_visible, text.replace("\r\n", "\n"))


_UNUSUAL = re.compile(r"[^\n\t -~]")  # everything else is looked at one by one, in Python


def _visible(found: re.Match[str]) -> str:
    char = found[0]
    if char.isprintable():
        return char
    category = unicodedata.category(char)
    if category == "Cc":
        code = ord(char)
        return chr(0x2400 + code) if code < 0x20 else "\u2421" if code == 0x7F else "\ufffd"
    # Unpaired surrogates cannot be encoded; bidirectional controls reorder the line; separators break it.
    return "\ufffd" if category in {"Cs", "Zl", "Zp"} or char in _BIDI else char


_BIDI = frozenset("\u200e\u200f\u061c\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def shorten(text: str, most: int) -> str:
    """At most ``most`` characters, the cut marked."""
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"
