"""`nvkit tune`: find how fast this machine is with this engine, and keep it for later runs."""

from __future__ import annotations

import math
from datetime import datetime, timezone
from pathlib import Path

import psutil

from nvkit.config import RunConfig, Settings
from nvkit.errors import ConfigError, InvalidResultError, nearest
from nvkit.harness import refuse_audit_config
from nvkit.harness.expect import rounded
from nvkit.harness.predict import expectation_text
from nvkit.progress import tqdm
from nvkit.results.percentiles import queries_needed
from nvkit.runs import RunFolder
from nvkit.stages.build import build
from nvkit.stages.preprocess import preprocess
from nvkit.store import duration
from nvkit.tuning.machine import target_key
from nvkit.tuning.measured import Measured, Probe, ServerSearch, keep, load, path_of
from nvkit.tuning.probe import Bench, limit_text
from nvkit.tuning.result import TuneResult, save_plots
from nvkit.tuning.search import RateSearch, confirm

TOLERANCE = 0.02
PROBE_MS = 5_000
_FEWEST = 64  # queries of a short test that only measures speed
# A test is to be long enough where the machine is a little faster than in the short test: LoadGen sizes the query of
# Offline by the rate, to which it adds 10 %, and makes twice the queries that a stream's latency asks for.
_OFFLINE_MARGIN = 1.05
_STREAM_MARGIN = 0.9
_SPARE = 2  # queries of a probe that may miss the limit without it being too short for early stopping
_LEAST = 1 / 50  # of the first rate: queries hardly ever wait for each other, so lower ones help no more
_QUERY_BYTES = 380  # that LoadGen holds for each query of the Server schedule, measured
_MEMORY_SHARE = 0.25
_DIGITS = 4


def tune(
    config: RunConfig,
    run: RunFolder,
    scenario: str = "all",
    fresh: bool = False,
    *,
    tolerance: float = TOLERANCE,
    probe_ms: int = PROBE_MS,
) -> TuneResult:
    """Find the expected rate or latency of scenarios and keep it for this machine, engine and settings.

    Offline and the streams take one short test. Server takes a search, which ends in a VALID test of the settings'
    own length at the highest rate found. What is known already is returned at once, and a search that was killed
    continues with its next test.

    Args:
        config: The configuration. A user's own expected rate or latency is where the search begins.
        run: Tests are kept in its tune/<scenario>/ and plots in its plots/.
        scenario: A scenario of the configuration, several separated by commas, or "all".
        fresh: Measure again what is known.
        tolerance: The search ends when an invalid rate is at most this share above a valid one.
        probe_ms: Least duration of a short test, ms; never longer than the settings' own.

    Raises:
        ConfigError: no such scenario in the configuration, NVIDIA's own code, or a tolerance that makes no sense.
        HarnessError: a test failed or was killed; finished tests are kept.
        InvalidResultError: no Server rate is valid.
    """
    refuse_audit_config(Path.cwd())
    if config.implementation != "nvkit":
        raise ConfigError("nvkit tune measures with nvkit's own harness.", "Leave out --implementation.")
    if not 0 < tolerance < 1:
        raise ConfigError(f"The tolerance {tolerance} is not between 0 and 1.", "Give e.g. 0.02 for 2 %.")
    chosen = _chosen(config, scenario)
    samples, engines = preprocess(config, run), build(config, run)
    started, found, known = datetime.now(timezone.utc), [], []
    for name in chosen:
        engine = engines.engines[name]
        key = target_key(config, name, engine.digest, samples.samples.digest)
        bench = Bench(config, run, name, engine.path, samples.samples, key, engines.notes)
        measured = None if fresh else load(run.store, key)
        if measured and measured.serves(bench.settings.min_duration):
            known.append(name)
        else:
            if fresh:  # what is left of the old one must not outlive a kill of the new one
                path_of(run.store, key).unlink(missing_ok=True)
                bench.forget()
            measured = _server(bench, tolerance, probe_ms) if name == "Server" else _speed(bench, probe_ms)
            keep(run.store, key, measured)
        found.append(measured)
    now = datetime.now(timezone.utc)
    result = TuneResult(
        stage="tune",
        found=tuple(found),
        known=tuple(known),
        reused=len(known) == len(found),
        finished=now.isoformat(timespec="seconds"),
        seconds=(now - started).total_seconds(),
        notes=tuple(dict.fromkeys(note for notes in (engines.notes, *(m.notes for m in found)) for note in notes)),
        folder=run.path,
    )
    save_plots(result, run.path / "plots")
    return result


def _chosen(config: RunConfig, scenario: str) -> list[str]:
    if scenario == "all":
        return list(config.scenarios)
    wanted = [part.strip() for part in scenario.split(",") if part.strip()]
    for name in wanted:
        if name not in config.scenarios:
            raise ConfigError(f"The configuration has no scenario '{name}'.", nearest(name, [*config.scenarios, "all"]))
    if not wanted:
        raise ConfigError("No scenario was given.", f"Choose among {', '.join(config.scenarios)} or all.")
    return [name for name in config.scenarios if name in wanted]


