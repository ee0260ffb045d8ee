"""Which scenarios of a run make a submission, and everything that keeps it from being one."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nvkit.config import QUICK_NOTE
from nvkit.errors import ConfigError, InputError, nearest
from nvkit.record.compliance import Verification
from nvkit.record.compliance_rules import required_tests
from nvkit.record.mlperf_system import UNKNOWN
from nvkit.record.stored_run import StoredRun

SYSTEM_TYPES = ("datacenter", "edge", "datacenter,edge")
_PARTS = ("performance", "accuracy")


@dataclass(frozen=True)
class Entry:
    """One benchmark of one system.

    Attributes:
        run: The run that measured it.
        scenarios: Those that go into the tree.
        objections: Why it is no submission; empty if it is one.
    """

    run: StoredRun
    scenarios: tuple[str, ...]
    objections: tuple[str, ...]

    @property
    def benchmark(self) -> str:
        """Name of the benchmark."""
        return str(self.run.config["benchmark"])


def entry(run: StoredRun, round: str, system_type: str, division: str) -> Entry:
    """Choose the scenarios of a run for a system type, and say what keeps them from being a submission.

    Raises:
        InputError: a run of another round or implementation, or without performance and accuracy tests.
    """
    if run.config["round"] != round:
        raise InputError(
            f"{run.name} followed round {run.config['round']}, not {round}; its seeds are others.",
            f"Run again with --round {round}, or submit to {run.config['round']}.",
        )
    if run.config["implementation"] != "nvkit":
        raise InputError(
            f"{run.name} ran NVIDIA's code, which makes its submission tree itself.",
            "Use its make targets stage_results, stage_compliance and truncate_results.",
        )
    required = required_scenarios(run, system_type)
    present = tuple(name for name in run.scenarios if name in required)
    if not present:
        has = ", ".join(run.scenarios)
        what = f"{run.name} has {has}; {system_type} of {round} asks for {', '.join(required) or 'no scenario'}."
        raise InputError(what, "Choose another --system-type, or run the scenarios.")
    for name in present:
        for part in _PARTS:
            if (name, part) not in run.tests:
                raise InputError(f"{run.name} has no {part} test of {name}.", "Run with --mode both.")
    return Entry(run, present, tuple(dict.fromkeys(_objections(run, present, required, division == "closed"))))


def required_scenarios(run: StoredRun, system_type: str) -> tuple[str, ...]:
    """Return the scenarios that a round asks of a system type.

    Raises:
        ConfigError: no such system type, or one for which the round does not take the benchmark.
    """
    if system_type not in SYSTEM_TYPES:
        raise ConfigError(f"There is no system type '{system_type}'.", nearest(system_type, SYSTEM_TYPES))
    rules = run.config["rules"]
    for kind in system_type.split(","):
        if not rules[kind]:
            what = f"Round {run.config['round']} takes no {kind} results of {run.config['benchmark']}."
            taken = [other for other in ("datacenter", "edge") if rules[other]]
            raise ConfigError(what, f"It takes {', '.join(taken) or 'none'}.")
    return tuple(dict.fromkeys(name for kind in system_type.split(",") for name in rules[kind]))


def guessed_system_type(runs: Sequence[StoredRun]) -> str:
    """Return the largest system type for which all runs have all scenarios, else the one that they come nearest to."""
    taken = [kind for kind in ("datacenter", "edge") if all(run.config["rules"][kind] for run in runs)]
    for kind in [",".join(taken), *taken] if taken else []:
        if all(set(required_scenarios(run, kind)) <= set(run.scenarios) for run in runs):
            return kind
    return "datacenter" if "datacenter" in taken and any("Server" in run.scenarios for run in runs) else "edge"


def compliance_tests(run: StoredRun, scenario: str) -> dict[str, Verification]:
    """Return the verified compliance tests of a scenario."""
    found = {}
    for test in required_tests(run.config["round"], run.config["benchmark"]):
        stored = run.stages.get(f"compliance-{scenario}-{test}-verified")
        if stored:
            found[test] = Verification.model_validate(stored)
    return found


def read_facts(path: Path | None, known: Mapping[str, Any]) -> dict[str, Any]:
    """Read the user's own fields of a system description.

    Raises:
        ConfigError: not a JSON object, or a field that the description does not have.
    """
    if path is None:
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read as JSON: {error}.", "Give a JSON object of system fields.") from None
    if not isinstance(found, dict):
        raise ConfigError(f"{path} is not a JSON object.", 'Write it like {"cooling": "air"}.')
    for field in found:
        if field not in known:
            raise ConfigError(f"{path}: a system description has no field '{field}'.", nearest(field, known))
    return found


def unknown_fields(description: Mapping[str, Any]) -> list[str]:
    """Return the fields of a system description that the machine could not fill in."""
    return [field for field, value in description.items() if value == UNKNOWN]


def _objections(run: StoredRun, present: Sequence[str], required: Sequence[str], closed: bool) -> Iterator[str]:
    config = run.config
    if config["quick"]:
        yield f"{QUICK_NOTE}: durations and counts are not the round's"
    setup = run.stages["setup"]
    yield from setup["model"]["notes"] if setup["model"]["synthetic"] else ()
    yield from setup["data"]["notes"] if setup["data"]["generated"] else ()
    for (scenario, mode), test in run.tests.items():
        if scenario in present:
            for reason in (*test.summary.verdict.reasons, *test.summary.departures):
                yield f"{scenario} {mode}: {reason.what}"
    if not closed:
        return
    target = config["rules"]["accuracy_target"]
    for scenario in present:
        score = run.tests[scenario, "accuracy"].summary.accuracy
        if not score or float(score["value"]) < target:
            found = f"{score['metric']} {float(score['value']):.6g}" if score else "no score"
            yield f"{scenario}: {found} is below the accuracy target {target:.6g}"
        verified = compliance_tests(run, scenario)
        for test_name in required_tests(config["round"], config["benchmark"]):
            if test_name not in verified:
                yield f"{scenario}: {test_name} was not run"
            elif not verified[test_name].passed:
                yield f"{scenario}: {test_name} failed ({'; '.join(verified[test_name].why)})"
    for scenario in required:
        if scenario not in present:
            yield f"{scenario} is missing"
