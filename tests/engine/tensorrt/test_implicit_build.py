"""TensorRT 8.6: ranges, flags, formats and profiles, on a stand-in that remembers what it was told."""

from __future__ import annotations

import enum
import json
from pathlib import Path
from typing import Any

import onnx
import pytest
from engine.tensorrt import fake_trt
from engine.tensorrt.build_settings import settings as plain_settings
from engine.tensorrt.resnet import resnet50
from quantize.nets import images, residual_net

from nvkit.engine.base import Network
from nvkit.engine.tensorrt import backend as backend_module
from nvkit.engine.tensorrt import build, card, device, flavours, options
from nvkit.engine.tensorrt.backend import TensorRtBackend
from nvkit.errors import BackendUnavailableError, ConfigError, EngineBuildError, ModelError
from nvkit.quantize import collect

BACKEND = TensorRtBackend()
H200 = device.Gpu("NVIDIA H200", "9.0", 141 << 30)


def settings(**changes: Any) -> Any:
    values = {"backend": "tensorrt", "compute_capability": None, "input_dtype": "int8", "gpu_copy_streams": 2}
    return plain_settings(**{**values, **changes})


@pytest.fixture(autouse=True)
def _on_an_h200(monkeypatch: pytest.MonkeyPatch) -> None:
    made = flavours.Library("tensorrt", "tensorrt", fake_trt, flavours._logger(fake_trt))
    for module in (backend_module, build, card, flavours):
        monkeypatch.setattr(module, "gpu", lambda: H200, raising=False)
        monkeypatch.setattr(module, "load_library", lambda name: made, raising=False)
    monkeypatch.setattr(fake_trt.Builder, "made", [])
    monkeypatch.setattr(fake_trt.Builder, "plans", [b"a plan"])


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Network:
    folder = tmp_path_factory.mktemp("net")
    net = residual_net(folder / "net.onnx")
    collect(net, [{"input:0": images(16)}], "max", total=16).save(folder / "ranges.json")
    return Network(net, folder / "ranges.json", None, "ArgMax:0", background=1, input_scale=0.5)


def told() -> tuple[fake_trt.Network, fake_trt.BuilderConfig]:
    """Return the network and the config of the last build."""
    last = fake_trt.Builder.made[-1]
    assert last.network is not None
    assert last.config is not None
    return last.network, last.config


def test_every_float_tensor_gets_a_range(network: Network, tmp_path: Path) -> None:
    report = BACKEND.build(network, settings(), tmp_path)
    definition, _ = told()
    observed = json.loads(network.ranges.read_text())["tensors"]  # type: ignore[union-attr]
    tensors = [*definition.inputs, *(out for layer in definition.layers for out in layer._outputs)]
    ranges = {tensor.name: tensor.range for tensor in tensors if tensor.dtype is not fake_trt.DataType.INT32}
    assert None not in ranges.values()
    assert ranges["input:0"] == (-63.5, 63.5)  # 127 steps of the samples, whatever calibration saw
    assert ranges["(Unnamed Layer* 0) [Shuffle]_output"] == ranges["input:0"]
    assert ranges["first_relu"][1] == pytest.approx(observed["first_relu"]["amax"])  # type: ignore[index]
    assert ranges["first"] == ranges["first_relu"]  # one kernel with its ReLU
    assert ranges["sum"] == ranges["sum_relu"]
    scores = next(layer for layer in definition.layers if layer.name == "nvkit/classes")
    assert (scores.precision, scores.output_types) == (fake_trt.DataType.INT8, {0: fake_trt.DataType.FLOAT})
    assert report.details["ranges"]["observed"] >= 6
    assert report.details["ranges"]["bound"] == 1  # the scores


