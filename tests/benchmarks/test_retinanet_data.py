"""Data sets, annotations and generated images of retinanet."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from importlib import resources
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nvkit.benchmarks.retinanet import dataset, objects
from nvkit.benchmarks.retinanet.annotations import read_annotations
from nvkit.benchmarks.retinanet.dataset import ANNOTATIONS, IMAGES, find_dataset, read_folder
from nvkit.benchmarks.retinanet.generate import CALIBRATION, FIT, VALIDATION, generated_folder
from nvkit.errors import DataError
from nvkit.store import Store


def settings(**changes: Any) -> SimpleNamespace:
    values = {"data_dir": None, "data_seed": 3, "generated_images": 30, "generated_calibration_images": 5, "threads": 2}
    return SimpleNamespace(**{**values, **changes})


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return find_dataset(settings(), Store(tmp_path_factory.mktemp("store"))).root


@pytest.fixture
def folder(generated: Path, tmp_path: Path) -> Path:
    """A user's folder, with a calibration set where NVIDIA's scripts put it."""
    root = tmp_path / "openimages"
    shutil.copytree(generated, root)
    (root / "calibration").rename(root / "moved")
    (root / "calibration").mkdir()
    (root / "moved").rename(root / "calibration/calibration")
    return root


def rewrite(root: Path, change: Any) -> None:
    content = json.loads((root / ANNOTATIONS).read_text())
    change(content)
    (root / ANNOTATIONS).write_text(json.dumps(content))


def test_a_generated_set_has_the_real_layout(generated: Path) -> None:
    images = read_annotations(generated / ANNOTATIONS)
    assert [image.id for image in images] == list(range(1, 31))
    assert all(len(image.file_name) == len("0123456789abcdef.jpg") for image in images)
    assert len(list((generated / IMAGES).iterdir())) == 30
    assert len(list((generated / "calibration/data").iterdir())) == 5
    assert len(read_annotations(generated / CALIBRATION.annotations)) == 5
    names = [entry["name"] for entry in json.loads((generated / ANNOTATIONS).read_text())["categories"]]
    assert names[0] == "red disc, no core"
    assert names[-1] == "brown hourglass, black core"
    assert len(set(names)) == 264


def test_objects_lie_where_the_annotations_say(generated: Path) -> None:
    """Inside of each box is the class's colour, or its core, and just outside of it is neither."""
    sizes, labels = [], []
    for image in read_annotations(generated / ANNOTATIONS):
        pixels = np.asarray(Image.open(generated / IMAGES / image.file_name), np.int64)
        assert pixels.shape == (image.height, image.width, 3)
        assert image.crowds.tolist() == [0] * len(image.labels)
        for (left, top, width, height), label in zip(image.boxes, image.labels, strict=True):
            assert left >= 0 <= top
            assert left + width <= image.width
            assert top + height <= image.height
            shape, colour, core = objects.factors(int(label))
            middle = list(objects.CORES.values())[core] or list(objects.COLOURS.values())[colour]
            there = pixels[int(top + height * 0.5), int(left + width * 0.5)]
            if shape != objects.SHAPES.index("hourglass") or core:  # a bare hourglass has a waist of no width
                assert np.abs(there - middle).max() < 100
            sizes.append(np.sqrt(width / image.width * height / image.height) * 800)
            labels.append(label)
    assert min(sizes) < 64
    assert max(sizes) > 256
    assert len(set(labels)) > 0.4 * len(labels)


def test_a_box_is_as_tight_as_its_object() -> None:
    drawn = objects.draw([76] * 9, 1, 0, 3)
    pixels = np.asarray(Image.open(io.BytesIO(drawn.jpeg)), np.int64)
    colour = np.array(objects.COLOURS["magenta"])
    assert objects.class_name(drawn.labels[0]) == "magenta square, no core"
    for left, top, width, height in drawn.boxes:
        x, y = int(left + width / 2), int(top + height / 2)

        def near(row: int, column: int) -> bool:
            return bool(np.abs(pixels[row, column] - colour).max() < 75)

        for inside, outside in (
            ((y, round(left) + 3), (y, round(left) - 3)),
            ((y, round(left + width) - 4), (y, round(left + width) + 2)),
            ((round(top) + 3, x), (round(top) - 3, x)),
            ((round(top + height) - 4, x), (round(top + height) + 2, x)),
        ):
            assert near(*inside)
            if 0 <= outside[0] < drawn.height and 0 <= outside[1] < drawn.width:
                assert not near(*outside)


def test_corners_are_those_of_the_stretched_image(generated: Path) -> None:
    image = read_annotations(generated / ANNOTATIONS)[0]
    corners = image.corners(800)
    left, top, width, height = image.boxes[0]
    expected = [left / image.width, top / image.height, (left + width) / image.width, (top + height) / image.height]
    assert corners[0] == pytest.approx(800 * np.array(expected), rel=1e-7, abs=0)


