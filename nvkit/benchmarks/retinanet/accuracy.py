"""mAP of detections, as MLCommons' accuracy-openimages.py counts it.

A response holds rows of seven float32, little-endian: QSL index, ymin, xmin, ymax, xmax as fractions of the image,
score, label. The label is a category id as it is, 0 to 263: MLCommons' reference and NVIDIA's submissions run the
script without --use-inv-map.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from nvkit.benchmarks.base import Accuracy, DataSet
from nvkit.benchmarks.retinanet.annotations import AnnotatedImage, load, read_annotations
from nvkit.benchmarks.retinanet.average_precision import mean_average_precision
from nvkit.benchmarks.retinanet.dataset import ANNOTATIONS, IMAGES
from nvkit.benchmarks.retinanet.responses import COLUMNS
from nvkit.errors import DataError
from nvkit.store import write_json

_ROW_BYTES = 4 * COLUMNS
_SCRIPT = "vision/classification_and_detection/tools/accuracy-openimages.py"
Floats = npt.NDArray[np.float32]


def score_responses(responses: Mapping[int, bytes], data: DataSet) -> Accuracy:
    """Score the responses of an accuracy run: mAP over the images that have one, in percent.

    A response of less than a row is an image in which nothing was found, which counts.

    Args:
        responses: QSL index to the bytes of its response.
        data: The data set whose file i has QSL index i (see `without` where files were skipped).

    Raises:
        DataError: a response is not of this form or of another image, its index is outside of the data set, or none of
            the images has an object.
    """
    if not responses:
        raise DataError("The accuracy log holds no responses.", "Run accuracy mode again.")
    known = _images(data)
    images, parts = [], []
    for index, response in responses.items():
        if not 0 <= index < len(data.files):
            raise DataError(
                f"The response of sample {index} is outside of the data set of {len(data.files)} images.",
                "Score the log with the data set that it was made with.",
            )
        images.append(known[index])
        parts.append(_detections(index, response))
    value = 100.0 * mean_average_precision(images, parts)
    details = {
        "detections": float(sum(len(part) for part in parts)),
        "images without detection": float(sum(not len(part) for part in parts)),
    }
    return Accuracy("mAP", value, len(images), f"mAP={value:.3f}%", details)


def reference_command(log: Path, data: DataSet, work: Path) -> tuple[str, list[str]]:
    """Return MLCommons' accuracy-openimages.py with its arguments, and write the annotations that it reads.

    The script takes QSL indices for positions in the annotations, so those of skipped images are left out.
    """
    content = load(data.root / ANNOTATIONS)
    ids = [image.id for image in _images(data)]
    scored = frozenset(ids)
    entries = {image["id"]: image for image in content["images"]}
    objects = [entry for entry in content["annotations"] if entry["image_id"] in scored]
    kept = {**content, "images": [entries[number] for number in ids], "annotations": objects}
    write_json(work / ANNOTATIONS, kept)
    arguments = ["--mlperf-accuracy-file", str(log), "--openimages-dir", str(work)]
    return _SCRIPT, [*arguments, "--output-file", str(work / "openimages-results.json")]


def _images(data: DataSet) -> list[AnnotatedImage]:
    """Return the image of each QSL index."""
    path = data.root / ANNOTATIONS
    known = {f"{IMAGES}/{image.file_name}": image for image in read_annotations(path)}
    if gone := [name for name in data.files if name not in known]:
        raise DataError(f"{path} does not list {gone[0]}, which is in the data set.", "Restore the annotations.")
    return [known[name] for name in data.files]


def _detections(index: int, response: bytes) -> Floats:
    if len(response) < _ROW_BYTES:
        return np.empty((0, COLUMNS), np.float32)
    if len(response) % _ROW_BYTES:
        raise DataError(
            f"The response of sample {index} has {len(response)} bytes, not rows of {_ROW_BYTES}.", "Run it again."
        )
    rows = np.frombuffer(response, "<f4").reshape(-1, COLUMNS)
    if not np.isfinite(rows).all():
        raise DataError(f"The response of sample {index} has values that are no numbers.", "Look at the engine.")
    if (rows[:, 0].astype(np.int64) != index).any():
        raise DataError(f"The response of sample {index} says that it is of another sample.", "Run it again.")
    return rows
