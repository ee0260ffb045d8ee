from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest
from fake_nvml import FAKE_NVML

from nvkit.errors import LogError
from nvkit.telemetry import FILE_NAME, Sample, judge, read, recorded, table


def sample(at: float, **values: Any) -> Sample:
    usual = {"gpu": 0, "power_w": 500.0, "limit_w": 700.0, "sm_clock_mhz": 1980, "memory_clock_mhz": 3201}
    usual |= {"temperature_c": 60, "memory_gib": 10.0, "busy_percent": 99, "throttling": (), "own": True, "foreign": 0}
    return Sample(time=at, **{**usual, **values})


def test_a_process_of_its_own_samples_until_the_test_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "pynvml.py").write_text(FAKE_NVML)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site") + os.pathsep + os.environ.get("PYTHONPATH", ""))
    begin = time.time()
    with recorded(tmp_path, hz=50):
        while len(read(tmp_path)) < 10 and time.time() < begin + 20:
            time.sleep(0.05)
    found = judge(read(tmp_path), begin, time.time(), queries=1000)
    assert found is not None
    assert found.gpus == (0,)
    assert (found.power_w, found.clock_mhz, found.temperature_c, found.memory_gib) == (700, 1980, 61, 3)
    assert found.joules_per_sample == pytest.approx(700 * found.seconds / 1000)
    assert "power cap of 700 W for 100% of the test" in found.findings[0]
    assert "Another process was on GPU 0" in found.findings[1]


def test_without_a_driver_or_at_0_hz_the_test_runs_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "pynvml.py").write_text("raise ImportError('no driver')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    for hz in (50, 0):
        with recorded(tmp_path, hz=hz):
            time.sleep(0.2)
        assert read(tmp_path) == []
    assert judge([], 0, 1, 1) is None


def test_a_quiet_run_has_no_findings() -> None:
    found = judge([sample(t) for t in range(60)], 0, 60, 60_000)
    assert found is not None
    assert found.findings == ()
    assert found.joules_per_sample == pytest.approx(0.5)
    assert "Nothing slowed the GPUs down" in str(table([("Offline", found)]))


def test_dropped_clocks_and_heat_are_told_with_what_to_do() -> None:
    samples = [sample(t, sm_clock_mhz=1980 if t < 30 else 1500) for t in range(60)]
    samples += [sample(t, gpu=1, throttling=("thermal (hardware)",), foreign=t % 2) for t in range(60)]
    found = judge(samples, 0, 60, 1)
    assert found is not None
    clock, heat, other = found.findings
    assert "from 1500 to 1980 MHz" in clock
    assert "-lgc 1500" in clock
    assert "GPU 1 was slowed by its thermal (hardware) for 100%" in heat
    assert "Another process was on GPU 1 for 50%" in other
    assert found.power_w == 1000  # both GPUs together


def test_a_busy_gpu_of_somebody_else_is_not_the_tests() -> None:
    mine = [sample(t) for t in range(60)]
    others = [sample(t, gpu=1, own=False, foreign=1) for t in range(60)]
    found = judge([*mine, *others], 0, 60, 60_000)
    assert found is not None
    assert (found.gpus, found.power_w, found.findings) == ((0,), 500, ())


def test_a_driver_that_names_no_process_leaves_the_gpus_that_worked() -> None:
    samples = [sample(t, gpu=gpu, own=False, busy_percent=99 * (gpu == 1)) for t in range(9) for gpu in (0, 1)]
    found = judge(samples, 0, 9, 1)
    assert found is not None
    assert found.gpus == (1,)


def test_energy_is_said_to_be_nvmls_figure() -> None:
    def text(power: float | None) -> str:
        found = judge([sample(t, power_w=power) for t in range(60)], 0, 60, 60_000)
        assert found is not None
        return str(table([("Offline", found)]))

    assert "not an MLPerf power measurement" in text(500.0)
    assert "MLPerf" not in text(None)


def test_only_the_time_of_the_test_counts() -> None:
    samples = [sample(t, throttling=("power cap",) if t < 10 else ()) for t in range(60)]
    found = judge(samples, 10, 60, 1)
    assert found is not None
    assert found.findings == ()


def test_a_cut_off_last_line_is_left_out_and_damage_is_an_error(tmp_path: Path) -> None:
    import json
    from dataclasses import asdict

    line = json.dumps(asdict(sample(1.0)))
    (tmp_path / FILE_NAME).write_text(f"{line}\n{line[:20]}")
    assert read(tmp_path) == [sample(1.0)]
    (tmp_path / FILE_NAME).write_text(f"{line[:20]}\n{line}\n")
    with pytest.raises(LogError, match="line 1"):
        read(tmp_path)
