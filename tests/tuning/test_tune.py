from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import nvkit
from nvkit.config import Settings
from nvkit.errors import ConfigError, InvalidResultError
from nvkit.results.loadgen_log import read_detail
from nvkit.results.validity import verdict
from nvkit.tuning import probe as probe_module
from nvkit.tuning.measured import Probe
from nvkit.tuning.probe import Bench
from nvkit.tuning.tune import tune

Make = Callable[..., tuple[nvkit.RunConfig, nvkit.RunFolder]]
_LIMIT = {"server_target_latency_ns": 20_000_000, "server_target_latency_percentile": 0.9}


def machine(monkeypatch: pytest.MonkeyPatch, bears: float, full: float | None = None, fastest_ns: int = 1) -> list[Any]:
    """Replace tests by a machine that bears a rate (in tests of full length another); return what is tested."""
    tested: list[Settings] = []

    def measure(self: Bench, name: str, settings: Settings) -> Probe:
        tested.append(settings)
        rate = settings.server_target_qps or 100.0
        valid = rate <= (bears if name.startswith("probe") or full is None else full)
        return Probe(
            name=name,
            scenario="Server",
            target=rate,
            figure=rate,
            latency_ns=10_000_000 if valid else 30_000_000,
            fastest_ns=fastest_ns,
            valid=valid,
            reasons=() if valid else ("The p90 latency is 30 ms; the limit is 20 ms.",),
            logs=f"tune/Server/{name}",
        )

    monkeypatch.setattr(Bench, "test", measure)
    return tested


def test_a_killed_search_continues_ends_valid_and_is_known_at_once(
    null_run: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, run = null_run("Server", server_target_qps=10_000, **_LIMIT)
    ran: list[str] = []
    real = probe_module.run_test

    def run_test(spec: Any, folder: Path) -> Any:
        if len(ran) == 2:
            ran.append("killed")
            raise KeyboardInterrupt
        ran.append(folder.name)
        return real(spec, folder)

    monkeypatch.setattr(probe_module, "run_test", run_test)
    with pytest.raises(KeyboardInterrupt):
        tune(config, run, tolerance=0.4)
    result = tune(config, run, tolerance=0.4)
    assert ran[:4] == ["probe-01", "probe-02", "killed", "probe-03"]
    assert len(ran) == len(set(ran))
    (found,) = result.found
    final = [p for p in found.probes if p.full_length and p.valid][-1]
    assert found.value == final.target > 1000
    detail = read_detail(run.path / final.logs)
    assert verdict(detail).valid
    assert detail.require("effective_min_duration_ms") == config.scenarios["Server"].min_duration
    assert {p.name for p in (run.path / "plots").iterdir()} == {"Server-rate-search.png", "Server-rate-search.svg"}

    before, started = len(ran), time.perf_counter()
    again = tune(config, run)
    assert time.perf_counter() - started < 2
    assert len(ran) == before
    assert again.reused
    assert [m.model_dump() for m in again.found] == [m.model_dump() for m in result.found]
    assert "reused, measured" in again.headline()
    text = str(again)
    for word in ("reused, measured", "generated data", "quick run, not an official result", "VALID for 0.3 s"):
        assert word in text


def test_what_was_tuned_is_what_a_run_expects(null_run: Make) -> None:
    config, run = null_run("Offline,SingleStream")
    found = {m.setting: m for m in tune(config, run).found}
    assert found["offline_expected_qps"].value > found["offline_expected_qps"].figure > 0
    assert found["single_stream_expected_latency_ns"].value < found["single_stream_expected_latency_ns"].figure
    result = nvkit.stages.run(config, run)
    for test in result.tests:
        ((setting, expected),) = test.expectations.items()
        assert expected.value == found[setting].value
        assert expected.origin == f"measured here on {found[setting].finished[:10]} by nvkit tune"
    assert "by nvkit tune" in str(result)


def test_fresh_measures_again(null_run: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    config, run = null_run("Server", **_LIMIT, deque_timeout_usec=1)
    machine(monkeypatch, 1000.0)
    assert tune(config, run).found[0].value == pytest.approx(1000, rel=0.03)
    machine(monkeypatch, 500.0)
    assert tune(config, run).reused
    again = tune(config, run, fresh=True)
    assert not again.reused
    assert again.found[0].value == pytest.approx(500, rel=0.03)


def test_a_rate_that_full_length_does_not_bear_is_stepped_down(null_run: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    config, run = null_run("Server", **_LIMIT, deque_timeout_usec=2, min_duration=60_000)
    tested = machine(monkeypatch, 1000.0, full=930.0)
    (found,) = tune(config, run).found
    assert 890 <= found.value <= 930
    lengths = [settings.min_duration for settings in tested]
    assert set(lengths) == {5_000, 60_000}
    assert lengths[-1] == 60_000


def test_probes_are_long_enough_for_the_limit(null_run: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = {**_LIMIT, "server_target_latency_ns": 1_000_000_000, "min_duration": 600_000, "deque_timeout_usec": 3}
    config, run = null_run("Server", **slow)
    tested = machine(monkeypatch, 1000.0)
    tune(config, run, tolerance=0.05)
    assert tested[0].min_duration == 20_000


def test_no_rate_at_all_is_an_error_that_says_why(null_run: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    config, run = null_run("Server", **_LIMIT, deque_timeout_usec=4)
    tested = machine(monkeypatch, 0.0)
    with pytest.raises(InvalidResultError, match=r"p90 within 20 ms.*The p90 latency is 30 ms"):
        tune(config, run)
    assert len(tested) > 10
    tested = machine(monkeypatch, 0.0, fastest_ns=25_000_000)
    with pytest.raises(InvalidResultError, match="No Server rate is valid"):
        tune(config, run)
    assert len(tested) == 1


def test_memory_bounds_the_rate(null_run: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    config, run = null_run("Server", **_LIMIT, deque_timeout_usec=5, min_duration=600_000)
    machine(monkeypatch, 1e12)
    (found,) = (result := tune(config, run)).found
    assert found.server
    assert found.server.unlimited
    assert found.value * 600 * 380 < 2**40
    assert "would not fit into memory" in str(result)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"scenario": "Sever"}, r"no scenario 'Sever'\. Did you mean 'Server'"),
        ({"scenario": " ,"}, "No scenario was given"),
        ({"tolerance": 0.0}, "tolerance 0.0 is not between 0 and 1"),
    ],
)
def test_what_makes_no_sense_is_refused(null_run: Make, arguments: dict[str, Any], error: str) -> None:
    config, run = null_run("Server")
    with pytest.raises(ConfigError, match=error):
        tune(config, run, **arguments)
