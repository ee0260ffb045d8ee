"""Search for the highest rate at which a Server test is valid."""

from __future__ import annotations

import math
from collections.abc import Callable

_STEP = 1.5
_LEAST = 1.0
_HOPELESS = 1 / 50  # of the rate that short tests bear: what then fails has another reason


class RateSearch:
    """Widens a bracket of a valid and an invalid rate, then halves it, one test at a time.

    The caller runs a test at `rate` and tells `record` how it went, until `rate` is None. So several searches can
    take turns on one machine. One disturbance must not cost a rate: it counts as invalid only when `attempts` tests
    of it were.

    Args:
        first: Rate of the first test, queries/s.
        precision: The search ends when invalid / valid is at most this.
        attempts: Tests of a rate at most.
        least: The search gives up below this rate, queries/s.
        most: No test has a higher rate than this, queries/s.

    Attributes:
        best: Figure of the valid test with the highest rate; 0.0 if none was valid.
        valid_rate: That rate, queries/s; None if none was valid.
    """

    def __init__(
        self,
        first: float,
        precision: float = 1.05,
        attempts: int = 2,
        least: float = _LEAST,
        most: float = math.inf,
    ) -> None:
        self._first = min(first, most)
        self._precision = precision
        self._attempts = attempts
        self._least = least
        self._most = most
        self._invalid: float | None = None
        self._failures = 0
        self.valid_rate: float | None = None
        self.best = 0.0

    @property
    def rate(self) -> float | None:
        """Rate of the next test, queries/s, or None when the search is over."""
        valid, invalid = self.valid_rate, self._invalid
        if valid is None and invalid is None:
            return self._first
        if valid is None:
            assert invalid is not None
            lower = invalid / _STEP
            return lower if lower >= self._least else None
        if invalid is None:
            return min(valid * _STEP, self._most) if valid < self._most else None
        if invalid / valid <= self._precision:
            return None
        return math.sqrt(valid * invalid)

    @property
    def unlimited(self) -> bool:
        """Whether even the highest rate allowed is valid, so that the system's own limit lies beyond."""
        return self.valid_rate is not None and self.valid_rate >= self._most

    def record(self, valid: bool, figure: float) -> None:
        """Take in how the test at `rate` went.

        Args:
            valid: Whether LoadGen called it valid.
            figure: What the test measured, queries/s.
        """
        rate = self.rate
        assert rate is not None, "the search is over"
        if valid:
            self.valid_rate, self.best, self._failures = rate, figure, 0
            return
        self._failures += 1
        if self._failures == self._attempts:
            self._invalid, self._failures = rate, 0


def confirm(rate: float, tolerance: float, valid: Callable[[float], bool]) -> float | None:
    """Return the highest rate found, at most `rate`, that is valid in tests of full length; None if none is.

    The steps down double until they halve the rate, so that a rate that a long test does not bear costs few of them;
    what a wide step passed over is then halved.

    Args:
        rate: Where to begin, queries/s.
        tolerance: The first step down, as a share of `rate`; a step of twice that is not halved.
        valid: Runs a test at a rate and says whether it was valid.
    """
    share, failed = 1.0, 1.0
    while not valid(rate * share):
        share, failed = max(2 * share - 1.0 - tolerance, share / 2), share
        if share < _HOPELESS:
            return None
    while failed - share > 2.01 * tolerance:
        middle = (failed + share) / 2
        if valid(rate * middle):
            share = middle
        else:
            failed = middle
    return rate * share
