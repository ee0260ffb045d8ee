"""nvkit's detection kernels, detect.cu, behind an engine that ends with a detector's heads."""

from __future__ import annotations

import ctypes
import hashlib
import io
import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nvkit.engine.tensorrt.cuda import Gpu, Handle, OutOfDeviceMemoryError
from nvkit.errors import ConfigError, EngineBuildError
from nvkit.store import replacing

if TYPE_CHECKING:
    from nvkit.engine.tensorrt.detection_kernels import Detection
    from nvkit.engine.tensorrt.flight import Context
    from nvkit.engine.tensorrt.onnx_tools import Floats

SOURCE = "detect"
"""Name of the files with the kernels: detect.cu and detect.ptx."""

_ANCHORS = "anchors.npy"
_LEVELS = 8  # that `Parameters` has room for
_UNROLL = 4  # units that a selecting thread reads
_SELECTING, _SUPPRESSING = 256, 1024  # threads of a block
_LISTED = 16384  # candidates of a level and image; a trained network has hundreds
_LEAST, _MOST = 1024, 8192  # candidates of an image, in shared memory
_KEY_BYTES = 12  # of shared memory for each: a key and a number


class _Level(ctypes.Structure):
    _fields_ = (
        ("logits", ctypes.c_uint64),
        ("deltas", ctypes.c_uint64),
        ("positions", ctypes.c_int32),
        ("first_anchor", ctypes.c_int32),
        ("first_block", ctypes.c_int32),
        ("reserved", ctypes.c_int32),
    )


class Parameters(ctypes.Structure):
    """What the kernels read; `Parameters` of detect.cu says what each entry is."""

    _fields_ = (
        ("levels", _Level * _LEVELS),
        *((name, ctypes.c_uint64) for name in ("anchors", "candidates", "counts", "boxes")),
        *(
            (name, ctypes.c_int32)
            for name in ("level_count", "shapes", "classes", "kept", "capacity", "most", "rows", "below")
        ),
        *((name, ctypes.c_float) for name in ("scale", "shift", "threshold", "overlap", "growth", "side")),
    )


def too_large(levels: int, kept: int) -> str:
    """Return why the kernels cannot take so many candidates of each level, or nothing if they can."""
    if levels > _LEVELS or levels * kept > _MOST:
        return f"nvkit's kernels take {_LEVELS} levels and {_MOST} candidates of an image, not {levels} of {kept}"
    return ""


def save(folder: Path, detection: Detection, anchors: Floats) -> dict[str, Any]:
    """Write what the kernels need beside the engine; return what its card says of it."""
    content = io.BytesIO()
    np.save(content, anchors)
    with replacing(folder / _ANCHORS) as temporary:
        temporary.write_bytes(content.getvalue())
    return {**asdict(detection), "anchors": hashlib.sha256(content.getvalue()).hexdigest()}


