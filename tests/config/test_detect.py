from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import psutil
import pytest
from nvml_replay import RECORDED, replay

from nvkit.config import load, names
from nvkit.config.detect import detect
from nvkit.config.files import ProfileFile
from nvkit.errors import ConfigError
from nvkit.gpus import Gpu

CLASSES = (8, 16, 24, 48, 80)


def write(folder: Path, name: str, device: str) -> None:
    (folder / "gpus").mkdir(parents=True, exist_ok=True)
    text = f"name: {name}\ntitle: {name}\nsource: test\ndevice: {{kind: gpu, {device}}}\n"
    (folder / "gpus" / f"{name}.yaml").write_text(text, encoding="utf-8")


@pytest.fixture
def parameters(tmp_path: Path) -> Path:
    """Two products and five memory classes."""
    write(tmp_path, "l4", 'names: [L4], pci_ids: ["10de:27b8"], memory_gb: 24')
    write(tmp_path, "h200_sxm", 'names: [H200], pci_ids: ["10de:2335"], memory_gb: 141')
    for size in CLASSES:
        write(tmp_path, f"gpu_memory_{size}", f"memory_gb: {size}, memory_class: true")
    write(tmp_path, "custom", "precisions: [fp16]")
    return tmp_path


@pytest.fixture(scope="module")
def read_once() -> Iterator[None]:
    """Read the real profiles once for all recordings, because that takes a second."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nvkit.config.detect.load", lru_cache(load))
        yield


def card(name: str = "NVIDIA Thing", pci: str | None = "10de:ffff", mib: float | None = 12 * 1024) -> Gpu:
    return Gpu(name, pci, "8.9", round(mib / 1024, 2) if mib else None, 100.0, 2000)


@pytest.mark.parametrize(
    ("recording", "profile", "how", "count"),
    [
        ("t4", "t4", "PCI id 10de:1eb8", 1),
        ("l4", "l4", "PCI id 10de:27b8", 1),
        ("l40s_x2", "l40s", "PCI id 10de:26b9", 2),
        ("a2", "a2", "PCI id 10de:25b6", 1),
        ("a16", "a2", "PCI id 10de:25b6", 1),
        ("a10", "a10", "PCI id 10de:2236", 1),
        ("a10_virtual_8gb", "gpu_memory_8", "memory class", 1),
        ("a30", "a30", "PCI id 10de:20b7", 1),
        ("a100_sxm4_40gb", "a100_sxm_40", "PCI id 10de:20b0", 1),
        ("a100_sxm4_40gb_mig", "gpu_memory_16", "memory class", 1),
        ("a100_sxm4_80gb_x4", "a100_sxm", "PCI id 10de:20b2", 4),
        ("a100_pcie_80gb", "a100_pcie", "PCI id 10de:20b5", 1),
        ("h100_sxm", "h100_sxm", "PCI id 10de:2330", 1),
        ("h100_sxm_mig", "gpu_memory_40", "memory class", 1),
        ("h100_pcie", "h100_pcie", "PCI id 10de:2331", 1),
        ("h100_nvl", "h100_nvl", "PCI id 10de:2321", 1),
        ("h200", "h200_sxm", "PCI id 10de:2335", 1),
        ("h200_mig", "gpu_memory_48", "memory class", 1),
        ("gh200_96gb", "gh200_96", "PCI id 10de:2342", 1),
        ("b200_x8", "b200", "PCI id 10de:2901", 8),
        ("rtx_4090", "rtx_4090", "PCI id 10de:2684", 1),
        ("rtx_5090", "rtx_5090", "PCI id 10de:2b85", 1),
        ("rtx_a6000", "rtx_a6000", "PCI id 10de:2230", 1),
        ("rtx_6000_ada", "rtx_6000_ada", "PCI id 10de:26b1", 1),
        ("rtx_3090", "gpu_memory_24", "memory class", 1),
        ("rtx_3060_12gb", "gpu_memory_8", "memory class", 1),
        ("rtx_4090_and_rtx_6000_ada", "rtx_4090", "PCI id 10de:2684", 1),
        ("gtx_1650_ti_4gb", "cpu", "no usable GPU", 0),
        ("orin_nano_8gb", "gpu_memory_8", "memory class", 1),
        ("gb10", "gpu_memory_80", "memory class", 1),
        ("mig_container", "gpu_memory_8", "memory class", 1),
        ("no_driver", "cpu", "no GPU", 0),
        ("no_library", "cpu", "no GPU", 0),
        ("mismatch", "cpu", "no GPU", 0),
        ("gpu_lost", "cpu", "no GPU", 0),
    ],
)
@pytest.mark.usefixtures("read_once")
def test_recorded_machines_find_their_profile_among_the_real_ones(
    recording: str, profile: str, how: str, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    replay(recording, monkeypatch)

    found = detect()

    assert (found.profile, found.how, found.count) == (profile, how, count)
    assert found.profile in names(ProfileFile)
    guessed = not how.startswith("PCI id")
    assert bool(found.notes) == (guessed or recording in ("a16", "rtx_4090_and_rtx_6000_ada"))
    assert all(note.endswith(".") for note in found.notes)


def test_every_recording_is_tested_and_says_where_it_comes_from() -> None:
    marks = test_recorded_machines_find_their_profile_among_the_real_ones.pytestmark
    cases = next(mark.args[1] for mark in marks if mark.name == "parametrize")
    assert {case[0] for case in cases} == {path.stem for path in RECORDED.glob("*.json")}
    for path in RECORDED.glob("*.json"):
        text = path.read_text(encoding="utf-8")
        assert '"source": [' in text
        assert "GPU-" not in text, f"{path.name} holds a UUID"


@pytest.mark.parametrize(
    ("mib", "profile"),
    [
        (7611, "gpu_memory_8"),  # Tesla P4, 8 GB
        (7979, "gpu_memory_8"),  # GeForce RTX 2080, 8 GB
        (11264, "gpu_memory_8"),  # 11 GB
        (15109, "gpu_memory_16"),  # T4 with an older driver, 16 GB
        (20475, "gpu_memory_16"),  # 20 GB
        (22528, "gpu_memory_24"),
        (22731, "gpu_memory_24"),  # A10 with an older driver, 24 GB
        (40960, "gpu_memory_24"),  # 40 GB, which this folder has no class for
        (46068, "gpu_memory_48"),  # L40S, 48 GB
        (81559, "gpu_memory_80"),  # H100, 80 GB
        (143771, "gpu_memory_80"),
    ],
)
def test_memory_is_rounded_down_to_the_largest_class_that_fits(mib: int, profile: str, parameters: Path) -> None:
    found = detect([card(mib=mib)], parameters)

    assert (found.profile, found.how) == (profile, "memory class")
    assert found.notes[0] == "No profile knows NVIDIA Thing (10de:ffff)."
    assert found.notes[1].startswith(f"The values of {profile} are used")
    assert "guesses" in found.notes[1]


@pytest.mark.parametrize("name", ["NVIDIA L4", "L4", "Tesla L4", "nvidia l4"])
def test_a_name_is_known_in_any_spelling_where_the_id_is_not(name: str, parameters: Path) -> None:
    assert detect([card(name, None, 23034)], parameters).how == "name"
    assert detect([card(name, "10de:aaaa", 23034)], parameters).profile == "l4"


@pytest.mark.parametrize("name", ["NVIDIA L40", "NVIDIA L4 Laptop GPU", "NVIDIA L4 D"])
def test_a_name_that_only_resembles_is_not_known(name: str, parameters: Path) -> None:
    assert detect([card(name, None, 24564)], parameters).profile == "gpu_memory_24"


def test_one_id_in_two_profiles_is_decided_by_name_then_memory_and_said(parameters: Path) -> None:
    write(parameters, "a6000", 'names: [RTX A6000], pci_ids: ["10de:2204"], memory_gb: 48')
    write(parameters, "b3090", 'names: [GeForce RTX 3090], pci_ids: ["10de:2204"], memory_gb: 24')

    by_name = detect([card("NVIDIA GeForce RTX 3090", "10de:2204", 24576)], parameters)
    assert (by_name.profile, by_name.how) == ("b3090", "PCI id 10de:2204")
    assert by_name.notes == (
        "NVIDIA GeForce RTX 3090 (10de:2204) also fits a6000; its name decides for b3090 (--profile overrules it).",
    )
    by_memory = detect([card("NVIDIA Graphics Device", "10de:2204", 49140)], parameters)
    assert by_memory.profile == "a6000"
    assert "also fits b3090; its memory decides" in by_memory.notes[0]

    write(parameters, "c3090", 'names: [GeForce RTX 3090], pci_ids: ["10de:2204"], memory_gb: 24')
    alike = detect([card("NVIDIA GeForce RTX 3090", "10de:2204", 24576)], parameters)
    assert alike.profile == "b3090"
    assert "only the alphabet decides" in alike.notes[0]


def test_an_id_that_the_name_contradicts_is_decided_by_memory(parameters: Path) -> None:
    write(parameters, "a6000", 'names: [RTX A6000], pci_ids: ["10de:2204"], memory_gb: 48')
    write(parameters, "b3090", 'names: [GeForce RTX 3090], pci_ids: ["10de:2203"], memory_gb: 24')

    found = detect([card("NVIDIA GeForce RTX 3090", "10de:2204", 24576)], parameters)

    assert (found.profile, found.how) == ("b3090", "name")
    assert "also fits a6000; its memory decides" in found.notes[0]


def test_a_part_of_a_known_gpu_takes_its_memory_class(parameters: Path) -> None:
    found = detect([card("GRID H200-16C", "10de:2335", 16384)], parameters)

    assert (found.profile, found.how) == ("gpu_memory_16", "memory class")
    assert "of 141 GB, of which 17.2 GB are here" in " ".join(found.notes)


def test_unequal_gpus_are_told_apart(parameters: Path) -> None:
    l4, h200 = card("NVIDIA L4", "10de:27b8", 23034), card("NVIDIA H200", "10de:2335", 143771)

    most = detect([l4, h200, h200], parameters)
    assert (most.profile, most.count, len(most.gpus)) == ("h200_sxm", 2, 3)
    assert most.notes == ("1 x NVIDIA L4 differs and is left out: --profile l4 --devices 0 chooses it instead.",)

    first = detect([l4, h200], parameters)
    assert (first.profile, first.count) == ("l4", 1)
    assert "--profile h200_sxm --devices 1" in first.notes[0]


def test_cards_too_small_never_decide_beside_one_that_is_not(parameters: Path) -> None:
    small = card("NVIDIA T400 4GB", "10de:1ff2", 4096)

    found = detect([small, small, card("NVIDIA L4", "10de:27b8", 23034)], parameters)
    assert (found.profile, found.count) == ("l4", 1)
    assert found.notes[0] == "2 x NVIDIA T400 4GB differs and is left out."

    alone = detect([small], parameters)
    assert (alone.profile, alone.how, alone.gpus) == ("cpu", "no usable GPU", ("NVIDIA T400 4GB",))
    assert "has 4.3 GB and the smallest memory class has 8 GB: to use it, give --profile custom" in alone.notes[-2]
    assert alone.notes[-1] == "Until then the CPU is used."


def test_a_mig_slice_is_not_the_whole_gpu(monkeypatch: pytest.MonkeyPatch, parameters: Path) -> None:
    replay("h100_sxm_mig", monkeypatch)
    found = detect(parameters=parameters)
    assert (found.profile, found.gpus) == ("gpu_memory_24", ("NVIDIA H100 80GB HBM3",))
    assert "the first of 4 (39.5 GiB, 60 SMs)" in found.notes[0]

    module = replay("h100_sxm_mig", monkeypatch)
    module.recorded["gpus"][0]["slices"] = []
    none = detect(parameters=parameters)
    assert (none.profile, none.how) == ("cpu", "no usable GPU")
    assert "it has no slice" in none.notes[0]


@pytest.mark.parametrize(
    ("ram_gb", "profile"), [(128.5, "gpu_memory_80"), (32.9, "gpu_memory_24"), (7.99, "gpu_memory_8")]
)
def test_unified_memory_is_the_machines(
    ram_gb: float, profile: str, monkeypatch: pytest.MonkeyPatch, parameters: Path
) -> None:
    memory = psutil.virtual_memory()._replace(total=int(ram_gb * 1e9))
    monkeypatch.setattr(psutil, "virtual_memory", lambda: memory)

    found = detect([Gpu("Orin (nvgpu)", None, "8.7", None, None, None, unified_memory=True)], parameters)

    assert found.profile == profile
    assert "shares the machine's" in found.notes[0]


def test_memory_that_the_driver_does_not_give_is_not_guessed(parameters: Path) -> None:
    found = detect([card(mib=None)], parameters)
    assert (found.profile, found.how) == ("cpu", "no usable GPU")
    assert "does not say how much memory" in found.notes[-2]

    assert detect([card("NVIDIA L4", "10de:27b8", None)], parameters).profile == "l4"


def test_without_a_gpu_it_is_the_cpu_and_why(parameters: Path) -> None:
    found = detect([], parameters, no_gpu_reason="no NVIDIA driver answers")
    assert (found.profile, found.how, found.count) == ("cpu", "no GPU", 0)
    assert found.notes == ("The CPU is used: no NVIDIA driver answers.",)


def test_a_broken_profile_is_an_error_and_not_passed_over(parameters: Path) -> None:
    write(parameters, "broken", "pciids: []")
    with pytest.raises(ConfigError, match=r"unknown key 'device\.pciids'"):
        detect([card()], parameters)
