"""Data sets, generated images and preprocessing of resnet50."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from benchmarks.resnet50_settings import make_settings

from nvkit.benchmarks.drawing import background
from nvkit.benchmarks.resnet50 import BENCHMARK, images, samples
from nvkit.benchmarks.resnet50.dataset import read_folder
from nvkit.benchmarks.resnet50.preprocess import BadImage, preprocess_image, read_image
from nvkit.errors import DataError, DiskFullError
from nvkit.store import Store


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = Store(tmp_path_factory.mktemp("store"))
    return BENCHMARK.dataset(make_settings(), store).root


@pytest.fixture
def folder(generated: Path, tmp_path: Path) -> Path:
    """A user's folder: six images and their map."""
    root = tmp_path / "imagenet"
    root.mkdir()
    lines = (generated / "val_map.txt").read_text().splitlines()[:6]
    for line in lines:
        shutil.copy(generated / line.split()[0], root)
    (root / "val_map.txt").write_text("\n".join(lines) + "\n")
    return root


def picture(height: int, width: int, channels: int = 3) -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(height * width)
    coarse = rng.integers(0, 256, (height // 16 + 1, width // 16 + 1, channels), dtype=np.uint8)
    large = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return large.reshape(height, width, channels)


def by_the_book(path: Path) -> np.ndarray[Any, Any]:
    """The preprocessing of the rules in plain numpy, a step at a time."""
    image = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
    height, width, _ = image.shape
    new_height, new_width = (int(256 * height / width), 256) if height > width else (256, int(256 * width / height))
    image = cv2.resize(image, (new_width, new_height), interpolation=cv2.INTER_AREA)
    top, left = int((new_height - 224) / 2), int((new_width - 224) / 2)
    image = image[top : int((new_height + 224) / 2), left : int((new_width + 224) / 2)]
    floats = np.asarray(image, dtype="float32")
    floats -= np.array([123.68, 116.78, 103.94], dtype=np.float32)
    return floats.transpose(2, 0, 1)


@pytest.mark.parametrize(
    ("height", "width", "channels"),
    [(375, 500, 3), (500, 333, 3), (97, 911, 3), (801, 120, 3), (256, 256, 3), (301, 300, 1), (224, 1001, 1)],
)
def test_preprocessing_is_that_of_the_rules(tmp_path: Path, height: int, width: int, channels: int) -> None:
    path = tmp_path / "image.JPEG"
    cv2.imwrite(str(path), picture(height, width, channels))
    row = np.empty((3, 224, 224), np.float32)
    preprocess_image(path, row)
    expected = by_the_book(path)
    np.testing.assert_array_equal(row, expected)
    if channels == 1:
        assert np.ptp(row + np.array([123.68, 116.78, 103.94], np.float32)[:, None, None], axis=0).max() < 1e-4

    small = np.empty((3, 224, 224), np.int8)
    preprocess_image(path, small)
    np.testing.assert_array_equal(small, np.clip(expected, -128, 127).astype(np.int8))


def test_a_turned_photograph_is_turned_back(tmp_path: Path) -> None:
    _, encoded = cv2.imencode(".jpg", picture(300, 500))
    orientation = b"\x01\x12\x00\x03\x00\x00\x00\x01\x00\x06\x00\x00"  # tag 0x112, one short, value 6
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01" + orientation + bytes(4)
    path = tmp_path / "turned.JPEG"
    jpeg = encoded.tobytes()
    path.write_bytes(jpeg[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + jpeg[2:])
    assert read_image(path).shape == (500, 300, 3)
    row = np.empty((3, 224, 224), np.float32)
    preprocess_image(path, row)
    np.testing.assert_array_equal(row, by_the_book(path))


def test_damaged_files_are_told_apart(tmp_path: Path) -> None:
    ok, encoded = cv2.imencode(".jpg", picture(300, 400))
    assert ok
    whole = encoded.tobytes()
    thumbnail = b"\xff\xe1" + (len(whole[:9000]) + 2).to_bytes(2, "big") + whole[:8998] + b"\xff\xd9"
    ok, png = cv2.imencode(".png", picture(300, 400))
    cases = {
        whole: None,
        whole + b"bytes after the end": None,
        png.tobytes(): None,
        whole[: len(whole) // 2]: "cut short",
        whole[:2] + thumbnail + whole[2 : len(whole) // 2]: "cut short",  # the thumbnail's end is not the image's
        png.tobytes()[:-400]: "cut short",
        whole[:100]: "without image data",
        b"": "empty",
        b"<html>not found</html>": "not a JPEG",
    }
    row = np.empty((3, 224, 224), np.float32)
    for number, (content, expected) in enumerate(cases.items()):
        path = tmp_path / str(number)
        path.write_bytes(content)
        if expected is None:
            preprocess_image(path, row)
        else:
            with pytest.raises(BadImage, match=expected):
                preprocess_image(path, row)


def test_generated_images_have_the_real_layout(generated: Path) -> None:
    data = read_folder(generated, Store(generated.parent), official=False)
    assert data.files[0] == "ILSVRC2012_val_00000001.JPEG"
    assert len(set(data.labels)) == len(data.files) == 40
    assert min(data.labels) < 200
    assert max(data.labels) >= 800
    assert len(data.calibration) == 8
    assert not set(data.calibration) & set(data.files)
    decoded = [cv2.imread(str(generated / name), cv2.IMREAD_UNCHANGED) for name in data.files]
    grey = [label for image, label in zip(decoded, data.labels, strict=True) if image.ndim == 2]
    assert grey
    assert all(images.class_name(label).split()[0] in ("black", "white") for label in grey)
    ratios = [image.shape[1] / image.shape[0] for image in decoded]
    assert min(ratios) < 0.7
    assert max(ratios) > 2.5
    assert "0 red disc on plain\n" in (generated / "classes.txt").read_text()


def test_every_colour_shows_on_every_background() -> None:
    rng = np.random.default_rng(0)
    for texture in images.TEXTURES:
        pixels = np.concatenate([background(rng, texture, (80, 80), (0.1, 0.2)).reshape(-1, 3) for _ in range(50)])
        for name, colour in images.COLOURS.items():
            assert np.abs(pixels.astype(int) - colour).max(axis=1).min() > 20, f"{name} on {texture}"


def test_a_seed_gives_the_same_images(tmp_path: Path) -> None:
    settings = make_settings(generated_images=5, generated_calibration_images=2)
    first, second = (BENCHMARK.dataset(settings, Store(tmp_path / name)) for name in "ab")
    other = BENCHMARK.dataset(make_settings(generated_images=5, data_seed=4), Store(tmp_path / "a"))
    assert first.digest == second.digest != other.digest
    assert first.generated
    assert "generated data" in first.notes[0]


def test_every_shape_and_texture_can_be_drawn() -> None:
    drawn = {images.jpeg(111 * k, 0, 0, 0) for k in range(9)} | {images.jpeg(999, 0, 0, 0)}
    assert len(drawn) == 10


def test_a_user_folder_is_read(folder: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    data = BENCHMARK.dataset(make_settings(data_dir=folder), store)
    assert not data.generated
    assert data.calibration == data.files
    assert data.notes == ("calibration set: the first 6 images, not MLPerf's list",)
    assert BENCHMARK.dataset(make_settings(data_dir=folder), store).digest == data.digest

    (folder / "cal_map.txt").write_text(f"{data.files[2]} {data.labels[2]}\n")
    chosen = BENCHMARK.dataset(make_settings(data_dir=folder), store)
    assert chosen.calibration == (data.files[2],)
    assert chosen.digest != data.digest

    image = folder / data.files[0]
    image.write_bytes(image.read_bytes() + b"x")
    assert BENCHMARK.dataset(make_settings(data_dir=folder), store).digest != chosen.digest


def test_the_official_calibration_list_is_used_when_its_files_are_there(folder: Path, tmp_path: Path) -> None:
    from importlib import resources

    text = resources.files("nvkit.benchmarks.resnet50").joinpath("cal_image_list_option_1.txt").read_text()
    for name in text.split():
        (folder / name).symlink_to(folder / "ILSVRC2012_val_00000001.JPEG")
    data = read_folder(folder, Store(tmp_path / "store"))
    assert list(data.calibration) == text.split()
    assert len(data.calibration) == 500
    assert data.notes == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a.JPEG 1\nb.JPEG\n", "line 2: 'b.JPEG' is not 'file label'"),
        ("a.JPEG one\n", "line 1"),
        ("a.JPEG 1000\n", "label 1000 is not 0 to 999"),
        ("a.JPEG 1\na.JPEG 2\n", "line 2: a.JPEG is listed a second time"),
        ("\n", "lists no images"),
        ("gone.JPEG 1\n", "1 of 1 listed image files are not in"),
        (None, "has no val_map.txt"),
    ],
)
def test_a_wrong_folder_is_an_error_that_says_where(folder: Path, text: str | None, message: str) -> None:
    if text is None:
        (folder / "val_map.txt").unlink()
    else:
        (folder / "val_map.txt").write_text(text)
    with pytest.raises(DataError) as caught:
        read_folder(folder, Store(folder.parent / "store"))
    assert message in str(caught.value)
    assert caught.value.fix


def test_an_empty_and_a_missing_folder_are_errors(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="is empty"):
        read_folder(tmp_path / "empty", Store(tmp_path / "store"))
    with pytest.raises(DataError, match="no data folder"):
        read_folder(tmp_path / "gone", Store(tmp_path / "store"))


def test_samples_are_rows_in_the_order_of_the_files(folder: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    data = read_folder(folder, store)
    threads = cv2.getNumThreads()
    result = BENCHMARK.preprocess(make_settings(), store, data)
    assert cv2.getNumThreads() == threads
    assert result.count == 6
    array = result.open()["input_tensor:0"]
    assert array.shape == (6, 3, 224, 224)
    for row, name in enumerate(data.files):
        np.testing.assert_array_equal(array[row], by_the_book(folder / name))

    small = BENCHMARK.preprocess(make_settings(input_dtype="int8"), store, data)
    assert small.load([4, 1])["input_tensor:0"].dtype == np.int8
    np.testing.assert_array_equal(
        small.load([4, 1])["input_tensor:0"], np.clip(array[[4, 1]], -128, 127).astype(np.int8)
    )
    calibration = BENCHMARK.preprocess(make_settings(input_dtype="int8"), store, data, calibration=True)
    assert calibration.open()["input_tensor:0"].dtype == np.float32


def test_bad_files_stop_preprocessing_unless_allowed(folder: Path, tmp_path: Path) -> None:
    names = sorted(path.name for path in folder.glob("*.JPEG"))
    whole = (folder / names[1]).read_bytes()
    (folder / names[1]).write_bytes(whole[: len(whole) // 2])
    (folder / names[4]).write_bytes(b"no image")
    store = Store(tmp_path / "store")
    data = read_folder(folder, store)
    with pytest.raises(
        DataError, match=r"2 of 6 .*00000002.JPEG is a JPEG file that was cut short; .*00000005"
    ) as caught:
        BENCHMARK.preprocess(make_settings(allow_bad_images=1), store, data)
    assert "allow_bad_images to 2" in caught.value.fix

    result = BENCHMARK.preprocess(make_settings(allow_bad_images=2), store, data)
    assert result.skipped == (names[1], names[4])
    kept = BENCHMARK.without(data, result.skipped)
    assert result.count == len(kept.files) == 4
    assert kept.labels == tuple(data.labels[k] for k in (0, 2, 3, 5))
    for row, name in enumerate(kept.files):
        np.testing.assert_array_equal(result.open()["input_tensor:0"][row], by_the_book(folder / name))
    with pytest.raises(DataError, match="2 of 6"):  # the stored set does not outlive the leave
        BENCHMARK.preprocess(make_settings(), store, data)


def test_a_disk_without_room_is_an_error_before_the_work(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path / "store")
    data = read_folder(folder, store)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1_000_000))
    with pytest.raises(DiskFullError, match=r"0.00 GB free"):
        BENCHMARK.preprocess(make_settings(), store, data)


def test_a_disk_that_fills_up_is_an_error(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path / "store")
    data = read_folder(folder, store)

    def full(*args: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(DiskFullError):
        BENCHMARK.preprocess(make_settings(), store, data)


def test_an_interrupted_run_decodes_only_the_rest(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path / "store")
    data = read_folder(folder, store)
    decoded: list[str] = []

    def dies_at_the_fourth(path: Path, row: Any) -> None:
        if len(decoded) == 3:
            raise KeyboardInterrupt
        decoded.append(path.name)
        preprocess_image(path, row)

    monkeypatch.setattr(samples, "preprocess_image", dies_at_the_fourth)
    with pytest.raises(KeyboardInterrupt):
        BENCHMARK.preprocess(make_settings(threads=1), store, data)
    again: list[str] = []

    def counts(path: Path, row: Any) -> None:
        again.append(path.name)
        preprocess_image(path, row)

    monkeypatch.setattr(samples, "preprocess_image", counts)
    result = BENCHMARK.preprocess(make_settings(), store, data)
    assert sorted(decoded + again) == sorted(data.files)
    assert len(again) == 3
    for row, name in enumerate(data.files):
        np.testing.assert_array_equal(result.open()["input_tensor:0"][row], by_the_book(folder / name))
