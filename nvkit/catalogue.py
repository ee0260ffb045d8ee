"""What there is to choose from, as tables: profiles, benchmarks, scenarios, rounds, settings."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib.util import find_spec
from typing import Any

from nvkit.config import SCENARIOS, BenchmarkFile, ProfileFile, RoundFile, Settings, load, names
from nvkit.tables import Table

_QUERIES = {
    "Offline": "all samples in one query; samples/s",
    "Server": "queries arrive at random; queries/s within the latency limit",
    "SingleStream": "one sample after the other; 90th percentile latency",
    "MultiStream": "queries of eight samples, one after the other; 99th percentile latency",
}


def profiles() -> Table:
    """Return the profiles of parameters/gpus/: what each is based on, and the benchmarks that it has values for."""
    rows = []
    for name in names(ProfileFile):
        file = load(ProfileFile, name)[0]
        nvidia = _families(benchmark for values in file.nvidia.values() for benchmark in values.benchmarks)
        rows.append([file.name, file.title, file.based_on or "", _families(file.benchmarks), nvidia])
    return Table(["profile", "what", "based on", "own values", "NVIDIA's values"], rows)


def benchmarks() -> Table:
    """Return the benchmarks of parameters/benchmarks/, what can run each, and the rounds that have it."""
    rounds = [load(RoundFile, name)[0] for name in names(RoundFile)]
    rows = []
    for name in names(BenchmarkFile):
        file = load(BenchmarkFile, name)[0]
        own = find_spec(f"nvkit.benchmarks.{file.package}") is not None
        has = ", ".join(r.name for r in rounds if name in r.benchmarks)
        rows.append([name, file.title, "nvkit" if own else "--implementation nvidia-original", has])
    note = "--implementation nvidia-original runs each of them with NVIDIA's own code."
    return Table(["benchmark", "what", "runs with", "rounds"], rows, notes=[note])


def scenarios() -> Table:
    """Return LoadGen's scenarios."""
    return Table(["scenario", "what it measures"], [[name, _QUERIES[name]] for name in SCENARIOS])


def rounds() -> Table:
    """Return the rounds of parameters/rounds/, and the scenarios of the benchmarks that nvkit has."""
    ours = names(BenchmarkFile)
    files = [load(RoundFile, name)[0] for name in names(RoundFile)]
    rows = [[r.name, b, ", ".join(r.benchmarks[b].allowed)] for r in files for b in ours if b in r.benchmarks]
    return Table(["round", "benchmark", "scenarios"], rows)


def settings() -> Table:
    """Return every setting with its default and where it applies."""
    rows: list[list[Any]] = []
    for key, declared in Settings.model_fields.items():
        applies: Any = declared.json_schema_extra
        # NVIDIA's own code has no backend but TensorRT.
        told = [
            noun
            for noun, values in applies.items()
            if values and not (noun == "backends" and applies["implementations"])
        ]
        where = "; ".join(", ".join(applies[noun]) for noun in told)
        default = "" if declared.default is None else str(declared.default)
        rows.append([key, default, declared.description, where])
    return Table(["setting", "default", "what", "only for"], rows)


CATALOGUE: dict[str, Callable[[], Table]] = {
    "profiles": profiles,
    "benchmarks": benchmarks,
    "scenarios": scenarios,
    "rounds": rounds,
    "settings": settings,
}


def _families(benchmarks: Iterable[str]) -> str:
    """Return benchmark names without their accuracy targets, each once."""
    return ", ".join(dict.fromkeys(name.split("-99")[0] for name in benchmarks))
