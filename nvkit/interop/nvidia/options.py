"""The RUN_ARGS of NVIDIA's code: which settings become options, how they are spelled, which are left out and why.

Options that are passed on are those that a profile, NVIDIA's own values in it, `--quick` or the user set. What the
round file sets is in the release's mlperf.conf. The order is that of the CM script.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nvkit.config import RunConfig, Settings
from nvkit.config.settings import not_applicable
from nvkit.errors import ConfigError, nearest
from nvkit.interop.nvidia.checkout import Checkout

_ORDER = (
    "offline_expected_qps",
    "server_target_qps",
    "single_stream_expected_latency_ns",
    "multi_stream_expected_latency_ns",
    "use_triton",
    "config_ver",
    "user_conf_path",
    "mlperf_conf_path",
    "power_setting",
    "gpu_copy_streams",
    "gpu_inference_streams",
    "precision",
    "dla_copy_streams",
    "dla_inference_streams",
    "gpu_batch_size",
    "dla_batch_size",
    "input_format",
    "performance_sample_count",
    "devices",
    "audio_batch_size",
    "disable_encoder_plugin",
    "disable_beta1_smallk",
    "workspace_size",
    "log_dir",
    "use_graphs",
    "use_deque_limit",
    "deque_timeout_usec",
    "use_cuda_thread_per_device",
    "run_infer_on_copy_streams",
    "start_from_device",
    "end_on_device",
    "max_dlas",
    "graphs_max_seqlen",
    "soft_drop",
    "use_small_tile_gemm_plugin",
    "server_num_issue_query_threads",
    "audio_buffer_num_lines",
    "num_warmups",
    "use_fp8",
    "embedding_weights_on_gpu_part",
)
_RENAMED = {"batch_size": "gpu_batch_size", "calibration_cache": "cache_file"}
_NOT_OPTIONS = frozenset(
    {
        "nvidia_code",
        "nvidia_command",
        "nvidia_scratch",
        "make_target",
        "extra_build_engine_options",
        "extra_run_options",
        "backend",
        "download_model",
        "data_dir",
        "model_path",
    }
)
"""Settings that choose the command or prepare its files; data_dir and model_path are linked into the scratch folder."""
_BASE_DECIDES = frozenset({"input_dtype", "input_format"})
"""What must agree with the `tensor_path` of NVIDIA's base configuration, so that only the user may change it."""
_IN_PERCENT = frozenset(
    {
        "server_target_latency_percentile",
        "single_stream_target_latency_percentile",
        "multi_stream_target_latency_percentile",
    }
)
"""NVIDIA's code copies these into a user.conf, which LoadGen reads in percent."""
RUN_ONLY = frozenset({"user_conf_path", "mlperf_conf_path"})
_BATCHES = ("gpu_batch_size", "dla_batch_size")


@dataclass(frozen=True)
class _Given:
    """A setting that some layer set, under NVIDIA's name, with the reason why it cannot be passed on ("" if it can)."""

    setting: str
    option: str
    value: Any
    by_user: bool
    reason: str


def run_args(
    config: RunConfig,
    scenario: str,
    checkout: Checkout,
    *,
    running: bool = False,
    test_mode: str | None = None,
    log_dir: str | None = None,
    audit: bool = False,
) -> list[str]:
    """Return the RUN_ARGS of one scenario, each quoted for a shell.

    Args:
        running: Whether this is run_harness or an audit: only they take conf paths and `extra_run_options`.
        test_mode: LoadGen's name of the test.
        log_dir: Folder for the logs, as NVIDIA's code is to see it.
        audit: Leave the verification against staged results out, where the release can.

    Raises:
        ConfigError: an option of the user's that the release or this benchmark does not have; the nearest is named.
    """
    benchmark = checkout.benchmark(config.benchmark)
    values = passed(config, scenario, checkout)
    values = {name: value for name, value in values.items() if running or name not in RUN_ONLY}
    values["config_ver"] = _config_ver(config, scenario)
    values["power_setting"] = config.power if running and config.power == "MaxQ" else None
    values["log_dir"] = log_dir
    first = {"benchmarks": benchmark, "scenarios": scenario.lower(), "test_mode": test_mode}
    args = [_spelled(name, value) for name, value in first.items() if value]
    for name in sorted(values, key=_place):
        value = values[name]
        if value is None or value == "":
            continue
        if name not in checkout.options:
            raise _unknown(name, checkout)
        if name in _BATCHES and checkout.named_batches:
            value = f"{benchmark}:{value}"
        args.append(_spelled(name, value))
    settings = config.scenarios[scenario]
    for key in ("extra_build_engine_options", *(("extra_run_options",) if running else ())):
        args += _extra(key, getattr(settings, key) or "", config, scenario, checkout)
    if audit and "no_audit_verify" in checkout.options:
        args.append("--no_audit_verify")
    return args


