from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from nvkit import doctor
from nvkit.doctor import Check, checkup, disk_needed_gb, table
from nvkit.system import Gpu, describe

BARE = replace(describe(), gpus=(), no_gpu_reason="no driver", driver=None, cuda=None)
L4 = Gpu("NVIDIA L4", "10de:27b8", "8.9", 24.0, 72.0, 2040)


def by_name(checks: list[Check]) -> dict[str, Check]:
    return {check.name: check for check in checks}


def image_folder(root: Path, listed: int, present: int) -> Path:
    root.mkdir()
    names = [f"ILSVRC2012_val_{i + 1:08}.JPEG" for i in range(listed)]
    (root / "val_map.txt").write_text("".join(f"{name} {i}\n" for i, name in enumerate(names)))
    for name in names[:present]:
        (root / name).touch()
    return root


def test_every_lack_says_how_to_get_it(tmp_path: Path) -> None:
    checks = checkup(tmp_path, None)
    found = by_name(checks)

    assert list(found) == [
        *("Python", "Memory", "Disk", "Processor", "LoadGen", "ONNX Runtime", "OpenCV", "tokenizers"),
        *(
            "pycocotools",
            "JupyterLab",
            "ipywidgets",
            "GPU",
            "Profile",
            "NVIDIA driver",
            "CUDA",
            "TensorRT",
            "cuda-python",
        ),
        *("ImageNet", "ResNet-50 model"),
    ]
    assert all(check.how_to_get for check in checks if check.ok != "ok")
    assert all(found[name].ok == "ok" for name in ("Python", "LoadGen", "ONNX Runtime", "OpenCV"))
    assert found["ImageNet"].found == "none given; generated data will be used"


def test_what_only_the_gpu_path_needs_is_missing_only_beside_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    bare = replace(BARE, packages={})
    monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda name: None)
    with_gpu = replace(bare, gpus=(L4, L4), no_gpu_reason="", driver="550", cuda="12.4")

    for system, expected in ((bare, "optional"), (with_gpu, "missing")):
        monkeypatch.setattr(doctor, "describe", lambda disk, system=system: system)
        found = by_name(checkup(Path("outputs"), None))
        assert (found["TensorRT"].ok, found["cuda-python"].ok) == (expected, expected)
        assert found["LoadGen"].ok == "missing"
        assert found["JupyterLab"].ok == "optional"
    assert found["GPU"].found == "2 x NVIDIA L4"


def test_the_profile_of_this_machine_is_named_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    unknown = replace(L4, name="NVIDIA New", pci_id="10de:ffff")
    for gpus, found, note in (
        ((L4, L4), "l4 (PCI id 10de:27b8, 2 of 2 GPUs)", ""),
        ((unknown,), "gpu_memory_24 (memory class)", "guesses for this GPU."),
        ((), "cpu (no GPU)", "The CPU is used: no driver."),
    ):
        system = replace(BARE, gpus=gpus, no_gpu_reason="" if gpus else "no driver")
        monkeypatch.setattr(doctor, "describe", lambda disk, system=system: system)
        check = by_name(checkup(Path("outputs"), None))["Profile"]
        assert (check.ok, check.found) == ("ok", found)
        assert check.how_to_get.endswith(note)


def test_tensorrt_is_found_under_any_of_its_names(monkeypatch: pytest.MonkeyPatch) -> None:
    system = replace(BARE, packages={"tensorrt-cu12": "10.9.0", "cuda-bindings": "12.9"})
    monkeypatch.setattr(doctor, "describe", lambda disk: system)
    monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda name: None)
    found = by_name(checkup(Path("outputs"), None))
    assert found["TensorRT"].found == "tensorrt-cu12 10.9.0"
    assert found["cuda-python"].ok == "ok"

    monkeypatch.setattr(doctor, "describe", lambda disk: replace(system, packages={}))
    monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda name: name)
    assert by_name(checkup(Path("outputs"), None))["TensorRT"].found.startswith("module tensorrt, version")


