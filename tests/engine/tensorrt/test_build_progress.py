from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest

from nvkit.engine.tensorrt import progress


class Bar:
    def __init__(self, **given: Any) -> None:
        self.given, self.n, self.seen, self.refreshed = given, 0.0, [], 0
        self.phase = ""

    def __enter__(self) -> Bar:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def update(self, amount: float) -> None:
        assert amount >= 0
        self.n += amount

    def set_postfix_str(self, text: str, refresh: bool) -> None:
        self.phase = text

    def refresh(self) -> None:
        self.refreshed += 1


@pytest.fixture
def bars(monkeypatch: pytest.MonkeyPatch) -> list[Bar]:
    made: list[Bar] = []

    def tqdm(**given: Any) -> Bar:
        made.append(Bar(**given))
        return made[-1]

    monkeypatch.setattr(progress, "tqdm", tqdm)
    return made


class Monitored:
    """A TensorRT that tells its phases."""

    class IProgressMonitor:
        pass


def test_nested_phases_become_one_share(bars: list[Bar]) -> None:
    config = SimpleNamespace(progress_monitor=None)
    with progress.shown(Monitored, config, "build"):
        monitor = config.progress_monitor
        monitor.phase_start("whole", None, 2)
        assert monitor.step_complete("whole", 0)
        assert bars[0].n == 50
        monitor.phase_start("part", "whole", 4)
        assert monitor.step_complete("part", 1)
        assert bars[0].n == pytest.approx(75)
        assert bars[0].phase == "part"
        monitor.phase_finish("part")
        monitor.phase_start("another", "whole", 4)  # a phase that begins anew does not turn the bar back
        assert bars[0].n == pytest.approx(75)


def test_an_interrupt_ends_the_build_between_two_steps(bars: list[Bar]) -> None:
    config = SimpleNamespace(progress_monitor=None)
    went_on = []

    def interrupted(amount: float) -> None:
        raise KeyboardInterrupt

    def build() -> None:
        with progress.shown(Monitored, config, "build"):
            bars[0].update = interrupted  # type: ignore[method-assign]
            config.progress_monitor.phase_start("whole", None, 2)
            went_on.append(config.progress_monitor.step_complete("whole", 0))

    with pytest.raises(KeyboardInterrupt):
        build()
    assert went_on == [False]


def test_where_phases_are_not_told_the_time_is_shown(bars: list[Bar], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_TICK_S", 0.01)
    with progress.shown(SimpleNamespace(), SimpleNamespace(), "build"):
        deadline = time.monotonic() + 5
        while not bars[0].refreshed and time.monotonic() < deadline:
            time.sleep(0.01)
    assert bars[0].refreshed
    assert "{elapsed}" in bars[0].given["bar_format"]
