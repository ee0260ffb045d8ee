"""Preprocessing of retinanet's images, and the sample sets made of them."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nvkit.benchmarks.base import DataSet
from nvkit.benchmarks.data_files import without
from nvkit.benchmarks.image_files import BadImage
from nvkit.benchmarks.retinanet import samples
from nvkit.benchmarks.retinanet.preprocess import preprocess_image
from nvkit.benchmarks.retinanet.tensors import INPUT, INPUT_SCALE, SAMPLE_SHAPE
from nvkit.errors import DataError
from nvkit.store import Store

# What PyTorch 2.15 makes of `pattern(97, 1013)`: to_tensor, normalise, interpolate; channel, row, column to value.
PYTORCH = {
    (0, 0, 0): -2.0335538387298584,
    (0, 3, 799): -1.0377660989761353,
    (1, 400, 401): -0.13330630958080292,
    (1, 799, 0): 0.12913605570793152,
    (2, 799, 799): -0.735265851020813,
    (2, 613, 777): 1.005985975265503,
    (0, 777, 790): -1.205653429031372,
    (1, 57, 333): 0.7542212605476379,
}


def pattern(height: int, width: int) -> np.ndarray[Any, Any]:
    y, x, c = np.mgrid[:height, :width, :3]
    return ((x * 37 + y * 11 + c * 85 + (x * y) // 7) % 256).astype(np.uint8)


def row_of(path: Path, dtype: Any = np.float32) -> np.ndarray[Any, Any]:
    row = np.empty(SAMPLE_SHAPE, dtype)
    preprocess_image(path, row)
    return row


def by_the_book(path: Path) -> np.ndarray[Any, Any]:
    """The preprocessing of the rules in float64, four neighbours of each place."""
    image = np.asarray(Image.open(path).convert("RGB"), np.float64) / 255
    image = ((image - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]).transpose(2, 0, 1)

    def axis(length: int) -> tuple[Any, Any, Any]:
        scale = float(np.float32(length) / np.float32(800))
        place = np.maximum(np.float32(scale * (np.arange(800) + 0.5) - 0.5), 0).astype(np.float64)
        low = np.minimum(np.floor(place).astype(int), length - 1)
        return low, np.minimum(low + 1, length - 1), place - low

    (top, bottom, down), (left, right, along) = axis(image.shape[1]), axis(image.shape[2])
    down = down[:, None]
    upper = image[:, top][:, :, left] * (1 - along) + image[:, top][:, :, right] * along
    lower = image[:, bottom][:, :, left] * (1 - along) + image[:, bottom][:, :, right] * along
    return upper * (1 - down) + lower * down


def test_the_numbers_are_pytorchs(tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    Image.fromarray(pattern(97, 1013)).save(path)
    row = row_of(path)
    for place, value in PYTORCH.items():
        assert row[place] == pytest.approx(value, abs=1e-6)


@pytest.mark.parametrize(
    ("name", "size", "mode"),
    [
        ("landscape.jpg", (683, 1024), "RGB"),
        ("odd.jpg", (801, 799), "RGB"),
        ("as it is.jpg", (800, 800), "RGB"),
        ("larger than the arrays of a thread.jpg", (1301, 403), "RGB"),
        ("tiny.jpg", (1, 2), "RGB"),
        ("grey.jpg", (301, 450), "L"),
        ("print.jpg", (300, 451), "CMYK"),
        ("palette.png", (300, 451), "P"),
        ("transparent.png", (300, 451), "RGBA"),
    ],
)
def test_preprocessing_is_that_of_the_rules(tmp_path: Path, name: str, size: tuple[int, int], mode: str) -> None:
    path = tmp_path / name
    Image.fromarray(pattern(*size)).convert(mode).save(path)
    row = row_of(path)
    np.testing.assert_allclose(row, by_the_book(path), atol=3e-6, rtol=0)
    small = row_of(path, np.int8)
    expected = (row.clip(-2.64064, 2.64064) / 2.64064 * 127.0).astype(np.int8)
    np.testing.assert_array_equal(small, expected)
    assert np.abs(small * INPUT_SCALE - row).max() < INPUT_SCALE + 1e-6


def test_a_turned_photograph_stays_as_it_is_stored(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x112] = 6
    Image.fromarray(pattern(300, 500)).save(tmp_path / "turned.jpg", exif=exif)
    Image.fromarray(pattern(300, 500)).save(tmp_path / "straight.jpg")
    assert np.array_equal(row_of(tmp_path / "turned.jpg"), row_of(tmp_path / "straight.jpg"))


def test_damaged_files_are_told_apart(tmp_path: Path) -> None:
    stream = io.BytesIO()
    Image.fromarray(pattern(300, 400)).save(stream, "JPEG")
    whole = stream.getvalue()
    cases = {
        whole[: len(whole) // 2]: "cut short",
        whole[:20] + b"\xff\xda\0\2\xff\xd9": "cannot be decoded",
        b"": "empty",
        b"GIF89a": "not a JPEG",
    }
    for number, (content, expected) in enumerate(cases.items()):
        path = tmp_path / str(number)
        path.write_bytes(content)
        with pytest.raises(BadImage, match=expected):
            row_of(path)
    with pytest.raises(BadImage, match="No such file"):
        row_of(tmp_path / "gone")


@pytest.fixture
def data(tmp_path: Path) -> DataSet:
    files = []
    for number, size in enumerate([(400, 500), (333, 250), (120, 90), (64, 64)]):
        files.append(f"{number}.jpg")
        Image.fromarray(pattern(*size)).save(tmp_path / files[-1])
    return DataSet(tmp_path, False, tuple(files), (), (files[2], files[0]), "0")


def settings(**changes: Any) -> SimpleNamespace:
    return SimpleNamespace(**{"input_dtype": "fp32", "allow_bad_images": 0, "threads": 2, **changes})


def test_samples_are_rows_in_the_order_of_the_files(data: DataSet, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    made = samples.preprocess_samples(settings(), store, data)
    assert (made.count, made.open()[INPUT].shape, made.open()[INPUT].dtype) == (4, (4, 3, 800, 800), np.float32)
    for row, name in zip(made.open()[INPUT], data.files, strict=True):
        np.testing.assert_array_equal(row, row_of(data.root / name))
    small = samples.preprocess_samples(settings(input_dtype="int8"), store, data)
    np.testing.assert_array_equal(small.load([3, 1])[INPUT][1], row_of(data.root / data.files[1], np.int8))
    calibration = samples.preprocess_samples(settings(input_dtype="int8"), store, data, calibration=True)
    assert calibration.count == 2
    np.testing.assert_array_equal(calibration.load([1])[INPUT][0], made.load([0])[INPUT][0])
    assert len({made.digest, small.digest, calibration.digest}) == 3
    with pytest.raises(DataError, match="not preprocessed to fp16"):
        samples.preprocess_samples(settings(input_dtype="fp16"), store, data)


def test_a_bad_file_is_left_out_only_with_leave(data: DataSet, tmp_path: Path) -> None:
    (data.root / data.files[1]).write_bytes(b"no image")
    store = Store(tmp_path / "store")
    with pytest.raises(DataError, match=r"1 of 4 image files cannot be used: 1\.jpg is not a JPEG"):
        samples.preprocess_samples(settings(), store, data)
    made = samples.preprocess_samples(settings(allow_bad_images=1), store, data)
    kept = without(data, made.skipped)
    assert (made.count, kept.files, kept.labels) == (3, ("0.jpg", "2.jpg", "3.jpg"), ())
    np.testing.assert_array_equal(made.load([1])[INPUT][0], row_of(data.root / "2.jpg"))


def test_an_interrupted_run_decodes_only_the_rest(
    data: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, decoded = Store(tmp_path / "store"), []

    def dies_at_the_third(path: Path, row: Any) -> None:
        if len(decoded) == 2:
            raise KeyboardInterrupt
        decoded.append(path.name)
        preprocess_image(path, row)

    monkeypatch.setattr(samples, "preprocess_image", dies_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        samples.preprocess_samples(settings(threads=1), store, data)
    monkeypatch.setattr(samples, "preprocess_image", lambda path, row: decoded.append(path.name))
    samples.preprocess_samples(settings(), store, data)
    assert sorted(decoded) == list(data.files)
