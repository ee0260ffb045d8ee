"""The files of a submission that say what was done: measurements, README, calibration.md, mlperf.conf."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from nvkit.config import SCENARIOS, RoundFile, load
from nvkit.record.stored_run import StoredRun
from nvkit.results.user_conf import loadgen_model

_NS = 1_000_000  # nanoseconds of a millisecond
_TOLD_IN_CONF = {
    "performance_sample_count": "performance_sample_count_override",
    "sample_concatenate_permutation": "sample_concatenate_permutation",
    "min_duration": "min_duration",
    "min_query_count": "min_query_count",
    "qsl_rng_seed": "qsl_rng_seed",
    "sample_index_rng_seed": "sample_index_rng_seed",
    "schedule_rng_seed": "schedule_rng_seed",
    "test05_qsl_rng_seed": "test05_qsl_rng_seed",
    "test05_sample_index_rng_seed": "test05_sample_index_rng_seed",
    "test05_schedule_rng_seed": "test05_schedule_rng_seed",
    "server_target_latency_ns": "target_latency",
    "server_target_latency_percentile": "target_latency_percentile",
    "single_stream_target_latency_percentile": "target_latency_percentile",
    "multi_stream_target_latency_percentile": "target_latency_percentile",
    "multi_stream_samples_per_query": "samples_per_query",
}

_SCHEMES = {
    "onnxruntime": "Activations that cannot be negative are uint8 with zero point 0, all others uint8 with zero point "
    "128; weights are int8 with one scale for each output channel, biases int32.",
    "tensorrt": "Activations are symmetric int8, weights int8 with one scale for each output channel; biases and the "
    "output of a convolution that is added to a shortcut stay float.",
}


def measurements(run: StoredRun, scenario: str) -> dict[str, str]:
    """Return the five facts that the checker reads."""
    settings = run.scenarios[scenario]
    precision = str(settings["precision"])
    layers = run.stages.get("calibrate", {}).get("quantized_layers") or {}
    transformed = {
        "fp32": "none",
        "fp16": "cast to fp16",
        "int8": f"quantisation to int8 ({_counted(layers)})" if layers else "quantisation to int8",
        "fp8": "quantisation to fp8",
    }
    return {
        "input_data_types": str(settings["input_dtype"]),
        "retraining": "No",
        "starting_weights_filename": PurePosixPath(str(run.stages["setup"]["model"]["path"])).name,
        "weight_data_types": precision,
        "weight_transformations": transformed[precision],
    }


def readme(run: StoredRun, scenario: str, brand: Sequence[str]) -> str:
    """Return the README of one measurement: what was run, and the command that runs it again."""
    setup = run.stages["setup"]
    lines = [
        f"# {run.config['benchmark']} {scenario}, round {run.config['round']}",
        "",
        *_brand(brand),
        f"Model: {setup['model']['description']}, SHA-256 {setup['model']['digest']}.",
        "",
        f"Data set: {len(setup['data']['files'])} samples, digest {setup['data']['digest']}.",
        "",
        "Run again, from the nvkit that is in this tree:",
        "",
        f"    {command(run, scenario)}",
        "",
        "Settings that a file or a flag sets:",
        "",
        "| setting | value | from |",
        "|---|---|---|",
    ]
    for key, chain in run.config["origins"].get(scenario, {}).items():
        if chain:
            value = run.scenarios[scenario].get(key)
            lines.append(f"| {key} | {value} | {chain[-1]['layer']}: {chain[-1]['where']} |")
    return "\n".join(lines) + "\n"


def command(run: StoredRun, scenario: str = "") -> str:
    """Return the command that runs this again."""
    config = run.config
    words = ["nvkit", "run", config["benchmark"], "--profile", config["profile"], "--round", config["round"]]
    words += ["--scenario", scenario or ",".join(run.scenarios), "--mode", config["mode"], "--power", config["power"]]
    words += ["--quick"] if config["quick"] else []
    for key, value in run.user_values().items():
        flag = "--" + key.replace("_", "-")
        words += [flag, str(value).lower() if isinstance(value, bool) else str(value)]
    return shlex.join(map(str, words))


def calibration_text(runs: Sequence[StoredRun], brand: Sequence[str]) -> str:
    """Return calibration.md: how each engine was quantised, from what the calibrate stage did."""
    lines = ["# Calibration and quantisation", "", *_brand(brand)]
    for run in runs:
        lines += [f"## {run.config['benchmark']}", "", *_calibrated(run), ""]
    return "\n".join(lines)


def _calibrated(run: StoredRun) -> Iterator[str]:
    done = run.stages.get("calibrate", {})
    settings = next(iter(run.scenarios.values()))
    if not done or done.get("why_not"):
        yield f"{done.get('why_not') or 'No calibration was done.'} Nothing was quantised."
        return
    if done["method"] == "cache":
        yield "The activation ranges are those of an NVIDIA calibration cache: a range is its scale times 127."
    else:
        files = run.stages["setup"]["data"]["calibration"]
        count = min(len(files), int(settings["calibration_samples"]))
        yield (
            f"Post-training quantisation, without retraining. The fp32 network runs on {count} samples of the "
            "calibration set, preprocessed like those of the validation set; they are listed below."
        )
        yield ""
        yield {
            "max": "A tensor's range is the largest magnitude that it takes on any of them.",
            "percentile": f"A tensor's range holds {settings['calibration_percentile']} % of its magnitudes.",
            "entropy": "A tensor's range is the threshold at which the distribution of its quantised magnitudes has "
            "the least Kullback-Leibler divergence from that of its magnitudes.",
        }[done["method"]]
    yield ""
    yield (
        "The ranges are applied to the network as explicit QuantizeLinear and DequantizeLinear nodes. "
        + _SCHEMES.get(run.backend, "")
    )
    yield ""
    yield f"Quantised: {_counted(done['quantized_layers'])}."
    left = ", ".join(done["without_range"])
    yield f"Tensors that stay float: {left}." if left else "No tensor stays float for want of a range."
    for precision, line in done["accuracy"].items():
        yield f"- {precision} on {done['checked']} validation samples: {line}"
    if done["method"] != "cache":
        yield ""
        yield "calibration samples, in the order in which they were used:"
        yield ""
        yield from (f"    {name}" for name in files[:count])


def mlperf_conf(round: str, benchmark: str) -> str:
    """Return the round's values for a benchmark in the form of mlperf.conf, for a tree without MLCommons' own file."""
    rules = load(RoundFile, round)[0]
    one, model = rules.benchmarks[benchmark], loadgen_model(benchmark)
    lines = [
        f"# {benchmark}, round {round}: the values of {rules.source}",
        "# written by nvkit from parameters/rounds/",
    ]
    lines += _conf("*", "*", rules.defaults)
    for scenario in SCENARIOS:
        lines += _conf("*", scenario, rules.scenarios.get(scenario, {}))
    lines += _conf(model, "*", one.defaults)
    for scenario in SCENARIOS:
        lines += _conf(model, scenario, one.scenarios.get(scenario, {}))
    return "\n".join(lines) + "\n"


def _conf(model: str, scenario: str, values: Mapping[str, Any]) -> Iterator[str]:
    for key, name in _TOLD_IN_CONF.items():
        value = values.get(key)
        if value is None:
            continue
        if key.endswith("_ns"):
            value = int(value) // _NS
        elif key.endswith("percentile"):
            value = round(100 * float(value), 10)
        yield f"{model}.{scenario}.{name} = {int(value) if float(value).is_integer() else value}"


def _counted(layers: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in layers.items())


def _brand(brand: Sequence[str]) -> list[str]:
    return ["**Test tree, not a submission:**", "", *(f"- {one}" for one in brand), ""] if brand else []
