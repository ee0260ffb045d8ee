from __future__ import annotations

from pathlib import Path

import pytest
from interop.nvidia.configs import opened
from interop.nvidia.releases import BENCHMARKS, ROUNDS, make_release

from nvkit.errors import ConfigError
from nvkit.interop.nvidia import known_system, open_checkout


@pytest.mark.parametrize("round", ROUNDS)
def test_every_release_is_found_from_either_folder(tmp_path: Path, round: str) -> None:
    root = make_release(tmp_path, round)
    whole, inside = open_checkout(root, round), open_checkout(root / "closed" / "NVIDIA", round)
    assert whole == inside
    assert whole.root == root / "closed" / "NVIDIA"
    assert {"gpu_batch_size", "config_ver", "offline_expected_qps"} <= whole.options
    assert {"run_harness", "preprocess_data", "generate_engines"} <= whole.targets


def test_another_release_is_refused_by_name(tmp_path: Path) -> None:
    root = make_release(tmp_path, "v3.0")
    with pytest.raises(ConfigError, match=r"is NVIDIA's code of v3\.0; this run is configured for v4\.1") as caught:
        open_checkout(root, "v4.1")
    assert "--round v3.0" in caught.value.fix


def test_the_options_are_those_that_the_release_parses(tmp_path: Path) -> None:
    old, new = opened(tmp_path, "v3.0"), opened(tmp_path, "v4.1")
    assert "audio_batch_size" in old.options - new.options
    assert "test_run" in new.options - old.options
    assert "no_audit_verify" in old.options
    assert "no_audit_verify" not in opened(tmp_path, "v2.1").options
    # main.py drops what only arguments.py lists, and a configuration alone may hold a system.
    assert "server_coalesce_queries" in old.dropped
    assert "server_coalesce_queries" not in old.options
    assert "system" in old.fields
    assert "system" not in old.options


def test_what_an_option_belongs_to_is_read_from_sums_and_differences(tmp_path: Path) -> None:
    fields = opened(tmp_path, "v4.1").fields
    assert fields["deque_timeout_usec"].benchmarks == {"ResNet50", "Retinanet", "UNET3D", "BERT"}
    assert fields["assume_contiguous"].benchmarks == {"ResNet50", "Retinanet"}
    assert fields["soft_drop"].refused_by("resnet50", "Server", "MaxP") == "belongs to BERT"
    assert fields["server_target_qps"].refused_by("bert", "Offline", "MaxP") == "belongs to Server"
    assert fields["power_limit"].refused_by("bert", "Offline", "MaxP") == "belongs to power setting MaxQ"
    assert fields["power_limit"].refused_by("bert", "Offline", "MaxQ") == ""


def test_without_fields_the_older_file_counts(tmp_path: Path) -> None:
    root = make_release(tmp_path, "v2.1")
    (root / "closed/NVIDIA/code/common/fields.py").unlink()
    assert open_checkout(root, "v2.1").options == {"gpu_batch_size", "log_dir", "engine_file"}


def test_the_code_is_read_and_never_run(tmp_path: Path) -> None:
    root = make_release(tmp_path, "v3.0")
    ran = tmp_path / "ran"
    for name in ("fields.py", "arguments.py"):
        path = root / "closed/NVIDIA/code/common" / name
        path.write_text(path.read_text() + f"\nopen({str(ran)!r}, 'w')\n")
    open_checkout(root, "v3.0")
    assert not ran.exists()


@pytest.mark.parametrize(
    ("breaking", "message"),
    [
        (lambda root: (root / "closed/NVIDIA/Makefile").unlink(), "is not NVIDIA's MLPerf Inference code"),
        (lambda root: (root / "closed/NVIDIA/README.md").unlink(), "does not say which release it is"),
        (lambda root: (root / "closed/NVIDIA/code/common/fields.py").write_text("Fields = ("), r"fields\.py:1: "),
    ],
)
def test_a_damaged_checkout_is_an_error_that_names_it(tmp_path: Path, breaking: object, message: str) -> None:
    root = make_release(tmp_path, "v3.0")
    breaking(root)  # type: ignore[operator]
    with pytest.raises(ConfigError, match=message):
        open_checkout(root, "v3.0")


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="There is no folder"):
        open_checkout(tmp_path / "nowhere", "v3.0")


def test_benchmarks_have_the_names_of_their_folders(tmp_path: Path) -> None:
    checkout = opened(tmp_path, "v4.1")
    assert [checkout.benchmark(name) for name in ("resnet50", "bert-99.9", "dlrm-v2-99")] == [
        "resnet50",
        "bert",
        "dlrm-v2",
    ]
    assert "rnnt" not in BENCHMARKS["v4.1"]
    with pytest.raises(ConfigError, match=r"NVIDIA's code of v4\.1 has no benchmark rnnt"):
        checkout.benchmark("rnnt")


def test_known_systems_go_by_pci_id_then_name_and_count(tmp_path: Path) -> None:
    checkout = opened(tmp_path, "v3.0")
    assert known_system(checkout, "NVIDIA L4", 4, "10de:27b8") == "L4x4"
    assert known_system(checkout, "NVIDIA L4", 3, "10de:27b8") is None
    assert known_system(checkout, "Tesla T4", 1) == "T4x1"
    assert known_system(checkout, "Orin", 1) == "Orin"
    # A driver gives many GPUs the name that the release lists for one of them: the PCI id decides.
    assert known_system(checkout, "NVIDIA Graphics Device", 1, "10de:2684") is None
