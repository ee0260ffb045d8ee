"""nvkit's detection kernels: the code of detect.cu, compiled for the CPU, behind the class that starts them."""

from __future__ import annotations

import ctypes
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from engine.tensorrt.detector_net import CLASSES, ROWS, SHAPES, detector, images
from engine.tensorrt.fake_gpu import FakeContext, FakeGpu
from engine.tensorrt.test_detection import asked, run
from onnx import helper

import nvkit.engine.tensorrt
from nvkit.engine.base import Network
from nvkit.engine.tensorrt import detector as detector_module
from nvkit.engine.tensorrt.cuda import OutOfDeviceMemoryError
from nvkit.engine.tensorrt.detector import Detector, Parameters, save
from nvkit.engine.tensorrt.flight import Options
from nvkit.engine.tensorrt.prepare import implicit_graph
from nvkit.engine.tensorrt.runner import TensorRtRunner
from nvkit.engine.tensorrt.tensors import Tensor
from nvkit.errors import ConfigError, EngineBuildError

FOLDER = Path(nvkit.engine.tensorrt.__file__).parent
BATCH = 3


class HostGpu:
    """Memory of the host, and kernels that run when they are started."""

    index = 0

    def __init__(self, library: Any, memory: int = 1 << 30) -> None:
        self._library, self._memory = library, memory
        self._kept: list[np.ndarray] = []

    def allocate(self, size: int) -> int:
        self._memory -= size
        if self._memory < 0:
            raise OutOfDeviceMemoryError(size)
        self._kept.append(np.full(size + 64, 0x5A, np.uint8))
        return (self._kept[-1].ctypes.data + 63) // 64 * 64

    def upload(self, target: int, source: np.ndarray) -> None:
        source = np.ascontiguousarray(source)
        ctypes.memmove(target, source.ctypes.data, source.nbytes)

    def kernel(self, source: str, name: str, shared: int) -> str:
        assert f'extern "C" __global__ void {name}(' in re.sub(
            r"__launch_bounds__\(\d+\) ", "", (FOLDER / f"{source}.cu").read_text()
        )
        return name

    def start(
        self,
        kernel: str,
        grid: tuple[int, int],
        threads: int,
        shared: int,
        arguments: tuple[int, ...],
        stream: Any,
    ) -> None:
        self._library.start(kernel.encode(), *grid, threads, shared, *arguments, *(None,) * (2 - len(arguments)))


class Heads:
    """A context that gives what the heads of a network are said to have given."""

    def __init__(self, values: dict[str, np.ndarray]) -> None:
        self._values, self._at, self._size = values, dict[str, int](), 0

    def bind(self, name: str, address: int) -> None:
        self._at[name] = address

    def set_batch(self, size: int) -> None:
        self._size = size

    def set_shapes(self, shapes: Any) -> None:
        self._size = shapes["images"][0]

    def enqueue(self, stream: Any) -> None:
        for name, value in self._values.items():
            batch = np.ascontiguousarray(value[: self._size])
            ctypes.memmove(self._at[name], batch.ctypes.data, batch.nbytes)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Any:
    compiler = shutil.which("g++") or shutil.which("c++")
    if compiler is None:
        pytest.skip("needs a C++ compiler")
    folder = tmp_path_factory.mktemp("kernels")
    source = (FOLDER / "detect.cu").read_text(encoding="utf-8")
    source = source.replace("extern __shared__ Key keys[];", "Key* keys = shared_memory;")
    (folder / "kernels.inc").write_text(source.replace("__shared__", "static"), encoding="utf-8")
    emulation = Path(__file__).with_name("cuda_on_cpu.cpp")
    flags = ["-O1", "-std=c++17", "-shared", "-fPIC", "-w", f'-DKERNELS="{folder / "kernels.inc"}"']
    subprocess.run([compiler, *flags, "-o", str(folder / "kernels.so"), str(emulation)], check=True)
    loaded = ctypes.CDLL(str(folder / "kernels.so"))
    loaded.start.argtypes = [ctypes.c_char_p, *[ctypes.c_uint] * 4, *[ctypes.c_void_p] * 2]
    return loaded


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Network:
    return detector(tmp_path_factory.mktemp("detector"))


