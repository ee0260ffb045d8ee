"""TensorRT for RTX builds for a compute capability on any Linux machine: here for an RTX 4090."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import onnx
import pytest
from engine.tensorrt.build_settings import settings
from engine.tensorrt.resnet import resnet50
from quantize.nets import images, residual_net

from nvkit.engine import backend
from nvkit.engine.base import Network
from nvkit.engine.tensorrt import card as card_module
from nvkit.engine.tensorrt import device
from nvkit.engine.tensorrt.flavours import MODULES, load_library, unavailable
from nvkit.errors import BackendUnavailableError, ConfigError, EngineBuildError, ModelError
from nvkit.quantize import Ranges, collect, quantize

pytest.importorskip("tensorrt_rtx_bindings", reason="TensorRT for RTX has wheels for Linux on x86-64 only")

BACKEND = backend("tensorrt-rtx")


@pytest.fixture(autouse=True)
def _without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def gpu() -> device.Gpu:
        raise device.NoGpu("no NVIDIA driver is installed here")

    from nvkit.engine.tensorrt import backend as backend_module
    from nvkit.engine.tensorrt import build, flavours

    for module in (backend_module, build, card_module, flavours):
        monkeypatch.setattr(module, "gpu", gpu)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Network:
    folder = tmp_path_factory.mktemp("net")
    net = residual_net(folder / "net.onnx")
    ranges = collect(net, [{"input:0": images(32)}], "max", total=32)
    ranges.save(folder / "ranges.json")
    quantize(net, ranges, folder / "qdq.onnx", scheme="int8")
    return Network(net, folder / "ranges.json", folder / "qdq.onnx", "ArgMax:0", background=1)


@pytest.fixture(scope="module")
def made(network: Network, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with an int8 engine."""
    folder = tmp_path_factory.mktemp("engine")
    BACKEND.build(network, settings(), folder)
    return folder


@pytest.fixture
def engine(made: Path, tmp_path: Path) -> Path:
    """Return a copy of the engine that a test may damage."""
    return Path(shutil.copytree(made, tmp_path / "engine"))