@pytest.mark.parametrize(
    ("changes", "flags"),
    [
        ({}, {"INT8", "PREFER_PRECISION_CONSTRAINTS"}),
        ({"builder_options": "flags=FP16"}, {"INT8", "FP16", "PREFER_PRECISION_CONSTRAINTS"}),
        ({"precision": "fp16", "input_dtype": "fp16"}, {"FP16"}),
        ({"precision": "fp16"}, {"FP16", "INT8"}),
        ({"precision": "fp32", "input_dtype": "fp32"}, set()),
    ],
)
def test_flags_are_those_of_the_precision(
    network: Network, tmp_path: Path, changes: dict[str, Any], flags: set[str]
) -> None:
    BACKEND.build(network, settings(**changes), tmp_path)
    definition, config = told()
    assert {flag.name for flag in config.set_flags} == flags  # TF32 is on as TensorRT comes
    ranged = {tensor.name for layer in definition.layers for tensor in layer._outputs if tensor.range}
    assert bool(ranged) == (changes.get("precision") is None)  # a range lets TensorRT choose int8
    assert bool(definition.inputs[0].range) == (changes.get("input_dtype") is None)
    wanted = {"fp16": "HALF", "fp32": "FLOAT", "int8": "INT8"}[changes.get("input_dtype", "int8")]
    assert definition.inputs[0].dtype.name == wanted
    assert definition.flags == 1 << fake_trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH


def test_formats_profiles_and_memory(network: Network, tmp_path: Path) -> None:
    values = {"input_format": "chw4", "gpu_copy_streams": 3, "workspace_size": 1 << 20, "builder_optimization_level": 2}
    report = BACKEND.build(network, settings(**values), tmp_path)
    definition, config = told()
    assert definition.inputs[0].allowed_formats == 1 << fake_trt.TensorFormat.CHW4
    shape = {"input:0": ((1, 3, 16, 16), (8, 3, 16, 16), (8, 3, 16, 16))}
    assert [profile.shapes for profile in config.profiles] == [shape]
    assert config.previews == {fake_trt.PreviewFeature.PROFILE_SHARING_0806}
    assert config.pools == {fake_trt.MemoryPoolType.WORKSPACE: 1 << 20}
    assert config.builder_optimization_level == 2  # type: ignore[attr-defined]
    assert config.profiling_verbosity is fake_trt.ProfilingVerbosity.DETAILED
    assert report.layers == {"CaskConvolution int8": 2}  # the second profile's are the same again
    known = json.loads((tmp_path / "engine.json").read_text())
    assert known["inputs"] == [{"name": "input:0", "dtype": "int8", "shape": [3, 16, 16], "format": "chw4"}]
    assert known["outputs"] == [{"name": "ArgMax:0", "dtype": "int32", "shape": [1, 1, 1], "offset": 1}]
    assert (known["profiles"], known["max_batch"], known["gpu"], known["version"]) == (1, 8, "NVIDIA H200", "8.6.1")
    assert known["shared_profile"]
    assert (tmp_path / "engine.plan").read_bytes() == b"a plan"