def opened(library: Any, heads: dict[str, np.ndarray], folder: Path, graph: Any, memory: int = 1 << 30) -> Detector:
    told = json.loads(json.dumps(save(folder, graph.detector.detection, graph.detector.anchors)))
    return Detector(Heads(heads), HostGpu(library, memory), folder, told, BATCH)  # type: ignore[arg-type]


def detections(found: Detector, images: int) -> np.ndarray:
    output = np.full((BATCH, ROWS, 6), 7, np.float32)
    found.bind("detections", output.ctypes.data)
    found.set_batch(images)
    found.enqueue(None)
    assert (output[images:] == 7).all()
    return output[:images]


def in_order(rows: np.ndarray) -> np.ndarray:
    """Order rows of equal scores by what they are."""
    rounded = np.round(rows, 4)
    return np.stack([image[np.lexsort(image.T[[0, 1, 2, 3, 5, 4]])] for image in rounded])


@pytest.mark.parametrize("prior", [-3.5, -5.4, -20.0])
def test_kernels_find_what_the_body_finds(library: Any, prior: float, tmp_path: Path) -> None:
    network = detector(tmp_path, prior=prior)
    (expected,) = run(network.model, images(BATCH))
    filled = (expected[..., 4] > 0).sum(axis=1)
    assert {-3.5: (filled == ROWS).all(), -5.4: (filled < ROWS).all() and filled.any(), -20.0: not filled.any()}[prior]
    graph = implicit_graph(network, asked("fp32"), ())
    names = [value.name for value in graph.model.graph.output]
    heads = dict(zip(names, run(graph.model, images(BATCH)), strict=True))
    kernels = opened(library, heads, tmp_path, graph)
    np.testing.assert_allclose(detections(kernels, BATCH), expected, atol=1e-6)
    np.testing.assert_allclose(detections(kernels, 2), expected[:2], atol=1e-6)  # nothing is left of the batch before


def test_kernels_read_int8_where_tensorrt_writes_it(library: Any, network: Network, tmp_path: Path) -> None:
    graph = implicit_graph(network, asked("int8"), ())
    assert graph.detector is not None
    said = graph.detector.detection
    assert said is not None
    heads = dict(zip([value.name for value in graph.model.graph.output], run(graph.model, images(BATCH)), strict=True))
    logits = []
    for level in said.levels:
        steps = np.clip(np.rint(heads[level.logits] / said.scale), -128, 127).astype(np.int8)
        padded = np.full((BATCH, 32, *steps.shape[2:]), 100, np.int8)  # 21 channels, and what no channel is
        padded[:, : steps.shape[1]] = steps
        heads[level.logits] = padded.reshape(BATCH, 1, 32, *steps.shape[2:]).transpose(0, 1, 3, 4, 2)
        values = steps.astype(np.float32) * np.float32(said.scale) + np.float32(said.shift)
        logits.append(values.reshape(BATCH, SHAPES, CLASSES, -1).transpose(0, 3, 1, 2).reshape(BATCH, -1, CLASSES))
    (deltas,) = run(_with_output(network, "box_deltas"), images(BATCH), "box_deltas")
    expected = _body(network, np.concatenate(logits, axis=1), deltas)
    found = detections(opened(library, heads, tmp_path, graph), BATCH)
    np.testing.assert_allclose(found[..., 4], expected[..., 4], atol=1e-6)
    # Of equal scores any may come first, and any may be the last row.
    assert np.isclose(in_order(found), in_order(expected), atol=1e-3).all(axis=2).mean() > 0.95


def test_parameters_are_laid_out_as_the_compiler_does(library: Any) -> None:
    assert library.parameter_bytes() == ctypes.sizeof(Parameters)
    source = (FOLDER / "detect.cu").read_text(encoding="utf-8")
    declared = re.findall(
        r"(\w+)(?:\[8\])?;", source[source.index("struct Parameters {") : source.index("static const")]
    )
    assert declared == [entry[0] for entry in Parameters._fields_]
    assert f"UNROLL = {detector_module._UNROLL};" in source


