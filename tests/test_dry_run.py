from __future__ import annotations

from pathlib import Path

import pytest
from small import SMALL

import nvkit
from nvkit.dry_run import dry_run
from nvkit.errors import ConfigError


def test_nvkits_own_dry_run_tells_what_there_is_and_writes_nothing(tmp_path: Path, outputs: Path) -> None:
    # A configuration that no other test has, so that nothing changes its folder.
    finished = nvkit.configure("cpu", scenario="Offline", quick=True, overrides={**SMALL, "warmup_duration": 0.08})
    nvkit.stages.report(finished, nvkit.open_run(finished, outputs))
    runs = sorted((outputs / "runs").iterdir())
    (table,) = dry_run(finished, outputs=outputs)
    states = {row[0]: row[2] for row in table.rows}
    assert states["build"] == "again, with what is in the store"
    assert states["run"] == states["report"] == "again"
    assert finished.digest[:8] in str(table)
    assert sorted((outputs / "runs").iterdir()) == runs

    config = nvkit.configure("cpu", scenario="Offline", quick=True, overrides=SMALL)
    (table,) = dry_run(config, outputs=tmp_path / "none")
    assert {row[2] for row in table.rows} == {"to do"}
    assert not (tmp_path / "none").exists()
    run = nvkit.open_run(config, tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    (table,) = dry_run(config, outputs=tmp_path)
    assert f"run folder: {run.path}" in table.notes
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_a_run_mode_belongs_to_nvidias_code(tmp_path: Path) -> None:
    config = nvkit.configure("cpu", scenario="Offline", quick=True, overrides=SMALL)
    with pytest.raises(ConfigError, match="Run mode prebuild belongs to NVIDIA's code"):
        dry_run(config, "prebuild", tmp_path)
