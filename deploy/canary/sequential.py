"""Sequential test of two proportions, which may be looked at after every block of data.

For every block of observations of two versions, a bet is placed that the versions differ by more than a
tolerance. The product of the bets is an e-process: if the difference is within the tolerance, the probability
that it ever reaches 1/alpha is at most alpha (Ville's inequality), however often somebody looks and whenever
they stop. The proportions may change from block to block, as they do in real traffic; only their difference
must stay within the tolerance.

Source: R. Turner, A. Ly, P. Grünwald, "Generic E-variables for exact sequential k-sample tests that allow
for optional stopping" (2024), and R. Turner, P. Grünwald, "Exact anytime-valid confidence intervals for
contingency tables and beyond" (2023). Confidence sequences: S. Howard, A. Ramdas, J. McAuliffe, J. Sekhon,
"Time-uniform, nonparametric, nonasymptotic confidence sequences" (2021).
"""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_STEPS = 40  # of the bisection, to 1e-12
_EDGE = 1e-12
_SHRINKAGE = 2.0  # observations that the first guess counts as much as


def log_e_values(trials: Array, events: Array, tolerance: Array) -> Array:
    """Return the logarithm of the e-process after each block, against a difference within the tolerance.

    The difference is the second version's proportion minus the first one's.

    Args:
        trials: observations in each block [2, blocks], of both versions.
        events: how many of them were events [2, blocks].
        tolerance: any shape, from -1 to 1.

    Returns:
        Array of the tolerance's shape plus [blocks].
    """
    guess1, guess2 = _guesses(trials, events)
    delta = np.asarray(tolerance, np.float64)[..., None]
    null1, null2 = _nearest(guess1, guess2, trials[0], trials[1], delta)
    bet = np.zeros(np.broadcast_shapes(delta.shape, guess1.shape))
    for guess, null, count, total in (
        (guess1, null1, events[0], trials[0]),
        (guess2, null2, events[1], trials[1]),
    ):
        bet += count * np.log(guess / null) + (total - count) * np.log((1 - guess) / (1 - null))
    return np.cumsum(np.where(guess2 - guess1 > delta, bet, 0.0), axis=-1)


def lower_bound(trials: Array, events: Array, alpha: float, grid: Array) -> float:
    """Return the highest value of an ascending grid that the difference exceeds; -1 if it may be any.

    This is a confidence sequence: the probability that it ever exceeds the difference is at most alpha.
    """
    if not trials.size:
        return -1.0
    rejected = log_e_values(trials, events, grid).max(axis=-1) >= -np.log(alpha)
    count = len(grid) if rejected.all() else int(np.argmin(rejected))
    return float(grid[count - 1]) if count else -1.0


def _guesses(trials: Array, events: Array) -> tuple[Array, Array]:
    """Return estimates of both proportions for each block, from the blocks before it alone.

    They are shrunk: the first one to the common proportion, the second one to the first one, so that nothing
    is bet before there is data.
    """
    n1, n2 = np.cumsum(trials, axis=1) - trials
    k1, k2 = np.cumsum(events, axis=1) - events
    common = (k1 + k2 + 0.5) / (n1 + n2 + 1)
    guess1 = (k1 + _SHRINKAGE * common) / (n1 + _SHRINKAGE)
    guess2 = (k2 + _SHRINKAGE * guess1) / (n2 + _SHRINKAGE)
    return guess1, guess2


def _nearest(guess1: Array, guess2: Array, n1: Array, n2: Array, delta: Array) -> tuple[Array, Array]:
    """Return the proportions that differ by delta and are nearest to the guesses.

    Nearest means the least Kullback-Leibler divergence of a block. The bet's expected value is at most 1 for
    all proportions within the tolerance because they are a convex set: log(1 + x) <= x, and at the nearest
    point the divergence falls in no direction that leads into the set.
    """
    shape = np.broadcast_shapes(delta.shape, guess1.shape)
    low = np.broadcast_to(np.maximum(0.0, -delta) + _EDGE, shape)
    high = np.broadcast_to(np.minimum(1.0, 1.0 - delta) - _EDGE, shape)
    for _ in range(_STEPS):
        null1 = (low + high) / 2
        null2 = null1 + delta
        slope = n1 * (null1 - guess1) / (null1 * (1 - null1)) + n2 * (null2 - guess2) / (null2 * (1 - null2))
        low, high = np.where(slope < 0, null1, low), np.where(slope < 0, high, null1)
    null1 = (low + high) / 2
    return np.clip(null1, _EDGE, 1 - _EDGE), np.clip(null1 + delta, _EDGE, 1 - _EDGE)
