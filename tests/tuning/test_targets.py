from __future__ import annotations

import json
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

import nvkit
from nvkit.config import Settings, resolve
from nvkit.store import Store
from nvkit.tuning import machine
from nvkit.tuning.machine import target_key
from nvkit.tuning.measured import Measured, ServerSearch, keep, load, path_of
from nvkit.tuning.targets import Target, target_for

ENGINE, SAMPLES = "engine-digest", "samples-digest"


def config_of(scenario: str = "Server", **values: Any) -> nvkit.RunConfig:
    return nvkit.configure(profile="cpu", scenario=scenario, overrides=values)


def measured(value: float, held_ms: int | None = 600_000, setting: str = "server_target_qps") -> Measured:
    search = held_ms and ServerSearch(limit_ns=15_000_000, percentile=0.99, held_ms=held_ms, unlimited=False)
    return Measured(
        scenario="Server",
        setting=setting,
        value=value,
        figure=value,
        server=search or None,
        probes=(),
        finished=datetime(2026, 11, 20, tzinfo=timezone.utc).isoformat(),
        seconds=1.0,
        run="a run",
        notes=(),
    )


def parameters_with_a_rate(folder: Path) -> Path:
    """Return a copy of parameters/ whose cpu profile has a Server rate."""
    import shutil

    from nvkit.config import parameters_folder

    shutil.copytree(parameters_folder(), folder / "parameters")
    profile = folder / "parameters" / "gpus" / "cpu.yaml"
    text = profile.read_text(encoding="utf-8")
    profile.write_text(text.replace("    scenarios:\n", "    scenarios:\n      Server: {server_target_qps: 77}\n", 1))
    return folder / "parameters"


def test_the_user_wins_then_the_machine_then_the_profile_then_the_warm_up(tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    parameters = parameters_with_a_rate(tmp_path)

    def target(config: nvkit.RunConfig) -> Target:
        return target_for(config, "Server", store, ENGINE, SAMPLES)

    plain, profiled = config_of(), resolve("cpu", "resnet50", "Server", parameters=parameters)
    users = resolve("cpu", "resnet50", "Server", parameters=parameters, overrides={"server_target_qps": 99})
    assert target(plain) == Target("server_target_qps", None, "found in the warm-up")
    found = target(profiled)
    assert found.value == 77
    line = (
        (parameters / "gpus" / "cpu.yaml")
        .read_text(encoding="utf-8")
        .splitlines()
        .index("      Server: {server_target_qps: 77}")
    )
    assert found.origin == f"profile, scenario: parameters/gpus/cpu.yaml:{line + 1}"
    keep(store, target_key(plain, "Server", ENGINE, SAMPLES), measured(88.5))
    for config in (plain, profiled):
        assert target(config) == Target("server_target_qps", 88.5, "measured here on 2026-11-20 by nvkit tune")
    assert target(users).value == 99
    assert target(users).origin.startswith("user: ")
    assert target(users).put_into(users.scenarios["Server"]).server_target_qps == 99


def test_a_rate_must_have_held_as_long_as_the_test_is(tmp_path: Path) -> None:
    store, config = Store(tmp_path), config_of()
    key = target_key(config, "Server", ENGINE, SAMPLES)
    keep(store, key, measured(50, held_ms=10_000))
    assert target_for(config, "Server", store, ENGINE, SAMPLES).value is None
    shorter = config_of(min_duration=10_000)
    assert target_for(shorter, "Server", store, ENGINE, SAMPLES).value == 50


def test_a_latency_is_a_whole_number(tmp_path: Path) -> None:
    store, config = Store(tmp_path), config_of("SingleStream")
    value = measured(1234.0, None, "single_stream_expected_latency_ns")
    keep(store, target_key(config, "SingleStream", ENGINE, SAMPLES), value)
    found = target_for(config, "SingleStream", store, ENGINE, SAMPLES).value
    assert found == 1234
    assert isinstance(found, int)


@pytest.mark.parametrize("damage", ["cut", "digit", "key", "fields", "not an object"])
def test_a_damaged_entry_is_named_and_not_used(tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: str) -> None:
    store, key = Store(tmp_path), target_key(config_of(), "Server", ENGINE, SAMPLES)
    keep(store, key, measured(88.5))
    path = path_of(store, key)
    assert load(store, key) == measured(88.5)
    text = path.read_text(encoding="utf-8")
    content = json.loads(text)
    damaged = {
        "cut": text[: len(text) // 2],
        "digit": text.replace("88.5", "99.5"),
        "key": json.dumps({**content, "key": {}}),
        "fields": json.dumps({**content, "measured": {}}),
        "not an object": "[]",
    }[damage]
    path.write_text(damaged, encoding="utf-8")
    assert load(store, key) is None
    assert f"{path} is damaged and is not used" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("values", "same"),
    [
        ({"batch_size": 16}, False),
        ({"slots": 2}, False),
        ({"deque_timeout_usec": 500}, False),
        ({"server_target_latency_ns": 20_000_000}, False),
        ({"server_target_latency_percentile": 0.9}, False),
        ({"performance_sample_count": 64}, False),
        ({"min_duration": 10_000}, True),
        ({"warmup_duration": 5.0}, True),
        ({"server_target_qps": 5}, True),
        ({"schedule_rng_seed": 1}, True),
    ],
)
def test_what_changes_speed_is_in_the_key(values: dict[str, Any], same: bool) -> None:
    plain = target_key(config_of(), "Server", ENGINE, SAMPLES)
    assert (target_key(config_of(**values), "Server", ENGINE, SAMPLES) == plain) is same


def test_another_machine_engine_or_set_has_another_key(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = target_key(config_of(), "Server", ENGINE, SAMPLES)
    assert target_key(config_of(), "Server", "other", SAMPLES) != plain
    assert target_key(config_of(), "Server", ENGINE, "other") != plain
    monkeypatch.setattr(machine, "usable_cores", lambda: 1000)
    assert target_key(config_of(), "Server", ENGINE, SAMPLES) != plain


def test_every_setting_that_is_left_out_exists() -> None:
    assert set(Settings.model_fields) >= machine._NO_MATTER
