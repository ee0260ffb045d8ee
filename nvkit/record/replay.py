"""Runs the sealed parameters of a record again, here, and compares."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nvkit.config import PATHS
from nvkit.errors import InputError
from nvkit.record.diff import TOLERANCE, Diff, Pair, compared, names_of
from nvkit.record.stored_run import StoredRun, open_stored
from nvkit.tables import Table
from nvkit.tuning.targets import typed

_NAMES = ("profile", "benchmark", "round", "mode", "quick", "implementation", "power")


@dataclass(frozen=True)
class Replay:
    """A record (A) beside its replay on this machine (B).

    Attributes:
        diff: The two, side by side.
        path: Run folder of the replay.
    """

    diff: Diff
    path: Path

    @property
    def reproduced(self) -> bool:
        """Whether every result of the record was measured again and is equal by MLPerf's convention."""
        return self.diff.equal

    def tables(self) -> list[Table]:
        """Return the verdict for each scenario with what could explain a gap, then all of the comparison."""
        headings = ["scenario", "record", "replay", "unit", "gap", "verdict"]
        verdicts = Table(headings, [self._row(pair) for pair in self.diff.pairs], "Replay", [self._explanation()])
        return [verdicts, *self.diff.tables()]

    def figures(self) -> dict[str, Any]:
        """Return file name to Figure."""
        return self.diff.figures()

    def headline(self) -> str:
        """Say in one line whether the record was reproduced."""
        verdict = "reproduced" if self.reproduced else "NOT reproduced"
        return f"{self.diff.a.name}: {verdict} here. {self.diff.headline()}"

    def __str__(self) -> str:
        return "\n\n".join([self.headline(), *map(str, self.tables())])

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        body = "".join(table._repr_html_() for table in self.tables())
        return {"text/plain": str(self), "text/html": f"<p><b>{self.headline()}</b></p>{body}"}

    def _row(self, pair: Pair) -> list[Any]:
        (a, unit), (b, _) = pair.a.shown, pair.b.shown
        verdict = "equal" if pair.within else "faster" if pair.faster > 0 else "slower"
        return [pair.scenario, a, b, unit, f"{pair.change:+.2%}", verdict]

    def _explanation(self) -> str:
        """Say what could explain a gap."""
        found = self.diff.differences
        if not found:
            return (
                "Parameters, machine, versions and code are the same: a gap is the variation from run to run "
                "(another load, clocks, temperature). Replay again on an idle machine."
            )
        could = "could explain a gap" if not self.reproduced else "differ and made no gap"
        return f"These {len(found)} {could} of more than {TOLERANCE:.0%}: {names_of(found)}."


def replay(
    record: str | Path, outputs: str = "", overrides: Mapping[str, Any] | None = None, *, profile: str = ""
) -> Replay:
    """Run what a record says again, as a run of its own with executed notebooks, and compare the two.

    The names and the user's values are those of the record's config.json. The tests are sized by the expected rates
    that the record's tests were sized by, since a Server result follows from the rate that was asked for.

    Args:
        record: The run folder of a record.
        outputs: Where the replay's run folder and its artefacts go; the clone's own if empty.
        overrides: Values of this machine: where the data set and the model are. Others change what is replayed, and
            the comparison names them.
        profile: Another GPU profile than the record's, for a machine with another GPU.

    Raises:
        InputError: not a finished run, or a path that this machine needs is not given.
        NvkitError: whatever a stage raises.
    """
    from nvkit.reproduce import reproduce

    before = open_stored(record)
    names, values = arguments(before, overrides or {})
    _, path = reproduce({**names, **({"profile": profile} if profile else {})}, values, outputs, fresh=True)
    result = Replay(compared(before, open_stored(path)), path)
    print(result.headline(), file=sys.stderr, flush=True)
    return result


def arguments(record: StoredRun, overrides: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the names and the values to run a record with: arguments of `nvkit.reproduce.reproduce`.

    Raises:
        InputError: the record was made with a file or folder of its machine, and `overrides` does not say where it is
            here.
    """
    names, own = own_arguments(record, overrides)
    sized = {
        key: typed(key, expected.value)
        for test in record.measured().values()
        for key, expected in test.expectations.items()
    }
    return names, {**sized, **own}


def own_arguments(record: StoredRun, overrides: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the names and the user's values that a record was made with.

    Raises:
        InputError: as `arguments`.
    """
    names = {name: record.config[name] for name in _NAMES} | {"scenario": ",".join(record.scenarios)}
    values = {**record.user_values(), **overrides}
    missing = [key for key in values if key in PATHS and not Path(str(values[key])).exists()]
    if missing:
        flags = ", ".join("--" + key.replace("_", "-") for key in missing)
        raise InputError(
            f"The record was made with {', '.join(missing)} of its own machine.", f"Say where they are here: {flags}."
        )
    return names, values
