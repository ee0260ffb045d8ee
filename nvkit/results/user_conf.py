"""user.conf: the settings of a test that an official submission may and must state itself.

LoadGen reads lines `model.scenario.key = value` (`TestSettings.FromConfig`) over the round's own mlperf.conf, which
is compiled into it. What equals the round's is therefore left out, and what only mlperf.conf may set (the seeds)
cannot stand here at all. Latencies are in milliseconds and percentiles in percent.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from nvkit.config import RunConfig, Settings
from nvkit.harness.settings import expectation, server_rate

_NS = 1_000_000  # nanoseconds of a millisecond
_COMMON = ("min_duration", "max_duration", "min_query_count", "max_query_count", "sample_concatenate_permutation")
_OWN = {
    "Server": {"server_coalesce_queries": "coalesce_queries"},
    "MultiStream": {"multi_stream_samples_per_query": "samples_per_query"},
}
_PERCENTILES = {
    "Server": "server_target_latency_percentile",
    "SingleStream": "single_stream_target_latency_percentile",
    "MultiStream": "multi_stream_target_latency_percentile",
}


def user_conf(
    config: RunConfig,
    scenario: str,
    settings: Settings | None = None,
    *,
    mode: str = "performance",
    samples: int | None = None,
) -> str:
    """Return the user.conf of one test.

    Args:
        config: The configuration.
        scenario: One of its scenarios.
        settings: What the test used; the configuration's if None. The expected rate or latency must be set.
        mode: "performance", "accuracy" or "submission".
        samples: Samples in the whole set, which may be fewer than a performance test asks for; None if it is real.

    Raises:
        ConfigError: the expected rate or latency is not set.
    """
    settings = settings or config.scenarios[scenario]
    model = loadgen_model(config.benchmark)
    lines = [f"# {config.benchmark} {scenario}, {mode}, round {config.round}, written by nvkit"]
    lines += [f"# {note}" for note in _untold(settings, scenario)]
    values = _values(settings, config.official[scenario], scenario, mode, samples)
    lines += [f"{model}.{scenario}.{key} = {_text(value)}" for key, value in values]
    return "\n".join(lines) + "\n"


def loadgen_model(benchmark: str) -> str:
    """Return LoadGen's name of a benchmark, which is without the accuracy level: bert-99.9 is bert."""
    return re.sub(r"-99(\.9)?$", "", benchmark)


def _values(
    settings: Settings, official: Mapping[str, Any], scenario: str, mode: str, samples: int | None
) -> Iterator[tuple[str, Any]]:
    if scenario == "Server":
        yield "target_qps", server_rate(settings, mode, samples or 0)
    elif scenario == "Offline":
        yield "target_qps", expectation(settings, scenario)
    else:
        yield "target_latency", expectation(settings, scenario) / _NS
    limit = settings.server_target_latency_ns
    if scenario == "Server" and limit != official.get("server_target_latency_ns") and limit % _NS == 0:
        yield "target_latency", limit // _NS
    if (key := _PERCENTILES.get(scenario)) and getattr(settings, key) != official.get(key):
        yield "target_latency_percentile", round(100 * getattr(settings, key), 10)
    staged = settings.performance_sample_count
    used = min(staged, samples) if samples else staged
    if used != official.get("performance_sample_count"):
        yield "performance_sample_count_override", used
    for key, name in {**{key: key for key in _COMMON}, **_OWN.get(scenario, {})}.items():
        if getattr(settings, key) != official.get(key, Settings.model_fields[key].default):
            yield name, getattr(settings, key)


def _untold(settings: Settings, scenario: str) -> Iterator[str]:
    """Say what of the test cannot stand in a user.conf."""
    if scenario == "Server" and settings.server_target_latency_ns % _NS:
        yield (
            f"not told: the latency limit of {settings.server_target_latency_ns} ns, "
            "because LoadGen reads whole milliseconds"
        )


def _text(value: Any) -> str:
    """Return a number as LoadGen reads it back: no digit is lost, and truth is 1 or 0."""
    if isinstance(value, bool):
        return str(int(value))
    return str(int(value)) if float(value).is_integer() else repr(float(value))
