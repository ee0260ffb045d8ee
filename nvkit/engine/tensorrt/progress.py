"""What a person sees while TensorRT builds: its own phases where it tells them, else the time that has passed."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from nvkit.progress import tqdm

_STEPS = 100
_TICK_S = 0.5


@contextmanager
def shown(trt: Any, config: Any, title: str) -> Iterator[None]:
    """Show a bar while the block builds. An interrupt of a build that tells its phases ends it between two steps."""
    if not hasattr(trt, "IProgressMonitor"):
        with _elapsed(title):
            yield
        return
    with tqdm(total=_STEPS, desc=title, bar_format="{desc}: {percentage:3.0f}%|{bar}| {elapsed}{postfix}") as bar:
        monitor = _monitor(trt, bar)
        config.progress_monitor = monitor
        yield
        if monitor.interrupted:
            raise monitor.interrupted


@contextmanager
def _elapsed(title: str) -> Iterator[None]:
    done = threading.Event()
    with tqdm(total=None, desc=title, bar_format="{desc}: {elapsed}") as bar:

        def tick() -> None:
            while not done.wait(_TICK_S):
                bar.refresh()

        thread = threading.Thread(target=tick, daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()


def _monitor(trt: Any, bar: Any) -> Any:
    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        """Turns nested phases, each with its number of steps, into one share of the whole."""

        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.interrupted: BaseException | None = None
            self._phases: dict[str, list[Any]] = {}  # name to parent, steps, steps done

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self._phases[phase_name] = [parent_phase, max(1, num_steps), 0]
            self._show(phase_name)

        def phase_finish(self, phase_name: str) -> None:
            self._phases.pop(phase_name, None)

        def step_complete(self, phase_name: str, step: int) -> bool:
            if phase_name in self._phases:
                self._phases[phase_name][2] = step + 1
                self._show(phase_name)
            return self.interrupted is None

        def _show(self, phase: str) -> None:
            try:
                share, name = 0.0, phase
                while name in self._phases:
                    parent, steps, done = self._phases[name]
                    share, name = min(1.0, (done + share) / steps), parent
                bar.set_postfix_str(phase[:40], refresh=False)
                bar.update(max(0.0, share * _STEPS - bar.n))
            except BaseException as error:  # TensorRT's C++ code cannot be thrown through
                self.interrupted = error

    return Monitor()
