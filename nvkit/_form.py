"""The form of the notebooks, made of ipywidgets; imported only when a person is there to use it."""

from __future__ import annotations

import html
from typing import Any

import ipywidgets as widgets

import nvkit
from nvkit._callbacks import guarded
from nvkit.config import IMPLEMENTATIONS, MODES, POWER_MODES, BenchmarkFile, ProfileFile, RoundFile, load, names
from nvkit.ui import Choice

_WIDE = widgets.Layout(width="420px")
_LABELS = {"description_width": "90px"}


class Form:
    """Drop-down lists filled from parameters/; lists only what the benchmark has in the round.

    Attributes:
        widget: What to display.
    """

    def __init__(self, choice: Choice) -> None:
        nvkit.configure(**choice.values())  # a misspelt name is an error with the nearest right one, not an empty list
        self._choice = choice
        self._rounds = {name: load(RoundFile, name)[0] for name in names(RoundFile)}
        self._gpu_missing: str | None = None
        self.profile = self._list("profile", ["auto", *names(ProfileFile)])
        self.benchmark = self._list("benchmark", names(BenchmarkFile))
        self.round = self._list("round", self._rounds_with(choice.benchmark))
        self.scenario = self._list("scenario", self._scenarios())
        self.mode = self._list("mode", MODES)
        self.implementation = self._list("implementation", IMPLEMENTATIONS)
        self.power = self._list("power", POWER_MODES)
        self.quick = widgets.Checkbox(
            choice.quick, description="quick run (short durations, not an official result)", indent=False, layout=_WIDE
        )
        self.line, self.notes, self.error = widgets.HTML(), widgets.HTML(), widgets.HTML()
        lists = (self.profile, self.benchmark, self.round, self.scenario, self.mode, self.implementation, self.power)
        for control in (*lists, self.quick):
            control.observe(guarded(self._changed, self.error), "value")
        self._show()
        self.widget = widgets.VBox([*lists, self.quick, self.line, self.notes, self.error])

    def _list(self, name: str, options: Any) -> Any:
        value = getattr(self._choice, name)
        options = [*options, *([value] if value not in options else [])]  # several scenarios, given by comma
        return widgets.Dropdown(options=options, value=value, description=name, layout=_WIDE, style=_LABELS)

    def _rounds_with(self, benchmark: str) -> list[str]:
        return [name for name, rules in self._rounds.items() if benchmark in rules.benchmarks]

    def _scenarios(self) -> list[str]:
        return ["all", *self._rounds[self._choice.round].benchmarks[self._choice.benchmark].allowed]

    def _changed(self, change: Any) -> None:
        choice = self._choice
        choice.profile, choice.benchmark, choice.mode = self.profile.value, self.benchmark.value, self.mode.value
        choice.quick, choice.implementation, choice.power = (
            self.quick.value,
            self.implementation.value,
            self.power.value,
        )
        _offer(self.round, self._rounds_with(choice.benchmark), fallback=-1)
        choice.round = self.round.value
        _offer(self.scenario, self._scenarios(), fallback=0)
        choice.scenario = self.scenario.value
        self.error.value = ""
        self._show()

    def _show(self) -> None:
        line = html.escape(self._choice.shell_line())
        self.line.value = f"<div style='line-height:1.5'>All stages from a shell: <code>{line}</code></div>"
        notes = ["Run the cells below to use these values.", self._absent(), self._no_gpu()]
        self.notes.value = "<br>".join(html.escape(note) for note in notes if note)

    def _absent(self) -> str:
        benchmark, round = self._choice.benchmark, self._choice.round
        rounds = sorted(self._rounds.keys() - set(self._rounds_with(benchmark)))
        scenarios = self._rounds[round].benchmarks[benchmark].allowed
        lacking = f" No {benchmark} in {', '.join(rounds)}." if rounds else ""
        return f"Round {round} has {', '.join(scenarios)} for {benchmark}.{lacking}"

    def _no_gpu(self) -> str:
        if self._choice.profile == "auto" or load(ProfileFile, self._choice.profile)[0].device.kind != "gpu":
            return ""
        if self._gpu_missing is None:
            from nvkit.system import describe

            self._gpu_missing = describe().no_gpu_reason
        return f"Profile {self._choice.profile} needs a GPU: {self._gpu_missing}." if self._gpu_missing else ""


def _offer(control: Any, options: list[str], fallback: int) -> None:
    """Give a list other options, keeping its value if that is among them."""
    if list(control.options) != options:
        value = control.value if control.value in options else options[fallback]
        control.options = options
        control.value = value
