"""MLPerf's reference file resnet50_v1.onnx, given by path or downloaded, and a user's own network of the same use."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nvkit.benchmarks.base import Model, TensorSpec
from nvkit.benchmarks.resnet50.adapt import adapt
from nvkit.benchmarks.resnet50.tensors import CLASSES, INPUT, SAMPLE_SHAPE
from nvkit.errors import ChecksumError, ModelError, SetupError, is_disk_full
from nvkit.store import Store, file_digest

FILE_NAME = "resnet50_v1.onnx"


@dataclass(frozen=True)
class Reference:
    """One published file: its opset, where it is, its MD5 (Zenodo and MLCommons state no other checksum)."""

    opset: int
    url: str
    md5: str


# Checksums: MLC_DOWNLOAD_CHECKSUM in script/get-ml-model-resnet50/meta.yaml of mlcommons/mlperf-automations.
# The opset 8 file is the one that NVIDIA's submissions start from.
REFERENCES = (
    Reference(8, f"https://zenodo.org/record/2592612/files/{FILE_NAME}", "a638cf028b5870da29e09ccc2f7182e7"),
    Reference(11, f"https://zenodo.org/record/4735647/files/{FILE_NAME}", "f6a4da60cd5f084d97efc2c1ddb10beb"),
)
_HOW_TO_GET = f"Download it from {REFERENCES[0].url} and give its path by --model-path (model_path in a notebook)."


def reference_model(settings: Any, store: Store) -> Model:
    """Return the network of `settings.model_path`, or else the downloaded reference file.

    Raises:
        ModelError: the file is missing, cut short, no ONNX, or its inputs and outputs are not those of a classifier
            of 1000 classes.
        ChecksumError: a file that bears the reference's name, or a download, has other bytes.
        SetupError: the download failed.
    """
    if settings.model_path is not None:
        path = Path(settings.model_path)
        if not path.is_file():
            raise ModelError(f"There is no model file {path}.", _HOW_TO_GET)
    else:
        path = download(REFERENCES[0], store)
    md5 = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
    known = next((reference for reference in REFERENCES if reference.md5 == md5), None)
    if known is None and path.name == FILE_NAME:
        expected = " or ".join(f"{reference.md5} (opset {reference.opset})" for reference in REFERENCES)
        size = path.stat().st_size
        raise ChecksumError(
            f"{path} is named as MLPerf's reference file, but its {size:,} bytes have the MD5 {md5}, not {expected}.",
            f"{_HOW_TO_GET} To use a network of your own, give its file another name.",
        )
    adapted = adapt(path, store)
    notes = list(adapted.notes)
    if known is None:
        description = f"custom network {path.name}, {adapted.classes} classes"
        notes.insert(0, f"custom model: {path.name} (MD5 {md5}) is not a reference file of MLPerf")
    else:
        description = f"MLPerf reference {FILE_NAME}, opset {known.opset} ({known.url})"
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


def download(reference: Reference, store: Store) -> Path:
    """Return the reference file in the store, downloading it with a progress bar if it is not there.

    Raises:
        ChecksumError: the bytes that arrived are not the published ones.
        SetupError: the file cannot be had from here.
    """
    import pooch

    def make(folder: Path) -> None:
        pooch.get_logger().setLevel(logging.WARNING)
        try:
            pooch.retrieve(reference.url, f"md5:{reference.md5}", fname=FILE_NAME, path=folder, progressbar=True)
        except ValueError as error:
            raise ChecksumError(
                f"The download of {reference.url} does not have the MD5 {reference.md5}.", f"Try again. {_HOW_TO_GET}"
            ) from error
        except OSError as error:  # also every error of requests
            if is_disk_full(error):
                raise
            raise SetupError(
                f"{reference.url} could not be downloaded ({type(error).__name__}).", _HOW_TO_GET
            ) from error

    artefact = store.get_or_make("models", {"download": reference.url, "md5": reference.md5}, make)
    return artefact.path / FILE_NAME
