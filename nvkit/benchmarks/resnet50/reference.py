"""MLPerf's reference file resnet50_v1.onnx, given by path or downloaded, and a user's own network of the same use."""

from __future__ import annotations

from typing import Any

from nvkit.benchmarks.base import Model, TensorSpec
from nvkit.benchmarks.published import Published, find_model
from nvkit.benchmarks.resnet50.adapt import adapt
from nvkit.benchmarks.resnet50.tensors import CLASSES, INPUT, SAMPLE_SHAPE
from nvkit.store import Store, file_digest

_NAME = "resnet50_v1.onnx"
# Checksums: MLC_DOWNLOAD_CHECKSUM in script/get-ml-model-resnet50/meta.yaml of mlcommons/mlperf-automations.
# The opset 8 file is the one that NVIDIA's submissions start from.
REFERENCES = (
    Published(_NAME, f"https://zenodo.org/record/2592612/files/{_NAME}", "a638cf028b5870da29e09ccc2f7182e7", "opset 8"),
    Published(
        _NAME, f"https://zenodo.org/record/4735647/files/{_NAME}", "f6a4da60cd5f084d97efc2c1ddb10beb", "opset 11"
    ),
)


def reference_model(settings: Any, store: Store) -> Model:
    """Return the network of `settings.model_path`, or else the downloaded reference file.

    Raises:
        ModelError: the file is missing, cut short, no ONNX, or its inputs and outputs are not those of a classifier
            of 1000 classes.
        ChecksumError: a file that bears the reference's name, or a download, has other bytes.
        SetupError: the download failed.
    """
    path, md5 = find_model(settings, REFERENCES[0], REFERENCES, store)
    known = next((reference for reference in REFERENCES if reference.md5 == md5), None)
    adapted = adapt(path, store)
    notes = list(adapted.notes)
    if known is None:
        description = f"custom network {path.name}, {adapted.classes} classes"
        notes.insert(0, f"custom model: {path.name} (MD5 {md5}) is not a reference file of MLPerf")
    else:
        description = f"MLPerf reference {known.name}, {known.note} ({known.url})"
    return Model(
        path=adapted.path,
        digest=file_digest(adapted.path),
        synthetic=False,
        description=description,
        inputs=(TensorSpec(INPUT, "float32", SAMPLE_SHAPE),),
        output=TensorSpec(adapted.output, "int64", ()),
        notes=tuple(notes),
        background=1 if adapted.classes == CLASSES else 0,
    )
