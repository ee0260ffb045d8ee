from __future__ import annotations

import struct
from pathlib import Path

import pytest

from nvkit.errors import RangesError
from nvkit.quantize import Ranges, TensorRange, match, read_cache, write_cache
from nvkit.store import file_digest


def cache(path: Path, *lines: str, header: str = "TRT-8600-EntropyCalibration2") -> Path:
    path.write_text("\n".join([header, *lines]) + "\n")
    return path


def test_the_scale_of_resnet50s_input_is_read(tmp_path: Path) -> None:
    path = cache(tmp_path / "calibrator.cache", "input_tensor_0: 3f810204")
    found = read_cache(path)
    assert found.tensors["input_tensor_0"].amax / 127 == pytest.approx(1.00787, abs=5e-6)
    assert (found.method, found.calibration) == ("cache", file_digest(path))


def test_round_trip_keeps_names_order_and_float32_scales(tmp_path: Path) -> None:
    tensors = {
        "b:0": TensorRange(2.5),
        "a/with space": TensorRange(1e-6),
        "(Unnamed Layer* 3) [X]_output": TensorRange(1e9),
    }
    write_cache(Ranges(tensors, "entropy", None, 5, "m", "c"), tmp_path / "c")
    found = read_cache(tmp_path / "c")
    assert list(found.tensors) == list(tensors)
    for name, entry in tensors.items():
        assert found.tensors[name].amax == pytest.approx(entry.amax, rel=1e-6)
    lines = (tmp_path / "c").read_text().splitlines()
    assert lines[0] == "TRT-8600-EntropyCalibration2"
    assert bytes.fromhex(lines[1].removeprefix("b:0: ")) == struct.pack(">f", 2.5 / 127)


def test_header_says_the_method_and_zeros_can_be_read_back(tmp_path: Path) -> None:
    write_cache(Ranges({"x": TensorRange(0.0)}, "max", None, 1, "", ""), tmp_path / "c", tensorrt="8503")
    assert (tmp_path / "c").read_text().startswith("TRT-8503-MinMaxCalibration\n")
    assert read_cache(tmp_path / "c").tensors["x"].amax == pytest.approx(1.0)


@pytest.mark.parametrize(
    "line", ["conv1 3f810204", "conv1: 3f8102", "conv1: 3f8102zz", ": 3f810204", "x: 00000000", "x: 7f800000"]
)
def test_malformed_lines_are_named_by_number(tmp_path: Path, line: str) -> None:
    path = cache(tmp_path / "c", "input: 3f810204", "", line)
    with pytest.raises(RangesError, match="line 4"):
        read_cache(path)


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RangesError, match="does not exist"):
        read_cache(tmp_path / "absent")
    with pytest.raises(RangesError, match="line 1"):
        read_cache(cache(tmp_path / "c", "a: 3f810204", header="not a cache"))
    with pytest.raises(RangesError, match="no tensors"):
        read_cache(cache(tmp_path / "c"))
    for content in (b"", b"\xff\xfe\x00"):
        (tmp_path / "c").write_bytes(content)
        with pytest.raises(RangesError):
            read_cache(tmp_path / "c")


def test_names_match_whatever_separates_their_parts(tmp_path: Path) -> None:
    known = read_cache(cache(tmp_path / "c", "input_tensor_0: 3f810204", "resnet_model_conv2d_Conv2D_0: 3c010204"))
    found = match(known, ["input_tensor:0", "resnet_model/conv2d/Conv2D:0", "gap"])
    assert list(found.ranges.tensors) == ["input_tensor:0", "resnet_model/conv2d/Conv2D:0"]
    assert found.missing == ("gap",)
    with pytest.raises(RangesError, match="None of the cache's 2 tensors"):
        match(known, ["x", "y"])
