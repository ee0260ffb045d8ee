"""Shows what notebook cells print while they run."""

from __future__ import annotations

import sys
import time
from typing import TextIO

_BAR_S = 5.0


class Echo:
    """The text file that papermill writes the streams of cells to; passes them on to stderr.

    A terminal gets the characters as they come, so that progress bars move. A file or pipe gets whole lines, and of
    a progress bar one line every few seconds.
    """

    def __init__(self, target: TextIO | None = None) -> None:
        self._target = target or sys.stderr
        self._terminal = self._target.isatty()
        self._line = ""
        self._bar_shown = time.monotonic()

    def write(self, text: str) -> None:
        """Take a piece of a cell's output."""
        if self._terminal:
            self._target.write(text)
            return
        *lines, self._line = (self._line + text).split("\n")
        for line in lines:
            self._show(line)
        if "\r" in self._line and time.monotonic() - self._bar_shown >= _BAR_S:
            self._bar_shown = time.monotonic()
            self._show(self._line)

    def flush(self) -> None:
        """Flush the target."""
        self._target.flush()

    def close(self) -> None:
        """Show an unfinished last line; the target stays open."""
        if self._line.strip():
            self._show(self._line)
        self._line = ""
        self.flush()

    def _show(self, line: str) -> None:
        shown = line.rstrip("\r").rpartition("\r")[2].rstrip()
        if shown or not line:  # an empty line is meant; what a finished bar leaves is not
            self._target.write(shown + "\n")
