"""Says in words why a result counts or does not, and what to change."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from nvkit.results.loadgen_log import DetailLog
from nvkit.results.percentiles import percentile_label, queries_needed


@dataclass(frozen=True)
class Reason:
    """One thing that is wrong with a result.

    Attributes:
        what: The condition and the figures.
        change: Which parameter to change, in which direction and, where it can be computed, to what.
    """

    what: str
    change: str

    def __str__(self) -> str:
        return f"{self.what} {self.change}".rstrip()


@dataclass(frozen=True)
class Verdict:
    """Whether LoadGen and the submission checker accept a test.

    Attributes:
        valid: True if nothing is wrong.
        reasons: Everything that is wrong.
    """

    valid: bool
    reasons: tuple[Reason, ...] = ()

    def __str__(self) -> str:
        return "\n".join(["VALID" if self.valid else "INVALID", *(f"- {reason}" for reason in self.reasons)])


_PERCENTILE_KEYS = {
    "Server": "server_target_latency_percentile",
    "SingleStream": "single_stream_target_latency_percentile",
    "MultiStream": "multi_stream_target_latency_percentile",
}


def verdict(detail: DetailLog, *, audit: bool = False) -> Verdict:
    """Judge one test by LoadGen's conditions, its errors, and whether an audit.config changed its settings.

    Args:
        detail: The log.
        audit: The test is a compliance test, which must have an audit.config where any other must have none.
    """
    reasons: list[Reason] = []
    if detail.has_result:
        conditions: dict[str, Callable[[DetailLog], Reason]] = {
            "result_perf_constraints_met": _latency,
            "early_stopping_met": _early_stopping,
            "result_min_duration_met": _duration,
            "result_min_queries_met": _queries,
        }
        reasons += [explain(detail) for key, explain in conditions.items() if detail.get(key) is False]
        if detail.get("result_validity") != "VALID" and not reasons:
            said = detail.get("result_invalid_reason") or "no reason"
            reasons.append(Reason(f"LoadGen says INVALID and gives {said}.", "Read its summary log."))
    reasons += _errors(detail)
    found = any("audit config" in warning.lower() for warning in detail.warnings)
    if found and not audit:
        reasons.append(
            Reason(
                "LoadGen found an audit.config, which overrides the settings of the test.",
                "Remove the file from the working directory; only a compliance test may have one.",
            )
        )
    if audit and not found:
        reasons.append(
            Reason("LoadGen found no audit.config, so this was not the compliance test.", "Run the test again.")
        )
    return Verdict(not reasons, tuple(reasons))


def against_round(detail: DetailLog, rules: Mapping[str, Any]) -> tuple[Reason, ...]:
    """Say what in a performance test departs from the rules of a round; an accuracy test is not bound by them.

    Args:
        detail: The log.
        rules: Any of qsl_rng_seed, sample_index_rng_seed, schedule_rng_seed, min_duration (ms),
            performance_sample_count, server_target_latency_ns, {server,single_stream,multi_stream}_
            target_latency_percentile, min_query_count (samples, Offline only). What is absent or None is not checked.
    """
    if not detail.has_result:
        return ()
    return tuple(_departures(detail, {key: value for key, value in rules.items() if value is not None}))


def _departures(detail: DetailLog, rules: Mapping[str, Any]) -> Iterator[Reason]:
    for key in ("qsl_rng_seed", "sample_index_rng_seed", "schedule_rng_seed"):
        used = detail.get(f"effective_{key}")
        if key in rules and used != rules[key]:
            yield Reason(f"{key} is {used}; the round's is {rules[key]}.", f"Set {key} to the round's.")
    at_least = [
        ("min_duration", "effective_min_duration_ms", "min_duration is {:,} ms; the round asks for {:,} ms."),
        (
            "performance_sample_count",
            "effective_performance_sample_count",
            "{:,} samples were in memory; the round asks for {:,}.",
        ),
    ]
    if detail.scenario == "Offline":
        what = "The Offline query had {:,} samples; the round asks for {:,}."
        at_least.append(("min_query_count", "effective_samples_per_query", what))
    for key, logged, what in at_least:
        used = int(detail.require(logged))
        if key in rules and used < rules[key]:
            yield Reason(what.format(used, int(rules[key])), f"Raise {key} to {int(rules[key]):,}.")
    yield from _percentile(detail, rules)
    limit = rules.get("server_target_latency_ns")
    if detail.scenario == "Server" and limit is not None:
        used = int(detail.require("effective_target_latency_ns"))
        if used > limit:
            yield Reason(
                f"The latency limit is {used / 1e6:g} ms; the round's is {limit / 1e6:g} ms.",
                f"Lower server_target_latency_ns to {int(limit)}.",
            )


def _latency(detail: DetailLog) -> Reason:
    fraction = float(detail.require("effective_target_latency_percentile"))
    limit = int(detail.require("effective_target_latency_ns"))
    measured = detail.get(f"result_{100 * fraction:.2f}_percentile_latency_ns")
    figure = f"{measured / 1e6:.4g} ms" if measured is not None else "above it"
    what = f"The {percentile_label(fraction)} latency is {figure}; the limit is {limit / 1e6:g} ms."
    return Reason(what, _lower_rate(detail))


def _lower_rate(detail: DetailLog) -> str:
    target = float(detail.require("effective_target_qps"))
    scheduled = float(detail.require("result_scheduled_samples_per_sec"))
    completed = float(detail.require("result_completed_samples_per_sec"))
    if completed < 0.98 * scheduled:
        return (
            f"Lower server_target_qps from {target:g} to at most {_two_digits(0.9 * completed)}: "
            f"the system completes {completed:,.4g} of {scheduled:,.4g} samples per second, so queries pile up."
        )
    limit, fastest, median = (
        int(detail.require(key))
        for key in ("effective_target_latency_ns", "result_min_latency_ns", "result_50.00_percentile_latency_ns")
    )
    if fastest > limit:
        return (
            f"No rate meets the limit, since even the fastest query took {fastest / 1e6:.4g} ms: "
            "use a smaller batch, a shorter batching window, or a faster engine."
        )
    if median > limit:
        return f"Lower server_target_qps from {target:g} by half: even the median is {median / 1e6:.4g} ms."
    return f"Lower server_target_qps from {target:g} by steps of about 5 %, first to {_two_digits(0.95 * target, 3)}."


def _early_stopping(detail: DetailLog) -> Reason:
    fraction = float(detail.require("effective_target_latency_percentile"))
    queries = int(detail.require("result_query_count"))
    if detail.scenario != "Server":
        needed = queries_needed(1, fraction)
        return Reason(
            f"{queries:,} queries are too few for an early-stopping estimate of {percentile_label(fraction)}, "
            f"which takes {needed:,}.",
            f"Raise min_query_count to {needed:,}{_or_duration(detail, needed)}.",
        )
    over = int(detail.require("result_overlatency_query_count"))
    needed = queries_needed(over, fraction)
    what = (
        f"Early stopping: {over:,} of {queries:,} queries were above the latency limit; "
        f"{percentile_label(fraction)} holds at 99 % confidence from {needed:,} queries on."
    )
    if detail.get("result_perf_constraints_met") is False:
        return Reason(what, "It follows from the latency above the limit, and the same change helps.")
    lower = ", or lower server_target_qps" if over else ""
    return Reason(what, f"Raise min_query_count to {needed:,}{_or_duration(detail, needed)}{lower}.")


def _or_duration(detail: DetailLog, queries: int) -> str:
    seconds, done = detail.duration_s, int(detail.require("result_query_count"))
    if not seconds or not done:
        return ""
    milliseconds = math.ceil(1.05 * 1000 * seconds * queries / done)
    return f" or min_duration to about {milliseconds:,} ms"


def _duration(detail: DetailLog) -> Reason:
    asked = int(detail.require("effective_min_duration_ms"))
    took = f"; it took {detail.duration_s:,.4g} s" if detail.duration_s is not None else ""
    what = f"The test had to last {asked / 1000:g} s{took}."
    if limits := _limits(detail):
        return Reason(what, f"Remove {limits}, which ended the test.")
    if detail.scenario == "Offline":
        expected = float(detail.require("effective_target_qps"))
        rate = float(detail.require("result_samples_per_second"))
        change = (
            f"Raise offline_expected_qps from {expected:g} to about {_two_digits(rate, 3)}, the rate measured here: "
            "LoadGen sizes its one query by it."
        )
    elif detail.scenario == "Server":
        change = "Raise min_duration or server_target_qps, so that LoadGen schedules more queries."
    else:
        key = "single_stream" if detail.scenario == "SingleStream" else "multi_stream"
        expected_ns = int(detail.require(f"requested_{key}_expected_latency_ns"))
        per_query = detail.get("result_mean_query_latency_ns") or detail.require("result_mean_latency_ns")
        change = (
            f"Lower {key}_expected_latency_ns from {expected_ns:,} to at most the mean measured here, "
            f"{int(per_query):,}: LoadGen generates its queries by it and ran out of them."
        )
    return Reason(what, change)


def _percentile(detail: DetailLog, rules: Mapping[str, Any]) -> Iterator[Reason]:
    key = _PERCENTILE_KEYS.get(detail.scenario, "")
    used = float(detail.require("effective_target_latency_percentile"))
    if key in rules and used != rules[key]:
        yield Reason(
            f"The latency is judged at p{100 * used:g}; the round judges it at p{100 * rules[key]:g}.",
            f"Set {key} to {rules[key]:g}.",
        )


def _queries(detail: DetailLog) -> Reason:
    done, asked = (int(detail.require(key)) for key in ("result_query_count", "effective_min_query_count"))
    what = f"{done:,} queries were issued; the test asks for {asked:,}."
    if limits := _limits(detail):
        return Reason(what, f"Remove {limits}, which ended the test.")
    return Reason(what, "Look at the errors and warnings of the log for why the test ended early.")


def _limits(detail: DetailLog) -> str:
    set_limits = [
        f"{name} {detail.get(key)}"
        for name, key in (
            ("max_duration", "effective_max_duration_ms"),
            ("max_query_count", "effective_max_query_count"),
        )
        if detail.get(key)
    ]
    return " and ".join(set_limits)


def _errors(detail: DetailLog) -> Iterator[Reason]:
    for text in dict.fromkeys(detail.errors):
        times = detail.errors.count(text)
        again = f" ({times:,} times)" if times > 1 else ""
        yield Reason(
            f"LoadGen logged an error{again}: {' '.join(text.split())}",
            "The submission checker rejects a log with errors: remove the cause and run again.",
        )


def _two_digits(value: float, digits: int = 2) -> str:
    """Round down to a few digits, for a suggestion that is not more exact than it can be."""
    if value <= 0:
        return "0"
    step: float = 10 ** (math.floor(math.log10(value)) - digits + 1)
    return f"{math.floor(value / step + 1e-9) * step:.10g}"
