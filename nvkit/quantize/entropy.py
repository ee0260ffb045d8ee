"""The clipping threshold that loses the least information, as TensorRT's entropy calibrator chooses it.

For every candidate threshold the histogram below it is merged into 128 levels, and the Kullback-Leibler divergence of
that from the histogram with everything above the threshold put into its last bin says what is lost. The sum over bins
falls apart into sums over levels, and those are differences of running totals, so all candidates of a tensor are
weighed in a few array operations (milliseconds) instead of a loop over bins for each.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

LEVELS = 128
_EMPTY = 0.5  # counts that a level without any is taken to hold


def entropy_threshold(counts: npt.NDArray[Any], width: float, amax: float) -> float:
    """Return the threshold on |x|, at most `amax`.

    Args:
        counts: Histogram of |x| in equal bins from 0.
        width: Width of a bin.
        amax: Largest magnitude that was counted; the answer where the values fill fewer than 128 bins.
    """
    filled = np.flatnonzero(counts)
    used = int(filled[-1]) + 1 if filled.size else 0
    if used <= LEVELS:
        return amax
    count = counts[:used].astype(np.float64)
    # The first bin holds the zeros that ReLU makes. Every scale represents them exactly, and in such numbers they
    # would hide what happens to the other values, so it is made to look like its neighbour.
    count[0] = count[1]

    ends = np.arange(LEVELS, used + 1)  # candidate i keeps the bins [0, i)
    edges = (np.arange(LEVELS + 1) * ends[:, None]) // LEVELS
    total = count.sum()
    mass = _running(count)
    occupied = _running(count > 0)
    self_information = _running(_xlogx(count))

    last = count[ends - 1]
    clipped = last + (total - mass[ends])  # the last bin of the reference, with the outliers
    level_mass = np.diff(mass[edges], axis=1)
    level_bins = np.diff(occupied[edges], axis=1)
    level_bins[:, -1] += (last == 0) & (clipped > 0)
    reference_mass = level_mass.copy()
    reference_mass[:, -1] += clipped - last
    # Outliers before which there is a gap would make the divergence infinite, and so could never be clipped.
    level_mass[:, -1] = np.maximum(level_mass[:, -1], _EMPTY * (clipped > 0))

    with np.errstate(divide="ignore", invalid="ignore"):
        log_level = np.log(level_mass / (level_bins * mass[ends][:, None]))
        cross = np.where(reference_mass > 0, reference_mass * log_level, 0.0).sum(axis=1)
    own = self_information[ends - 1] + _xlogx(clipped) - total * np.log(total)
    divergence = np.where(np.isfinite(cross), own - cross, np.inf)
    if not np.isfinite(divergence).any():
        return amax
    return min(amax, float(ends[np.argmin(divergence)] * width))


def _running(values: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    return np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])


def _xlogx(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return values * np.log(np.where(values > 0, values, 1.0))
