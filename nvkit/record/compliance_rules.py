"""What the compliance tests are: which a round asks for, and what each changes in LoadGen's settings.

Figures are those of mlcommons/inference, compliance/ of the tags v2.1 to v5.1: TEST01 logs a random part of the
responses of a performance test, TEST04 sends the same sample again and again, TEST05 uses other seeds.
"""

from __future__ import annotations

from nvkit.config import RoundFile, RunConfig, Settings, load
from nvkit.errors import ConfigError, nearest
from nvkit.results.user_conf import loadgen_model

TESTS = ("TEST01", "TEST04", "TEST05")
_SEEDS = ("qsl_rng_seed", "sample_index_rng_seed", "schedule_rng_seed")
_ACCURACY_LOG_SEED = 720381539243781796
_SAMPLED = {"retinanet": 256, "3d-unet": 64}
_SAMPLED_OTHERWISE = 4096
_SAME_INDEX = 3


def required_tests(round: str, benchmark: str) -> tuple[str, ...]:
    """Return the compliance tests that a round asks of a benchmark.

    Raises:
        ConfigError: unknown round or benchmark.
    """
    rules = load(RoundFile, round)[0].benchmarks
    if benchmark not in rules:
        raise ConfigError(f"Round {round} has no benchmark {benchmark}.", nearest(benchmark, rules))
    return tuple(rules[benchmark].compliance)


def chosen_tests(config: RunConfig, wanted: str = "") -> tuple[str, ...]:
    """Return the tests to run: those named, separated by commas, or all that the round asks for.

    Raises:
        ConfigError: a test that the round does not ask for, or that nvkit does not have.
    """
    required = required_tests(config.round, config.benchmark)
    chosen = tuple(part.strip().upper() for part in wanted.split(",") if part.strip()) or required
    for test in chosen:
        if test not in required:
            raise ConfigError(
                f"Round {config.round} asks no {test} of {config.benchmark}.",
                f"It asks {', '.join(required) or 'none'}.",
            )
        if test not in TESTS:
            raise ConfigError(f"nvkit has no {test}.", f"It has {', '.join(TESTS)}.")
    return chosen


def audit_config(test: str, benchmark: str, scenario: str) -> str:
    """Return the audit.config of a compliance test; empty for TEST05, whose seeds LoadGen takes from no file."""
    if test == "TEST01":
        lines = [
            "*.*.mode = 2",
            f"*.*.accuracy_log_rng_seed = {_ACCURACY_LOG_SEED}",
            f"*.*.accuracy_log_sampling_target = {_SAMPLED.get(loadgen_model(benchmark), _SAMPLED_OTHERWISE)}",
        ]
    elif test == "TEST04":
        lines = [
            f"*.{scenario}.mode = 2",
            f"*.{scenario}.performance_issue_unique = 0",
            f"*.{scenario}.performance_issue_same = 1",
            f"*.{scenario}.performance_issue_same_index = {_SAME_INDEX}",
        ]
    else:
        return ""
    return "\n".join([f"# {test}, {benchmark} {scenario}: mode 2 is performance", *lines]) + "\n"


def changed_seeds(test: str, settings: Settings) -> dict[str, int]:
    """Return the seeds that a compliance test changes: in TEST05 all three, else none.

    Raises:
        ConfigError: the round has no seeds for TEST05.
    """
    if test != "TEST05":
        return {}
    seeds = {key: getattr(settings, f"test05_{key}") for key in _SEEDS}
    if None in seeds.values():
        raise ConfigError(
            "The round has no seeds for TEST05.", "Leave TEST05 out, or set test05_qsl_rng_seed and so on."
        )
    return seeds
