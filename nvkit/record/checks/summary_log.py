"""LoadGen's summary log against its detail log: both hold every figure, so each vouches for the other.

The labels are those of LoadGen's results.cc and test_settings_internal.cc, 1.0 to 6.0.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from nvkit.results.loadgen_log import DetailLog

_KEYS = {
    "SUT name": "sut_name",
    "Scenario": "effective_scenario",
    "Mode": "effective_test_mode",
    "Samples per second": "result_samples_per_second",
    "Completed samples per second": "result_completed_samples_per_sec",
    "Scheduled samples per second": "result_scheduled_samples_per_sec",
    "Result is": "result_validity",
    "Performance constraints satisfied": "result_perf_constraints_met",
    "Min duration satisfied": "result_min_duration_met",
    "Min queries satisfied": "result_min_queries_met",
    "Early stopping satisfied": "early_stopping_met",
    "QPS w/ loadgen overhead": "result_qps_with_loadgen_overhead",
    "QPS w/o loadgen overhead": "result_qps_without_loadgen_overhead",
    "target_latency (ns)": "effective_target_latency_ns",
    "min_duration (ms)": "effective_min_duration_ms",
    "max_duration (ms)": "effective_max_duration_ms",
}
_PARAMETERS = re.compile(r"[a-z_]+")
_LATENCY = re.compile(r"(Min|Max|Mean|[\d.]+ percentile) latency \(ns\)")
_TARGET = re.compile(r"([\d.]+)th percentile latency \(ns\)")
_COUNT = re.compile(r"(No|\d+) (warnings?|errors?) encountered")
_WORDS = {"Yes": True, "NO": False, "No": False}
_DIGITS = 2e-5  # figures are printed with six digits, or with two decimals


def disagreements(detail: DetailLog, summary: str) -> Iterator[str]:
    """Yield a sentence for each line of a summary log that the detail log does not confirm."""
    counts = {"warning": len(detail.warnings), "error": len(detail.errors)}
    for line in filter(None, (line.strip() for line in summary.splitlines())):
        if found := _COUNT.match(line):
            logged = counts[found[2].rstrip("s")]
            if (found[1] == "No") != (logged == 0):
                yield f"the summary says '{line}', the detail log has {logged}"
            continue
        name, colon, value = (part.strip() for part in line.partition(":"))
        key = _key(detail, name) if colon and value else None
        if key is None:
            if not _known_text(detail, line):
                yield f"the summary has '{line}', the detail log nothing of it"
        elif not _same(value, detail.get(key)):
            yield f"the summary says '{name}: {value}', the detail log {detail.get(key)}"


def _key(detail: DetailLog, name: str) -> str | None:
    if name in _KEYS:
        return _KEYS[name]
    multi = detail.scenario == "MultiStream"
    if found := _LATENCY.fullmatch(name):
        kind = found[1].lower()
        if kind.endswith("percentile"):
            share = f"{float(kind.split()[0]):.2f}"
            return f"result_{share}_percentile_{'per_query_' if multi else ''}latency_ns"
        return f"result_{kind}_{'query_' if multi else ''}latency_ns"
    if found := _TARGET.fullmatch(name):
        return f"result_{float(found[1]):.2f}_percentile_{'per_query_' if multi else ''}latency_ns"
    if _PARAMETERS.fullmatch(name) and detail.get(f"effective_{name}") is not None:
        return f"effective_{name}"
    return None


def _same(printed: str, logged: object) -> bool:
    if isinstance(logged, bool):
        return _WORDS.get(printed, printed == "1") == logged
    try:
        ours, theirs = float(printed), float(str(logged))
    except ValueError:
        return printed == str(logged)
    if "." in printed or "." in str(logged):
        return abs(ours - theirs) <= max(0.005, _DIGITS * abs(theirs))
    return int(printed) == logged if printed.isdigit() else ours == theirs


def _known_text(detail: DetailLog, line: str) -> bool:
    """Whether a line without a figure of its own is a heading, or stands in the detail log in words."""
    if set(line) == {"="} or not re.search(r"\d", line):
        return True
    said = " ".join(str(detail.get(key, "")) for key in ("early_stopping_result", "result_invalid_reason"))
    return " ".join(line.split()) in " ".join(said.split())
