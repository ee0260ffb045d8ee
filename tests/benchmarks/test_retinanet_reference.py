"""RetinaNet's published files: PyTorch checkpoints read without PyTorch, and the ONNX file that PyTorch exported."""

from __future__ import annotations

import io
import pickle
import sys
import zipfile
from collections import OrderedDict
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from nvkit.benchmarks.convolutions import Conv, Parameters
from nvkit.benchmarks.published import Published
from nvkit.benchmarks.retinanet import BENCHMARK, network, reference
from nvkit.errors import ChecksumError, ModelError
from nvkit.store import Store

Array = npt.NDArray[Any]
WIDTH = 1 / 32
SHAPE = network.topology(WIDTH)


@pytest.fixture(autouse=True)
def _narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the files hold a narrow network: the true one has 150 MB."""
    monkeypatch.setattr(reference, "topology", lambda: SHAPE)
    monkeypatch.setattr(reference, "retinanet", lambda parameters, width: network.retinanet(parameters, WIDTH))


def settings(path: Path | None) -> SimpleNamespace:
    return SimpleNamespace(model_path=path, download_model=path is None)


def state() -> dict[str, Array]:
    """Return a state dictionary as retinanet_from_backbone has it."""
    rng = np.random.default_rng(1)
    found: dict[str, Array] = {}
    for conv in SHAPE.convs():
        size = (conv.outputs, conv.inputs // conv.groups, conv.kernel, conv.kernel)
        found[f"{conv.name}.weight"] = rng.normal(0, 0.1, size).astype(np.float32)
        for name in norm_names(conv):
            found[name] = rng.uniform(0.5, 1.5, conv.outputs).astype(np.float32)
    return found


def norm_names(conv: Conv) -> list[str]:
    if "body" not in conv.name:
        return [f"{conv.name}.bias"]
    norm = conv.name.replace("conv", "bn") if "downsample" not in conv.name else conv.name[:-1] + "1"
    return [f"{norm}.{part}" for part in ("weight", "bias", "running_mean", "running_var")]


def expected(known: dict[str, Array]) -> Parameters:
    found: Parameters = {}
    for conv in SHAPE.convs():
        kernel, vectors = known[f"{conv.name}.weight"], [known[name] for name in norm_names(conv)]
        if len(vectors) == 4:
            weight, bias, mean, variance = vectors
            scale = weight / np.sqrt(variance + 1e-5)
            found[conv.name] = kernel * scale[:, None, None, None], bias - mean * scale
        else:
            found[conv.name] = kernel, vectors[0]
    return found


def check(read: Parameters, known: dict[str, Array]) -> None:
    wanted = expected(known)
    assert list(read) == list(wanted)
    for name, (kernel, bias) in wanted.items():
        np.testing.assert_allclose(read[name][0], kernel, rtol=1e-5, err_msg=name)
        np.testing.assert_allclose(read[name][1], bias, rtol=1e-4, atol=1e-6, err_msg=name)


class Torch:
    """What PyTorch pickles, under its own names, as far as a checkpoint needs it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.modules = {name: ModuleType(name) for name in ("torch", "torch._utils", "model", "model.retinanet")}
        for name, module in self.modules.items():
            monkeypatch.setitem(sys.modules, name, module)
        for module, name in (("torch", "FloatStorage"), ("torch._utils", "_rebuild_tensor_v2")):
            self._add(module, name)
        self.module = self._add("model.retinanet", "RetinaNet")

    def _add(self, module: str, name: str) -> Any:
        made = type(name, (), {"__module__": module, "__qualname__": name})
        setattr(self.modules[module], name, made)
        return made

    def save(self, value: Any, path: Path, folder: str = "archive") -> None:
        """Write what torch.save writes; arrays become tensors, views of one storage as in a real file."""
        torch, utils = self.modules["torch"], self.modules["torch._utils"]
        storages: dict[str, bytes] = {}

        class Pickler(pickle.Pickler):
            def reducer_override(self, value: Any) -> Any:
                if not isinstance(value, np.ndarray):
                    return NotImplemented
                key = str(len(storages))
                storages[key] = b"\0" * 8 + value.tobytes()  # the view begins two numbers into its storage
                steps = tuple(stride // 4 for stride in value.strides)
                return utils._rebuild_tensor_v2, (Storage(key), 2, value.shape, steps, False, OrderedDict())

            def persistent_id(self, value: Any) -> Any:
                if isinstance(value, Storage):
                    return "storage", torch.FloatStorage, value.key, "cpu", 1
                return None

        class Storage:
            def __init__(self, key: str) -> None:
                self.key = key

        buffer = io.BytesIO()
        Pickler(buffer, protocol=2).dump(value)
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(f"{folder}/data.pkl", buffer.getvalue())
            for key, content in storages.items():
                archive.writestr(f"{folder}/data/{key}", content)
            archive.writestr(f"{folder}/version", "3\n")

    def network(self, known: dict[str, Array]) -> Any:
        """Return modules within modules that hold these parameters and buffers."""

        def make() -> Any:
            made = self.module.__new__(self.module)
            made.__dict__.update(_parameters=OrderedDict(), _buffers=OrderedDict(), _modules=OrderedDict())
            return made

        root = make()
        for name, value in known.items():
            *path, last = name.split(".")
            at = root
            for part in path:
                at = at._modules.setdefault(part, make())
            (at._buffers if "bn" in name else at._parameters)[last] = value
        return root


@pytest.fixture
def torch(monkeypatch: pytest.MonkeyPatch) -> Torch:
    return Torch(monkeypatch)


def test_checkpoints_are_read_without_pytorch(torch: Torch, tmp_path: Path) -> None:
    known = state()
    # As the training script leaves it, beside an optimiser; batch normalisation of older ones is [1, n, 1, 1].
    old = {name: value.reshape(1, -1, 1, 1) if ".bn" in name else value for name, value in known.items()}
    torch.save(
        {"model": OrderedDict(old), "optimizer": {"state": [np.ones(3, np.float32)]}, "epoch": 10}, tmp_path / "c.pth"
    )
    check(reference.read_parameters(tmp_path / "c.pth"), known)
    # The whole network pickled, as MLCommons' resnext50_32x4d_fpn.pth is.
    torch.save(torch.network(known), tmp_path / "whole.pth")
    check(reference.read_parameters(tmp_path / "whole.pth"), known)
    # The checkpoint within another archive, as retinanet_model_10.zip has it.
    with zipfile.ZipFile(tmp_path / "c.zip", "w") as archive:
        archive.write(tmp_path / "c.pth", "retinanet_model_10.pth")
    check(reference.read_parameters(tmp_path / "c.zip"), known)


def test_reading_a_checkpoint_runs_nothing_of_it(torch: Torch, tmp_path: Path) -> None:
    target = tmp_path / "written"

    class Evil:
        def __reduce__(self) -> Any:
            return Path.touch, (target,)

    torch.save({"model": OrderedDict(state()), "x": Evil()}, tmp_path / "evil.pth")
    check(reference.read_parameters(tmp_path / "evil.pth"), state())
    assert not target.exists()


def test_what_a_checkpoint_lacks_is_named(torch: Torch, tmp_path: Path) -> None:
    known = state()
    gone = "backbone.body.layer2.0.bn3.running_var"
    torch.save(OrderedDict((name, value) for name, value in known.items() if name != gone), tmp_path / "gone.pth")
    with pytest.raises(ModelError, match=rf"lacks 1 of the parameters .*: {gone}\.") as caught:
        reference.read_parameters(tmp_path / "gone.pth")
    assert "retinanet_model_10.zip" in caught.value.fix
    name = "head.classification_head.cls_logits"
    other = {**known, f"{name}.weight": known[f"{name}.weight"][:9], f"{name}.bias": known[f"{name}.bias"][:9]}
    torch.save(OrderedDict(other), tmp_path / "other.pth")
    with pytest.raises(ModelError, match=r"cls_logits has a kernel of shape \[9, 8, 3, 3\].* not \[2376, 8, 3, 3\]"):
        reference.read_parameters(tmp_path / "other.pth")
    torch.save({"lr": 0.1}, tmp_path / "none.pth")
    with pytest.raises(ModelError, match="holds no tensors"):
        reference.read_parameters(tmp_path / "none.pth")


def test_damaged_checkpoints_are_errors(torch: Torch, tmp_path: Path) -> None:
    torch.save(OrderedDict(state()), tmp_path / "whole.pth")
    whole = (tmp_path / "whole.pth").read_bytes()
    with zipfile.ZipFile(tmp_path / "whole.pth") as archive:
        content = {name: archive.read(name) for name in archive.namelist()}

    def rewritten(**changes: bytes) -> bytes:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            for name, value in {**content, **{f"archive/{key}": part for key, part in changes.items()}}.items():
                archive.writestr(name, value)
        return buffer.getvalue()

    cases = {
        "short": whole[: len(whole) // 2],
        "empty": b"",
        "text": b"<html>" * 100,
        "tar": b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.",  # PyTorch before 1.6
        "pickle": rewritten(**{"data.pkl": content["archive/data.pkl"][:-40]}),
        "numbers": rewritten(**{"data/3": b"\0" * 8}),
    }
    for name, data in cases.items():
        (tmp_path / f"{name}.pth").write_bytes(data)
        with pytest.raises(ModelError) as caught:
            reference.read_parameters(tmp_path / f"{name}.pth")
        assert caught.value.fix, name


def exported(known: dict[str, Array], path: Path, *, computed: bool) -> None:
    """Write a graph as torch.onnx exports one with frozen batch normalisation.

    Args:
        computed: Whether the constants are left as operations on the parameters, as without constant folding.
    """
    nodes, weights = [], {}
    for conv in SHAPE.convs():
        kernel = f"{conv.name}.weight"
        weights[kernel] = known[kernel]
        norm = norm_names(conv)
        bias = norm if len(norm) == 1 else []
        weights.update({name: known[name] for name in bias})
        at = f"{conv.name}/out"
        nodes.append(helper.make_node("Conv", [f"{conv.name}/in", kernel, *bias], [at]))
        if bias:
            continue
        weight, shift, mean, variance = (known[name].reshape(1, -1, 1, 1) for name in norm)
        if computed:
            weights.update(zip(norm, (weight, shift, mean, variance), strict=True))
            weights["epsilon"] = np.array(1e-5, np.float32)
            part = [f"{conv.name}/{k}" for k in range(5)]
            nodes += [
                helper.make_node("Add", [norm[3], "epsilon"], [part[0]]),
                helper.make_node("Sqrt", [part[0]], [part[1]]),
                helper.make_node("Div", [norm[0], part[1]], [part[2]]),
                helper.make_node("Mul", [norm[2], part[2]], [part[3]]),
                helper.make_node("Sub", [norm[1], part[3]], [part[4]]),
            ]
            scale, offset = part[2], part[4]
        else:
            scale, offset = f"onnx::Mul_{len(nodes)}", f"onnx::Add_{len(nodes)}"
            weights[scale] = weight / np.sqrt(variance + np.float32(1e-5))
            weights[offset] = shift - mean * weights[scale]
        nodes.append(helper.make_node("Mul", [at, scale], [f"{at}1"]))
        nodes.append(helper.make_node("Add", [f"{at}1", offset], [f"{at}2"]))
        nodes.append(helper.make_node("Relu", [f"{at}2"], [f"{at}3"]))
    # The heads' convolutions are there once for each level; their second use is not another layer.
    name = SHAPE.classification.last.name
    nodes.append(helper.make_node("Conv", [f"{name}/in", f"{name}.weight", f"{name}.bias"], [f"{name}/again"]))
    inputs = [helper.make_tensor_value_info(f"{conv.name}/in", TensorProto.FLOAT, None) for conv in SHAPE.convs()]
    outputs = [helper.make_tensor_value_info(f"{name}/out", TensorProto.FLOAT, None)]
    tensors = [numpy_helper.from_array(value, key) for key, value in weights.items()]
    graph = helper.make_graph(nodes, "exported", inputs, outputs, tensors)
    onnx.save_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), str(path))


