"""Generated data sets on disk, in the layout of MLPerf's OpenImages.

A folder holds the images of each part and its annotations in COCO's JSON form, with the fields that MLCommons'
openimages.py writes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2

from nvkit.benchmarks.drawing import spread_labels
from nvkit.benchmarks.retinanet import objects
from nvkit.benchmarks.retinanet.dataset import ANNOTATIONS, CALIBRATION_IMAGES, IMAGES
from nvkit.benchmarks.retinanet.tensors import CLASSES
from nvkit.benchmarks.threads import single_threaded_opencv, worker_count
from nvkit.progress import tqdm
from nvkit.store import Artefact, Store, write_text


@dataclass(frozen=True)
class Split:
    """A part of the generated images.

    Attributes:
        number: Part of the seed, so that no two splits share an image.
        folder: Where its images lie, relative to the data set.
        annotations: Its annotations, relative to the data set.
    """

    number: int
    folder: str
    annotations: str

    @property
    def name(self) -> str:
        """What it is for: validation, calibration or fit."""
        return self.folder.partition("/")[0]


VALIDATION = Split(0, IMAGES, ANNOTATIONS)
CALIBRATION = Split(1, CALIBRATION_IMAGES[0], "annotations/openimages-calibration-mlperf.json")
FIT = Split(2, "fit/data", "annotations/fit.json")

_MOST = objects.OBJECTS[1]


def generated_folder(store: Store, seed: int, counts: Mapping[Split, int], threads: int | None = None) -> Artefact:
    """Return a folder with `counts` images of each split, made in the store if it is not there."""
    key = {
        "benchmark": "retinanet",
        "generator": objects.GENERATOR_VERSION,
        "seed": seed,
        "images": {split.name: count for split, count in counts.items()},
        "opencv": cv2.__version__,
    }

    def make(folder: Path) -> None:
        for split, count in counts.items():
            _make_split(folder, split, seed, count, threads)

    return store.get_or_make("data", key, make)


def _make_split(folder: Path, split: Split, seed: int, count: int, threads: int | None) -> None:
    labels = spread_labels(seed, split.number, count * _MOST, CLASSES)
    (folder / split.folder).mkdir(parents=True)

    def write(index: int) -> objects.Drawn:
        drawn = objects.draw(labels[index * _MOST : (index + 1) * _MOST], seed, split.number, index)
        (folder / split.folder / _file_name(index)).write_bytes(drawn.jpeg)
        return drawn

    with single_threaded_opencv(), ThreadPoolExecutor(worker_count(threads)) as pool:
        work = pool.map(write, range(count))
        bar = tqdm(work, total=count, desc=f"Generating images ({split.name})", unit="image")
        content = _annotations([(drawn.height, drawn.width, drawn.boxes, drawn.labels) for drawn in bar])
    write_text(folder / split.annotations, json.dumps(content))


def _file_name(index: int) -> str:
    return f"{index + 1:016x}.jpg"  # OpenImages' names are 16 hexadecimal digits


def _annotations(images: Sequence[tuple[int, int, Sequence[tuple[float, ...]], Sequence[int]]]) -> dict[str, Any]:
    """Return the annotations of images given by height, width, boxes and labels."""
    flags = dict.fromkeys(("iscrowd", "IsOccluded", "IsInside", "IsDepiction", "IsTruncated", "IsGroupOf"), 0)
    objects_ = [
        {"image_id": image_id, "category_id": label, "bbox": list(box), "area": box[2] * box[3], **flags}
        for image_id, (_, _, boxes, labels) in enumerate(images, 1)
        for box, label in zip(boxes, labels, strict=True)
    ]
    return {
        "info": {"dataset": "nvkit_generated", "version": str(objects.GENERATOR_VERSION)},
        "licenses": [],
        "categories": [{"id": k, "name": name, "supercategory": None} for k, name in enumerate(objects.CLASS_NAMES)],
        "images": [
            {
                "id": number + 1,
                "file_name": _file_name(number),
                "height": height,
                "width": width,
                "license": None,
                "coco_url": None,
            }
            for number, (height, width, _, _) in enumerate(images)
        ],
        "annotations": [{"id": number, **entry} for number, entry in enumerate(objects_, 1)],
    }