def passed(config: RunConfig, scenario: str, checkout: Checkout) -> dict[str, Any]:
    """Return NVIDIA's option to the value of a scenario, for all settings that can be passed on.

    Raises:
        ConfigError: the user set one that the release or this benchmark does not have.
    """
    values = {}
    for given in _given(config, scenario, checkout):
        if not given.reason and given.value:
            values[given.option] = given.value
        elif given.reason and given.by_user:
            raise _refused(given, checkout)
    return values


def written(config: RunConfig, scenario: str, checkout: Checkout) -> dict[str, Any]:
    """Return what a benchmark configuration of a scenario has to hold: as `passed`, and false or 0 where set."""
    return {
        given.option: given.value
        for given in _given(config, scenario, checkout)
        if not given.reason and given.value is not None
    }


def left_out(config: RunConfig, checkout: Checkout) -> list[str]:
    """Return a sentence for each value of the files, and each false or 0, that NVIDIA's command line does not get."""
    notes: dict[str, list[str]] = {}
    for scenario in config.scenarios:
        for given in _given(config, scenario, checkout):
            reason = given.reason
            if not reason and not given.value and given.value is not None:
                reason = "NVIDIA's command line cannot say false or 0: its own configuration of the system decides"
            if reason and not (given.reason and given.by_user):
                notes.setdefault(f"{given.setting} = {given.value} is left out: {reason}", []).append(scenario)
    return [f"{note} ({', '.join(scenarios)})." for note, scenarios in notes.items()]


def _given(config: RunConfig, scenario: str, checkout: Checkout) -> Iterator[_Given]:
    settings, benchmark = config.scenarios[scenario], checkout.benchmark(config.benchmark)
    power = "MaxQ" if config.power == "MaxQ" else "MaxP"
    for key in Settings.model_fields:
        chain = config.origins[scenario].get(key)
        if not chain or key in _NOT_OPTIONS or chain[-1].layer.startswith("round"):
            continue
        if not_applicable(key, settings.backend, config.benchmark, scenario, config.implementation):
            continue  # the user's are refused by resolve(), the files' are in config.unused
        name, by_user = _RENAMED.get(key, key), chain[-1].layer == "user"
        reason = ""
        if name not in checkout.options:
            reason = f"NVIDIA's code of {checkout.round} has no option --{name}"
        elif why := checkout.fields[name].refused_by(benchmark, scenario, power):
            reason = f"in NVIDIA's code of {checkout.round} --{name} {why}; this is {benchmark} {scenario} {power}"
        elif key in _BASE_DECIDES and not by_user:
            reason = "NVIDIA's own configuration of the benchmark decides it together with its preprocessed data"
        value = getattr(settings, key)
        if key in _IN_PERCENT and value is not None:
            value = round(100 * value, 6)
        yield _Given(key, name, value, by_user, reason)


def _config_ver(config: RunConfig, scenario: str) -> str:
    parts: Mapping[str, bool] = {
        "maxq": config.power == "MaxQ",
        "high_accuracy": config.benchmark.endswith("-99.9"),
        "triton": config.scenarios[scenario].use_triton,
    }
    return "_".join(name for name, wanted in parts.items() if wanted)


def _extra(key: str, text: str, config: RunConfig, scenario: str, checkout: Checkout) -> list[str]:
    """Check the user's own RUN_ARGS against the release and return them."""
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise ConfigError(f"{key} = {text!r}: {error}.", "Close the quotation.") from None
    takes_value = False
    for word in words:
        name, given, _ = word.removeprefix("--").partition("=")
        if not word.startswith("--"):
            if not takes_value:
                raise ConfigError(f"{key}: '{word}' is not an option.", "Options are spelled --name=value.")
            takes_value = False
            continue
        if name not in checkout.options:
            raise _unknown(name, checkout, f"{key}: ")
        power = "MaxQ" if config.power == "MaxQ" else "MaxP"
        why = checkout.fields[name].refused_by(checkout.benchmark(config.benchmark), scenario, power)
        if why:
            raise ConfigError(
                f"{key}: in NVIDIA's code of {checkout.round} --{name} {why}; this is {config.benchmark} {scenario}.",
                "Leave it out, or choose what it belongs to.",
            )
        takes_value = not given and checkout.fields[name].type != "bool"
    return [shlex.quote(word) for word in words]


def _refused(given: _Given, checkout: Checkout) -> ConfigError:
    if given.option not in checkout.options:
        return _unknown(given.option, checkout)
    return ConfigError(f"{given.setting} has no effect here: {given.reason}.", "Leave it out.")


def _unknown(name: str, checkout: Checkout, where: str = "") -> ConfigError:
    drops = " (its arguments.py lists it, its main.py drops it)" if name in checkout.dropped else ""
    return ConfigError(
        f"{where}NVIDIA's code of {checkout.round} has no option --{name}{drops}.",
        f"{nearest(name, checkout.options)} It would be ignored without a word, so nvkit does not pass it on.",
    )


def _place(name: str) -> tuple[int, str]:
    return (_ORDER.index(name), "") if name in _ORDER else (len(_ORDER), name)


def _spelled(name: str, value: Any) -> str:
    if value is True:
        return f"--{name}"
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, Path):
        value = value.expanduser().absolute()
    return f"--{name}={shlex.quote(str(value))}"
