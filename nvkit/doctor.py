"""What this machine has and lacks for nvkit, each with how to get it."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from nvkit.config.detect import detect
from nvkit.engine.tensorrt.flavours import MODULES, load_library, unavailable
from nvkit.system import System, describe, free_bytes
from nvkit.tables import Table

Status = Literal["ok", "missing", "optional"]

_GB = 1e9
_IMAGE_ELEMENTS = 3 * 224 * 224
# Network, its quantised form, and one engine of each, at the 25.6 million weights of ResNet-50 and 4 bytes.
_MODELS_GB = 4 * 25.6e6 * 4 / _GB
_GENERATED_IMAGES = 1024
_IMAGENET_IMAGES = 50_000
_RAM_GB = 4.0

_DRIVER_HELP = "sudo ubuntu-drivers install (Ubuntu), or https://www.nvidia.com/drivers; then restart"
_TEXT_HELP = 'pip install -e ".[text]"'
_VISION_HELP = 'pip install -e ".[vision]"'
_LAB_HELP = 'pip install -e ".[lab]"'
_GPU_HELP = 'pip install -e ".[gpu]"'
_CORE_HELP = "pip install -e ."
_IMAGENET_HELP = (
    "register at https://image-net.org, download ILSVRC2012_img_val.tar (6.7 GB), unpack it into a folder with "
    "val_map.txt (lines 'ILSVRC2012_val_00000001.JPEG 65') beside the images, and give it by --data-dir"
)
_MODEL_HELP = (
    "curl -LO https://zenodo.org/records/2592612/files/resnet50_v1.onnx and give it by --model-path; or "
    "--download-model"
)


@dataclass(frozen=True)
class Check:
    """One thing looked for.

    Attributes:
        name: What it is.
        ok: "ok", "missing" if nvkit does not work without it, "optional" if only a part of nvkit needs it.
        found: What is here.
        how_to_get: A command or address, or what else there is to know; empty if nothing is lacking.
    """

    name: str
    ok: Status
    found: str
    how_to_get: str = ""


def disk_needed_gb(images: int) -> float:
    """Return the disk space, GB, of resnet50 over so many images: fp32 and int8 samples, models and engines."""
    return images * _IMAGE_ELEMENTS * (4 + 1) / _GB + _MODELS_GB


def checkup(outputs: Path, data_dir: Path | None, model_path: Path | None = None) -> list[Check]:
    """Look for everything that nvkit can use; a look that fails is a finding, never an exception.

    Args:
        outputs: Where runs and the store go; need not exist yet.
        data_dir: An ImageNet validation folder, or None if the user has given none.
        model_path: The reference ONNX file, or None if the user has given none.
    """
    try:
        system = describe(outputs)
    except Exception as error:  # the promise is a list, whatever this machine does
        return [Check("System", "missing", f"could not be examined ({type(error).__name__}: {error})", _CORE_HELP)]
    looks: dict[str, Callable[[], Check]] = {
        "Python": _python,
        "Memory": lambda: _memory(system),
        "Disk": lambda: _disk(outputs),
        "Processor": lambda: _processor(system),
        "LoadGen": lambda: _package("LoadGen", system, "mlcommons-loadgen", "mlperf_loadgen", "missing", _CORE_HELP),
        "ONNX Runtime": lambda: _package("ONNX Runtime", system, "onnxruntime", "onnxruntime", "missing", _CORE_HELP),
        "OpenCV": lambda: _package("OpenCV", system, "opencv-python-headless", "cv2", "missing", _VISION_HELP),
        "tokenizers": lambda: _package("tokenizers", system, "tokenizers", "tokenizers", "optional", _TEXT_HELP),
        "pycocotools": lambda: _package("pycocotools", system, "pycocotools", "pycocotools", "optional", _VISION_HELP),
        "JupyterLab": lambda: _package("JupyterLab", system, "jupyterlab", "jupyterlab", "optional", _LAB_HELP),
        "ipywidgets": lambda: _package("ipywidgets", system, "ipywidgets", "ipywidgets", "optional", _LAB_HELP),
        "GPU": lambda: _gpu(system),
        "Profile": lambda: _profile(system),
        "NVIDIA driver": lambda: _driver(system),
        "CUDA": lambda: _cuda(system),
        "TensorRT": lambda: _tensorrt(system),
        "cuda-python": lambda: _cuda_python(system),
        "ImageNet": lambda: _imagenet(data_dir),
        "ResNet-50 model": lambda: _model(model_path),
    }
    return [_guarded(name, look) for name, look in looks.items()]


def table(checks: Sequence[Check]) -> Table:
    """Return one row for each check, and under the table how to get what is lacking."""
    return Table(
        ("Check", "Status", "Found"),
        [(check.name, check.ok, check.found) for check in checks],
        title="What this machine has and lacks",
        notes=[f"{check.name}: {check.how_to_get}" for check in checks if check.how_to_get],
    )


def _guarded(name: str, look: Callable[[], Check]) -> Check:
    try:
        return look()
    except Exception as error:  # one odd machine part must not hide the other findings
        return Check(name, "optional", f"could not be examined ({type(error).__name__}: {error})")


def _python() -> Check:
    return Check("Python", "ok", ".".join(map(str, sys.version_info[:3])))


def _memory(system: System) -> Check:
    total, available = (gib * 2**30 / _GB for gib in (system.ram_gib, system.ram_available_gib))
    found = f"{total:.1f} GB, {available:.1f} GB available"
    if available >= _RAM_GB:
        return Check("Memory", "ok", found)
    return Check(
        "Memory",
        "optional",
        f"{found}; {_RAM_GB:.0f} GB are comfortable",
        "close other programs, or stage fewer samples: --performance-sample-count",
    )


def _disk(outputs: Path) -> Check:
    free = free_bytes(outputs) / _GB
    generated, imagenet = disk_needed_gb(_GENERATED_IMAGES), disk_needed_gb(_IMAGENET_IMAGES)
    found = (
        f"{free:.1f} GB free; resnet50 needs {generated:.1f} GB with generated data, "
        f"{imagenet:.0f} GB with ImageNet beside its images"
    )
    if free >= imagenet:
        return Check("Disk", "ok", found)
    status: Status = "optional" if free >= generated else "missing"
    return Check("Disk", status, found, "free some space, or choose another place with --outputs")


def _processor(system: System) -> Check:
    cpu = system.cpu
    flags = f"; {', '.join(cpu.flags)}" if cpu.flags else ""
    return Check("Processor", "ok", f"{cpu.model}, {cpu.usable} of {cpu.threads} threads usable{flags}")


def _package(name: str, system: System, distribution: str, module: str, if_absent: Status, how_to_get: str) -> Check:
    """Look for a package by its metadata, or by its module where another distribution provides it."""
    if version := system.packages.get(distribution):
        return Check(name, "ok", f"{distribution} {version}")
    if importlib.util.find_spec(module):
        return Check(name, "ok", f"module {module}, version unknown")
    return Check(name, if_absent, "not installed", how_to_get)


def _gpu(system: System) -> Check:
    if not system.gpus:
        return Check(
            "GPU", "optional", f"none: {system.no_gpu_reason}", "without one, use --profile cpu; it needs no GPU"
        )
    names = [gpu.name for gpu in system.gpus]
    return Check("GPU", "ok", ", ".join(f"{names.count(name)} x {name}" for name in dict.fromkeys(names)))


def _profile(system: System) -> Check:
    chosen = detect(system.gpus, no_gpu_reason=system.no_gpu_reason)
    count = f", {chosen.count} of {len(chosen.gpus)} GPUs" if len(chosen.gpus) > 1 else ""
    return Check("Profile", "ok", f"{chosen.profile} ({chosen.how}{count})", " ".join(chosen.notes))


def _driver(system: System) -> Check:
    if system.driver:
        return Check("NVIDIA driver", "ok", system.driver)
    return Check("NVIDIA driver", "optional", "none answers", _DRIVER_HELP)


def _cuda(system: System) -> Check:
    if system.cuda:
        return Check("CUDA", "ok", f"the driver serves up to {system.cuda}")
    return Check("CUDA", "optional", "no driver to ask", "comes with the NVIDIA driver; no toolkit is needed")


def _tensorrt(system: System) -> Check:
    versions = [f"{name} {version}" for name, version in system.packages.items() if name.startswith("tensorrt")]
    modules = [name for names, _ in MODULES.values() for name in names if importlib.util.find_spec(name)]
    found = ", ".join(versions or [f"module {name}, version unknown" for name in modules])
    if not found:
        return Check("TensorRT", _wanted_with(system), "not installed", _GPU_HELP)
    if not system.gpus:
        return Check("TensorRT", "ok", found)
    reasons = {name: _no_backend(name, system) for name in MODULES}
    if works := [name for name, reason in reasons.items() if not reason]:
        return Check("TensorRT", "ok", f"{found}; on this GPU works backend {' and '.join(works)}")
    return Check("TensorRT", "missing", f"{found}; no backend works on this GPU", " ".join(map(str, reasons.values())))


def _no_backend(name: str, system: System) -> str | None:
    """Return why a backend builds no engines for this machine's GPUs, or None if it does."""
    if reason := unavailable(name):
        return reason
    library, here = load_library(name), system.gpus[0].compute_capability
    if library.portable and here not in library.targets:
        return f"{library.title} is for compute capability {', '.join(library.targets)}, not for {here}."
    return None