def test_a_seed_gives_the_same_images_and_no_part_shares_one(tmp_path: Path) -> None:
    some = settings(generated_images=4, generated_calibration_images=2)
    first, second = (find_dataset(some, Store(tmp_path / name)) for name in "ab")
    other = find_dataset(settings(generated_images=4, data_seed=4), Store(tmp_path / "a"))
    assert first.digest == second.digest != other.digest
    assert first.generated
    assert first.notes == ("generated data: 4 drawn images, seed 3, not OpenImages",)
    fit = generated_folder(Store(tmp_path / "a"), 3, {FIT: 4}).path
    files = [
        *(first.root / IMAGES).iterdir(),
        *(first.root / CALIBRATION.folder).iterdir(),
        *(fit / FIT.folder).iterdir(),
    ]
    assert len({path.read_bytes() for path in files}) == 10
    assert len(read_annotations(fit / FIT.annotations)) == 4
    assert VALIDATION.annotations == ANNOTATIONS


def test_a_user_folder_is_read(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path / "store")
    rewrite(folder, lambda content: content["images"].reverse())
    data = find_dataset(settings(data_dir=folder), store)
    assert not data.generated
    assert data.files[0] == f"{IMAGES}/{30:016x}.jpg"  # the order is that of the annotations
    assert (len(data.files), data.labels) == (30, ())
    assert data.calibration == tuple(f"calibration/calibration/data/{k:016x}.jpg" for k in range(1, 6))
    md5 = hashlib.md5((folder / ANNOTATIONS).read_bytes()).hexdigest()
    assert data.notes == (
        f"annotations are not those of MLPerf v2.1: MD5 {md5}",
        "calibration set: 5 files of calibration/calibration/data, not MLPerf's",
    )
    monkeypatch.setattr(dataset, "OFFICIAL_MD5", md5)
    assert len(read_folder(folder, store).notes) == 1

    assert read_folder(folder, store).digest == data.digest
    image = folder / data.files[0]
    image.write_bytes(image.read_bytes() + b"x")
    changed = read_folder(folder, store).digest
    rewrite(folder, lambda content: content["annotations"].pop())
    assert len({data.digest, changed, read_folder(folder, store).digest}) == 3

    shutil.rmtree(folder / "calibration")
    assert read_folder(folder, store).calibration == data.files
    (folder / "calibration/data").mkdir(parents=True)
    with pytest.raises(DataError, match=r"has no \.jpg files"):
        read_folder(folder, store)


def test_the_official_calibration_list_is_used_when_its_files_are_there(folder: Path, tmp_path: Path) -> None:
    text = resources.files("nvkit.benchmarks.retinanet").joinpath("openimages_cal_images_list.txt").read_text()
    assert hashlib.md5(text.encode()).hexdigest() == "5c3196ddcec4605c6a9fcf004d9615e6"
    (folder / "calibration/data").mkdir()
    for name in text.split():
        (folder / "calibration/data" / name).symlink_to(folder / IMAGES / f"{1:016x}.jpg")
    data = read_folder(folder, Store(tmp_path / "store"))
    assert [Path(name).name for name in data.calibration] == text.split()
    assert len(data.calibration) == 500
    assert len(data.notes) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["categories"].pop(), "has 263 categories, not the 264 of MLPerf's OpenImages numbered from 0"),
        (lambda c: [x.update(id=x["id"] + 1) for x in c["categories"]], "not the 264"),
        (lambda c: c.pop("annotations"), "has no list of annotations"),
        (lambda c: c["images"].clear(), "has objects of image 1"),
        (lambda c: (c["images"].clear(), c["annotations"].clear()), "lists no images"),
        (lambda c: c["images"][1].update(id=1), "has image id 1 a second time"),
        (lambda c: c["images"][1].update(file_name=c["images"][0]["file_name"]), "a second time"),
        (lambda c: c["annotations"][1].update(id=1), "has object id 1 a second time"),
        (lambda c: c["images"][2].update(width=0), "has no size"),
        (lambda c: c["images"][2].pop("height"), "height of entry 2 of its images is None"),
        (lambda c: c["annotations"][3].update(bbox=[1, 2, 3]), r"the box of object 4 is \[1, 2, 3\]"),
        (lambda c: c["annotations"].append(7), "of its annotations is not an object"),
        (lambda c: c["images"].append({**c["images"][0], "id": 99, "file_name": "gone.jpg"}), "1 of 31 .*gone.jpg"),
    ],
)
def test_wrong_annotations_are_an_error(folder: Path, tmp_path: Path, change: Any, message: str) -> None:
    rewrite(folder, change)
    with pytest.raises(DataError, match=message) as caught:
        read_folder(folder, Store(tmp_path / "store"))
    assert caught.value.fix


def test_a_folder_without_whole_annotations_is_an_error(folder: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    text = (folder / ANNOTATIONS).read_text()
    (folder / ANNOTATIONS).write_text(text[: len(text) // 2])
    with pytest.raises(DataError, match="is not JSON, or was cut short"):
        read_folder(folder, store)
    (folder / ANNOTATIONS).write_text("[]")
    with pytest.raises(DataError, match="not a JSON object but a list"):
        read_folder(folder, store)
    (folder / ANNOTATIONS).unlink()
    with pytest.raises(DataError, match=r"has no annotations/openimages-mlperf\.json"):
        read_folder(folder, store)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="is empty"):
        read_folder(tmp_path / "empty", store)
    with pytest.raises(DataError, match="no data folder"):
        read_folder(tmp_path / "gone", store)
