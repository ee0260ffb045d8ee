from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from nvkit.errors import ModelError
from nvkit.quantize.graph import keep_output, load_model, non_negative, prepare, quantizable

from .nets import images, outputs, residual_net

EXPECTED = ["input:0", "normed_relu", "pooled", "first_relu", "second", "shortcut", "sum_relu", "gap"]


@pytest.mark.parametrize(("opset", "as_inputs"), [(13, False), (17, False), (8, True), (11, True)])
def test_every_opset_gives_the_same_tensors(tmp_path: Path, opset: int, as_inputs: bool) -> None:
    path = residual_net(tmp_path / "net.onnx", opset=opset, weights_as_inputs=as_inputs)
    model = prepare(path)
    names = quantizable(model)
    assert sorted(names) == sorted(EXPECTED)
    assert names[:3] == EXPECTED[:3]
    assert names[-2:] == EXPECTED[-2:]
    assert "BatchNormalization" not in {node.op_type for node in model.graph.node}
    assert model.opset_import[0].version >= 13


def test_logits_and_what_follows_stay_float(tmp_path: Path) -> None:
    names = quantizable(prepare(residual_net(tmp_path / "net.onnx")))
    assert not {"fc", "logits", "ArgMax:0"} & set(names)


def test_what_follows_a_relu_is_not_negative(tmp_path: Path) -> None:
    found = non_negative(prepare(residual_net(tmp_path / "net.onnx")))
    assert {"normed_relu", "pooled", "first_relu", "sum_relu", "gap"} <= found
    assert not {"input:0", "second", "sum", "logits"} & found


def test_weights_listed_as_inputs_become_constants(tmp_path: Path) -> None:
    model = load_model(residual_net(tmp_path / "net.onnx", opset=11, weights_as_inputs=True))
    assert [value.name for value in model.graph.input] == ["input:0"]


def test_only_what_an_output_needs_is_kept(tmp_path: Path) -> None:
    path = residual_net(tmp_path / "net.onnx")
    model = load_model(path)
    keep_output(model, "logits", path)
    assert "ArgMax" not in {node.op_type for node in model.graph.node}
    kept = tmp_path / "kept.onnx"
    onnx.save(model, str(kept))
    samples = images(2)
    assert (outputs(kept, samples) == outputs(path, samples)).all()
    with pytest.raises(ModelError, match=r"no output 'logit'.*Did you mean 'logits'"):
        keep_output(model, "logit", path)


@pytest.mark.parametrize("content", [b"", b"not an onnx file", None])
def test_damaged_files_are_named_with_their_size(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "net.onnx"
    if content is None:
        residual_net(path)
        content = path.read_bytes()[:4000]
    path.write_bytes(content)
    with pytest.raises(ModelError, match=rf"net.onnx \({len(content):,} bytes\)"):
        prepare(path)
    with pytest.raises(ModelError, match="does not exist"):
        load_model(tmp_path / "absent.onnx")