@pytest.mark.parametrize("computed", [False, True])
def test_the_exported_network_is_read_with_its_normalisation(tmp_path: Path, computed: bool) -> None:
    known = state()
    exported(known, tmp_path / "mine.onnx", computed=computed)
    check(reference.read_parameters(tmp_path / "mine.onnx"), known)


def test_the_reference_becomes_the_benchmarks_own_network(torch: Torch, tmp_path: Path) -> None:
    exported(state(), tmp_path / "mine.onnx", computed=False)
    torch.save(OrderedDict(state()), tmp_path / "mine.pth")
    store = Store(tmp_path / "store")
    models = [BENCHMARK.model(settings(tmp_path / f"mine.{kind}"), store) for kind in ("onnx", "pth")]
    for model in models:
        assert not model.synthetic
        assert "custom model" in model.notes[0]
        graph = onnx.load(str(model.path)).graph
        assert graph.node[-1].op_type == "DetectObjects"
        kernel = next(tensor for tensor in graph.initializer if tensor.name == "backbone.fpn.layer_blocks.1/kernel")
        np.testing.assert_array_equal(numpy_helper.to_array(kernel), state()["backbone.fpn.layer_blocks.1.weight"])


def test_published_files_are_told_by_their_checksum(
    torch: Torch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import hashlib

    path = tmp_path / "resnext50_32x4d_fpn.pth"
    torch.save(OrderedDict(state()), path)
    with pytest.raises(ChecksumError, match="a55f6bec3464f605ce8d686da8ac1533"):
        BENCHMARK.model(settings(path), Store(tmp_path / "store"))
    md5 = hashlib.md5(path.read_bytes()).hexdigest()
    monkeypatch.setattr(reference, "REFERENCES", (Published(path.name, "https://example.org/x", md5),))
    model = BENCHMARK.model(settings(path), Store(tmp_path / "store"))
    assert model.description == "MLPerf reference resnext50_32x4d_fpn.pth (https://example.org/x)"
    assert model.notes == ()


def test_onnx_files_of_other_networks_are_errors(tmp_path: Path) -> None:
    node = helper.make_node("Relu", ["x"], ["y"])
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    onnx.save_model(
        helper.make_model(helper.make_graph([node], "other", value[:1], value[1:])), str(tmp_path / "o.onnx")
    )
    with pytest.raises(ModelError, match=r"lacks \d+ of the parameters of RetinaNet: backbone.body.conv1"):
        reference.read_parameters(tmp_path / "o.onnx")
    with pytest.raises(ModelError, match="no model file"):
        BENCHMARK.model(settings(tmp_path / "gone.onnx"), Store(tmp_path / "store"))
