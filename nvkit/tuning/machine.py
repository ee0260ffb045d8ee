"""What a measured rate holds for: the machine, the engine, and the settings that change speed."""

from __future__ import annotations

from typing import Any

from nvkit.config import RunConfig
from nvkit.config.settings import not_applicable
from nvkit.engine.cpu import cpu_identity
from nvkit.system import describe, usable_cores

_NO_MATTER = frozenset(
    {
        # which samples and which network: their digests stand for them
        *("telemetry_hz", "apply_power"),
        *("data_dir", "model_path", "download_model", "data_seed", "generated_images", "allow_bad_images"),
        *("generated_calibration_images", "generated_fit_images", "synthetic_width"),
        *("generated_questions", "generated_calibration_questions", "generated_fit_questions"),
        *("calibration_method", "calibration_percentile", "calibration_samples", "calibration_cache"),
        "accuracy_check_samples",
        # how long a test is, what is expected of it, and in which order samples come
        *("min_duration", "max_duration", "min_query_count", "max_query_count", "warmup_duration", "trace_samples"),
        *("offline_expected_qps", "server_target_qps"),
        *("single_stream_expected_latency_ns", "multi_stream_expected_latency_ns"),
        *("sample_concatenate_permutation", "qsl_rng_seed", "sample_index_rng_seed", "schedule_rng_seed"),
        *("test05_qsl_rng_seed", "test05_sample_index_rng_seed", "test05_schedule_rng_seed"),
    }
)


def machine_identity(*, gpu: bool) -> dict[str, Any]:
    """Return what of this machine decides its speed: the processor and, with `gpu`, the GPUs and their driver.

    The enforced power limit is part of it, so that what was measured under one does not serve another.
    """
    found: dict[str, Any] = {"cpu": cpu_identity(), "usable_cores": usable_cores()}
    if gpu:
        system = describe()
        found["gpus"] = [[card.name, card.memory_gib, card.power_limit_w] for card in system.gpus]
        found["driver"] = system.driver
    return found


def target_key(config: RunConfig, scenario: str, engine: str, samples: str) -> dict[str, Any]:
    """Return everything that a measured rate or latency depends on; JSON-serialisable.

    Args:
        config: The configuration.
        scenario: One of its scenarios.
        engine: Digest of the engine.
        samples: Digest of the preprocessed samples.
    """
    settings = config.scenarios[scenario]
    return {
        "machine": machine_identity(gpu=config.device.kind == "gpu"),
        "benchmark": config.benchmark,
        "scenario": scenario,
        "engine": engine,
        "samples": samples,
        "power": config.power,
        "settings": {
            key: value
            for key, value in settings.model_dump(mode="json").items()
            if key not in _NO_MATTER
            and not not_applicable(key, settings.backend, config.benchmark, scenario, config.implementation)
        },
    }
