"""Rates and latencies that were measured on this machine, kept in the store for later runs.

One file for each machine, engine, scenario and set of settings: `<store>/targets/<digest of the key>.json`. It holds
the key, what was measured, and a digest of both, so that a damaged file is recognised.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from nvkit.harness.predict import expectation_text
from nvkit.runs import StageResult
from nvkit.store import Store, digest_of, duration, write_json


class Probe(StageResult):
    """One LoadGen test of the tuning, finished.

    Attributes:
        name: Name of its folder, "probe-03" or "final-01".
        scenario: LoadGen's name.
        target: The rate or latency that LoadGen was told to expect, in the unit of its setting.
        figure: What the test measured: completed samples/s, or in the streams the mean latency of a query, ns.
        latency_ns: Server: latency at the percentile of the limit; None if LoadGen does not log that one.
        fastest_ns: Latency of the fastest sample.
        valid: Whether the test counts; only Server tests are judged by it.
        reasons: Why it does not.
        logs: Folder of its logs, relative to the run folder.
    """

    name: str
    scenario: str
    target: float
    figure: float
    latency_ns: int | None
    fastest_ns: int
    valid: bool
    reasons: tuple[str, ...]
    logs: str

    @property
    def full_length(self) -> bool:
        """Whether it was as long as a test of a run is."""
        return self.name.startswith("final")

    def usable(self) -> bool:
        """Whether its logs are still there."""
        return (self.folder / self.logs).is_dir()

    def headline(self) -> str:
        """Say in one line how the test went."""
        went = expectation_text(self.scenario, self.target if self.scenario == "Server" else self.figure)
        if self.scenario == "Server":
            latency = f", latency {self.latency_ns / 1e6:.4g} ms" if self.latency_ns is not None else ""
            went += f"{latency}, {'valid' if self.valid else 'INVALID'}"
        return f"{self.scenario} {self.name}: {went}{' (finished before)' if self.reused else ''}"


class ServerSearch(BaseModel):
    """What a Server rate was found under.

    Attributes:
        limit_ns: The latency limit.
        percentile: The fraction of queries that it applies to.
        held_ms: Least duration of the VALID test at the rate.
        unlimited: No rate was invalid, up to the highest that memory allows.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    limit_ns: int
    percentile: float
    held_ms: int
    unlimited: bool


class Measured(BaseModel):
    """What tuning found for one scenario.

    Attributes:
        scenario: LoadGen's name.
        setting: The setting that it is a value of, e.g. "server_target_qps".
        value: The value to use.
        figure: The figure that it follows from, as of `Probe.figure`.
        server: What a Server rate was found under; None elsewhere, where the value is an estimate.
        probes: All tests, in order.
        finished: UTC, ISO 8601.
        seconds: How long the tests took.
        run: Name of the run folder that holds their logs.
        notes: What a reader must know: generated data, synthetic weights.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    scenario: str
    setting: str
    value: float
    figure: float
    server: ServerSearch | None = None
    probes: tuple[Probe, ...]
    finished: str
    seconds: float
    run: str
    notes: tuple[str, ...]

    @property
    def origin(self) -> str:
        """Where the value comes from, for the table of a run."""
        return f"measured here on {self.finished[:10]} by nvkit tune"

    @property
    def age(self) -> str:
        """How long ago it was measured, in words."""
        return duration(max(0.0, time.time() - datetime.fromisoformat(self.finished).timestamp()))

    def serves(self, min_duration: int) -> bool:
        """Whether it may be used for a test of this least duration, ms: a rate must have held for as long."""
        return self.server is None or self.server.held_ms >= min_duration


def load(store: Store, key: Mapping[str, Any]) -> Measured | None:
    """Return what was measured under this key, or None; a damaged file is named on stdout and not used."""
    path = path_of(store, key)
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if values["key"] != key or values["digest"] != digest_of([values["key"], values["measured"]]):
            raise ValueError("its digest is not that of its content")
        return Measured.model_validate(values["measured"])
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError, ValidationError) as error:
        what = str(error).splitlines()[0]
        print(f"{path} is damaged and is not used ({what}); 'nvkit tune' makes it again.", flush=True)
        return None


def keep(store: Store, key: Mapping[str, Any], measured: Measured) -> None:
    """Write what was measured, atomically.

    Raises:
        DiskFullError: the file system is full; what was kept before is as it was.
    """
    content = measured.model_dump(mode="json")
    write_json(path_of(store, key), {"key": key, "measured": content, "digest": digest_of([key, content])})


def path_of(store: Store, key: Mapping[str, Any]) -> Path:
    """Return the file of a key."""
    return store.root / "targets" / f"{digest_of(key)[:24]}.json"