def _speed(bench: Bench, probe_ms: int) -> Measured:
    """Measure Offline's throughput or a stream's mean latency in one short test."""
    settings = _short(bench, probe_ms, min(bench.settings.min_query_count, _FEWEST))
    probe = bench.test("probe-01", settings)
    print(probe.headline(), flush=True)
    offline = bench.scenario == "Offline"
    value = rounded(probe.figure * (_OFFLINE_MARGIN if offline else _STREAM_MARGIN))
    return _measured(bench, [probe], value, probe.figure)


def _server(bench: Bench, tolerance: float, probe_ms: int) -> Measured:
    """Search for the highest valid rate, and confirm it in a test of full length."""
    limit_ns, share = bench.settings.server_target_latency_ns, bench.settings.server_target_latency_percentile
    # A queue that grows by the tolerance each second reaches the limit only after limit / tolerance.
    long_enough_ms = max(probe_ms, round(limit_ns / 1e6 / tolerance))
    short = _short(bench, long_enough_ms, max(bench.settings.min_query_count, queries_needed(_SPARE, share)))
    most = _MEMORY_SHARE * psutil.virtual_memory().available / _QUERY_BYTES * 1000 / max(1, bench.settings.min_duration)
    probes: list[Probe] = []

    with tqdm(desc=f"tune Server, {limit_text(bench.settings)}", unit="test") as bar:

        def test(kind: str, settings: Settings, rate: float | None) -> Probe:
            number = 1 + sum(probe.name.startswith(kind) for probe in probes)
            if rate is not None:
                bar.set_postfix_str(f"{kind} at {expectation_text(bench.scenario, rate)}")
                settings = settings.model_copy(update={bench.setting: rounded(rate, _DIGITS)})
            probes.append(bench.test(f"{kind}-{number:02}", settings))
            bar.write(probes[-1].headline())
            bar.update()
            return probes[-1]

        lengths = [duration(settings.min_duration / 1000) for settings in (short, bench.settings)]
        bar.write(f"Server: a dozen tests of {lengths[0]} or more, then one of {lengths[1]} at the highest valid rate")
        first = test("probe", short, None)
        search = RateSearch(first.target, 1 + tolerance, least=first.target * _LEAST, most=max(most, first.target))
        search.record(first.valid, first.figure)
        while (rate := search.rate) is not None:
            _require_hope(bench, probes)
            probe = test("probe", short, rate)
            search.record(probe.valid, probe.figure)

        def holds(rate: float) -> bool:
            return test("final", bench.settings, rate).valid

        if search.valid_rate is None or confirm(search.valid_rate, tolerance, holds) is None:
            raise _nothing_valid(bench, probes)
    final = max((probe for probe in probes if probe.full_length and probe.valid), key=lambda probe: probe.target)
    found = ServerSearch(
        limit_ns=limit_ns,
        percentile=share,
        held_ms=bench.settings.min_duration,
        unlimited=search.unlimited,
    )
    return _measured(bench, probes, final.target, final.figure, found)


def _short(bench: Bench, probe_ms: int, queries: int) -> Settings:
    """Return the settings of a short test, which begins at the user's own rate or else at the warm-up's."""
    chain = bench.config.origins[bench.scenario].get(bench.setting, ())
    users = bool(chain) and chain[-1].layer == "user"
    least_ms = min(bench.settings.min_duration, probe_ms)
    update = {
        "min_duration": least_ms,
        "min_query_count": queries,
        "max_query_count": 0,
        "max_duration": 0,
        # LoadGen's trace costs time, so a short test has one exactly where the full test has
        "trace_samples": round(bench.settings.trace_samples * least_ms / max(1, bench.settings.min_duration)),
        **({} if users else {bench.setting: None}),
    }
    return bench.settings.model_copy(update=update)


def _require_hope(bench: Bench, probes: list[Probe]) -> None:
    """Stop where not even the fastest query keeps the limit."""
    if not any(probe.valid for probe in probes) and probes[-1].fastest_ns > bench.settings.server_target_latency_ns:
        raise _nothing_valid(bench, probes)


def _nothing_valid(bench: Bench, probes: list[Probe]) -> InvalidResultError:
    failed = [probe for probe in probes if not probe.valid]
    slowest = min(failed, key=lambda probe: probe.target)
    return InvalidResultError(
        f"No Server rate is valid ({limit_text(bench.settings)}): even {slowest.target:.4g} queries/s was not. "
        f"{' '.join(slowest.reasons)}",
        "Use a smaller batch, a shorter deque_timeout_usec or a faster engine; --fresh measures again.",
    )


def _measured(
    bench: Bench, probes: list[Probe], value: float, figure: float, server: ServerSearch | None = None
) -> Measured:
    return Measured(
        scenario=bench.scenario,
        setting=bench.setting,
        value=math.floor(value) if bench.setting.endswith("_ns") else value,
        figure=figure,
        server=server,
        probes=tuple(probes),
        finished=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        seconds=sum(probe.seconds for probe in probes),
        run=bench.run.path.name,
        notes=bench.notes,
    )