def test_one_engine_serves_any_number_of_copy_streams_where_they_share_a_profile(
    network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert BACKEND.identity(settings(gpu_copy_streams=2)) == BACKEND.identity(settings(gpu_copy_streams=4))
    BACKEND.build(network, settings(gpu_copy_streams=2), tmp_path)
    library = backend_module.load_library("tensorrt")
    known = card.read_card(tmp_path)
    card.check_card(known, tmp_path, library, settings(gpu_copy_streams=4))

    class WithoutSharing(enum.Enum):
        FASTER_DYNAMIC_SHAPES_0805 = 0

    monkeypatch.setattr(fake_trt, "PreviewFeature", WithoutSharing)
    assert BACKEND.identity(settings(gpu_copy_streams=2)) != BACKEND.identity(settings(gpu_copy_streams=4))
    BACKEND.build(network, settings(gpu_copy_streams=2), tmp_path)
    assert len(told()[1].profiles) == 2
    assert not told()[1].previews
    card.check_card(card.read_card(tmp_path), tmp_path, library, settings(gpu_copy_streams=2))
    with pytest.raises(ConfigError, match="gpu_copy_streams is 4, but the engine has 2 profiles"):
        card.check_card(card.read_card(tmp_path), tmp_path, library, settings(gpu_copy_streams=4))


def test_tactics_of_libraries_that_do_not_work_are_off(
    network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(options, "_works", lambda name: name == "CUBLAS")
    report = BACKEND.build(network, settings(), tmp_path)
    assert report.details["options"]["tactic sources"] == "CUBLAS+EDGE_MASK_CONVOLUTIONS"
    BACKEND.build(network, settings(builder_options="tactic_sources=JIT_CONVOLUTIONS"), tmp_path)
    assert told()[1].tactics == 1 << fake_trt.TacticSource.JIT_CONVOLUTIONS


def test_a_library_that_is_not_there_does_not_work() -> None:
    names, create = options._TACTIC_LIBRARIES["CUDNN"]
    assert create == "cudnnCreate"
    assert all(name.startswith("libcudnn.so") for name in names)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(options, "_TACTIC_LIBRARIES", {"X": (("libnosuch.so.1", "libc.so.6"), "no_such_function")})
        assert not options._works("X")


def test_options_reach_the_config_and_unknown_ones_are_refused(network: Network, tmp_path: Path) -> None:
    BACKEND.build(
        network, settings(builder_options="max_aux_streams=2, hardware_compatibility_level=AMPERE_PLUS"), tmp_path
    )
    config = told()[1]
    assert config.max_aux_streams == 2  # type: ignore[attr-defined]
    assert config.hardware_compatibility_level.name == "AMPERE_PLUS"  # type: ignore[attr-defined]
    for text, said in [
        ("max_aux_stream=2", "Did you mean 'max_aux_streams'"),
        ("max_aux_streams", "key=value"),
        ("max_aux_streams=many", "cannot be 'many'"),
        ("hardware_compatibility_level=AMPERE", "Did you mean 'AMPERE_PLUS'"),
        ("flags=FP17", "Did you mean 'FP16'"),
        ("builder_optimization_level=5", "Use builder_optimization_level"),
    ]:
        with pytest.raises(ConfigError, match=said):
            BACKEND.build(network, settings(builder_options=text), tmp_path)


def test_a_dla_runs_one_batch_size_and_must_be_there(
    network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(BackendUnavailableError, match=r"dla_core is 0.*finds no DLA.*Jetson"):
        BACKEND.build(network, settings(dla_core=0), tmp_path)
    monkeypatch.setattr(fake_trt.Builder, "num_DLA_cores", 2)
    BACKEND.build(network, settings(dla_core=1, dla_batch_size=4), tmp_path)
    definition, config = told()
    assert (config.DLA_core, config.default_device_type.name) == (1, "DLA")  # type: ignore[attr-defined]
    assert fake_trt.BuilderFlag.GPU_FALLBACK in config.set_flags
    assert definition.inputs[0].shape == (4, 3, 16, 16)
    assert config.profiles == []
    known = json.loads((tmp_path / "engine.json").read_text())
    assert (known["fixed_batch"], known["max_batch"]) == (True, 4)


def test_a_share_of_the_sms_needs_mps(network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"active_sms is 60.*CUDA_MPS_ACTIVE_THREAD_PERCENTAGE=60"):
        BACKEND.build(network, settings(active_sms=60), tmp_path)
    BACKEND.build(network, settings(active_sms=100), tmp_path)
    (tmp_path / "control").touch()
    monkeypatch.setenv("CUDA_MPS_PIPE_DIRECTORY", str(tmp_path))
    monkeypatch.setenv("CUDA_MPS_ACTIVE_THREAD_PERCENTAGE", "60")
    BACKEND.build(network, settings(active_sms=60), tmp_path)


@pytest.mark.parametrize(
    ("complaint", "said"),
    [
        ("[virtualMemoryBuffer.cpp] Error Code 2: OutOfMemory (no further information)", "reduce batch_size"),
        ("10: Could not find any implementation for node stem + relu.", "No kernel fits 'stem [+] relu'"),
        ("something else", "something else.*Try another precision"),
    ],
)
def test_a_build_that_fails_says_why(
    network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, complaint: str, said: str
) -> None:
    monkeypatch.setattr(fake_trt.Builder, "plans", [None])
    monkeypatch.setattr(fake_trt.Builder, "complaint", complaint)
    with pytest.raises(EngineBuildError, match=said):
        BACKEND.build(network, settings(), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_types_and_layouts_of_layers_are_told_for_an_open_batch(
    network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = BACKEND.build(network, settings(), tmp_path).details
    assert (found["precisions"], found["formats"]) == ({"int8": 2}, {})
    lines = [f"Layer(CaskConvolution): conv_{n}, Tactic: 0x1, x (Int8[-1,4:4,9,9]) -> y (Float[-1,2])" for n in (0, 1)]
    monkeypatch.setattr(fake_trt.Builder, "layers", "\n".join(["Engine Layer Information:", *lines]))
    found = BACKEND.build(network, settings(), tmp_path).details
    assert (found["precisions"], found["formats"]) == ({"int8": 2}, {"chw4": 2})


def test_warnings_that_say_nothing_are_left_out(
    network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = "Missing scale and zero-point for tensor x, expect fall back to non-int8 implementation"
    other = "onnxOpImporters.cpp:5366: Attribute weight not found in plugin node! Ensure that"
    monkeypatch.setattr(
        fake_trt.Builder,
        "warnings",
        (
            "onnxOpImporters.cpp:5366: Attribute epilogueScaleRelu not found in plugin node! Ensure that the plugin",
            "Calibrator is not being used. Users must provide dynamic range for all tensors that are not Int32.",
            "1: [myelinCache.h::deserializeFromBuffer::52] Error Code 1: Myelin (Myelin error from unknown graph)",
            "4: The timing cache will not be used!",
            *(kept, kept, other),
        ),
    )
    assert BACKEND.build(network, settings(), tmp_path).details["warnings"] == [kept, other]


def test_fusions_and_layouts_that_cannot_be_had_are_refused(network: Network, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"use_fusions is always, but .* compute in int8, and precision is fp16"):
        BACKEND.build(network, settings(precision="fp16", use_fusions="always"), tmp_path)
    with pytest.raises(ConfigError, match="input_format is dhwc8, which is for volumes"):
        BACKEND.build(network, settings(input_format="dhwc8"), tmp_path)


def test_a_node_that_cannot_be_parsed_is_named(
    network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fake_trt.OnnxParser, "unknown", "MaxPool")
    with pytest.raises(ModelError, match="node 'pool': No importer registered"):
        BACKEND.build(network, settings(), tmp_path)


def test_what_calibration_did_not_see_stops_an_int8_build(network: Network, tmp_path: Path) -> None:
    with pytest.raises(EngineBuildError, match="no activation ranges"):
        BACKEND.build(Network(network.model, None, None, "ArgMax:0"), settings(), tmp_path)
    with pytest.raises(ModelError, match="no output 'ArgMin:0'"):
        BACKEND.build(Network(network.model, network.ranges, None, "ArgMin:0"), settings(), tmp_path)
    with pytest.raises(ConfigError, match="no precision 'fp8'"):
        BACKEND.build(network, settings(precision="fp8"), tmp_path)
    with pytest.raises(ConfigError, match="more than the batch is left open"):
        BACKEND.build(_with_open_height(network, tmp_path), settings(precision="fp16"), tmp_path)


def _with_open_height(network: Network, folder: Path) -> Network:
    model = onnx.load(str(network.model))
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "height"
    onnx.save(model, str(folder / "open.onnx"))
    return Network(folder / "open.onnx", network.ranges, None, "ArgMax:0")


def test_the_profile_of_another_gpu_is_refused(network: Network, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"compute capability 8\.9, and the NVIDIA H200 here has 9\.0"):
        BACKEND.identity(settings(compute_capability="8.9"))
    assert BACKEND.identity(settings(compute_capability="9.0"))["gpu"] == "NVIDIA H200"
    assert BACKEND.cannot_run(settings()) is None
    assert BACKEND.identity(settings()) != BACKEND.identity(settings(builder_optimization_level=2))
    assert BACKEND.identity(settings()) == BACKEND.identity(settings(use_graphs=True))
    assert BACKEND.identity(settings()) == BACKEND.identity(settings(active_sms=100))
    assert BACKEND.identity(settings()) != BACKEND.identity(settings(active_sms=60))


def test_builds_add_to_the_timing_cache(network: Network, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    first = BACKEND.build(network, settings(), tmp_path, cache)
    assert "timing cache: new" in first.details["notes"]
    (file,) = cache.glob("*.timing")
    assert file.name == "NVIDIA-H200-100-percent-tensorrt-8.6.1.timing"
    second = BACKEND.build(network, settings(), tmp_path, cache)
    assert "timing cache: 5 bytes of earlier builds" in second.details["notes"]
    assert file.read_bytes()[32:] == b"timed"


def test_a_damaged_timing_cache_is_set_aside(network: Network, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    BACKEND.build(network, settings(), tmp_path, cache)
    (file,) = cache.glob("*.timing")
    file.write_bytes(file.read_bytes()[:-1])
    report = BACKEND.build(network, settings(), tmp_path, cache)
    assert any("set aside" in note and "damaged" in note for note in report.details["notes"])
    assert file.with_suffix(".damaged").is_file()
    assert file.read_bytes()[32:] == b"timed"


def test_another_builds_timings_are_kept(network: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import hashlib

    cache = tmp_path / "cache"
    BACKEND.build(network, settings(), tmp_path, cache)
    (file,) = cache.glob("*.timing")
    whole = fake_trt.Builder.build_serialized_network

    def meanwhile(self: Any, *given: Any) -> Any:
        file.write_bytes(hashlib.sha256(b"other").digest() + b"other")
        return whole(self, *given)

    monkeypatch.setattr(fake_trt.Builder, "build_serialized_network", meanwhile)
    BACKEND.build(network, settings(), tmp_path, cache)
    assert file.read_bytes()[32:] == b"other+timed"


def test_fusions_that_do_not_build_are_left_out_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = resnet50(tmp_path)
    report = BACKEND.build(known, settings(), tmp_path)
    assert json.loads((tmp_path / "engine.json").read_text())["plugins"] == list(fake_trt.PLUGINS)
    assert any("RnRes2FullFusion_TRT: the second stage" in note for note in report.details["notes"])

    monkeypatch.setattr(fake_trt.Builder, "plans", [None, b"plain"])
    monkeypatch.setattr(fake_trt.Builder, "complaint", "plugin failed")
    report = BACKEND.build(known, settings(), tmp_path)
    assert (tmp_path / "engine.plan").read_bytes() == b"plain"
    assert json.loads((tmp_path / "engine.json").read_text())["plugins"] == []
    assert any("built without NVIDIA's fusions" in n and "plugin failed" in n for n in report.details["notes"])

    monkeypatch.setattr(fake_trt.Builder, "plans", [None, b"plain"])
    with pytest.raises(EngineBuildError, match="plugin failed"):
        BACKEND.build(known, settings(use_fusions="always"), tmp_path)


@pytest.mark.parametrize(
    ("changes", "gpu_capability", "used", "said"),
    [
        ({}, "9.0", ["RnRes2FullFusion_TRT", "SmallTileGEMM_TRT"], None),
        ({"disable_beta1_smallk": True}, "9.0", ["RnRes2FullFusion_TRT"], None),
        ({}, "7.5", ["RnRes2FullFusion_TRT"], "no SmallTileGEMM_TRT for compute capability 7.5"),
        ({}, "7.0", [], "no RnRes2FullFusion_TRT, SmallTileGEMM_TRT for compute capability 7.0"),
        ({"use_fusions": "never"}, "9.0", [], None),
        ({"precision": "fp16"}, "9.0", [], None),
        ({"dla_core": 0}, "8.7", [], "a DLA runs no plugins"),
    ],
)
def test_fusions_are_those_that_nvidia_uses_on_this_gpu(
    changes: dict[str, Any], gpu_capability: str, used: list[str], said: str | None
) -> None:
    made = flavours.load_library("tensorrt")
    plugins, why = build.chosen_plugins(made, settings(**changes), gpu_capability)
    assert list(plugins) == used
    assert said is None or said in why
    assert bool(said) == bool(why)
