"""When a loss curve is called stable: the slope's whole confidence interval lies inside a stated tolerance.

How often, asked after every one of 400 steps with the defaults (60 simulated runs each; ``spread`` is the standard
deviation of a batch's loss over the loss; tests/unit/test_stabilisation.py repeats part of it):

    spread  autocorrelation   flat: share, median step   falling at 1 × / 1.5 × / 2 × the tolerance per 40 steps
     2 %         0                 100 %, 40                        32 % / 0 % / 0 %
     5 %         0                 100 %, 122                        3 % / 0 % / 0 %
     8 %         0                  95 %, 280                        0 % / 0 % / 0 %
     5 %         0.5                70 %, 261                        5 % / 0 % / 2 %

Noise decides how long it takes: small batches of mixed text (a spread of 7 % for 8 × 256 tokens of source code) need
about 250 steps at a tolerance of 5 %, about 50 at 10 %.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

MIN_WINDOW = 40  # steps; below this the noise of single batches decides, and the autocorrelation is a guess
TOLERANCE = 0.05  # of the loss, over the window


@dataclass(frozen=True)
class Stability:
    """Why a curve was called stable; slopes and tolerance in loss per step. The fields are ``events.Stabilised``'s."""

    slope: float
    slope_low: float
    slope_high: float
    tolerance: float
    window: int
    loss: float
    reason: str


def stabilisation(
    losses: Sequence[float] | npt.NDArray[np.float64],
    *,
    window: int | None = None,
    tolerance: float = TOLERANCE,
    confidence: float = 0.95,
) -> Stability | None:
    """Whether the curve so far is stable: the loss changes by less than ``tolerance`` of itself over the window.

    The slope is least squares over the last ``window`` steps. Its interval uses the effective sample size
    n_e = n (1 − r) / (1 + r), with r the lag-1 autocorrelation of the residuals, both in the residual variance and in
    the degrees of freedom (Santer et al. 2000, J. Geophys. Res. 105, 7337–7356, doi:10.1029/1999JD901105). r is
    corrected for its bias after removing a trend, −(2 + 4 r) / n (Marriott and Pope 1954, Biometrika 41, 390–402),
    and never taken below 0, so the interval is never narrower than for independent noise.

    "The interval contains zero" would be no evidence: on a noisy curve it does so at once, whatever the trend.
    Here noise widens the interval and so delays the verdict.

    Args:
        losses: one per step, from the start of the phase.
        window: steps looked at; None: the latest half of the curve, at least 40 steps, so that a steep beginning is
            left behind and the evidence grows with the curve.
        tolerance: largest relative change of the loss over the window.
        confidence: of the slope's interval.

    Returns:
        None while the curve is too short, falls or rises, is too noisy to tell, or has NaN or infinity in the window.
    """
    n = max(MIN_WINDOW, len(losses) // 2) if window is None else window
    if n < 4:
        raise ValueError(f"window {n}: expected at least 4 steps.")
    if len(losses) < n:
        return None
    y = np.asarray(losses[-n:], dtype=np.float64)
    if not np.isfinite(y).all():
        return None
    level = float(y.mean())
    allowed = tolerance * abs(level) / n
    interval = slope_interval(y, confidence)
    if interval is None:
        return None
    slope, low, high = interval
    if not -allowed <= low <= high <= allowed:
        return None
    per_window = 100 * n / abs(level) if level else 0.0
    reason = (
        f"over the last {n} steps the loss {level:.4g} changes by {slope * per_window:+.2f} % "
        f"({confidence:.0%} interval {low * per_window:+.2f} to {high * per_window:+.2f} %), "
        f"inside ± {100 * tolerance:g} %"
    )
    return Stability(slope, low, high, allowed, n, level, reason)


def slope_interval(y: npt.NDArray[np.float64], confidence: float = 0.95) -> tuple[float, float, float] | None:
    """Least-squares slope per step with its interval, for residuals that are an AR(1) process; see ``stabilisation``.

    None when so few independent values remain that there is no interval.
    """
    n = len(y)
    t = np.arange(n) - (n - 1) / 2
    spread = float(t @ t)
    slope = float(t @ y) / spread
    residual = y - y.mean() - slope * t
    squares = float(residual @ residual)
    if squares <= (1e-12 * n * max(1.0, float(np.abs(y).max()))) ** 2:
        return slope, slope, slope  # a straight line, up to rounding
    r = float(residual[1:] @ residual[:-1]) / squares
    r = min(max(0.0, (n * r + 2) / (n - 4) if n > 4 else r), 0.999)
    independent = n * (1 - r) / (1 + r)
    if independent <= 3:
        return None
    error = (squares / (independent - 2) / spread) ** 0.5
    from scipy.special import stdtrit  # takes a second, which only a curve with a verdict is worth

    half = float(stdtrit(independent - 2, 0.5 + confidence / 2)) * error
    return slope, slope - half, slope + half
