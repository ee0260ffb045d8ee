"""Generated data sets on disk, in the layout of the ImageNet validation set.

A folder holds the images, `val_map.txt`, `cal_map.txt` ("file label" lines) and `classes.txt`, which says in words
what each class shows.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2

from nvkit.benchmarks.drawing import spread_labels
from nvkit.benchmarks.resnet50 import images
from nvkit.benchmarks.threads import single_threaded_opencv, worker_count
from nvkit.progress import tqdm
from nvkit.store import Artefact, Store, write_text


@dataclass(frozen=True)
class Split:
    """A part of the generated images.

    Attributes:
        number: Part of the seed, so that no two splits share an image.
        names: Format of a file name, counting from 1.
        map_name: The list of the split's files and labels.
    """

    number: int
    names: str
    map_name: str


VALIDATION = Split(0, "ILSVRC2012_val_{:08d}.JPEG", "val_map.txt")
CALIBRATION = Split(1, "calibration/nvkit_cal_{:08d}.JPEG", "cal_map.txt")
FIT = Split(2, "nvkit_fit_{:08d}.JPEG", "fit_map.txt")


def generated_folder(store: Store, seed: int, counts: Mapping[Split, int], threads: int | None = None) -> Artefact:
    """Return a folder with `counts` images of each split, made in the store if it is not there."""
    key = {
        "generator": images.GENERATOR_VERSION,
        "seed": seed,
        "images": {split.map_name: count for split, count in counts.items()},
        "opencv": cv2.__version__,
    }

    def make(folder: Path) -> None:
        write_text(folder / "classes.txt", "".join(f"{k} {images.class_name(k)}\n" for k in range(images.CLASSES)))
        for split, count in counts.items():
            _make_split(folder, split, seed, count, threads)

    return store.get_or_make("data", key, make)


def _make_split(folder: Path, split: Split, seed: int, count: int, threads: int | None) -> None:
    labels = spread_labels(seed, split.number, count, images.CLASSES)
    names = [split.names.format(index + 1) for index in range(count)]
    for parent in {(folder / name).parent for name in names}:
        parent.mkdir(exist_ok=True)

    def write(index: int) -> None:
        (folder / names[index]).write_bytes(images.jpeg(labels[index], seed, split.number, index))

    what = split.map_name.removesuffix("_map.txt")
    with single_threaded_opencv(), ThreadPoolExecutor(worker_count(threads)) as pool:
        for _ in tqdm(pool.map(write, range(count)), total=count, desc=f"Generating images ({what})", unit="image"):
            pass
    lines = (f"{name} {label}\n" for name, label in zip(names, labels, strict=True))
    write_text(folder / split.map_name, "".join(lines))
