"""mAP of retinanet, against pycocotools used as MLCommons' accuracy-openimages.py uses it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from nvkit.benchmarks.base import DataSet
from nvkit.benchmarks.data_files import without
from nvkit.benchmarks.retinanet.accuracy import reference_command, score_responses
from nvkit.benchmarks.retinanet.annotations import AnnotatedImage, read_annotations
from nvkit.benchmarks.retinanet.dataset import ANNOTATIONS, IMAGES, find_dataset, read_folder
from nvkit.errors import DataError, MissingPackageError
from nvkit.store import Store


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> DataSet:
    """A data set with groups of objects, images without objects, and ids in no order."""
    store = Store(tmp_path_factory.mktemp("store"))
    counts = {"generated_images": 16, "generated_calibration_images": 4}
    root = find_dataset(SimpleNamespace(data_dir=None, data_seed=5, threads=2, **counts), store).root
    content = json.loads((root / ANNOTATIONS).read_text())
    rng = np.random.default_rng(0)
    content["annotations"] = [entry for entry in content["annotations"] if entry["image_id"] not in (3, 9)]
    for entry in content["annotations"]:
        entry["iscrowd"] = int(rng.random() < 0.2)
        entry["category_id"] = entry["category_id"] % 12
    rng.shuffle(content["annotations"])
    rng.shuffle(content["images"])
    (root / ANNOTATIONS).write_text(json.dumps(content))
    return read_folder(root, store)


def images_of(data: DataSet) -> list[AnnotatedImage]:
    known = {f"{IMAGES}/{image.file_name}": image for image in read_annotations(data.root / ANNOTATIONS)}
    return [known[name] for name in data.files]


def found(data: DataSet, *, copies: int = 1, noise: float = 0.0, wrong: float = 0.0) -> dict[int, bytes]:
    """Responses of a network that finds every object `copies` times, so far off and so often as something else."""
    rng = np.random.default_rng(1)
    responses = {}
    for index, image in reversed(list(enumerate(images_of(data)))):
        rows = []
        for box, label in zip(image.boxes, image.labels, strict=True):
            left, top, width, height = box
            for _ in range(copies):
                place = np.array([top, left, top + height, left + width]) / ([image.height, image.width] * 2)
                place += rng.normal(0, noise, 4) * (place[2:] - place[:2]).repeat(2)
                named = rng.integers(0, 300) if rng.random() < wrong else label
                rows.append([index, *place, round(rng.random(), 1), named])
        responses[index] = np.array(rows, "<f4").tobytes()
    return responses


def by_the_script(responses: dict[int, bytes], annotations: Path) -> float:
    """The steps of accuracy-openimages.py: one evaluation of everything at all sizes."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    truth = COCO(str(annotations))
    detections: list[dict[str, Any]] = []
    for index, response in responses.items():
        image = truth.dataset["images"][index]
        for row in np.frombuffer(response, np.float32).reshape(-1, 7):
            _, ymin, xmin, ymax, xmax, score, label = row
            ymin, xmin = ymin * image["height"], xmin * image["width"]
            ymax, xmax = ymax * image["height"], xmax * image["width"]
            box = [float(xmin), float(ymin), float(xmax - xmin), float(ymax - ymin)]
            entry = {"image_id": image["id"], "category_id": int(label), "bbox": box, "score": float(score)}
            detections.append(entry)
    evaluation = COCOeval(truth, truth.loadRes(detections), iouType="bbox")
    evaluation.params.imgIds = [truth.dataset["images"][index]["id"] for index in responses]
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return float(evaluation.stats[0])


def test_a_network_that_finds_everything_scores_100(data: DataSet, capfd: pytest.CaptureFixture[str]) -> None:
    score = score_responses(found(data), data)
    assert (score.metric, score.value, score.line) == ("mAP", 100.0, "mAP=100.000%")
    assert score.count == 16
    assert score.details["images without detection"] == 2
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize("kept", ["all", "some seen", "some skipped"])
@pytest.mark.parametrize("network", [{"noise": 0.05}, {"noise": 0.1, "copies": 3, "wrong": 0.3}, {"copies": 105}])
def test_the_figure_is_the_scripts(data: DataSet, tmp_path: Path, network: dict[str, Any], kept: str) -> None:
    if kept == "some skipped":
        data = without(data, data.files[2:9:3])
    responses = found(data, **network)
    if kept == "some seen":
        responses = {index: responses[index] for index in range(1, 14, 2)}
        responses[5] = b""
    script, arguments = reference_command(tmp_path / "log.json", data, tmp_path)
    assert script.endswith("tools/accuracy-openimages.py")
    assert arguments[arguments.index("--openimages-dir") + 1] == str(tmp_path)
    assert "--use-inv-map" not in arguments
    score = score_responses(responses, data)
    assert score.value == 100.0 * by_the_script(responses, tmp_path / ANNOTATIONS)
    assert 0 < score.value <= 100


def test_a_network_that_finds_nothing_scores_0(data: DataSet) -> None:
    score = score_responses(dict.fromkeys(range(16), b""), data)
    assert (score.value, score.line, score.details["detections"]) == (0.0, "mAP=0.000%", 0)


def test_responses_that_are_wrong_are_errors(data: DataSet) -> None:
    row = np.array([[0, 0.1, 0.1, 0.2, 0.2, 0.9, 1]], "<f4")
    damaged = row.copy()
    damaged[0, 3] = np.nan
    empty = next(index for index, image in enumerate(images_of(data)) if not len(image.labels))
    cases: list[tuple[dict[int, bytes], str]] = [
        ({}, "no responses"),
        ({16: row.tobytes()}, "sample 16 is outside of the data set of 16"),
        ({0: row.tobytes() + b"1234"}, "32 bytes, not rows of 28"),
        ({1: row.tobytes()}, "sample 1 says that it is of another"),
        ({0: damaged.tobytes()}, "no numbers"),
        ({empty: b""}, "None of the scored images has an object"),
    ]
    for responses, message in cases:
        with pytest.raises(DataError, match=message):
            score_responses(responses, data)


def test_annotations_that_changed_since_are_an_error(data: DataSet, tmp_path: Path) -> None:
    moved = DataSet(data.root, False, (*data.files, f"{IMAGES}/later.jpg"), (), (), data.digest)
    with pytest.raises(DataError, match=r"does not list validation/data/later\.jpg"):
        score_responses(found(data), moved)
    with pytest.raises(DataError, match=r"does not list validation/data/later\.jpg"):
        reference_command(tmp_path / "log.json", moved, tmp_path)


def test_a_missing_pycocotools_is_named(data: DataSet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    monkeypatch.delitem(sys.modules, "pycocotools.cocoeval", raising=False)
    with pytest.raises(MissingPackageError, match="pycocotools") as caught:
        score_responses(found(data), data)
    assert "nvkit[vision]" in caught.value.fix
