"""Shows what notebook cells print while they run."""

from __future__ import annotations

import sys
import time
from typing import TextIO

_BAR_S = 5.0
_ERASE_LINE = "\r\x1b[K"


class Echo:
    """Passes what cells print on to stderr; `stdout` and `stderr` are the text files that papermill writes to.

    A terminal gets the characters as they come, so that progress bars move. A file or pipe gets whole lines, and of
    a progress bar one line every few seconds.
    """

    def __init__(self, target: TextIO | None = None) -> None:
        self._target = target or sys.stderr
        self._terminal = self._target.isatty()
        self._bar_shown = time.monotonic()
        self.stdout = _Stream(self)
        self.stderr = _Stream(self)

    def close(self) -> None:
        """End unfinished lines, and erase the bar of a cell that failed; the target stays open."""
        for stream in (self.stdout, self.stderr):
            bar = "\r" in stream.line
            if self._terminal and stream.line:
                self._target.write(_ERASE_LINE if bar else "\n")
            elif stream.line and not bar:
                self._show(stream.line)
            stream.line = ""
        self._target.flush()

    def take(self, stream: _Stream, text: str) -> None:
        """Take a piece of a cell's output in one of the streams."""
        # The two streams arrive in turns: what is printed must not land behind the bar that stands there.
        other = self.stderr if stream is self.stdout else self.stdout
        if self._terminal and "\r" in other.line:
            self._target.write(_ERASE_LINE)
            other.line = ""
        *lines, stream.line = (stream.line + text).split("\n")
        if self._terminal:
            self._target.write(text)
            return
        for line in lines:
            self._show(line)
        if "\r" in stream.line and time.monotonic() - self._bar_shown >= _BAR_S:
            self._bar_shown = time.monotonic()
            self._show(stream.line)

    def flush(self) -> None:
        """Flush the target."""
        self._target.flush()

    def _show(self, line: str) -> None:
        shown = line.rstrip("\r").rpartition("\r")[2].rstrip()
        if shown or not line:  # an empty line is meant; what a finished bar leaves is not
            self._target.write(shown + "\n")


class _Stream:
    """One of the two streams; `line` is what has come since the last line end."""

    def __init__(self, echo: Echo) -> None:
        self._echo = echo
        self.line = ""

    def write(self, text: str) -> None:
        self._echo.take(self, text)

    def flush(self) -> None:
        self._echo.flush()
