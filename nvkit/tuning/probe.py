"""The LoadGen tests of the tuning: each a child process, each kept in the run folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nvkit.benchmarks.base import SampleSet
from nvkit.config import RunConfig, Settings
from nvkit.harness import TestSpec, run_test, set_aside
from nvkit.harness.settings import EXPECTATIONS
from nvkit.results.loadgen_log import DetailLog, read_detail
from nvkit.results.percentiles import percentile_label
from nvkit.results.validity import verdict
from nvkit.runs import RunFolder
from nvkit.tuning.measured import Probe

_FIGURES = {
    "Offline": "result_samples_per_second",
    "Server": "result_completed_samples_per_sec",
    "SingleStream": "result_mean_latency_ns",
    "MultiStream": "result_mean_query_latency_ns",
}


@dataclass(frozen=True)
class Bench:
    """One scenario on this machine, ready to be tested.

    Attributes:
        config: The configuration.
        run: Where tests are kept, in tune/<scenario>/<name>/.
        scenario: LoadGen's name.
        engine: Folder of the engine.
        samples: Preprocessed samples.
        key: Everything that a measured rate depends on, `nvkit.tuning.machine.target_key`.
        notes: What a reader must know: generated data, synthetic weights.
    """

    config: RunConfig
    run: RunFolder
    scenario: str
    engine: Path
    samples: SampleSet
    key: Mapping[str, Any]
    notes: tuple[str, ...]

    @property
    def settings(self) -> Settings:
        """The scenario's settings."""
        return self.config.scenarios[self.scenario]

    @property
    def setting(self) -> str:
        """Name of the setting that tuning looks for."""
        return EXPECTATIONS[self.scenario][0]

    def test(self, name: str, settings: Settings) -> Probe:
        """Run a performance test, or return the finished one of this name and these settings.

        Raises:
            HarnessError: the child failed.
        """
        logs = f"tune/{self.scenario}/{name}"
        key = {"target": dict(self.key), "settings": settings.model_dump(mode="json")}

        def work() -> Probe:
            folder = self.run.path / logs
            spec = TestSpec(self.config.package, self.scenario, "performance", settings, self.engine, self.samples)
            set_aside(folder)
            child = run_test(spec, folder)
            return self._probe(name, logs, read_detail(folder), child["expectations"][self.setting])

        return self.run.stage(Probe, f"{self.stages}{name}", key, work)

    @property
    def stages(self) -> str:
        """What the names of all its stages begin with."""
        return f"tune-{self.scenario}-"

    def forget(self) -> None:
        """Forget that tests are finished; their logs stay until a test of the same name sets them aside."""
        for file in self.run.stage_file("x").parent.glob(f"{self.stages}*.json"):
            file.unlink()

    def _probe(self, name: str, logs: str, detail: DetailLog, target: float) -> Probe:
        found = verdict(detail)
        latency = None
        if self.scenario == "Server":
            share = self.settings.server_target_latency_percentile
            latency = detail.get(f"result_{100 * share:.2f}_percentile_latency_ns")
        return Probe(
            name=name,
            scenario=self.scenario,
            target=target,
            figure=float(detail.require(_FIGURES[self.scenario])),
            latency_ns=latency,
            fastest_ns=int(detail.require("result_min_latency_ns")),
            valid=found.valid,
            reasons=tuple(map(str, found.reasons)),
            logs=logs,
            notes=self.notes,
        )


def limit_text(settings: Settings) -> str:
    """Return the latency limit of Server in words, e.g. "p99 within 15 ms"."""
    label = percentile_label(settings.server_target_latency_percentile)
    return f"{label} within {settings.server_target_latency_ns / 1e6:g} ms"
