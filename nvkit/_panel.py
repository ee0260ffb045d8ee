"""The panel of the start notebook: runs `nvkit run` in a child process and shows its stages and its log."""

from __future__ import annotations

import html
import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import ipywidgets as widgets

from nvkit._callbacks import guarded
from nvkit.notebooks import STAGES

_COLOURS = {"pending": "#8a8a8a", "running": "#1668b8", "done": "#1b7f3b", "failed": "#b00020", "cancelled": "#8a4b00"}
_LOG_LINES = 500
# A column filled from its end stays scrolled to its end.
_LOG_LAYOUT = widgets.Layout(max_height="360px", overflow="auto", display="flex", flex_flow="column-reverse")
_INTERRUPTED = 130  # exit code of `nvkit`
# A notebook kernel ignores SIGINT between cells, and a child inherits that: Cancel would do nothing.
_CHILD = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from nvkit.__main__ import main; main()"
)
_STAGE_LINE = re.compile(r"\[\d+/\d+\] (\w+): (.*)")
_BAR_LINE = re.compile(r" \[[\d:]+[<,].*\]$")  # tqdm's elapsed time and rate


class Panel:
    """Run and Cancel buttons, a strip of stages, and a log.

    Args:
        command: Returns the words after `nvkit`; called when Run is pressed.

    Attributes:
        widget: What to display.
        states: Stage to pending, running, done, failed or cancelled.
    """

    def __init__(self, command: Callable[[], list[str]]) -> None:
        self._command = command
        self._child: subprocess.Popen[str] | None = None
        self._started = 0.0
        self.states = {stage: "pending" for stage, _ in STAGES}
        self.run = widgets.Button(description="Run", button_style="primary", icon="play")
        self.cancel = widgets.Button(description="Cancel", icon="stop", disabled=True)
        self.strip, self.error, self.log = widgets.HTML(), widgets.HTML(), widgets.HTML(layout=_LOG_LAYOUT)
        self._lines: deque[str] = deque(maxlen=_LOG_LINES)
        self.run.on_click(guarded(self._start, self.error))
        self.cancel.on_click(guarded(self._interrupt, self.error))
        self._show_strip()
        self.widget = widgets.VBox([widgets.HBox([self.run, self.cancel]), self.strip, self.error, self.log])

    def _start(self, button: Any) -> None:
        command = self._command()
        self.states = dict.fromkeys(self.states, "pending")
        self.error.value = ""
        self._lines.clear()
        self._started = time.monotonic()
        self._show_line(f"$ {shlex.join(['nvkit', *command])}")
        # In the kernel's process group, so that closing the notebook ends the run too.
        self._child = subprocess.Popen(
            [sys.executable, "-c", _CHILD, *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        self.run.disabled, self.cancel.disabled = True, False
        threading.Thread(target=guarded(self._follow, self.error), args=(self._child,), daemon=True).start()

    def _follow(self, child: subprocess.Popen[str]) -> None:
        assert child.stdout is not None
        with child.stdout:
            for line in child.stdout:
                self._show_line(line.rstrip())
                if found := _STAGE_LINE.match(line):
                    self.states[found[1]] = "running" if found[2].endswith(".ipynb") else "done"
                self._show_strip()
        code = child.wait()
        end = {0: "done", _INTERRUPTED: "cancelled"}.get(code, "failed")
        self.states = {stage: end if state == "running" else state for stage, state in self.states.items()}
        self._show_strip(f"failed with exit code {code}, see the log" if end == "failed" else end)
        self.run.disabled, self.cancel.disabled = False, True

    def _interrupt(self, button: Any) -> None:
        if self._child and self._child.poll() is None:
            self._child.send_signal(signal.SIGINT)
            self.cancel.disabled = True
            self._show_line("Cancelling: the test stops, and what was finished is kept.")

    def _show_line(self, line: str) -> None:
        if self._lines and _BAR_LINE.search(self._lines[-1]):
            self._lines.pop()  # the next line takes a progress bar's place
        self._lines.append(line)
        # Not an Output widget: it does not scroll with its last line, and keeps all that was ever written.
        self.log.value = f"<pre style='margin:0;line-height:1.3'>{html.escape(chr(10).join(self._lines))}</pre>"

    def _show_strip(self, words: str = "") -> None:
        stages = " &rarr; ".join(
            f"<span style='color:{_COLOURS[state]}'><b>{stage}</b> {state}</span>"
            for stage, state in self.states.items()
        )
        elapsed = f" &nbsp; {time.monotonic() - self._started:.0f} s {words}" if self._started else ""
        self.strip.value = f"<div>{stages}{elapsed}</div>"