def test_beside_a_gpu_the_backends_that_work_on_it_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    rtx = {"tensorrt-rtx-cu13-bindings": "1.7.1", "tensorrt-rtx-cu13-libs": "1.7.1"}
    system = replace(BARE, gpus=(L4,), no_gpu_reason="", packages=rtx)
    library = SimpleNamespace(portable=True, title="TensorRT for RTX 1.7.1", targets={"8.9": None, "12.0": None})
    monkeypatch.setattr(doctor, "describe", lambda disk: system)
    monkeypatch.setattr(doctor, "load_library", lambda name: library)
    absent = {"tensorrt": "Backend tensorrt needs TensorRT.", "tensorrt-rtx": None}
    monkeypatch.setattr(doctor, "unavailable", lambda name: absent[name])
    check = by_name(checkup(Path("outputs"), None))["TensorRT"]
    versions = "tensorrt-rtx-cu13-bindings 1.7.1, tensorrt-rtx-cu13-libs 1.7.1"
    assert (check.ok, check.found) == ("ok", f"{versions}; on this GPU works backend tensorrt-rtx")

    hopper = replace(system, gpus=(replace(L4, compute_capability="9.0"),))
    monkeypatch.setattr(doctor, "describe", lambda disk: hopper)
    check = by_name(checkup(Path("outputs"), None))["TensorRT"]
    assert (check.ok, check.found) == ("missing", f"{versions}; no backend works on this GPU")
    assert check.how_to_get == (
        "Backend tensorrt needs TensorRT. TensorRT for RTX 1.7.1 is for compute capability 8.9, 12.0, not for 9.0."
    )

    library.portable = False
    absent["tensorrt"] = None
    assert by_name(checkup(Path("outputs"), None))["TensorRT"].found.endswith("backend tensorrt and tensorrt-rtx")


@pytest.mark.parametrize(("free_gb", "status"), [(0.5, "missing"), (5, "optional"), (1000, "ok")])
def test_disk_is_measured_against_what_resnet50_needs(
    free_gb: float, status: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "free_bytes", lambda folder: int(free_gb * 1e9))
    assert by_name(checkup(Path("outputs"), None))["Disk"].ok == status
    # 50,000 images of 3 x 224 x 224 in fp32 alone are 30.1 GB
    assert 30.1 < disk_needed_gb(50_000) < 45


@pytest.mark.parametrize(
    ("listed", "present", "status", "words"),
    [(3, 3, "ok", "names 3 images, 3 of them are here; the whole set has 50000"), (3, 2, "missing", "2 of them")],
)
def test_images_of_a_given_folder_are_counted(
    tmp_path: Path, listed: int, present: int, status: str, words: str
) -> None:
    check = by_name(checkup(tmp_path, image_folder(tmp_path / "val", listed, present)))["ImageNet"]
    assert check.ok == status
    assert words in check.found


def test_a_folder_without_val_map_and_an_absent_model_are_missing(tmp_path: Path) -> None:
    found = by_name(checkup(tmp_path, tmp_path, tmp_path / "resnet50_v1.onnx"))
    assert found["ImageNet"].ok == "missing"
    assert found["ResNet-50 model"].ok == "missing"

    (tmp_path / "resnet50_v1.onnx").write_bytes(bytes(2_500_000))
    found = by_name(checkup(tmp_path, None, tmp_path / "resnet50_v1.onnx"))
    assert found["ResNet-50 model"].found == "resnet50_v1.onnx, 2.5 MB"


def test_a_look_that_fails_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: object) -> None:
        raise OSError("no such device")

    monkeypatch.setattr(doctor, "free_bytes", broken)
    found = by_name(checkup(Path("outputs"), None))
    assert found["Disk"].found == "could not be examined (OSError: no such device)"
    assert found["Memory"].ok in ("ok", "optional")

    monkeypatch.setattr(doctor, "describe", broken)
    assert [check.name for check in checkup(Path("outputs"), None)] == ["System"]


def test_the_table_lists_what_to_do_below() -> None:
    text = str(table([Check("Python", "ok", "3.12.1"), Check("GPU", "optional", "none", "buy one")]))
    assert text.splitlines()[-1] == "GPU: buy one"
    assert "Python: " not in text
