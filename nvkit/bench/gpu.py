"""Part "gpu": what the harness keeps of the bare engine's speed, and where the GPU's time goes. Needs a GPU.

For each scenario that the rules name, the engine that `nvkit run` would use runs bare (CUDA graphs on samples that lie
on the device, nothing copied, nobody asking for results) and under LoadGen, in turn.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from json import loads
from pathlib import Path
from typing import Any

import nvkit
from nvkit.bench.bare_gpu import BareGpuSpec
from nvkit.bench.figures import Figure, against_limit, against_peer, table
from nvkit.benchmarks.base import SampleSet
from nvkit.config import RunConfig
from nvkit.config.settings import Settings
from nvkit.errors import BackendUnavailableError, HarnessError
from nvkit.harness import TestSpec, run_test
from nvkit.harness.settings import samples_per_query
from nvkit.results.gpu import times_table
from nvkit.results.loadgen_log import DetailLog, read_detail
from nvkit.runs import open_run
from nvkit.stages.engines import Engine
from nvkit.store import Store
from nvkit.system import describe, python_path
from nvkit.tables import Table
from nvkit.tuning.tune import tune

_BARE_S = 5.0
_STREAM_BAR = 1 / 1.15
_OFFLINE_BAR = 0.98
_DURATION_MS = 20_000
#: Package of a benchmark to settings of the bench: enough samples that none is computed over and over.
_SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "resnet50": {"generated_images": 2048, "performance_sample_count": 2048},
    "retinanet": {"generated_images": 256, "performance_sample_count": 64},
    "bert": {"generated_questions": 2048, "performance_sample_count": 2048},
}
#: What nvkit is to reach on one GPU of this name: by benchmark, samples/s of Offline and queries/s of Server.
_BARS: Mapping[str, Mapping[str, Mapping[str, float]]] = {
    "NVIDIA H200": {
        "resnet50": {"Offline": 85_000, "Server": 70_000},
        "retinanet": {"Offline": 1_400, "Server": 1_300},
        "bert-99": {"Offline": 8_000, "Server": 6_000},
        "bert-99.9": {"Offline": 3_000},
    }
}


def measure(
    store: Store,
    repeat: int,
    profile: str = "auto",
    overrides: Mapping[str, Any] | None = None,
    benchmark: str = "resnet50",
    scenario: str = "all",
) -> list[Table]:
    """Measure a benchmark's scenarios.

    Args:
        store: Its parent folder is the outputs folder of the run that makes the engines.
        repeat: Runs of each, bare and under LoadGen in turn.
        profile: GPU profile.
        overrides: Settings of the user's. With `server_target_qps` Server runs at that rate; without it the highest
            valid rate is searched first.
        benchmark: Its name.
        scenario: Scenarios by comma, or "all".

    Raises:
        BackendUnavailableError: the profile does not run on a GPU with TensorRT.
        HarnessError: a child failed.
    """
    given = dict(overrides or {})
    configured = partial(nvkit.configure, profile, benchmark, scenario, mode="performance")
    values = {"min_duration": _DURATION_MS, **_SETTINGS.get(configured(overrides=given).package, {}), **given}
    config = configured(overrides=values)
    if config.shared.backend != "tensorrt":
        raise BackendUnavailableError(
            f"Profile {config.profile} runs on {config.shared.backend}.", "Part gpu needs a GPU: give its --profile."
        )
    run = open_run(config, store.root.parent)
    engines = nvkit.stages.build(config, run).engines
    samples = nvkit.stages.preprocess(config, run).samples
    if "Server" in config.scenarios and "server_target_qps" not in values:
        found = {measured.scenario: measured.value for measured in tune(config, run, "Server").found}
        values["server_target_qps"] = found["Server"]
        config = configured(overrides=values)
    bench = GpuBench(config, engines, samples)
    for _ in range(repeat):
        for name in config.scenarios:
            bench.once(name)
    return bench.tables()


class GpuBench:
    """Runs a configuration's scenarios, bare and under LoadGen.

    Args:
        config: The configuration.
        engines: Scenario to its engine.
        samples: Preprocessed samples.
    """

    def __init__(self, config: RunConfig, engines: Mapping[str, Engine], samples: SampleSet) -> None:
        self._config, self._engines, self._samples = config, engines, samples
        self._bare: dict[str, list[dict[str, Any]]] = {name: [] for name in config.scenarios}
        self._logs: dict[str, list[DetailLog]] = {name: [] for name in config.scenarios}
        self._timing: dict[str, Any] = {}

    def once(self, scenario: str) -> None:
        """Run the bare engine of a scenario, then its test."""
        settings = self._config.scenarios[scenario]
        engine = self._engines[scenario]
        self._bare[scenario].append(_bare(self._peer(scenario, settings, engine.path)))
        with tempfile.TemporaryDirectory(prefix="nvkit-bench-") as folder:
            package = self._config.package
            spec = TestSpec(package, scenario, "performance", settings, engine.path, self._samples)
            said = run_test(spec, Path(folder) / "test")
            self._logs[scenario].append(read_detail(Path(folder) / "test"))
        self._timing[scenario] = said["runner"]["timing"]

    def _peer(self, scenario: str, settings: Settings, engine: Path) -> BareGpuSpec:
        samples, batch = self._samples, settings.batch_size
        if scenario.endswith("Stream"):  # one query is in flight, whatever larger batches the engine takes
            batch = min(batch, samples_per_query(settings, scenario))
        return BareGpuSpec(
            engine=str(engine.resolve()),
            arrays={name: str(path.resolve()) for name, path in samples.arrays.items()},
            lengths=None if samples.lengths is None else str(samples.lengths.resolve()),
            resident=min(samples.count, settings.performance_sample_count or samples.count),
            batch=batch,
            streams=settings.gpu_inference_streams if scenario in ("Offline", "Server") else 1,
            seconds=_BARE_S,
            sorted=scenario == "Offline",
        )

    def tables(self) -> list[Table]:
        """Return the figures with their bars, and the parts of a batch's time."""
        gpus = [gpu.name for gpu in describe().gpus]
        bars = _BARS.get(gpus[0] if gpus else "", {}).get(self._config.benchmark, {})
        figures = [
            figure
            for scenario, settings in self._config.scenarios.items()
            for figure in self._figures(scenario, settings, bars.get(scenario))
        ]
        title = f"{self._config.title} on {', '.join(gpus)}"
        return [table(title, figures, self._notes()), times_table(self._timing)]

    def _figures(self, scenario: str, settings: Settings, bar: float | None) -> list[Figure]:
        logs, bare = self._logs[scenario], self._bare[scenario]
        words = (
            f"{settings.precision}, batch {settings.batch_size}, {settings.gpu_copy_streams} copy and "
            f"{settings.gpu_inference_streams} inference streams{', graphs' if settings.use_graphs else ''}, "
            f"{settings.min_duration / 1000:g} s"
        )
        rates = [figure["samples_per_second"] for figure in bare]
        if scenario == "Offline":
            ours = _values(logs, "result_samples_per_second")
            ratio = against_peer("Offline over the bare engine", "samples/s", ours, rates, _OFFLINE_BAR, words)
            return [ratio, *_limit("Offline", "samples/s", ours, bar, words)]
        if scenario == "Server":
            valid = [log.require("result_validity") == "VALID" for log in logs]
            ours = _values(logs, "result_completed_samples_per_sec")
            percent, limit = settings.server_target_latency_percentile, settings.server_target_latency_ns
            share = f"p{100 * percent:g} within {limit / 1e6:g} ms: {sum(valid)} of {len(valid)} VALID"
            said = f"{words}; {share}"
            ratio = against_peer("Server over the bare engine", "queries/s", ours, rates, 0.0, said)
            held = [rate if ok else 0.0 for rate, ok in zip(ours, valid, strict=True)]
            return [ratio, *_limit("Server, valid", "queries/s", held, bar, said)]
        rank, query = (90, "") if scenario == "SingleStream" else (99, "per_query_")
        ours = [v / 1e6 for v in _values(logs, f"result_{rank}.00_percentile_{query}latency_ns")]
        peer = [figure["latencies_ms"][str(rank)] for figure in bare]
        what = f"{scenario} p{rank}: bare latency over ours"
        return [against_peer(what, "ms", ours, peer, _STREAM_BAR, words, lower_is_better=True)]

    def _notes(self) -> list[str]:
        if self._samples.lengths is None:
            return []
        return [
            "Bare batches are of the harness's samples without padding, of nearly one length in Offline, of any length "
            "elsewhere."
        ]


def _limit(what: str, unit: str, values: Sequence[float], bar: float | None, words: str) -> list[Figure]:
    return [] if bar is None else [against_limit(what, unit, values, bar, words)]


def _values(logs: Sequence[DetailLog], key: str) -> list[float]:
    return [float(log.require(key)) for log in logs]


def _bare(spec: BareGpuSpec) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="nvkit-bench-") as folder:
        path = Path(folder) / "spec.json"
        path.write_text(spec.to_json(), encoding="utf-8")
        command = [sys.executable, "-m", "nvkit.bench.bare_gpu", str(path)]
        environment = {**os.environ, "PYTHONPATH": python_path()}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=folder)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise HarnessError(
            f"The bare engine in {spec.engine} did not run: {last}", "Build it again: nvkit build --fresh."
        )
    said: dict[str, Any] = loads(done.stdout.strip().splitlines()[-1])
    return said