def test_damaged_anchors_and_small_memory_are_errors(library: Any, network: Network, tmp_path: Path) -> None:
    graph = implicit_graph(network, asked("fp32"), ())
    with pytest.raises(ConfigError, match=r"outputs of the detector's heads are not free on GPU 0"):
        opened(library, {}, tmp_path, graph, memory=1 << 16)
    assert graph.detector is not None
    assert graph.detector.detection is not None
    assert graph.detector.anchors is not None
    told = save(tmp_path, graph.detector.detection, graph.detector.anchors)
    (tmp_path / "anchors.npy").write_bytes((tmp_path / "anchors.npy").read_bytes()[:-1])
    with pytest.raises(EngineBuildError, match=r"anchors\.npy .* is not what was written beside the engine"):
        Detector(Heads({}), HostGpu(library), tmp_path, json.loads(json.dumps(told)), BATCH)  # type: ignore[arg-type]


def test_batches_come_back_as_rows_of_floats() -> None:
    """The runner's part of it: an output of two axes for each sample."""
    gpu = FakeGpu()

    class Rows(FakeContext):
        def enqueue(self, stream: Any) -> None:
            source, target, size = self._addresses["input"], self._addresses["output"], self._size

            def work() -> None:
                first = gpu.at(source, size * 16).reshape(size, 16)[:, 0].astype(np.float32)
                rows = first[:, None, None] + np.arange(30, dtype=np.float32).reshape(5, 6) / 100
                gpu.at(target, size * 120)[:] = rows.reshape(-1).view(np.uint8)

            gpu.compute(work, target, stream)

    contexts = [[Rows(gpu, 16), Rows(gpu, 16)]]
    inputs = [Tensor("input", "int8", (16,))]
    options = Options(max_batch=4, copy_streams=2, start_from_device=True)
    runner = TensorRtRunner([gpu], contexts, inputs, Tensor("output", "float32", (5, 6)), options)
    runner.stage({"input": np.repeat(np.arange(9, dtype=np.int8)[:, None], 16, axis=1)})
    for slot, wanted in ((0, [3, 1, 8]), (1, [2, 3, 4, 5])):
        runner.submit(slot, wanted)
        found = runner.wait(slot)
        assert (found.dtype, found.shape) == (np.float32, (len(wanted), 5, 6))
        np.testing.assert_allclose(found[:, 4, 5], np.array(wanted) + 0.29, rtol=1e-6)
    runner.close()


def test_the_kernels_of_the_source_are_in_the_ptx() -> None:
    source, ptx = ((FOLDER / f"detect.{kind}").read_text(encoding="utf-8") for kind in ("cu", "ptx"))
    declared = set(re.findall(r'extern "C" __global__ void (?:__launch_bounds__\(\d+\) )?(\w+)\(', source))
    entries = dict(re.findall(r"\.visible \.entry (\w+)\(([^)]*)\)", ptx))
    assert set(entries) == declared == {"select_int8", "select_float", "suppress"}
    assert [len(re.findall(r"\.param \.u64", entries[name])) for name in ("select_int8", "suppress")] == [1, 2]
    assert ".target sm_80" in ptx


def _with_output(network: Network, name: str) -> onnx.ModelProto:
    model = onnx.load(str(network.model))
    model.graph.output.append(helper.make_tensor_value_info(name, 1, None))
    return model


def _body(network: Network, logits: np.ndarray, deltas: np.ndarray) -> np.ndarray:
    """Run the function alone."""
    import onnxruntime

    model = onnx.load(str(network.model))
    call = model.graph.node[-1]
    anchors = next(tensor for tensor in model.graph.initializer if tensor.name == "anchors")
    graph = helper.make_graph(
        [call],
        "body",
        [helper.make_tensor_value_info(name, 1, ["batch", None, None]) for name in call.input[:2]],
        list(model.graph.output),
        [anchors],
    )
    alone = helper.make_model(graph, opset_imports=model.opset_import, functions=model.functions, ir_version=8)
    session = onnxruntime.InferenceSession(alone.SerializeToString(), providers=["CPUExecutionProvider"])
    found: np.ndarray = session.run(None, {call.input[0]: logits, call.input[1]: deltas})[0]
    return found
