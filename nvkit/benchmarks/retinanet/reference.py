"""MLPerf's RetinaNet files, given by path or downloaded, and a user's own weights of the same network.

Their parameters are read into nvkit's own graph, so that every backend finds the same nodes and tensors.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from nvkit.benchmarks.base import Model
from nvkit.benchmarks.convolutions import Conv, Floats, Parameters
from nvkit.benchmarks.published import Published, find_model
from nvkit.benchmarks.retinanet.checkpoint import Checkpoint
from nvkit.benchmarks.retinanet.exported import read_exported
from nvkit.benchmarks.retinanet.network import input_specs, output_spec, retinanet, topology
from nvkit.errors import ModelError
from nvkit.store import Store, file_digest, replacing

READER_VERSION = 1
"""Changes whenever the same file gives another network."""

# Checksums: script/get-ml-model-retinanet and -nvidia of mlcommons/mlperf-automations. NVIDIA's submissions start from
# the weights, the first of these.
WEIGHTS = Published(
    "retinanet_model_10.zip",
    "https://zenodo.org/record/6605272/files/retinanet_model_10.zip",
    "2037c152a6be18e371ebec654314f7e0",
    "checkpoint",
)
REFERENCES = (
    WEIGHTS,
    Published(
        "resnext50_32x4d_fpn.pth",
        "https://zenodo.org/record/6617981/files/resnext50_32x4d_fpn.pth",
        "a55f6bec3464f605ce8d686da8ac1533",
        "PyTorch",
    ),
    Published(
        "resnext50_32x4d_fpn.onnx",
        "https://zenodo.org/record/6617879/files/resnext50_32x4d_fpn.onnx",
        "4544f4e56e0a4684215831cc937ea45c",
        "ONNX",
    ),
)
_FILE = "retinanet.onnx"
_EPSILON = 1e-5  # of torchvision's FrozenBatchNorm2d
_NORMALISED = "backbone.body."
_USE = (
    f"Use {', '.join(file.name for file in REFERENCES)}, or the weights of retinanet_from_backbone('resnext50_32x4d', "
    "264) in mlcommons/training."
)


def reference_model(settings: Any, store: Store) -> Model:
    """Return the network of `settings.model_path`, or else of the downloaded weights.

    Raises:
        ModelError: the file is missing, cut short, neither PyTorch's nor ONNX, or lacks parameters; it names them.
        ChecksumError: a file that bears a reference's name, or a download, has other bytes.
        SetupError: the download failed.
    """
    path, md5 = find_model(settings, WEIGHTS, REFERENCES, store)
    known = next((reference for reference in REFERENCES if reference.md5 == md5), None)

    def make(folder: Path) -> None:
        parameters = read_parameters(path)
        with replacing(folder / _FILE) as temporary:
            onnx.save_model(retinanet(parameters, 1.0), str(temporary))

    folder = store.get_or_make("models", {"benchmark": "retinanet", "source": md5, "reader": READER_VERSION}, make).path
    custom = f"custom model: {path.name} (MD5 {md5}) is not a reference file of MLPerf"
    return Model(
        path=folder / _FILE,
        digest=file_digest(folder / _FILE),
        synthetic=False,
        description=f"MLPerf reference {known.name} ({known.url})" if known else f"custom RetinaNet {path.name}",
        inputs=input_specs(),
        output=output_spec(),
        notes=() if known else (custom,),
    )


def read_parameters(path: Path) -> Parameters:
    """Read the parameters of every convolution, batch normalisation folded.

    Raises:
        ModelError: see `reference_model`.
    """
    convs = topology().convs()
    found = read_exported(path) if path.suffix == ".onnx" else _read_checkpoint(path, convs)
    _require(path, [conv.name for conv in convs if conv.name not in found])
    for conv in convs:
        kernel, bias = found[conv.name]
        shape = (conv.outputs, conv.inputs // conv.groups, conv.kernel, conv.kernel)
        if kernel.shape != shape or bias.shape != (conv.outputs,):
            raise ModelError(
                f"{path}: {conv.name} has a kernel of shape {list(kernel.shape)} and a bias of {list(bias.shape)}, "
                f"not {list(shape)} and [{conv.outputs}].",
                _USE,
            )
    return {conv.name: found[conv.name] for conv in convs}


def _read_checkpoint(path: Path, convs: list[Conv]) -> Parameters:
    checkpoint = Checkpoint(path)
    names = {conv.name: _parts(conv) for conv in convs}
    _require(path, [name for parts in names.values() for name in parts if name not in checkpoint.names])
    parameters: Parameters = {}
    for conv, parts in names.items():
        kernel, *rest = checkpoint.read(parts).values()
        vectors = [vector.reshape(-1) for vector in rest]  # some checkpoints have batch normalisation as [1, n, 1, 1]
        if len({len(kernel), *map(len, vectors)}) > 1:
            sizes = ", ".join(f"{name} {len(value)}" for name, value in zip(parts, [kernel, *vectors], strict=True))
            raise ModelError(f"{path}: the sizes of {sizes} differ.", _USE)
        parameters[conv] = _fold(kernel, vectors) if len(vectors) > 1 else (_floats(kernel), _floats(vectors[0]))
    return parameters


def _parts(conv: Conv) -> list[str]:
    """Return the names in the state dictionary: kernel and bias, or kernel and its batch normalisation."""
    if not conv.name.startswith(_NORMALISED):
        return [f"{conv.name}.weight", f"{conv.name}.bias"]
    # bn1 goes with conv1, and the second module of a projection with the first.
    before, _, last = conv.name.rpartition(".")
    norm = f"{before}.{'1' if last == '0' else last.replace('conv', 'bn')}"
    return [f"{conv.name}.weight", *(f"{norm}.{part}" for part in ("weight", "bias", "running_mean", "running_var"))]


def _fold(kernel: npt.NDArray[np.generic], norm: list[npt.NDArray[np.generic]]) -> tuple[Floats, Floats]:
    weight, bias, mean, variance = (vector.astype(np.float64) for vector in norm)
    scale = weight / np.sqrt(variance + _EPSILON)
    return _floats(kernel.astype(np.float64) * scale.reshape(-1, 1, 1, 1)), _floats(bias - mean * scale)


def _floats(values: npt.NDArray[np.generic]) -> Floats:
    return values.astype(np.float32)


def _require(path: Path, missing: list[str]) -> None:
    if missing:
        first = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
        raise ModelError(f"{path} lacks {len(missing)} of the parameters of RetinaNet: {first}.", _USE)
