"""What there is to choose from, as tables: profiles, benchmarks, scenarios, rounds, settings."""

from __future__ import annotations

from collections.abc import Callable
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
    """Return the profiles of parameters/gpus/ and the benchmarks that each has values for."""
    files = [load(ProfileFile, name)[0] for name in names(ProfileFile)]
    return Table(["profile", "what", "benchmarks"], [[f.name, f.title, ", ".join(f.benchmarks)] for f in files])


def benchmarks() -> Table:
    """Return the benchmarks of parameters/benchmarks/ and the rounds that have them."""
    rounds = [load(RoundFile, name)[0] for name in names(RoundFile)]
    files = [load(BenchmarkFile, name)[0] for name in names(BenchmarkFile)]
    rows = [[f.name, f.title, ", ".join(r.name for r in rounds if f.name in r.benchmarks)] for f in files]
    return Table(["benchmark", "what", "rounds"], rows)


def scenarios() -> Table:
    """Return LoadGen's scenarios."""
    return Table(["scenario", "what it measures"], [[name, _QUERIES[name]] for name in SCENARIOS])


def rounds() -> Table:
    """Return the rounds of parameters/rounds/, and the scenarios of the benchmarks that nvkit has."""
    ours = names(BenchmarkFile)
    rows = [
        [r.name, "; ".join(f"{b}: {', '.join(r.benchmarks[b].allowed)}" for b in ours if b in r.benchmarks)]
        for r in (load(RoundFile, name)[0] for name in names(RoundFile))
    ]
    return Table(["round", "benchmarks and scenarios"], rows)


def settings() -> Table:
    """Return every setting with its default and where it applies."""
    rows: list[list[Any]] = []
    for key, declared in Settings.model_fields.items():
        applies: Any = declared.json_schema_extra
        where = "; ".join(", ".join(values) for values in applies.values() if values)
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
