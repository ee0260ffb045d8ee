"""The panel of the start notebook: runs `nvkit run` in a child process and shows its stages and its log."""

from __future__ import annotations

import re
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import ipywidgets as widgets

from nvkit._callbacks import guarded
from nvkit.notebooks import STAGES

_COLOURS = {"pending": "#8a8a8a", "running": "#1668b8", "done": "#1b7f3b", "failed": "#b00020", "cancelled": "#8a4b00"}
_INTERRUPTED = 130  # exit code of `nvkit`
# A notebook kernel ignores SIGINT between cells, and a child inherits that: Cancel would do nothing.
_CHILD = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from nvkit.__main__ import main; main()"
)
_STAGE_LINE = re.compile(r"\[\d+/\d+\] (\w+): (.*)")


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
        self.strip, self.error = widgets.HTML(), widgets.HTML()
        self.log = widgets.Output(layout=widgets.Layout(max_height="320px", overflow="auto"))
        self.run.on_click(guarded(self._start, self.error))
        self.cancel.on_click(guarded(self._interrupt, self.error))
        self._show_strip()
        self.widget = widgets.VBox([widgets.HBox([self.run, self.cancel]), self.strip, self.error, self.log])

    def _start(self, button: Any) -> None:
        command = self._command()
        self.run.disabled, self.cancel.disabled = True, False
        self.states = dict.fromkeys(self.states, "pending")
        self.log.outputs, self.error.value = (), ""
        self._started = time.monotonic()
        self.log.append_stdout(f"$ {shlex.join(['nvkit', *command])}\n")
        # In the kernel's process group, so that closing the notebook ends the run too.
        self._child = subprocess.Popen(
            [sys.executable, "-c", _CHILD, *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        threading.Thread(target=guarded(self._follow, self.error), args=(self._child,), daemon=True).start()

    def _follow(self, child: subprocess.Popen[str]) -> None:
        # An Output widget does not capture what a thread prints; append_stdout does reach it.
        assert child.stdout is not None
        with child.stdout:
            for line in child.stdout:
                self.log.append_stdout(line)
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
            self.log.append_stdout("Cancelling: the test stops, and what was finished is kept.\n")

    def _show_strip(self, words: str = "") -> None:
        stages = " &rarr; ".join(
            f"<span style='color:{_COLOURS[state]}'><b>{stage}</b> {state}</span>"
            for stage, state in self.states.items()
        )
        elapsed = f" &nbsp; {time.monotonic() - self._started:.0f} s {words}" if self._started else ""
        self.strip.value = f"<div>{stages}{elapsed}</div>"
