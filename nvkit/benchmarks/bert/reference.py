"""MLPerf's BERT-large files, given by path or downloaded, and a user's own BERT for question answering.

Their parameters are read into nvkit's own graph, so that every backend finds the same nodes and tensors.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx

from nvkit.benchmarks.base import Model
from nvkit.benchmarks.bert.checkpoint import Checkpoint, read_checkpoint
from nvkit.benchmarks.bert.network import bert
from nvkit.benchmarks.bert.tensors import input_specs, output_spec
from nvkit.benchmarks.published import Published, find_model
from nvkit.quantize.ranges import Ranges, TensorRange
from nvkit.store import Store, file_digest, replacing

READER_VERSION = 1
"""Changes whenever the same file gives another network."""

# Checksums: MLC_DOWNLOAD_CHECKSUM in script/get-ml-model-bert-large-squad/meta.yaml of mlcommons/mlperf-automations.
# The names are those that NVIDIA's submissions give the files.
FLOAT = Published(
    "bert_large_v1_1.onnx",
    "https://zenodo.org/record/3733910/files/model.onnx",
    "819b25b19cd8e59080c10892689750ca",
)
FAKE_QUANTISED = Published(
    "bert_large_v1_1_fake_quant.onnx",
    "https://zenodo.org/record/3750364/files/bert_large_v1_1_fake_quant.onnx",
    "45f88ffb2915362242703c85c38ec2d4",
)
REFERENCES = (FLOAT, FAKE_QUANTISED)
_FILE = "bert.onnx"
_RANGES = "ranges-trained.json"


def reference_model(settings: Any, store: Store) -> Model:
    """Return the network of `settings.model_path`, or else of the downloaded reference file.

    For int8 that is the file which was trained with fake quantisation; its magnitudes become activation ranges.

    Raises:
        ModelError: the file is missing, cut short, no ONNX, or lacks parameters of a BERT for question answering.
        ChecksumError: a file that bears a reference's name, or a download, has other bytes.
        SetupError: the download failed.
    """
    wanted = FAKE_QUANTISED if settings.precision == "int8" else FLOAT
    path, md5 = find_model(settings, wanted, REFERENCES, store)
    known = next((reference for reference in REFERENCES if reference.md5 == md5), None)

    def make(folder: Path) -> None:
        found = read_checkpoint(path)
        with replacing(folder / _FILE) as temporary:
            onnx.save_model(bert(found.parameters.items(), found.size), str(temporary))
        if found.amax:
            _ranges(found, file_digest(folder / _FILE), md5).save(folder / _RANGES)

    folder = store.get_or_make("models", {"benchmark": "bert", "source": md5, "reader": READER_VERSION}, make).path
    ranges = folder / _RANGES if settings.precision == "int8" and (folder / _RANGES).is_file() else None
    notes = [f"custom model: {path.name} (MD5 {md5}) is not a reference file of MLPerf"] if known is None else []
    if ranges:
        notes.append("activation ranges: those that were trained with the weights, without calibration")
    return Model(
        path=folder / _FILE,
        digest=file_digest(folder / _FILE),
        synthetic=False,
        description=f"MLPerf reference {known.name} ({known.url})" if known else f"custom BERT {path.name}",
        inputs=input_specs(),
        output=output_spec(),
        notes=tuple(notes),
        variable=True,
        ranges=ranges,
    )


def _ranges(found: Checkpoint, model: str, source: str) -> Ranges:
    tensors = {name: TensorRange(amax) for name, amax in found.amax.items()}
    return Ranges(tensors, "trained", None, 0, model=model, calibration=source)