def _cuda_python(system: System) -> Check:
    for distribution in ("cuda-python", "cuda-bindings"):
        if version := system.packages.get(distribution):
            return Check("cuda-python", "ok", f"{distribution} {version}")
    if importlib.util.find_spec("cuda"):
        return Check("cuda-python", "ok", "module cuda, version unknown")
    return Check("cuda-python", _wanted_with(system), "not installed", _GPU_HELP)


def _wanted_with(system: System) -> Status:
    """A package of the GPU path is missing only where there is a GPU to use it."""
    return "missing" if system.gpus else "optional"


def _imagenet(data_dir: Path | None) -> Check:
    if data_dir is None:
        return Check("ImageNet", "optional", "none given; generated data will be used", _IMAGENET_HELP)
    val_map = data_dir / "val_map.txt"
    if not val_map.is_file():
        return Check("ImageNet", "missing", "the folder given has no val_map.txt", _IMAGENET_HELP)
    lines = val_map.read_text(encoding="utf-8", errors="replace").splitlines()
    names = [line.split()[0] for line in lines if line.strip()]
    present = sum((data_dir / name).is_file() for name in names)
    found = f"val_map.txt names {len(names)} images, {present} of them are here"
    if not names or present < len(names):
        return Check("ImageNet", "missing", found, _IMAGENET_HELP)
    if present < _IMAGENET_IMAGES:
        found += f"; the whole set has {_IMAGENET_IMAGES}"
    return Check("ImageNet", "ok", found)


def _model(model_path: Path | None) -> Check:
    if model_path is None:
        return Check("ResNet-50 model", "optional", "none given; synthetic weights will be used", _MODEL_HELP)
    if not model_path.is_file():
        return Check("ResNet-50 model", "missing", "the file given does not exist", _MODEL_HELP)
    return Check("ResNet-50 model", "ok", f"{model_path.name}, {model_path.stat().st_size / 1e6:.1f} MB")
