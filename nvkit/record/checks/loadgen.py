"""Do LoadGen's logs hold together, follow the round, and belong to this run."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from nvkit.record.checks.summary_log import disagreements
from nvkit.record.findings import Outcome
from nvkit.record.opened import Record
from nvkit.results.loadgen_log import SUMMARY_FILE, DetailLog, read_detail
from nvkit.results.validity import against_round, verdict
from nvkit.stages.run import TestResult

_SLACK = timedelta(seconds=2)  # stage times are whole seconds
_AUDIT = "audit.config"
_COMPLIANCE = "compliance"
_SEEDS = ("qsl_rng_seed", "sample_index_rng_seed", "schedule_rng_seed")
_MODES = {"performance": "PerformanceOnly", "accuracy": "AccuracyOnly", "submission": "SubmissionRun"}


def logs(record: Record) -> Outcome:
    """Detail and summary log of every test say the same, and were written while their stage was running."""
    problems = []
    for test, detail in _details(record):
        summary = (record.root / test.logs / SUMMARY_FILE).read_text(encoding="utf-8", errors="replace")
        problems += [f"{test.logs}: {problem}" for problem in disagreements(detail, summary)]
        written = detail.get("test_datetime")
        end = datetime.fromisoformat(test.finished)
        begin = end - timedelta(seconds=test.seconds)
        if written and not begin - _SLACK <= _utc(written) <= end + _SLACK:
            problems.append(f"{test.logs}: the log is of {written}, its stage ended at {test.finished}")
    return Outcome.of(problems, f"the logs of {len(record.tests)} tests say the same and are of their stage's time")


def settings(record: Record) -> Outcome:
    """What ran is what the parameters say: scenario, mode, seeds, duration.

    NVIDIA's harness takes seeds and durations from files of its own too; the rules of the round judge those.
    """
    own = record.config["implementation"] == "nvkit"
    problems = []
    for test, detail in _details(record):
        _, scenario, mode = test.logs.split("/")
        values = record.config["scenarios"][scenario]
        pairs = [("scenario", detail.scenario, scenario), ("mode", detail.mode, _MODES[mode])]
        if detail.has_result and own:
            pairs.append(("min_duration", detail.get("effective_min_duration_ms"), values["min_duration"]))
            pairs += [(seed, detail.get(f"effective_{seed}"), values[seed]) for seed in _SEEDS]
        problems += [
            f"{test.logs}: {what} is {logged}, the parameters say {said}"
            for what, logged, said in pairs
            if logged != said
        ]
    wanted = {f"loadgen/{name}/{mode}" for name in record.config["scenarios"] for mode in _modes(record)}
    problems += [f"{logs} was asked for and is not there" for logs in sorted(wanted - {t.logs for t in record.tests})]
    return Outcome.of(problems, f"scenarios, modes{', seeds and durations' if own else ''} are those of the parameters")


def version(record: Record) -> Outcome:
    """One LoadGen ran all tests: the one that was installed, without changes of its own."""
    found = {detail.loadgen_version for _, detail in _details(record)}
    problems = [f"tests were run by several: {', '.join(sorted(found))}"] if len(found) > 1 else []
    for test, detail in _details(record):
        if detail.get("loadgen_git_status_message"):
            problems.append(f"{test.logs}: LoadGen was built with changes of its own")
    installed = record.packages.get("mlcommons-loadgen", {}).get("version")
    if record.config["implementation"] == "nvkit":
        problems += [
            f"LoadGen {one} ran, {installed} was installed" for one in found if one.split(" @")[0] != str(installed)
        ]
    return Outcome.of(problems, f"LoadGen {', '.join(found)}")


def rules(record: Record) -> Outcome:
    """Seeds, durations and counts are those of the round; a quick run says where they are not."""
    problems, departures = [], 0
    for test, detail in _details(record):
        found = against_round(detail, record.here.official[test.summary.scenario])
        stated = {reason.what for reason in test.summary.departures}
        departures += len(found)
        for reason in found:
            if reason.what not in stated:
                problems.append(f"{test.logs}: {reason.what} The report does not say so")
            elif not record.config["quick"]:
                problems.append(f"{test.logs}: {reason.what}")
    said = f"quick run, {departures} departures from {record.config['round']}, all stated"
    whole = f"seeds, durations, counts and limits are those of {record.config['round']}"
    return Outcome.of(problems, said if departures else whole)


def validity(record: Record) -> Outcome:
    """LoadGen's conditions are met; a quick run says which are not."""
    problems = []
    for test, detail in _details(record):
        found = verdict(detail)
        if found.valid != test.summary.verdict.valid:
            problems.append(f"{test.logs}: the logs say {_word(found.valid)}, the report the contrary")
        elif not found.valid and not record.config["quick"]:
            problems.append(f"{test.logs}: INVALID. {' '.join(reason.what for reason in found.reasons)}")
    invalid = [test.logs for test in record.tests if not test.summary.verdict.valid]
    said = f"quick run, INVALID as its report says: {', '.join(invalid)}" if invalid else "every test is VALID"
    return Outcome.of(problems, said)


def errors(record: Record) -> Outcome:
    """LoadGen logged no error."""
    problems = [f"{test.logs}: {' '.join(text.split())}" for test, detail in _details(record) for text in detail.errors]
    return Outcome.of(problems, "LoadGen logged no error")


def audit_config(record: Record) -> Outcome:
    """No audit.config changed a test; only compliance tests have one."""
    problems = [
        f"{name} is there" for name in record.digests if name.endswith(_AUDIT) and not name.startswith(_COMPLIANCE)
    ]
    for test, detail in _details(record):
        if any("audit config" in text.lower() for text in detail.warnings):
            problems.append(f"{test.logs}: LoadGen found an {_AUDIT} and let it override the settings")
    return Outcome.of(problems, f"no test had an {_AUDIT}")


def _details(record: Record) -> Iterator[tuple[TestResult, DetailLog]]:
    for test in record.tests:
        yield test, read_detail(record.root / test.logs)


def _modes(record: Record) -> tuple[str, ...]:
    mode = record.config["mode"]
    return ("performance", "accuracy") if mode == "both" else (mode,)


def _utc(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def _word(valid: bool) -> str:
    return "VALID" if valid else "INVALID"
