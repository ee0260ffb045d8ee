"""Annotations in COCO's JSON form, as MLCommons' openimages.py writes them: categories, images, boxes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from nvkit.benchmarks.retinanet.tensors import CLASSES
from nvkit.errors import DataError

_FIX = "Replace it by the annotations file of MLPerf v2.1, or make it again with MLCommons' openimages.py."


@dataclass(frozen=True)
class AnnotatedImage:
    """An image and its objects.

    Attributes:
        id: Of the annotations; the QSL index is the position among all images.
        file_name: Relative to the folder of the images.
        height: Pixels.
        width: Pixels.
        boxes: Left, top, width, height in pixels, float64 [objects, 4].
        labels: Category ids, int64 [objects].
        areas: Square pixels, float64 [objects].
        crowds: Whether a box holds a group of objects, int64 [objects]: 0 or 1.
        ids: Of the objects, int64 [objects].
    """

    id: int
    file_name: str
    height: int
    width: int
    boxes: npt.NDArray[np.float64]
    labels: npt.NDArray[np.int64]
    areas: npt.NDArray[np.float64]
    crowds: npt.NDArray[np.int64]
    ids: npt.NDArray[np.int64]

    def corners(self, side: int) -> npt.NDArray[np.float64]:
        """Return x1, y1, x2, y2 of each box in pixels of the image stretched to `side` x `side`, [objects, 4]."""
        corners = np.concatenate([self.boxes[:, :2], self.boxes[:, :2] + self.boxes[:, 2:]], axis=1)
        return np.asarray(corners * np.array([side / self.width, side / self.height] * 2))


def read_annotations(path: Path) -> tuple[AnnotatedImage, ...]:
    """Read an annotations file; images are in the order of the file.

    Raises:
        DataError: the file is missing, cut short, or not of COCO's form with 264 categories numbered from 0.
    """
    content = load(path)
    categories = sorted(int(category["id"]) for category in _entries(path, content, "categories", id=int))
    if categories != list(range(CLASSES)):
        raise DataError(
            f"{path} has {len(categories)} categories, not the {CLASSES} of MLPerf's OpenImages numbered from 0.", _FIX
        )
    objects = _objects(path, content)
    images = list(_entries(path, content, "images", id=int, file_name=str, height=int, width=int))
    if flat := [image["file_name"] for image in images if image["height"] < 1 or image["width"] < 1]:
        raise DataError(f"{path}: image {flat[0]} has no size.", _FIX)
    _once(path, "image id", (image["id"] for image in images))
    _once(path, "image file", (image["file_name"] for image in images))
    if unknown := objects.keys() - {image["id"] for image in images}:
        raise DataError(f"{path} has objects of image {min(unknown)}, which it does not list.", _FIX)
    if not images:
        raise DataError(f"{path} lists no images.", _FIX)
    return tuple(_image(image, objects.get(image["id"], [])) for image in images)


def load(path: Path) -> dict[str, Any]:
    """Read the JSON of an annotations file.

    Raises:
        DataError: it is missing, cut short, or not a JSON object.
    """
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.", _FIX) from error
    except ValueError as error:
        raise DataError(f"{path} is not JSON, or was cut short: {error}.", _FIX) from error
    if not isinstance(content, dict):
        raise DataError(f"{path} is not a JSON object but a {type(content).__name__}.", _FIX)
    return content


def _objects(path: Path, content: Mapping[str, Any]) -> dict[int, list[Mapping[str, Any]]]:
    """Return the objects of each image."""
    wanted = {"id": int, "image_id": int, "category_id": int, "area": float, "iscrowd": int, "bbox": list}
    found: dict[int, list[Mapping[str, Any]]] = {}
    for entry in _entries(path, content, "annotations", **wanted):
        box = entry["bbox"]
        if len(box) != 4 or not all(isinstance(value, int | float) for value in box):
            raise DataError(f"{path}: the box of object {entry['id']} is {box}, not four numbers.", _FIX)
        found.setdefault(entry["image_id"], []).append(entry)
    _once(path, "object id", (entry["id"] for entries in found.values() for entry in entries))
    return found


def _entries(path: Path, content: Mapping[str, Any], part: str, **wanted: type) -> Iterator[Mapping[str, Any]]:
    """Yield the entries of a part, each of which has these fields of these types (a float may be written as an int)."""
    entries = content.get(part)
    if not isinstance(entries, list):
        raise DataError(f"{path} has no list of {part}.", _FIX)
    kinds: dict[str, Any] = {name: int | float if kind is float else kind for name, kind in wanted.items()}
    for number, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise DataError(f"{path}: entry {number} of its {part} is not an object.", _FIX)
        for name, kind in kinds.items():
            if not isinstance(entry.get(name), kind):
                raise DataError(f"{path}: {name} of entry {number} of its {part} is {entry.get(name)!r}.", _FIX)
        yield entry


def _once(path: Path, what: str, values: Iterable[Any]) -> None:
    seen: set[Any] = set()
    for value in values:
        if value in seen:
            raise DataError(f"{path} has {what} {value} a second time.", _FIX)
        seen.add(value)


def _image(image: Mapping[str, Any], objects: Sequence[Mapping[str, Any]]) -> AnnotatedImage:
    return AnnotatedImage(
        id=image["id"],
        file_name=image["file_name"],
        height=image["height"],
        width=image["width"],
        boxes=np.array([entry["bbox"] for entry in objects], np.float64).reshape(-1, 4),
        labels=np.array([entry["category_id"] for entry in objects], np.int64),
        areas=np.array([entry["area"] for entry in objects], np.float64),
        crowds=np.array([entry["iscrowd"] for entry in objects], np.int64),
        ids=np.array([entry["id"] for entry in objects], np.int64),
    )
