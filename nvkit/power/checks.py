"""Whether the machine is in the state that a power plan describes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from nvkit.power import jetson, limits
from nvkit.power.plan import PowerPlan
from nvkit.power.steps import Step
from nvkit.tables import Table

Outcome = Literal["PASS", "FAIL", "not checked"]

_CLOCK = 0.005
# A board rounds clocks to its own steps.


@dataclass(frozen=True)
class Check:
    """One value of a plan as found.

    Attributes:
        step: What it must be.
        found: What it is; None if that cannot be found out.
        outcome: PASS, FAIL or not checked.
        note: Why it was not checked, or what holds it where it is.
    """

    step: Step
    found: float | None
    outcome: Outcome
    note: str = ""

    def __str__(self) -> str:
        return f"{self.step.what} is {self.step.show(self.found)}, wanted {self.step.show(self.step.wanted)}"


@dataclass(frozen=True)
class Checks:
    """All values of a plan as found; renders itself."""

    plan: PowerPlan
    rows: tuple[Check, ...]

    @property
    def failed(self) -> tuple[Check, ...]:
        """The values that are not as they must be."""
        return tuple(row for row in self.rows if row.outcome == "FAIL")

    def table(self) -> Table:
        """Return found and wanted values with their outcome."""
        rows = [
            [row.step.what, row.step.show(row.found), row.step.show(row.step.wanted), row.outcome, row.note]
            for row in self.rows
        ]
        title = f"Power mode {self.plan.power}, {self.plan.scenario}"
        return Table(["what", "found", "wanted", "outcome", "note"], rows, title)

    def __str__(self) -> str:
        return str(self.table())


def check(plan: PowerPlan) -> Checks:
    """Compare a plan with the machine; reads only.

    Raises:
        BackendUnavailableError: no driver answers any more.
    """
    found: Mapping[int, tuple[float | None, float | None]] = {}
    if gpus := [step.gpu for step in plan.steps if step.gpu is not None]:
        with limits.session() as nvml:
            found = {gpu: (limits.enforced(nvml, gpu), limits.asked_for(nvml, gpu)) for gpu in gpus}
    return Checks(plan, tuple(_checked(step, found) for step in plan.steps))


def _checked(step: Step, limits_w: Mapping[int, tuple[float | None, float | None]]) -> Check:
    if step.gpu is not None and step.wanted is not None:
        enforced, asked = limits_w[step.gpu]
        if enforced is None:
            return Check(step, None, "FAIL", "the driver does not answer for this GPU any more")
        if limits.same(enforced, step.wanted):
            return Check(step, enforced, "PASS")
        elsewhere = limits.same(asked, step.wanted)
        return Check(step, enforced, "FAIL", "set as wanted, but the machine allows less" if elsewhere else "")
    values = [value for path in step.files if (value := jetson.value_of(path)) is not None]
    wanted = step.wanted or 0
    worst = max(values, key=lambda value: abs(value - wanted), default=None)
    if step.unknowable or worst is None:
        return Check(step, worst, "not checked", step.unknowable or "its file cannot be read any more")
    return Check(step, worst, "PASS" if abs(worst - wanted) <= _CLOCK * wanted else "FAIL")
