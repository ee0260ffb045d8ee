"""Around a test: refuse it when the machine is not in the plan's state, or set the state and put it back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nvkit.errors import BackendUnavailableError, ConfigError, SetupError
from nvkit.power import limits
from nvkit.power.checks import Checks, check
from nvkit.power.plan import PowerPlan
from nvkit.power.state import forget, left_over, only_run, remember


@dataclass
class Record:
    """What was found and set around one test.

    Attributes:
        plan: What had to hold.
        apply: Whether nvkit was to set it.
        before: As found.
        during: As the test began.
        after: As the test ended, before anything was put back; None if the driver no longer answered.
        restored: After putting back; None if nothing was set.
        notes: What a reader must know: a limit that changed during the test or could not be put back.
    """

    plan: PowerPlan
    apply: bool
    before: Checks
    during: Checks
    after: Checks | None = None
    restored: Checks | None = None
    notes: tuple[str, ...] = ()

    def note(self, text: str) -> None:
        """Print a note and keep it."""
        print(text, flush=True)
        self.notes += (text,)

    def to_json(self) -> dict[str, Any]:
        """Return the record as JSON-serialisable values, complete once the block has ended.

        `before`, `during`, `after` and `restored` of a step are the values found, in its unit, null if unknown.
        """
        moments = {"before": self.before, "during": self.during, "after": self.after, "restored": self.restored}
        steps = [
            {
                "what": row.step.what,
                "unit": row.step.unit,
                "wanted": row.step.wanted,
                **{name: checks.rows[number].found if checks else None for name, checks in moments.items()},
                "outcome": row.outcome,
                "note": row.note,
                "commands": list(row.step.commands),
                "back": list(row.step.back),
            }
            for number, row in enumerate(self.during.rows)
        ]
        about = {"power": self.plan.power, "scenario": self.plan.scenario, "apply": self.apply}
        return {**about, "steps": steps, "notes": list(self.notes)}


@contextmanager
def applied(plan: PowerPlan, *, apply: bool, outputs: Path) -> Iterator[Record]:
    """Guard a test: inside the block the machine is in the plan's state.

    The table of checks is printed first. With `apply`, power limits that differ are set through NVML, and what was
    there before is put back however the block ends; the clocks of a Jetson board are never set. Limits that a killed
    run left are named; with `apply` they are put back first.

    Args:
        plan: From `plan`.
        apply: Whether nvkit may set power limits.
        outputs: Folder of runs/ and store/, where limits are written down while they are changed.

    Raises:
        ConfigError: the machine is not in the state (the commands to give are named), or another run sets limits now.
        BackendUnavailableError: this user may not set limits, or the driver does not enforce them.
    """
    left = left_over(outputs)
    if apply and left:
        _recover(outputs)
    found = check(plan)
    record = Record(plan, apply, found, found)
    for one in left:
        record.note(f"{one} {'It is put back now.' if apply else f'{one.command} puts it back.'}")
    if plan.steps:
        print(found, flush=True)
    differing = {row.step.gpu: row.step.wanted for row in found.failed}
    wanted_w = {gpu: watts for gpu, watts in differing.items() if gpu is not None and watts is not None}
    if apply and wanted_w:
        with limits.session() as nvml, only_run(outputs):
            yield from _set(record, nvml, wanted_w, outputs)
    else:
        _require(record)
        yield from _watched(record)


def _recover(outputs: Path) -> None:
    with limits.session() as nvml, only_run(outputs) as left:
        for one in left:
            limits.set_limit(nvml, one.gpu, one.before_w)
        forget(outputs)


def _set(record: Record, nvml: Any, wanted_w: Mapping[int, float], outputs: Path) -> Iterator[Record]:
    now_w = {gpu: limits.asked_for(nvml, gpu) for gpu in wanted_w}
    before_w = {gpu: watts for gpu, watts in now_w.items() if watts is not None}
    remember(outputs, before_w)
    try:
        for gpu, watts in wanted_w.items():
            limits.set_limit(nvml, gpu, watts)
        record.during = check(record.plan)
        print(f"Set for this test:\n{record.during}", flush=True)
        _require(record)
        yield from _watched(record)
    finally:
        try:
            _put_back(record, nvml, before_w, outputs)
        except KeyboardInterrupt:  # the user means the test, which has ended
            _put_back(record, nvml, before_w, outputs)
            raise


def _watched(record: Record) -> Iterator[Record]:
    """Yield the record, and find out at the end whether the state held."""
    try:
        yield record
    finally:
        try:
            record.after = check(record.plan)
        except SetupError as error:
            record.note(f"Whether the power mode held is not known: {error}")
        else:
            for first, last in zip(record.during.rows, record.after.rows, strict=True):
                if last.outcome == "FAIL" and first.outcome != "FAIL":
                    record.note(f"The power mode did not hold during the test: {last}.")


def _put_back(record: Record, nvml: Any, before_w: Mapping[int, float], outputs: Path) -> None:
    """Put back every limit; a failure is a note, not an error, because a measured result must not be lost."""
    lost = []
    for gpu, watts in before_w.items():
        try:
            if not limits.is_set(nvml, gpu, watts):  # also where setting it failed
                limits.set_limit(nvml, gpu, watts)
        except BackendUnavailableError as error:
            lost.append(gpu)
            command = limits.limit_command(gpu, watts)
            record.note(f"{error.what} It was not put back: {command} does that.")
    if not lost:
        forget(outputs)
    try:
        record.restored = check(record.plan)
    except SetupError as error:
        record.note(f"What the power limits are now is not known: {error}")


def _require(record: Record) -> None:
    """Refuse to go on unless every value that can be checked is as wanted."""
    plan, failed = record.plan, record.during.failed
    if not failed:
        return
    if record.apply and plan.sets_itself:
        record.note("NVIDIA's code sets the board itself, and puts it back to power model 0.")
        return
    what = f"{plan.power} is not in force: {'; '.join(map(str, failed))}."
    on_card = [row for row in failed if row.step.gpu is not None]
    if record.apply and on_card:
        raise BackendUnavailableError(
            f"{what} The driver accepted the limit, but does not enforce it.", "nvidia-smi -q -d POWER says more."
        )
    commands = "; ".join(command for row in failed for command in row.step.commands)
    back = "; ".join(command for row in failed for command in row.step.back)
    fix = f"Give {commands}, then run again; afterwards, {back} puts it back."
    if on_card:
        fix += " Or let nvkit do both with --apply-power."
    raise ConfigError(what, fix)
