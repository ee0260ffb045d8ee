"""Search for the highest rate at which a Server test is valid."""

from __future__ import annotations

import math

_STEP = 1.5
_LEAST = 1.0


class RateSearch:
    """Widens a bracket of a valid and an invalid rate, then halves it, one test at a time.

    The caller runs a test at `rate` and tells `record` how it went, until `rate` is None. So several searches can
    take turns on one machine. One disturbance must not cost a rate: it counts as invalid only when `attempts` tests
    of it were.

    Args:
        first: Rate of the first test, queries/s.
        precision: The search ends when invalid / valid is at most this.
        attempts: Tests of a rate at most.

    Attributes:
        best: Figure of the valid test with the highest rate; 0.0 if none was valid.
    """

    def __init__(self, first: float, precision: float = 1.05, attempts: int = 2) -> None:
        self._first = first
        self._precision = precision
        self._attempts = attempts
        self._valid: float | None = None
        self._invalid: float | None = None
        self._failures = 0
        self.best = 0.0

    @property
    def rate(self) -> float | None:
        """Rate of the next test, queries/s, or None when the search is over."""
        if self._valid is None and self._invalid is None:
            return self._first
        if self._valid is None:
            assert self._invalid is not None
            lower = self._invalid / _STEP
            return lower if lower >= _LEAST else None
        if self._invalid is None:
            return self._valid * _STEP
        if self._invalid / self._valid <= self._precision:
            return None
        return math.sqrt(self._valid * self._invalid)

    def record(self, valid: bool, figure: float) -> None:
        """Take in how the test at `rate` went.

        Args:
            valid: Whether LoadGen called it valid.
            figure: What the test measured, queries/s.
        """
        rate = self.rate
        assert rate is not None, "the search is over"
        if valid:
            self._valid, self.best, self._failures = rate, figure, 0
            return
        self._failures += 1
        if self._failures == self._attempts:
            self._invalid, self._failures = rate, 0
