from __future__ import annotations

from nvkit.catalogue import CATALOGUE, benchmarks, profiles, rounds, settings
from nvkit.config import ProfileFile, Settings, names


def test_profiles_show_what_each_has_and_is_based_on() -> None:
    rows = {row[0]: row for row in profiles().rows}
    assert set(rows) == set(names(ProfileFile))
    assert rows["l4"][2] == "gpu_memory_24"
    assert "bert" in rows["l4"][3]
    assert "dlrm," in rows["l4"][4]
    assert rows["b200"][3:] == ["", ""]


def test_benchmarks_show_what_can_run_them() -> None:
    rows = {row[0]: row for row in benchmarks().rows}
    assert rows["resnet50"][2] == "nvkit"
    assert {row[2] for row in rows.values()} <= {"nvkit", "--implementation nvidia-original"}
    assert rows["dlrm-99"][3] == "v2.1, v3.0"
    assert "nvidia-original" in str(benchmarks())


def test_rounds_have_a_line_for_each_benchmark() -> None:
    assert ["v3.0", "dlrm-99", "Offline, Server"] in [list(row) for row in rounds().rows]


def test_settings_show_where_each_applies() -> None:
    rows = {row[0]: row for row in settings().rows}
    assert set(rows) == set(Settings.model_fields)
    assert rows["use_triton"][3] == "nvidia-original; nvkit's harness runs the engine itself"
    assert rows["gpu_copy_streams"][3] == "tensorrt, tensorrt-rtx"
    assert rows["batch_size"][3] == ""


def test_every_table_prints() -> None:
    assert all(str(table()) for table in CATALOGUE.values())
