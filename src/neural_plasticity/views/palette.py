"""The product's colours, defined once: phases, head states, importance. Every renderer reads them from here.

Phases use the Okabe-Ito set, which stays apart for all common kinds of colour blindness; a colour never stands alone,
a label or a pattern always says the same thing. Importance uses cividis (Nuñez, Anderton and Renslow 2018), which looks
alike with and without colour vision and is ordered in lightness, so that it survives printing in grey.
"""

from __future__ import annotations

from types import MappingProxyType

from neural_plasticity.events import Phase

PHASE_COLOURS = MappingProxyType(
    {
        "warmup": "#E69F00",
        "analysis": "#56B4E9",
        "pruning": "#D55E00",
        "fine-tuning": "#009E73",
        "growth": "#F0E442",
        "evaluation": "#CC79A7",
    }
)
PHASE_LABELS = MappingProxyType({"warmup": "warm-up"})
OTHER_PHASE = "#8C8C8C"

PRUNED = "#9A9A9A"
REGROWN = "#D55E00"
ADDED = "#0072B2"

INK, MUTED, FAINT = "#1A1A1A", "#5F5F5F", "#DADADA"
WARNING = "#B00020"  # NaN, and what went wrong

# Models and metrics that are drawn together; each also has a line style or a hatch of its own.
BASELINE, MEASURED, CONTROL = "#4D4D4D", "#0072B2", "#E69F00"
MODEL_COLOURS = MappingProxyType({"baseline": BASELINE, "current": "#56B4E9", "pruned": MEASURED, "control": CONTROL})
MODEL_HATCHES = MappingProxyType({"baseline": "", "current": "...", "pruned": "///", "control": "xxx"})
MARK_COLOURS = MappingProxyType(
    {"pruned": "#B34700", "regrown": "#00664B", "added": ADDED, "restored": "#8A1C5A", "stable": "#6A3D9A"}
)

# Matplotlib's and ECharts' names of the scales: ordered in lightness; differences are centred at 0.
IMPORTANCE_SCALE, ATTENTION_SCALE, DIFFERENCE_SCALE = "cividis", "Blues", "RdBu_r"

# Cividis at nine even steps, from low to high.
CIVIDIS = ("#00224E", "#123570", "#3B496C", "#575D6D", "#707173", "#8A8678", "#A59C74", "#C3B369", "#E1CC55")


def phase_colour(phase: Phase) -> str:
    """Hex colour of a phase; a phase of the user's own is grey."""
    return PHASE_COLOURS.get(phase, OTHER_PHASE)


def phase_label(phase: Phase) -> str:
    """How a phase is written for people."""
    return PHASE_LABELS.get(phase, phase) or "start"


def importance_colour(fraction: float) -> str:
    """Cividis colour of a position between 0 (least) and 1 (most); values outside are clipped."""
    position = min(max(fraction, 0.0), 1.0) * (len(CIVIDIS) - 1)
    lower = min(int(position), len(CIVIDIS) - 2)
    share = position - lower
    low, high = CIVIDIS[lower], CIVIDIS[lower + 1]
    mixed = (
        round(int(low[i : i + 2], 16) * (1 - share) + int(high[i : i + 2], 16) * share) for i in (1, 3, 5)
    )  # the red, green and blue pairs of #RRGGBB
    return "#" + "".join(f"{channel:02X}" for channel in mixed)


def ink_on(colour: str) -> str:
    """Black or white, whichever reads better on ``colour`` (WCAG relative luminance)."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return "#000000" if 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.179 else "#FFFFFF"