class Detector:
    """A context that gives detections: the engine's, with the kernels behind it.

    Args:
        context: The engine's, which gives the heads' outputs.
        gpu: Where it runs.
        folder: Where `save` wrote.
        told: What `save` returned.
        max_batch: Samples of the largest batch.

    Raises:
        EngineBuildError: the anchors are not those that were saved.
        ConfigError: the heads' outputs do not fit into the GPU's memory.
    """

    def __init__(self, context: Context, gpu: Gpu, folder: Path, told: Mapping[str, Any], max_batch: int) -> None:
        self._context, self._gpu, self._name = context, gpu, told["output"]
        self._output = self._size = self._blocks = 0
        anchors = _anchors(folder / _ANCHORS, told["anchors"])
        p = _parameters(told)
        for level, heads in zip(p.levels, told["levels"], strict=False):
            units, logits, deltas = _sizes(p, level.positions, told["vector"])
            level.first_block = self._blocks
            self._blocks += -(-units // (_SELECTING * _UNROLL))
            level.logits, level.deltas = self._room(logits * max_batch), self._room(deltas * max_batch)
            context.bind(heads["logits"], level.logits)
            context.bind(heads["deltas"], level.deltas)
        counts = np.zeros((max_batch, p.level_count), np.int32)
        p.anchors, p.counts = self._uploaded(anchors), self._uploaded(counts)
        p.candidates = self._room(8 * p.capacity * counts.size)
        p.boxes = self._room(16 * p.most * max_batch)
        self._shared = _KEY_BYTES * p.most
        self._parameters = self._uploaded(np.frombuffer(bytes(p), np.uint8))
        self._select = gpu.kernel(SOURCE, "select_int8" if told["vector"] > 1 else "select_float", 0)
        self._suppress = gpu.kernel(SOURCE, "suppress", self._shared)

    def bind(self, name: str, address: int) -> None:
        """Say where a tensor lies."""
        if name == self._name:
            self._output = address
        else:
            self._context.bind(name, address)

    def set_batch(self, size: int) -> None:
        """Say how many samples the next batch has."""
        self._context.set_batch(size)
        self._size = size

    def set_shapes(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Say what shapes the inputs of the next batch have; axis 0 is the sample."""
        self._context.set_shapes(shapes)
        self._size = next(iter(shapes.values()))[0]

    def enqueue(self, stream: Handle) -> None:
        """Put the network and the kernels on a stream."""
        self._context.enqueue(stream)
        start = self._gpu.start
        start(self._select, (self._blocks, self._size), _SELECTING, 0, (self._parameters,), stream)
        arguments = (self._parameters, self._output)
        start(self._suppress, (self._size, 1), _SUPPRESSING, self._shared, arguments, stream)

    def _room(self, size: int) -> int:
        try:
            return self._gpu.allocate(size)
        except OutOfDeviceMemoryError:
            raise ConfigError(
                f"{size:,} bytes for the outputs of the detector's heads are not free on GPU {self._gpu.index}.",
                "Give a smaller --batch-size or fewer --gpu-copy-streams.",
            ) from None

    def _uploaded(self, array: np.ndarray[Any, Any]) -> int:
        address = self._room(array.nbytes)
        self._gpu.upload(address, array)
        return address


def _anchors(path: Path, digest: str) -> Floats:
    content = path.read_bytes() if path.is_file() else b""
    if hashlib.sha256(content).hexdigest() != digest:
        raise EngineBuildError(
            f"{path} ({len(content):,} bytes) is not what was written beside the engine.",
            f"Delete {path.parent} and run the build stage again.",
        )
    found: Floats = np.load(io.BytesIO(content))
    return found


def _parameters(told: Mapping[str, Any]) -> Parameters:
    """Return the parameters without the addresses."""
    p = Parameters()
    for level, heads in zip(p.levels, told["levels"], strict=False):
        level.positions, level.first_anchor = heads["positions"], heads["first_anchor"]
    p.level_count, p.shapes, p.classes = len(told["levels"]), told["shapes"], told["classes"]
    p.kept, p.capacity = told["candidates"], max(_LISTED, told["candidates"])
    p.most = _LEAST
    while p.most < p.level_count * p.kept:
        p.most *= 2
    p.rows, p.side, p.growth = told["detections"], told["image_size"], told["growth"]
    p.scale, p.shift, p.overlap = told["scale"], told["shift"], told["iou_threshold"]
    score = told["score_threshold"]
    p.threshold = math.log(score / (1.0 - score)) if score > 0.0 else -math.inf
    steps = np.arange(-128, 128, dtype=np.float32)
    p.below = int(steps[steps * np.float32(p.scale) + np.float32(p.shift) <= p.threshold].max(initial=-128))
    return p


def _sizes(p: Parameters, positions: int, vector: int) -> tuple[int, int, int]:
    """Return the units of a level's class logits that threads read, and the bytes of its logits and deltas."""
    channels = p.shapes * p.classes
    deltas = 4 * 4 * p.shapes * positions
    if vector == 1:
        return channels * positions, 4 * channels * positions, deltas
    size = -(-channels // vector) * vector * positions
    return size // 16, size, deltas
