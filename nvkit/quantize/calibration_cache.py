"""NVIDIA's calibration caches, as TensorRT's calibrators and MLPerf submissions leave them.

A text file: a header such as ``TRT-8600-EntropyCalibration2``, then a line ``tensor: 3f810204`` for each tensor, where
the hexadecimal digits are a big-endian float32, the scale. A tensor's range is 127 times its scale.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from nvkit.errors import RangesError
from nvkit.quantize.ranges import Ranges, TensorRange
from nvkit.store import file_digest, write_text

_HEADER = re.compile(r"TRT-\d+-(\w+)")
_LINE = re.compile(r"(?P<name>\S.*?)\s*:\s*(?P<scale>[0-9a-fA-F]{8})")
_KIND = {"entropy": "EntropyCalibration2", "max": "MinMaxCalibration"}
_LEVELS = 127


@dataclass(frozen=True)
class Matched:
    """The ranges of a cache, by the tensor names of a network.

    Attributes:
        ranges: The ranges that were found.
        missing: Tensors of the network for which the cache has none.
    """

    ranges: Ranges
    missing: tuple[str, ...]


def write_cache(ranges: Ranges, path: Path, *, tensorrt: str = "8600") -> None:
    """Write ranges as a calibration cache, atomically.

    Args:
        ranges: What to write; tensors of zeros get the range 1, since a cache cannot hold a scale of 0.
        path: The file.
        tensorrt: Version digits of the header; TensorRT ignores caches of another version.
    """
    lines = [f"TRT-{tensorrt}-{_KIND.get(ranges.method, 'EntropyCalibration2')}"]
    for name, known in ranges.tensors.items():
        scale = struct.pack(">f", (known.amax or 1.0) / _LEVELS)
        lines.append(f"{name}: {scale.hex()}")
    write_text(path, "\n".join(lines) + "\n")


def read_cache(path: Path) -> Ranges:
    """Read a calibration cache; `method` is "cache" and `model` is empty, for a cache does not say of which it is.

    Raises:
        RangesError: the file is missing or a line is malformed; the message has its number.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError as error:
        raise RangesError(f"{path} does not exist.", "Give the path of a calibration cache.") from error
    except UnicodeDecodeError as error:
        raise RangesError(f"{path} is not a text file.", "Give the path of a calibration cache.") from error
    if not lines or not _HEADER.fullmatch(lines[0].strip()):
        first = lines[0][:60] if lines else ""
        raise RangesError(
            f"{path}, line 1: '{first}' is not the header of a calibration cache.",
            "It looks like TRT-8600-EntropyCalibration2.",
        )
    tensors: dict[str, TensorRange] = {}
    for number, line in enumerate(lines[1:], start=2):
        if not line.strip():
            continue
        found = _LINE.fullmatch(line.strip())
        if not found:
            raise RangesError(
                f"{path}, line {number}: '{line[:60]}' is not 'tensor: 8 hexadecimal digits'.",
                "Compare the file with its source; it may be truncated.",
            )
        scale = struct.unpack(">f", bytes.fromhex(found["scale"]))[0]
        if not math.isfinite(scale) or scale <= 0:
            raise RangesError(
                f"{path}, line {number}: scale {scale} of '{found['name']}' is not a positive number.",
                "Calibrate this network again.",
            )
        tensors[found["name"]] = TensorRange(scale * _LEVELS)
    if not tensors:
        raise RangesError(f"{path} has a header and no tensors.", "It may be truncated; fetch it again.")
    return Ranges(tensors, "cache", None, 0, model="", calibration=file_digest(path))


def match(ranges: Ranges, tensors: Iterable[str]) -> Matched:
    """Give ranges the tensor names of a network.

    Caches are made from networks that went through other tools, so names are compared with ":", "/" and "." read
    as "_": "input_tensor_0" is the range of "input_tensor:0".

    Args:
        ranges: From `read_cache`.
        tensors: Names of the network's tensors that need a range (`graph.observable`).

    Raises:
        RangesError: no name matches.
    """
    wanted = list(tensors)
    known = {_plain(name): entry for name, entry in ranges.tensors.items()}
    found = {name: known[_plain(name)] for name in wanted if _plain(name) in known}
    if not found:
        raise RangesError(
            f"None of the cache's {len(ranges.tensors)} tensors (first: '{next(iter(ranges.tensors), '')}') is one of "
            f"the network's {len(wanted)} (first: '{next(iter(wanted), '')}').",
            "Use the cache of this network, or calibrate it.",
        )
    return Matched(replace(ranges, tensors=found), tuple(name for name in wanted if name not in found))


def _plain(name: str) -> str:
    return re.sub(r"[:/.]", "_", name)
