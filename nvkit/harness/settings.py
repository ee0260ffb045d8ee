"""`Settings` to LoadGen's TestSettings and LogSettings.

Every value is set as an attribute, so that nothing depends on the mlperf.conf that is compiled into the installed
LoadGen (that of one round) and all origins stay known.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from nvkit.config.settings import Settings
from nvkit.errors import ConfigError

_SCENARIO_KEYS = {
    "Offline": ("offline_expected_qps",),
    "Server": (
        "server_target_qps",
        "server_target_latency_ns",
        "server_target_latency_percentile",
        "server_coalesce_queries",
    ),
    "SingleStream": ("single_stream_expected_latency_ns", "single_stream_target_latency_percentile"),
    "MultiStream": (
        "multi_stream_expected_latency_ns",
        "multi_stream_target_latency_percentile",
        "multi_stream_samples_per_query",
    ),
}
_COMMON_KEYS = (
    "min_query_count",
    "max_query_count",
    "sample_concatenate_permutation",
    "qsl_rng_seed",
    "sample_index_rng_seed",
    "schedule_rng_seed",
)
EXPECTATIONS = {scenario: (keys[0],) for scenario, keys in _SCENARIO_KEYS.items()}
"""Scenario to the settings that say how fast the system is expected to be."""

LOADGEN_MODES = {"performance": "PerformanceOnly", "accuracy": "AccuracyOnly", "submission": "SubmissionRun"}
_ACCURACY_SECONDS = 2.0


def expectation(settings: Settings, scenario: str) -> float:
    """Return the expected rate (samples/s or queries/s) or latency (ns) of a scenario.

    Raises:
        ConfigError: it is not set.
    """
    (key,) = EXPECTATIONS[scenario]
    value: float | None = getattr(settings, key)
    if value is None:
        raise ConfigError(f"{key} is not set.", "Give it as a flag, or let 'nvkit tune' find it.")
    return value


def samples_per_query(settings: Settings, scenario: str) -> int:
    """Return the samples that each query of a scenario other than Offline has."""
    return settings.multi_stream_samples_per_query if scenario == "MultiStream" else 1


def expected_samples(settings: Settings, scenario: str) -> int:
    """Estimate how many samples a performance test issues; its expected rate or latency must be set."""
    seconds, fewest = settings.min_duration / 1000, settings.min_query_count
    expected = expectation(settings, scenario)
    if scenario == "Offline":
        return max(fewest, math.ceil(1.1 * seconds * expected))
    per_second = expected if scenario == "Server" else 1e9 / expected
    queries = max(fewest, math.ceil(seconds * per_second))
    if settings.max_query_count:
        queries = min(queries, settings.max_query_count)
    return queries * samples_per_query(settings, scenario)


def server_rate(settings: Settings, mode: str, sample_count: int) -> float:
    """Return the rate at which LoadGen sends Server queries, queries/s.

    In accuracy mode LoadGen spaces them by the target rate although nothing is timed; the rate is raised so that the
    whole set is issued within seconds.
    """
    rate = expectation(settings, "Server")
    return max(rate, sample_count / _ACCURACY_SECONDS) if mode == "accuracy" else rate


def test_settings(settings: Settings, scenario: str, mode: str, sample_count: int) -> Any:
    """Return LoadGen's TestSettings for one test.

    Args:
        settings: Resolved values.
        scenario: LoadGen's name of the scenario.
        mode: "performance", "accuracy" or "submission".
        sample_count: Samples in the whole set.
    """
    import mlperf_loadgen as lg

    test = lg.TestSettings()
    test.scenario = getattr(lg.TestScenario, scenario)
    test.mode = getattr(lg.TestMode, LOADGEN_MODES[mode])
    test.min_duration_ms = settings.min_duration
    test.max_duration_ms = settings.max_duration
    for key in (*_COMMON_KEYS, *_SCENARIO_KEYS[scenario]):
        setattr(test, key, getattr(settings, key))
    if scenario == "Server":
        test.server_target_qps = server_rate(settings, mode, sample_count)
    return test


def log_settings(folder: Path, *, trace: bool) -> Any:
    """Return LoadGen's LogSettings: files into `folder`, nothing on stdout."""
    import mlperf_loadgen as lg

    output = lg.LogOutputSettings()
    output.outdir = str(folder)
    log = lg.LogSettings()
    log.log_output = output
    log.enable_trace = trace
    return log