@pytest.mark.parametrize(
    ("precision", "dtype", "kept"),
    [("int8", "fp32", "float32"), ("fp16", "fp16", "float16"), ("fp16", "int8", "int8"), ("fp32", "fp32", "float32")],
)
def test_every_precision_is_built_as_asked(
    network: Network, tmp_path: Path, precision: str, dtype: str, kept: str
) -> None:
    values = {"precision": precision, "input_dtype": dtype, "gpu_copy_streams": 2, "input_format": "linear"}
    report = BACKEND.build(network, settings(**values), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["engine.json", "engine.plan", "layers.json"]
    card = json.loads((tmp_path / "engine.json").read_text())
    assert card["inputs"] == [{"name": "input:0", "dtype": kept, "shape": [3, 16, 16], "format": "linear"}]
    assert card["outputs"] == [{"name": "ArgMax:0", "dtype": "int32", "shape": [], "offset": 1}]
    assert (card["compute_capability"], card["gpu"], card["profiles"], card["max_batch"]) == ("8.9", None, 1, 8)
    assert card["bytes"] == (tmp_path / "engine.plan").stat().st_size
    layers = json.loads((tmp_path / "layers.json").read_text())["layers"]
    assert len(layers) == report.details["layers"] == sum(report.layers.values())
    weighted = [layer["precision"] for layer in layers if layer["type"] in ("correlation", "gemm")]
    assert set(weighted) == {precision}
    assert any(f"layers with weights in {precision}" in note for note in report.details["notes"])


def test_a_resnet50_of_true_size_computes_in_int8(tmp_path: Path) -> None:
    network = resnet50(tmp_path)
    quantized = tmp_path / "qdq.onnx"
    quantize(network.model, Ranges.load(network.ranges), quantized, scheme="int8")  # type: ignore[arg-type]
    known = Network(network.model, network.ranges, quantized, network.output, background=1)
    report = BACKEND.build(known, settings(batch_size=256, input_dtype="int8"), tmp_path)
    assert report.layers["correlation int8"] >= 52  # TensorRT for RTX 1.7 computes the first of 53 in fp32
    assert report.layers["gemm int8"] == 1
    assert "1 background class left out" in report.details["notes"]
    assert report.details["engine bytes"] > 25_000_000  # a byte for each weight at least


def test_an_engine_for_another_machine_is_not_run_here(engine: Path) -> None:
    with pytest.raises(BackendUnavailableError, match=r"8\.9, and no NVIDIA driver.*Carry the outputs folder"):
        BACKEND.load(engine, settings())
    reason = BACKEND.cannot_run(settings())
    assert reason is not None
    assert "Carry the outputs folder to a machine with a GPU of compute capability 8.9" in reason


def test_the_gpu_must_be_the_one_built_for(engine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(card_module, "gpu", lambda: device.Gpu("NVIDIA L4", "7.5", 1))
    with pytest.raises(BackendUnavailableError, match=r"compute capability 8\.9, and the NVIDIA L4 here has 7\.5"):
        BACKEND.load(engine, settings())
    monkeypatch.setattr(card_module, "gpu", lambda: device.Gpu("NVIDIA GeForce RTX 4090", "8.9", 1))
    with pytest.raises(ConfigError, match="batch_size is 9, but the engine takes 8"):
        BACKEND.load(engine, settings(batch_size=9))


def test_damaged_and_foreign_engines_are_refused(engine: Path) -> None:
    whole = (engine / "engine.plan").read_bytes()
    (engine / "engine.plan").write_bytes(whole[:1000])
    with pytest.raises(
        EngineBuildError, match=r"engine.plan \(1,000 bytes\) cannot be used: it has 1,000 bytes and not"
    ):
        BACKEND.load(engine, settings())
    (engine / "engine.plan").write_bytes(bytes(len(whole)))
    with pytest.raises(EngineBuildError, match="not those that were built"):
        BACKEND.load(engine, settings())
    (engine / "engine.plan").write_bytes(whole)
    card = json.loads((engine / "engine.json").read_text())
    (engine / "engine.json").write_text(json.dumps({**card, "version": "0.9"}))
    with pytest.raises(EngineBuildError, match=r"built with version 0\.9, here it is .*Run the build stage"):
        BACKEND.load(engine, settings())
    (engine / "engine.json").write_text("{")
    with pytest.raises(EngineBuildError, match=r"engine\.json cannot be read"):
        BACKEND.load(engine, settings())


@pytest.mark.parametrize(
    ("changes", "error", "said"),
    [
        ({"compute_capability": "9.0"}, ConfigError, r"does not build for compute capability 9\.0.*8\.9.*tensorrt"),
        ({"compute_capability": None}, BackendUnavailableError, "no GPU to build for.*--compute-capability"),
        ({"compute_capability": "8.6", "precision": "fp8"}, ConfigError, r"8\.6 have no fp8"),
        ({"use_fusions": "always"}, ConfigError, "use_fusions is always, but .*strongly typed"),
        ({"dla_core": 0}, BackendUnavailableError, "no DLA"),
        ({"builder_options": "max_aux_stream=1"}, ConfigError, "Did you mean 'max_aux_streams'"),
        ({"active_sms": 50}, ConfigError, "CUDA MPS"),
    ],
)
def test_what_cannot_be_had_is_refused(
    network: Network, tmp_path: Path, changes: dict[str, Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        BACKEND.build(network, settings(**changes), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_fp8_that_is_computed_in_fp32_is_not_called_fp8(network: Network, tmp_path: Path) -> None:
    with pytest.raises(EngineBuildError, match=r"layers with weights in fp8, the others in fp32.*--precision int8"):
        BACKEND.build(network, settings(precision="fp8"), tmp_path)


def test_a_network_that_cannot_be_parsed_names_its_node(network: Network, tmp_path: Path) -> None:
    model = onnx.load(str(network.quantized))
    next(node for node in model.graph.node if node.op_type == "MaxPool").op_type = "NoSuchPool"
    onnx.save(model, str(tmp_path / "odd.onnx"))
    odd = Network(network.model, network.ranges, tmp_path / "odd.onnx", "ArgMax:0")
    with pytest.raises(ModelError, match=r"cannot parse the network: node 'pool': .*not found"):
        BACKEND.build(odd, settings(), tmp_path)


def test_a_quantised_precision_needs_the_quantised_network(network: Network, tmp_path: Path) -> None:
    with pytest.raises(EngineBuildError, match=r"no quantised network.*calibrate"):
        BACKEND.build(Network(network.model, network.ranges, None, "ArgMax:0"), settings(), tmp_path)


def test_identity_names_the_target_and_not_this_machine() -> None:
    found = BACKEND.identity(settings())
    assert (found["gpu"], found["compute_capability"]) == (None, "8.9")
    assert found["version"] == load_library("tensorrt-rtx").version
    assert found != BACKEND.identity(settings(compute_capability="12.0"))
    assert found == BACKEND.identity(settings(use_graphs=True, gpu_inference_streams=4))
    assert BACKEND.unavailable() is None


def test_a_missing_library_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MODULES, "tensorrt", (("no_such_tensorrt",), "pip install it"))  # type: ignore[arg-type]
    load_library.cache_clear()
    assert "no_such_tensorrt" in str(unavailable("tensorrt"))
    assert "Install it: pip install it." in str(unavailable("tensorrt"))
    load_library.cache_clear()
